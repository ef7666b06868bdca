"""Live progress of a migration: on stderr, in a file for `criu-lazy status`, and for the run file."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from criu_lazy_ext.migration.display import Display, Quiet
from criu_lazy_ext.migration.figures import Figures
from criu_lazy_ext.migration.run_file import Recorder
from criu_lazy_ext.migration.state import State
from criu_lazy_ext.system.events import Events
from criu_lazy_ext.system.live_state import LiveState

REFRESH_S = 0.25
RUN_KEPT_EVERY_S = 2.0
RUN_KEPT_FROZEN_S = 0.3  # so long after it was due, while the task is frozen


class Progress:
    """Told by the driver what happens: `display` and the files show it."""

    def __init__(self, display: Display | None = None) -> None:
        """`display` None: nothing is shown. `write_run`: writes the run file of what was seen until now; OSError."""
        self.figures = Figures()
        self.display = display or Quiet()
        self.recorder = Recorder()
        self._file: LiveState | None = None
        self.write_run: Callable[[], None] | None = None
        self._run_kept = 0.0
        self._run_later: asyncio.TimerHandle | None = None
        self._events = Events("")

    def begin(self, migration: str, name: str) -> None:
        """What comes is of this migration: its id, its profile's name."""
        self.figures.migration = migration
        self._events = Events(migration, CRIU_LAZY_NAME=name, CRIU_LAZY_ROLE="source")

    def keep_in(self, directory: Path) -> None:
        """From now on, in this directory too."""
        self._file = LiveState(directory)
        self._events.keep_in(directory / "migrate.log")

    def enter(self, state: State) -> None:
        """The migration comes to `state`."""
        self.figures.state = state

    def keep_run(self, least_age_s: float = 0.0) -> None:
        """In its file, if what that has is so old: should this process be killed, it tells what was seen.

        That takes a millisecond, so not of a short freeze.
        """
        if time.monotonic() - self._run_kept < least_age_s or self._run_later is not None:
            return
        if self.figures.frozen_at is None or self.figures.downtime_s is not None:
            self._write_run()
        else:
            self._run_later = asyncio.get_running_loop().call_later(RUN_KEPT_FROZEN_S, self._write_run)

    def _write_run(self) -> None:
        self._run_later, self._run_kept = None, time.monotonic()
        if self.write_run is not None:
            with contextlib.suppress(OSError):  # the last time, it is told
                self.write_run()

    def phase(self, text: str, level: str = "info") -> None:
        """A step begins, or (`level` warning) something is to be known."""
        self.recorder.line(self.figures.elapsed_s, level, text)
        self.display.line(self.figures, text, level)
        self._events.tell(text, level)
        if self._file is not None:
            self._file.note(phase=text)
        self.keep_run(RUN_KEPT_EVERY_S if level == "info" else 0.0)

    def frozen(self, since: float) -> None:
        """The task is, since then (time.monotonic()); once more when that is known better."""
        self.figures.frozen_at = since

    def round(self, read: float, sent_bytes: int) -> None:
        """The one of pre-copy that is under way has read such a share of memory, and sent so much."""
        self.figures.take_round(read, sent_bytes)
        if self._file is not None:
            self._note_precopy(phase=f"pre-copy, {self.figures.round_as_text()}")

    def round_over(self, sent_bytes: int, seconds: float) -> None:
        """One of pre-copy."""
        self.figures.round_over(sent_bytes, seconds)
        ended = {"ended_s": round(self.figures.elapsed_s, 3), "seconds": seconds, "sent_bytes": sent_bytes}
        self.recorder.rounds.append(ended)
        if self._file is not None:
            self._note_precopy()
        self.keep_run(RUN_KEPT_EVERY_S)

    def _note_precopy(self, **facts: str) -> None:
        assert self._file is not None
        sent, rate = self.figures.precopied_bytes, round(self.figures.rate)
        self._file.note(
            **facts, round_read=self.figures.round_read, precopied_bytes=sent, rate=rate, counted_at=time.time()
        )

    def resumed(self, downtime_s: float) -> None:
        """The restored task runs."""
        self.figures.downtime_s = downtime_s

    def stats(self, stats: dict[str, Any]) -> None:
        """The daemon's counters (struct cl_stats, as lazy-pages --stats-fd gives them)."""
        self.figures.take_stats(stats)
        self.recorder.sample(self.figures.elapsed_s, stats)
        self.keep_run(RUN_KEPT_EVERY_S)
        if self.figures.downtime_s is None:
            return
        if self._file is not None:
            self._file.note_stats(stats)
        self.display.stats(self.figures)

    def sent(self, sent_bytes: int) -> None:
        """By the page server, all in all; nothing comes of the daemon any more."""
        self.figures.take_sent(sent_bytes)
        self.recorder.sent(self.figures.elapsed_s, sent_bytes)
        if self._file is not None:
            rate = f"{self.figures.rate / 1e6:.0f} MB/s"
            self._file.note(phase=f"{sent_bytes / 1e6:.0f} MB sent, {rate}, as the page server says")
        self.display.stats(self.figures)

    def tell(self) -> None:
        """Somebody asks, by a signal."""
        self.display.line(self.figures, self.figures.as_text(), "info", asked=True)

    def refresh(self) -> None:
        """Time has passed: what is shown moves while nothing comes, and what is on file tells of that, too."""
        self.display.refresh(self.figures)
        self.keep_run(RUN_KEPT_EVERY_S)

    async def keep_fresh(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(REFRESH_S)
            self.refresh()

    def over(self, outcome: str, message: str) -> None:
        """The migration is; its report is shown elsewhere."""
        text = f"{outcome}: {message}" if message else outcome
        self._events.tell(text, "info" if outcome == "committed" else "error")

    def end(self) -> None:
        """Nothing more comes: the terminal is as it was."""
        self.display.end()
