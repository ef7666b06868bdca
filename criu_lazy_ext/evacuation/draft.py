"""A plan of what runs here, to begin with: `criu-lazy init --evacuate`."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Sequence

from criu_lazy_ext.engines.engine import ENGINES, EngineError, find, running
from criu_lazy_ext.errors import CriuLazyError
from criu_lazy_ext.profile import Container

HEAD = """\
# Empties this host: criu-lazy evacuate THIS_FILE (before that: criu-lazy evacuate --dry-run THIS_FILE).
# What every key means: docs/evacuate.md. Tasks outside of containers are added by hand: task, or cgroup.
destinations:                # the first with room is taken; if a migration to it fails, another is tried
"""


def plan_of_this_host(destinations: Sequence[str]) -> str:
    """As YAML: every container that runs here, by its name. Raises CriuLazyError if none does."""
    found: dict[int, Container] = {}
    unknown = []
    for engine in filter(shutil.which, ENGINES):
        try:
            for container in running_of(engine):
                with contextlib.suppress(EngineError):  # it ended just now
                    found.setdefault(find(container).found.pid, container)  # podman's are its runtime's, too
        except EngineError as error:
            unknown.append(f"{engine}: what it runs is not here: {error}")
    if not found:
        raise CriuLazyError("; ".join([f"no container of {', '.join(ENGINES)} runs here", *unknown]))
    lines = [HEAD + "\n".join(f"- ssh: {each}" for each in destinations), ""]
    lines += [*(f"# {each}" for each in unknown), "move:"]
    lines += [f"- container: {{engine: {each.engine}, name: {json.dumps(each.name)}}}" for each in found.values()]
    return "\n".join(lines) + "\n"


def running_of(engine: str) -> list[Container]:
    return [Container(engine, name) for name in running(Container(engine, ""), "")]
