"""The service addresses that move with a task, and the packet filter around them while they do.

At each end of a migration it is an object of its own, with the tables (`inet` and `arp`) of that migration alone:

- source: `keep_packets`, and `hold_new`, right before the dump: what opens a connection is dropped; `leave` once the
  task is frozen; then `give_back`, if the task runs on there, or `open`, if it is gone.
- destination: `mute` before the dump: nothing that will come for them is answered, by a reset, ARP or anything else;
  `arrive` before the restore: the addresses are there; `translate`, and `open`, when the restored task is about to run;
  or `withdraw`, and `open`, if not.
- where the task runs in the end: `deliver` what was kept.

So at no time do two hosts answer for an address, whoever dies. Each may be repeated. What can't be done is returned, a
line each, where it must not end what goes on around it.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TypeVar

from criu_lazy_ext.errors import CriuLazyError
from criu_lazy_ext.system import addresses, conntrack, kept_packets
from criu_lazy_ext.system.addresses import Address
from criu_lazy_ext.system.announce import announce, who_answers
from criu_lazy_ext.system.conntrack import Translated
from criu_lazy_ext.system.kept_packets import KeptPackets, Let
from criu_lazy_ext.system.net_namespace import within
from criu_lazy_ext.system.nftables import FilterError, Nft
from criu_lazy_ext.system.tcp_sockets import TcpState, destroy, tcp_sockets

T = TypeVar("T")

TABLE, FAMILIES = "criu-lazy-", ("inet", "arp")
ANSWER_WITHIN_S = 0.5  # of a neighbour that has an address
PRIORITY = -300  # before connection tracking sees anything
SYN = "tcp flags & (syn | ack) == syn"


class ServiceNetworkError(CriuLazyError):
    """An address can't be moved."""


@dataclass(frozen=True)
class ServiceNetwork:
    """`addresses`: as they are, or will be, here; `table`: the name of the packet filter's tables; `namespace`: the
    path of the network namespace in which all this is, "": this process's; `behind`: addresses of a task that has a
    network namespace of its own, to which connections may be translated."""

    addresses: tuple[Address, ...]
    table: str
    namespace: str = ""
    behind: tuple[str, ...] = ()

    @classmethod
    def new(cls, moved: Iterable[Address], namespace: str = "") -> ServiceNetwork:
        """With a table of its own."""
        return cls(tuple(moved), TABLE + os.urandom(4).hex(), namespace)

    @classmethod
    def of_facts(cls, facts: dict[str, Any] | None) -> ServiceNetwork | None:
        """What `facts` gave; None of None."""
        if facts is None:
            return None
        moved = tuple(Address(**address) for address in facts["addresses"])
        return cls(moved, facts["table"], facts["namespace"], tuple(facts["behind"]))

    def facts(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def load(cls, path: Path) -> ServiceNetwork | None:
        """What `save` left there, if anything."""
        try:
            return cls.of_facts(json.loads(path.read_text()))
        except (OSError, ValueError):  # who wrote it died before anything was done
            return None

    def save(self, path: Path) -> None:
        """For a process that undoes it. Raises OSError."""
        path.write_text(json.dumps(self.facts()))

    def __str__(self) -> str:
        return ", ".join(map(str, self.addresses))

    def by_hand(self, *, mute: bool) -> str:
        """What takes the addresses off, typed by hand; `mute`: and the filter."""
        lines = [f"ip address del {address}" for address in self.addresses]
        families = FAMILIES if 4 in self._versions() else FAMILIES[:1]
        return "; ".join([*lines, *(f"nft delete table {family} {self.table}" for family in families if mute)])

    def removal(self) -> str:
        """nft's commands that remove the filter."""
        return "; ".join(f"add table {family} {self.table}; delete table {family} {self.table}" for family in FAMILIES)

    # ---- the source ----

    def hold_new(self) -> None:
        """Drop what opens a connection to the addresses. Raises FilterError, OSError."""
        self._within(lambda: self._filter([f"{self._to(version)} {SYN} drop" for version in self._versions()], []))

    def leave(self) -> None:
        """Take the addresses off. Raises ServiceNetworkError, OSError."""

        def leave() -> None:
            for address in self.addresses:
                if not addresses.delete(address):
                    raise ServiceNetworkError(f"{address} is not here any more")

        self._within(leave)

    def give_back(self) -> list[str]:
        """The task runs on here: the addresses are here again, their neighbours know, and nothing is filtered."""

        def give_back() -> list[str]:
            problems = []
            with contextlib.ExitStack() as sockets:
                for address in self.addresses:
                    try:
                        addresses.add(address)
                        announce(address.address, address.device, sockets)
                    except OSError as error:
                        problems.append(f"{address} is not back here ({error.strerror}): ip address add {address}")
            return problems

        return self._problems(give_back) + self._open()

    # ---- the destination ----

    def mute(self) -> None:
        """Drop whatever comes for the addresses. Raises FilterError, OSError."""
        # Not replies: what the restore sends already needs its neighbours, and asks again only after a second.
        arp_rules = [f"arp operation request arp daddr ip {self._set(4)} drop"] if 4 in self._versions() else []
        self._within(lambda: self._filter(self._mute(), arp_rules))

    def arrive(self) -> None:
        """Put the addresses up, which are mute. Raises ServiceNetworkError, OSError."""

        def arrive() -> None:
            self._forget_old_connections()  # no reset of theirs leaves without the address
            for address in self.addresses:
                if not addresses.add(address):
                    raise ServiceNetworkError(f"{address.address} is here already")

        self._within(arrive)

    def translate(self, connections: Iterable[Translated]) -> list[str]:
        """Connections that led behind the addresses at the source do so here."""
        return self._problems(partial(conntrack.translate, connections))

    def withdraw(self) -> list[str]:
        """Take the addresses off again, before what was restored dies: its sockets then say nothing to anybody."""

        def withdraw() -> list[str]:
            problems = []
            for address in self.addresses:
                try:
                    addresses.delete(address)
                except OSError as error:
                    problems.append(f"{address} stays ({error.strerror}): ip address del {address}")
            return problems

        return self._problems(withdraw)

    def open(self) -> list[str]:
        """Nothing is filtered any more."""
        return self._open()

    def announce(self, sockets: contextlib.ExitStack) -> list[str]:
        """Tell the neighbours that the addresses are here; none of one that somebody has taken off meanwhile. Closing
        `sockets` takes some milliseconds."""

        def tell() -> list[str]:
            here = addresses.addresses()
            for address in self.addresses:
                if addresses.find(here, address.address, address.prefix, address.device) is not None:
                    announce(address.address, address.device, sockets)
            return []

        return self._problems(tell)

    # ---- both ----

    def keep_packets(self) -> KeptPackets:
        """What comes for the addresses from now on. Raises OSError."""
        return self._within(lambda: KeptPackets(address.address for address in self.addresses))

    def deliver(self, packets: Iterable[bytes], let: Let) -> list[str]:
        """Those of `packets` that are for the addresses are taken here as if they came now."""

        def deliver() -> list[str]:
            kept_packets.deliver(packets, (address.address for address in self.addresses), let)
            return []

        try:
            return self._problems(deliver)
        except Exception as error:  # strangers made them; and whoever delivers has a task that waits
            return [f"{self}: what clients sent, they have to send again: {type(error).__name__}: {error}"]

    def here(self) -> list[Address]:
        """Which of the addresses this host has, on whatever device. Raises OSError."""
        wanted = {ip_address(address.address) for address in self.addresses}
        return [found for found in self._within(addresses.addresses) if ip_address(found.address) in wanted]

    def answered(self) -> str:
        """Of addresses that are not here: who answers for one, in words; "" if nobody does. Raises OSError."""
        for address in self.addresses:
            who = self._within(partial(who_answers, address.address, address.device, ANSWER_WITHIN_S))
            if who:
                return f"{address.address} is answered for by another host ({who})"
        return ""

    def _within(self, action: Callable[[], T]) -> T:
        if not self.namespace:
            return action()
        namespace = os.open(self.namespace, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return within(namespace, lambda _: action())
        finally:
            os.close(namespace)

    def _problems(self, action: Callable[[], list[str]]) -> list[str]:
        try:
            return self._within(action)
        except (FilterError, OSError) as error:
            return [f"{self}: {error.strerror if isinstance(error, OSError) else error}"]

    def _open(self) -> list[str]:
        def remove() -> list[str]:
            self._run(self.removal().split("; "))
            return []

        return self._problems(remove)

    def _filter(self, rules: list[str], arp_rules: list[str]) -> None:
        """Our tables, with just these rules for what comes in."""
        commands = []
        for family, wanted in (("inet", rules), ("arp", arp_rules)):
            table = f"{family} {self.table}"
            if wanted:
                commands += [f"add table {table}", f"delete table {table}", f"add table {table}"]
                hook = "input" if family == "arp" else "prerouting"  # to an address behind, nothing is input
                commands += [f"add chain {table} in {{ type filter hook {hook} priority {PRIORITY}; }}"]
                commands += [f"add rule {table} in {rule}" for rule in wanted]
        self._run(commands)

    def _mute(self) -> list[str]:
        rules = ["icmpv6 type nd-neighbor-advert accept"] if 6 in self._versions() else []
        rules += [f"{self._to(version)} drop" for version in self._versions()]
        # Of these, nothing leaves, or its translation would be another one.
        rules += [f"{'ip6' if ':' in address else 'ip'} saddr {address} drop" for address in self.behind]
        for address in self.addresses:
            if ":" in address.address:  # asked of a multicast group: the target is 8 bytes into the message
                target = f"@th,64,128 0x{ip_address(address.address).packed.hex()}"
                rules.append(f"icmpv6 type nd-neighbor-solicit {target} drop")
        return rules

    def _versions(self) -> list[int]:
        return sorted({ip_address(address.address).version for address in self.addresses})

    def _set(self, version: int) -> str:
        found = [address.address for address in self.addresses if ip_address(address.address).version == version]
        return "{ " + ", ".join(found) + " }"

    def _to(self, version: int) -> str:
        return f"{'ip' if version == 4 else 'ip6'} daddr {self._set(version)}"

    @staticmethod
    def _run(commands: list[str]) -> None:
        nft = Nft.load()
        if nft is None:
            raise FilterError("libnftables is not here: install nftables")
        with nft:
            nft.run("\n".join(commands))

    def _forget_old_connections(self) -> None:
        """Of the time when the addresses were here last: the kernel's own remains of connections, such as those in
        TIME_WAIT, have ports that clients use again; what has such a port could not be restored."""
        here = {ip_address(address.address) for address in self.addresses}
        for sock in tcp_sockets(set(TcpState) - {TcpState.LISTENING, TcpState.CLOSED}):
            local = ip_address(sock.local[0])
            if (getattr(local, "ipv4_mapped", None) or local) in here and not sock.inode:
                with contextlib.suppress(OSError):  # gone meanwhile, or a kernel that can't
                    destroy(sock)


def why_no_filter() -> str:
    """Why this host can't filter packets as it takes; "" if it can."""
    nft = Nft.load()
    if nft is None:
        return "libnftables is not here"
    try:
        with nft:
            for family in FAMILIES:
                nft.run(f"list tables {family}")
    except FilterError as error:
        return str(error)
    return ""
