"""`criu-lazy drop-in`: a program `criu` that hands `lazy-pages` over to criu-lazy, for others' tools.

It stands before criu in PATH, as in /usr/local/sbin: no package's file is touched, and removing it is all there is to
undo. It needs no environment.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import sys
from pathlib import Path

from criu_lazy_ext.errors import UsageError

DIRECTORY = Path("/usr/local/sbin")
MARK = "# Made by criu-lazy drop-in; `criu-lazy drop-in remove` removes it."
SCRIPT = """#!/bin/sh
{mark}
# lazy-pages is criu-lazy's, all else is criu's. The action is the first word, unless options stand before it.
case $1 in
lazy-pages) exec {ours} "$@" ;;
-*) for word; do [ "$word" != lazy-pages ] || exec {ours} "$@"; done ;;
esac
exec {criu} "$@"
"""


def find_criu(but: Path) -> str | None:
    """The criu that is found without what is in the directory `but`."""
    path = os.pathsep.join(part for part in os.environ.get("PATH", os.defpath).split(os.pathsep) if Path(part) != but)
    return shutil.which("criu", path=path)


def is_ours(program: Path) -> bool:
    return MARK in program.read_text(errors="replace")


def install(directory: Path) -> str:
    """What was done. Raises UsageError."""
    program = directory / "criu"
    if program.exists() and not is_ours(program):
        raise UsageError(f"{program} is not criu-lazy's: name another directory (--directory)")
    criu = find_criu(directory)
    if criu is None:
        raise UsageError("no criu is in PATH: install it first")
    ours = shlex.join([sys.executable, "-P", "-m", "criu_lazy_ext.cli"])
    new = program.with_name(".criu.new")
    try:
        new.write_text(SCRIPT.format(mark=MARK, ours=ours, criu=shlex.quote(criu)))
        new.chmod(0o755)
        new.rename(program)
    except OSError as error:
        way_out = "run it as root, or name another directory (--directory)"
        raise UsageError(f"{program}: {error.strerror}: {way_out}") from error
    said = f"{program}: lazy-pages is criu-lazy's now, all else {criu}'s"
    first = shutil.which("criu")
    return said if first == str(program) else f"{said}; but PATH leads to {first} first"


def remove(directory: Path) -> str:
    """What was done. Raises UsageError."""
    program = directory / "criu"
    if not program.exists():
        return f"{program}: there is none"
    if not is_ours(program):
        raise UsageError(f"{program} is not criu-lazy's")
    program.unlink()
    return f"{program}: removed; criu is {shutil.which('criu') or 'not in PATH'}"


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="criu-lazy drop-in", description="Have others' tools get criu-lazy where they run criu lazy-pages."
    )
    parser.add_argument("do", choices=("install", "remove"))
    where = f"where the program criu is put; it must come first in those tools' PATH (default: {DIRECTORY})"
    parser.add_argument("--directory", type=Path, default=DIRECTORY, help=where)
    return parser


def main(argv: list[str]) -> int:
    """Exit status: 0, or 2 if it can't be done."""
    options = arguments().parse_args(argv)
    print((install if options.do == "install" else remove)(options.directory))
    return 0
