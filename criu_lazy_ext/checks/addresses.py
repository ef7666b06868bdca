"""Whether the profile's service addresses can leave the source and come to the destination."""

from __future__ import annotations

from collections.abc import Iterator

from criu_lazy_ext.checks.check import Found, check, fail, warn
from criu_lazy_ext.checks.leaving import Leaving
from criu_lazy_ext.checks.needs import Arrival
from criu_lazy_ext.checks.pair import Pair
from criu_lazy_ext.system import addresses, conntrack
from criu_lazy_ext.system.service_network import TABLE, why_no_filter

INSTALL = "install nftables, and a kernel with its families inet and arp"


@check(
    "addresses-leave",
    why="The kernel deletes with an address what hangs on it, and a daemon that gave it for a time brings it back.",
)
def leave(leaving: Leaving) -> Iterator[Found]:
    """the profile's service addresses (network.addresses) at the source: where they are, and what hangs on them"""
    network = leaving.profile.network if leaving.profile is not None else None
    if network is None:
        return
    if why := why_no_filter():
        yield fail(f"network: {why}", INSTALL)
    here = addresses.addresses()
    for wanted in network.addresses:
        found = addresses.find(here, wanted.address, wanted.prefix, wanted.device)
        if found is None:
            known = ", ".join(str(one) for one in here if one.address == wanted.address)
            yield fail(f"{wanted} is not here{f', but {known}' if known else ''}", "see network.addresses")
            continue
        if not found.is_permanent:
            yield fail(f"{wanted} was given for a time only, by DHCP or a router", "leave it out of network.addresses")
        if along := addresses.taken_along(found):
            setting = f"net.ipv4.conf.{wanted.device}.promote_secondaries=1"
            yield fail(f"the kernel would delete {along[0]} together with {wanted}", f"sysctl {setting}")
        if addresses.is_source_of_routes(found):
            yield fail(
                f"a route has {wanted.address} for its source, and would be lost with it",
                "delete that route (ip route show table all), or leave the address out of network.addresses",
            )


@check(
    "published-ports",
    why="The kernel here translates them, and the destination's does only if their address moves: others are reset.",
    way_out="put the address that clients use into network.addresses, or have them connect again",
)
def published(leaving: Leaving) -> Iterator[Found]:
    """connections of clients that come to a container through ports which it publishes"""
    if leaving.moved is None or not (behind := addresses.behind(leaving.moved.found.pid)):
        return
    network = leaving.profile.network if leaving.profile is not None else None
    moved = [item.address for item in network.addresses] if network is not None else []
    stay = [item for item in conntrack.translated(behind) if item.service[0] not in moved]
    if stay:
        count = "a connection comes" if len(stay) == 1 else f"{len(stay)} connections come"
        services = sorted({f"{address} port {port}" for address, port in (item.service for item in stay)})
        yield warn(f"{count} through published ports, by {', '.join(services)}")


@check(
    "addresses-arrive",
    why="Nobody else may have an address that moves, and nobody may answer for it before the task does.",
)
def arrive(arrival: Arrival) -> Iterator[Found]:
    """the devices of the service addresses at the destination, and whether they are free there"""
    if arrival.addresses and (why := why_no_filter()):
        yield fail(f"network: {why}", INSTALL)
    here = addresses.addresses() if arrival.addresses else []
    for address, device in arrival.addresses:
        up = addresses.is_up(device)
        if up is None:
            yield fail(f"there is no device {device} for {address}", "see network.addresses")
        elif not up:
            yield fail(f"device {device}, for {address}, is down", f"ip link set {device} up")
        if taken := [one for one in here if one.address == address]:
            left = f"ip address del {taken[0]}, if a migration has left it (its tables: nft list tables | grep {TABLE})"
            yield fail(f"{taken[0]} is here already", left)


@check(
    "addresses-way",
    why="The way between the hosts would be cut as soon as the address is taken off.",
    way_out="let source.address be another one of the source's, and SSH go out from another one",
)
def way(pair: Pair) -> Iterator[Found]:
    """whether source.address or the SSH connection ends, at the source, at an address that moves"""
    if pair.profile is None or pair.profile.network is None:
        return
    moved = [item.address for item in pair.profile.network.addresses]
    given = pair.profile.source.address
    for name, address in (("source.address", given), ("the SSH connection", pair.hello["peer"] or pair.way.address)):
        if address in moved:
            yield fail(f"{name} ends at {address}, which moves")
