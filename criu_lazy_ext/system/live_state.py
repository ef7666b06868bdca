"""What a migration is doing, for `criu-lazy status`: a small file in its directory, which each half keeps up to date.

It proves nothing, and nothing is decided by it: it may be as old as the process that wrote it last.
"""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import Any

from criu_lazy_ext.system.files import replace_file

NAME, OUTCOME = "live.json", "outcome.json"
EVERY_S = 0.5
# Of the daemon's (struct cl_stats).
COUNTERS = (
    *("total_pages", "remaining_pages", "lost_pages", "received_bytes", "demand_faults", "merged_faults"),
    *("waiting_faults", "oldest_wait_us", "paused_us", "reconnects"),
)


class LiveState:
    """`directory`/live.json. A disk that is full keeps an older one."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / NAME
        self._facts: dict[str, Any] = {}
        self._counted = (0.0, 0, 0)  # when counters were noted last, received bytes and remaining pages

    def note(self, **facts: Any) -> None:
        """Add or change facts."""
        self._facts |= facts | {"at": time.time()}
        with contextlib.suppress(OSError):
            replace_file(self._path, json.dumps(self._facts) + "\n")

    def note_stats(self, stats: dict[str, Any]) -> None:
        """The daemon's counters, if the last ones are not of just now."""
        now, received, remaining = time.monotonic(), int(stats["received_bytes"]), int(stats["remaining_pages"])
        then, received_then, remaining_then = self._counted
        if remaining and now - then < EVERY_S:
            return
        rate = (received - received_then) / (now - then) if then else 0.0
        # Pages are packed, or come from the store of pre-copied ones: bytes don't tell how long it will take.
        pages_rate = (remaining_then - remaining) / (now - then) if then else 0.0
        self._counted = (now, received, remaining)
        counters = {name: int(stats.get(name, 0)) for name in COUNTERS}
        self.note(**counters, rate=round(rate), pages_rate=round(pages_rate), counted_at=time.time())


def read(directory: Path) -> dict[str, Any]:
    """What it says; {} if there is none."""
    return _read(directory / NAME) or {}


def outcome(directory: Path) -> dict[str, Any] | None:
    """How the destination's half ended (Made.write_outcome), if it has and its files are there."""
    return _read(directory / OUTCOME)


def _read(path: Path) -> dict[str, Any] | None:
    with contextlib.suppress(OSError, ValueError):
        return dict(json.loads(path.read_text()))
    return None
