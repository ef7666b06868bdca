"""What is known of a migration at a moment: the figures that a terminal, a log and an operator's signal are shown."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

from criu_lazy_ext.migration.state import FINAL, State
from criu_lazy_ext.sizes import PAGE_BYTES

WINDOW_S = 2.0  # rates are of so long
STEADY_S = 0.5  # a rate of less tells nothing of the link
COMPLETE = (State.DRAINED, State.COMMITTING, State.COMMITTED)


class Figures:
    """Bytes are of lazy memory, as it is missing or comes at the destination; rates: per second."""

    def __init__(self) -> None:
        self.start = time.monotonic()
        self.migration = ""  # its id
        self.state = State.PREFLIGHT
        self.sends_files = False  # the container's, while it runs
        self.ending = ""  # what is being done to end it early, in words
        self.limit = 0  # what pages may take of the link, bytes per second; 0: no limit
        self.best_rate = 0.0  # measured
        self.rounds = 0  # of pre-copy that are over
        self.round_read = 0.0  # share of memory that the one under way has read
        self.round_began = self.start
        self.rounds_bytes = 0  # sent in those that are over
        self.round_bytes = 0  # in the one under way
        self.frozen_at: float | None = None
        self.downtime_s: float | None = None  # once the restored task runs
        self.stats: dict[str, Any] = {}  # the daemon's counters
        self.heard_s = 0.0  # when they came
        self.came_s = 0.0  # when a byte had come last, as they or the page server told
        self.is_unheard = False  # no more of them come: the agent, which passes them on, is lost
        self._window: deque[tuple[float, int, int, int]] = deque()  # when, bytes, remaining pages, faults
        self._source = ""  # of what is in the window

    def round_over(self, sent_bytes: int, seconds: float) -> None:
        """One of pre-copy."""
        self.rounds += 1
        self.round_read, self.round_bytes = 0.0, 0
        self.rounds_bytes += sent_bytes
        if seconds >= STEADY_S:
            self.best_rate = max(self.best_rate, sent_bytes / seconds)

    def take_round(self, read: float, sent_bytes: int) -> None:
        """So far of the one under way."""
        self.round_read, self.round_bytes = read, sent_bytes
        self._add("rounds", self.precopied_bytes, 0, 0)

    def take_stats(self, stats: dict[str, Any]) -> None:
        """The daemon's counters of now."""
        self.stats, self.heard_s = stats, self.elapsed_s
        self._add("daemon", int(stats["received_bytes"]), int(stats["remaining_pages"]), self.faults)
        if self._window_s >= STEADY_S:
            self.best_rate = max(self.best_rate, self.rate)

    def take_sent(self, sent_bytes: int) -> None:
        """What the page server has sent, of a daemon that isn't heard of any more: the rate goes by that."""
        self.is_unheard = True
        self._add("page server", sent_bytes, 0, 0)

    def _add(self, source: str, received_bytes: int, remaining_pages: int, faults: int) -> None:
        """To the window, as of now; what is too old goes, or of another source."""
        now = time.monotonic()
        if source != self._source:
            self.came_s = 0.0 if self._source == "rounds" else self.came_s
            self._window.clear()
            self._source = source
        if not self.came_s or (self._window and received_bytes > self._window[-1][1]):
            self.came_s = self.elapsed_s
        self._window.append((now, received_bytes, remaining_pages, faults))
        while now - self._window[0][0] > WINDOW_S:
            self._window.popleft()

    @property
    def _window_s(self) -> float:
        return self._window[-1][0] - self._window[0][0] if self._window else 0.0

    @property
    def precopied_bytes(self) -> int:
        """Sent in rounds."""
        return self.rounds_bytes + self.round_bytes

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self.start

    @property
    def total_bytes(self) -> int:
        return int(self.stats.get("total_pages", 0)) * PAGE_BYTES

    @property
    def missing_bytes(self) -> int:
        if self.state in COMPLETE:  # the agent, which passes counters on, may have been lost before
            return 0
        return missing_pages(self.stats) * PAGE_BYTES

    @property
    def awaited_bytes(self) -> int:
        """Of those that are missing: what a restored task that was killed wanted does not come any more."""
        return max(0, self.missing_bytes - int(self.stats.get("lost_pages", 0)) * PAGE_BYTES)

    @property
    def faults(self) -> int:
        """That waited for their pages."""
        return int(self.stats.get("demand_faults", 0)) + int(self.stats.get("merged_faults", 0))

    def _per_second(self, column: int) -> float:
        if len(self._window) < 2 or time.monotonic() - self._window[-1][0] > WINDOW_S:  # nothing is known of now
            return 0.0
        first, last = self._window[0], self._window[-1]
        return (last[column] - first[column]) / max(last[0] - first[0], 1e-6)

    @property
    def rate(self) -> float:
        """Bytes from the page server, or in the round."""
        return max(0.0, self._per_second(1))

    @property
    def fault_rate(self) -> float:
        return max(0.0, self._per_second(3))

    @property
    def seconds_left(self) -> float | None:
        """As pages come now; None if that can't be told. (Received bytes don't tell: pages are packed, or known.)"""
        if self._window_s < STEADY_S:
            return None
        fewer = -self._per_second(2) * PAGE_BYTES
        return self.awaited_bytes / fewer if fewer > 0 and self.awaited_bytes else None

    @property
    def silent_s(self) -> float:
        """So long nothing has come of what is missing; 0: it comes."""
        silent = self.elapsed_s - self.came_s
        return silent if self.state is State.RUNNING and self.awaited_bytes and silent > WINDOW_S else 0.0

    @property
    def downtime_so_far_s(self) -> float | None:
        """None: the task was not frozen yet, or runs at the source again."""
        if self.downtime_s is not None or self.frozen_at is None or self.state in FINAL:
            return self.downtime_s
        return time.monotonic() - self.frozen_at

    def fault_waits_us(self) -> dict[str, float]:
        """p50, p99 and max so far; {} if no fault waited."""
        return waits_us(self.stats)

    def as_json(self) -> dict[str, Any]:
        """For a log that programs read; what isn't known is left out or null."""
        figures: dict[str, Any] = {"elapsed_s": round(self.elapsed_s, 3), "downtime_s": self.downtime_so_far_s}
        if self.rounds or self.state is State.PRE_COPY:
            figures |= {"rounds": self.rounds, "round_read": self.round_read, "precopied_bytes": self.precopied_bytes}
        if self.stats:
            figures |= {
                "total_bytes": self.total_bytes,
                "missing_bytes": self.missing_bytes,
                "rate": round(self.rate),
                "seconds_left": self.seconds_left,
                "faults": self.faults,
                "fault_rate": round(self.fault_rate, 1),
                "waiting_faults": int(self.stats.get("waiting_faults", 0)),
                "fault_wait_us": self.fault_waits_us(),
                "heard_s": round(self.heard_s, 3),
            }
        return figures | {"limit": self.limit or None, "best_rate": round(self.best_rate) or None}

    def memory_as_text(self) -> str:
        """How much has come, in a few words; "" before the daemon said."""
        total, missing = self.total_bytes, self.missing_bytes
        if not total:
            return ""
        text = f"{(total - missing) / 1e6:.0f}/{total / 1e6:.0f} MB ({100 * (total - missing) / total:.0f} %)"
        if self.is_unheard and self.state not in COMPLETE:
            return f"{text} when it was last heard of, {self.elapsed_s - self.heard_s:.0f} s ago"
        return text

    def round_as_text(self) -> str:
        """How far the one under way is; it ends as its memory was read until now."""
        text = f"round {self.rounds + 1}, {self.round_read:.0%} read"
        took = time.monotonic() - self.round_began
        if self.round_read and took >= STEADY_S:
            text += f", about {duration_as_text(took * (1 - self.round_read) / self.round_read)} left of it"
        return text

    def as_text(self) -> str:
        """All of it in one line."""
        words = [self.state.value]
        if self.state is State.PRE_COPY:
            words.append(self.round_as_text())
        if (memory := self.memory_as_text()) and self.downtime_s is not None:
            words += [memory, f"{self.rate / 1e6:.0f} MB/s", f"{self.fault_rate:.0f} faults/s"]
            if self.seconds_left is not None:
                words.append(f"about {duration_as_text(self.seconds_left)} left")
            if waiting := int(self.stats.get("waiting_faults", 0)):
                words.append(f"{waiting} faults wait, the longest {int(self.stats['oldest_wait_us']) / 1e3:.0f} ms")
        if (downtime := self.downtime_so_far_s) is not None:
            words.append(f"downtime {downtime * 1e3:.0f} ms{'' if self.downtime_s is not None else ' so far'}")
        return ", ".join(words)


def duration_as_text(seconds: float) -> str:
    """As people say it."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def missing_pages(stats: dict[str, Any]) -> int:
    """By the daemon's counters: those that are awaited, and those of a restored task that was killed."""
    missing = int(stats.get("remaining_pages", 0)) + int(stats.get("lost_pages", 0))
    return min(missing, int(stats.get("total_pages", 0)))


def waits_us(stats: dict[str, Any]) -> dict[str, float]:
    """p50, p99 and max of how long faults waited, by the daemon's counters; {} if none did."""
    histogram = [int(count) for count in stats.get("fault_wait_us", ())]
    if not sum(histogram):
        return {}
    longest = float(stats["fault_wait_max_us"])
    # A bucket's bound may lie above the longest wait in it.
    return {f"p{q:g}": min(percentile(histogram, q / 100), longest) for q in (50, 99)} | {"max": longest}


def percentile(histogram: list[int], share: float) -> float:
    """The upper bound, in microseconds, of the bucket that holds `share` (0..1) of the waits (see cl_stats)."""
    wanted, seen = share * sum(histogram), 0
    for bucket, count in enumerate(histogram):
        seen += count
        if seen >= wanted:
            return float(2 ** (bucket / 4))
    return 0.0
