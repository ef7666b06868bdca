"""Locks: at most one process drives the migrations of a profile, for as long as it lives, and one migration a task."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
from pathlib import Path

from criu_lazy_ext.errors import CriuLazyError, UsageError

TASKS = Path("/run/criu-lazy/tasks.lock")  # of each task that moves, the byte whose number is its pid


class Locked(UsageError):
    """Another process has it. `pid`: who, or 0 if that can't be told."""

    def __init__(self, path: Path, pid: int) -> None:
        super().__init__(f"{path}: already being migrated" + (f" (pid {pid})" if pid else ""))
        self.pid = pid


class Lock:
    """The lock file `path`, held from now until `release` or the end of this process. Raises Locked, CriuLazyError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = -1
        try:
            while self._fd < 0:
                self._fd = self._take()
        except OSError as error:
            way = "let directories.source be where it can be made" if os.geteuid() == 0 else "run it as root"
            raise CriuLazyError(f"lock file {path}: {error.strerror}: {way}") from error

    def _take(self) -> int:
        """-1: it was removed meanwhile, by who had it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            word = os.pread(fd, 32, 0).strip()
            os.close(fd)
            raise Locked(self.path, int(word) if word.isdigit() else 0) from None
        if not _is_at(fd, self.path):
            os.close(fd)
            return -1
        with contextlib.suppress(OSError):  # the pid is only for people; the disk may be full
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        return fd

    def release(self) -> None:
        """Remove it: who waits for nothing more may have it."""
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                self.path.unlink()
            os.close(self._fd)
            self._fd = -1


def lock_path(directory: Path) -> Path:
    """The lock of the migration that has this directory."""
    return directory.with_name(directory.name + ".lock")


@functools.cache
def _tasks() -> int:
    TASKS.parent.mkdir(parents=True, exist_ok=True)
    return os.open(TASKS, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)  # closed, it would take all locks with it


def hold_task(pid: int) -> None:
    """No other process's `hold_task` of this one succeeds, until `let_go_of_task`, or this process's end. Raises
    CriuLazyError."""
    try:
        # One of POSIX: unlike flock's, no forked process that outlives this one has it.
        fcntl.lockf(_tasks(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, pid)
    except BlockingIOError:
        raise CriuLazyError(f"task {pid} is being moved already, by another profile: see criu-lazy status") from None
    except OSError as error:
        raise CriuLazyError(f"lock file {TASKS}: {error.strerror}") from error


def let_go_of_task(pid: int) -> None:
    fcntl.lockf(_tasks(), fcntl.LOCK_UN, 1, pid)


def _is_at(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False
