"""Arguments that several subcommands take."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from criu_lazy_ext.errors import UsageError


def verbosity(text: str) -> int:
    """-v is 3, -vv (and -vvv...) 4; -vN is N."""
    if text.isdigit():
        return int(text)
    if set(text) - {"v"}:
        raise argparse.ArgumentTypeError(f"expected -v, -vv or -vN, not -v{text}")
    return min(4, 3 + len(text))


def add_directories(parser: argparse.ArgumentParser) -> None:
    """Where the migrations that a host has on record are looked for: see directories_of."""
    parser.add_argument("--directory", type=Path, action="append",
        help="directories.source or .destination of profiles (default /var/lib/criu-lazy); repeatable")  # fmt: skip


def directories_of(options: argparse.Namespace) -> list[Path]:
    """Those that were named, or the profiles' default. Raises UsageError for one that can't be read."""
    from criu_lazy_ext.profile import Directories  # YAML: most commands don't need it, and some are in a hurry

    default = sorted({Directories().source, Directories().destination})
    for directory in options.directory or filter(os.path.exists, default):
        try:
            next(Path(directory).iterdir(), None)
        except OSError as error:
            root = ": run it as root" if isinstance(error, PermissionError) else ""
            raise UsageError(f"{directory}: {error.strerror}{root}") from error
    return options.directory or default
