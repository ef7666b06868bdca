"""The C programs for aarch64, under qemu-user: Debian's cross compiler, and an arm64 Debian's libraries in a directory
of their own, cached as the testbed's roots are. Nothing of it is installed as arm64 on this machine."""

from __future__ import annotations

import hashlib
import os
import shlex
from pathlib import Path

from testbed import prepare
from testbed.recipe import SUITE, debian_codename, machine_recipe

VARIABLE = "CRIU_LAZY_AARCH64"
COMPILER, EMULATOR = "aarch64-linux-gnu-gcc", "qemu-aarch64"
LIBRARIES = ("libc6-dev", "liblz4-dev", "libssl-dev", "libxxhash-dev", "libzstd-dev")


def is_wanted() -> bool:
    """Whether the programs are to be for aarch64."""
    return os.environ.get(VARIABLE) == "1"


def root() -> Path:
    """The directory with the libraries. Raises TestbedError."""
    # The compiler's own C library comes first, and these are linked with it: they must be of the same Debian.
    mirror, suite = machine_recipe().mirror, debian_codename() or SUITE
    digest = hashlib.sha256(repr((mirror, suite, LIBRARIES)).encode()).hexdigest()[:12]
    layer = prepare.CACHE / "debian-roots" / f"{suite}-arm64-{digest}"
    with prepare.locked(prepare.CACHE / "lock-arm64"):
        layer.parent.mkdir(exist_ok=True)
        prepare.make(layer, lambda to: _extract(to, suite, mirror))
    return layer


def _extract(to: Path, suite: str, mirror: str) -> None:
    """No program of it is run, nor could be."""
    prepare.ensure_tool("mmdebstrap", ["mmdebstrap", "debian-archive-keyring"])
    options = [f"--aptopt={option}" for option in prepare.apt_options()]
    options += ["--mode=root", "--variant=extract", "--architectures=arm64", f"--include={','.join(LIBRARIES)}"]
    command = ["mmdebstrap", "--quiet", *options, suite, str(to), f"deb {mirror} {suite} main"]
    prepare.run_contained(command, f"can't get arm64 libraries of {suite} from {mirror}")
    if not (to / "lib").exists():  # what else makes it is a script of a package's
        (to / "lib").symlink_to("usr/lib")


def compiler() -> list[str]:
    """The command that compiles and links. Raises TestbedError."""
    prepare.ensure_tool(COMPILER, ["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"])
    return [COMPILER, f"--sysroot={root()}"]


def wrap(program: Path) -> Path:
    """A script which runs this program, so that others need not know what it is for."""
    prepare.ensure_tool(EMULATOR, ["qemu-user"])
    script = program.with_name(f"{program.name}-emulated")
    script.write_text(f'#!/bin/sh\nexec {EMULATOR} -L {shlex.quote(str(root()))} {shlex.quote(str(program))} "$@"\n')
    script.chmod(0o755)
    return script
