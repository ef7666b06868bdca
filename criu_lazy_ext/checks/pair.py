"""What both hosts must agree on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from criu_lazy_ext import __version__
from criu_lazy_ext.checks.check import Found, check, fail, warn
from criu_lazy_ext.criu import program as criu
from criu_lazy_ext.profile import Profile
from criu_lazy_ext.remote.channel import PROTOCOL
from criu_lazy_ext.remote.way_back import Way

CLOCKS_DIFFER_S = 1.0


@dataclass(frozen=True)
class Pair:
    """This host, and the other one as its agent says hello."""

    profile: Profile | None
    criu: tuple[int, ...]
    there: str
    hello: dict[str, Any]
    way: Way  # of the pages
    not_lazy_bytes: int
    rate: float  # bytes a second, of images; 0: not measured, as there is little to send
    clock_ahead_s: float  # of the other host's, at the least


@check(
    "way-back",
    why="The destination fetches the pages from the source.",
    way_out="source.address: one of this host's that the destination can reach",
)
def has_way_back(pair: Pair) -> Iterator[Found]:
    """the source's address for the destination: source.address, or else that of the SSH connection or the route"""
    if not pair.way.address:
        seen = pair.hello["peer"]
        why = f"it sees {seen}, which is not this host's" if seen else "it does not tell (sudo?)"
        yield fail(f"by which address {pair.there} reaches this host is not known: {why}")


@check(
    "reach",
    why="The destination connects to the page server at the source, and pages come in bulk: a firewall may forbid it, "
    "a path with a wrong MTU may pass small packets only.",
    way_out="open the way to source.port there, or let source.address be one that the destination reaches",
)
def reach(pair: Pair) -> Iterator[Found]:
    """whether the destination can connect to the source's address and port, and gets 256 KiB that are sent there"""
    if pair.way.is_here:
        yield fail(pair.way.problem, "source.address has to be one of this host's, and source.port a free one")
    elif pair.way.problem:
        yield fail(f"{pair.there}: {pair.way.problem}")


@check(
    "images-time",
    why="Memory that can't follow lazily is sent with criu's images, while the task is frozen.",
    way_out="a longer downtime is all that it costs; less of such memory, or a faster link, shortens it",
)
def images_time(pair: Pair) -> Iterator[Found]:
    """the seconds that this memory takes, at a rate of the SSH connection that is measured then; downtime_limit"""
    if not pair.rate:
        return
    seconds, limit = pair.not_lazy_bytes / pair.rate, pair.profile.downtime_limit if pair.profile else None
    told = f"{pair.not_lazy_bytes / 1e6:.0f} MB that are not lazy take about {seconds:.1f} s of the downtime"
    told += f" ({pair.rate / 1e6:.0f} MB/s, as measured now)"
    if limit is not None and seconds > limit:
        yield fail(f"{told}, and downtime_limit is {limit:g} s", "a longer downtime_limit, or less of such memory")
    else:
        yield warn(told)


@check(
    "wall-clock",
    why="The time of day is the host's: where it differs, it jumps for the task. (CLOCK_MONOTONIC goes on: "
    "criu sees to that, by a time namespace.)",
    way_out="have both hosts keep time by NTP: chrony, systemd-timesyncd",
)
def wall_clock(pair: Pair) -> Iterator[Found]:
    """whether the clocks of both hosts differ by more than a second"""
    if abs(pair.clock_ahead_s) > CLOCKS_DIFFER_S:
        where = "ahead of" if pair.clock_ahead_s > 0 else "behind"
        yield warn(f"the clock at {pair.there} is {abs(pair.clock_ahead_s):.1f} s {where} this host's")


@check(
    "architecture",
    why="A task's machine code runs on the architecture only that it began on.",
    way_out="name a host of this one's architecture",
)
def architecture(pair: Pair) -> Iterator[Found]:
    """the architecture of both hosts' kernels (uname -m)"""
    here = os.uname().machine
    there = pair.hello.get("machine", here)  # an older agent doesn't say
    if there != here:
        yield fail(f"this host is of {here}, {pair.there} of {there}")


@check(
    "versions",
    why="An older criu can't read a newer one's images, and both halves of criu-lazy speak one protocol only "
    "(docs/versions.md).",
    way_out="install the same on both hosts",
)
def versions(pair: Pair) -> Iterator[Found]:
    """the protocols of criu-lazy and the versions of criu on both hosts, and the protocol of criu's own lazy-pages"""
    told = f"criu-lazy {__version__} here, {pair.hello['version']} at {pair.there}"
    protocol = pair.hello.get("protocol")  # none: of before there was a number
    if protocol is None and pair.hello["version"] != __version__:
        yield fail(told)
    elif protocol not in (None, PROTOCOL):
        yield fail(f"{told}: their halves speak different protocols, {PROTOCOL} and {protocol}")
    theirs = tuple(pair.hello["criu"])
    if theirs[:2] < pair.criu[:2]:
        told = f"{'.'.join(map(str, pair.criu))} at the source, {'.'.join(map(str, theirs))} at the destination"
        yield fail(f"criu {told}: an older criu can't restore a newer one's images")
    stock = pair.profile is not None and pair.profile.daemon == "stock"
    if stock and criu.wire_version(theirs) != criu.wire_version(pair.criu):
        yield fail("criu's own lazy-pages there doesn't speak this criu's protocol", "use daemon: criu-lazy")
