"""Live progress of a migration on stderr: one line that is rewritten on a terminal, plain lines elsewhere; and in a
file, for `criu-lazy status`."""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path
from typing import Any, TextIO

from criu_lazy_ext.sizes import PAGE_BYTES
from criu_lazy_ext.system.live_state import LiveState

PLAIN_INTERVAL_S = 2.0


class Progress:
    """`phase` tells what is going on; `stats` shows the daemon's counters, at most as often as is readable."""

    def __init__(self, stream: TextIO | None = None, quiet: bool = False) -> None:
        self.stream = stream or sys.stderr
        self.quiet = quiet
        self.start = time.monotonic()
        self.live = self.stream.isatty()
        self._open_line = False
        self._last: tuple[float, int, int] | None = None
        self._shown = 0.0
        self._file: LiveState | None = None

    def keep_in(self, directory: Path) -> None:
        """From now on, in this directory too."""
        self._file = LiveState(directory)

    def phase(self, text: str) -> None:
        """A step begins."""
        self._write(f"[{time.monotonic() - self.start:7.3f}] {text}", final=True)
        if self._file is not None:
            self._file.note(phase=text)

    def stats(self, stats: dict[str, Any]) -> None:
        """The daemon's counters (struct cl_stats, as lazy-pages --stats-fd gives them)."""
        if self._file is not None:
            self._file.note_stats(stats)
        now = time.monotonic()
        total, remaining = int(stats["total_pages"]), int(stats["remaining_pages"])
        faults = int(stats["demand_faults"]) + int(stats["merged_faults"])
        received = int(stats["received_bytes"])
        if self._last is None:
            self._last = (now, received, faults)
        interval = now - self._last[0]
        if not total or interval <= 0 or now - self._shown < (0.2 if self.live else PLAIN_INTERVAL_S):
            return
        rate, fault_rate = (received - self._last[1]) / interval, (faults - self._last[2]) / interval
        self._last, self._shown = (now, received, faults), now
        done = max(total - remaining, 0)
        self._write(
            f"[{now - self.start:7.3f}] {done * PAGE_BYTES / 1e6:.0f}/{total * PAGE_BYTES / 1e6:.0f} MB "
            f"({100 * done / total:.0f} %), {rate / 1e6:.0f} MB/s, {fault_rate:.0f} faults/s",
            final=False,
        )

    def _write(self, line: str, final: bool) -> None:
        if self.quiet:
            return
        # Whoever read it may have gone; that ends no migration.
        with contextlib.suppress(OSError, ValueError):
            if self.live:
                self.stream.write(("\r\033[K" if self._open_line else "") + line + ("\n" if final else ""))
                self._open_line = not final
            else:
                self.stream.write(line + "\n")
            self.stream.flush()

    def end(self) -> None:
        """Nothing more comes: leave the cursor on a line of its own."""
        if self._open_line:
            with contextlib.suppress(OSError, ValueError):
                self.stream.write("\n")
            self._open_line = False
