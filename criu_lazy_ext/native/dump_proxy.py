"""The page server's C side for Python: c_src/source/dump_proxy.h, and c_src/source/listener.h before it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from criu_lazy_ext.errors import CriuLazyError

if TYPE_CHECKING:
    import socket

STATES = ("waiting", "serving", "paused", "drained", "committed", "aborted", "failed")
PUSH_COUNTERS = ("sessions", "streams", "asked_pages", "left_pages", "pushed_pages", "zero_pages", "packed_pages",
    "same_pages", "also_pages", "sent_bytes")  # fmt: skip


def describe_lost(pushed: Any) -> dict[str, Any]:
    """The first restored task that ended with pages missing, how, and what all such tasks miss, as the client says."""
    number = int(pushed.lost_signal)
    names = {known.value: known.name for known in signal.Signals}
    how = f"killed by {names.get(number, f'signal {number}')}" if number else "unknown"
    return {"pid": int(pushed.lost_task), "how": how, "missing_pages": int(pushed.lost_pages),
        "tasks": int(pushed.lost_tasks)}  # fmt: skip


class RelayError(CriuLazyError):
    """The network can't be served as it should."""


@dataclass(frozen=True)
class Network:
    """What clients are given, and how. `tls`: file names and the like by the names of struct cl_tls_config."""

    images_fd: int = -1  # -1: nobody is pushed to
    tasks: dict[int, int] = field(default_factory=dict)  # pid here, by the images' id
    speaks_tls: bool = False
    tls: dict[str, str] = field(default_factory=dict)
    gone: bool = False  # what was pushed to is to be served from the dump: tasks were killed
    rate: int = 0  # bytes per second; 0: no limit


def new_serve(
    relay: Any, listener: socket.socket, network: Network, *, precopy: Any, log_fd: int, log_level: int
) -> Any:
    """A cl_serve (c_src/source/listener.h) for this cl_relay, or NULL, and cl_precopy, or NULL.

    Takes the listener over. Raises RelayError.
    """
    from criu_lazy_ext._engine import ffi, lib

    ids = ffi.new("int32_t[]", list(network.tasks))
    pids = ffi.new("int32_t[]", list(network.tasks.values()))
    text = ffi.new("char[]", 512)
    texts = {name: ffi.new("char[]", os.fsencode(value)) for name, value in network.tls.items()}
    tls = ffi.new("struct cl_tls_config *", {**texts, "server": 1, "no_cn_verify": 1})
    config = {
        "listen_fd": listener.detach(),
        "log_fd": log_fd,
        "log_level": log_level,
        "images_fd": network.images_fd,
        "ids": ids,
        "pids": pids,
        "nr_tasks": len(network.tasks),
        "gone": network.gone,
        "tls": tls if network.speaks_tls else ffi.NULL,
        "rate": network.rate,
        "precopy": precopy,
    }
    serve = lib.cl_serve_new(relay, ffi.new("struct cl_serve_config *", config), text, len(text))
    if serve == ffi.NULL:
        raise RelayError(ffi.string(text).decode())
    return serve


class Relay:
    """The C relay (source/dump_proxy.h), in a thread of its own, and the network before it (source/listener.h).

    Commands come from any thread.
    """

    def __init__(self, handle: Any) -> None:
        """`handle`: of a cl_relay, owned."""
        from criu_lazy_ext._engine import ffi, lib

        self._ffi, self._lib, self._handle = ffi, lib, handle
        self._serve: Any = None
        self.ended_fd, self._end_fd = os.pipe2(os.O_CLOEXEC)
        self._result = 0
        self._thread = self._thread_for(lambda: self._lib.cl_relay_run(self._handle))

    def _thread_for(self, run: Callable[[], int]) -> threading.Thread:
        def work() -> None:
            self._result = run()
            os.write(self._end_fd, b"\0")

        return threading.Thread(target=work, name="relay", daemon=True)

    def set_tasks(self, ids: list[int]) -> None:
        """Only these tasks may be asked for, by their pids in the images; none: any. Before `start`."""
        if self._lib.cl_relay_set_tasks(self._handle, self._ffi.new("uint64_t[]", ids), len(ids)) < 0:
            raise MemoryError

    def start(self) -> None:
        """Start serving; `ended_fd` becomes readable when it has ended: see `take_end`."""
        self._thread.start()

    def take_end(self) -> int:
        """How it has ended: what cl_relay_run or cl_relay_run_alone returned."""
        os.read(self.ended_fd, 1)
        self._thread.join()
        return self._result

    def run_alone(self, held: bool) -> None:
        """Go on without the dump, which is dead, if the source task is `held` all the same; after -EOWNERDEAD.

        If pages are missing, only those that are pushed to can be served so. Another end follows: see `take_end`.
        """
        if held and not self.is_drained():
            held = self._lib.cl_serve_stand_alone(self._serve) == 0
        self._thread = self._thread_for(lambda: self._lib.cl_relay_run_alone(self._handle, held))
        self._thread.start()

    def end_alone(self, state: str) -> None:
        """Without a dump: the source task was killed ("committed"), let run on ("aborted"), or neither ("failed")."""
        self._lib.cl_relay_end_alone(self._handle, STATES.index(state))

    def lose_source(self) -> None:
        """Without a dump: the source task can't be read any more."""
        self._lib.cl_relay_source_lost(self._handle)

    def is_drained(self) -> bool:
        """Whether the client has said that it has every page."""
        return str(self.state()["state"]) == "drained"

    def serve(
        self, listener: socket.socket, network: Network, log_fd: int, log_level: int, precopy: Any = None
    ) -> None:
        """Listen for clients from now on. Takes the listener over. Raises RelayError; `close` is due then, too.

        `precopy`: a cl_precopy, whose store need not be sent what it has; outlives this.
        """
        precopy = self._ffi.NULL if precopy is None else precopy
        self._serve = new_serve(self._handle, listener, network, precopy=precopy, log_fd=log_fd, log_level=log_level)

    def close(self) -> None:
        """Wait for the end and free everything. Unless committed or rolled back, the guardian takes over."""
        if self._thread.ident is not None:
            self._thread.join()
        if self._serve is not None:
            self._lib.cl_serve_free(self._serve)
        self._lib.cl_relay_free(self._handle)
        os.close(self.ended_fd)
        os.close(self._end_fd)

    def state(self) -> dict[str, Any]:
        """The counters and the state, as the control socket gives them."""
        info = self._ffi.new("struct cl_relay_info *")
        self._lib.cl_relay_info(self._handle, info)
        pushed = self._ffi.new("struct cl_serve_info *")
        self._lib.cl_serve_info(self._serve, pushed)
        return {
            "state": STATES[info.state],
            "task_running": bool(info.running),
            "held": bool(info.held),
            "without_dump": bool(info.alone),
            "client": self._ffi.string(info.client).decode() or None,
            "silent_ms": int(info.silent_ms),
            "clients": int(info.clients),
            "requests": int(info.requests),
            "bytes": int(info.bytes) + int(pushed.sent_bytes),
            "discarded_bytes": int(info.discarded_bytes),
            "wire_version": int(info.wire_version),
            "push": {name: int(getattr(pushed, name)) for name in PUSH_COUNTERS},
            "rate": int(pushed.rate),
            "lost": describe_lost(pushed) if pushed.lost_tasks else None,
        }

    def error(self) -> str:
        """What went wrong, one line; to be read after the end."""
        return str(self._ffi.string(self._lib.cl_relay_error(self._handle)).decode())

    def is_running(self) -> bool:
        """Whether the restored task was said to run."""
        info = self._ffi.new("struct cl_relay_info *")
        self._lib.cl_relay_info(self._handle, info)
        return bool(info.running)

    def set_running(self, running: bool = True) -> None:
        """The restored task runs at the destination, or is known not to, after all."""
        self._lib.cl_relay_set_running(self._handle, running)

    def commit(self, force: bool) -> bool:
        """Ask to end the dump with success; False if not every page has arrived."""
        return bool(self._lib.cl_relay_commit(self._handle, force) == 0)

    def abort(self, force: bool) -> bool:
        """Ask to roll back; False if the restored task runs."""
        return bool(self._lib.cl_relay_abort(self._handle, force) == 0)

    def drop_client(self) -> None:
        """Close the client's connections, as if they had been lost."""
        self._lib.cl_relay_drop_client(self._handle)
        self._lib.cl_serve_drop_client(self._serve)

    def set_rate(self, rate: int) -> None:
        """Pages may take so many bytes per second from now on; 0: no limit."""
        self._lib.cl_serve_set_rate(self._serve, rate)
