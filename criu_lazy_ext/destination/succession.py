"""When a lazy-pages daemon that was killed is succeeded by another, and how soon."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

from criu_lazy_ext.native.engine import GUARDIAN_SOCKET

EXIT_LOST = 4  # of a daemon whose restored task was killed with pages missing; criu's statuses are 0 and 1
FIRST_DELAY_S, MAX_DELAY_S = 0.1, 10.0
LIVED_S = 30.0  # a daemon that lived so long is none of a row that fails
ANSWER_WITHIN_S = 2.0


class Succession:
    """The rule for one migration: for as long as the guardian keeps the userfaultfds there is something to go on with,
    and there is no limit to the successors."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._delay = 0.0
        self._succeeded = False

    def delay(self, status: int, work: Path) -> float | None:
        """The daemon ended with `status` (negative: killed by that signal): start another after so many seconds, or,
        if None, there is nothing to go on with. `work` is the daemon's working directory."""
        if status == 0 or (status > 0 and not (self._succeeded and is_guarded(work))):
            return None
        lived = time.monotonic() - self._began
        delay = 0.0 if lived > LIVED_S else self._delay
        self._delay = min(max(2 * delay, FIRST_DELAY_S), MAX_DELAY_S)
        self._began = time.monotonic() + delay
        self._succeeded = True
        return delay


def is_guarded(work: Path) -> bool:
    """Whether the guardian of a daemon that is dead waits for a successor. (It doesn't mind who hangs up.)"""
    try:
        directory = os.open(work, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as guardian:
            guardian.settimeout(ANSWER_WITHIN_S)
            # The path may be longer than a socket's name can be.
            guardian.connect(f"/proc/self/fd/{directory}/{GUARDIAN_SOCKET}")
            return True
    except OSError:
        return False
    finally:
        os.close(directory)
