"""The task's sockets: who is at their other ends, what they are bound to."""

from __future__ import annotations

import contextlib
import errno
import shutil
import socket
import stat
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from criu_lazy_ext.checks.check import Found, Verdict, check, fail
from criu_lazy_ext.checks.leaving import Leaving
from criu_lazy_ext.checks.needs import Arrival
from criu_lazy_ext.checks.sockets import Own
from criu_lazy_ext.criu import program as criu
from criu_lazy_ext.system.holders import holders, name_of
from criu_lazy_ext.system.nftables import Nft
from criu_lazy_ext.system.sockets import unix_sockets

TCP_CLOSE, TCP_LISTEN = 7, 10
MPTCP = 262
DUMPABLE = frozenset({0, 1, 6, 17, 58, 136})  # of Internet protocols: IP, ICMP, TCP, UDP, ICMPv6, UDP-Lite
FAMILIES = frozenset({socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK, socket.AF_PACKET})
SHOWN = 3
CONNECTIONS_STAY = (
    "wait until they are closed (ss -tnp); or close them by the migration: [--tcp-close] in criu.dump_options and "
    "restore_options; or have clients use a service address, which moves with the task: network.addresses"
)
NEWER_CRIU = (
    "install criu 4.2 here and there: Debian's testing has it (a source for testing in /etc/apt/sources.list.d, then "
    "apt install -t testing criu python3-pycriu libcriu2)"
)
HOOKS = "hooks that take it from this host (after_dump) and give it to the other one (before_restore)"


def _connections(leaving: Leaving) -> list[Own]:
    return [
        own
        for own in leaving.sockets.inet
        if own.socket.kind == socket.SOCK_STREAM and own.socket.state not in (0, TCP_CLOSE, TCP_LISTEN)
    ]


@check(
    "connections",
    why="criu dumps a live TCP connection only when told to, and it lives on only if its address moves with the task.",
    way_out="leave criu.tcp_established out, and let network.addresses move; or [--tcp-close] in criu.dump_options and "
    "restore_options, which closes them",
)
def connections(leaving: Leaving) -> Iterator[Found]:
    """live TCP connections"""
    found = _connections(leaving)
    refused = leaving.profile is not None and leaving.profile.criu.tcp_established is False
    if found and refused and not leaving.dump_flags() & {"--tcp-established", "--tcp-close"}:
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        yield fail(f"{found[0].which} is a live TCP connection, {found[0].ends}{more}")


@check(
    "local-connections",
    why="The other end of a connection over this host's own addresses stays here, and can't be reached from there: the "
    "connection is reset.",
    way_out="have the task connect again after it has moved, and close it before; or move both as one tree",
)
def local_connections(leaving: Leaving) -> Iterator[Found]:
    """TCP connections to programs on this very host (127.0.0.1), outside of the task"""
    found = _connections(leaving)
    ends = {(own.socket.local, own.socket.peer) for own in found}
    if leaving.task is None or leaving.task.has_own("net") or "--tcp-close" in leaving.dump_flags():
        return
    for own in found:
        peer = own.socket.peer
        if peer is not None and ip_address(peer[0]).is_loopback and (peer, own.socket.local) not in ends:
            yield fail(f"{own.which} is a connection to another program of this host, {own.ends}")
            return


@check(
    "network-lock",
    why="criu keeps the packets of live connections away while it dumps them: by nftables, if it is there.",
    way_out="leave criu.network_lock out, and install nftables; or install iptables",
)
def network_lock(leaving: Leaving) -> Iterator[Found]:
    """the tool by which criu locks live connections"""
    lock = leaving.dump_value("network-lock") or ("nftables" if Nft.load() else "iptables")
    if _connections(leaving) and lock == "iptables" and not shutil.which("iptables-restore"):
        yield fail("the task has live TCP connections, and iptables is not installed here")


@check(
    "socket-kinds",
    why="criu dumps TCP, UDP, raw, packet, netlink and unix sockets.",
    way_out="a setting of the program that does without; of Go programs that listen by MPTCP: GODEBUG=multipathtcp=0",
)
def socket_kinds(leaving: Leaving) -> Iterator[Found]:
    """families and protocols of the task's sockets: MPTCP, SCTP, vsock, AF_ALG, ...; and whether this criu knows this
    kernel's options of them"""
    if problem := criu.socket_problem():
        for own in leaving.sockets.inet:
            if own.socket.family in (socket.AF_INET, socket.AF_INET6, socket.AF_PACKET):
                yield fail(f"{own.which} is a socket, {own.ends}: {problem}", NEWER_CRIU)
                return
    for own in leaving.sockets.inet:
        family, kind, protocol = own.socket.family, own.socket.kind, own.socket.protocol
        if family not in FAMILIES:
            yield fail(f"{own.which} is a socket of address family {family}: criu can't dump it")
        elif family in (socket.AF_INET, socket.AF_INET6) and kind != socket.SOCK_RAW and protocol not in DUMPABLE:
            name = "MPTCP" if protocol == MPTCP else f"protocol {protocol}"
            yield fail(f"{own.which} is a socket of {name}: criu can't dump it")
        else:
            continue
        return


@check(
    "outside-sockets",
    why="The other end of a unix socket stays here. criu refuses a connection of which it has one end; a datagram "
    "socket that only sends (to /dev/log, to systemd's journal) it connects again there, if told to.",
    way_out="end the connection first; or move who is at the other end with it, as one tree",
)
def outside_sockets(leaving: Leaving) -> Iterator[Found]:
    """unix sockets that are connected to a process which stays"""
    sockets = leaving.sockets
    external = "--ext-unix-sk" in leaving.dump_flags()
    outside = {peer.inode: own for own, peer in sockets.outside_peers()}
    targets = {f"socket:[{inode}]": own.descriptor.link for inode, own in outside.items()}
    known = holders(targets, leaving.task.pid) if leaving.task else {}
    for own, peer in sockets.outside_peers():
        holder = known.get(f"socket:[{peer.inode}]")
        to = f" ({name_of(holder)})" if holder else ""
        text = f"{own.which} is a unix socket connected to {peer.name or 'a nameless one'}{to}, which stays here"
        if peer.kind != socket.SOCK_DGRAM or not peer.name:
            yield fail(text)
            return
        if not external:
            yield fail(text, "criu.ext_unix_sk: true, if a socket of that name is at the destination, too")
            return
    for own, sender in sockets.outside_senders():
        if not external:
            yield fail(
                f"{own.which}, the unix socket {own.unix_name}, has senders that stay here (inode {sender.inode})",
                "criu.ext_unix_sk: true; the senders find nobody there until they connect again",
            )
            return


def names(leaving: Leaving) -> list[str]:
    """Those of its own unix sockets."""
    with contextlib.suppress(OSError):  # the source's own checks say that they can't be looked at
        return [own.unix_name for own in leaving.sockets.unix.values() if own.unix_name]
    return []


def bound(leaving: Leaving) -> dict[str, Any]:
    """For the destination: what its sockets are bound to, and the names of those that it sends to."""
    sockets: list[list[Any]] = []
    peers: list[str] = []
    with contextlib.suppress(OSError):  # the source's own checks say that they can't be looked at
        if leaving.task is not None and not leaving.task.has_own("net"):
            closed = _connections(leaving) if "--tcp-close" in leaving.dump_flags() else []
            for own in leaving.sockets.inet:
                if own.socket.local is not None and own.socket.local[0] and own not in closed:
                    is_connection = own.socket.kind == socket.SOCK_STREAM and not own.socket.listens
                    sockets.append([own.socket.family, own.socket.kind, *own.socket.local, not is_connection])
        peers = sorted({peer.name for _, peer in leaving.sockets.outside_peers() if peer.kind == socket.SOCK_DGRAM})
    own_names = [] if leaving.task is None or leaving.task.has_own("net") else sorted(set(names(leaving)))
    return {"sockets": sockets, "unix_names": own_names, "unix_peers": list(filter(None, peers))}


# ---- at the destination ----


@check(
    "addresses",
    why="criu can't bind a socket to an address that its host doesn't have.",
    way_out=f"move the address with the task: network: {{addresses: [10.0.0.5/24 dev eth0]}}, or {HOOKS}; or "
    "have the program listen on 0.0.0.0",
)
def addresses(arrival: Arrival) -> Iterator[Found]:
    """addresses at the destination: those that the task's sockets are bound to, and its live connections end at"""
    missing: dict[str, bool] = {}  # whether something is bound to it
    for family, _, address, _, is_bound in arrival.sockets:
        comes = address in arrival.hooks or any(address == moved for moved, _ in arrival.addresses)
        if not comes and not ip_address(address).is_unspecified and (address in missing or not _has(family, address)):
            missing[address] = missing.get(address, False) or is_bound
    verdict = Verdict.WARN if arrival.hooks else Verdict.FAIL
    by_hook = "no hook names it: unless one of before_restore adds it, criu restore fails" if arrival.hooks else ""
    if bound_to := [address for address, is_bound in missing.items() if is_bound]:
        text = f"the task's sockets are bound to addresses that are not there: {', '.join(bound_to)}"
        yield Found(verdict, text, by_hook)
    if ends := [address for address, is_bound in missing.items() if not is_bound]:
        text = f"live TCP connections of the task's end at addresses that are not there: {', '.join(ends)}"
        yield Found(verdict, text, by_hook or CONNECTIONS_STAY)


def _has(family: int, address: str) -> bool:
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError as error:
            return error.errno not in (errno.EADDRNOTAVAIL, errno.EINVAL)
    return True


@check(
    "ports",
    why="criu can't bind a socket to a port that another program has.",
    way_out="stop that program there, as a standby of the same service",
)
def ports(arrival: Arrival) -> Iterator[Found]:
    """ports at the destination that the task listens on, or has bound"""
    taken: list[str] = []
    for family, kind, address, port, is_bound in arrival.sockets if not arrival.is_source() else []:
        if is_bound and port and _is_taken(family, kind, address, port):
            taken.append(f"{address} port {port}")
    if taken:
        verdict = Verdict.WARN if arrival.hooks else Verdict.FAIL
        way_out = "unless a hook of before_restore stops it, criu restore fails" if arrival.hooks else ""
        yield Found(verdict, f"another program there has {', '.join(dict.fromkeys(taken))}", way_out)


def _is_taken(family: int, kind: int, address: str, port: int) -> bool:
    with socket.socket(family, kind) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False


@check(
    "socket-names-free",
    why="Of a name in the file system criu removes the socket that is there, and the program that has it is no longer "
    "reached; an abstract name (@) it can't have then.",
    way_out="stop that program there, as a standby of the same service",
)
def socket_names_free(arrival: Arrival) -> Iterator[Found]:
    """unix sockets at the destination that have the name of one of the task's"""
    named = {sock.name for sock in unix_sockets().values()} if arrival.unix_names and not arrival.is_source() else set()
    if taken := [name for name in arrival.unix_names if name in named]:
        verdict = Verdict.WARN if arrival.hooks else Verdict.FAIL
        way_out = "unless a hook of before_restore stops it, it loses that name" if arrival.hooks else ""
        yield Found(verdict, f"another program there has the unix socket {', '.join(taken[:SHOWN])}", way_out)


@check(
    "socket-names",
    why="criu connects the task's datagram sockets again by the name.",
    way_out="start at the destination what listens there (syslog, systemd-journald)",
)
def socket_names(arrival: Arrival) -> Iterator[Found]:
    """unix sockets (as /dev/log) that the task sends to, at the destination"""
    for name in arrival.unix_peers:
        try:
            is_there = name.startswith("@") or stat.S_ISSOCK(Path(name).stat().st_mode)
        except OSError:
            is_there = False
        if not is_there:
            yield fail(f"the task sends to the unix socket {name}, which is not there")
