"""Who used the System V semaphores and message queues of this IPC namespace last; the kernel tells no other users."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from pathlib import Path

GETPID = 11  # of semctl(): who operated on a semaphore last


def used_semaphores() -> Iterator[int]:
    """Their last users' pids; a set that is removed meanwhile, or was never used, has none."""
    libc = ctypes.CDLL(None, use_errno=True)
    for identity, count in _table("sem", "semid", "nsems"):
        for number in range(count):
            pid = int(libc.semctl(identity, number, GETPID))
            if pid < 0:  # it was removed
                break
            yield pid


def used_queues() -> Iterator[int]:
    """The pids of who sent to each last, and of who received from it last."""
    for pids in _table("msg", "lspid", "lrpid"):
        yield from pids


def _table(kind: str, *columns: str) -> Iterator[tuple[int, ...]]:
    """These columns of each object of a kind. Raises OSError if the kernel has no such table."""
    head, *rows = Path("/proc/sysvipc", kind).read_text().splitlines()
    places = [head.split().index(name) for name in columns]
    for row in rows:
        fields = row.split()
        yield tuple(int(fields[place]) for place in places)
