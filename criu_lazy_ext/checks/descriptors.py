"""What the task has open besides files and network sockets: pipes, terminals, devices, the kernel's own objects."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from criu_lazy_ext.checks.check import Found, check, fail, warn
from criu_lazy_ext.checks.leaving import Leaving
from criu_lazy_ext.checks.task import DELETED, O_ACCMODE, O_RDWR, O_WRONLY, Descriptor, Task
from criu_lazy_ext.system.holders import holders, name_of

# Of anonymous inodes: what criu 4.1 can dump.
ANONYMOUS = re.compile(
    r"anon_inode:(\[eventfd\]|\[eventpoll\]|inotify|\[fanotify\]|\[signalfd\]|\[timerfd\]|\[pidfd\]|bpf-map)"
)
USERFAULTFD = "anon_inode:[userfaultfd]"  # has a check of its own
PIDFD = "anon_inode:[pidfd]"
MEMORY_MAJOR, MISC_MAJOR, TUN_MINOR, AUTOFS_MINOR = 1, 10, 200, 235
TERMINALS = re.compile(r"/dev/(pts/\d+|tty\w*|console)$")
PTMX = re.compile(r"/dev/(pts/)?ptmx$")
TTY_MAJORS = frozenset({4, 5, *range(136, 144), 188, 204, 229})
SHOWN = 3


def _pipes(task: Task) -> dict[str, list[Descriptor]]:
    """Those with and those without a name, each with the task's descriptors of it."""
    found: dict[str, list[Descriptor]] = {}
    for descriptor in task.descriptors():
        if descriptor.target.startswith("pipe:[") or (descriptor.target.startswith("/") and _is_fifo(descriptor)):
            found.setdefault(descriptor.target, []).append(descriptor)
    return found


def _is_fifo(descriptor: Descriptor) -> bool:
    try:
        return stat.S_ISFIFO(descriptor.link.stat().st_mode)
    except OSError:  # closed meanwhile
        return False


def _reads(descriptor: Descriptor) -> bool:
    return descriptor.flags is not None and descriptor.flags & O_ACCMODE != O_WRONLY


def _writes(descriptor: Descriptor) -> bool:
    return descriptor.flags is not None and descriptor.flags & O_ACCMODE in (O_WRONLY, O_RDWR)


@check(
    "outside-pipes",
    why="criu restores the task's end of a pipe alone: the first write to it ends the task by SIGPIPE, a read sees the "
    "end of input.",
    way_out="start it with its output in a file (>>FILE 2>&1), not in a pipe; or move who is at "
    "the other end with it, as one tree",
)
def outside_pipes(leaving: Leaving) -> Iterator[Found]:
    """pipes, and FIFOs, of which a process that stays has the other end: `task | logger`, output that a supervisor
    collects"""
    task = leaving.task
    if task is None:
        return
    one_ended = {
        target: ends[0]
        for target, ends in _pipes(task).items()
        if not (any(map(_reads, ends)) and any(map(_writes, ends)))
    }
    given = " ".join(leaving.restore_words())
    for target, other in holders({target: end.link for target, end in one_ended.items()}, task.pid).items():
        end = one_ended[target]
        if target in given:  # --inherit-fd
            continue
        text = f"{end.which} is a pipe to process {name_of(other)}, which stays here"
        if _writes(end):
            yield fail(f"{text}: the task would die of SIGPIPE")
        else:
            yield warn(f"{text}: the task would see the end of its input")


@check(
    "terminal",
    why="A terminal stays with its host: nothing at the destination could be given to criu restore in its place.",
    way_out="start it without one: setsid PROGRAM </dev/null >>FILE 2>&1; or in tmux or screen, and move their server "
    "with all below it",
)
def terminal(leaving: Leaving) -> Iterator[Found]:
    """terminals (/dev/pts/N, /dev/tty, a console) whose other end is not the task's own"""
    if leaving.task is None:
        return
    own = {
        f"/dev/pts/{descriptor.info().get('tty-index', '')}"
        for descriptor in leaving.task.descriptors()
        if PTMX.match(descriptor.target)
    }
    given = " ".join([*leaving.restore_words(), *leaving.dump_words()])
    for descriptor in leaving.task.descriptors():
        path = descriptor.target.removesuffix(DELETED)
        if path == "/dev/tty" and own:
            way_out = "a shell that keeps none open helps: bash, not dash"
            yield fail(f"{descriptor.which} is /dev/tty, of a terminal that another process of the task made", way_out)
            return
        if TERMINALS.match(path) and path not in own and path != "/dev/tty" and "tty[" not in given:
            yield fail(f"{descriptor.which} is the terminal {path}, which stays here")
            return


@check(
    "session",
    why="criu dumps a tree whose root leads its session; of a job of a shell, the session stays with the shell.",
    way_out="start it by setsid; or criu.shell_job: true, which restores it in the session of criu-lazy there",
)
def session(leaving: Leaving) -> Iterator[Found]:
    """whether the root of the task leads its session, or is a job of a shell"""
    if leaving.task is None:
        return
    root = leaving.task.processes[0]
    if root.session == 0:
        yield fail(f"task {root.pid} is in a session of another pid namespace", "start it by setsid")
    elif root.session != root.pid and "--shell-job" not in leaving.dump_flags():
        yield fail(f"task {root.pid} is no session leader: it is in that of process {name_of(root.session)}")


@check(
    "kernel-objects",
    why="criu has no means to read them out of the kernel and to make them anew.",
    way_out="a setting of the program that does without (of all: sysctl kernel.io_uring_disabled=2)",
)
def kernel_objects(leaving: Leaving) -> Iterator[Found]:
    """anonymous inodes that criu can't dump: io_uring, perf events, BPF programs, KVM, secret memory, ..."""
    seen: set[str] = set()
    for process in leaving.task.processes if leaving.task else ():
        if any(mapping.path.startswith("/secretmem") for mapping in process.mappings):
            yield fail(f"process {process.pid} ({process.name}) has secret memory (memfd_secret): criu can't dump it")
            return
    for descriptor in leaving.task.descriptors() if leaving.task else ():
        target = descriptor.target
        is_known = not target.startswith("anon_inode:") or ANONYMOUS.match(target) or target == USERFAULTFD
        if not is_known and target not in seen:
            seen.add(target)
            yield fail(f"{descriptor.which} is {target.removeprefix('anon_inode:')}: criu can't dump it")


@check(
    "outside-pidfds",
    why="criu dumps a pidfd with the process that it stands for.",
    way_out="have the task close it, or move that process with it, as one tree",
)
def outside_pidfds(leaving: Leaving) -> Iterator[Found]:
    """pidfds (pidfd_open) of processes that stay"""
    task = leaving.task
    own = {thread for process in task.processes for thread in process.threads} if task else set()
    for descriptor in task.descriptors() if task else ():
        if descriptor.target == PIDFD and (pid := int(descriptor.info().get("Pid", 0))) > 0 and pid not in own:
            yield fail(f"{descriptor.which} is a pidfd of process {name_of(pid)}, which stays here")
            return


@check(
    "devices",
    why="A device's state is in its driver and its hardware.",
    way_out="a plugin of criu's (amdgpu, cuda) may know that device; else the task has to let go of it",
)
def devices(leaving: Leaving) -> Iterator[Found]:
    """devices that the task has open, but those like /dev/null and terminals (TUN goes with a network namespace)"""
    seen: set[str] = set()
    for descriptor in leaving.task.descriptors() if leaving.task else ():
        if not descriptor.target.startswith("/dev/") or descriptor.target in seen:
            continue
        seen.add(descriptor.target)
        try:
            found = descriptor.link.stat()
        except OSError:  # closed meanwhile
            continue
        major, minor = os.major(found.st_rdev), os.minor(found.st_rdev)
        is_known = major == MEMORY_MAJOR or major in TTY_MAJORS
        is_known |= major == MISC_MAJOR and minor == AUTOFS_MINOR
        is_known |= (
            major == MISC_MAJOR and minor == TUN_MINOR and leaving.task is not None and leaving.task.has_own("net")
        )
        if (stat.S_ISCHR(found.st_mode) and not is_known) or stat.S_ISBLK(found.st_mode):
            yield fail(f"{descriptor.which} is the device {descriptor.target}: criu can't dump it")


@check(
    "outside-mounts",
    why="criu looks for an open file's mount among those of the task, and its dump fails where that is none of them.",
    way_out="start the task without what it inherited (9>&- for descriptor 9), or let it open the file again",
)
def outside_mounts(leaving: Leaving) -> Iterator[Found]:
    """open files whose mount the task does not see: of another mount namespace (inherited through nsenter, unshare), or
    unmounted since (umount --lazy)"""
    task = leaving.task
    if task is None:
        return
    known: set[str] = set()
    # One that has changed its root does not list them all; this process does, of its own namespace.
    this = set() if task.has_own("mnt") else {os.getpid()}
    for process in {descriptor.process for descriptor in task.descriptors()} | this:
        with contextlib.suppress(OSError):  # it has ended
            lines = Path(f"/proc/{process}/mountinfo").read_text(errors="surrogateescape").splitlines()
            known.update(line.split(" ", 1)[0] for line in lines)
    for descriptor in task.descriptors():
        path = descriptor.target
        if not path.startswith("/") or path.endswith(DELETED) or TERMINALS.fullmatch(path) or PTMX.fullmatch(path):
            continue
        if (mount := descriptor.info().get("mnt_id")) is not None and mount not in known:
            yield fail(f"{descriptor.which} is {path} in a mount that is none of the task's")


@check(
    "inotify",
    why="criu finds a watched file by its handle, which not every file system gives (overlayfs: nfs_export=on).",
    way_out="criu.dump_options: [--force-irmap, --irmap-scan-path, DIRECTORY] has criu search for the file",
)
def inotify(leaving: Leaving) -> Iterator[Found]:
    """files that the task watches (inotify, fanotify): whether criu can find their names"""
    if leaving.task is None or leaving.dump_flags() & {"--force-irmap", "--irmap-scan-path"}:
        return
    mounts = _mounts_by_device(leaving.task.directory)
    for descriptor in leaving.task.descriptors():
        if not descriptor.target.startswith(("anon_inode:inotify", "anon_inode:[fanotify]")):
            continue
        path = Path(f"/proc/{descriptor.process}/fdinfo/{descriptor.number}")
        try:
            lines = path.read_text().splitlines()
        except OSError:
            continue
        for line in lines:
            watch = dict(word.split(":", 1) for word in line.split() if ":" in word)
            if "ino" in watch and "sdev" in watch and (why_not := _why_not_found(watch, mounts, leaving.task.pid)):
                yield fail(
                    f"{descriptor.which} watches a file (inode 0x{watch['ino']}) that criu can't name: {why_not}"
                )
                return


def _mounts_by_device(process: Path) -> dict[int, str]:
    found: dict[int, str] = {}
    for line in (process / "mountinfo").read_text(errors="surrogateescape").splitlines():
        fields = line.split()
        major, minor = map(int, fields[2].split(":"))
        found.setdefault(os.makedev(major, minor), fields[4])
    return found


def _why_not_found(watch: dict[str, str], mounts: dict[int, str], pid: int) -> str:
    """ "" if it can be opened by its handle."""
    number = int(watch["sdev"], 16)  # as the kernel's new_encode_dev or its own 12:20 bits
    device = os.makedev(number >> 20, number & 0xFFFFF)
    mount = mounts.get(device)
    if mount is None:
        return "it is on no mount of the task's"
    if "f_handle" not in watch:
        return f"the file system of {mount} gives no handles"
    handle = bytes.fromhex(watch["f_handle"])
    kind = int(watch.get("fhandle-type", "0"), 16)
    raw = len(handle).to_bytes(4, "little") + kind.to_bytes(4, "little") + handle
    libc = ctypes.CDLL(None, use_errno=True)
    where = os.open(f"/proc/{pid}/root{mount}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        opened = libc.open_by_handle_at(where, raw, os.O_PATH | os.O_CLOEXEC)
    finally:
        os.close(where)
    if opened < 0:
        return f"{os.strerror(ctypes.get_errno())} on {mount}"
    os.close(opened)
    return ""
