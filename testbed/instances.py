"""The record of running testbeds, below /run: who owns each, and what to undo when its driver died.

A testbed's processes carry its random id as their first argument, so that they are found by the id alone, whatever
moment its driver was killed at. When a host's first process dies, all that host had goes with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from testbed.errors import TestbedError
from testbed.prepare import TOOLS, locked

RUN = Path("/run/criu-lazy-testbed")
SYSCTLS_FILE = RUN / "sysctls.json"
# Hosts share the machine's cgroups: containers' go below CGROUP_PARENT/<testbed's name>, and are removed from there.
CGROUP_MOUNT = Path("/sys/fs/cgroup")
CGROUP_PARENT = "criu-lazy-testbed"
NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9_-]{0,30}")

# Not kept per namespace, so the machine's own must change while a testbed runs (facts: CRIU's page pipes need
# them without CAP_SYS_RESOURCE; a task in a user namespace needs the third to be restored lazily).
SYSCTLS = {
    "fs.pipe-max-size": "4194304",
    "fs.pipe-user-pages-soft": "0",
    "vm.unprivileged_userfaultfd": "1",
}

State = dict[str, Any]


@contextlib.contextmanager
def registry_lock() -> Iterator[None]:
    """Held while testbeds are entered in or removed from the record."""
    with locked(RUN / "lock"):
        yield


def check_name(name: str) -> None:
    """Raises TestbedError for a name that could not be a directory's."""
    if not NAME_PATTERN.fullmatch(name):
        raise TestbedError(
            f"testbed name {name!r}: at most 31 lower-case letters, digits, - and _ are allowed,"
            " a letter or digit first"
        )


def directory_of(name: str) -> Path:
    """Where the testbed called `name` keeps its state."""
    return RUN / name


def load(name: str) -> State | None:
    """The state of the testbed called `name`; None if there is none."""
    try:
        state: State = json.loads((directory_of(name) / "state.json").read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return state


def save(state: State) -> None:
    """Write a testbed's state; whoever reads sees the old or the new one."""
    path = directory_of(state["name"]) / "state.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}")
    temporary.write_text(json.dumps(state, indent=1) + "\n")
    temporary.rename(path)


def names() -> list[str]:
    """All testbeds on record, sorted."""
    return sorted(path.name for path in RUN.glob("*") if path.is_dir())


def process_identity(pid: int) -> dict[str, int] | None:
    """A process as (pid, start time in clock ticks since boot), which never comes again; None if it is gone."""
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if after_name[0] in "ZX" else {"pid": pid, "start": int(after_name[19])}


def is_abandoned(state: State | None) -> bool:
    """Whether nobody answers for this testbed any more: its driver is gone, or its hosts are."""
    if state is None:
        return True
    # Only the driver answers for it; hosts that were left up answer for themselves.
    answering: list[dict[str, int]] = [state["owner"]] if state["owner"] else list(state["hosts"].values())
    return any(process_identity(process["pid"]) != process for process in answering)


def remove(name: str) -> None:
    """End the testbed's processes, and with them its namespaces, mounts and devices, and forget it."""
    state = load(name)
    if state is not None:
        kill_marked(state["id"])
        remove_cgroups(name)
    shutil.rmtree(directory_of(name), ignore_errors=True)
    if not names():
        restore_sysctls()


def remove_abandoned() -> list[str]:
    """Clean up after drivers that died; returns the names of their testbeds."""
    abandoned = [name for name in names() if is_abandoned(load(name))]
    for name in abandoned:
        remove(name)
    return abandoned


def marked_processes(identity: str) -> list[int]:
    """The pids of the testbed's own processes (hosts' first processes and the delay line)."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            arguments = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        is_tool = Path(os.fsdecode(arguments[0])).name in TOOLS
        if is_tool and arguments[1:2] == [identity.encode()]:
            found.append(int(entry.name))
    return found


def kill_marked(identity: str) -> None:
    """SIGKILL the testbed's own processes and wait until they are gone."""
    deadline = time.monotonic() + 30
    while pids := marked_processes(identity):
        for pid in pids:
            kill_and_wait(pid, deadline)
        if time.monotonic() > deadline:
            raise TestbedError(f"processes {pids} of the testbed don't end although they were killed")


def kill_and_wait(pid: int, deadline: float) -> None:
    """SIGKILL `pid`; returns when it has ended or the deadline (time.monotonic()) has passed."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
    finally:
        os.close(descriptor)


def make_cgroup(name: str, host: str) -> Path:
    """The directory of a host's own control group, in the machine's cgroup2 hierarchy."""
    unified = CGROUP_MOUNT / "unified"
    group = (unified if unified.is_mount() else CGROUP_MOUNT) / CGROUP_PARENT / name / host
    group.mkdir(parents=True, exist_ok=True)
    return group


def remove_cgroups(name: str) -> None:
    """Remove what containers in the hosts left below CGROUP_PARENT/name, in every hierarchy; nobody is in them."""
    hierarchies = [CGROUP_MOUNT, *(path for path in CGROUP_MOUNT.glob("*") if path.is_mount())]
    for hierarchy in hierarchies:
        top = hierarchy / CGROUP_PARENT / name
        below = [path for path in top.glob("**/*") if path.is_dir()] if top.is_dir() else []
        for group in [*sorted(below, reverse=True), top, top.parent]:
            # Not empty: another testbed's, or the kernel is still at it; the next start removes it then.
            with contextlib.suppress(OSError):
                group.rmdir()


def sysctl_path(key: str) -> Path:
    return Path("/proc/sys") / key.replace(".", "/")


def set_sysctls() -> None:
    """Set the machine's sysctls, keeping what they were before the first testbed."""
    if not SYSCTLS_FILE.exists():
        before = {key: sysctl_path(key).read_text().strip() for key in SYSCTLS if sysctl_path(key).exists()}
        temporary = SYSCTLS_FILE.with_suffix(".new")
        temporary.write_text(json.dumps(before))
        temporary.rename(SYSCTLS_FILE)
    for key, value in SYSCTLS.items():
        if sysctl_path(key).exists():
            sysctl_path(key).write_text(value)


def restore_sysctls() -> None:
    """Give the machine its own sysctls back; called when the last testbed is gone."""
    try:
        before: dict[str, str] = json.loads(SYSCTLS_FILE.read_text())
    except FileNotFoundError:
        return
    for key, value in before.items():
        sysctl_path(key).write_text(value)
    SYSCTLS_FILE.unlink()
