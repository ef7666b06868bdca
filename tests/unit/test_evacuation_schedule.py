"""The schedule of an evacuation, in simulated time: what the link carries, and what each task waits for."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest

from criu_lazy_ext.evacuation.schedule import Member, Phase, Schedule

PREFLIGHT_S, DOWNTIME_S = 0.4, 0.25


@dataclass
class Task:
    member: Member
    memory: float
    dirty: float  # of what a round sent, what is dirty when it ends
    to_send: float
    since: float = 0.0
    frozen_at: float = 0.0
    missed_s: float = 0.0  # how long it missed pages


@dataclass
class Result:
    seconds: float
    idle_bytes: float  # that the link could have carried
    missed_s: list[float]
    most_frozen: int
    most_ahead: int
    overlap_s: float  # time with more than one task that misses pages


def simulate(sizes: list[float], rate: float, schedule: Schedule, *, dirty: float = 0.02, lazy: bool = False) -> Result:
    """Evacuate tasks of these sizes over a link that carries `rate` bytes per second."""
    tick = 0.005 if len(sizes) < 100 else 0.01
    waiting = [
        Task(Member(f"task {n}", has_rounds=not lazy, bytes_left=int(size)), size, dirty, size)
        for n, size in enumerate(sizes)
    ]
    known: list[Task] = []
    over: list[Task] = []
    now = idle = overlap = 0.0
    most_frozen = most_ahead = 0
    while waiting or known:
        while waiting and sum(task.member.phase < Phase.ROUNDS for task in known) < schedule.ahead:
            known.append(waiting.pop(0))
            known[-1].since = now
        members = [task.member for task in known]
        by_name = {task.member.name: task for task in known}
        for task in known:
            if task.member.phase is Phase.ROUNDS:
                task.member.bytes_left = int(task.to_send)
            if task.member.phase is Phase.PREPARING and now - task.since >= PREFLIGHT_S:
                task.member.phase = Phase.PREPARED
        if (member := schedule.next_rounds(members)) is not None:
            member.phase = Phase.ROUNDS
        if (member := schedule.next_freeze(members)) is not None:
            member.phase = Phase.FROZEN
            by_name[member.name].frozen_at = now
        # The link: shares as the schedule gives them, and what is left to who has no limit.
        given = schedule.rates(members)
        sending = [task for task in known if task.member.phase in (Phase.ROUNDS, Phase.FOLLOWING)]
        left = rate * tick
        for task in sorted(sending, key=lambda task: given.get(task.member.name, 0) == 0):
            allowed = given.get(task.member.name, 0)
            unlimited = sum(given.get(other.member.name, 0) == 0 for other in sending)
            share = min(left, allowed * tick) if allowed else left / max(1, unlimited)
            sent = min(share, task.to_send)
            task.to_send -= sent
            left -= sent
        idle += left
        frozen = sum(task.member.phase is Phase.FROZEN for task in known)
        following = sum(task.member.phase is Phase.FOLLOWING for task in known)
        overlap += tick * (following > 1)
        most_frozen = max(most_frozen, frozen)
        most_ahead = max(most_ahead, len(known))
        now += tick
        for task in list(known):
            member = task.member
            if member.phase is Phase.ROUNDS and task.to_send <= 0:
                schedule.take_rate(rate)
                member.phase, task.to_send = Phase.READY, task.memory * task.dirty
                member.bytes_left = int(task.to_send)
            elif member.phase is Phase.FROZEN and now - task.frozen_at >= DOWNTIME_S:
                member.phase = Phase.FOLLOWING
                schedule.take_downtime(DOWNTIME_S)
                schedule.take_rate(rate if lazy else 0)
            elif member.phase is Phase.FOLLOWING:
                task.missed_s += tick
                member.bytes_left = int(task.to_send)
                if task.to_send <= 0:
                    known.remove(task)
                    over.append(task)
        assert now < 1e5
    return Result(now, idle, [task.missed_s for task in over], most_frozen, most_ahead, overlap)


def test_the_link_is_full() -> None:
    """Eight tasks of 256 MiB over 1 Gbit/s: the link's time for what has to go, and 5 %, after the first preflight."""
    size, rate = 256 << 20, 118e6
    result = simulate([size] * 8, rate, Schedule())
    least = 8 * size * 1.02 / rate
    assert result.seconds - PREFLIGHT_S - DOWNTIME_S < 1.05 * least
    assert result.most_frozen == 1


def test_each_misses_its_pages_for_as_long_as_alone() -> None:
    """Purely lazily: one after the other, not all at once for the whole time."""
    size, rate = 256 << 20, 118e6
    result = simulate([size] * 8, rate, Schedule(), lazy=True)
    alone = size / rate
    assert max(result.missed_s) < alone + 2 * DOWNTIME_S
    assert result.seconds - PREFLIGHT_S - 2 * DOWNTIME_S < 1.05 * 8 * alone
    assert result.overlap_s < 0.15 * result.seconds


def test_small_ones_go_together() -> None:
    """Their downtimes overlap where there are CPUs for them."""
    sizes = [4 << 20] * 64
    one, four = (simulate([*sizes], 118e6, Schedule(frozen_at_once=n)) for n in (1, 4))
    assert four.most_frozen == 4
    assert four.seconds < 0.5 * one.seconds


@pytest.mark.parametrize("at_once", [1, 3])
def test_so_many_at_once(at_once: int) -> None:
    """As the operator says."""
    result = simulate([64 << 20] * 9, 118e6, Schedule(at_once, frozen_at_once=4))
    assert result.most_ahead <= at_once + 8


def test_a_limit_is_kept() -> None:
    """bandwidth: of all together."""
    result = simulate([64 << 20] * 4, 118e6, Schedule(limit=30_000_000))
    assert result.seconds > 4 * (64 << 20) / 30e6


def test_a_place_has_its_own_limit() -> None:
    """What all others take is none of its business."""
    schedule = Schedule(rate=1e8)
    there = [
        Member("m", "b", 10 << 20, phase=Phase.FOLLOWING, bytes_left=2 << 20),
        Member("rounds", "b", 10 << 20, phase=Phase.ROUNDS),
    ]
    elsewhere = Member("n", "c", phase=Phase.FOLLOWING)
    given = schedule.rates([*there, elsewhere])
    assert given["n"] == 0
    assert given["m"] + given["rounds"] <= 10 << 20


def test_who_is_stuck_holds_nobody_up() -> None:
    """Its destination is gone: it takes no link, and the next are frozen."""
    stuck = Member("stuck", phase=Phase.FOLLOWING, bytes_left=1 << 40, stuck=True)
    ready = Member("ready", phase=Phase.READY, bytes_left=1 << 20)
    schedule = Schedule(rate=1e8)
    assert schedule.next_freeze([stuck, ready]) is ready
    assert schedule.rates([stuck, Member("rounds", phase=Phase.ROUNDS)]) == {"rounds": 0}


def test_rounds_go_on_while_nothing_may_be_frozen_yet() -> None:
    """As the preflight of others is not over: who is ready waits, and the link doesn't."""
    members = [Member("ready", phase=Phase.READY), Member("next", phase=Phase.PREPARED, has_rounds=True)]
    schedule = Schedule(rate=1e8)
    assert schedule.next_rounds(members) is None
    assert schedule.next_rounds(members, may_freeze=False) is members[1]


def test_rounds_leave_the_link_to_who_misses_pages() -> None:
    """And most of it while somebody is frozen."""
    schedule = Schedule(rate=1e8)
    rounds = Member("rounds", phase=Phase.ROUNDS)
    assert schedule.rates([rounds]) == {"rounds": 0}
    assert 0 < schedule.rates([rounds, Member("m", phase=Phase.FOLLOWING, bytes_left=2 << 20)])["rounds"] <= 1e8 / 4
    assert 0 < schedule.rates([rounds, Member("m", phase=Phase.FROZEN)])["rounds"] < 1e8


def test_a_thousand_tasks() -> None:
    """100 Gbit/s, a thousand tasks of all sizes: near the bound, nobody starves, few are prepared ahead."""
    sizes = [random.Random(number).lognormvariate(0, 1.5) * (256 << 20) for number in range(1000)]
    rate, cores = 12.5e9, 32
    schedule = Schedule(frozen_at_once=cores)
    result = simulate(sizes, rate, schedule)
    link, freezes, preparing = (
        sum(sizes) * 1.02 / rate, 1000 * DOWNTIME_S / cores, 1000 * PREFLIGHT_S / schedule.ahead
    )  # fmt: skip
    print(f"{result.seconds:.1f} s; the link {link:.1f}, the freezes {freezes:.1f}, preflights {preparing:.1f}")
    assert result.seconds < 1.3 * max(link, freezes, preparing)
    assert len(result.missed_s) == 1000
    assert result.most_ahead <= schedule.ahead + cores
