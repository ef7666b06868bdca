"""Files that command lines name, logs and keys; and files that are replaced in one step."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TextIO

from criu_lazy_ext.errors import UsageError

KEY_FILE = "page-server.key"
LOGS = ("*.log", "*.out")  # criu's, the daemon's, the page server's, an engine's, the page store's


def open_log(path: Path | None, *, append: bool = False) -> int:
    """A descriptor of the file that -o names, or of standard error; raises UsageError. `append`: to what is there."""
    if path is None:
        return 2
    try:
        how = os.O_APPEND if append else os.O_APPEND | os.O_TRUNC
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | how, 0o600)
    except OSError as error:
        raise UsageError(f"log file {path}: {error.strerror}") from error


def logs_in(directory: Path) -> list[Path]:
    """The logs that say something, by name. Raises OSError if one vanishes meanwhile."""
    return sorted(path for kind in LOGS for path in directory.glob(kind) if path.stat().st_size)


def read_key(path: Path) -> str:
    """What --tls-psk names; raises UsageError."""
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no hexadecimal digits"
        raise UsageError(f"--tls-psk {path}: {reason}") from error


def write_key(directory: Path, key: str) -> Path:
    """A file in `directory` with a secret that only its owner reads. Raises OSError."""
    path = directory / KEY_FILE
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as file:
        file.write(key + "\n")
    return path


def replace_file(path: Path, text: str, *, durable: bool = False) -> None:
    """Who reads it finds the old text or the new one; `durable`: also after this host's crash. Raises OSError; the old
    one is there then."""
    temporary = path.with_name(path.name + ".new")
    try:
        with temporary.open("w") as file:
            file.write(text)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        temporary.rename(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    if durable:
        sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make the entries of a directory outlive a crash of this host. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def drop_output(stream: TextIO) -> None:
    """It could not be written: what is left of it is not tried again, nor what comes."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
