"""`criu-lazy migrate --status`, `--abort`, `--commit` and `--rate`: a migration that somebody else began."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import shlex
import shutil
import signal
from pathlib import Path
from typing import Any

from criu_lazy_ext import journal, relay_control
from criu_lazy_ext.errors import CriuLazyError, UsageError
from criu_lazy_ext.journal import Journal
from criu_lazy_ext.processes import signal_tree, start_time
from criu_lazy_ext.profile import Profile, hook_environment
from criu_lazy_ext.source import PipeLimits
from criu_lazy_ext.state import ENDED, EXIT_STATUS, State
from criu_lazy_ext.undo import run_hook


def is_owned(facts: dict[str, Any]) -> bool:
    """Whether the migration whose journal says `facts` is still under way."""
    pid, began = facts["owner"]
    driven = facts["state"] not in ENDED | {State.UNDECIDED.value}
    return driven and began is not None and bool(start_time(pid) == began)


def how_it_ended(facts: dict[str, Any]) -> str | None:
    """The final state of a migration that nobody drives any more, or None if its source is still frozen.

    When migrate was killed its page server went on, and the journal doesn't know. UNDECIDED's: criu dump died after
    "go"; the source task is there, and nobody holds it.
    """
    if facts["state"] in ENDED:
        return str(facts["state"])
    with contextlib.suppress(relay_control.ControlError):
        relay_control.request(facts["control"], "state")
        return None
    if relay_control.is_guarded(Path(facts["control"])):
        return None
    if not facts.get("went"):
        return str(State.ROLLED_BACK.value)
    is_there = start_time(facts["pid"]) == facts["task_began"]
    return str((State.UNDECIDED if is_there else State.COMMITTED).value)


def decide(profile: Profile, name: str, options: argparse.Namespace) -> int:
    """--status, --abort, --commit of a migration that stopped; --rate of any that goes on."""
    directory = profile.directories.source / name
    facts = journal.read(directory)
    owned = is_owned(facts)
    ended = None if owned else how_it_ended(facts)
    print(f"{name}: task {facts['pid']} -> {facts['destination']}: {ended or facts['state']}")
    if ended == State.UNDECIDED.value:
        if not (options.force and (options.abort or options.commit)):
            print(
                f"criu dump is dead, and nothing holds the source task: the task may be at both hosts (kill -STOP "
                f"{facts['pid']}, should it run here). Kill the restored task, and --abort --force lets the one here "
                "run on; or --commit --force kills the one here"
            )
            return EXIT_STATUS[State.UNDECIDED]
        signal_tree(facts["pid"], signal.SIGCONT if options.abort else signal.SIGKILL)
        ended = (State.ROLLED_BACK if options.abort else State.COMMITTED).value
        print(f"now {ended}")
    if ended is None and (options.abort or options.commit):
        if owned:
            raise UsageError(f"criu-lazy migrate (pid {facts['owner'][0]}) is at it: stop it first (SIGINT)")
        relay_control.request(facts["control"], "abort" if options.abort else "commit", options.force)
        ended = (State.ROLLED_BACK if options.abort else State.COMMITTED).value
        print(f"now {ended}")
    if options.rate is not None:
        if ended is not None:
            raise UsageError("--rate: it has ended")
        relay_control.request(facts["control"], "rate", rate=options.rate)
    if ended is None:
        try:
            answer = relay_control.request(facts["control"], "state")
        except relay_control.ControlError:
            resume = shlex.join(facts.get("resume", []))
            print(f"the page server is dead; its guardian keeps the source task frozen. To go on: {resume}")
            return EXIT_STATUS[State.UNDECIDED]
        if answer["state"] == "pre-copy":
            print(f"page server: pre-copy; store: {answer['store']}; the task was not frozen")
            if answer["rate"]:
                print(f"pages may take {answer['rate']} bytes per second")
            return 0 if owned else EXIT_STATUS[State.UNDECIDED]
        let_run = "was" if answer["task_running"] else "was not"
        print(f"page server: {answer['state']}, {answer['bytes']} bytes sent; the restored task {let_run} let run")
        if "port" in facts:
            print(f"it listens on {facts['address']} port {facts['port']}")
        if answer["rate"]:
            print(f"pages may take {answer['rate']} bytes per second")
        return 0 if owned else EXIT_STATUS[State.UNDECIDED]
    if facts["state"] not in ENDED:
        PipeLimits(facts.get("limits")).restore()
        shutil.rmtree(directory / "images", ignore_errors=True)
        Journal(directory).record(**facts | {"state": ended})
        hooks_left(profile, facts, "after_commit" if ended == State.COMMITTED.value else "after_rollback")
    return 0


def hooks_left(profile: Profile, facts: dict[str, Any], phase: str) -> None:
    """Run the source's hooks of a phase that nobody drives any more; name the destination's."""
    environment = hook_environment(phase, facts["pid"], facts["destination"])
    for hook in profile.hooks.get(phase, []):
        if hook.on == "source":
            try:
                asyncio.run(run_hook(hook.run, environment, hook.timeout))
            except (CriuLazyError, OSError) as error:
                print(f"warning: {phase}: {error}")
        elif facts.get("went"):  # else it undid by itself
            print(f"left to do at {facts['destination']}: {phase}: {hook.run}")
