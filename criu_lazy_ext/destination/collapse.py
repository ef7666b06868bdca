"""Joins restored pages, which came one by one, into huge pages after the transfer.

A restored task is looked up while it is served: its memory, and none else, is registered with a userfaultfd then.
From there on it is held by its pidfd and its pagemap file, which reads as empty once the task has ended or called
execve. After the transfer a process of our own does the joining; the daemon ends without waiting for it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import time
from typing import TYPE_CHECKING

from criu_lazy_ext.native.collapse import collapse

if TYPE_CHECKING:
    from criu_lazy_ext.criu.images import Images

THP = "/sys/kernel/mm/transparent_hugepage"
LOOK_UP_INTERVAL_MS = 20
LOOK_UP_SHARE = 0.02  # of the time spent so far, when it takes long: a task may be gone at once
# While one huge page is joined, the task may have to wait. So it may, for a tenth of the time at most.
BUSY_SHARE = 0.1
# No huge page is free, however the kernel searched: so many times in a row, and that was it.
MAX_FAILURES = 16
PAGE_PRESENT, PAGE_IS_FILE_OR_SHARED = 0x80, 0x20  # in the highest byte of a pagemap entry

Range = tuple[int, int]


class RestoredTask:
    """A task found: what holds it, and the ranges (start, end; aligned to huge pages) that may have huge pages."""

    def __init__(self, pidfd: int, pagemap_fd: int, ranges: list[Range]) -> None:
        self.pidfd, self.pagemap_fd, self.ranges = pidfd, pagemap_fd, ranges


class Collapse:
    """Finds the tasks of one restore, and gives huge pages back to them where the host's policy wants such."""

    def __init__(self, images: Images, pids: list[int]) -> None:
        """`pids`: as in the images. Reads their memory maps. Raises ImageError."""
        policy = _policy()
        self._huge_bytes = _huge_page_bytes()
        self._wanted: dict[int, list[Range]] = {}
        self._found: list[RestoredTask] = []
        self._seen: set[int] = set()
        self._candidates: list[tuple[int, int]] = []  # (pid here, pid in the images)
        self._began = 0.0
        self._own_start = _start_time(os.getpid()) or 0
        if policy == "never" or not self._huge_bytes:
            return
        for pid in pids:
            ranges = self._aligned(images.thp_vmas(pid, only_advised=policy == "madvise"))
            if ranges:
                self._wanted[pid] = ranges

    @property
    def searching(self) -> bool:
        """Whether `look_up` has a task to find still."""
        return bool(self._wanted)

    @property
    def interval_ms(self) -> int:
        """How soon to look up next."""
        spent_ms = (time.monotonic() - self._began) * 1000 if self._began else 0
        return max(LOOK_UP_INTERVAL_MS, int(spent_ms * LOOK_UP_SHARE))

    def look_up(self) -> None:
        """Find tasks that wait for pages now; to be called every `interval_ms` while they are served."""
        self._began = self._began or time.monotonic()
        for entry in os.listdir("/proc"):  # noqa: PTH208
            if entry.isdigit() and int(entry) not in self._seen:
                self._seen.add(int(entry))
                self._candidates += ((int(entry), pid) for pid in self._image_pids(int(entry)))
        for here, pid in self._candidates:
            if pid in self._wanted:
                task = self._open(here, self._wanted[pid])
                if task is not None:
                    self._found.append(task)
                    del self._wanted[pid]

    def start(self) -> int:
        """Begin, in a process of its own that nobody waits for; returns how many tasks it is for.

        To be called with one thread running. Descriptors but the tasks' are closed in the new process.
        """
        if not self._found:
            return 0
        # Forked twice: a parent that stays (a test, say) gets no zombie.
        child = os.fork()
        if child:
            os.waitpid(child, 0)
            return len(self._found)
        status = 1
        try:
            os.setsid()
            if os.fork() == 0:
                self._become_background()
                self._run()
            status = 0
        finally:
            os._exit(status)

    def close(self) -> None:
        """Let go of the tasks (in this process)."""
        for task in self._found:
            os.close(task.pidfd)
            os.close(task.pagemap_fd)
        self._found = []

    def _image_pids(self, here: int) -> list[int]:
        """Which pids of the images a process may be: it is younger than we are, and has the pid in a namespace."""
        with contextlib.suppress(OSError):
            if (_start_time(here) or 0) >= self._own_start:
                for line in _read(f"/proc/{here}/status").splitlines():
                    if line.startswith("NSpid:"):
                        return [pid for pid in map(int, line.split()[1:]) if pid in self._wanted]
        return []

    def _open(self, here: int, ranges: list[Range]) -> RestoredTask | None:
        """The process, if memory of ours is registered in it with a userfaultfd."""
        fds: list[int] = []
        try:
            fds.append(os.pidfd_open(here))
            fds.append(os.open(f"/proc/{here}/pagemap", os.O_RDONLY | os.O_CLOEXEC))
            if _is_registered(_read(f"/proc/{here}/smaps"), ranges):
                signal.pidfd_send_signal(fds[0], 0)  # it was this process all the while
                return RestoredTask(fds[0], fds[1], ranges)
        except OSError:
            pass
        for fd in fds:
            os.close(fd)
        return None

    def _aligned(self, vmas: list[Range]) -> list[Range]:
        size = self._huge_bytes
        inner = ((-(-start // size) * size, end // size * size) for start, end in vmas)
        return [(start, end) for start, end in inner if start < end]

    def _become_background(self) -> None:
        """Nothing shared with the daemon's parent, so that nobody waits for a pipe of ours to be closed.

        Not nice(2): who joins pages holds a lock of the task's memory, and must not be kept from going on.
        """
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        os.chdir("/")
        null = os.open(os.devnull, os.O_RDWR)
        kept = sorted(fd for task in self._found for fd in (task.pidfd, task.pagemap_fd))
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        begin = 3
        for fd in kept:
            os.closerange(begin, fd)
            begin = fd + 1
        os.closerange(begin, os.sysconf("SC_OPEN_MAX"))

    def _run(self) -> None:
        size = self._huge_bytes
        failures = 0
        for task in self._found:
            for address in (at for start, end in task.ranges for at in range(start, end, size)):
                complete = _is_complete(task.pagemap_fd, address, size)
                if complete is None:
                    break
                if not complete:
                    continue
                began = time.monotonic()
                result = collapse(task.pidfd, address, size)
                if result in (-errno.ESRCH, -errno.EPERM):
                    break
                failures = failures + 1 if result == -errno.ENOMEM else 0
                if failures == MAX_FAILURES:
                    return
                time.sleep((time.monotonic() - began) * (1 / BUSY_SHARE - 1))


def _is_complete(pagemap_fd: int, address: int, size: int) -> bool | None:
    """Whether every page of the range is there, and the task's own; None if the task's memory is gone.

    What the task dropped meanwhile stays dropped: a huge page would bring all of it back.
    """
    nr_pages = size // os.sysconf("SC_PAGESIZE")
    try:
        entries = os.pread(pagemap_fd, nr_pages * 8, address // os.sysconf("SC_PAGESIZE") * 8)
    except OSError:
        return None
    if len(entries) < nr_pages * 8:
        return None
    return all(flags & (PAGE_PRESENT | PAGE_IS_FILE_OR_SHARED) == PAGE_PRESENT for flags in entries[7::8])


def _is_registered(smaps: str, ranges: list[Range]) -> bool:
    """Whether a mapping that overlaps one of `ranges` has the flag of a userfaultfd for missing pages."""
    overlaps = False
    for line in smaps.splitlines():
        first = line.split(" ", 1)[0]
        if first == "VmFlags:":
            if overlaps and "um" in line.split()[1:]:
                return True
        elif "-" in first and not first.endswith(":"):
            low, high = (int(bound, 16) for bound in first.split("-"))
            overlaps = any(low < end and start < high for start, end in ranges)
    return False


def _policy() -> str:
    """always, madvise or never; never where the kernel has no such thing."""
    try:
        return _read(f"{THP}/enabled").partition("[")[2].partition("]")[0] or "never"
    except OSError:
        return "never"


def _huge_page_bytes() -> int:
    try:
        return int(_read(f"{THP}/hpage_pmd_size"))
    except (OSError, ValueError):
        return 0


def _start_time(pid: int) -> int | None:
    """In clock ticks since boot; None without such a process."""
    try:
        return int(_read(f"/proc/{pid}/stat").rpartition(")")[2].split()[19])
    except (OSError, IndexError):
        return None


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123 (pathlib costs start-up time)
        return file.read()
