"""A container's freeze, seen from outside: its engine takes its time before it begins, and criu then freezes the
container's control groups some 0.1 s before it holds each process."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable

from criu_lazy_ext.source.task import Identity, Seen, identities, look
from criu_lazy_ext.system.cgroup import Freezer, groups_of
from criu_lazy_ext.system.processes import thread_states

LOOK_S = 0.002
TRACED = "t"


async def begin(task: Identity, meanwhile: Callable[[], None]) -> float:
    """Wait until the task's root is being frozen; when that was. `meanwhile` is called before each look."""
    freezers = [freezer for groups in _groups({task[0]}) for freezer in Freezer.all_of(groups)]
    meanwhile()
    while not any(freezer.freezes() for freezer in freezers) and look(task) is not Seen.FROZEN:
        await asyncio.sleep(LOOK_S)
        meanwhile()
    return time.monotonic()


async def complete(pid: int) -> None:
    """Wait until nothing of the task runs any more."""
    while not _is_complete(pid):
        await asyncio.sleep(LOOK_S)


def _is_complete(pid: int) -> bool:
    processes = identities(pid)
    pids = {process for process, _ in processes}
    is_frozen = all(any(freezer.has_frozen() for freezer in Freezer.all_of(groups)) for groups in _groups(pids))
    return (is_frozen or all(map(_is_held, pids))) and identities(pid) == processes  # none was forked meanwhile


def _groups(pids: set[int]) -> list[dict[str, str]]:
    """The control groups of these processes, each set of them once."""
    found = set()
    for pid in pids:
        with contextlib.suppress(OSError):  # it has ended
            found.add(tuple(groups_of(pid).items()))
    return [dict(groups) for groups in found]


def _is_held(pid: int) -> bool:
    """Whether a tracer holds each of its threads."""
    with contextlib.suppress(OSError):  # it has ended
        return set(thread_states(pid)) <= {TRACED}
    return True
