"""What happens in a migration, told under its id: in a file of its directory, and in systemd's journal."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

JOURNAL = Path("/run/systemd/journal/socket")
PRIORITIES = {"error": 3, "warning": 4, "info": 6}  # as syslog has them
MOST_EARLY = 100  # lines that are kept until there is a file


class Events:
    """Of one migration, on this host. Nothing that goes wrong here ends anything."""

    def __init__(self, migration: str, **fields: str) -> None:
        """`migration`: its id, "" if it has none: then nothing is told. `fields`: of each entry of the journal."""
        self.migration = migration
        self._fields = {"CRIU_LAZY_MIGRATION": migration, **fields}
        self._file: Path | None = None
        self._early: list[str] = []

    def keep_in(self, path: Path) -> None:
        """From now on there too, with what was told before."""
        self._file = path
        self._write("".join(self._early))
        self._early = []

    def tell(self, text: str, level: str = "info") -> None:
        """One line. `level`: info, warning or error."""
        if not self.migration:
            return
        text = " ".join(text.split())
        at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = f"{at} [{self.migration}] {'' if level == 'info' else f'{level}: '}{text}\n"
        if self._file is not None:
            self._write(line)
        elif len(self._early) < MOST_EARLY:
            self._early.append(line)
        send_to_journal(text, {"PRIORITY": str(PRIORITIES[level]), **self._fields})

    def _write(self, lines: str) -> None:
        with contextlib.suppress(OSError):  # a full disk, or it is over and its directory gone
            if self._file is not None:
                fd = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
                try:
                    os.write(fd, lines.encode(errors="replace"))
                finally:
                    os.close(fd)


def send_to_journal(text: str, fields: Mapping[str, str]) -> None:
    """One entry, by journald's own protocol; no value has a line's end. One that takes nothing now gets nothing."""
    entry = {"MESSAGE": text, "SYSLOG_IDENTIFIER": "criu-lazy", **fields}
    lines = "".join(f"{name}={value}\n" for name, value in entry.items())
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
        to.sendto(lines.encode(errors="replace"), socket.MSG_DONTWAIT, str(JOURNAL))


def is_journal(stream: TextIO) -> bool:
    """Whether what is written there goes to the journal anyway, as a service's output does."""
    with contextlib.suppress(OSError, ValueError):
        seen = os.fstat(stream.fileno())
        return os.environ.get("JOURNAL_STREAM") == f"{seen.st_dev}:{seen.st_ino}" and JOURNAL.exists()
    return False
