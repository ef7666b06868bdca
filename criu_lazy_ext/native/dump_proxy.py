"""The page server's C side (cl_dump_proxy, and cl_listener before it), as two classes."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from criu_lazy_ext.errors import CriuLazyError
from criu_lazy_ext.native.library import TlsConfig, enum_words, ffi, lib, new_error, text

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from criu_lazy_ext._engine import cl_dump_proxy
    from criu_lazy_ext.native.precopy import PrecopySender

STATES = enum_words("cl_dump_proxy_state", "CL_DUMP_PROXY_")
ROLL_BACK = bytes([lib.CL_ROLL_BACK_BYTE]) * lib.CL_ROLL_BACK_BYTES


def describe_lost(counters: dict[str, int]) -> dict[str, int | str]:
    """The first restored task that ended with pages missing, how, and what all such tasks miss, as the client says."""
    number = counters["lost_signal"]
    names = {known.value: known.name for known in signal.Signals}
    how = f"killed by {names.get(number, f'signal {number}')}" if number else "unknown"
    return {"pid": counters["lost_task"], "how": how, "missing_pages": counters["lost_pages"],
        "tasks": counters["lost_tasks"]}  # fmt: skip


class DumpProxyError(CriuLazyError):
    """The network can't be served as it should."""


@dataclass(frozen=True)
class Network:
    """What clients are given, and how. `tls`: file names and the like by the names of struct cl_tls_config."""

    images_fd: int = -1  # -1: no push clients
    tasks: dict[int, int] = field(default_factory=dict)  # pid here, by the images' id
    speaks_tls: bool = False
    tls: dict[str, str] = field(default_factory=dict)
    gone: bool = False  # tasks were killed: who was a push client is served from the dump
    rate: int = 0  # bytes per second; 0: no limit


class Listener:
    """The network before a proxy, or, without one, for a store alone."""

    def __init__(
        self,
        proxy: DumpProxy | None,
        listener: socket.socket,
        network: Network,
        precopy: PrecopySender | None,
        *,
        log_fd: int,
        log_level: int,
    ) -> None:
        """Listen from now on, in threads of its own. Takes the socket over. Raises DumpProxyError.

        `precopy`: its store need not be sent what it has; outlives this, as the proxy does.
        """
        tls = TlsConfig(network.tls, server=True, no_cn_verify=True)
        config = ffi.new("struct cl_listener_config *")
        config.listen_fd = listener.detach()
        config.log_fd = log_fd
        config.log_level = log_level
        config.images_fd = network.images_fd
        config.ids = ids = ffi.new("int32_t[]", list(network.tasks))
        config.pids = pids = ffi.new("int32_t[]", list(network.tasks.values()))
        config.nr_tasks = len(network.tasks)
        config.gone = network.gone
        config.tls = tls.struct if network.speaks_tls else ffi.NULL
        config.rate = network.rate
        config.precopy = precopy.handle if precopy else ffi.NULL
        problem = new_error()
        handle = lib.cl_listener_new(proxy.handle if proxy else ffi.NULL, config, problem)
        del ids, pids  # copied
        if not handle:
            raise DumpProxyError(text(problem.text))
        self._handle = handle

    def close(self) -> None:
        """Close all connections; nothing may be called after it."""
        lib.cl_listener_free(self._handle)

    def drop_client(self) -> None:
        """End the session of a push client, as if it had been lost."""
        lib.cl_listener_drop_client(self._handle)

    def stand_alone(self) -> bool:
        """The dump has died: the tasks' stop signal holds them from now on. False: nobody can be served then."""
        return lib.cl_listener_stand_alone(self._handle) == 0

    def set_rate(self, rate: int) -> None:
        """Pages may take so many bytes per second from now on; 0: no limit."""
        lib.cl_listener_set_rate(self._handle, rate)

    def counters(self) -> dict[str, int]:
        """The fields of struct cl_listener_info."""
        info = ffi.new("struct cl_listener_info *")
        lib.cl_listener_info(self._handle, info)
        return {name: getattr(info, name) for name, _ in ffi.typeof("struct cl_listener_info").fields}


@dataclass(frozen=True)
class DumpProxyOptions:
    """What a proxy is to do, by the names of struct cl_dump_proxy_config."""

    takeover_fd: int = -1
    resume: Sequence[str] = ()
    log_fd: int = -1
    log_level: int = 0
    wire_version: int = 0
    hold_close: bool = False
    max_request_pages: int = 0


class DumpProxy:
    """The connection to the dump, served in a thread of its own, and the network before it.

    Commands come from any thread.
    """

    def __init__(self, options: DumpProxyOptions, *, upstream_fd: int = -1, lifeline_fd: int = -1) -> None:
        """On a connection to the dump, in a process with one thread, as the guardian is forked; or on a guardian's.

        Takes the descriptor over. Raises DumpProxyError; then the dump was rolled back, or the guardian holds on.
        """
        words = [ffi.new("char[]", os.fsencode(word)) for word in options.resume]
        argv = ffi.new("char *[]", [*words, ffi.NULL])
        config = ffi.new("struct cl_dump_proxy_config *")
        config.upstream_fd = upstream_fd
        config.takeover_fd = options.takeover_fd
        config.resume = argv if words else ffi.NULL
        config.log_fd = options.log_fd
        config.log_level = options.log_level
        config.wire_version = options.wire_version
        config.hold_close = options.hold_close
        config.max_request_pages = options.max_request_pages
        self._error = new_error()
        if lifeline_fd >= 0:
            handle = lib.cl_dump_proxy_resume(config, lifeline_fd, self._error)
        else:
            handle = lib.cl_dump_proxy_new(config, self._error)
        if not handle:
            raise DumpProxyError(self.error())
        self.handle: cl_dump_proxy = handle
        self._listener: Listener | None = None
        self.ended_fd, self._end_fd = os.pipe2(os.O_CLOEXEC)
        self._result = 0
        self._thread = self._thread_for(lambda: lib.cl_dump_proxy_run(self.handle, self._error))

    def _thread_for(self, run: Callable[[], int]) -> threading.Thread:
        def work() -> None:
            self._result = run()
            os.write(self._end_fd, b"\0")

        return threading.Thread(target=work, name="dump-proxy", daemon=True)

    def set_tasks(self, ids: list[int]) -> None:
        """Only these tasks may be asked for, by their pids in the images; none: any. Before `start`."""
        if lib.cl_dump_proxy_set_tasks(self.handle, ffi.new("uint64_t[]", ids), len(ids)) < 0:
            raise MemoryError

    def start(self) -> None:
        """Start serving; `ended_fd` becomes readable when it has ended: see `take_end`."""
        self._thread.start()

    def take_end(self) -> int:
        """How it has ended: what cl_dump_proxy_run or cl_dump_proxy_run_alone returned."""
        os.read(self.ended_fd, 1)
        self._thread.join()
        return self._result

    def run_alone(self, held: bool) -> None:
        """Go on without the dump, which is dead, if the source task is `held` all the same; after -EOWNERDEAD.

        If pages are missing, only push clients can be served so. Another end follows: see `take_end`.
        """
        if held and not self.is_drained():
            held = self._serving().stand_alone()
        self._error = new_error()
        self._thread = self._thread_for(lambda: lib.cl_dump_proxy_run_alone(self.handle, held, self._error))
        self._thread.start()

    def end_alone(self, state: str) -> None:
        """Without a dump: the source task was killed ("committed"), resumed ("aborted"), or neither ("failed")."""
        value = next(value for value, word in STATES.items() if word == state)
        lib.cl_dump_proxy_end_alone(self.handle, value, self._error)

    def lose_source(self, why: str) -> None:
        """Without a dump: the source task can't be read any more; `why` begins a line of the log, once."""
        lib.cl_dump_proxy_source_lost(self.handle, ffi.new("char[]", why.encode()))

    def is_drained(self) -> bool:
        """Whether the client has said that it has every page."""
        return str(self.state()["state"]) == "drained"

    def serve(
        self,
        listener: socket.socket,
        network: Network,
        precopy: PrecopySender | None = None,
        *,
        log_fd: int,
        log_level: int,
    ) -> None:
        """Listen for clients from now on, as Listener does. Raises DumpProxyError; `close` is due then, too."""
        self._listener = Listener(self, listener, network, precopy, log_fd=log_fd, log_level=log_level)

    def close(self) -> None:
        """Wait for the end and free everything. Unless committed or rolled back, the guardian takes over."""
        if self._thread.ident is not None:
            self._thread.join()
        if self._listener is not None:
            self._listener.close()
        lib.cl_dump_proxy_free(self.handle)
        os.close(self.ended_fd)
        os.close(self._end_fd)

    def state(self) -> dict[str, Any]:
        """The counters and the state, as the control socket gives them. After `serve`."""
        info = ffi.new("struct cl_dump_proxy_info *")
        lib.cl_dump_proxy_info(self.handle, info)
        counters = self._serving().counters()
        pushed = {name: value for name, value in counters.items() if name != "rate" and not name.startswith("lost_")}
        return {
            "state": STATES[info.state],
            "task_running": bool(info.running),
            "held": bool(info.held),
            "without_dump": bool(info.alone),
            "client": text(info.client) or None,
            "silent_ms": info.silent_ms,
            "clients": info.clients,
            "requests": info.requests,
            "bytes": info.bytes + pushed["sent_bytes"],
            "discarded_bytes": info.discarded_bytes,
            "wire_version": info.wire_version,
            "push": pushed,
            "rate": counters["rate"],
            "lost": describe_lost(counters) if counters["lost_tasks"] else None,
        }

    def _serving(self) -> Listener:
        assert self._listener is not None
        return self._listener

    def error(self) -> str:
        """What went wrong, one line, or "" if nothing did; to be read after the end."""
        return text(self._error.text)

    def is_running(self) -> bool:
        """Whether the restored task was said to run."""
        info = ffi.new("struct cl_dump_proxy_info *")
        lib.cl_dump_proxy_info(self.handle, info)
        return bool(info.running)

    def set_running(self, running: bool = True) -> None:
        """The restored task runs at the destination, or is known not to, after all."""
        lib.cl_dump_proxy_set_running(self.handle, running)

    def commit(self, force: bool) -> bool:
        """Ask to end the dump with success; False if not every page has arrived."""
        return lib.cl_dump_proxy_commit(self.handle, force) == 0

    def abort(self, force: bool) -> bool:
        """Ask to roll back; False if the restored task runs."""
        return lib.cl_dump_proxy_abort(self.handle, force) == 0

    def drop_client(self) -> None:
        """Close the client's connections, as if they had been lost."""
        lib.cl_dump_proxy_drop_client(self.handle)
        self._serving().drop_client()

    def set_rate(self, rate: int) -> None:
        """Pages may take so many bytes per second from now on; 0: no limit."""
        self._serving().set_rate(rate)
