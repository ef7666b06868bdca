"""TCP sockets of a network namespace, as the kernel's sock_diag tells of them. Raises OSError."""

from __future__ import annotations

import enum
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass

from criu_lazy_ext.system.netlink import BY_FAMILY, SOCK_DIAG, Netlink

DESTROY = 21
_REQUEST = struct.Struct("=BBBBI")  # family, protocol, extensions, padding, states
_ANSWER = struct.Struct("=BBBB48sIIIII")  # family, state, timer, retransmits, id, expires, queues, uid, inode
ADDRESS_BYTES = 16


class TcpState(enum.IntEnum):
    """The kernel's numbers."""

    ESTABLISHED = 1
    SYN_SENT = 2
    SYN_RECEIVED = 3
    FIN_WAIT1 = 4
    FIN_WAIT2 = 5
    TIME_WAIT = 6
    CLOSED = 7
    CLOSE_WAIT = 8
    LAST_ACK = 9
    LISTENING = 10
    CLOSING = 11


@dataclass(frozen=True)
class TcpSocket:
    """`waiting`: of a listening one, how many connections nobody has accepted; `inode` 0: no process has it."""

    family: int
    state: TcpState
    local: tuple[str, int]
    waiting: int
    inode: int
    id: bytes


def tcp_sockets(states: Iterable[TcpState]) -> list[TcpSocket]:
    """All in one of the states, in the network namespace of the calling thread."""
    bits = sum(1 << state for state in states)
    found = []
    for family in (socket.AF_INET, socket.AF_INET6):
        with Netlink(SOCK_DIAG) as netlink:
            for body in netlink.dump(BY_FAMILY, _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0, bits) + bytes(48)):
                found.append(_parse(body))
    return found


def destroy(sock: TcpSocket) -> None:
    """End it as if it never was; its process, if it has one, gets an error."""
    with Netlink(SOCK_DIAG) as netlink:
        request = _REQUEST.pack(sock.family, socket.IPPROTO_TCP, 0, 0, 1 << sock.state)
        netlink.request(DESTROY, 0, request + sock.id)


def _parse(body: bytes) -> TcpSocket:
    family, state, _, _, number, _, received, _, _, inode = _ANSWER.unpack_from(body)
    port = struct.unpack_from("!H", number)[0]
    length = 4 if family == socket.AF_INET else ADDRESS_BYTES
    address = socket.inet_ntop(family, number[4 : 4 + length])
    return TcpSocket(family, TcpState(state), (address, port), received, inode, number)
