"""Processes as /proc tells of them; a name there need not be UTF-8.

A pid alone may name another process later; with its start time it doesn't.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import sys
import time
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

CRIU_LAZY = (sys.executable, "-m", "criu_lazy_ext.cli")  # this very program
PF_KTHREAD = 0x200000  # of a process's flags
LEAST_OOM_SCORE = (-1000, 0)  # without CAP_SYS_RESOURCE the first is refused


def start_time(pid: int) -> int | None:
    """When the process began, in clock ticks since boot; None if there is none, or it is a zombie."""
    fields = _stat(pid)
    return None if fields is None or fields[0] in "ZX" else int(fields[19])


def parent(pid: int) -> int | None:
    """Its pid; None if the process has ended."""
    fields = _stat(pid)
    return None if fields is None else int(fields[1])


def is_alive(pid: int) -> bool:
    """Whether the process exists and isn't a zombie."""
    return start_time(pid) is not None


def why_no_task(pid: int) -> str:
    """Why this pid can't be that of a task, for people; "" if it can."""
    try:
        text = Path(f"/proc/{pid}/status").read_text(errors="replace")
    except OSError:
        return f"no process has pid {pid}; has it ended?"
    leader = int(text.partition("\nTgid:")[2].split()[0])
    if leader != pid:
        return f"{pid} is a thread of process {leader}, which moves as a whole: give {leader}"
    fields = _stat(pid)
    if fields is not None and int(fields[6]) & PF_KTHREAD:
        return f"{pid} is a thread of the kernel's"
    return ""


def tree(pid: int) -> dict[int, int]:
    """The process and all below it: pids here, by their pids in the innermost pid namespace that each is in."""
    found: dict[int, int] = {}
    todo = [pid]
    while todo:
        process = todo.pop()
        try:
            inner = status(process).pids[-1]
            for thread in Path(f"/proc/{process}/task").iterdir():
                todo += map(int, (thread / "children").read_text().split())
        except OSError:  # it has ended
            continue
        found[inner] = process
    return found


def send_signal(pid: int, began: int, number: signal.Signals) -> None:
    """A signal to the process that began then, if it is there; never to another one that has its pid now."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if start_time(pid) == began:
            signal.pidfd_send_signal(fd, number)
    except ProcessLookupError:
        pass
    finally:
        os.close(fd)


class Process(NamedTuple):
    """A living process, as it was when it was looked at."""

    pid: int
    parent: int
    group: int
    inner_pid: int  # in the innermost pid namespace that it is in
    began: int  # start_time()

    def kill(self) -> None:
        """SIGKILL, but never to another process that has this pid now."""
        send_signal(self.pid, self.began, signal.SIGKILL)


def below(pid: int) -> list[Process]:
    """All that descends from the process, parents before their children; no zombies."""
    found: list[Process] = []
    todo = [(pid, pid)]
    while todo:
        parent, child = todo.pop()
        try:
            for thread in Path(f"/proc/{child}/task").iterdir():
                todo += [(child, int(word)) for word in (thread / "children").read_text().split()]
            inner = status(child).pids[-1]
        except OSError:  # it has ended
            continue
        fields = _stat(child)
        if child != pid and fields is not None and fields[0] not in "ZX":
            found.append(Process(child, parent, int(fields[2]), inner, int(fields[19])))
    return found


def descends(pid: int, ancestor: int) -> bool:
    """Whether the process is that one, or below it. One that has ended is nobody's: True."""
    while pid not in (0, ancestor):
        if (fields := _stat(pid)) is None:
            return True
        pid = int(fields[1])
    return pid == ancestor


def others_with(word: str) -> dict[int, float]:
    """The processes whose command line ends with that word, and since when (as time.time()) each runs; but those that
    this one belongs to, as it is one of them or below one."""
    top = pid = os.getpid()
    while pid := parent(pid) or 0:
        top = pid if _last_word(pid) == word else top
    booted, tick_s = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME), 1 / os.sysconf("SC_CLK_TCK")
    found = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]
    others = [pid for pid in found if _last_word(pid) == word and not descends(pid, top)]
    return {pid: booted + began * tick_s for pid in others if (began := start_time(pid)) is not None}


def _last_word(pid: int) -> str:
    """Of its command line; "" if it has ended."""
    with contextlib.suppress(OSError):
        return "".join(Path(f"/proc/{pid}/cmdline").read_text(errors="replace").split("\0")[-2:-1])
    return ""


class Status(NamedTuple):
    """What /proc/PID/status tells of a process, or of one of its threads."""

    state: str  # one letter
    tracer: int  # 0: nobody
    pending: int  # signals, a bit each
    pids: tuple[int, ...]  # in the pid namespaces that it is in, innermost last

    def is_pending(self, number: signal.Signals) -> bool:
        return bool(self.pending & 1 << (number - 1))


def status(pid: int, thread: int | None = None) -> Status:
    """Raises OSError if it has ended; a zombie has a status."""
    text = Path(f"/proc/{pid}/task/{thread or pid}/status").read_text(errors="replace")
    fields = {name: value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}
    pending = int(fields["SigPnd"], 16) | int(fields["ShdPnd"], 16)
    pids = tuple(map(int, fields.get("NSpid", str(pid)).split()))
    return Status(fields["State"][0], int(fields["TracerPid"]), pending, pids)


def thread_states(pid: int) -> list[str]:
    """A letter for each thread of the process. Raises OSError if the process has ended."""
    states = []
    for entry in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):  # this thread has ended
            states.append(status(pid, int(entry.name)).state)
    return states


def signal_tree(pid: int, number: signal.Signals) -> None:
    """Send a signal to the process and all below it."""
    for process in tree(pid).values():
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, number)


def threads_at_page_starts(pid: int, before: Collection[int] = ()) -> list[int]:
    """The threads of the process and all below it that sleep with a stack pointer at the very start of a page; and of
    those that did `before`, any that runs at the moment, which tells nothing."""
    found = []
    for process in tree(pid).values():
        with contextlib.suppress(OSError):  # it has ended
            for thread in Path(f"/proc/{process}/task").iterdir():
                words = (thread / "syscall").read_text().split()  # "running", or ... stack pointer, program counter
                pointer = int(words[-2], 16) if len(words) > 2 else 0
                is_there = pointer % mmap.PAGESIZE == 0 if pointer else int(thread.name) in before
                if is_there:
                    found.append(int(thread.name))
    return found


def describe_status(status: int) -> str:
    """An exit status as asyncio gives it, in words."""
    if status < 0:
        return f"was killed by {signal.Signals(-status).name}"
    return f"ended with status {status}"


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the third one (the state) on."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None


def protect_from_oom(pid: int) -> int | None:
    """Let the OOM killer take this process last, as far as we may; what its score was if it was changed."""
    path = Path(f"/proc/{pid}/oom_score_adj")
    for score in LEAST_OOM_SCORE:
        with contextlib.suppress(OSError, ValueError):
            before = int(path.read_text())
            if before > score:
                path.write_text(str(score))
                return before
    return None
