"""What a client saw of a migration: when it got answers, as a log of its own says, and the longest time without one."""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from criu_lazy_ext.errors import CriuLazyError, reason

TIME = re.compile(r"\[?(\d{9,11}(?:\.\d+)?)\b")
NONE_CAME = re.compile("no answer|unreachable|timeout", re.IGNORECASE)  # ping's lines that tell of none


class AnswersError(CriuLazyError):
    """The log tells nothing of this migration."""


@dataclass(frozen=True)
class Answers:
    """Times of a client's answers, in seconds since the migration's start (by the client's clock), from the last before
    it to the first after it."""

    at: Sequence[float]

    @classmethod
    def read(cls, path: Path, began: float, total_s: float) -> Answers:
        """`path`: a line for each answer, which begins with its time since the epoch, as ping -D and date +%s.%N tell
        it. Raises AnswersError."""
        try:
            lines = path.read_text(errors="replace").splitlines()
        except OSError as error:
            raise AnswersError(f"{path}: {reason(error)}") from error
        found = [TIME.match(line) for line in lines if not NONE_CAME.search(line)]
        at = sorted(float(each[1]) - began for each in found if each)
        first = max([n for n, time in enumerate(at) if time <= 0], default=0)
        last = min([n for n, time in enumerate(at) if time >= total_s], default=len(at) - 1)
        within = at[first : last + 1]
        if len(within) < 2 or within[-1] < 0 or within[0] > total_s:
            wanted = f"lines that begin with a time between {began:.3f} and {began + total_s:.3f}, one for each answer"
            raise AnswersError(f"{path}: nothing of this migration is in it: it needs {wanted} (ping -D prints such)")
        return cls(within)

    @property
    def gaps(self) -> list[tuple[float, float]]:
        """From each answer to the next."""
        return list(zip(self.at, self.at[1:], strict=False))

    @property
    def longest(self) -> tuple[float, float]:
        return max(self.gaps, key=lambda gap: gap[1] - gap[0])

    @property
    def longest_s(self) -> float:
        return self.longest[1] - self.longest[0]

    @property
    def usual_s(self) -> float:
        """The median time from one answer to the next."""
        return statistics.median(end - begin for begin, end in self.gaps)

    def series(self, total_s: float) -> list[tuple[float, float]]:
        """At each time how long it is from the answer before to the next one."""
        inside = [(max(0.0, begin), min(end, total_s), end - begin) for begin, end in self.gaps]
        return [point for begin, end, long in inside for point in ((begin, long), (end, long))]
