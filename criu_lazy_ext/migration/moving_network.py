"""The service addresses of a migration, at the source: what its driver does with them, and what the others are told."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from criu_lazy_ext.criu.images import endpoint
from criu_lazy_ext.errors import CriuLazyError
from criu_lazy_ext.remote.hosts import HostError, HostLost
from criu_lazy_ext.source.connections import Connections
from criu_lazy_ext.source.control_socket import CONTROL_SOCKET, network_path
from criu_lazy_ext.source.dump import SourceError
from criu_lazy_ext.system import addresses, conntrack, kept_packets, network_lock
from criu_lazy_ext.system.conntrack import Translated
from criu_lazy_ext.system.kept_packets import KeptPackets, Let
from criu_lazy_ext.system.nftables import Nft
from criu_lazy_ext.system.service_network import ServiceNetwork

if TYPE_CHECKING:
    from criu_lazy_ext.migration.driver import Migration

MUTE_WITHIN_S = 10.0
ACCEPTED_WITHIN_S, POLL_S = 0.25, 0.001
SETTLES_S = 0.1  # after the resume
DELIVER_EVERY_S, DELIVER_FOR_S = 0.005, 0.3  # once it runs there, until its neighbours' packets go there, too
DELIVER_BYTES = 128 << 10  # in a message: "go" waits for the first, on whatever link


class MovingNetwork:
    """Does nothing but look at the task's connections if the profile has no `network`."""

    def __init__(self, migration: Migration) -> None:
        self.migration = migration
        self.here: ServiceNetwork | None = None
        self.there: ServiceNetwork | None = None
        self.requested = False  # that they come up there
        self.translated: list[Translated] = []  # connections that lead behind them, once the task is frozen
        self.kept: KeptPackets | None = None  # for them, while they are held

    def plan(self) -> None:
        """Find the addresses, as they are here now. Raises SourceError."""
        network = self.migration.profile.network
        if network is None or not self.migration.turns.leads:
            return
        here, moved = addresses.addresses(), []
        for wanted in network.addresses:
            address = addresses.find(here, wanted.address, wanted.prefix, wanted.device)
            if address is None:
                raise SourceError(f"{wanted} is not here")
            moved.append((address, address.at(wanted.there)))
        self.here = ServiceNetwork.new(address for address, _ in moved)
        behind = tuple(addresses.behind(self.migration.pid))
        self.there = ServiceNetwork(tuple(address for _, address in moved), self.here.table, behind=behind)

    def facts(self) -> dict[str, Any]:
        """For the journal, before anything is touched."""
        if self.here is None or self.there is None:
            return {}
        return {"network": self.here.facts(), "network_there": self.there.facts()}

    async def hold_new(self) -> None:
        """What is being connected is done; nothing new begins, if the addresses are service addresses. Nothing here is
        left to a thread: a step that was given up would still be done."""
        migration = self.migration
        if self.there is not None:
            assert migration.host is not None
            self.requested = True
            await migration.host.request("mute", network=self.there.facts(), within=MUTE_WITHIN_S)
        connections = Connections(migration.pid)
        try:
            if self.here is not None:
                self.here.save(network_path(Path(migration.directory / CONTROL_SOCKET)))
                self.keep_packets(self.here)
                self.here.hold_new()
            await migration.turns.together(migration, "held")
            deadline = time.monotonic() + ACCEPTED_WITHIN_S
            while connections.are_being_made() and time.monotonic() < deadline:
                await asyncio.sleep(POLL_S)
            profile = migration.profile.for_connections(connections.exist(), nftables=Nft.load() is not None)
        finally:
            connections.close()
        migration.profile = profile
        await migration.turns.together(migration, "accepted")

    def keep_packets(self, here: ServiceNetwork) -> None:
        """Without them, clients wait longer."""
        try:
            self.kept = here.keep_packets()
        except OSError as error:
            self.migration.warn(f"what clients send during the freeze, they will have to send again: {error.strerror}")

    def forget_served(self) -> None:
        """The task still runs: what came until now needs no delivery."""
        if self.kept is not None:
            self.kept.forget_served()

    async def deliver(self) -> None:
        """What came since goes there, and what comes until the neighbours know."""
        migration, until = self.migration, 0.0
        assert migration.host is not None
        try:
            while self.kept is not None and not 0 < until < time.monotonic():
                for packed in kept_packets.pack(self.kept.take(), DELIVER_BYTES):
                    await migration.host.request("deliver", payload=packed)
                if not until and (resumed := migration.resumes or migration.resumed):
                    until = resumed + DELIVER_FOR_S
                await asyncio.sleep(DELIVER_EVERY_S)
        except HostLost:  # which others tell
            pass
        except HostError as error:
            migration.warn(f"what clients sent during the freeze, they have to send again: {error}")

    def leave(self) -> None:
        """The task is frozen: the addresses go."""
        if self.here is not None and self.there is not None:
            self.here.leave()
            moved = {address.address for address in self.here.addresses}
            try:
                known = conntrack.translated(self.there.behind) if self.there.behind else []
            except OSError as error:
                self.migration.warn(f"connections through published ports will be reset: conntrack: {error.strerror}")
            else:
                self.translated = [connection for connection in known if connection.service[0] in moved]

    async def let_pass(self) -> None:
        """The task runs there, with the addresses: criu's lock would keep others at this host from talking to it until
        the last page is there. First the task and its daemon need the CPUs."""
        migration = self.migration
        if self.here is None or migration.dump is None:
            return
        await asyncio.sleep(SETTLES_S)
        moved = {endpoint(address.address, 0)[0] for address in self.here.addresses}
        try:
            problems = await asyncio.to_thread(network_lock.let_pass, migration.pid, migration.dump.images, moved)
        except (CriuLazyError, OSError) as error:
            problems = [f"connections between this host and the task wait for the last page: {error}"]
        for problem in problems:
            migration.warn(problem)

    def give_back(self) -> list[str]:
        """The task runs on here. What could not be done."""
        return [] if self.here is None else self.here.give_back()

    def deliver_here(self) -> list[str]:
        """It runs on, and nothing is locked any more. What could not be done."""
        migration, packets = self.migration, self.kept.take() if self.kept is not None else []
        if self.here is None or migration.dump is None or not packets:
            return []
        translated = {each.ends for each in self.translated}
        return self.here.deliver(packets, Let(network_lock.connections(migration.dump.images) | translated))

    def end(self) -> list[str]:
        """The task is gone from here. What could not be done."""
        return [] if self.here is None else self.here.open()

    def close(self) -> None:
        """Nothing is kept any more."""
        if self.kept is not None:
            self.kept.close()
        self.kept = None

    def in_doubt(self) -> str:
        """After a roll back: what is to be said when nobody here knows whether the destination's half has undone its
        part; "" if that is known."""
        host = self.migration.host
        if self.there is None or not self.requested or host is None or host.has_undone:
            return ""
        by_hand = self.there.by_hand(mute=True)
        return (
            f"whether {host.name} has taken {self.there} off again is not known here: its half does that by itself, "
            f"and answers nobody until then; should all of it have been killed, do it there: {by_hand}"
        )

    def ways(self) -> str:
        """What an operator has to know of the addresses before the source task runs on, after "go"."""
        if self.there is None:
            return ""
        if self.migration.turns.has_others:
            where = self.migration.report.destination
            return f". The service addresses are at {where}, and stay there for the others of its pod: {self.there}"
        return (
            f". The addresses are at {self.migration.report.destination}: before the restored task is killed, there: "
            f"{self.there.by_hand(mute=False)}"
        )
