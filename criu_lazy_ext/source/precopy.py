"""The page server before the dump: rounds of pre-copy to a store at the destination (c_src/source/precopy_sender.h).

Its control socket meanwhile (docs/page-server.md): ops `round` and `precopied`, each answered when the store has
confirmed it; `cut`, which ends the round under way early; `served`, answered when the dump is ready; `state`, `rate`
and `abort`.
"""

from __future__ import annotations

import os
import selectors
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from criu_lazy_ext.errors import UsageError
from criu_lazy_ext.native.dump_proxy import Network, new_serve
from criu_lazy_ext.source.control import Answer, Reply, Request, refusal
from criu_lazy_ext.system.processes import tree

if TYPE_CHECKING:
    import socket

STORES = ("none", "connected", "lost", "complete")
MAX_THREADS = 2  # more only take CPU time from the task
ROUND_COUNTERS = ("scanned_pages", "unread_pages", "sent_pages", "zero_pages", "packed_pages", "sent_bytes")


class Precopy:
    """Owns the C side: the rounds, and the network as long as there is no dump."""

    def __init__(self, tree_pid: int, rate: int, log_fd: int, log_level: int) -> None:
        """Of the process `tree_pid` and all below it; `rate`, of the rounds, in bytes per second.

        UsageError where it can't be.
        """
        from criu_lazy_ext._engine import ffi, lib

        self._ffi, self._lib = ffi, lib
        self._tree_pid = tree_pid
        self._log = {"log_fd": log_fd, "log_level": log_level}
        self._rate = rate
        self.new_rate: int | None = None  # which somebody asked for: it holds after the rounds, too
        self.awaited: list[tuple[Request, Reply]] = []  # to be answered when the dump is ready
        self._text = ffi.new("char[]", 512)
        config = {**self._log, "nr_threads": min(MAX_THREADS, os.cpu_count() or 1), "rate": rate}
        config_p = ffi.new("struct cl_precopy_config *", config)
        self.handle = lib.cl_precopy_new(config_p, self._text, len(self._text))
        if self.handle == ffi.NULL:
            raise UsageError(ffi.string(self._text).decode())
        self._busy: threading.Thread | None = None
        self._done: tuple[Reply, Answer] | None = None
        self._over = False
        self._aborted: Reply | None = None

    def run(
        self, listener: socket.socket, network: Network, selector: selectors.BaseSelector, dump_fd: int
    ) -> Reply | None:
        """Serve until `dump_fd` becomes readable. Returns who asked to abort before, if somebody did.

        The requests of the control socket come by `handle`, from the selector, whose data are callables.
        """
        serve = new_serve(self._ffi.NULL, listener.dup(), network, precopy=self.handle, **self._log)
        self._wake, self._wake_writer = os.pipe2(os.O_CLOEXEC)
        selector.register(dump_fd, selectors.EVENT_READ, self._stop)
        selector.register(self._wake, selectors.EVENT_READ, self._finished)
        try:
            while not self._over:
                for key, _ in selector.select():
                    key.data()
        finally:
            self._lib.cl_precopy_stop(self.handle)
            if self._busy:
                self._finished()
            self._lib.cl_serve_free(serve)
            selector.unregister(dump_fd)
            selector.unregister(self._wake)
            os.close(self._wake)
            os.close(self._wake_writer)
        return self._aborted

    def close(self) -> None:
        """Forget what was sent. After everything that was given `handle`."""
        self._lib.cl_precopy_free(self.handle)

    def _stop(self) -> None:
        self._over = True

    def handle_request(self, request: Request, reply: Reply, port: int) -> None:
        """Do what somebody asks for at the control socket."""
        op = request.op
        if op in ("round", "precopied"):
            if self._busy:
                reply(refusal("a round is under way"))
                return
            work = self._round if op == "round" else self._finish
            self._busy = threading.Thread(target=self._work, args=(work, reply), name="pre-copy")
            self._busy.start()
            return
        if op in ("state", "rate", "cut"):
            if op == "cut":
                self._lib.cl_precopy_cut(self.handle)
            if op == "rate":
                self._rate = self.new_rate = request.rate
                self._lib.cl_precopy_set_rate(self.handle, request.rate)
            store = STORES[self._lib.cl_precopy_state(self.handle)]
            scanned = int(self._lib.cl_precopy_scanned(self.handle))
            reply(
                {"ok": True, "state": "pre-copy", "store": store, "rate": self._rate, "port": port,
                 "scanned_pages": scanned}
            )  # fmt: skip
        elif op == "served":
            self.awaited.append((request, reply))
        elif op == "abort":
            self._aborted = reply
            self._stop()
        else:
            reply(refusal("the dump is not ready yet"))

    def _work(self, work: Callable[[], Answer], reply: Reply) -> None:
        answer = refusal("it failed; the log tells why")
        try:
            answer = work()
        finally:
            self._done = reply, answer
            os.write(self._wake_writer, b"\0")

    def _finished(self) -> None:
        """The round, or the end, is over."""
        assert self._busy is not None
        self._busy.join()
        os.read(self._wake, 1)
        self._busy = None
        assert self._done is not None
        reply, answer = self._done
        reply(answer)

    def _error(self, text: Any) -> Answer:
        return refusal(self._ffi.string(text).decode())

    def _round(self) -> Answer:
        tasks = tree(self._tree_pid)
        ids, pids = (self._ffi.new("int32_t[]", list(numbers)) for numbers in (tasks, tasks.values()))
        info = self._ffi.new("struct cl_precopy_round *")
        text = self._ffi.new("char[]", 512)
        if self._lib.cl_precopy_round(self.handle, ids, pids, len(tasks), info, text, len(text)) < 0:
            return self._error(text)
        counters = {name: int(getattr(info, name)) for name in ROUND_COUNTERS}
        how = {"cut": bool(info.was_cut), "seconds": info.elapsed_us / 1e6}
        return {"ok": True, "round": int(info.number), **counters, **how}

    def _finish(self) -> Answer:
        text = self._ffi.new("char[]", 512)
        if self._lib.cl_precopy_finish(self.handle, text, len(text)) < 0:
            return self._error(text)
        return {"ok": True, "state": "pre-copy", "store": "complete"}
