"""Whether a container's engine can move it, and the destination has what that needs; each engine's part: engines/."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from criu_lazy_ext.checks.check import Found, check, fail, warn
from criu_lazy_ext.checks.files import SHARED_KINDS, Mounts
from criu_lazy_ext.checks.leaving import Leaving
from criu_lazy_ext.checks.needs import Arrival
from criu_lazy_ext.checks.task import Task
from criu_lazy_ext.engines.engine import Moved, container_of_message, engine_of
from criu_lazy_ext.system import cgroup
from criu_lazy_ext.system.holders import name_of


@check(
    "engine",
    why="The container's own engine dumps it, and makes it anew at the destination: what it can't make stays here.",
)
def engine(leaving: Leaving) -> Iterator[Found]:
    """what the engine knows of the container: its terminal, runtime, networks, volumes, pod"""
    if leaving.moved is not None:
        for problem in leaving.moved.engine.obstacles(leaving.moved.found):
            yield fail(problem)


@check(
    "shared-network",
    why="criu's lock keeps all packets of the network namespace away, those of who stays in it, too; and who stays "
    "loses the addresses, or those who move, what it was reached by.",
    way_out="end it first; a pod of podman's moves as one, by criu-lazy evacuate (init --evacuate writes a plan)",
)
def shared_network(leaving: Leaving) -> Iterator[Found]:
    """processes of others in the container's own network namespace (--network container:NAME, a path in config.json)"""
    task = leaving.task
    if task is None or not task.has_own("net"):
        return
    pod = _pod(leaving)
    for pid in _sharers(task):
        if pod and any(pod in group for group in cgroup.groups_of(str(pid)).values()):
            continue
        yield fail(f"process {name_of(pid)} is in the container's network namespace, and stays here")
        return


def _pod(leaving: Leaving) -> str:
    """The ID, which its control groups have in their names, of the pod with which the container moves; "": alone."""
    container, moved = leaving.profile.container if leaving.profile is not None else None, leaving.moved
    if container is None or container.pod is None or moved is None:
        return ""
    return str(moved.found.config.get("Pod") or "")


def _sharers(task: Task) -> Iterator[int]:
    """Who is in the task's network namespace, and neither in its pid namespace nor one of its processes."""
    network, pids = ((task.directory / "ns" / kind).readlink() for kind in ("net", "pid"))
    own = pids if task.has_own("pid") else None
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) not in task.pids:
            with contextlib.suppress(OSError):  # it has ended
                if (entry / "ns/net").readlink() == network and (entry / "ns/pid").readlink() != own:
                    yield int(entry.name)


@check(
    "control-groups",
    why="Where hierarchies of v1 are beside v2, criu makes groups in them which crun knows nothing of: the restore "
    "fails, or they stay, with their CPUs for themselves (cpu_exclusive).",
    way_out="criu.manage_cgroups: ignore (crun makes the container's group all the same, with its limits)",
)
def control_groups(leaving: Leaving) -> Iterator[Found]:
    """control groups v1 beside v2, of a container that crun runs"""
    if leaving.moved is None or leaving.moved.found.runtime != "crun":
        return
    if cgroup.has_both_versions(leaving.moved.found.pid) and leaving.dump_value("manage-cgroups") != "ignore":
        yield fail("this host has control groups v1 beside v2")


def _sent_with_its_files(leaving: Leaving) -> Moved | None:
    """The container; None if no container moves, or both hosts see its files."""
    container = leaving.profile.container if leaving.profile is not None else None
    return None if container is None or container.files == "shared" else leaving.moved


@check(
    "container-files",
    why="They go over by rsync: before the freeze, and then the difference.",
    way_out="apt install rsync here; or bring them otherwise, and say container.files: shared",
)
def container_files(leaving: Leaving) -> Iterator[Found]:
    """rsync, if files of the container's are to be sent"""
    moved = _sent_with_its_files(leaving)
    if moved is not None and moved.engine.trees(moved.found) and shutil.which("rsync") is None:
        yield fail("rsync is not installed")


@check(
    "bind-mounts",
    why="What is in a directory of the host's that is mounted in the container stays here: there it finds what the "
    "destination has in the directory of that name.",
    way_out="name it in container.volumes, and it goes with it (what the destination has there besides is deleted); "
    "have both hosts mount it; or, if each host has its own, accept: [bind-mounts]",
)
def bind_mounts(leaving: Leaving) -> Iterator[Found]:
    """directories of this host alone that it may write to, and that are not sent"""
    if (moved := _sent_with_its_files(leaving)) is None:
        return
    mounts = Mounts()
    for path in moved.engine.expectations(moved.found)["written"]:
        if Path(path).is_dir() and mounts.kind_of(path) not in SHARED_KINDS:
            yield warn(f"{path} is mounted from this host, and stays here")


@check(
    "engine-there",
    why="The engine at the destination restores the container from what it has there.",
)
def engine_there(arrival: Arrival) -> Iterator[Found]:
    """the engine, its runtime, image, networks, namespaces and bind mounts there; and that it has none of that name"""
    if arrival.container:
        container = container_of_message(arrival.container["profile"])
        for problem in engine_of(container).lacking(arrival.container["expected"]):
            yield fail(problem)
