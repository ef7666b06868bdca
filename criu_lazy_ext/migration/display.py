"""How progress is shown on stderr: lines, JSON lines, or on a terminal a panel below the lines (terminal_panel.py).

Whoever reads may have gone: that ends no migration.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TextIO

from criu_lazy_ext.migration.state import State
from criu_lazy_ext.system.events import is_journal

if TYPE_CHECKING:
    from criu_lazy_ext.migration.figures import Figures

PLAIN_INTERVAL_S = 2.0


def stamped(level: str, message: str) -> dict[str, Any]:
    """What each object of --log-format json begins with."""
    at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {"time": at, "level": level, "message": message}


def write_line(stream: TextIO, line: str) -> None:
    """Whoever reads may have gone."""
    with contextlib.suppress(OSError, ValueError):
        stream.write(line + "\n")
        stream.flush()


def is_terminal(stream: TextIO) -> bool:
    """One that more than lines can be shown on."""
    return stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"


class Display:
    """What each of them can be told."""

    def line(self, figures: Figures, text: str, level: str, *, asked: bool = False) -> None:
        """Something has happened, or somebody has `asked`. `level`: info, warning or error."""

    def stats(self, figures: Figures) -> None:
        """The daemon's counters have changed, as they do several times a second."""

    def refresh(self, figures: Figures) -> None:
        """Time has passed."""

    def end(self) -> None:
        """Nothing more comes."""


class Lines(Display):
    """One line after the other; of the counters, one in a while."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self._shown = time.monotonic()

    def line(self, figures: Figures, text: str, level: str, *, asked: bool = False) -> None:
        self.write(self.format(figures, f"warning: {text}" if level == "warning" else text, level))

    def stats(self, figures: Figures) -> None:
        if not figures.total_bytes or time.monotonic() - self._shown < PLAIN_INTERVAL_S:
            return
        self._shown = time.monotonic()
        text = f"{figures.memory_as_text()}, {figures.rate / 1e6:.0f} MB/s, {figures.fault_rate:.0f} faults/s"
        self.write(self.format(figures, text, "info"))

    def refresh(self, figures: Figures) -> None:
        if figures.state is not State.PRE_COPY or not figures.round_read or figures.ending:
            return
        if time.monotonic() - self._shown >= PLAIN_INTERVAL_S:
            self._shown = time.monotonic()
            self.write(self.format(figures, f"pre-copy, {figures.round_as_text()}", "info"))

    def format(self, figures: Figures, text: str, level: str) -> str:
        """As it is printed."""
        return f"[{figures.elapsed_s:7.3f}] {text}"

    def write(self, line: str) -> None:
        write_line(self.stream, line)


class JsonLines(Lines):
    """For programs: an object a line."""

    def line(self, figures: Figures, text: str, level: str, *, asked: bool = False) -> None:
        self.write(self.format(figures, text, level))

    def format(self, figures: Figures, text: str, level: str) -> str:
        told = {"migration": figures.migration, "phase": figures.state.value, "figures": figures.as_json()}
        return json.dumps(stamped(level, text) | told)


class Quiet(Lines):
    """Only what is asked for."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)

    def line(self, figures: Figures, text: str, level: str, *, asked: bool = False) -> None:
        if asked:
            super().line(figures, text, level)

    def stats(self, figures: Figures) -> None:
        pass

    def refresh(self, figures: Figures) -> None:
        pass


def choose(log_format: str, title: str, *, quiet: bool) -> Display:
    """What fits stderr. `title`: the migration's, for a terminal."""
    if quiet:
        return Quiet()
    if log_format == "json":
        return JsonLines(sys.stderr)
    if is_journal(sys.stderr):  # where each line goes anyway (Progress)
        return Quiet()
    if is_terminal(sys.stderr):
        with contextlib.suppress(ImportError):  # without rich: lines
            from criu_lazy_ext.migration.terminal_panel import Panel

            return Panel(sys.stderr, title)
    return Lines(sys.stderr)
