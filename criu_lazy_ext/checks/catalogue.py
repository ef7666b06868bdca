"""All checks, in the order in which they are told. A new one is written in its subject's module and listed here."""

from __future__ import annotations

from typing import Any

from criu_lazy_ext.checks import (
    addresses,
    containers,
    descriptors,
    destination,
    files,
    memory,
    network,
    pair,
    scheduling,
    state,
    tools,
)
from criu_lazy_ext.checks.check import Check
from criu_lazy_ext.checks.leaving import Leaving
from criu_lazy_ext.checks.needs import Arrival
from criu_lazy_ext.checks.pair import Pair

# Of any host.
HOST: tuple[Check[Any], ...] = (tools.root, tools.page_size, tools.criu_version, tools.criu_check)
# At the source: of the host, then of the task and its profile.
SOURCE: tuple[Check[Leaving], ...] = (
    *HOST,
    tools.pipes,
    tools.dump_options_known,
    tools.hooks_here,
    tools.dump_configuration,
    tools.capabilities,
    state.moves_itself,
    state.tracer,
    state.arriving,
    state.frozen,
    state.dead_leader,
    state.zombies,
    state.short_lived,
    state.one_address_space,
    state.container,
    state.nested_namespaces,
    state.own_of_threads,
    state.supervisor,
    scheduling.scheduling,
    files.deleted_files,
    files.file_locks,
    descriptors.outside_pipes,
    descriptors.terminal,
    descriptors.session,
    descriptors.kernel_objects,
    descriptors.outside_pidfds,
    descriptors.devices,
    descriptors.outside_mounts,
    descriptors.inotify,
    network.outside_sockets,
    network.connections,
    network.local_connections,
    network.network_lock,
    network.socket_kinds,
    memory.dump_descriptors,
    memory.system_v,
    memory.shared_code,
    memory.not_lazy,
    tools.disk,
    addresses.leave,
)
# Of those, the ones that hold for a container, too, and its own: its engine sees to the others' subjects.
CONTAINER_SOURCE: tuple[Check[Leaving], ...] = (
    *HOST,
    containers.engine,
    containers.shared_network,
    containers.control_groups,
    containers.container_files,
    containers.bind_mounts,
    tools.hooks_here,
    tools.pipes,
    tools.capabilities,
    state.tracer,
    state.arriving,
    state.frozen,
    state.dead_leader,
    state.nested_namespaces,
    state.own_of_threads,
    scheduling.scheduling,
    descriptors.kernel_objects,
    network.connections,
    network.local_connections,
    network.network_lock,
    network.socket_kinds,
    memory.dump_descriptors,
    memory.not_lazy,
    addresses.leave,
    addresses.published,
)
# At the destination: of the host, then whether the task finds there what it needs.
DESTINATION: tuple[Check[Arrival], ...] = (
    *HOST,
    tools.userfaultfd,
    tools.user_namespace,
    tools.cpu,
    tools.time_namespaces,
    tools.disk,
    tools.noexec,
    tools.pycriu,
    tools.restore_options_known,
    tools.hooks_there,
    tools.restore_configuration,
    files.shared_files,
    files.differing_files,
    files.missing_files,
    network.addresses,
    network.ports,
    network.socket_names_free,
    network.socket_names,
    destination.pids,
    destination.security_profiles,
    destination.served_descriptors,
    destination.processes,
    destination.memory,
    destination.huge_pages,
    addresses.arrive,
)
# The same for a container.
CONTAINER_DESTINATION: tuple[Check[Arrival], ...] = (*DESTINATION, containers.engine_there)
# Of both together.
PAIR: tuple[Check[Pair], ...] = (
    pair.architecture,
    pair.versions,
    pair.has_way_back,
    pair.reach,
    pair.images_time,
    pair.wall_clock,
    addresses.way,
)

_ALL: tuple[Check[Any], ...] = (*SOURCE, *CONTAINER_SOURCE, *CONTAINER_DESTINATION, *PAIR)
NAMES = list(dict.fromkeys(item.name for item in _ALL))
