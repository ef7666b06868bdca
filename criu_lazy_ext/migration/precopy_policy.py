"""When to stop pre-copy: a pure decision on what the rounds so far sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from criu_lazy_ext.sizes import PAGE_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from criu_lazy_ext.profile import Precopy

# A round that sends more than this part of what the one before sent no longer gains enough to be worth it. For the
# second round: what the first one took to send everything, the task took to dirty that much of it again.
_SHRINKS = 0.8
# While a round reads, the task may be slower by this part (on one that has the CPUs busy: more); as long as what it has
# dirtied follows, it hardly works. So that is what a round's seconds have to spare of those.
_WORTH = 0.1
_SOONEST_S = 0.1  # younger samples say little
LEAST_TRANSFER_S = 0.5  # what all memory takes to follow; below it a round, and its set-up, gain nothing


def why_lazy(memory: int, path_bytes: int, path_seconds: float) -> str | None:
    """Why a task with so many bytes of memory moves without pre-copy, as a clause for the user; None: it may pay.

    `path_bytes`, `path_seconds`: what the path between the hosts took for a probe. A fast path's rate is higher than so
    short a probe tells: too much memory is taken for worth a round then, never too little.
    """
    rate = path_bytes / max(path_seconds, 1e-6)
    if memory / rate >= LEAST_TRANSFER_S:
        return None
    return f"its {_mb(memory)} of memory follow in {memory / rate:.2f} s"


def why_hopeless(samples: Sequence[tuple[float, float]], round_seconds: float) -> str | None:
    """Why the first round is not worth its end, as a clause for the user with its figures; None: it may be.

    `samples`: (age in seconds, share of pages that have changed since age 0), in order. What the round sends at once is
    changed by its end as the sample will be then. That is foreseen for no longer than the sample has been looked at: a
    task with few pages that it changes all the time, and many that it rarely does, looks like others at first.
    `round_seconds`: what the whole round takes, or the least that it can take.
    """
    if not samples or samples[-1][0] < _SOONEST_S:
        return None
    # What came after a round's time doesn't count. (The sample may be far older than the round.)
    later = next((n for n, (then, _) in enumerate(samples) if then >= round_seconds), len(samples) - 1)
    age, share = samples[later]
    horizon = min(2 * age, round_seconds)
    earlier = [(0.0, 0.0), *(sample for sample in samples[:later] if horizon < age or sample[0] <= age * 0.6)]
    before, had = earlier[-1]
    foreseen = share + (share - had) / (age - before) * (horizon - age)
    if foreseen < _SHRINKS:
        return None
    changed = f"{share:.0%} of a sample had changed after {age:.2f} s"
    return f"the task changes its memory faster than it can be sent: {changed}"


@dataclass(frozen=True)
class Round:
    """What a round sent: pages that were new or changed, in so many bytes on the wire, in so many seconds."""

    sent_pages: int
    sent_bytes: int
    seconds: float
    scanned_pages: int = 0
    zero_pages: int = 0
    unread_pages: int = 0  # known not to be written since the round before
    cut: bool = False  # it was ended early: it doesn't tell what is dirty

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> Round:
        """From the page server's answer to op `round`."""
        names = ("sent_pages", "sent_bytes", "scanned_pages", "zero_pages", "unread_pages")
        counts = {name: int(answer[name]) for name in names}
        return cls(**counts, seconds=float(answer["seconds"]), cut=bool(answer["cut"]))

    def as_text(self) -> str:
        """For a line of progress."""
        looked_at = self.scanned_pages + self.unread_pages
        return (
            f"{self.sent_pages * PAGE_BYTES / 1e6:.0f} of {looked_at * PAGE_BYTES / 1e6:.0f} MB had changed, "
            f"{self.sent_bytes / 1e6:.0f} MB sent in {self.seconds:.2f} s"
        )


def why_stop(rounds: Sequence[Round], limits: Precopy) -> str | None:
    """Why no further round should run, as a clause for the user with its figures; None: run one more.

    The first round sends all memory; each later one what was dirtied since the one before it began, so its size
    is the best guess of what is dirty now.
    """
    if not rounds:
        return None
    last, spent = rounds[-1], sum(r.seconds for r in rounds)
    rate = max(r.sent_bytes / r.seconds if r.seconds > 0 else 0.0 for r in rounds)
    seconds = last.sent_bytes / rate if rate else 0.0
    target = limits.stop_when
    if last.cut or spent >= limits.max_seconds:
        return f"{spent:.1f} s were spent, of at most {limits.max_seconds:g} s"
    if last.sent_bytes <= target.remaining:
        return f"the last round sent {_mb(last.sent_bytes)}; the target was at most {_mb(target.remaining)}"
    if target.seconds is not None and seconds <= target.seconds:
        return f"what the last round sent takes {seconds:.2f} s; the target was at most {target.seconds:g} s"
    if len(rounds) > 1 and last.sent_pages > rounds[-2].sent_pages * _SHRINKS:
        before = _mb(rounds[-2].sent_pages * PAGE_BYTES)
        changed = f"{before}, then {_mb(last.sent_pages * PAGE_BYTES)}, at {_mb(rate)}/s"
        if len(rounds) == 2:
            return f"the task changes its memory faster than the link takes it: {changed}"
        return f"what changes no longer shrinks: {changed}"
    if len(rounds) > 1 and rounds[-2].seconds > 0:
        # In less time a task dirties less, at best in proportion: most write the same pages again and again.
        spared = seconds * max(0.0, 1 - last.seconds / rounds[-2].seconds)
        if spared < _WORTH * last.seconds:
            return f"one more round, of {last.seconds:.2f} s, would spare {spared:.2f} s of what follows, at best"
    if limits.rounds is not None and len(rounds) >= limits.rounds:
        return f"all {limits.rounds} rounds are done" if limits.rounds > 1 else "the one round is done"
    return None


def _mb(count: float) -> str:
    return f"{count / 1e6:.1f} MB"
