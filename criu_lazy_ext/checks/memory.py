"""The task's memory: what a dump holds of it, and what can't follow lazily."""

from __future__ import annotations

import resource
from collections.abc import Iterator

from criu_lazy_ext.checks.check import Found, check, fail
from criu_lazy_ext.checks.leaving import Leaving


@check(
    "dump-descriptors",
    why="criu dump holds two descriptors for each 4 MiB and each process.",
    way_out="raise the hard limit of descriptors (ulimit -Hn, LimitNOFILE=, limits.conf)",
)
def dump_descriptors(leaving: Leaving) -> Iterator[Found]:
    """RLIMIT_NOFILE against the size of the task and the number of its processes"""
    needs = leaving.needs
    if needs is None:
        return
    limit, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if needs.dump_descriptors > limit:
        yield fail(
            f"criu dump holds {needs.dump_descriptors} descriptors for {needs.processes} processes with "
            f"{needs.memory_bytes / 1e6:.0f} MB, and {limit} are allowed (RLIMIT_NOFILE, whose hard limit is {hard})"
        )
