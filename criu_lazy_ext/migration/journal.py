"""The journal of one migration: a JSON file at the source that says how far it came, whatever dies.

It is replaced in one step (write, fsync, rename, fsync of the directory) at every change, so a reader sees the old or
the new one, also after this host's crash. Room for later changes can be set aside: a disk that gets full doesn't stop
them.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import time
from pathlib import Path
from typing import Any

from criu_lazy_ext.errors import CriuLazyError
from criu_lazy_ext.system.files import replace_file

ROOM_BYTES = 64 << 10
FULL = (errno.ENOSPC, errno.EDQUOT)


class JournalError(CriuLazyError):
    """The journal can't be read, or written."""


class Journal:
    """`directory`/journal.json. `facts`: what it says already."""

    def __init__(self, directory: Path, facts: dict[str, Any] | None = None) -> None:
        self.path = directory / "journal.json"
        self._room = directory / "journal.room"
        self._facts: dict[str, Any] = dict(facts or {})

    def record(self, *, durable: bool = True, **facts: Any) -> None:
        """Add or change facts. If they need not be `durable`, this host's crash may lose them. Raises JournalError."""
        self._facts |= facts | {"at": time.time()}
        text = json.dumps(self._facts, indent=1) + "\n"
        try:
            try:
                replace_file(self.path, text, durable=durable)
            except OSError as error:
                if error.errno not in FULL or not self._room.exists():
                    raise
                self._room.unlink()
                replace_file(self.path, text, durable=durable)
                with contextlib.suppress(JournalError):
                    self.reserve()
        except OSError as error:
            raise JournalError(f"{self.path}: {error.strerror}") from error

    def reserve(self) -> None:
        """Set room aside for later changes. Raises JournalError."""
        try:
            fd = os.open(self._room, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                least = 2 * self.path.stat().st_size
                size = max(ROOM_BYTES, least)
                while not _allocate(fd, size):  # somebody else has taken some of what was free for a moment
                    if size == least:
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                    size = max(size // 2, least)
            finally:
                os.close(fd)
        except OSError as error:
            self._room.unlink(missing_ok=True)
            raise JournalError(f"{self._room}: {error.strerror}") from error


def _allocate(fd: int, size: int) -> bool:
    """False if the disk is full. Raises OSError."""
    try:
        os.posix_fallocate(fd, 0, size)
    except OSError as error:
        if error.errno in FULL:
            return False
        raise
    return True


def exists(directory: Path) -> bool:
    """Whether there is a journal in `directory`."""
    return (directory / "journal.json").exists()


def read(directory: Path) -> dict[str, Any]:
    """The facts of the journal in `directory`. Raises JournalError."""
    path = directory / "journal.json"
    try:
        facts: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise JournalError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    return facts
