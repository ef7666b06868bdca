"""Which migration of an evacuation may go on, and how much of the link each has: pure decisions on what is known.

All that leaves this host shares its link. So that each task misses its pages for as short as can be, and its faults
wait behind nobody's background, the memory of one task after the other follows, at the link's whole rate:

- one migration at a time has pre-copy rounds; the next begins its own when the one before is frozen, or has so little
  left to send that the link would idle meanwhile;
- a task is frozen when what the resumed ones still miss takes the link no longer than a freeze takes until its own
  memory flows: small tasks overlap, large ones don't, and the link is never idle;
- while a task is frozen, or misses pages, the rounds of the next leave it most of the link.

A migration that nothing has come of for a while (its destination is gone) holds nobody up.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

FIRST_DOWNTIME_S = 0.3  # as long as none was measured
# Of the link, for rounds: while another task is frozen (only images and a restore want it, but no queue before them),
# and while one misses pages.
BESIDE_FROZEN, BESIDE_MISSING = 0.97, 0.125
LEAST_RATE, LEAST_LIMITED = 1 << 20, 4096
FADES = 0.99998  # each time that is looked: half of it in ten minutes
LEAST_AHEAD = 8
LITTLE_BYTES = 1 << 20  # of pages that are missing: most that is looked for is there, from the rounds
OVERLAP_S = 0.1


class Phase(enum.IntEnum):
    """How far a migration is, for the link."""

    PREPARING = 0  # preflight
    PREPARED = 1  # waits for its rounds, or has none and waits to be frozen
    ROUNDS = 2
    READY = 3  # its rounds are over: waits to be frozen
    FROZEN = 4
    FOLLOWING = 5  # resumed, and misses pages
    OVER = 6


@dataclass
class Member:
    """One migration, as the schedule sees it. `bytes_left`: what its memory still takes of the link: of its rounds, and
    from then on, after the freeze. `has_rounds`: it pre-copies first. `stuck`: nothing comes of it. `place_limit`: what
    all that go to its `place` may take, bytes per second; 0: no limit."""

    name: str
    place: str = ""
    place_limit: int = 0
    limit: int = 0  # its own, bytes per second
    rounds_limit: int = 0  # of its rounds
    phase: Phase = Phase.PREPARING
    has_rounds: bool = False
    bytes_left: int = 0
    stuck: bool = False
    pod: str = ""  # whose members are frozen together

    @property
    def unit(self) -> str:
        """What counts as one."""
        return self.pod or self.name

    @property
    def may_be_frozen(self) -> bool:
        """As far as its own rounds are concerned."""
        return self.phase is Phase.READY or (self.phase is Phase.PREPARED and not self.has_rounds)


def lesser(limit: int, other: int) -> int:
    """Of two limits, of which 0 is none."""
    return min(limit, other) if limit and other else limit or other


def is_whole(member: Member, members: Iterable[Member]) -> bool:
    """Whether all that are frozen together with it may be."""
    return all(other.may_be_frozen for other in members if other.unit == member.unit)


def takes_link(member: Member) -> bool:
    """Whether its task waits for what the link brings."""
    return member.phase in (Phase.FROZEN, Phase.FOLLOWING) and not member.stuck


@dataclass
class Schedule:
    """`at_once`: how many migrations may be under way, from the first round on; None: as many as keep the link full.
    `frozen_at_once`: a freeze and a restore take a CPU each. `limit`: bytes per second that all may take; 0: none."""

    at_once: int | None = None
    frozen_at_once: int = 1
    limit: int = 0
    rate: float = 0.0  # the best that was measured, bytes per second
    downtime_s: float = FIRST_DOWNTIME_S

    @property
    def ahead(self) -> int:
        """How many are prepared while others are under way; each is some processes on both hosts."""
        return max(LEAST_AHEAD, 2 * self.frozen_at_once)

    def seconds(self, members: Iterable[Member]) -> float:
        """What they still take of the link."""
        missing = sum(member.bytes_left for member in members)
        rate = min(self.rate, self.limit) if self.rate and self.limit else self.rate or self.limit
        if rate:
            return missing / rate
        return math.inf if missing else 0.0

    def _under_way(self, members: Sequence[Member]) -> int:
        return len(self._units_under_way(members))

    @staticmethod
    def _units_under_way(members: Sequence[Member]) -> set[str]:
        return {member.unit for member in members if Phase.ROUNDS <= member.phase < Phase.OVER and not member.stuck}

    def next_rounds(self, members: Sequence[Member], *, may_freeze: bool = True) -> Member | None:
        """Whose rounds may begin; `members` in the order in which they are to go. `may_freeze`: who is ready for it
        waits for nothing but its turn."""
        if self.at_once is None:
            rounds = [member for member in members if member.phase is Phase.ROUNDS and not member.stuck]
            ready = {member.unit for member in members if member.phase is Phase.READY and is_whole(member, members)}
            if (may_freeze and len(ready) >= self.frozen_at_once) or (rounds and self.seconds(rounds) > OVERLAP_S):
                return None
        begun = self._units_under_way(members)
        may_begin = self.at_once is None or len(begun) < self.at_once
        waiting = (
            member
            for member in members
            if member.phase is Phase.PREPARED and (may_begin or (member.pod and member.unit in begun))
            and (member.has_rounds or not member.pod)  # of a pod, the others may have some
        )  # fmt: skip
        first = next(waiting, None)
        return first if first is not None and first.has_rounds else None

    def next_freeze(self, members: Sequence[Member]) -> Member | None:
        """Who may be frozen, and all of its pod with it."""
        if len({member.unit for member in members if member.phase is Phase.FROZEN}) >= self.frozen_at_once:
            return None
        ready = next((member for member in members if member.phase is Phase.READY and is_whole(member, members)), None)
        if ready is None:
            first = next((member for member in members if member.phase is Phase.PREPARED), None)
            ready = first if first is not None and not first.has_rounds and is_whole(first, members) else None
            if ready is None or (self.at_once is not None and self._under_way(members) >= self.at_once):
                return None
        if self.at_once is None and self.seconds(filter(takes_link, members)) > self.downtime_s:
            return None
        return ready

    def rates(self, members: Sequence[Member]) -> dict[str, int]:
        """Bytes per second for each that sends; 0: no limit."""
        sending = [member for member in members if Phase.ROUNDS <= member.phase < Phase.OVER and not member.stuck]
        given = self._share([member for member in sending if member.phase is not Phase.READY], self.limit)
        for place in {member.place for member in sending if member.place_limit}:
            there = [member for member in sending if member.place == place and member.phase is not Phase.READY]
            for name, rate in self._share(there, there[0].place_limit if there else 0).items():
                given[name] = lesser(given[name], rate)
        for member in sending:
            if member.name in given:
                own = lesser(member.limit, member.rounds_limit if member.phase is Phase.ROUNDS else 0)
                given[member.name] = lesser(given[member.name], own)
        return given

    def _share(self, members: Sequence[Member], limit: int) -> dict[str, int]:
        """The same of some members; `limit`: of all of them together."""
        rounds = [member for member in members if member.phase is Phase.ROUNDS]
        frozen = [member for member in members if member.phase is Phase.FROZEN]
        following = [member for member in members if member.phase is Phase.FOLLOWING]
        link = limit or self.rate
        misses = any(member.bytes_left > LITTLE_BYTES for member in following)
        share = BESIDE_MISSING if misses else BESIDE_FROZEN if frozen or following else 1.0
        given: dict[str, int] = {}
        left = limit
        if rounds:
            least = LEAST_LIMITED if limit else LEAST_RATE
            each = max(least, int(link * share / len(rounds))) if link and (share < 1 or limit) else 0
            given |= {member.name: each for member in rounds}
            left -= each * len(rounds)
        for member in (*frozen, *following):
            given[member.name] = max(LEAST_LIMITED, left // max(1, len(following))) if limit else 0
        return given

    def take_rate(self, rate: float) -> None:
        """The best that one of them has measured; the link may have become slower since."""
        self.rate = max(self.rate * FADES, rate)

    def take_downtime(self, seconds: float) -> None:
        """One was measured."""
        self.downtime_s += (seconds - self.downtime_s) / 2
