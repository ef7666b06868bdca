"""The page server before the dump: rounds of pre-copy to a store at the destination.

Its control socket meanwhile (docs/page-server.md): ops `round` and `precopied`, each answered when the store has
confirmed it; `cut`, which ends the round under way early; `served`, answered when the dump is ready; `state`, `rate`
and `abort`.
"""

from __future__ import annotations

import os
import selectors
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from criu_lazy_ext.errors import UsageError
from criu_lazy_ext.native.dump_proxy import Listener, Network
from criu_lazy_ext.native.precopy import PrecopyError, PrecopySender
from criu_lazy_ext.source.control_socket import Answer, Reply, Request, refusal
from criu_lazy_ext.system.processes import tree

if TYPE_CHECKING:
    import socket

MAX_THREADS = 2  # more only take CPU time from the task


class Precopy:
    """The rounds, and the network as long as there is no dump."""

    def __init__(self, tree_pid: int, rate: int, log_fd: int, log_level: int) -> None:
        """Of the process `tree_pid` and all below it; `rate`, of the rounds, in bytes per second.

        UsageError where it can't be.
        """
        self._tree_pid = tree_pid
        self._log_fd, self._log_level = log_fd, log_level
        self._rate = rate
        self.new_rate: int | None = None  # which somebody asked for: it holds after the rounds, too
        self.awaited: list[tuple[Request, Reply]] = []  # to be answered when the dump is ready
        threads = min(MAX_THREADS, os.cpu_count() or 1)
        try:
            self.sender = PrecopySender(threads, rate, log_fd=log_fd, log_level=log_level)
        except PrecopyError as error:
            raise UsageError(str(error)) from error
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
        serving = Listener(
            None, listener.dup(), network, self.sender, log_fd=self._log_fd, log_level=self._log_level
        )
        self._wake, self._wake_writer = os.pipe2(os.O_CLOEXEC)
        selector.register(dump_fd, selectors.EVENT_READ, self._stop)
        selector.register(self._wake, selectors.EVENT_READ, self._finished)
        try:
            while not self._over:
                for key, _ in selector.select():
                    key.data()
        finally:
            self.sender.stop()
            if self._busy:
                self._finished()
            serving.close()
            selector.unregister(dump_fd)
            selector.unregister(self._wake)
            os.close(self._wake)
            os.close(self._wake_writer)
        return self._aborted

    def close(self) -> None:
        """Forget what was sent. After everything that was given `sender`."""
        self.sender.close()

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
                self.sender.cut()
            if op == "rate":
                self._rate = self.new_rate = request.rate
                self.sender.set_rate(request.rate)
            reply(
                {"ok": True, "state": "pre-copy", "store": self.sender.state(), "rate": self._rate, "port": port,
                 **self.sender.under_way()}
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
        except PrecopyError as error:
            answer = refusal(str(error))
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

    def _round(self) -> Answer:
        found = self.sender.round(tree(self._tree_pid))
        number, cut, elapsed_us = found.pop("number"), found.pop("was_cut"), found.pop("elapsed_us")
        return {"ok": True, "round": number, **found, "cut": cut, "seconds": elapsed_us / 1e6}

    def _finish(self) -> Answer:
        self.sender.finish()
        return {"ok": True, "state": "pre-copy", "store": "complete"}
