"""The task's sockets, looked at once for all checks."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field

from criu_lazy_ext.checks.task import Descriptor, Task
from criu_lazy_ext.system.sockets import InetSocket, UnixSocket, take, unix_sockets, within_network_of

PREFIX = "socket:["
NONE = InetSocket(socket.AF_UNIX, 0, 0, 0, False, None, None)


@dataclass(frozen=True)
class Own:
    """One of the task's, by one of its descriptors."""

    descriptor: Descriptor
    socket: InetSocket = NONE
    unix_name: str = ""

    @property
    def which(self) -> str:
        """For a message."""
        return self.descriptor.which

    @property
    def ends(self) -> str:
        """As "10.0.0.1:80 - 10.0.0.2:4711"."""
        shown = [f"{end[0]}:{end[1]}" for end in (self.socket.local, self.socket.peer) if end is not None]
        return " - ".join(shown)


@dataclass
class Sockets:
    """`inet`: all that aren't unix sockets; `unix`: its own by their inodes; `all_unix`: all of its network."""

    inet: list[Own] = field(default_factory=list)
    unix: dict[int, Own] = field(default_factory=dict)
    all_unix: dict[int, UnixSocket] = field(default_factory=dict)

    @classmethod
    def of(cls, task: Task) -> Sockets:
        """Raises OSError if they can't be looked at."""
        sockets = cls()
        own = {item.target: item for item in task.descriptors() if item.target.startswith(PREFIX)}
        if own:
            sockets.all_unix = within_network_of(task.pid, unix_sockets)
        for target, descriptor in own.items():
            inode = int(target[len(PREFIX) : -1])
            if inode in sockets.all_unix:
                sockets.unix[inode] = Own(descriptor, unix_name=sockets.all_unix[inode].name)
            elif (looked := _look(descriptor)) is not None:
                sockets.inet.append(Own(descriptor, looked))
        return sockets

    def outside_peers(self) -> Iterator[tuple[Own, UnixSocket]]:
        """Those of the unix sockets that are connected to one which is not the task's."""
        for inode, own in self.unix.items():
            peer = self.all_unix[inode].peer
            if peer and peer not in self.unix and peer in self.all_unix:
                yield own, self.all_unix[peer]

    def outside_senders(self) -> Iterator[tuple[Own, UnixSocket]]:
        """Datagram sockets of the task's that others have connected to."""
        for sender in self.all_unix.values():
            own = self.unix.get(sender.peer)
            if own is not None and sender.inode not in self.unix and sender.kind == socket.SOCK_DGRAM:
                yield own, sender


def _look(descriptor: Descriptor) -> InetSocket | None:
    """None if it is closed meanwhile, or its process has ended."""
    try:
        handle = os.pidfd_open(descriptor.process)
    except ProcessLookupError:
        return None
    try:
        sock = take(handle, descriptor.number)
    finally:
        os.close(handle)
    if sock is None:
        return None
    with sock, contextlib.suppress(OSError):
        return InetSocket.of(sock)
    return None
