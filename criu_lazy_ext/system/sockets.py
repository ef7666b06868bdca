"""Sockets of other processes: what they are, and who is at the other end of a unix one."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from criu_lazy_ext.system.net_namespace import within

T = TypeVar("T")

SYS_PIDFD_GETFD = 438
SO_PROTOCOL, SO_DOMAIN = 38, 39
NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY = 4, 20
NLM_F_REQUEST_DUMP, NLMSG_ERROR, NLMSG_DONE = 0x301, 2, 3
UDIAG_SHOW_NAME_PEER = 1 | 4
UNIX_DIAG_NAME, UNIX_DIAG_PEER = 0, 2
_HEADER, _MESSAGE, _ATTRIBUTE = struct.Struct("=IHHII"), struct.Struct("=BBBBI8x"), struct.Struct("=HH")


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
    found: dict[int, UnixSocket] = {}
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as diag:
        request = struct.pack("=BBHIIIII", socket.AF_UNIX, 0, 0, 0xFFFFFFFF, 0, UDIAG_SHOW_NAME_PEER, 0, 0)
        header = _HEADER.pack(_HEADER.size + len(request), SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST_DUMP, 1, 0)
        diag.send(header + request)
        while True:
            data = diag.recv(1 << 20)
            at = 0
            while at < len(data):
                length, kind, _, _, _ = _HEADER.unpack_from(data, at)
                if kind == NLMSG_DONE:
                    return found
                if kind == NLMSG_ERROR:
                    code = -struct.unpack_from("=i", data, at + _HEADER.size)[0]
                    raise OSError(code, os.strerror(code))
                item = _unix_socket(data[at + _HEADER.size : at + length])
                found[item.inode] = item
                at += (length + 3) & ~3


def _unix_socket(message: bytes) -> UnixSocket:
    _, kind, _, _, inode = _MESSAGE.unpack_from(message)
    name, peer, at = "", 0, _MESSAGE.size
    while at + _ATTRIBUTE.size <= len(message):
        length, attribute = _ATTRIBUTE.unpack_from(message, at)
        value = message[at + _ATTRIBUTE.size : at + length]
        if attribute == UNIX_DIAG_NAME:
            text = value.decode(errors="surrogateescape")
            name = "@" + text[1:] if text.startswith("\0") else text.rstrip("\0")
        elif attribute == UNIX_DIAG_PEER:
            peer = int(struct.unpack("=I", value)[0])
        at += max((length + 3) & ~3, _ATTRIBUTE.size)
    return UnixSocket(inode, kind, name, peer)


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
