"""What the task's processes are in just now."""

from __future__ import annotations

from collections.abc import Iterator

from criu_lazy_ext.checks.check import Found, check, fail
from criu_lazy_ext.checks.leaving import Leaving
from criu_lazy_ext.checks.task import Task
from criu_lazy_ext.errors import CriuLazyError

PAGE_BYTES = 4096
USERFAULTFD = "anon_inode:[userfaultfd]"


class NotMovable(CriuLazyError):
    """What the task is in keeps criu dump from it."""


@check(
    "tracer", why="criu dump is a tracer itself, and a process has only one.", way_out="detach the debugger, or end it"
)
def tracer(leaving: Leaving) -> Iterator[Found]:
    """who traces the task: gdb, strace, another criu dump"""
    for process in leaving.task.processes if leaving.task else []:
        if process.tracer:
            yield fail(f"task {process.pid} is being traced, by process {process.tracer}: criu can't dump it")
            return


@check(
    "arriving",
    why="criu dumps zeroes for memory that is still to come through a userfaultfd, and calls that a success.",
    way_out="wait until the migration that brings them has ended",
)
def arriving(leaving: Leaving) -> Iterator[Found]:
    """memory that an earlier migration still brings, and userfaultfds of the task's own"""
    if leaving.task is None:
        return
    missing: dict[int, int] = {}
    for process in leaving.task.processes:
        watched = [mapping for mapping in process.mappings if mapping.flags & {"um", "uw", "ui"}]
        if watched:
            here = (mapping.end - mapping.start - mapping.bytes_of("Rss", "Swap") for mapping in watched)
            missing[process.pid] = sum(max(0, size) for size in here) // PAGE_BYTES
    own = {descriptor.process for descriptor in leaving.task.descriptors() if descriptor.target == USERFAULTFD}
    process_pid = min(missing, default=0) or min(own, default=0)
    if not process_pid:
        return
    others = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
    if own:
        why_not = "criu can't move it"
        yield fail(f"task {process_pid}{others} uses a userfaultfd of its own", why_not)
        return
    yield fail(
        f"task {process_pid}{others}: its memory is still arriving: {sum(missing.values())} pages missing, at most"
    )


def check_movable(pid: int) -> None:
    """Just before the freeze: raises NotMovable for what may have come since the checks."""
    leaving = Leaving(task=Task.look(pid))
    for item in (tracer, arriving):
        for found in item.look(leaving):
            raise NotMovable(f"{found.text}: {found.way_out or item.way_out}")
