"""All checks, in the order in which they are told. A new one is written in its subject's module and listed here."""

from __future__ import annotations

from typing import Any

from criu_lazy_ext.checks import destination, memory, pair, state, tools
from criu_lazy_ext.checks.check import Check
from criu_lazy_ext.checks.leaving import Leaving
from criu_lazy_ext.checks.needs import Arrival
from criu_lazy_ext.checks.pair import Pair

# Of any host.
HOST: tuple[Check[Any], ...] = (tools.root, tools.criu_version, tools.criu_check)
# At the source: of the host, then of the task and its profile.
SOURCE: tuple[Check[Leaving], ...] = (
    *HOST,
    tools.pipes,
    tools.dump_configuration,
    state.tracer,
    state.arriving,
    memory.dump_descriptors,
)
# At the destination: of the host, then whether the task finds there what it needs.
DESTINATION: tuple[Check[Arrival], ...] = (
    *HOST,
    tools.userfaultfd,
    tools.pycriu,
    tools.restore_configuration,
    destination.pids,
    destination.served_descriptors,
    destination.processes,
    destination.memory,
)
# Of both together.
PAIR: tuple[Check[Pair], ...] = (pair.versions,)

_ALL: tuple[Check[Any], ...] = (*SOURCE, *DESTINATION, *PAIR)
NAMES = list(dict.fromkeys(item.name for item in _ALL))
