"""SIGTERM, SIGINT and SIGHUP as something to wait for, beside descriptors."""

from __future__ import annotations

import os
import select
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType


class Stopped(Exception):
    """A signal asked us to end."""


class StopSignals:
    """SIGTERM, SIGINT, SIGHUP as something to wait for."""

    SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

    def __init__(self) -> None:
        self.received = 0  # the signal's number, once one came
        self._came, self._tell = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._armed = False
        self._before: dict[int, object] = {}

    def catch(self) -> None:
        """From now on these signals end waits instead of the process. SIGHUP stays ignored under nohup."""
        for number in self.SIGNALS:
            before = signal.getsignal(number)
            if before is not signal.SIG_IGN:
                self._before[number] = before
                signal.signal(number, self._on_signal)
        self._armed = True

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if not self.received:
            self.received = number
            os.write(self._tell, b"\0")

    def ready(self, fd: int, events: int, timeout_ms: int | None) -> bool:
        """Wait until `fd` has one of poll(2)'s `events` (or an error): True; False after the timeout.

        Raises Stopped when a signal came.
        """
        poll = select.poll()
        poll.register(fd, events)
        if self._armed:
            poll.register(self._came, select.POLLIN)
        found = {ready for ready, _ in poll.poll(timeout_ms)}
        if self._came in found:
            raise Stopped
        return fd in found

    def wait(self, fd: int, events: int) -> None:
        """Like ready(), for ever."""
        self.ready(fd, events, None)

    def pause(self, seconds: float) -> None:
        """Sleep; raises Stopped when a signal came."""
        poll = select.poll()
        if self._armed:
            poll.register(self._came, select.POLLIN)
        if poll.poll(seconds * 1000):
            raise Stopped

    def check(self) -> None:
        """Raises Stopped when a signal came."""
        if self._armed and self.received:
            raise Stopped

    def disarm(self) -> None:
        """The signal was handled: waits no longer end by it, and the next signal ends the process."""
        self._armed = False
        for number in self._before:
            signal.signal(number, signal.SIG_DFL)

    def die(self) -> None:
        """End the process by the signal received, so that its parent sees what it would see of criu."""
        signal.signal(self.received, signal.SIG_DFL)
        os.kill(os.getpid(), self.received)

    def close(self) -> None:
        """Put the handlers back that were there before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        os.close(self._came)
        os.close(self._tell)
