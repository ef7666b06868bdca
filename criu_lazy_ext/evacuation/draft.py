"""A plan of what runs here, to begin with: `criu-lazy init --evacuate`."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Sequence

from criu_lazy_ext.engines import podman
from criu_lazy_ext.engines.engine import ENGINES, EngineError, Moved, find, running
from criu_lazy_ext.errors import CriuLazyError
from criu_lazy_ext.profile import Container
from criu_lazy_ext.system import cgroup

HEAD = """\
# Empties this host: criu-lazy evacuate THIS_FILE (before that: criu-lazy evacuate --dry-run THIS_FILE).
# What every key means: docs/evacuate.md, of Debian's package below /usr/share/doc/criu-lazy. Tasks outside of
# containers are added by hand: task, or cgroup.
destinations:                # the first with room is taken; if a migration to it fails, another is tried
"""
MANAGE_CGROUPS = "  profile: {criu: {manage_cgroups: ignore}}  # control groups v1 are mounted beside v2"


def plan_of_this_host(destinations: Sequence[str]) -> str:
    """As YAML: every container that runs here, by its name; a pod as one. Raises CriuLazyError if none runs."""
    found: dict[int, str] = {}  # by the container's first process
    own: dict[str, str] = {}  # what an entry's profile has to say besides
    unknown = []
    for engine in filter(shutil.which, ENGINES):
        try:
            for container in running_of(engine):
                with contextlib.suppress(EngineError, OSError):  # it ended just now
                    moved = find(container)
                    pid = moved.found.pid
                    entry = found.setdefault(pid, entry_of(container, moved))  # podman's are its runtime's, too
                    if moved.found.runtime == "crun" and cgroup.has_both_versions(pid):
                        own[entry] = MANAGE_CGROUPS
        except EngineError as error:
            unknown.append(f"{engine}: what it runs is not here: {error}")
    if not found:
        raise CriuLazyError("; ".join([f"no container of {', '.join(ENGINES)} runs here", *unknown]))
    lines = [HEAD + "\n".join(f"- ssh: {each}" for each in destinations), ""]
    lines += [*(f"# {each}" for each in unknown), "move:"]
    for entry in dict.fromkeys(found.values()):
        lines += [entry, own[entry]] if entry in own else [entry]
    return "\n".join(lines) + "\n"


def entry_of(container: Container, moved: Moved) -> str:
    """What moves it, with all of its pod if it is in one."""
    if pod := moved.engine.pod_of(moved.found):
        return f"- containers: {{engine: {container.engine}, pod: {json.dumps(pod)}}}"
    return f"- container: {{engine: {container.engine}, name: {json.dumps(container.name)}}}"


def running_of(engine: str) -> list[Container]:
    """Without a pod's infra container, which its runtime takes for one as any other."""
    podmans = podman.ids(Container("podman", "")) if engine in podman.RUNTIMES and shutil.which("podman") else set()
    return [Container(engine, name) for name in running(Container(engine, ""), "") if name not in podmans]
