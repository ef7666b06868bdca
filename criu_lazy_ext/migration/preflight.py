"""Before anything is frozen: all checks, on both ends, side by side."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from dataclasses import dataclass, field, replace
from typing import Any

from criu_lazy_ext.checks import catalogue, files, network, state
from criu_lazy_ext.checks.check import Finding, from_json, run_all
from criu_lazy_ext.checks.leaving import Leaving
from criu_lazy_ext.checks.needs import Arrival, boot_id, pack_ids, pid_namespace
from criu_lazy_ext.checks.pair import Pair
from criu_lazy_ext.checks.task import TOLD_BYTES
from criu_lazy_ext.criu import program as criu
from criu_lazy_ext.engines.engine import container_as_message
from criu_lazy_ext.errors import CriuLazyError
from criu_lazy_ext.profile import Profile
from criu_lazy_ext.remote.channel import Message
from criu_lazy_ext.remote.hosts import RemoteHost
from criu_lazy_ext.remote.way_back import Way

WITHIN_S = 60.0


class PreflightError(CriuLazyError):
    """The task can't be moved so; nothing was touched."""


@dataclass(frozen=True)
class AtSource:
    """What was found here, and what the destination needs to know."""

    findings: list[Finding] = field(default_factory=list)
    leaving: Leaving = field(default_factory=Leaving)
    arrival: Arrival = field(default_factory=Arrival)

    @classmethod
    async def look(cls, profile: Profile | None, pid: int | None, store: str = "") -> AtSource:
        """Run the source's checks. `store`: the directory there for pages that come before the dump, or "".

        Raises PreflightError if the task has ended.
        """
        try:
            leaving = await asyncio.to_thread(Leaving.look, profile, pid)
            checks = catalogue.SOURCE if leaving.moved is None else catalogue.CONTAINER_SOURCE
            looking = asyncio.to_thread(run_all, checks, leaving, "source")
            findings, arrival = await asyncio.gather(looking, asyncio.to_thread(arrival_of, leaving, store))
            return cls(findings, leaving, arrival)
        except (FileNotFoundError, ProcessLookupError):
            raise PreflightError(f"task {pid} has ended") from None


def arrival_of(leaving: Leaving, store: str) -> Arrival:
    """What the destination is to look for."""
    profile, needs, task = leaving.profile, leaving.needs, leaving.task
    arrival = Arrival(store=store, boot_id=boot_id(), pid_namespace=pid_namespace(), hooks=leaving.hooks())
    if profile is not None:
        moved = profile.network.addresses if profile.network is not None else []
        arrival = replace(
            arrival,
            check_memory=profile.destination.check_memory,
            restore_options=leaving.restore_words(),
            daemon_options=profile.daemon_options,
            programs=leaving.hook_programs("destination"),
            addresses=[(item.address, item.there) for item in moved],
            directory=str(profile.directories.destination),
        )
    if needs is None or task is None:
        return arrival
    arrival = replace(
        arrival, processes=needs.processes, threads=needs.threads, ids=pack_ids(needs.ids), memory=needs.memory,
        image_bytes=leaving.image_bytes, huge_bytes=leaving.not_lazy["huge"],
        user_namespace=task.has_own("user"), cpu=_cpu(),
    )  # fmt: skip
    if leaving.moved is not None:  # its files are its engine's to bring
        return replace(arrival, sockets=network.bound(leaving)["sockets"], container=container_there(leaving))
    facts = files.collect(task, network.names(leaving))
    return replace(
        arrival, files=[list(fact) for fact in facts], profiles=state.profiles(task), **network.bound(leaving)
    )


def container_there(leaving: Leaving) -> dict[str, Any]:
    """What the agent is told of the container: the profile's key, as it is there, and what it expects to find."""
    profile, moved = leaving.profile, leaving.moved
    if profile is None or profile.container is None or moved is None:
        return {}
    there = replace(profile.container, bundle=profile.container.bundle or moved.found.bundle)
    return {"profile": container_as_message(there), "expected": moved.engine.expectations(moved.found)}


def _cpu() -> str:
    with contextlib.suppress(OSError):  # the source's own checks say that there is no criu
        return base64.b64encode(criu.cpu_facts()).decode()
    return ""


async def both(host: RemoteHost, source: AtSource, hello: Message, way: Way) -> list[Finding]:
    """All checks but the source's own, side by side. Raises HostError."""
    found = await asyncio.gather(between(host, source.leaving, hello, way), at_destination(host, source.arrival))
    return [finding for findings in found for finding in findings]


async def at_destination(host: RemoteHost, arrival: Arrival) -> list[Finding]:
    """Have the agent run the destination's checks. Raises HostError."""
    answer = await host.request("check", arrival=arrival.pack(), within=WITHIN_S)
    return from_json(answer["findings"], host.name)


async def between(host: RemoteHost, leaving: Leaving, hello: Message, way: Way) -> list[Finding]:
    """Run the checks of both together. Raises HostError."""
    try:
        mine = await asyncio.to_thread(criu.version)
    except criu.CriuError:
        return []  # the source's own checks say so
    not_lazy = leaving.not_lazy_bytes
    rate = await host.measure_rate() if not_lazy >= TOLD_BYTES else 0.0
    pair = Pair(leaving.profile, mine, host.name, hello, way, not_lazy, rate, await host.clock_ahead())
    return run_all(catalogue.PAIR, pair, "both")
