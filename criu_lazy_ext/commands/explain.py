"""`criu-lazy explain PROFILE`: what `migrate` would do, step by step, without doing any of it."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator
from pathlib import Path

from criu_lazy_ext.checks import catalogue
from criu_lazy_ext.profile import Profile, load
from criu_lazy_ext.remote.hosts import agent_command
from criu_lazy_ext.source.dump import daemon_options

AFTER = {
    "before_dump": "its failure stops the migration; nothing is frozen",
    "after_dump": "its failure rolls back",
    "before_restore": "its failure rolls back",
    "after_restore": "its failure is a warning",
    "after_commit": "its failure is a warning",
    "after_rollback": "its failure is a warning",
}


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="criu-lazy explain", description="Print what migrate would do, and do nothing."
    )
    parser.add_argument("profile", type=Path, help="the migration, as YAML; criu-lazy init writes one")
    return parser


def main(argv: list[str]) -> int:
    """Exit status: 0, or 2 for a profile that is wrong."""
    options = arguments().parse_args(argv)
    profile = load(options.profile)
    for number, step in enumerate(steps(profile, options.profile.stem), 1):
        print(f"{number:2}. {step}")
    status = f"`criu-lazy migrate --status {options.profile}` tells what can be done"
    print(f'\nIf it fails before "resume": {_rolled_back(profile)}.')
    print(f"If it fails after that: the source task stays frozen, with all of its memory; {status}.")
    return 0


def steps(profile: Profile, name: str) -> Iterator[str]:
    """One line each."""
    there = profile.destination.ssh or "this machine"
    yield f"find {_task(profile)}"
    agent = shlex.join(agent_command(profile.destination, profile.timeouts.silence))
    yield f"start the destination's half on {there}: {agent}"
    here, over_there = catalogue.SOURCE, catalogue.DESTINATION
    if profile.container is not None:
        here, over_there = catalogue.CONTAINER_SOURCE, catalogue.CONTAINER_DESTINATION
    count = len(here) + len(over_there) + len(catalogue.PAIR)
    accepted = f"; failures of {', '.join(profile.accept)} are only warnings" if profile.accept else ""
    yield f"make the {count} checks of both ends (criu-lazy check makes them alone); stop if one fails{accepted}"
    yield _page_server(profile, name)
    if sent := _sent_files(profile):
        yield f"send its files by rsync, while it runs: {sent}; what the destination has there besides is deleted"
    if profile.rounds() is not None:
        yield _rounds(profile)
    yield from _hooks(profile, "before_dump")
    addresses = ", ".join(map(str, profile.network.addresses)) if profile.network is not None else ""
    if addresses:
        yield f"hold new connections to {addresses} off, until the restored task takes them"
    if profile.at_deadline == "give-up":
        yield f"stop if {profile.deadline:g} s have passed since the start; the task runs on"
    yield f"freeze and dump: {_dump(profile)}, within {profile.timeouts.dump:g} s"
    if addresses:
        yield f"take {addresses} off here"
    if sent:
        yield "send what has changed of its files since"
    yield f"send its images (not its lazy memory) to {profile.directories.destination}/{name}-... there"
    yield from _hooks(profile, "after_dump")
    words = " ".join([*daemon_options(profile), *profile.daemon_options])
    daemon = "criu lazy-pages" if profile.daemon == "stock" else "criu-lazy lazy-pages"
    yield f"start the daemon there that fetches pages: {daemon} {words}".rstrip()
    yield from _hooks(profile, "before_restore")
    if addresses:
        yield f"put {addresses} up there, mute until the restored task runs"
    yield f"restore: {_restore(profile)}, within {profile.timeouts.restore:g} s; nothing runs yet"
    if profile.downtime_limit is not None:
        yield f"roll back if {profile.downtime_limit:g} s have passed since the freeze"
    yield "resume: fence the source task, record it, and let the restored task run: the point of no return"
    yield from _hooks(profile, "after_restore")
    rate = f"at most {profile.source.rate} bytes per second" if profile.source.rate else "as fast as the link allows"
    yield f"bring the memory that is missing, what the task touches first; {rate}"
    yield "commit, when every page has arrived: kill the source task, remove its images"
    yield from _hooks(profile, "after_commit")


def _task(profile: Profile) -> str:
    if profile.container is not None:
        return f"the container {profile.container.name} of {profile.container.engine}'s"
    task = profile.task
    assert task is not None
    if task.pid is not None:
        return f"the task {task.pid}, with all below it"
    where = f"whose pid is in {task.pidfile}" if task.pidfile else f"whose pid `{task.command}` prints"
    return f"the task {where}, with all below it"


def _page_server(profile: Profile, name: str) -> str:
    address = profile.source.address or (
        "127.0.0.1" if profile.destination.local else "the address that the SSH connection, or the route, comes from"
    )
    how = "by TLS with a key of this migration's own" if profile.encrypts() else "in plain"
    port = f"port {profile.source.port}" if profile.source.port else "any free port"
    return f"start the page server here, on {address}, {port}, {how}; files in {profile.directories.source}/{name}"


def _sent_files(profile: Profile) -> str:
    """Of a container, unless they are shared."""
    container = profile.container
    if container is None or container.files == "shared":
        return ""
    own = {"podman": "what it has changed in its root, its volumes", "containerd": "what it has changed in its root"}
    return ", ".join([own.get(container.engine, "its bundle, its root"), *map(str, container.volumes)])


def _rounds(profile: Profile) -> str:
    rounds = profile.rounds()
    assert rounds is not None
    count = "as many rounds as pay" if rounds.rounds is None else f"{rounds.rounds} rounds"
    choice = ", where it pays" if profile.chooses() else ""
    enough = f"{rounds.stop_when.remaining >> 20} MiB"
    limit = f", or {profile.deadline:g} s have passed since the start" if profile.deadline is not None else ""
    return f"pre-copy, while it runs{choice}: {count}, until one sends no more than {enough}{limit}"


def _hooks(profile: Profile, phase: str) -> Iterator[str]:
    for hook in profile.hooks.get(phase, []):
        run = hook.run if isinstance(hook.run, str) else shlex.join(hook.run)
        yield f"{phase}, on the {hook.on}: {' '.join(run.split())} ({AFTER[phase]})"


def _dump(profile: Profile) -> str:
    if profile.container is not None:
        return f"{profile.container.engine} checkpoint"
    return shlex.join(["criu", "dump", "--lazy-pages", *profile.criu.options(), *profile.criu.dump_options])


def _restore(profile: Profile) -> str:
    if profile.container is not None:
        return f"{profile.container.engine} restore"
    return shlex.join(["criu", "restore", "--lazy-pages", *profile.criu.options(), *profile.criu.restore_options])


def _rolled_back(profile: Profile) -> str:
    return "; ".join(["the source task runs on, and the destination is cleaned up", *_hooks(profile, "after_rollback")])
