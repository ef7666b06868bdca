"""What the destination has for the task."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path

from criu_lazy_ext.checks.check import Found, check, fail
from criu_lazy_ext.checks.needs import OTHER_DESCRIPTORS, Arrival, unpack_ids
from criu_lazy_ext.criu.contrary import value_of
from criu_lazy_ext.system import cgroup
from criu_lazy_ext.system.holders import name_of

SERVED_DESCRIPTORS = 2  # of a process: what the daemon holds, and the page server
SHOWN = 10
LOADED_PROFILES = Path("/sys/kernel/security/apparmor/profiles")
HUGE_PAGES = Path("/sys/kernel/mm/hugepages")
HUGE_PAGES_FACTS = ("free_hugepages", "resv_hugepages", "nr_overcommit_hugepages", "surplus_hugepages")


@check(
    "pids",
    why="A task keeps its pids, also those of its threads; criu can't restore it where another process has one.",
    way_out="end those processes there, or start the task in a pid namespace of its own (unshare --pid, a container)",
)
def pids(arrival: Arrival) -> Iterator[Found]:
    """processes at the destination that have a pid of the task's"""
    taken = [pid for pid in unpack_ids(arrival.ids) if Path(f"/proc/{pid}").exists()] if arrival.ids else []
    if arrival.is_source():
        yield fail("this is the source itself, where the task has its pids", "name another host as the destination")
    elif taken:
        more = f" and {len(taken) - SHOWN} more" if len(taken) > SHOWN else ""
        names = ", ".join(map(name_of, taken[:SHOWN]))
        yield fail(f"pids are taken by other processes: {names}{more}")


@check(
    "security-profiles",
    why="criu restore puts a process under the profile of AppArmor that it had, and fails if that is not loaded. (Of "
    "SELinux contexts nothing is looked at: a criu without libselinux, as Debian's, restores a task in its own.)",
    way_out="load it there: apparmor_parser -r /etc/apparmor.d/FILE; the package of the program brings it, as a rule",
)
def security_profiles(arrival: Arrival) -> Iterator[Found]:
    """AppArmor's profiles at the destination, for processes that are confined by one"""
    if not arrival.profiles or value_of("lsm-profile", arrival.restore_options) is not None:
        return
    try:
        loaded = {line.rpartition(" (")[0] for line in LOADED_PROFILES.read_text().splitlines()}
    except OSError as error:
        yield fail(
            f"the task has a profile of AppArmor ({arrival.profiles[0]}), and {LOADED_PROFILES}: {error.strerror}",
            "boot that kernel with AppArmor (apparmor=1), and mount securityfs on /sys/kernel/security",
        )
        return
    if missing := [name for name in arrival.profiles if name not in loaded]:
        yield fail(f"profiles of AppArmor that the task has are not loaded: {', '.join(missing)}")


@check(
    "served-descriptors",
    why="The daemon holds two descriptors for each process.",
    way_out="raise the hard limit of descriptors there (ulimit -Hn, LimitNOFILE=, limits.conf)",
)
def served_descriptors(arrival: Arrival) -> Iterator[Found]:
    """RLIMIT_NOFILE against the number of the task's processes"""
    held = SERVED_DESCRIPTORS * arrival.processes + OTHER_DESCRIPTORS
    limit, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if held > limit:
        yield fail(
            f"lazy-pages holds {held} descriptors for {arrival.processes} processes, and {limit} are allowed "
            f"(RLIMIT_NOFILE, whose hard limit is {hard})"
        )


@check(
    "processes",
    why="A limit of the group that the task is restored in ends it there.",
    way_out="raise pids.max of that group",
)
def processes(arrival: Arrival) -> Iterator[Found]:
    """pids.max of the control groups at the destination"""
    hierarchy = cgroup.hierarchy("pids")
    group = cgroup.group_for("pids", cgroup.groups_of()) or "/"
    for directory in hierarchy.chain(group) if hierarchy is not None else ():
        room = cgroup.processes_left(directory)
        if room is not None and arrival.threads > room.left:
            yield fail(
                f"the task has {arrival.threads} processes and threads, and {room.left} more may be in {room.where}"
            )
            return


@check(
    "memory",
    why="The kernel kills who finds none: the restored task, once the source may be gone.",
    way_out="to try all the same: destination.check_memory: false",
)
def memory(arrival: Arrival) -> Iterator[Found]:
    """free memory and swap at the destination, and the limits of the control groups that the task goes to"""
    if not arrival.check_memory:
        return
    free = _meminfo()
    total = sum(arrival.memory.values())
    rooms = [(total, cgroup.Room(free["MemAvailable"] + free["SwapFree"], "this host"))]
    if (hierarchy := cgroup.hierarchy("memory")) is not None:
        own = cgroup.group_for("memory", cgroup.groups_of()) or "/"
        charged: dict[Path, int] = {}  # to a group, and to those below it
        for group, size in arrival.memory.items():
            for directory in hierarchy.chain(group or own):
                charged[directory] = charged.get(directory, 0) + size
        # A page leaves the store as it comes to the task.
        for directory in hierarchy.chain(own) if arrival.store and is_in_memory(Path(arrival.store)) else ():
            charged[directory] = max(charged.get(directory, 0), total)
        for directory, size in charged.items():
            room = cgroup.memory_left(directory, hierarchy.version, free["SwapFree"])
            if room is not None:
                rooms.append((size, room))
    size, room = max(rooms, key=lambda item: item[0] - item[1].left)
    if size > room.left:
        yield fail(
            f"too little memory: the task will take {size / 1e6:.0f} MB (pages that its processes share after a fork "
            f"count for each), and {room.left / 1e6:.0f} MB are free in {room.where}"
        )


@check(
    "huge-pages",
    why="Huge pages are set aside by a host; criu restore takes none but these for them.",
    way_out="sysctl vm.nr_hugepages=N there, with more of them",
)
def huge_pages(arrival: Arrival) -> Iterator[Found]:
    """free huge pages at the destination, for what the task has of them"""
    free = 0
    for kind in HUGE_PAGES.glob("hugepages-*kB") if arrival.huge_bytes else ():
        facts = {name: int((kind / name).read_text()) for name in HUGE_PAGES_FACTS}
        more = max(0, facts["nr_overcommit_hugepages"] - facts["surplus_hugepages"])
        size = int(kind.name.removeprefix("hugepages-").removesuffix("kB")) << 10
        free += size * (facts["free_hugepages"] - facts["resv_hugepages"] + more)
    if arrival.huge_bytes > free:
        yield fail(
            f"the task has {arrival.huge_bytes / 1e6:.0f} MB in huge pages, and {free / 1e6:.0f} MB are free there"
        )


def is_in_memory(path: Path) -> bool:
    """Whether files below `path`, which need not exist yet, are kept in memory."""
    while not path.exists():
        path = path.parent
    device = path.stat().st_dev
    shown = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text(errors="replace").splitlines():
        before, _, after = line.partition(" - ")
        if before.split()[2] == shown:
            return after.split()[0] in ("tmpfs", "ramfs")
    return False


def _meminfo() -> dict[str, int]:
    lines = [line.split() for line in Path("/proc/meminfo").read_text().splitlines()]
    return {words[0].rstrip(":"): int(words[1]) << 10 for words in lines if len(words) == 3}
