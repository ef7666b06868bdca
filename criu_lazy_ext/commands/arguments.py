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


def open_log(path: Path | None, *, append: bool = False) -> int:
    """A descriptor of the file that -o names, or of standard error; raises UsageError. `append`: to what is there."""
    if path is None:
        return 2
    try:
        how = os.O_APPEND if append else os.O_APPEND | os.O_TRUNC
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | how, 0o600)
    except OSError as error:
        raise UsageError(f"log file {path}: {error.strerror}") from error


def read_key(path: Path) -> str:
    """What --tls-psk names; raises UsageError."""
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no hexadecimal digits"
        raise UsageError(f"--tls-psk {path}: {reason}") from error
