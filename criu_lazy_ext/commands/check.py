"""`criu-lazy check`: can this host take part in a lazy migration, can this task move, are those hosts fit for it?"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import Awaitable
from pathlib import Path

from criu_lazy_ext.checks import catalogue
from criu_lazy_ext.checks.check import Finding, Verdict, accept, run_all
from criu_lazy_ext.checks.needs import Arrival
from criu_lazy_ext.engines.engine import ENGINES, UnknownContainer, container_named, engine_of
from criu_lazy_ext.errors import UsageError
from criu_lazy_ext.migration import preflight
from criu_lazy_ext.migration.preflight import AtSource
from criu_lazy_ext.profile import Destination, Profile, Source, load
from criu_lazy_ext.remote.hosts import HostError, RemoteHost
from criu_lazy_ext.remote.way_back import Way
from criu_lazy_ext.source.dump import find_task
from criu_lazy_ext.system.limits import raise_descriptors
from criu_lazy_ext.system.processes import why_no_task

SILENCE_S = 9.0
SHOWN = {Verdict.OK: "ok  ", Verdict.WARN: "WARN", Verdict.FAIL: "FAIL"}


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="criu-lazy check", description="Say what would keep a task from moving; nothing is touched."
    )
    parser.add_argument("where", nargs="*", metavar="PROFILE | HOST",
        help="a profile (*.yaml): its task and its destination; or hosts as in ~/.ssh/config")  # fmt: skip
    role = parser.add_mutually_exclusive_group()
    role.add_argument("--source", action="store_true", help="this host only as the source")
    role.add_argument("--destination", action="store_true", help="this host only as the destination")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--pid", "--task", type=int, metavar="PID", help="this task, and all below it")
    which.add_argument("--container", metavar="NAME", help="this container, as its engine knows it")
    parser.add_argument("--engine", choices=ENGINES, help="whose container (default: the first that knows it)")
    parser.add_argument("-v", "--verbose", action="store_true", help="name those that are well, too")
    parser.add_argument("--json", action="store_true",
        help='print [{"check", "host", "verdict": "ok"|"warn"|"fail", "text", "way_out"}, ...]')  # fmt: skip
    return parser


async def check_host(profile: Profile | None, destination: Destination, look: Awaitable[AtSource]) -> list[Finding]:
    """What the other host's agent finds; that there is none is a finding, too. It starts while the source looks."""
    silence = profile.timeouts.silence if profile is not None else SILENCE_S
    name = destination.ssh or "local"
    try:
        host = await RemoteHost.connect(destination, silence, lambda _: None)  # a failure has what ssh said of it
        try:
            hello = await host.hello(silence)
            way = await Way.find(host, destination, profile.source if profile is not None else Source(), hello["peer"])
            return await preflight.both(host, await look, hello, way)
        finally:
            await host.close(within=0)  # nothing was made there that is to be undone
    except HostError as error:
        return [Finding("agent", name, Verdict.FAIL, str(error).removeprefix(f"{name}: "))]


async def check_hosts(profile: Profile | None, pid: int | None, destinations: list[Destination]) -> list[Finding]:
    """What is found at the source, then at each destination. Raises PreflightError."""
    look = asyncio.ensure_future(AtSource.look(profile, pid))
    there = await asyncio.gather(*(check_host(profile, destination, look) for destination in destinations))
    return [finding for found in ((await look).findings, *there) for finding in found]


def _is_profile(where: str) -> bool:
    """Not a host."""
    with contextlib.suppress(PermissionError):  # of the current directory
        return Path(where).suffix in (".yaml", ".yml") or "/" in where or Path(where).is_file()
    return False


def _pid_of(profile: Profile) -> int:
    return engine_of(profile.container).find().pid if profile.container else find_task(profile.task)


async def _check(options: argparse.Namespace) -> list[Finding]:
    profile: Profile | None = None
    destinations = [Destination(ssh=host) for host in options.where]
    pid = options.pid
    if any(map(_is_profile, options.where)):
        if len(options.where) > 1 or options.container:
            itself = "a profile names its container, and its destination, itself"
            raise UsageError(f"{itself}: give either one profile, or hosts")
        profile = load(Path(options.where[0]))
        destinations = [profile.destination]
        pid = _pid_of(profile) if pid is None else pid
    elif options.container:
        try:
            profile = Profile(destination=Destination(), container=container_named(options.container, options.engine))
        except UnknownContainer as error:
            raise UsageError(f"--container: {error}") from error
        pid = _pid_of(profile)
    elif pid is not None and (problem := why_no_task(pid)):
        raise UsageError(f"--pid: {problem}")
    findings = [] if options.destination else await check_hosts(profile, pid, [] if options.source else destinations)
    if not (options.source or destinations or pid is not None):
        names = {finding.check for finding in findings}
        here = await asyncio.to_thread(run_all, catalogue.DESTINATION, Arrival(), "destination")
        findings += [finding for finding in here if finding.check not in names]
    return list(accept(findings, profile.accept if profile is not None else []))


def show(findings: list[Finding], *, verbose: bool) -> None:
    """What is in the way must not be lost among what isn't."""
    for finding in findings:
        head = f"{SHOWN[finding.verdict]} {finding.check}"
        if finding.text or verbose:
            print(f"{head}: {finding.line}" if finding.text else f"{head} ({finding.host})")
    count = Counter(finding.verdict for finding in findings)
    told = {Verdict.OK: "ok", Verdict.WARN: "warned of", Verdict.FAIL: "in the way"}
    print(", ".join(f"{count[verdict]} {words}" for verdict, words in told.items() if count[verdict]))


def main(argv: list[str]) -> int:
    """Print what was found, one line each. Exit status: 0 nothing is in the way, 1 something is, 2 wrong usage."""
    parser = arguments()
    options = parser.parse_args(argv)
    task = options.pid is not None or options.container
    if options.engine and not options.container:
        parser.error("--engine goes with --container")
    if options.destination and (options.where or task):
        parser.error("--destination is for this host alone, and a task leaves it as the source")
    raise_descriptors()  # as migrate does
    findings = asyncio.run(_check(options))
    if options.json:
        print(json.dumps([finding.as_json() for finding in findings]))
    else:
        show(findings, verbose=options.verbose)
        if not task and not any(map(_is_profile, options.where)):
            print("no task was looked at: --pid PID, --container NAME, or a profile, names one")
    return 1 if any(finding.verdict is Verdict.FAIL for finding in findings) else 0
