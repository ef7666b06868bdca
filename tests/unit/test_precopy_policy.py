"""When pre-copy stops."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from criu_lazy_ext.migration.precopy_policy import Round, why_hopeless, why_lazy, why_stop
from criu_lazy_ext.profile import Precopy, Rounds, Size, StopWhen

MIB = 1 << 20


def sent(mib: float, seconds: float = 1.0) -> Round:
    return Round(sent_pages=int(mib * 256), sent_bytes=int(mib * MIB), seconds=seconds)


def until(seconds: float) -> Precopy:
    return Precopy(stop_when=StopWhen(remaining=Size(0), seconds=seconds))


@pytest.mark.parametrize(
    ("rounds", "limits", "reason"),
    [
        ([], Precopy(), None),
        ([4096], Precopy(), None),
        ([4096, 200], Precopy(), None),
        ([4096, 200, 190], Precopy(), "what changes no longer shrinks: 209.7 MB, then 199.2 MB, at 4295.0 MB/s"),
        ([4096, 200, 16], Precopy(), "the last round sent 16.8 MB; the target was at most 16.8 MB"),
        ([10], Precopy(), "the last round sent 10.5 MB"),
        ([4096, 200], Precopy(rounds=Rounds(2)), "all 2 rounds are done"),
        ([4096], Precopy(rounds=Rounds(1)), "the one round is done"),
        ([4096, 200], Precopy(max_seconds=1), "1.2 s were spent, of at most 1 s"),
        ([4096, 400], until(0.1), "what the last round sent takes 0.10 s; the target was at most 0.1 s"),
        ([4096, 420], until(0.1), None),
        ([4096, 4096], Precopy(), "the task changes its memory faster than the link takes it: 4295.0 MB, then 4295.0"),
    ],
)
def test_why_stop(rounds: list[float], limits: Precopy, reason: str | None) -> None:
    said = why_stop([sent(mib, 0.25**number) for number, mib in enumerate(rounds)], limits)
    assert said is None if reason is None else said is not None and said.startswith(reason)


def test_a_round_that_is_as_long_as_the_one_before_finds_as_much() -> None:
    """A Redis of 400 MiB on a busy machine; to read all of it took longer than to send what had changed."""
    rounds = [Round(137463, 530713386, 4.46), Round(10099, 34584454, 1.06), Round(6350, 21385217, 0.92)]
    assert why_stop(rounds[:2], Precopy()) is None
    assert why_stop(rounds, Precopy()) == "one more round, of 0.92 s, would spare 0.02 s of what follows, at best"


def test_rounds_are_left_out_where_all_memory_follows_at_once() -> None:
    probe = 256 << 10
    assert why_lazy(32 * MIB, probe, probe / 118e6) == "its 33.6 MB of memory follow in 0.28 s"
    assert why_lazy(32 * MIB, probe, probe / 1e6) is None
    assert why_lazy(400 * MIB, probe, probe / 118e6) is None
    assert why_lazy(400 * MIB, probe, 0.0) is not None, "a path too fast for the clock"


def test_pages_that_pack_well_are_counted_as_pages() -> None:
    # All of it changed again, though it packs better now.
    rounds = [Round(1 << 20, 4 << 30, 30.0), Round(1 << 20, 1 << 30, 8.0)]
    assert "faster than the link" in str(why_stop(rounds, Precopy()))


@given(st.lists(st.integers(0, 1 << 30), min_size=64, max_size=64))
def test_whatever_the_task_does_they_end(pages: list[int]) -> None:
    rounds = [Round(count, count * 4096, count / 1e5) for count in pages]
    assert any(why_stop(rounds[: n + 1], Precopy()) for n in range(len(rounds)))


@given(st.integers(0, 1 << 30), st.floats(0, 1e6))
def test_a_task_that_changes_everything_gets_two_rounds_at_most(pages: int, seconds: float) -> None:
    assert why_stop([Round(pages, pages * 4096, seconds)] * 2, Precopy())


def test_what_the_page_server_answers() -> None:
    answer = {"ok": True, "round": 1, "scanned_pages": 9, "sent_pages": 3, "zero_pages": 1, "packed_pages": 0}
    answer |= {"sent_bytes": 8200, "seconds": 0.5, "cut": False, "unread_pages": 5}
    assert Round.of(answer) == Round(3, 8200, 0.5, 9, 1, 5)
    assert Round.of(answer | {"cut": True}).cut


def test_a_round_that_was_cut_is_the_last_one() -> None:
    # By the page server's clock it took a little less.
    said = why_stop([Round(100, 400000, 1.499, cut=True)], Precopy(max_seconds=1.5))
    assert said == "1.5 s were spent, of at most 1.5 s"


def looked_at(share_at: Callable[[float], float], until: float) -> list[tuple[float, float]]:
    ages = [0.05 * 1.25**n for n in range(100)]
    return [(age, min(1.0, share_at(age))) for age in ages if age <= until]


@pytest.mark.parametrize(
    ("share_at", "round_seconds", "known_after"),
    [
        (lambda age: age / 0.25, 10.0, 0.2),  # a writer goes round in 0.25 s
        (lambda age: age / 4, 36.0, 2.0),  # of 4 GiB
        (lambda age: 1 - math.exp(-age * 3), 10.0, 0.5),  # at random
        (lambda age: age / 4, 1.0, None),  # a round is over before
        (lambda age: 0.3 + 0.01 * age, 36.0, None),  # a hot set, and a slow rest
        (lambda age: 0.05, 36.0, None),
        (lambda age: 0.0, 36.0, None),
    ],
)
def test_a_hopeless_round_is_known_in_time(
    share_at: Callable[[float], float], round_seconds: float, known_after: float | None
) -> None:
    samples = looked_at(share_at, 36.0)
    known = next((n for n in range(len(samples)) if why_hopeless(samples[: n + 1], round_seconds)), None)
    if known_after is None:
        assert known is None
    else:
        assert known is not None and samples[known][0] <= known_after
        assert "of a sample had changed after" in str(why_hopeless(samples[: known + 1], round_seconds))
