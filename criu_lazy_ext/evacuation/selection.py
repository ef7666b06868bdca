"""Which tasks and containers a plan's entries mean, as they run now."""

from __future__ import annotations

import contextlib
import fnmatch
import re
from dataclasses import dataclass, replace
from pathlib import Path

from criu_lazy_ext.engines.engine import engine_of, running
from criu_lazy_ext.errors import CriuLazyError
from criu_lazy_ext.evacuation.plan import TAKEN, Entry, PlanFile, pairs
from criu_lazy_ext.profile import Container, ProfileError
from criu_lazy_ext.source.dump import find_task, memory_of_tree
from criu_lazy_ext.system.cgroup import groups_of
from criu_lazy_ext.system.processes import parent, start_time

NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]+")
MAX_NAME = 48  # it is part of a path to a socket


class SelectionError(CriuLazyError):
    """An entry means nothing that runs here."""


@dataclass(frozen=True)
class Chosen:
    """One task or container that is to move, by `entry`. `pid`, `began`: of its first process; `container`: its name;
    None: it is a task. `memory`: bytes that it has now. `pod`: that it is a part of, or ""."""

    entry: Entry
    name: str
    pid: int
    began: int
    container: str | None
    memory: int
    pod: str = ""


def select(file: PlanFile) -> tuple[list[Chosen], list[str]]:
    """All that the plan means, each once, in the plan's order; and which selectors mean nothing that runs here.

    Who is both named and selected goes as it is named. Raises CriuLazyError, also if what is named is not there.
    """
    by_pid: dict[int, Chosen] = {}
    nothing = []
    for entry in sorted(file.plan.move, key=is_selector):
        found = of_entry(file, entry)
        if not found:
            nothing.append(f"{where(file, entry)}: nothing runs here that this means")
            if not is_selector(entry):
                raise SelectionError(nothing[-1])
        for one in found:
            if (other := by_pid.setdefault(one.pid, one)) is not one and not is_selector(entry):
                raise SelectionError(f"{where(file, entry)}: {one.name} is {other.name}, which the plan has already")
    check_pods(file, list(by_pid.values()))
    order = {id(entry): number for number, entry in enumerate(file.plan.move)}
    chosen = sorted(by_pid.values(), key=lambda one: order[id(one.entry)])
    names: set[str] = {TAKEN}
    for number, one in enumerate(chosen):
        name = NOT_IN_NAMES.sub("-", one.name)[:MAX_NAME]
        name = name if name not in names else f"{name}-{one.pid}"
        names.add(name)
        chosen[number] = replace(one, name=name)
    return chosen, nothing


def check_pods(file: PlanFile, chosen: list[Chosen]) -> None:
    """A pod moves as one, so one entry has to mean all of it. Raises SelectionError, EngineError."""
    for one in chosen:
        if not one.pod:
            continue
        line = where(file, one.entry)
        like = file.profile(one.entry, file.plan.destinations[0], container=one.container).container
        assert like is not None
        missing = set(running(replace(like, pod=one.pod), "")) - {
            other.container for other in chosen if other.pod == one.pod and other.entry is one.entry
        }
        if missing:
            way_out = f"containers: {{engine: {like.engine}, pod: {one.pod}}}"
            others = ", ".join(sorted(missing))
            text = f"{line}: {one.container} is in the pod {one.pod}, which moves as one, with {others}"
            raise SelectionError(f"{text}: {way_out}")


def is_selector(entry: Entry) -> bool:
    """Whether the entry may mean several."""
    return entry.containers is not None or entry.cgroup is not None


def where(file: PlanFile, entry: Entry) -> str:
    """The entry, for a message."""
    return f"{file.name}:{file.node_of(entry).start_mark.line + 1}: move"


def of_entry(file: PlanFile, entry: Entry) -> list[Chosen]:
    """Raises CriuLazyError."""
    prefix = f"{entry.name}-" if entry.name else ""
    if entry.cgroup is not None:
        return [chosen for pid in tasks_in(entry.cgroup) if (chosen := task(entry, pid, f"{prefix}{name_of(pid)}"))]
    if entry.containers is not None:
        return [chosen for like in containers(file, entry) if (chosen := container(entry, like, prefix + like.name))]
    try:
        profile = file.profile(entry, file.plan.destinations[0])
        if profile.container is not None:
            found = container(entry, profile.container, entry.title)
        else:
            pid = find_task(profile.task)
            found = task(entry, pid, entry.name or name_of(pid))
    except ProfileError:
        raise
    except CriuLazyError as error:
        raise SelectionError(f"{where(file, entry)}: {error}") from error
    return [found] if found else []


def containers(file: PlanFile, entry: Entry) -> list[Container]:
    """Those that an entry's `containers` means, with all that it says of them."""
    like = file.profile(entry, file.plan.destinations[0], container="any").container
    assert like is not None
    keys = pairs(entry.containers)
    label, pattern = (str(keys[key][1].value) if key in keys else "" for key in ("label", "match"))
    return [replace(like, name=name) for name in running(like, label) if fnmatch.fnmatchcase(name, pattern or "*")]


def container(entry: Entry, like: Container, name: str) -> Chosen | None:
    """None: it has ended. Raises EngineError."""
    engine = engine_of(like)
    found = engine.find()
    began = start_time(found.pid)
    if began is None:
        return None
    pod = engine.pod_of(found)
    return Chosen(entry, name, found.pid, began, like.name, memory_of_tree(found.pid), pod)


def task(entry: Entry, pid: int, name: str) -> Chosen | None:
    """None: it has ended."""
    began = start_time(pid)
    return None if began is None else Chosen(entry, name, pid, began, None, memory_of_tree(pid))


def name_of(pid: int) -> str:
    """What it runs, and its pid."""
    with contextlib.suppress(OSError):  # it has ended
        return f"{Path(f'/proc/{pid}/comm').read_text(errors='replace').strip()}-{pid}"
    return str(pid)


def tasks_in(group: str) -> list[int]:
    """The processes of a control group, and of those below it, whose parents are not among them."""
    if not group.startswith("/") or not group.strip("/"):
        raise SelectionError(f"cgroup: {group!r}: expected a group below the root, by its path, as /shop.slice")
    parents: dict[int, int | None] = {}
    for directory in Path("/proc").iterdir():
        if directory.name.isdigit():
            with contextlib.suppress(OSError):  # it has ended
                groups = groups_of(directory.name).values()
                if any(Path(found).is_relative_to(group) for found in groups) and start_time(int(directory.name)):
                    parents[int(directory.name)] = parent(int(directory.name))
    return sorted(pid for pid, parent in parents.items() if parent not in parents)
