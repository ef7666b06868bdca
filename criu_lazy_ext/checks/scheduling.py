"""How the kernel schedules the task: what criu doesn't dump of it."""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Callable, Iterator
from pathlib import Path

from criu_lazy_ext.checks.check import Found, check, fail, warn
from criu_lazy_ext.checks.leaving import Leaving
from criu_lazy_ext.checks.task import Process
from criu_lazy_ext.system.holders import name_of

SYS_IOPRIO_GET = {"x86_64": 252, "aarch64": 31}
IOPRIO_WHO_PROCESS, IOPRIO_CLASS_SHIFT = 1, 13
SCHED_DEADLINE = 6
LIBC = ctypes.CDLL(None)


@check(
    "scheduling",
    why="criu restores a policy with its priority, and nice; all else is as criu restore has it there. It knows no "
    "SCHED_DEADLINE.",
    way_out="set them anew there when it runs: hooks.after_restore, with taskset -ap and ionice -p",
)
def scheduling(leaving: Leaving) -> Iterator[Found]:
    """CPUs, I/O priorities and memory policies of its threads (taskset, ionice, numactl); SCHED_DEADLINE"""
    processes = leaving.task.processes if leaving.task else []
    if process := _first(processes, _is_deadline):
        yield fail(
            f"process {name_of(process)} has threads of SCHED_DEADLINE", "criu can't dump them: chrt --other -ap 0 PID"
        )
    if process := _first(processes, _is_bound):
        yield warn(f"process {name_of(process)} is bound to some CPUs, and may use all there")
    if process := _first(processes, _has_io_priority):
        yield warn(f"process {name_of(process)} has an I/O priority, and none there")
    if process := next((item.pid for item in processes if _has_memory_policy(item.pid)), 0):
        yield warn(f"process {name_of(process)} has a NUMA memory policy, and none there", "numactl can't set it later")


def _first(processes: list[Process], holds: Callable[[int], bool]) -> int:
    """The first of which that holds of a thread; 0 if of none."""
    return next((process.pid for process in processes if any(map(holds, process.threads))), 0)


def _is_deadline(thread: int) -> bool:
    try:
        return os.sched_getscheduler(thread) == SCHED_DEADLINE
    except ProcessLookupError:
        return False


def _is_bound(thread: int) -> bool:
    """Not to all that this program may use, in the same cpuset as it: those of a control group go with the group."""
    try:
        return not os.sched_getaffinity(thread) >= os.sched_getaffinity(0) and _cpuset(str(thread)) == _cpuset("self")
    except (ProcessLookupError, FileNotFoundError):
        return False


def _cpuset(process: str) -> str:
    path = Path(f"/proc/{process}/cpuset")
    return path.read_text() if Path("/proc/self/cpuset").exists() else ""


def _has_memory_policy(process: int) -> bool:
    """Of its own (set_mempolicy); its first mapping shows it, unless that has another one."""
    try:
        with Path(f"/proc/{process}/numa_maps").open("rb", buffering=0) as file:
            return file.read(64).split()[1:2] not in ([], [b"default"])
    except OSError:  # it has ended, or the kernel knows no NUMA
        return False


def _has_io_priority(thread: int) -> bool:
    number = SYS_IOPRIO_GET[platform.machine()]
    priority, own = (int(LIBC.syscall(number, IOPRIO_WHO_PROCESS, each)) for each in (thread, 0))
    return priority > 0 and priority >> IOPRIO_CLASS_SHIFT != 0 and priority != own
