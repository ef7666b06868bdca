"""Sockets of other processes: what they are, and who is at the other end of a unix one."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import socket
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from criu_lazy_ext.system.net_namespace import within
from criu_lazy_ext.system.netlink import BY_FAMILY, SOCK_DIAG, Netlink, attributes

T = TypeVar("T")

SYS_PIDFD_GETFD = 438
SO_PROTOCOL, SO_DOMAIN = 38, 39
SHOW_NAME, SHOW_PEER = 1, 4
NAME, PEER = 0, 2  # attributes of a unix socket
_UNIX_REQUEST = struct.Struct("=BB2xIII8x")  # family, protocol, states, inode, what to show
_UNIX_ANSWER = struct.Struct("=BBBBI8x")  # family, type, state, padding, inode


def take(task: int, fd: int) -> socket.socket | None:
    """A descriptor of ours of another process's socket, by its pidfd; None: it is closed. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    taken = libc.syscall(SYS_PIDFD_GETFD, task, fd, 0)
    if taken < 0 and ctypes.get_errno() == errno.EBADF:
        return None
    if taken < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return socket.socket(fileno=taken)


def within_network_of(pid: int, action: Callable[[], T]) -> T:
    """Call `action` in the network namespace of a process. Raises what it raises, OSError."""
    with Path(f"/proc/{pid}/ns/net").open("rb") as namespace:
        return within(namespace.fileno(), lambda _: action())


@dataclass(frozen=True)
class UnixSocket:
    """One of the kernel's: `peer` is the inode that it is connected to, 0 if to none."""

    inode: int
    kind: int  # socket.SOCK_STREAM, ...
    name: str  # a path; "@..." is an abstract one; "" has none
    peer: int


def unix_sockets() -> dict[int, UnixSocket]:
    """All of this thread's network namespace, by inode. Raises OSError."""
    request = _UNIX_REQUEST.pack(socket.AF_UNIX, 0, 0xFFFFFFFF, 0, SHOW_NAME | SHOW_PEER)
    with Netlink(SOCK_DIAG) as netlink:
        found = [_unix_socket(body) for body in netlink.dump(BY_FAMILY, request)]
    return {item.inode: item for item in found}


def _unix_socket(body: bytes) -> UnixSocket:
    _, kind, _, _, inode = _UNIX_ANSWER.unpack_from(body)
    told = attributes(body[_UNIX_ANSWER.size :])
    text = told.get(NAME, b"").decode(errors="surrogateescape")
    name = "@" + text[1:] if text.startswith("\0") else text.rstrip("\0")
    return UnixSocket(inode, kind, name, int.from_bytes(told.get(PEER, b""), sys.byteorder))


@dataclass(frozen=True)
class InetSocket:
    """An open one that isn't a unix socket. Addresses are (host, port), or None."""

    family: int
    kind: int
    protocol: int
    state: int  # of TCP, as in the kernel's TCP_INFO; 0
    listens: bool
    local: tuple[str, int] | None
    peer: tuple[str, int] | None

    @classmethod
    def of(cls, sock: socket.socket) -> InetSocket:
        """Look at it."""
        family = sock.getsockopt(socket.SOL_SOCKET, SO_DOMAIN)
        protocol = sock.getsockopt(socket.SOL_SOCKET, SO_PROTOCOL)
        is_inet = family in (socket.AF_INET, socket.AF_INET6)
        state, listens = 0, False
        if is_inet and sock.type == socket.SOCK_STREAM:
            listens = bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
            if protocol == socket.IPPROTO_TCP:
                state = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
        local = peer = None
        if is_inet:
            local = _address(sock.getsockname())
            with contextlib.suppress(OSError):
                peer = _address(sock.getpeername())
        return cls(family, sock.type, protocol, state, listens, local, peer)


def _address(name: tuple[str, int]) -> tuple[str, int]:
    return name[0].partition("%")[0].removeprefix("::ffff:"), name[1]
