"""What is mounted, in this mount namespace."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

_ESCAPED = re.compile(r"\\([0-7]{3})")


def mounted_below(top: Path) -> list[Path]:
    """Where something is mounted at `top` or below it, the innermost first."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
        point = Path(_ESCAPED.sub(lambda octal: chr(int(octal[1], 8)), line.split()[4]))
        if point.is_relative_to(top):
            found.append(point)
    return found[::-1]


def unmount_below(top: Path) -> None:
    """Unmount all that, as far as it can be, whoever uses it."""
    for point in mounted_below(top):
        subprocess.run(["umount", "--lazy", str(point)], check=False, capture_output=True)
