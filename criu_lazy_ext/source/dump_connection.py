"""The page server's connection to the dump: to one that listens, or that which a dead page server's guardian holds."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import time
from pathlib import Path

from criu_lazy_ext.errors import CriuLazyError
from criu_lazy_ext.native.dump_proxy import ROLL_BACK
from criu_lazy_ext.source import control_socket

TAKEOVER_TIMEOUT_SECONDS = 10
RETRY_SECONDS = 0.0005
ACCEPTED_WITHIN_SECONDS = 2.0


class PageServerError(CriuLazyError):
    """The page server could not start, or the dump behind it was lost."""


def connect(upstream: tuple[str, int], timeout_seconds: float, wakeup: socket.socket) -> socket.socket:
    """The one connection to the dump that listens there. Raises PageServerError, also when `wakeup` has something."""
    connection = _connect(upstream, timeout_seconds, wakeup)
    if not _peer_is_ours(connection):
        # Should it be the dump's after all, this is no end of its connection, but a roll back.
        with contextlib.suppress(OSError):
            connection.sendall(ROLL_BACK)
        connection.close()
        host, port = upstream
        raise PageServerError(f"what listens on {host} port {port} is another user's, not our dump")
    return connection


def _peer_is_ours(connection: socket.socket) -> bool:
    """Whether a process of our user accepted it; True for one on another host, of which nothing is known."""
    here, there = connection.getsockname()[:2], connection.getpeername()[:2]
    if here[0] != there[0]:
        return True
    family = {socket.AF_INET: "tcp", socket.AF_INET6: "tcp6"}[connection.family]
    deadline = time.monotonic() + ACCEPTED_WITHIN_SECONDS
    while time.monotonic() < deadline:
        for line in Path(f"/proc/self/net/{family}").read_text().splitlines()[1:]:
            fields = line.split()
            ports = [int(fields[i].rpartition(":")[2], 16) for i in (1, 2)]
            if ports == [there[1], here[1]] and fields[9] != "0":  # with an inode, so accepted
                return int(fields[7]) == os.geteuid()
        time.sleep(RETRY_SECONDS)
    return False


def _connect(upstream: tuple[str, int], timeout_seconds: float, wakeup: socket.socket) -> socket.socket:
    """Connect to the dump. It may not listen yet; and whoever connects first has it."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        try:
            connection = socket.create_connection(upstream, timeout=max(0.1, deadline - time.monotonic()))
        except ConnectionRefusedError as error:
            if time.monotonic() > deadline:
                raise PageServerError(f"no lazy dump listens on {upstream[0]}:{upstream[1]}") from error
        except OSError as error:
            reason = error.strerror or error
            raise PageServerError(f"lazy dump at {upstream[0]}:{upstream[1]}: {reason}") from error
        else:
            connection.settimeout(None)
            return connection
        wakeup.settimeout(RETRY_SECONDS)
        try:
            wakeup.recv(1)
            raise PageServerError("stopped before it was connected to the dump; nothing was touched")
        except TimeoutError:
            pass


def take_over(control: Path) -> socket.socket:
    """The lifeline to the guardian which a dead page server left behind."""
    lifeline = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    lifeline.settimeout(TAKEOVER_TIMEOUT_SECONDS)
    try:
        lifeline.connect(str(control_socket.guard_path(control)))
    except OSError as error:
        lifeline.close()
        raise PageServerError(
            f"nothing to resume behind {control}: {error.strerror}; if the restored task did not run yet, "
            "the dump was rolled back and the source task runs on"
        ) from error
    # The C side reads what the guardian hands over, within this time.
    lifeline.setblocking(True)
    lifeline.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", TAKEOVER_TIMEOUT_SECONDS, 0))
    return lifeline
