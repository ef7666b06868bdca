"""A plan of what runs here, to begin with: `criu-lazy init --evacuate`."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Sequence

from criu_lazy_ext.engines.engine import ENGINES, EngineError, find, running
from criu_lazy_ext.errors import CriuLazyError
from criu_lazy_ext.profile import Container
from criu_lazy_ext.system import cgroup

HEAD = """\
# Empties this host: criu-lazy evacuate THIS_FILE (before that: criu-lazy evacuate --dry-run THIS_FILE).
# What every key means: docs/evacuate.md. Tasks outside of containers are added by hand: task, or cgroup.
destinations:                # the first with room is taken; if a migration to it fails, another is tried
"""
MANAGE_CGROUPS = "  profile: {criu: {manage_cgroups: ignore}}  # control groups v1 are mounted beside v2"


def plan_of_this_host(destinations: Sequence[str]) -> str:
    """As YAML: every container that runs here, by its name. Raises CriuLazyError if none does."""
    found: dict[int, Container] = {}
    own: dict[int, str] = {}  # what one's profile has to say besides
    unknown = []
    for engine in filter(shutil.which, ENGINES):
        try:
            for container in running_of(engine):
                with contextlib.suppress(EngineError, OSError):  # it ended just now
                    known = find(container).found
                    found.setdefault(known.pid, container)  # podman's are its runtime's, too
                    if known.runtime == "crun" and cgroup.has_both_versions(known.pid):
                        own[known.pid] = MANAGE_CGROUPS
        except EngineError as error:
            unknown.append(f"{engine}: what it runs is not here: {error}")
    if not found:
        raise CriuLazyError("; ".join([f"no container of {', '.join(ENGINES)} runs here", *unknown]))
    lines = [HEAD + "\n".join(f"- ssh: {each}" for each in destinations), ""]
    lines += [*(f"# {each}" for each in unknown), "move:"]
    for pid, each in found.items():
        lines.append(f"- container: {{engine: {each.engine}, name: {json.dumps(each.name)}}}")
        lines += [own[pid]] if pid in own else []
    return "\n".join(lines) + "\n"


def running_of(engine: str) -> list[Container]:
    return [Container(engine, name) for name in running(Container(engine, ""), "")]
