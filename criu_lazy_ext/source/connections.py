"""The TCP connections of a task that is about to be dumped: whether it has any, and whether some are still being made.

criu can't dump a connection that a listening socket has and that nobody has accepted. One that is still being made when
the task is frozen would be completed by the kernel, and then known to nobody.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from criu_lazy_ext.system.net_namespace import within
from criu_lazy_ext.system.processes import tree
from criu_lazy_ext.system.tcp_sockets import TcpSocket, TcpState, tcp_sockets

NO_CONNECTION = {TcpState.CLOSED, TcpState.TIME_WAIT}


class Connections:
    """Those of a task, all of whose sockets are known from when this is made."""

    def __init__(self, pid: int) -> None:
        self._namespaces: dict[int, int] = {}  # descriptors, by inode
        self._inodes: set[int] = set()
        for process in tree(pid).values():
            with contextlib.suppress(OSError):  # it has ended
                self._take(process)

    def _take(self, process: int) -> None:
        names = map(_target, Path(f"/proc/{process}/fd").iterdir())
        found = {int(name[8:-1]) for name in names if name.startswith("socket:[")}
        self._inodes |= found
        namespace = os.open(f"/proc/{process}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        inode = os.fstat(namespace).st_ino
        if found and inode not in self._namespaces:
            self._namespaces[inode] = namespace
        else:
            os.close(namespace)

    def close(self) -> None:
        """Give the descriptors back."""
        for namespace in self._namespaces.values():
            os.close(namespace)
        self._namespaces.clear()

    def exist(self) -> bool:
        """Whether the task has any that criu would have to move, or listens for some. Raises OSError."""
        states = set(TcpState) - NO_CONNECTION
        return any(sock.inode in self._inodes for sockets in self._look(states) for sock in sockets)

    def are_being_made(self) -> bool:
        """Whether a listening socket of the task has one that nobody has accepted, or that is not complete. Raises
        OSError."""
        for sockets in self._look({TcpState.LISTENING, TcpState.SYN_RECEIVED}):
            listening = [sock for sock in sockets if sock.state is TcpState.LISTENING and sock.inode in self._inodes]
            ports = {sock.local[1] for sock in listening}
            half_open = (sock for sock in sockets if sock.state is TcpState.SYN_RECEIVED and sock.local[1] in ports)
            if any(sock.waiting for sock in listening) or any(half_open):
                return True
        return False

    def _look(self, states: set[TcpState]) -> list[list[TcpSocket]]:
        """In each of the task's network namespaces."""
        return [within(fd, lambda _: tcp_sockets(states)) for fd in self._namespaces.values()]


def _target(entry: Path) -> str:
    try:
        return str(entry.readlink())
    except OSError:  # closed meanwhile
        return ""
