"""The control socket of `criu-lazy page-server`: newline-delimited JSON on a unix stream socket.

Requests: {"op": one of OPS, "force": bool (optional), "rate": bytes per second (of op rate; 0: no limit)}.
Answers: {"ok": true, "state": ..., ...} or {"ok": false, "error": "one line"}.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from criu_lazy_ext.errors import CriuLazyError, UsageError

OPS = ("state", "running", "commit", "abort", "drop", "rate", "round", "cut", "precopied", "served")
MAX_REQUEST_BYTES = 4096
GUARDIAN_WITHIN_S = 2.0
COMMIT_UNDER_WAY = "a commit is under way: the source task is being given up"  # who wants to abort is told
LISTENS = "00010000"  # flags in /proc/net/unix

Answer = dict[str, Any]
Reply = Callable[[Answer], None]


@dataclass(frozen=True)
class Request:
    """What somebody asks for; `rate` in bytes per second."""

    op: str
    force: bool = False
    rate: int = 0


CONTROL_SOCKET = "page-server.sock"
MOST_PATH_BYTES = 107  # the kernel's limit, without the zero at the end


class ControlError(CriuLazyError):
    """The page server can't be reached on its control socket, or refused the request."""


class Refused(ControlError):
    """The page server answered that it won't, or can't."""


def request(
    path: Path | str, op: str, force: bool = False, timeout: float | None = 60.0, *, rate: int = 0
) -> Answer:
    """Ask the page server behind the control socket `path` to do `op`; returns its answer ("ok" is true).

    `commit` and `abort` are answered when the dump has ended, `round` and `precopied` when the store at the
    destination has confirmed, `served` when the dump is ready. Raises ControlError when nothing listens there, on
    a refusal (Refused, with the page server's own words), or after `timeout` seconds without an answer.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout)
            connection.connect(str(path))
            connection.sendall(json.dumps({"op": op, "force": force, "rate": rate}).encode() + b"\n")
            line = connection.makefile("rb").readline()
    except OSError as error:
        raise ControlError(f"page server at {path}: {op}: {error.strerror or error}") from error
    if not line.endswith(b"\n"):
        raise ControlError(f"page server at {path}: {op}: it ended without an answer")
    answer: Answer = json.loads(line)
    if not answer.get("ok"):
        raise Refused(f"page server at {path}: {op}: {answer.get('error')}")
    return answer


def listener_pid(control: Path | str) -> int:
    """The process that listens on the control socket, whether it answers or not; 0 if none does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(GUARDIAN_WITHIN_S)
        try:
            probe.connect(str(control))
            credentials = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        except BlockingIOError:  # its queue is full of those who gave up
            return _who_listens(str(control))
        except OSError:
            return 0
    return int(struct.unpack("3i", credentials)[0])


def _who_listens(path: str) -> int:
    """As /proc has it; 0: nobody."""
    lines = [line.split() for line in Path("/proc/net/unix").read_text(errors="replace").splitlines()]
    sockets = {f"socket:[{words[6]}]" for words in lines if words[3] == LISTENS and words[7:] == [path]}
    for entry in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if str(entry.readlink()) in sockets:
                return int(entry.parts[2])
    return 0


def refusal(text: str) -> Answer:
    """The answer to who asks for what can't be."""
    return {"ok": False, "error": text}


def guard_path(control: Path) -> Path:
    """The socket where the guardian of the page server behind `control` hands over."""
    return control.with_name(control.name + ".guard")


def check_path(directory: Path) -> None:
    """Raises UsageError if no page server could listen in a migration's directory, as its path is too long."""
    size = len(os.fsencode(guard_path(directory / CONTROL_SOCKET)))
    if size > MOST_PATH_BYTES:
        raise UsageError(
            f"{directory}: the path of a socket there has {size} bytes, and may have {MOST_PATH_BYTES}: let "
            "directories.source be a shorter one, or give the profile's file a shorter name"
        )


def network_path(control: Path) -> Path:
    """The file that tells of the service addresses that move, for the page server behind `control`."""
    return control.with_name(control.name + ".network")


def is_guarded(control: Path) -> bool:
    """Whether a dead page server's guardian holds on to the dump."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(GUARDIAN_WITHIN_S)
        try:
            probe.connect(str(guard_path(control)))
        except OSError:
            return False
    return True


def listen(path: Path) -> socket.socket:
    """A listening unix socket at `path`, mode 0600. Replaces a stale one; UsageError if it is in use."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            pass
        except OSError as error:
            raise UsageError(f"control socket {path}: {error.strerror or error}") from error
        else:
            raise UsageError(f"control socket {path}: a page server, or a dead one's guardian (--resume) has it")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        path.unlink(missing_ok=True)
        listener.bind(str(path))
        listener.listen(8)
    except OSError as error:
        listener.close()
        raise UsageError(f"control socket {path}: {error.strerror}") from error
    finally:
        os.umask(mask)
    return listener


class _Connection:
    """One client of the control socket; at most one of its requests is answered late at a time."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.received = b""

    def reply(self, answer: Answer) -> None:
        # An answer is far smaller than the socket's buffer; who doesn't read it has gone.
        with contextlib.suppress(OSError):
            self.sock.send(json.dumps(answer).encode() + b"\n", socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)


class ControlServer:
    """Serves the control socket from a selectors loop; `handle(request, reply)` replies once, now or later.

    `handle` may be another later on. Nothing happens but in the selector's loop.
    """

    def __init__(
        self,
        selector: selectors.BaseSelector,
        listener: socket.socket,
        handle: Callable[[Request, Reply], None],
    ) -> None:
        self._selector = selector
        self._listener = listener
        self.handle = handle
        self._connections: set[_Connection] = set()
        listener.setblocking(False)
        selector.register(listener, selectors.EVENT_READ, self._accept)

    def close(self) -> None:
        """Close the listener and every connection."""
        for connection in list(self._connections):
            self._drop(connection)
        self._selector.unregister(self._listener)
        self._listener.close()

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return
        sock.setblocking(False)
        connection = _Connection(sock)
        self._connections.add(connection)
        self._selector.register(sock, selectors.EVENT_READ, lambda: self._receive(connection))

    def _drop(self, connection: _Connection) -> None:
        self._connections.discard(connection)
        self._selector.unregister(connection.sock)
        connection.sock.close()

    def _receive(self, connection: _Connection) -> None:
        try:
            data = connection.sock.recv(MAX_REQUEST_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        connection.received += data
        while b"\n" in connection.received:
            line, connection.received = connection.received.split(b"\n", 1)
            self._request(line, connection.reply)
        if not data or len(connection.received) >= MAX_REQUEST_BYTES:
            self._drop(connection)

    def _request(self, line: bytes, reply: Reply) -> None:
        try:
            message = json.loads(line)
        except ValueError:
            message = None
        if not isinstance(message, dict) or message.get("op") not in OPS:
            reply(refusal(f'expected one JSON object with "op" one of {", ".join(OPS)}'))
        elif not isinstance(message.get("force", False), bool):
            reply(refusal('"force" must be true or false'))
        elif not isinstance(message.get("rate", 0), int) or not 0 <= message.get("rate", 0) < 1 << 63:
            reply(refusal('"rate" must be a number of bytes per second'))
        else:
            self.handle(Request(message["op"], message.get("force", False), message.get("rate", 0)), reply)
