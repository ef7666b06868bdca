"""What the task's processes are in just now."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from criu_lazy_ext.checks.check import Found, check, fail, warn
from criu_lazy_ext.checks.leaving import Leaving
from criu_lazy_ext.checks.task import Process, Task
from criu_lazy_ext.errors import CriuLazyError
from criu_lazy_ext.sizes import PAGE_BYTES
from criu_lazy_ext.system import cgroup
from criu_lazy_ext.system.holders import name_of

USERFAULTFD = "anon_inode:[userfaultfd]"
SYS_KCMP, KCMP_VM = 312, 1
KCMP_THREADS = {2: "descriptors", 3: "a current directory"}  # KCMP_FILES, KCMP_FS
SUPERVISORS = frozenset(
    {"supervisord", "runsv", "s6-supervise", "monit", "circusd", "god", "daemon", "daemontools", "supervise", "perpd"}
)
ENGINES = {"Docker": r"docker[-/]", "podman": r"libpod-|/libpod_", "Kubernetes": r"kubepods", "LXC": r"lxc[./]"}
WATCHERS = {
    "conmon": "podman",
    "containerd-shim": "containerd",
    "containerd-shim-runc-v2": "containerd",
    "crio": "CRI-O",
}
MOST_ANCESTORS = 16
# Of a kernel without time namespaces the last two are nowhere.
NOT_NESTED = ("user", "pid", "ipc", "uts", "cgroup", "time", "time_for_children")
NESTED = ("mnt", "net")  # but only below a root that has its own
OF_THREADS = ("net", "mnt", "ipc", "uts", "cgroup", "time")  # which one of them may have unshared
SHORT_LIVED_S, SETTLED_S = 1.0, 2.0
LOOK_AGAIN_S = 0.1


class NotMovable(CriuLazyError):
    """The task's present state keeps criu from dumping it."""


@check(
    "tracer", why="criu dump is a tracer itself, and a process has only one.", way_out="detach the debugger, or end it"
)
def tracer(leaving: Leaving) -> Iterator[Found]:
    """who traces the task: gdb, strace, another criu dump"""
    for process in leaving.task.processes if leaving.task else []:
        if process.tracer:
            who = name_of(process.tracer)
            way_out = "another migration moves it: criu-lazy status" if who.endswith("(criu)") else ""
            yield fail(f"task {process.pid} is being traced, by process {who}: criu can't dump it", way_out)
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


@check(
    "moves-itself",
    why="criu freezes all of the task; whoever is a part of it, and moves it, would wait for itself.",
    way_out="run it from another session: one of tmux or screen, or of SSH, that isn't below the task",
)
def moves_itself(leaving: Leaving) -> Iterator[Found]:
    """whether this very program is below the task, or the task is the first process of this host"""
    task = leaving.task
    if task is not None and os.getpid() in task.pids:
        yield fail(f"criu-lazy itself, process {os.getpid()}, is below task {task.pid}")
    elif task is not None and task.pid == 1:
        yield fail("task 1 is the first process of this host", "give the pid of what is to move")


@check("frozen", why="A frozen task can't be made to tell its state: criu dump waits in vain.", way_out="thaw it first")
def frozen(leaving: Leaving) -> Iterator[Found]:
    """control groups of the task that are frozen (podman pause, systemctl freeze, a batch system)"""
    for process in leaving.task.processes if leaving.task else []:
        freezers: list[cgroup.Freezer] = []
        with contextlib.suppress(OSError):  # it has ended
            freezers = cgroup.Freezer.all_of(cgroup.groups_of(process.pid))
        for freezer in freezers:
            if freezer.freezes():
                yield fail(f"process {process.pid} is in a frozen control group, {freezer.directory}")
                return


def _look_again(found: list[Process]) -> Iterator[Process]:
    """Those that are still there, as they are after a moment: what each goes through as it starts or ends (vfork until
    exec, the end of its threads, a zombie until its parent waits) stops nothing."""
    if found:
        time.sleep(LOOK_AGAIN_S)
    for process in found:
        with contextlib.suppress(OSError):  # it has ended
            now = Process.look(process.pid, process.inner_pid)
            if now.began == process.began:
                yield now


def _has_dead_leader(process: Process) -> bool:
    return process.state in "ZX" and len(process.threads) > 1


def _is_zombie(process: Process) -> bool:
    return process.state in "ZX" and len(process.threads) <= 1


def _shares_memory(process: Process, pids: set[int]) -> bool:
    """With its parent, one of `pids`."""
    return process.parent in pids and process.state not in "ZX" and kcmp(process.pid, process.parent, KCMP_VM) == 0


@check(
    "dead-leader",
    why="criu knows no process whose first thread has ended while others go on.",
    way_out="the program has to keep its main thread: it is to wait for the others (pthread_join)",
)
def dead_leader(leaving: Leaving) -> Iterator[Found]:
    """processes whose first thread has ended"""
    found = [item for item in (leaving.task.processes if leaving.task else []) if _has_dead_leader(item)]
    for process in _look_again(found):
        if _has_dead_leader(process):
            yield fail(f"the first thread of process {process.pid} ({process.name}) has ended, and others go on")
            return


@check(
    "zombies",
    why="criu restores a zombie in the session in which it died, whose leader has to be in the task.",
    way_out="wait until its parent has reaped it, or end that parent",
)
def zombies(leaving: Leaving) -> Iterator[Found]:
    """processes that have ended, and that nobody has waited for"""
    pid, pids = (leaving.task.pid, leaving.task.pids) if leaving.task else (0, set[int]())
    found = [item for item in (leaving.task.processes if leaving.task else []) if _is_zombie(item)]
    for process in _look_again([item for item in found if item.pid == pid or item.session not in pids]):
        who = f"{process.pid} ({process.name})"
        if process.pid == pid and _is_zombie(process):
            yield fail(f"task {who} has ended: it is a zombie", "there is nothing to move")
            return
        if _is_zombie(process):
            yield fail(f"process {who} is a zombie, whose session leader is outside of the task")
            return


@check(
    "short-lived",
    why="What such a process opens (a compiler its temporary files) isn't known before the freeze. A file that the "
    "destination lacks fails the restore: rolled back.",
    way_out="a restore that lacks a file is rolled back: try again, or let both hosts mount what they write to",
)
def short_lived(leaving: Leaving) -> Iterator[Found]:
    """processes that began less than a second ago, in a task that has run for longer: others come and go like them"""
    ticks = os.sysconf("SC_CLK_TCK")
    now = time.clock_gettime(time.CLOCK_BOOTTIME) * ticks
    root, *others = leaving.task.processes if leaving.task else [Process(0, 0)]
    for process in others:
        is_new = now - process.began < SHORT_LIVED_S * ticks and process.began - root.began > SETTLED_S * ticks
        if is_new and process.state not in "ZX":
            what = "what its like will have open is not known"
            yield warn(f"process {process.pid} ({process.name}) began just now: {what}")
            return


@check(
    "shared-memory-space",
    why="criu dumps no two processes in one address space: vfork() until the child calls exec, clone(CLONE_VM).",
    way_out="wait until the child has called exec; a program that stays so can't be moved",
)
def one_address_space(leaving: Leaving) -> Iterator[Found]:
    """processes that share their memory with their parent"""
    pids = leaving.task.pids if leaving.task else set[int]()
    found = [item for item in (leaving.task.processes if leaving.task else []) if _shares_memory(item, pids)]
    for process in _look_again(found):
        if _shares_memory(process, pids):
            yield fail(f"process {process.pid} runs in the memory of its parent {process.parent}")
            return


@check(
    "own-of-threads",
    why="criu takes descriptors, directories and namespaces of a process from its first thread, for all of them.",
    way_out="a program whose threads unshare() them can't be moved right",
)
def own_of_threads(leaving: Leaving) -> Iterator[Found]:
    """threads with descriptors, a current directory or namespaces other than those of their process"""
    for process in leaving.task.processes if leaving.task else []:
        of_process = _namespaces(Path(f"/proc/{process.pid}"), OF_THREADS)
        is_alive = process.state not in "ZX"  # its first thread, that is
        for thread in process.threads if is_alive and len(process.threads) > 1 else []:
            own = [what for kind, what in KCMP_THREADS.items() if kcmp(process.pid, thread, kind) > 0]
            namespaces = _namespaces(Path(f"/proc/{process.pid}/task/{thread}"), OF_THREADS)
            own += [f"a {kind} namespace" for kind, name in namespaces.items() if of_process.get(kind, name) != name]
            if own:
                yield fail(f"thread {thread} of process {process.pid} ({process.name}) has {own[0]} of its own")
                return


def kcmp(first: int, second: int, what: int) -> int:
    """0: both have the same; -1: can't be told, as one has ended."""
    return int(ctypes.CDLL(None, use_errno=True).syscall(SYS_KCMP, first, second, what, 0, 0))


@check(
    "supervisor",
    why="When the source task has gone, who watches over it starts it anew: there are two.",
    way_out="have it not start another: of systemd, Restart=no in /run/systemd/system/UNIT.d/move.conf, daemon-reload",
)
def supervisor(leaving: Leaving) -> Iterator[Found]:
    """the parent of the task, and its systemd unit: whether it would be started again"""
    task = leaving.task
    if task is None or task.has_own("pid"):
        return
    parent = task.processes[0].parent
    with contextlib.suppress(OSError):
        name = Path(f"/proc/{parent}/comm").read_text(errors="replace").strip()
        if name in SUPERVISORS:
            yield warn(f"its parent, process {parent} ({name}), may start it again when it has gone")
            return
    unit = _unit(task.pid)
    if unit and shutil.which("systemctl"):
        command = ["systemctl", "show", "-p", "Restart", "--value", unit]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=2)
        restart = done.stdout.strip()
        if done.returncode == 0 and restart not in ("", "no"):
            yield warn(f"systemd will start {unit} again when it has gone (Restart={restart})")


def _unit(pid: int) -> str:
    """The service of systemd's that the process is in, or ""."""
    for group in cgroup.groups_of(pid).values():
        for part in reversed(group.split("/")):
            if part.endswith(".service") and not part.startswith(("user@", "ssh")):
                return part
    return ""


@check(
    "container",
    why="A container's files, mounts, networks and groups are its engine's to make anew at the destination; criu alone "
    "does not know of them.",
    way_out="move it as a container: criu-lazy init --container NAME writes the profile",
)
def container(leaving: Leaving) -> Iterator[Found]:
    """namespaces of the task's own, and the engine that made them"""
    task = leaving.task
    if task is None or not (task.has_own("mnt") or task.has_own("user")):
        return
    engine = _engine(task.pid)
    if engine:
        yield fail(f"task {task.pid} is in a container of {engine}'s")
    elif task.has_own("user"):
        yield fail(
            f"task {task.pid} has a user namespace of its own, in which criu is not allowed what its restore takes",
            "start it without (unshare --user), or as a container of an engine's",
        )
    elif Path(f"/proc/{task.pid}/root").readlink() != Path("/") or _root_mount(task.pid) != _root_mount(os.getpid()):
        yield fail(f"task {task.pid} has a root file system of its own, and no engine that is known here made it")
    else:
        yield warn(
            f"task {task.pid} has a mount namespace of its own: criu makes it anew, with the mounts that it had",
            "of a systemd service: PrivateTmp=, ProtectSystem= and their like make one; a drop-in can turn them off",
        )


@check(
    "nested-namespaces",
    why="criu makes namespaces anew for the root of the task; below it only mount and network namespaces, and only if "
    "the root has its own.",
    way_out="end what made them (a sandbox, bubblewrap, unshare); an engine's container moves by itself, as one: "
    "criu-lazy init --container NAME",
)
def nested_namespaces(leaving: Leaving) -> Iterator[Found]:
    """processes below the root that have other namespaces than it"""
    task = leaving.task
    if task is None:
        return
    kinds = [*NOT_NESTED, *(kind for kind in NESTED if not task.has_own(kind))]
    of_root = _namespaces(task.directory, kinds)
    of_root["time_for_children"] = of_root.get("time", "")
    for process in task.processes:
        for kind, name in _namespaces(Path(f"/proc/{process.pid}"), kinds).items():
            if of_root.get(kind) != name:
                yield fail(f"process {process.pid} ({process.name}) has another {kind} namespace than task {task.pid}")
                return


def _namespaces(process: Path, kinds: Iterable[str]) -> dict[str, str]:
    """By their kinds; none of a process, or thread, that has ended."""
    found: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for kind in kinds:
            found[kind] = str((process / "ns" / kind).readlink())
    return found


def _engine(pid: int) -> str:
    """The engine whose container the process is in, by its control groups and by who watches over it; "" if none."""
    groups = " ".join(cgroup.groups_of(pid).values())
    for name, mark in ENGINES.items():
        if re.search(mark, groups):
            return name
    for _ in range(MOST_ANCESTORS):
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[1])
            name = Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
        except OSError:
            return ""
        if name in WATCHERS:
            return WATCHERS[name]
    return ""


def _root_mount(pid: int) -> str:
    """The file system and the directory of it that a process has as its root."""
    for line in Path(f"/proc/{pid}/mountinfo").read_text(errors="replace").splitlines():
        fields = line.split()
        if fields[4] == "/":
            return f"{fields[2]} {fields[3]}"
    return ""


def profiles(task: Task) -> list[str]:
    """Those of AppArmor that the task's processes have; without AppArmor, none."""
    found = set()
    for process in task.processes:
        with contextlib.suppress(OSError):  # it has ended, or there is no AppArmor
            name, _, mode = Path(f"/proc/{process.pid}/attr/apparmor/current").read_text().strip().rpartition(" (")
            found.add(name if mode else "")
    return sorted(found - {""})
