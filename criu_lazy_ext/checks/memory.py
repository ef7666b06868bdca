"""The task's memory: what a dump holds of it, and what can't follow lazily."""

from __future__ import annotations

import resource
from collections.abc import Iterator

from criu_lazy_ext.checks.check import Found, check, fail, warn
from criu_lazy_ext.checks.leaving import Leaving
from criu_lazy_ext.checks.task import NOT_LAZY, TOLD_BYTES, Mapping
from criu_lazy_ext.system import system_v_ipc
from criu_lazy_ext.system.holders import name_of


@check(
    "dump-descriptors",
    why="criu dump holds two descriptors for each 4 MiB and each process.",
    way_out="raise the hard limit of descriptors (ulimit -Hn, LimitNOFILE=, limits.conf)",
)
def dump_descriptors(leaving: Leaving) -> Iterator[Found]:
    """RLIMIT_NOFILE against the size of the task and the number of its processes"""
    needs = leaving.needs
    if needs is None:
        return
    limit, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if needs.dump_descriptors > limit:
        yield fail(
            f"criu dump holds {needs.dump_descriptors} descriptors for {needs.processes} processes with "
            f"{needs.memory_bytes / 1e6:.0f} MB, and {limit} are allowed (RLIMIT_NOFILE, whose hard limit is {hard})"
        )


@check(
    "system-v",
    why="criu dumps System V objects only with the whole of their IPC namespace. Shared memory fails the dump; of a "
    "semaphore or a queue the restored task has the id alone: its calls fail, or reach another program's.",
    way_out="start the task in an IPC namespace of its own: unshare --ipc PROGRAM, or a container",
)
def system_v(leaving: Leaving) -> Iterator[Found]:
    """System V shared memory (shmget) that the task has attached; semaphores and message queues that it used last"""
    task = leaving.task
    if task is None or task.has_own("ipc"):
        return
    attached = (item.pid for item in task.processes if any(map(_is_system_v, item.mappings)))
    users = (
        ("shared memory", attached),
        ("semaphores", system_v_ipc.used_semaphores()),
        ("message queues", system_v_ipc.used_queues()),
    )
    for what, pids in users:
        pid = next((pid for pid in pids if pid in task.pids), None)
        if pid is not None:
            yield fail(f"process {name_of(pid)} has System V {what}, and this host's IPC namespace")


def _is_system_v(mapping: Mapping) -> bool:
    return mapping.path.startswith("/SYSV")


@check(
    "not-lazy",
    why="userfaultfd brings private anonymous memory only; criu puts the rest into the images, which go over while the "
    "task is frozen.",
    way_out="a longer downtime is all that it costs; less of such memory, or a faster link, shortens it",
)
def not_lazy(leaving: Leaving) -> Iterator[Found]:
    """memory that can't follow lazily: shared anonymous, memfd, locked and huge pages, what was written to private
    mappings of files"""
    total = leaving.not_lazy_bytes
    if total < TOLD_BYTES:
        return
    worth_it = {kind: size for kind, size in leaving.not_lazy.items() if size >= TOLD_BYTES / 4}
    kinds = ", ".join(f"{size / 1e6:.0f} MB {NOT_LAZY[kind]}" for kind, size in worth_it.items())
    yield warn(f"{total / 1e6:.0f} MB of its memory go in the downtime, not lazily: {kinds}")


@check(
    "shared-code",
    why="criu runs code of its own in each process, and puts it where the first executable memory is; the kernel lets "
    "no tracer write into shared memory that is read-only.",
    way_out="have the program compile into private memory: of PHP, -d opcache.jit=off and opcache.jit_buffer_size=0",
)
def shared_code(leaving: Leaving) -> Iterator[Found]:
    """processes whose first executable memory is shared (just-in-time compilers)"""
    for process in leaving.task.processes if leaving.task else []:
        code = next((mapping for mapping in process.mappings if "x" in mapping.perms), None)
        if code is not None and code.is_shared and "w" not in code.perms:
            yield fail(
                f"the first executable memory of process {process.pid} ({process.name}) is shared, and read-only"
            )
            return
