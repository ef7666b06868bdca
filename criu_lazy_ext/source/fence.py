"""The fence around a frozen source task: a SIGSTOP pending on each of its processes.

While `criu dump` traces them they stay frozen as they are. Should it die, or let them go, the kernel takes the pending
signal before any of them executes an instruction: they are stopped, and run no further until `lift`. So from "go" on no
death of ours or CRIU's makes a second copy of the task run. A process that was stopped before the dump is left alone:
it stays stopped whatever happens, also after `lift`.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable
from pathlib import Path

from criu_lazy_ext.errors import CriuLazyError
from criu_lazy_ext.system.processes import Status, status

TRACED, STOPPED, GONE = "t", "T", "ZX"
NOT_KEPT = "the source task can't be kept from running on by itself"


class FenceError(CriuLazyError):
    """A process of the source task is not held as it should be."""


def fence(pids: Iterable[int]) -> list[int]:
    """Put the fence around frozen processes. Returns those that were sent SIGSTOP: `lift` is for them.

    On failure nothing stays fenced, and FenceError tells what is wrong: each process must be there, and a living tracer
    must hold all of its threads.
    """
    fenced: list[int] = []
    pids = list(pids)
    try:
        for pid in pids:
            found = _living(pid)
            if not found.is_pending(signal.SIGSTOP) and found.state != STOPPED:
                os.kill(pid, signal.SIGSTOP)
                fenced.append(pid)
        for pid in pids:
            _check(pid)
    except (OSError, FenceError) as error:
        lift(fenced)
        raise FenceError(f"{NOT_KEPT}: {error}") from error
    return fenced


def lift(pids: Iterable[int]) -> None:
    """Let fenced processes run on; those that are still traced, once their tracer lets them go."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def is_fenced(pid: int) -> bool:
    """Whether the process executes nothing until somebody lifts the fence: SIGSTOP is pending, or has stopped it."""
    found = _read(pid)
    return found is not None and (found.is_pending(signal.SIGSTOP) or found.state == STOPPED)


def is_stopped(pid: int) -> bool:
    """Whether a signal has stopped each thread of the process, and nobody traces it."""
    try:
        threads = [_read(pid, int(entry.name)) for entry in Path(f"/proc/{pid}/task").iterdir()]
    except OSError:
        return False
    return all(thread is None or (thread.state == STOPPED and not thread.tracer) for thread in threads)


def is_held(pid: int) -> bool:
    """Whether each thread of the process is stopped by a tracer that lives."""
    try:
        _check_threads(pid)
    except (OSError, FenceError):
        return False
    return True


def tracer(pid: int) -> int:
    """Who traces the process; 0: nobody, or it has ended."""
    found = _read(pid)
    return 0 if found is None else found.tracer


def _read(pid: int, thread: int | None = None) -> Status | None:
    """None if it has ended, or is a zombie."""
    try:
        found = status(pid, thread)
    except OSError:
        return None
    return None if found.state in GONE else found


def _living(pid: int) -> Status:
    if (found := _read(pid)) is None:
        raise FenceError(f"process {pid} has ended")
    return found


def _check(pid: int) -> None:
    """Raises FenceError unless the process is fenced and held, OSError when it has ended meanwhile."""
    if not _living(pid).is_pending(signal.SIGSTOP):
        raise FenceError(f"no stop signal is pending on process {pid}")
    _check_threads(pid)


def _check_threads(pid: int) -> None:
    _living(pid)
    for entry in Path(f"/proc/{pid}/task").iterdir():
        thread = _read(pid, int(entry.name))
        if thread is not None and (thread.state != TRACED or _read(thread.tracer) is None):
            raise FenceError(f"thread {entry.name} of process {pid} is not held by criu dump any more")
