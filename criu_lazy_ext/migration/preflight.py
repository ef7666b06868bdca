"""Before anything is frozen: all checks, on both ends, side by side."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from criu_lazy_ext.checks import catalogue
from criu_lazy_ext.checks.check import Finding, from_json, run_all
from criu_lazy_ext.checks.leaving import Leaving
from criu_lazy_ext.checks.needs import Arrival
from criu_lazy_ext.checks.pair import Pair
from criu_lazy_ext.criu import program as criu
from criu_lazy_ext.errors import CriuLazyError
from criu_lazy_ext.profile import Profile
from criu_lazy_ext.remote.channel import Message
from criu_lazy_ext.remote.hosts import RemoteHost

WITHIN_S = 60.0


class PreflightError(CriuLazyError):
    """The task can't be moved so; nothing was touched."""


@dataclass(frozen=True)
class AtSource:
    """What was found here, and what the destination needs to know."""

    findings: list[Finding] = field(default_factory=list)
    leaving: Leaving = field(default_factory=Leaving)

    @classmethod
    async def look(cls, profile: Profile | None, pid: int | None) -> AtSource:
        """Run the source's checks. Raises PreflightError if the task has ended."""
        try:
            leaving = await asyncio.to_thread(Leaving.look, profile, pid)
        except OSError:
            raise PreflightError(f"task {pid} has ended") from None
        return cls(await asyncio.to_thread(run_all, catalogue.SOURCE, leaving, "source"), leaving)

    def arrival(self, store: str = "") -> Arrival:
        return Arrival.of(self.leaving.needs, self.leaving.task, self.leaving.profile, store)


async def at_destination(host: RemoteHost, arrival: Arrival) -> list[Finding]:
    """Have the agent run the destination's checks. Raises HostError."""
    answer = await host.request("check", arrival=arrival.pack(), within=WITHIN_S)
    return from_json(answer["findings"], host.name)


async def between(host: RemoteHost, profile: Profile | None, hello: Message) -> list[Finding]:
    """Run the checks of both together."""
    mine = await asyncio.to_thread(criu.version)
    return run_all(catalogue.PAIR, Pair(profile, mine, host.name, hello), "both")
