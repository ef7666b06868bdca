"""What can't move is said before anything is frozen: of the task, of what both hosts allow, of criu's configuration.

The source looks at the task (`look_at`), and sends what it needs to the destination, which compares (`lacking`).
"""

from __future__ import annotations

import array
import base64
import contextlib
import os
import re
import resource
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from criu_lazy_ext.criu.contrary import contrary_in_files, value_of
from criu_lazy_ext.criu.program import Requirement
from criu_lazy_ext.errors import CriuLazyError
from criu_lazy_ext.profile import Profile
from criu_lazy_ext.source import fence
from criu_lazy_ext.system import cgroup
from criu_lazy_ext.system.processes import tree

PAGE_BYTES = 4096
# Seen with criu 4.2.1: a pipe for each 4 MiB of a task's lazy pages, and one for its others.
PIPE_BYTES = 4 << 20
PIPE_DESCRIPTORS = 2
OTHER_DESCRIPTORS = 30
SERVED_DESCRIPTORS = 2  # of a process: what the daemon holds, and the page server
_USERFAULTFD = re.compile(rb"^VmFlags:(?=.* u[mwi]\b).*$", re.MULTILINE)
_SIZES = re.compile(rb"^(Size|Rss|Swap): +(\d+) kB$", re.MULTILINE)
# Memory that is shared on purpose, and that no file system keeps.
_SHARED = re.compile(
    rb"^[0-9a-f]+-[0-9a-f]+ ...s \S+ \S+ \d+ +/(?:dev/zero|SYSV|memfd:).*\n(?:[A-Z]\w*:.*\n)*?Pss: +(\d+) kB",
    re.MULTILINE,
)


class PreflightError(CriuLazyError):
    """The task can't be moved so; nothing was touched."""


@dataclass
class Needs:
    """What a task and all below it will take."""

    processes: int = 0
    threads: int = 0
    ids: list[int] = field(default_factory=list)  # pids and tids that must be free; none: a pid namespace goes along
    memory: dict[str, int] = field(default_factory=dict)  # bytes, by the group that is charged; "": the agent's
    dump_descriptors: int = OTHER_DESCRIPTORS

    @property
    def memory_bytes(self) -> int:
        """Of all groups."""
        return sum(self.memory.values())


def pack_ids(ids: Iterable[int]) -> str:
    """Numbers as a short text: they may be a hundred thousand, of which most follow each other."""
    ordered = sorted(ids)
    steps = array.array("I", (after - before for before, after in zip([0, *ordered], ordered, strict=False)))
    return base64.b64encode(zlib.compress(steps.tobytes())).decode()


def unpack_ids(text: str) -> list[int]:
    """What `pack_ids` was given, in order. Raises ValueError."""
    try:
        steps = array.array("I", zlib.decompress(base64.b64decode(text)))
    except zlib.error as error:
        raise ValueError(str(error)) from error
    ids, last = [], 0
    for step in steps:
        ids.append(last := last + step)
    return ids


# ---- the source ----


def look_at(profile: Profile, pid: int) -> Needs:
    """What the task needs. Raises PreflightError if this host can't let it go."""
    options = [*profile.criu.options(), *profile.criu.dump_options]
    if problem := contrary_in_files("dump", options, "criu.dump_options"):
        raise PreflightError(f"source: {problem}")
    check_movable(pid)
    needs = measure(pid, charged=value_of("manage-cgroups", options) != "ignore")
    if problem := lacking_descriptors(needs):
        raise PreflightError(f"source: {problem}")
    return needs


def of_task(pid: int) -> list[Requirement]:
    """For `criu-lazy check`: whether the task can leave this host, as far as that is known without a profile."""
    if not Path(f"/proc/{pid}").exists():
        return [Requirement(f"task {pid}", "no process has this pid")]
    needs = measure(pid, charged=True)
    arriving = None
    try:
        check_arrived(pid)
    except PreflightError as error:
        arriving = str(error)
    size = f"{needs.processes} processes, {needs.threads} threads, {needs.memory_bytes / 1e6:.0f} MB"
    return [
        Requirement(f"task {pid}: all of its memory is here", arriving),
        Requirement(f"task {pid}: {size}", lacking_descriptors(needs)),
    ]


def configuration(*, source: bool, destination: bool) -> list[Requirement]:
    """For `criu-lazy check`: whether criu's configuration files on this host let a migration work."""
    programs = [("dump", "criu.dump_options")] if source else []
    programs += [("restore", "criu.restore_options"), ("lazy-pages", "daemon_options")] if destination else []
    found = (contrary_in_files(program, [], key) for program, key in programs)
    return [Requirement("criu's configuration files", next(filter(None, found), None))]


def check_movable(pid: int) -> None:
    """Raises PreflightError if what the task, or one below it, is in just now keeps criu dump from it."""
    for process in tree(pid).values():
        if tracer := fence.tracer(process):
            raise PreflightError(f"task {process} is being traced, by process {tracer}: criu can't dump it")
    check_arrived(pid)


def check_arrived(pid: int) -> None:
    """Raises PreflightError if memory of the task, or of one below it, is still to come through a userfaultfd."""
    missing: dict[int, int] = {}
    for process in tree(pid).values():
        with contextlib.suppress(OSError):  # it has ended
            smaps = Path(f"/proc/{process}/smaps").read_bytes()
            if _USERFAULTFD.search(smaps):
                missing[process] = sum(_missing_bytes(smaps)) // PAGE_BYTES
    if not missing:
        return
    process = min(missing)
    others = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
    if any(map(_has_userfaultfd, missing)):
        raise PreflightError(f"task {process}{others} uses a userfaultfd of its own: criu can't move it")
    raise PreflightError(
        f"task {process}{others}: its memory is still arriving: {sum(missing.values())} pages missing, at most; wait "
        "until the migration that brings them has ended"
    )


def _missing_bytes(smaps: bytes) -> Iterator[int]:
    """Of each mapping that a userfaultfd watches: how much isn't there (zero pages aren't, either)."""
    begin = 0
    for flags in re.finditer(rb"^VmFlags:.*$", smaps, re.MULTILINE):
        if _USERFAULTFD.match(flags[0]):
            sizes = {name: int(kib) << 10 for name, kib in _SIZES.findall(smaps, begin, flags.end())}
            yield max(0, sizes[b"Size"] - sizes[b"Rss"] - sizes.get(b"Swap", 0))
        begin = flags.end()


def _has_userfaultfd(pid: int) -> bool:
    with contextlib.suppress(OSError):
        for fd in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                if fd.readlink().name == "anon_inode:[userfaultfd]":
                    return True
    return False


def measure(pid: int, charged: bool) -> Needs:
    """What the task and all below it take now. `charged`: criu is to restore it in the groups that it is in here.

    Forked processes may share pages; each will have its own after the restore. What is shared on purpose stays so.
    """
    needs = Needs()
    ours = cgroup.groups_of()
    own_pids = Path(f"/proc/{pid}/ns/pid").readlink() != Path("/proc/self/ns/pid").readlink()
    for process in tree(pid).values():
        with contextlib.suppress(OSError):  # it has ended
            facts = _status(process)
            anonymous = facts["RssAnon"] + facts["VmSwap"]
            groups = cgroup.groups_of(process)
            # criu restores in its own groups what was in those of the criu that dumped it.
            group = (cgroup.group_for("memory", groups) or "") if charged and groups != ours else ""
            total = anonymous + facts["VmPTE"] + (_shared_bytes(process) if facts["RssShmem"] else 0)
            needs.memory[group] = needs.memory.get(group, 0) + total
            threads = [int(thread.name) for thread in Path(f"/proc/{process}/task").iterdir()]
            needs.processes += 1
            needs.threads += len(threads)
            needs.ids += [] if own_pids else threads
            needs.dump_descriptors += PIPE_DESCRIPTORS * (-(-anonymous // PIPE_BYTES) + 1)
    return needs


def _status(pid: int) -> dict[str, int]:
    """Bytes, of /proc/PID/status; a zombie has none."""
    facts = dict.fromkeys(("RssAnon", "RssShmem", "VmSwap", "VmPTE"), 0)
    for line in Path(f"/proc/{pid}/status").read_text(errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name in facts:
            facts[name] = int(value.split()[0]) << 10
    return facts


def _shared_bytes(pid: int) -> int:
    """Its part of memory that it shares with others, and that no file system keeps."""
    return sum(int(kib) << 10 for kib in _SHARED.findall(Path(f"/proc/{pid}/smaps").read_bytes()))


def lacking_descriptors(needs: Needs) -> str | None:
    """Why criu dump could not hold the task, or None."""
    limit, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if needs.dump_descriptors <= limit:
        return None
    return (
        f"criu dump holds two descriptors for each 4 MiB and each process: {needs.dump_descriptors} for "
        f"{needs.processes} processes with {needs.memory_bytes / 1e6:.0f} MB, and {limit} are allowed "
        f"(RLIMIT_NOFILE): raise the hard limit, which is {hard}"
    )


def as_message(needs: Needs, profile: Profile, store: str) -> dict[str, Any]:
    """For the agent, which gives it to `lacking`. `store`: the directory there for pages that come before the dump."""
    return {
        "processes": needs.processes, "threads": needs.threads, "ids": pack_ids(needs.ids), "memory": needs.memory,
        "store": store, "check_memory": profile.destination.check_memory,
        "restore_options": [*profile.criu.options(), *profile.criu.restore_options],
        "daemon_options": profile.daemon_options,
    }  # fmt: skip


# ---- the destination ----


def lacking(needs: dict[str, Any]) -> list[str]:
    """What this host has too little of, or that criu's configuration here is contrary. `needs`: as the source told."""
    taken = [pid for pid in unpack_ids(needs["ids"]) if Path(f"/proc/{pid}").exists()]
    held = SERVED_DESCRIPTORS * needs["processes"] + OTHER_DESCRIPTORS
    limit, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    problems = [
        contrary_in_files("restore", needs["restore_options"], "criu.restore_options"),
        contrary_in_files("lazy-pages", needs["daemon_options"], "daemon_options"),
        _lacking_processes(needs["threads"]),
    ]
    if taken:
        more = f" and {len(taken) - 10} more" if len(taken) > 10 else ""
        problems.append(f"pids {taken[:10]}{more} are taken by other processes")
    if held > limit:
        problems.append(
            f"lazy-pages holds {held} descriptors for {needs['processes']} processes, and {limit} are allowed "
            f"(RLIMIT_NOFILE): raise the hard limit, which is {hard}"
        )
    if needs["check_memory"]:
        problems.append(_lacking_memory(needs["memory"], needs["store"]))
    return [problem for problem in problems if problem]


def _lacking_memory(memory: dict[str, int], store: str) -> str | None:
    """Why the task's memory, by groups, has no room here; None if it has. `store`: where it comes before the dump."""
    free = _meminfo()
    total = sum(memory.values())
    rooms = [(total, cgroup.Room(free["MemAvailable"] + free["SwapFree"], "this host"))]
    if (hierarchy := cgroup.hierarchy("memory")) is not None:
        own = cgroup.group_for("memory", cgroup.groups_of()) or "/"
        charged: dict[Path, int] = {}  # to a group, and to those below it
        for group, size in memory.items():
            for directory in hierarchy.chain(group or own):
                charged[directory] = charged.get(directory, 0) + size
        # A page leaves the store as it comes to the task.
        for directory in hierarchy.chain(own) if store and _is_in_memory(Path(store)) else ():
            charged[directory] = max(charged.get(directory, 0), total)
        for directory, size in charged.items():
            room = cgroup.memory_left(directory, hierarchy.version, free["SwapFree"])
            if room is not None:
                rooms.append((size, room))
    size, room = max(rooms, key=lambda item: item[0] - item[1].left)
    if size <= room.left:
        return None
    return (
        f"too little memory: the task will take {size / 1e6:.0f} MB (pages that its processes share after a fork count "
        f"for each), and {room.left / 1e6:.0f} MB are free in {room.where}; to try all the same: "
        "destination.check_memory: false"
    )


def _is_in_memory(path: Path) -> bool:
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


def _lacking_processes(threads: int) -> str | None:
    hierarchy = cgroup.hierarchy("pids")
    group = cgroup.group_for("pids", cgroup.groups_of()) or "/"
    for directory in hierarchy.chain(group) if hierarchy is not None else ():
        room = cgroup.processes_left(directory)
        if room is not None and threads > room.left:
            return f"the task has {threads} processes and threads, and {room.left} more may be in {room.where}"
    return None
