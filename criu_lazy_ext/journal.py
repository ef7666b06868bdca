"""The journal of one migration: a JSON file at the source that says how far it came, whatever dies.

It is replaced in one step (write, fsync, rename) at every change, so a reader sees the old or the new one.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from criu_lazy_ext.errors import CriuLazyError


class JournalError(CriuLazyError):
    """The journal can't be read."""


class Journal:
    """`directory`/journal.json."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "journal.json"
        self._facts: dict[str, Any] = {}

    def record(self, *, durable: bool = True, **facts: Any) -> None:
        """Add or change facts; if they need not be `durable`, a crash of this host may lose them. Raises OSError."""
        self._facts |= facts | {"at": time.time()}
        temporary = self.path.with_suffix(".new")
        with temporary.open("w") as file:
            json.dump(self._facts, file, indent=1)
            file.write("\n")
            file.flush()
            if durable:
                os.fsync(file.fileno())
        temporary.rename(self.path)


def read(directory: Path) -> dict[str, Any]:
    """The facts of the journal in `directory`. Raises JournalError."""
    path = directory / "journal.json"
    try:
        facts: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise JournalError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    return facts
