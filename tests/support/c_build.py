"""Builds of the C test programs (tests/c): for this machine, or for aarch64, emulated (`make aarch64`)."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import aarch64
import pytest
from paths import C_PROGRAMS, C_SRC, CHECKOUT

FLAGS = ["-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Wshadow", "-Werror", "-g1", "-O1", "-pthread"]
FLAGS += ["-DCL_WITH_TLS", "-DCL_WITH_LZ4", "-DCL_WITH_ZSTD", "-DCL_WITH_XXHASH"]
FLAGS += ["-DCL_CHUNK_BITS=2048U"]  # small, that the programs' small tasks have many (base/shared_bits.h)
LIBRARIES = ["-lssl", "-lcrypto", "-llz4", "-lzstd", "-lm"]
SANITIZERS = {"plain": [], "asan-ubsan": ["-fsanitize=address,undefined"], "tsan": ["-fsanitize=thread"]}
# Only this sanitizer works in an emulated process. It is linked in, as the libraries are another Debian's.
EMULATED = {"plain": [], "asan-ubsan": ["-fsanitize=undefined", "-fno-sanitize-recover", "-static-libubsan"]}


def compiler() -> list[str]:
    """The command that compiles and links."""
    return aarch64.compiler() if aarch64.is_wanted() else ["gcc"]


def flags_of(sanitizer: str) -> list[str]:
    """The compiler's, for one of SANITIZERS."""
    if not aarch64.is_wanted():
        return SANITIZERS[sanitizer]
    if sanitizer not in EMULATED:
        pytest.skip("ThreadSanitizer doesn't work in an emulated process")
    return EMULATED[sanitizer]


def runnable(program: Path) -> Path:
    """What runs it here."""
    return aarch64.wrap(program) if aarch64.is_wanted() else program


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory):
    """build(name, sanitizer) -> the program tests/c/NAME.c, linked with all of c_src; built once."""
    directory = tmp_path_factory.mktemp("c")
    engine_objects: dict[str, list[str]] = {}

    def compile_all(sanitizer: str) -> list[str]:
        where = directory / sanitizer
        where.mkdir()
        sources = sorted(map(str, C_SRC.glob("*/*.c")))
        command = [*compiler(), *FLAGS, *flags_of(sanitizer), f"-I{C_SRC}", "-c", *sources]
        subprocess.run(command, cwd=where, check=True)
        return sorted(map(str, where.glob("*.o")))

    def build_one(name: str, sanitizer: str) -> Path:
        flags = [*FLAGS, *flags_of(sanitizer), f"-I{C_SRC}", f"-I{C_PROGRAMS}"]
        if sanitizer not in engine_objects:
            engine_objects[sanitizer] = compile_all(sanitizer)
        program = directory / f"{name}-{sanitizer}"
        if not program.exists():
            directories = (C_PROGRAMS, CHECKOUT / "bench")
            source = next(path for where in directories if (path := where / f"{name}.c").exists())
            flags += [f"-Wl,--wrap={wrapped}" for wrapped in set(re.findall(r"__wrap_(\w+)", source.read_text()))]
            command = [*compiler(), *flags, "-o", str(program), str(source), *engine_objects[sanitizer], *LIBRARIES]
            subprocess.run(command, check=True)
        return runnable(program)

    return build_one
