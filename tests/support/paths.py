"""Where things are in this checkout."""

from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
C_SRC = CHECKOUT / "c_src"
CONFIGS = CHECKOUT / "configs"
C_PROGRAMS = CHECKOUT / "tests/c"
IMAGES = CHECKOUT / "tests/images"
MODEL = CHECKOUT / "tests/model/migration.pml"
SUPPORT = CHECKOUT / "tests/support"
