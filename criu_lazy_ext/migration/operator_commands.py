"""`criu-lazy migrate --status`, `--abort`, `--commit` and `--rate`: a migration that somebody else began.

What is said rests on what the journal has recorded and on what is there to be seen now: the source task's processes and
criu dump (by pid and start time, of this boot), and the page server's answer. Nothing is concluded from an absence.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from criu_lazy_ext.engines.engine import Engine, container_of_message, engine_of
from criu_lazy_ext.errors import CriuLazyError, UsageError
from criu_lazy_ext.migration import journal, run_file
from criu_lazy_ext.migration.journal import Journal, JournalError
from criu_lazy_ext.migration.lock import Lock, Locked, lock_path
from criu_lazy_ext.migration.state import ENDED, EXIT_STATUS, State
from criu_lazy_ext.profile import Profile, hook_environment
from criu_lazy_ext.source import control_socket
from criu_lazy_ext.source.control_socket import COMMIT_UNDER_WAY, Answer, ControlError
from criu_lazy_ext.source.pipe_limits import PipeLimits
from criu_lazy_ext.source.task import OVER, Seen, Source, boot_id, identities_of_journal
from criu_lazy_ext.system import network_lock
from criu_lazy_ext.system.events import Events
from criu_lazy_ext.system.hooks import run_hook
from criu_lazy_ext.system.processes import send_signal
from criu_lazy_ext.system.service_network import ServiceNetwork

ANSWER_WITHIN_S = 3.0
RESTARTED_WITHIN_S = 10.0  # a page server, by its guardian
GIVES_UP_WITHIN_S = 30.0  # criu dump, once it is told to
LOOK_S = 0.3
ENDS_WITHIN_S = 10.0  # what was sent SIGKILL, or SIGCONT


@dataclass(frozen=True)
class PageServer:
    """The page server as it was found: it answered, or it `hangs` (its pid), or it is dead and `guarded`; or none."""

    answer: Answer | None = None
    hangs: int = 0
    guarded: bool = False

    @classmethod
    def look(cls, control: str) -> PageServer:
        try:
            return cls(answer=control_socket.request(control, "state", timeout=ANSWER_WITHIN_S))
        except ControlError as error:
            # BlockingIOError: too many have asked one that hangs already.
            if isinstance(error.__cause__, TimeoutError | BlockingIOError):
                return cls(hangs=control_socket.listener_pid(control))
        return cls(guarded=control_socket.is_guarded(Path(control)))

    @property
    def is_there(self) -> bool:
        return self.answer is not None or bool(self.hangs) or self.guarded


@dataclass(frozen=True)
class Found:
    """What the journal says and what is there, of a migration that nobody drives any more."""

    facts: dict[str, Any]
    rebooted: bool  # this host, since
    server: PageServer
    source: Source
    held: bool = False  # of those that move as one with it, one was not allowed to run: "go" was said to none

    @classmethod
    def look(cls, facts: dict[str, Any]) -> Found:
        rebooted = bool(facts.get("boot_id", boot_id()) != boot_id())
        if rebooted or facts["state"] in ENDED:
            return cls(facts, rebooted, PageServer(), Source({int(facts["pid"]): Seen.GONE}))
        return cls(facts, False, PageServer.look(facts["control"]), Source.of_journal(facts), is_held(facts))

    @property
    def went(self) -> bool:
        """Whether "go" may have been said: its record comes first, and that of all that move as one with it."""
        return bool(self.facts.get("went")) and not self.held

    @property
    def complete(self) -> bool:
        """Whether every page had arrived, as was recorded, or is as the page server says."""
        return bool(self.facts.get("complete")) or (self.drained and self.facts.get("daemon") != "stock")

    @property
    def drained(self) -> bool:
        """Whether the daemon is done; criu's own is, too, when its tasks were killed."""
        return self.server.answer is not None and self.server.answer["state"] == "drained"

    @property
    def hung_up(self) -> bool:
        """Whether the daemon is criu's own, and lost its connection: it never makes another."""
        answer = self.server.answer
        return self.went and self.facts.get("daemon") == "stock" and answer is not None and answer["state"] == "paused"

    @property
    def restored_ended(self) -> bool:
        """Whether the restored task was killed with pages missing: on record, or as its daemon told the page server."""
        return bool(self.facts.get("restored_ended") or (self.server.answer or {}).get("lost"))

    @property
    def none_there(self) -> bool:
        """Whether nothing of it is left there, though those that move as one with it may run there."""
        return bool(self.facts.get("none_there"))

    @property
    def is_lost(self) -> bool:
        """Whether it is known that it does not run there."""
        return self.restored_ended or self.none_there

    @property
    def may_commit(self) -> bool:
        """Whether giving the source task up needs no force: nothing is missing there, or it was decided before."""
        return self.went and not self.none_there and (self.complete or bool(self.facts.get("committing")))

    @property
    def pages_come(self) -> bool:
        """Whether those that are missing may still come, and then tell what is to be decided."""
        over = self.may_commit or self.is_lost or self.drained or self.hung_up
        return self.went and self.server.is_there and not over

    @property
    def runs(self) -> bool:
        """Whether the source task is free, all that there is of it; what was stopped before the dump stays stopped."""
        stopped = self.facts.get("stopped", [])
        free = [seen is Seen.RUNS or (seen is Seen.STOPPED and pid in stopped)
            for pid, seen in self.source.processes.items() if seen not in OVER]  # fmt: skip
        return bool(free) and all(free) and not self.source.dump_lives

    def ended(self) -> State | None:
        """The final state that this proves, or None."""
        if self.facts["state"] in ENDED:
            return State(self.facts["state"])
        if self.server.is_there:
            return None
        if self.facts.get("committing") and self.source.is_over:
            return State.COMMITTED
        if not self.went and self.runs:
            return State.ROLLED_BACK if self.was_frozen else State.FAILED
        return None

    @property
    def was_frozen(self) -> bool:
        """Whether the source task may have been."""
        return self.facts["state"] not in (State.PREFLIGHT.value, State.PRE_COPY.value)

    def words(self) -> list[str]:
        """What there is, and the way out, for people."""
        if self.rebooted:
            return self._rebooted()
        if (answer := self.server.answer) is not None:
            lines = page_server_lines(answer, self.facts)
            return lines if answer["state"] == "pre-copy" else [*lines, self.source.words(), self._with_page_server()]
        if self.server.hangs and self.facts["state"] == State.DUMPING.value:
            return [f"criu dump is still dumping; it is aborted as soon as it has finished; {self.source.words()}"]
        if self.server.hangs:
            return [
                f"the page server (pid {self.server.hangs}) does not answer; {self.source.words()}",
                f"if it stays so: kill -KILL {self.server.hangs}; its guardian starts another, which goes on",
            ]
        if self.server.guarded:
            resume = shlex.join(self.facts.get("resume", []))
            return [
                f"the page server is dead; its guardian holds criu dump's connection; {self.source.words()}",
                f"To go on: {resume}",
            ]
        return [f"no page server is there; {self.source.words()}", self._without_page_server()]

    def _rebooted(self) -> list[str]:
        gone = "this host was rebooted since, and the source task was lost with that"
        if not self.went:
            return [f"{gone}; the restored task was not resumed", "--abort closes this migration"]
        came = "every page had arrived" if self.complete else "pages that had not arrived there are lost"
        force = "" if self.may_commit else " --force"
        return [
            f"{gone}; the restored task was resumed, and {came}",
            f"look at the destination; --commit{force} closes this migration, if the restored task is to stay",
        ]

    def _with_page_server(self) -> str:
        if not self.went:
            return "the restored task was not resumed: --abort lets the source task run on"
        if self.facts.get("committing") and not self.complete:
            return BEGUN
        if self.none_there:
            return NONE_THERE
        if self.restored_ended:
            return RESTORED_ENDED
        if self.complete:
            return "every page arrived: --commit ends it"
        if self.drained:
            return STOCK_IS_DONE
        if self.hung_up:
            return STOCK_HUNG_UP
        return f"pages are on their way: --commit waits for the last one; {GIVE_UP}"

    def _without_page_server(self) -> str:
        source = self.source
        if source.is_over:
            if not self.went:
                return "no task was resumed at the destination; --abort closes this migration"
            force = "" if self.may_commit else " --force"
            return (
                "something else killed the source task before the commit: pages that had not arrived are lost. --commit"
                f"{force} closes this migration, if the restored task is to stay"
            )
        if not self.went:
            return "the restored task was not resumed: --abort lets the source task run on"
        if self.none_there:
            return NONE_THERE
        if self.complete:
            return "every page arrived: --commit ends it"
        if self.facts.get("committing"):
            return BEGUN
        if self.restored_ended:
            return RESTORED_ENDED
        both = "the task may be at both hosts: kill one of them. " if source.some(Seen.RUNS) else ""
        return (
            f"{both}pages that had not arrived can no longer be sent to the restored task. Kill that, then --abort "
            "--force lets the source task run on; or, if it has every page all the same, --commit --force kills the "
            "source task"
        )


GIVE_UP = "or kill the restored task, and --abort --force lets the source task run on"
BEGUN = "the commit was begun, and may still kill the source task: --commit finishes it"
RESTORED_ENDED = (
    "the restored task was killed with pages missing: --abort --force lets the source task run on, --commit --force "
    "ends it for good"
)
NONE_THERE = (
    "nothing of it is left at the destination, where what it was to move with may run: --abort --force lets the source "
    "task run on without that, --commit --force ends it for good"
)
STOCK_IS_DONE = (
    "criu's own lazy-pages reports the end, which it also does when the restored task was killed: look at the "
    "destination; if the task runs there, --commit --force ends this; else --abort --force lets the source task run on"
)
STOCK_HUNG_UP = (
    "criu's own lazy-pages hung up before its last page, and does not connect again: what is missing does not come. "
    "Kill the restored task, if it still runs, and --abort --force lets the source task run on"
)
GIVEN_UP = (
    "the restored task gets SIGBUS where it touches a page that had not arrived. If lazy-pages at the destination "
    "could not be told, as it is cut off or the page server was dead, the task waits there instead: send lazy-pages "
    "SIGTERM"
)


def page_server_lines(answer: Answer, facts: dict[str, Any]) -> list[str]:
    """What the page server tells."""
    if answer["state"] == "pre-copy":
        lines = [f"page server: pre-copy; store: {answer['store']}; the task was not frozen"]
    else:
        resumed = "was" if answer["task_running"] and facts.get("went") else "was not"
        if resumed == "was" and facts["state"] == State.ALLOWED.value:
            resumed = "may have been"  # its driver ended just then
        if facts.get("none_there"):
            resumed = "was not"
        sent = f"{answer['bytes'] / 1e6:.1f} MB sent"
        lines = [f"page server: {answer['state']}, {sent}; the restored task {resumed} resumed"]
        if "port" in facts:
            lines.append(f"it listens on {facts['address']} port {facts['port']}")
    if answer["rate"]:
        lines.append(f"pages may take {answer['rate']} bytes per second ({answer['rate'] / 1e6:.1f} MB/s)")
    return lines


def group_of(facts: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Those that were to move as one with it, itself among them, by name, with what is on record of each; {}: nothing
    (as of one that its driver has committed)."""
    group = facts.get("group") or {"names": []}
    for name in group["names"]:
        directory = Path(facts["control"]).parent.parent / name
        other: dict[str, Any] = {}
        with contextlib.suppress(JournalError):
            other = journal.read(directory) if journal.exists(directory) else {}
        yield name, other if (other.get("group") or {}).get("id") == group["id"] else {}


def is_held(facts: dict[str, Any]) -> bool:
    """Whether one that was to move as one with it is on record as not allowed to run."""
    return any(other and not other.get("went") for _, other in group_of(facts))


def others(facts: dict[str, Any]) -> list[str]:
    """A line on each of its pod, for who decides of one."""
    own = Path(facts["control"]).parent.name
    return [
        f"{name}, of the same pod: {other.get('state', 'nothing is on record here (a committed one leaves none)')}"
        + (", every page arrived" if other.get("complete") else "")
        for name, other in group_of(facts)
        if name != own
    ]


def moved_by_another(directory: Path, pid: int, began: int | None) -> str:
    """Which migration beside that of `directory` holds this process, in words; "" if none does."""
    for other in sorted(directory.parent.iterdir()) if directory.parent.is_dir() else []:
        if other == directory or not journal.exists(other):
            continue
        with contextlib.suppress(JournalError):
            facts = journal.read(other)
            same = (facts["pid"], facts.get("task_began")) == (pid, began) and facts.get("boot_id") == boot_id()
            holds = facts["state"] not in (*ENDED, State.PREFLIGHT.value, State.PRE_COPY.value)
            if same and holds and Found.look(facts).ended() is None:
                return f"{other.name} moves task {pid} already (it is at {facts['state']}): see criu-lazy status"
    return ""


def why_not_replaced(facts: dict[str, Any]) -> str:
    """Why another migration can't have this one's place; "" if it has ended."""
    return "" if Found.look(facts).ended() else f"an earlier migration stopped in state {facts['state']}"


class Decision:
    """What an operator wants of a migration that nobody drives; `facts`: its journal's. This process holds its lock."""

    def __init__(self, profile: Profile, directory: Path, facts: dict[str, Any]) -> None:
        self.profile = profile
        self.directory = directory
        self.journal = Journal(directory, facts)
        self.found = Found.look(facts)

    def run(self, options: argparse.Namespace) -> int:
        """Do it, and tell. The exit status."""
        found = self.found
        ended = found.ended()
        option = next((name for name in ("abort", "commit", "rate") if getattr(options, name)), "status")
        how = f"{'made' if ended is None else 'found'} by criu-lazy migrate --{option}"
        print(f"{self.directory.name}: {title(found.facts)}: {(ended or State(found.facts['state'])).value}")
        if options.rate is not None:
            if ended is not None or found.server.answer is None:
                raise UsageError(f"--rate: {'no page server is there' if ended is None else f'{ended.value} already'}")
            control_socket.request(found.facts["control"], "rate", rate=options.rate, timeout=ANSWER_WITHIN_S)
            found = self.found = Found.look(found.facts)  # it is told as it is now
        if ended is None and (options.abort or options.commit):
            ended = self.abort(options.force) if options.abort else self.commit(options.force)
            print(f"now {ended.value}: {self.found.source.words()}")
        if ended is None:
            print(*found.words(), *self.addresses(), *others(found.facts), sep="\n")
            return EXIT_STATUS[State.UNDECIDED]
        if found.facts["state"] not in ENDED:
            self.settle(ended, how)
        lost = ended is State.FAILED and self.found.source.is_over
        committed = ended is State.COMMITTED
        is_other = (options.abort and (lost or committed)) or (options.commit and not committed)
        return EXIT_STATUS[State.FAILED] if is_other else 0

    # ---- what is done ----

    def abort(self, force: bool) -> State:
        """Let the source task run on."""
        self.require(force or not self.found.went, "abort")
        self.check_addresses()
        asked, refusal = False, ""
        if self.found.server.is_there:
            try:  # what counts is what is seen then
                control_socket.request(self.found.facts["control"], "abort", True, timeout=self.patience())
                asked = True
            except ControlError as error:
                if COMMIT_UNDER_WAY in str(error):
                    asked, refusal = True, str(error)
        if not asked:
            self.give_back()
            self.unlock(network_lock.unlock)
        self.look_again(lambda: not self.found.source.dump_lives, ENDS_WITHIN_S if asked else 0)
        if refusal and self.found.source.dump_lives:
            raise CriuLazyError(f"not done: {refusal}; {self.found.source.words()}")
        if self.found.source.dump_lives:
            self.kill_dump()
        self.look_again(lambda: self.found.runs or self.found.source.is_over, 1.0 if asked else 0)
        if not self.found.runs:
            self.signal_source(signal.SIGCONT)
        self.look_again(lambda: self.found.runs or self.found.source.is_over)
        if self.found.source.is_over:
            return State.COMMITTED if self.found.facts.get("committing") else State.FAILED
        if not self.found.runs:
            raise CriuLazyError(f"not done: {self.found.source.words()}")
        return State.ROLLED_BACK if self.found.was_frozen else State.FAILED

    def commit(self, force: bool) -> State:
        """End the source task: the restored one stays."""
        if not self.found.went:
            raise CriuLazyError("--commit: the restored task was not resumed; " + "; ".join(self.found.words()))
        if not force:
            self.await_pages()
        elif not self.found.may_commit:
            print(GIVEN_UP)
        self.require(force or self.found.may_commit, "commit")
        if (engine := self.engine) is not None and not self.found.source.is_over:
            engine.disable_restart()
        self.journal.record(state=State.COMMITTING.value, committing=True)  # or nothing is done
        self.found = replace(self.found, facts={**self.found.facts, "committing": True})
        if self.found.server.is_there:
            with contextlib.suppress(ControlError):
                control_socket.request(self.found.facts["control"], "commit", True, timeout=GIVES_UP_WITHIN_S)
        self.look_again(lambda: not self.found.source.dump_lives or self.found.source.is_over)
        self.unlock(network_lock.hush)
        self.signal_source(signal.SIGKILL)
        self.look_again(lambda: self.found.source.is_over)
        self.look_again(lambda: not self.found.source.dump_lives, 1.0)
        if self.found.source.dump_lives:
            self.kill_dump()
        if not self.found.source.is_over:
            raise CriuLazyError(f"not done: {self.found.source.words()}")
        return State.COMMITTED

    def await_pages(self) -> None:
        """For as long as they come. Interrupted, nothing was done."""
        came, since = -1, time.monotonic()
        while self.found.pages_come and time.monotonic() - since < self.profile.timeouts.stall:
            sent = int((self.found.server.answer or {}).get("bytes", came))
            if came < 0:
                print("pages are on their way: the last one is waited for (SIGINT ends only this command)", flush=True)
            if sent != came:
                came, since = sent, time.monotonic()
            time.sleep(LOOK_S)
            self.found = Found.look(self.found.facts)

    def require(self, allowed: bool, op: str) -> None:
        """Raises what forbids it, if not `allowed`. A page server that is being started again is awaited."""
        facts = self.found.facts
        if not allowed:  # the page server isn't asked: by now it might do it, with nothing on record
            raise CriuLazyError(f"--{op} needs --force: " + "; ".join(self.found.words()))
        deadline = time.monotonic() + RESTARTED_WITHIN_S
        while self.found.server.guarded and time.monotonic() < deadline:
            time.sleep(0.5)
            self.found = Found.look(facts)
        if self.found.server.hangs:
            raise CriuLazyError("; ".join(self.found.words()))

    def patience(self) -> float:
        """How long criu dump may take to give up; with no task it can't."""
        return ANSWER_WITHIN_S if self.found.source.is_over else GIVES_UP_WITHIN_S

    def kill_dump(self) -> None:
        """Its tasks are let go then. It has dumped all that it wants to."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.found.source.dump_pid, signal.SIGKILL)
        self.look_again(lambda: not self.found.source.dump_lives)

    def signal_source(self, number: signal.Signals) -> None:
        """All of the source task that is left, but what is to stay stopped."""
        stopped = self.found.facts.get("stopped", []) if number is signal.SIGCONT else []
        began = dict(identities_of_journal(self.found.facts))
        for pid, seen in self.found.source.processes.items():
            if seen not in OVER and pid not in stopped:
                send_signal(pid, began[pid], number)

    def look_again(self, until: Callable[[], bool], seconds: float = ENDS_WITHIN_S) -> None:
        """Look at the source task until it is as expected, for a while; `found` has what was seen last."""
        deadline = time.monotonic() + seconds
        while not self.found.rebooted:
            self.found = replace(self.found, source=Source.of_journal(self.found.facts))
            if until() or time.monotonic() > deadline:
                return
            time.sleep(0.02)

    def unlock(self, action: Callable[[int, Path], list[str]]) -> None:
        """Undo CRIU's network lock, or a part of that, if this boot has it."""
        if self.found.rebooted:
            return
        self.warn(action(int(self.found.facts["pid"]), self.directory / "images"))

    @property
    def network(self) -> ServiceNetwork | None:
        """The service addresses that the migration moves, if they are this boot's."""
        return None if self.found.rebooted else ServiceNetwork.of_facts(self.found.facts.get("network"))

    def addresses(self) -> list[str]:
        """Where the service addresses are, as far as this host can see."""
        network, destination = self.network, self.found.facts["destination"]
        if network is None:
            return []
        if network.here():
            return [f"service addresses: {network}: here"]
        there = f"at {destination}" if self.found.went else f"not here; where {destination} has them, it is mute"
        return [f"service addresses: {network}: {there}"]

    def check_addresses(self) -> None:
        """Raises CriuLazyError if the service addresses, which are to come back, are answered for somewhere else. Those
        of a pod stay there then: others of it may run with them."""
        facts, network = self.found.facts, self.network
        there = ServiceNetwork.of_facts(facts.get("network_there"))
        if network is None or there is None or not self.found.went:
            return
        where, by_hand = facts["destination"], there.by_hand(mute=False)
        if not network.here() and (answers := network.answered()):
            if others(facts):
                self.leave_addresses(network)
                back = "; ".join(f"ip address add {address}" for address in network.addresses)
                print(f"{answers}: left at {where}, for the others of its pod")
                print(f"if none of these runs there: at {where}, {by_hand}; here, {back}")
                return
            raise CriuLazyError(f"--abort: {answers}: at {where}, {by_hand}; then again")
        print(f"if they are there still, left to do at {where}: {by_hand}")

    def leave_addresses(self, network: ServiceNetwork) -> None:
        """They don't come back with the source task, whoever lets it run on. Recorded last: if it is not, they are
        looked for once more."""
        control_socket.network_path(Path(self.found.facts["control"])).unlink(missing_ok=True)
        self.journal.record(network=None)
        self.found = replace(self.found, facts={**self.found.facts, "network": None})
        self.warn(network.open())

    def give_back(self) -> None:
        """The service addresses, as the source task runs on."""
        self.warn(self.network.give_back() if self.network is not None else [])

    @staticmethod
    def warn(problems: list[str]) -> None:
        """Tell of them."""
        for problem in problems:
            print(f"warning: {problem}")

    def settle(self, ended: State, how: str) -> None:
        """It has ended, as was seen or done by `how`, a command: what migrate does then."""
        if not self.found.rebooted:
            PipeLimits(self.found.facts.get("limits")).restore()
            if ended is not State.COMMITTED:
                self.give_back()
            else:
                self.warn(self.network.open() if self.network is not None else [])
            if self.found.was_frozen:
                self.unlock(network_lock.unlock if ended is State.ROLLED_BACK else network_lock.remove)
        if self.found.went and ended is not State.COMMITTED:
            self.tell_engine(lambda engine: engine.enable_restart(self.found.facts.get("kept", {})))
        try:
            self.journal.record(state=ended.value)
        except JournalError as error:  # hooks are run once, so after the record
            print(f"warning: {error}; once that can be written, --status ends it, and runs its hooks")
            return
        events = Events(self.found.facts.get("id", ""), CRIU_LAZY_NAME=self.directory.name, CRIU_LAZY_ROLE="source")
        events.tell(f"{ended.value}: {how}")
        if path := self.found.facts.get("run_file"):
            try:
                run_file.settle(Path(path), ended.value, how, str(self.found.facts["state"]))
            except (OSError, CriuLazyError) as error:
                print(f"warning: {path}: it lacks this end: {error}")
        if ended is State.FAILED and self.found.was_frozen:
            return
        shutil.rmtree(self.directory / "images", ignore_errors=True)
        if ended is State.COMMITTED:
            self.tell_engine(lambda engine: engine.forget())  # it has, unless its command was killed
            self.run_hooks("after_commit")
        elif ended is State.ROLLED_BACK or self.found.facts.get("hooked"):
            self.run_hooks("after_rollback")

    @property
    def engine(self) -> Engine | None:
        """The container's, if one moves."""
        container = self.found.facts.get("container")
        return engine_of(container_of_message(container)) if container else None

    def tell_engine(self, what: Callable[[Engine], None]) -> None:
        """The container's, if one moves; what it can't do is told."""
        try:
            if (engine := self.engine) is not None:
                what(engine)
        except CriuLazyError as error:
            print(f"warning: {error}")

    def run_hooks(self, phase: str) -> None:
        """Run the source's hooks of a phase that nobody drives any more; name the destination's."""
        facts = self.found.facts
        environment = hook_environment(phase, facts["pid"], facts["destination"], facts.get("id", ""))
        for hook in self.profile.hooks.get(phase, []):
            if hook.on == "source":
                try:
                    asyncio.run(run_hook(hook.run, environment, hook.timeout))
                except (CriuLazyError, OSError) as error:
                    print(f"warning: {phase}: {error}")
            elif facts.get("went"):  # else it undid by itself
                print(f"left to do at {facts['destination']}: {phase}: {hook.run}")


def title(facts: dict[str, Any]) -> str:
    container = facts.get("container")
    what = f"container {container['name']}" if container else f"task {facts['pid']}"
    return f"{what} -> {facts['destination']}"


def under_way(name: str, facts: dict[str, Any] | None, driver: int, options: argparse.Namespace) -> int:
    """--status and --rate of a migration that somebody drives. `facts` None: they are not there yet, or any more."""
    state = f"{title(facts)}: {facts['state']}" if facts else "at its beginning, or its end: nothing is on record"
    print(f"{name}: {state} (pid {driver})")
    has_others = facts is not None and bool(others(facts))
    if options.commit:
        last = "the last page of all of its pod" if has_others else "its last page"
        raise UsageError(f"it is under way (pid {driver}), and commits by itself when {last} has come")
    if options.abort and has_others:
        ends = "the second SIGTERM to criu-lazy evacuate ends them all"
        raise UsageError(f"it is under way with the others of its pod: {ends}: kill {driver}; kill {driver}")
    if options.abort:
        raise UsageError(f"it is under way (pid {driver}): stop it first: kill {driver}; twice if it runs there")
    if facts is None:
        return 0
    if options.rate is not None:
        control_socket.request(facts["control"], "rate", rate=options.rate, timeout=ANSWER_WITHIN_S)
    try:
        answer = control_socket.request(facts["control"], "state", timeout=ANSWER_WITHIN_S)
    except ControlError as error:
        print(f"{error}; if no other is started, by hand: {shlex.join(facts.get('resume', []))}")
    else:
        print(*page_server_lines(answer, facts), sep="\n")
    return 0


def close_earlier(profile: Profile, name: str) -> None:
    """An earlier migration that has ended, with nobody there to do what is done then: do it. Its lock is ours.

    Raises UsageError if it is not over: nothing of the restored task's may be taken for a stranger's, in its way.
    """
    directory = profile.directories.source / name
    facts = journal.read(directory) if journal.exists(directory) else None
    if facts is None or facts["state"] in ENDED:
        return
    decision = Decision(profile, directory, facts)
    if ended := decision.found.ended():
        with contextlib.redirect_stdout(sys.stderr):
            print(f"{name}: an earlier migration: {title(facts)}: {ended.value}")
            decision.settle(ended, "found by the next criu-lazy migrate")
        return
    there_is = "; ".join(decision.found.words())
    raise UsageError(f"{name}: an earlier migration is not over: {title(facts)}, {facts['state']}: {there_is}")


def run(profile: Profile, name: str, options: argparse.Namespace) -> int:
    """--status, --abort, --commit of a migration that stopped; --rate of any that goes on."""
    directory = profile.directories.source / name
    try:
        lock = Lock(lock_path(directory))
    except Locked as locked:
        known = journal.read(directory) if journal.exists(directory) else None
        return under_way(name, known, locked.pid, options)
    try:
        if not journal.exists(directory):
            raise CriuLazyError(f"{name}: no migration of this profile is on record here (a committed one leaves none)")
        return Decision(profile, directory, journal.read(directory)).run(options)
    finally:
        lock.release()
