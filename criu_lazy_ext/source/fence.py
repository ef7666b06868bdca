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
from dataclasses import dataclass
from pathlib import Path

from criu_lazy_ext.errors import CriuLazyError

STOP_BIT = 1 << (signal.SIGSTOP - 1)
TRACED, STOPPED, GONE = "t", "T", "ZX"
NOT_KEPT = "the source task can't be kept from running on by itself"


class FenceError(CriuLazyError):
    """A process of the source task is not held as it should be."""


@dataclass(frozen=True)
class _Status:
    """What /proc says of a process, or of one of its threads."""

    state: str
    tracer: int
    stop_pending: bool


def fence(pids: Iterable[int]) -> list[int]:
    """Put the fence around frozen processes. Returns those that were sent SIGSTOP: `lift` is for them.

    On failure nothing stays fenced, and FenceError tells what is wrong: each process must be there, and a living tracer
    must hold all of its threads.
    """
    fenced: list[int] = []
    pids = list(pids)
    try:
        for pid in pids:
            status = _status(pid)
            if not status.stop_pending and status.state != STOPPED:
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
    status = _read(pid)
    return status is not None and (status.stop_pending or status.state == STOPPED)


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
    status = _read(pid)
    return 0 if status is None else status.tracer


def _read(pid: int, thread: int | None = None) -> _Status | None:
    """None if it has ended, or is a zombie."""
    path = Path(f"/proc/{pid}/task/{thread or pid}/status")
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return None
    fields = {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if fields["State"][0] in GONE:
        return None
    pending = int(fields["SigPnd"], 16) | int(fields["ShdPnd"], 16)
    return _Status(fields["State"][0], int(fields["TracerPid"]), bool(pending & STOP_BIT))


def _status(pid: int) -> _Status:
    if (status := _read(pid)) is None:
        raise FenceError(f"process {pid} has ended")
    return status


def _check(pid: int) -> None:
    """Raises FenceError unless the process is fenced and held, OSError when it has ended meanwhile."""
    if not _status(pid).stop_pending:
        raise FenceError(f"no stop signal is pending on process {pid}")
    _check_threads(pid)


def _check_threads(pid: int) -> None:
    _status(pid)
    for entry in Path(f"/proc/{pid}/task").iterdir():
        thread = _read(pid, int(entry.name))
        if thread is not None and (thread.state != TRACED or _read(thread.tracer) is None):
            raise FenceError(f"thread {entry.name} of process {pid} is not held by criu dump any more")
