"""One migration, from preflight to commit or roll back.

The state machine: `Migration.enter` is the one place that changes the state (state.py). The point of no return is the
word "go" to the agent, when everything is restored and nothing runs yet, the source task is fenced, and the journal
says so: before it any failure rolls back and the source task runs on; after it only a restore of which, as the agent
reports, nothing is left, or an operator's `--abort --force`.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import shutil
import signal
import time
import traceback
from collections.abc import Awaitable
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from criu_lazy_ext.checks.check import Finding
from criu_lazy_ext.checks.leaving import dump_options
from criu_lazy_ext.checks.state import check_movable
from criu_lazy_ext.criu.contrary import options_in
from criu_lazy_ext.engines.engine import Moved, find
from criu_lazy_ext.errors import CriuLazyError, UsageError
from criu_lazy_ext.migration import freeze, operator_commands, run_file, tracing
from criu_lazy_ext.migration.draining import Draining
from criu_lazy_ext.migration.ending import Ending
from criu_lazy_ext.migration.files import ContainerFiles
from criu_lazy_ext.migration.journal import Journal, JournalError
from criu_lazy_ext.migration.lock import hold_task, let_go_of_task
from criu_lazy_ext.migration.moving_network import MovingNetwork
from criu_lazy_ext.migration.preparation import Preparation
from criu_lazy_ext.migration.progress import Progress
from criu_lazy_ext.migration.report import Report
from criu_lazy_ext.migration.rounds import Rounds
from criu_lazy_ext.migration.state import TRANSITIONS, State, Trouble
from criu_lazy_ext.migration.turns import Turns
from criu_lazy_ext.profile import Profile, hook_environment
from criu_lazy_ext.remote.channel import Message
from criu_lazy_ext.remote.hosts import HostError, HostInDoubt, RemoteHost
from criu_lazy_ext.remote.shared_ssh import SharedSsh
from criu_lazy_ext.source.dump import (
    LazyDump,
    SourceError,
    await_lazy_stacks,
    daemon_options,
    find_task,
)
from criu_lazy_ext.source.pipe_limits import PipeLimits
from criu_lazy_ext.source.task import OVER, Identity, Seen, Source, identities, identity
from criu_lazy_ext.system.hooks import run_hook
from criu_lazy_ext.system.migration_id import new_id
from criu_lazy_ext.system.processes import send_signal, start_time

T = TypeVar("T")

WORD_WITHIN_S = 2.0
CAUSE_WITHIN_S = 0.5
LOOK_S = 0.5  # how often the frozen source task is looked at
LOOK_SHARE = 20  # of the time that passes, one part in so many at most


class Migration:
    """One migration. `run` takes it to one of the final states and returns the report."""

    def __init__(
        self, profile: Profile, name: str, progress: Progress, turns: Turns | None = None, moved: Moved | None = None
    ) -> None:
        """`turns`: where it waits for others; None: nowhere. `moved`: the container, if it was looked for already."""
        self.profile_path = "PROFILE"  # as it was given
        self.turns = turns or Turns()
        self.profile = profile
        self.name = name
        self.progress = progress
        progress.figures.limit = profile.source.rate
        self.state = State.PREFLIGHT
        self.directory = profile.directories.source / name
        self.id = new_id()
        progress.begin(self.id, name)
        there = profile.directories.destination
        self.directory_there = there / f"{name}-{self.id}"
        self.logs_there = there / f"{name}.failed"  # after a roll back
        self.limits = PipeLimits()
        self.start = time.monotonic()
        moved = find(profile.container) if moved is None and profile.container else moved
        self.engine = moved.engine if moved else None
        self.container = moved.found if moved else None
        self.pid = self.container.pid if self.container else find_task(profile.task)
        self.report = Report("failed", self.pid, profile.destination.ssh or "local", id=self.id)
        self.report.container = profile.container.name if profile.container else ""
        self.journal: Journal | None = None
        self.host: RemoteHost | None = None
        self.dump: LazyDump | None = None
        loop = asyncio.get_running_loop()
        self.trouble = self.no_trouble_yet()
        self.asked = asyncio.Event()
        self.daemon_ended: asyncio.Future[Message] = loop.create_future()
        self.watchers: list[asyncio.Task[None]] = []
        self.dump_started = 0.0
        self.findings: list[Finding] = []  # of the preflight
        self.address = ""  # of the page server, as the destination is told
        self.resumed = 0.0
        self.resumes = 0.0  # as its agent saw; who restores takes its time to end
        self.rounds = Rounds(self, profile.rounds())
        to = profile.destination
        self.ssh = None if to.local else SharedSsh(to, profile.timeouts.silence, self.id)
        self.files: ContainerFiles | None = None  # of a container, if they are not shared
        self.sending_files: asyncio.Future[None] | None = None  # what has changed of them, once it is frozen
        self.unchanged: asyncio.Future[None] | None = None  # whether what it moves as one with is
        self.engine_told = False  # that the container runs elsewhere
        self.network = MovingNetwork(self)
        self.hooked = False  # a hook ran
        self.tree: list[Identity] = []  # the source task's processes, once they are frozen
        self.began = start_time(self.pid)
        self.holds_task = False  # no other migration of it begins
        self.stopped = self.look().some(Seen.STOPPED)  # before the dump, by somebody else
        self.told_running = False  # the page server was told that the restored task is about to run
        self.said_go = False
        self.asked_to_stop = False  # by a signal, since
        self.none_there = False  # "go" was said, and its agent says that nothing of it is left there all the same
        self.end_is_told = False  # its report is shown to people as soon as it is over
        self.by_itself = False  # the agent, not the daemon, knows that the restored task ended by itself
        self.restored_ended: list[dict[str, Any]] | None = None  # how, if it was killed with pages missing
        self.waiting = (0, 0.0)  # faults that wait for their page, and since when, by the daemon's last counters

    def enter(self, state: State, **facts: Any) -> None:
        """Go to `state`, note `facts`, durably; no disk is waited for if nothing hangs on it and the task is frozen.

        What can't be recorded is a failure before "go" and before a commit; else, or when the end is known, a warning.
        """
        assert state in TRANSITIONS[self.state], f"{self.state} -> {state}"
        self.state = state
        self.progress.enter(state)
        self.report.phases_s[state.value] = round(time.monotonic() - self.start, 6)
        if self.journal is not None:
            try:
                durable = state not in (State.SERVING, State.RESTORING)
                self.journal.record(state=state.value, durable=durable, **facts)
            except JournalError as error:
                if (not self.said_go and TRANSITIONS[state]) or state is State.COMMITTING:
                    raise
                self.warn(str(error))
        self.progress.keep_run()

    def look(self) -> Source:
        """At the source task and criu dump."""
        source = Source.look(self.tree or identities(self.pid) or [(self.pid, self.began or 0)], None)
        return Source(source.processes, self.dump.pid_of_criu if self.dump else 0, self.dump_lives())

    def kill_source(self) -> None:
        """Every page has arrived, and criu dump is dead."""
        for pid, began in self.tree:
            send_signal(pid, began, signal.SIGKILL)

    def dump_lives(self) -> bool:
        """Whether criu dump does."""
        return self.dump is not None and self.dump.lives()

    def is_free(self, source: Source) -> bool:
        """Whether what is left of the source task does what it did before the dump."""
        left = [pid for pid, seen in source.processes.items() if seen not in OVER]
        stopped = set(source.some(Seen.STOPPED))
        return bool(left) and not source.some(Seen.FROZEN) and stopped <= set(self.stopped)

    # ---- what may go wrong at any time ----

    @staticmethod
    def no_trouble_yet() -> asyncio.Future[NoReturn]:
        """A future for the first trouble; trouble that nobody waits for any more is no error."""
        trouble: asyncio.Future[NoReturn] = asyncio.get_running_loop().create_future()
        trouble.add_done_callback(lambda future: future.exception())
        return trouble

    def signalled(self, name: str) -> None:
        """Asked to stop. Once the task may run there, nothing is won by that: it needs the rest of its memory, and with
        this process gone somebody has to decide. So a lost terminal stops nothing then, nor the first of others."""
        if not self.said_go or (self.asked_to_stop and name != signal.SIGHUP.name):
            self.fail(f"stopped by {name}")
            return
        again = "" if name == signal.SIGHUP.name else "; a second SIGINT or SIGTERM stops it, and leaves it undecided"
        self.asked_to_stop |= bool(again)
        runs = "the task runs" if self.resumed else "by now the task may run"
        there = f"{runs} at {self.report.destination}, and its memory follows"
        self.warn(f"{name}: {there}: the migration goes on{again}")

    def fail(self, reason: str) -> None:
        """Make the step under way stop with `reason`."""
        if not self.trouble.done():
            self.trouble.set_exception(Trouble(reason))

    async def guarded(self, step: Awaitable[T]) -> T:
        """Await a step, unless trouble comes first."""
        task = asyncio.ensure_future(step)
        either: set[asyncio.Future[Any]] = {task, self.trouble}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, CriuLazyError):
                await task
            self.trouble.result()
        return await task

    def on_event(self, message: Message) -> None:
        """An event of the agent's."""
        if message["event"] == "stats":
            self.report.take_stats(message["stats"])
            self.take_waiting(message["stats"])
            self.progress.stats(message["stats"])
        elif message["event"] == "said":  # by ssh, or by what is there
            self.progress.phase(f"{self.report.destination}: {message['line']}")
        elif message["event"] == "ask":
            self.asked.set()
        elif message["event"] == "resumes":
            self.resumes = time.monotonic()
        elif message["event"] == "daemon-succeeded":
            self.warn(f"{self.report.destination}: {message['why']}; another goes on where it was")
        elif message["event"] == "daemon" and not self.daemon_ended.done():
            self.daemon_ended.set_result(message)
            self.by_itself = bool(message.get("by_itself"))
            if message["status"] != 0:
                # None: it isn't known how many
                self.restored_ended = message.get("ended") if message.get("lost_pages", 0) != 0 else None
                # A restore or a page server that was killed ends the daemon, too, whose word may come first: theirs is
                # the cause.
                later = self.state in (State.SERVING, State.RESTORING, State.ALLOWED) and not self.said_go
                reason = f"{self.report.destination}: {message['error']}"
                asyncio.get_running_loop().call_later(CAUSE_WITHIN_S if later else 0, self.fail, reason)

    def take_waiting(self, stats: dict[str, Any]) -> None:
        waits_s = int(stats.get("oldest_wait_us", 0)) / 1e6
        self.waiting = (int(stats.get("waiting_faults", 0)), time.monotonic() - waits_s)

    def watch(self, step: Awaitable[None]) -> None:
        self.watchers.append(asyncio.ensure_future(step))

    async def _watch_dump(self) -> None:
        """Its end before the end of the migration is trouble, unless the page server goes on without it."""
        assert self.dump is not None
        ended = f"criu dump ended by itself, with status {await self.dump.wait()}"
        warned = False
        while self.said_go and await self.dump.is_served_alone():
            if not warned:
                self.warn(f"{ended}; the page server goes on: the source task is stopped, with all of its memory")
            warned = True
            await asyncio.sleep(LOOK_S)
        self.fail(ended)

    async def _watch_page_server(self) -> None:
        """The page server's end is trouble before "go"; after it its guardian starts another."""
        assert self.dump is not None and self.dump.page_server is not None
        status = await self.dump.page_server.wait()
        if self.said_go:
            self.warn(f"the page server ended by itself, with status {status}; waiting for another to go on")
        else:
            self.fail(f"the page server ended by itself, with status {status}")

    async def _watch_source(self) -> None:
        """A process of the frozen source task that is killed is told of; criu dump has what it dumped of it."""
        told: set[int] = set()
        took_s = 0.0
        while True:
            await asyncio.sleep(max(LOOK_S, LOOK_SHARE * took_s))
            began = time.monotonic()
            over = {pid for pid, seen in self.look().processes.items() if seen in OVER}
            if over - told:
                which = ", ".join(map(str, sorted(over - told)))
                self.warn(
                    f"of the frozen source task, process {which} was killed at the source: it can't run on here any "
                    "more; its pages that are still to come are asked of criu dump"
                )
            told |= over
            took_s = time.monotonic() - began

    def stop_watching(self) -> None:
        for watcher in self.watchers:
            watcher.cancel()

    async def watch_host(self, host: RemoteHost) -> None:
        reason = await asyncio.shield(host.lost)
        if self.state in (State.RUNNING, State.DRAINED):
            figures = self.progress.figures
            self.report.heard_until_s = figures.heard_s or figures.elapsed_s  # criu's own daemon has no counters
            self.warn(f"{host.name}: {reason}; waiting for the last page all the same, of which the page server hears")
        else:
            self.fail(f"{host.name}: {reason}")

    def until_deadline(self) -> float:
        """Seconds."""
        deadline = self.profile.deadline
        return math.inf if deadline is None else deadline - (time.monotonic() - self.start)

    def past_deadline(self) -> str:
        """That it is, as a clause; "" if not."""
        return f"the deadline of {self.profile.deadline:g} s has passed" if self.until_deadline() <= 0 else ""

    def check_deadline(self) -> None:
        """The task is about to be frozen. Raises Trouble."""
        if self.profile.at_deadline == "give-up" and (passed := self.past_deadline()):
            raise Trouble(f"{passed}, and the task is not frozen yet (at_deadline: give-up)")

    async def start_dump(self, dump: LazyDump) -> None:
        """Until it serves. A container's downtime begins when it is seen to be frozen, and its files are sent from when
        nothing of it runs any more."""
        seen = 0.0

        async def see_freeze() -> None:
            nonlocal seen
            seen = await freeze.begin((self.pid, self.began or 0), self.network.forget_served)
            given = {option.name for option in options_in(dump_options(self.profile))}
            if "link-remap" not in given:  # by that, criu makes files
                await freeze.complete(self.pid)
                await self.turns.together(self, "frozen")
                self.sending_files = asyncio.ensure_future(self.send_files(frozen=True))

        self.network.forget_served()
        seeing = asyncio.ensure_future(see_freeze()) if self.engine is not None else None
        try:
            await dump.start()
        except BaseException:
            if self.sending_files is not None:
                self.sending_files.cancel()
            raise
        finally:
            if seeing is not None:
                seeing.cancel()
        self.dump_started = seen or dump.began  # it may have been tried again
        self.progress.frozen(self.dump_started)

    def limit_downtime(self) -> None:
        """Before "go" the task can still run on here."""
        limit = self.profile.downtime_limit
        if limit is not None and not self.said_go:
            self.fail(f"the task could not be resumed within {limit:g} s of its freeze (downtime_limit)")

    # ---- the steps ----

    async def check_not_moving(self) -> None:
        """Another profile's migration may have it; if not, none can from now on. Raises CriuLazyError."""
        other = await asyncio.to_thread(operator_commands.moved_by_another, self.directory, self.pid, self.began)
        if other:
            raise UsageError(other)
        hold_task(self.pid)
        self.holds_task = True

    async def freeze(self) -> None:
        """Lazy dump, images at the destination, daemon ready there."""
        assert self.host is not None and self.dump is not None
        if not_lazy := await self.guarded(await_lazy_stacks(self.pid)):
            self.warn(not_lazy)
        await self.guarded(asyncio.to_thread(check_movable, self.pid))
        await self.check_not_moving()
        if self.began is None or start_time(self.pid) != self.began:
            raise SourceError(f"task {self.pid} has ended")  # who has that pid now is another
        assert self.dump.page_server is not None
        self.stopped = self.look().some(Seen.STOPPED)
        page_server = identity(self.dump.page_server.pid)
        self.enter(State.DUMPING, stopped=self.stopped, page_server=page_server, **self.network.facts())
        self.progress.phase("lazy dump: the task is frozen")
        await self.guarded(self.network.hold_new())
        dump = self.dump
        dump.profile = self.profile
        self.dump_started = time.monotonic()
        self.progress.frozen(self.dump_started)
        if self.profile.downtime_limit is not None:
            asyncio.get_running_loop().call_later(self.profile.downtime_limit, self.limit_downtime)
        await self.guarded(self.start_dump(dump))
        self.network.leave()
        self.report.freeze_s = time.monotonic() - self.dump_started
        self.watch(self._watch_dump())
        self.watch(self._watch_page_server())
        looking = asyncio.ensure_future(asyncio.to_thread(identities, self.pid))
        await self.guarded(self.turns.together(self, "frozen"))
        files = self.sending_files or self.send_files(frozen=True)
        sending = asyncio.gather(self.host.send_files(dump.images), files)
        self.unchanged = asyncio.ensure_future(self.check_unchanged())  # it is only before "go" that it has to be known
        self.unchanged.add_done_callback(lambda done: done.cancelled() or done.exception())
        sent, _ = await self.guarded(sending)
        self.report.image_bytes = sent
        self.tree = await looking
        self.watch(self._watch_source())
        facts = {"address": self.address, "port": dump.port, "resume": dump.resume_command}
        facts["daemon"] = self.profile.daemon
        self.enter(State.SERVING, **facts, dump=dump.criu, tree=self.tree)
        await self.hooks("after_dump")
        plain = "" if dump.key else "; pages go in plain"
        self.progress.phase(f"images transferred ({sent / 1e6:.1f} MB); starting lazy-pages there{plain}")
        request = self.host.request(
            "daemon", daemon=self.profile.daemon, options=[*daemon_options(self.profile), *self.profile.daemon_options],
            address=self.address, port=dump.port, key=dump.key, within=60,
            precopied=bool(self.report.precopy and self.report.precopy["used"]),
        )  # fmt: skip
        await self.guarded(request)

    async def check_unchanged(self) -> None:
        """What it moves as one with is as the preflight saw it. Raises CriuLazyError."""
        changed = self.engine.changed if self.engine is not None and self.turns.group() else None
        await self.turns.together(self, "dumped")  # an engine that still dumps one has locked it
        if changed is not None and (problem := await asyncio.to_thread(changed)):
            raise SourceError(problem)

    async def restore(self) -> None:
        """Restore, up to the point of no return and over it."""
        assert self.host is not None and self.dump is not None
        await self.hooks("before_restore")
        self.enter(State.RESTORING)
        options = [*self.profile.criu.options(), *self.profile.criu.restore_options]
        timeout = self.profile.timeouts.restore
        translated = [astuple(connection) for connection in self.network.translated]
        pod = self.turns.pod_there()
        request = self.host.request(
            "restore", options=options, timeout=timeout, translated=translated, pod=pod, others=self.turns.has_others
        )
        restored = asyncio.ensure_future(request)
        asked = asyncio.ensure_future(self.asked.wait())
        try:
            either: set[asyncio.Future[Any]] = {restored, asked}
            await self.guarded(asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED))
            if not asked.done():
                await restored  # it failed: its error
                raise HostError(f"{self.host.name}: restore ended without asking")
            restored.add_done_callback(self.restore_ended)
            assert self.unchanged is not None
            await self.guarded(self.unchanged)
            await self.guarded(self.turns.together(self, "restored"))
            await self.allow()
            self.watch(self.network.deliver())
            await asyncio.sleep(0)  # the first of it is sent, and read there, before "go"
            await self.guarded(self.host.request("go", within=timeout))
            either = {restored, self.trouble}
            await asyncio.wait(either, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            # What is troubled may be the restore's very failure, whose word then comes at once.
            await asyncio.wait({restored}, timeout=WORD_WITHIN_S)
            if not restored.done():
                if self.trouble.done():
                    self.trouble.result()
                raise HostInDoubt(f"{self.host.name}: no word of the restore's end within {timeout:g} s")
            await restored
        finally:
            asked.cancel()
            if not restored.done():
                restored.cancel()
        self.resumed = self.resumes or time.monotonic()
        self.report.downtime_s = self.resumed - self.dump_started
        self.progress.resumed(self.report.downtime_s)
        self.enter(State.RUNNING)
        self.progress.phase(f"the task runs at the destination; downtime {self.report.downtime_s * 1e3:.0f} ms")

    async def none_of_all(self) -> bool:
        """Nothing of it is left there, though "go" was said: whether that is so of all that move as one with it, and
        the service addresses are gone from there."""
        assert self.host is not None
        self.none_there = True
        if not self.turns.has_others:
            return True
        with contextlib.suppress(HostError):
            if await self.turns.none_there(self):
                await self.host.request("withdraw", within=self.profile.timeouts.restore)
                return True
        return False

    async def allow(self) -> None:
        """Everything that must hold before "go": the source task is fenced, the record is on disk, criu dump lives.

        Should it die later, the fence keeps the source task from running on.
        """
        assert self.dump is not None and self.journal is not None
        self.check_dump()
        self.told_running = True
        answer = await self.guarded(self.dump.ask("running"))
        if not answer.get("fenced"):
            raise SourceError("the page server did not keep the source task from running on by itself")
        self.journal.reserve()  # a disk that gets full stops no record after this one
        self.enter(State.ALLOWED, went=True, fenced=answer["fenced_pids"])
        await self.guarded(self.turns.go(self))

    def restore_ended(self, restored: asyncio.Future[Message]) -> None:
        """Before "go" it is to end for nothing but a failure, for which nobody waits."""
        if not self.said_go and not restored.cancelled():
            self.fail(str(restored.exception() or f"{self.report.destination}: restore ended before it was to"))

    async def ready(self) -> None:
        """As its agent sees it now, "go" could be said. Raises CriuLazyError."""
        assert self.host is not None
        await self.guarded(self.host.request("ready", within=self.profile.timeouts.restore))

    def check_dump(self) -> None:
        """Raises what has gone wrong."""
        if self.trouble.done():
            self.trouble.result()
        if self.daemon_ended.done():
            raise Trouble(f"{self.report.destination}: {self.daemon_ended.result().get('error') or 'lazy-pages ended'}")
        if not self.dump_lives():
            raise SourceError(self.look().words())

    async def send_files(self, *, frozen: bool = False) -> None:
        """The container's; what has changed since the last time."""
        if self.files is None:
            return
        if not frozen:
            self.progress.phase("the container's files, while it runs")
        self.progress.figures.sends_files = not frozen
        sent, seconds = await self.files.send(frozen=frozen)
        self.progress.figures.sends_files = False
        told = self.report.files or {"bytes": 0, "seconds": 0.0}
        if frozen:
            told |= {"frozen_bytes": sent, "frozen_seconds": round(seconds, 6)}
        else:
            told |= {"bytes": told["bytes"] + sent, "seconds": round(told["seconds"] + seconds, 6)}
        self.report.files = told

    async def tell_engine(self) -> None:
        """The container runs elsewhere: whatever ends it here now, its engine is not to start it anew."""
        if self.engine is not None:
            try:
                await asyncio.to_thread(self.engine.disable_restart)
            except CriuLazyError as error:
                self.warn(f"{error}; tried again before the commit")
            else:
                self.engine_told = True

    def undo_hooks(self) -> list[dict[str, Any]]:
        """The destination's hooks for a roll back: it runs them itself, also when nobody can tell it any more."""
        environment = hook_environment("after_rollback", self.pid, self.report.destination, self.id)
        return [
            {"run": hook.run, "env": environment, "timeout": hook.timeout}
            for hook in self.profile.hooks.get("after_rollback", [])
            if hook.on == "destination"
        ]

    async def hooks(self, phase: str, fatal: bool = True) -> None:
        """Run the profile's hooks of `phase`, in order. A failure is trouble, or only a warning."""
        environment = hook_environment(phase, self.pid, self.report.destination, self.id)
        by_ssh = {} if self.ssh is None or "RSYNC_RSH" in os.environ else self.ssh.for_rsync
        for hook in self.profile.hooks.get(phase, []):
            if phase == "after_rollback" and hook.on == "destination":
                continue  # see undo_hooks
            self.hooked = True
            try:
                if hook.on == "source":
                    step: Awaitable[Any] = run_hook(hook.run, environment | by_ssh, hook.timeout)
                else:
                    assert self.host is not None
                    step = self.host.request("hook", run=hook.run, env=environment, timeout=hook.timeout)
                await (self.guarded(step) if fatal else step)
            except (CriuLazyError, OSError) as error:
                if fatal:
                    raise
                self.warn(f"{phase}: {error}")

    def warn(self, text: str) -> None:
        """Tell, and go on."""
        self.report.warnings.append(text)
        self.progress.phase(text, "warning")

    async def run(self) -> Report:
        """All of it. Never raises for what goes wrong in a migration: the report tells."""
        force = False
        self.progress.write_run = self.keep_run
        if self.rounds.limits is not None:
            self.rounds.start_sampling()
        try:
            await self.guarded(Preparation(self).run())
            if self.files is not None:
                await self.guarded(self.turns.rounds(self))
            await self.guarded(self.send_files())
            if self.rounds.limits is not None:
                self.enter(State.PRE_COPY)
                await self.rounds.run()
                await self.guarded(self.send_files())
            self.rounds.stop_sampling()
            await self.guarded(self.turns.freeze(self))
            if self.profile.hooks.get("before_dump") and self.journal is not None:
                self.journal.record(hooked=True)
            await self.hooks("before_dump")
            frozen = [hook for phase in ("after_dump", "before_restore") for hook in self.profile.hooks.get(phase, [])]
            if self.ssh is not None and any(hook.on == "source" for hook in frozen):
                await self.guarded(self.ssh.open())
            self.check_deadline()
            await self.freeze()
            try:
                await self.restore()
            except HostInDoubt:
                raise
            except HostError:  # the agent lives and says that the restore failed: nothing runs there
                force = not self.said_go or await self.none_of_all()
                raise
            self.turns.runs(self)
            self.watch(self.network.let_pass())
            await self.tell_engine()
            await self.hooks("after_restore", fatal=False)
            await Draining(self).run()
            await self.guarded(self.turns.together(self, "drained"))
            await Ending(self).commit()
        except Exception as error:
            await self.stop(self.in_a_line(error), force)
        try:
            self.turns.ended(self)
            await self.clean_up()
        except Exception as error:  # what is left behind changes no outcome
            self.warn(self.in_a_line(error))
        if self.holds_task:
            let_go_of_task(self.pid)
        self.report.total_s = time.monotonic() - self.start
        self.save_run()
        await self.send_trace()
        self.progress.over(self.report.outcome, self.report.message)
        self.progress.end()
        return self.report

    @property
    def run_file(self) -> Path:
        return run_file.path_of(self.directory, self.progress.recorder.began)

    def keep_run(self) -> None:
        """What was seen until now, for `criu-lazy report`; if there is something to tell. Raises OSError."""
        if self.journal is None:
            return
        outcome = run_file.UNDER_WAY if TRANSITIONS[self.state] else self.state.value
        seen = replace(self.report, outcome=outcome, total_s=time.monotonic() - self.start)
        run_file.save(self.run_file, self.facts(seen))

    def facts(self, report: Report) -> dict[str, Any]:
        return self.progress.recorder.facts(self.name, self.progress.figures, report)

    def save_run(self) -> None:
        """The same of the whole of it, for good."""
        self.progress.write_run = None
        if self.journal is None:
            return
        self.report.run_file = str(self.run_file)
        try:
            run_file.save(self.run_file, self.facts(self.report))
        except OSError as error:
            self.report.run_file = ""
            self.warn(f"{self.run_file}: {error.strerror}: there is no whole run file")

    async def send_trace(self) -> None:
        """Of what is over, if that is wanted; what goes wrong with it is told, and changes nothing."""
        if not tracing.is_wanted():
            return
        try:
            problem = await asyncio.to_thread(tracing.export, self.facts(self.report))
        except Exception as error:
            problem = f"no trace: {type(error).__name__}: {error}"
        if problem:
            self.progress.phase(problem, "warning")

    async def dry_run(self) -> None:
        """Preflight, and nothing else; nothing is left behind. Raises CriuLazyError."""
        try:
            await self.guarded(Preparation(self, is_dry=True).run())
        finally:
            self.stop_watching()
            if self.holds_task:
                let_go_of_task(self.pid)
            if self.dump is not None:
                await self.dump.roll_back(force=False)
            if self.ssh is not None:
                await self.ssh.close()
            if self.host is not None:
                await self.host.close()
            self.limits.restore()
            if self.journal is not None:
                shutil.rmtree(self.directory, ignore_errors=True)

    async def stop(self, reason: str, force: bool) -> None:
        """It can't go on; `force`: nothing runs at the destination, as its agent says."""
        if self.state is State.COMMITTED:
            self.warn(reason)
            return
        self.turns.stopping(self, reason)
        try:
            if self.state in (State.RUNNING, State.DRAINED, State.COMMITTING) or (self.said_go and not force):
                Ending(self).stop_undecided(reason)
            else:
                await Ending(self).roll_back(reason, force or self.told_running)
        except Exception as error:
            self.report.outcome = "undecided"
            self.report.message = f"{reason}; then {self.in_a_line(error)}; {self.look().words()}"
            self.state = State.UNDECIDED

    def in_a_line(self, error: Exception) -> str:
        """For the report; what is no failure but a fault of this program leaves its traceback in a file."""
        if isinstance(error, CriuLazyError | OSError):
            return str(error)
        path = self.directory / "traceback"
        with contextlib.suppress(OSError):
            path.write_text("".join(traceback.format_exception(error)))
        return f"internal error: {type(error).__name__}: {error} (see {path})"

    async def clean_up(self) -> None:
        """Leave nothing behind but, after a failure, the logs."""
        self.rounds.stop_sampling()
        self.network.close()
        if self.ssh is not None:
            await self.ssh.close()
        if self.host is not None:
            if self.state is State.COMMITTED:
                with contextlib.suppress(HostError):
                    await self.host.request("finish", within=30)
            # An undecided migration's agent stays until the last page is there.
            await self.host.close(*([1.0] if self.state is State.UNDECIDED else []))
        if self.state is State.UNDECIDED:
            return
        self.limits.restore()
        if self.profile.keep_files:
            return
        if self.state is State.COMMITTED:
            shutil.rmtree(self.directory, ignore_errors=True)
        elif self.journal is not None:
            shutil.rmtree(self.directory / "images", ignore_errors=True)
