"""`criu-lazy migrate profile.yaml`: one migration, from preflight to commit or roll back.

The state machine: `Migration.enter` is the one place that changes the state (state.py). The point of no return is the
word "go" to the agent, when everything is restored and nothing runs yet, the source task is fenced, and the journal
says so: before it any failure rolls back and the source task runs on; after it nothing does but an operator's forced
abort.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from criu_lazy_ext import __version__, criu, decide, journal, network_lock, preflight
from criu_lazy_ext.channel import Message
from criu_lazy_ext.errors import CriuLazyError, UsageError
from criu_lazy_ext.hosts import END_WITHIN_S, HostError, HostInDoubt, RemoteHost
from criu_lazy_ext.journal import Journal, JournalError
from criu_lazy_ext.lock import Lock, lock_path
from criu_lazy_ext.processes import is_alive, signal_tree, start_time
from criu_lazy_ext.profile import Profile, hook_environment, load
from criu_lazy_ext.progress import Progress
from criu_lazy_ext.relay_control import Answer, ControlError, Refused
from criu_lazy_ext.report import Report
from criu_lazy_ext.rounds import Rounds
from criu_lazy_ext.sizes import rate_argument
from criu_lazy_ext.source import (
    LazyDump,
    PipeLimits,
    SourceError,
    await_lazy_stacks,
    daemon_options,
    find_task,
    memory_of_tree,
)
from criu_lazy_ext.source_task import OVER, Identity, Seen, Source, boot_id, identities, identity
from criu_lazy_ext.state import EXIT_STATUS, TRANSITIONS, State
from criu_lazy_ext.undo import run_hook

T = TypeVar("T")

POLL_S = 0.2
WORD_WITHIN_S = 2.0
PROBE_BYTES = 256 << 10  # more than a path passes that only passes small packets
DRAINED_S = 5.0
ANSWER_WITHIN_S = 5.0  # of a page server that works
LOOK_S = 0.5  # how often the frozen source task is looked at
ENDS_WITHIN_S = 10.0  # criu dump, once it was told that it may end
RUNS_WITHIN_S = 2.0  # the source task, once criu dump has let it go
MAX_ENDED_TOLD = 8  # of the restored tree's processes that ended early
LONG_WAIT_S = 10.0  # a fault that waits longer is worth a warning


class Trouble(CriuLazyError):
    """Something that the migration rests on ended by itself, or the user wants it to stop."""


class Migration:
    """One migration. `run` takes it to one of the final states and returns the report."""

    def __init__(self, profile: Profile, name: str, progress: Progress) -> None:
        self.profile = profile
        self.name = name
        self.progress = progress
        self.state = State.PREFLIGHT
        self.directory = profile.directories.source / name
        self.limits = PipeLimits()
        self.start = time.monotonic()
        self.pid = find_task(profile.task)
        self.report = Report("failed", self.pid, profile.destination.ssh or "local")
        self.journal: Journal | None = None
        self.host: RemoteHost | None = None
        self.dump: LazyDump | None = None
        loop = asyncio.get_running_loop()
        self.trouble = self.no_trouble_yet()
        self.asked = asyncio.Event()
        self.daemon_ended: asyncio.Future[Message] = loop.create_future()
        self.watchers: list[asyncio.Task[None]] = []
        self.dump_started = 0.0
        self.address = ""  # of the page server, as the destination is told
        self.resumed = 0.0
        self.rounds = Rounds(self)
        self.hooked = False  # a hook ran
        self.tree: list[Identity] = []  # the source task's processes, once they are frozen
        self.began = start_time(self.pid)
        self.stopped = self.look().some(Seen.STOPPED)  # before the dump, by somebody else
        self.told_running = False  # the page server was told that the restored task is about to run
        self.said_go = False
        self.by_itself = False  # the agent, not the daemon, knows that the restored task ended by itself
        self.restored_ended: list[dict[str, Any]] | None = None  # how, if it was killed with pages missing
        self.waiting = (0, 0.0)  # faults that wait for their page, and since when, by the daemon's last counters

    def enter(self, state: State, **facts: Any) -> None:
        """Go to `state`, note `facts`, durably; no disk is waited for if nothing hangs on it and the task is frozen.

        What can't be recorded is a failure before "go", and only a warning after it, or when the end is known.
        """
        assert state in TRANSITIONS[self.state], f"{self.state} -> {state}"
        self.state = state
        self.report.phases_s[state.value] = round(time.monotonic() - self.start, 6)
        if self.journal is not None:
            try:
                durable = state not in (State.SERVING, State.RESTORING)
                self.journal.record(state=state.value, durable=durable, **facts)
            except JournalError as error:
                if not self.said_go and TRANSITIONS[state]:
                    raise
                self.warn(str(error))

    def look(self) -> Source:
        """At the source task and criu dump."""
        dump = self.dump.process if self.dump is not None else None
        source = Source.look(self.tree or identities(self.pid) or [(self.pid, self.began or 0)], None)
        return Source(source.processes, dump.pid if dump else 0, dump is not None and is_alive(dump.pid))

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
            if self.resumed:
                self.progress.stats(message["stats"])
        elif message["event"] == "ask":
            self.asked.set()
        elif message["event"] == "daemon-succeeded":
            self.warn(f"{self.report.destination}: {message['why']}; another goes on where it was")
        elif message["event"] == "daemon" and not self.daemon_ended.done():
            self.daemon_ended.set_result(message)
            self.by_itself = bool(message.get("by_itself"))
            if message["status"] != 0:
                self.restored_ended = message.get("ended") if message.get("lost_pages") else None
                self.fail(f"{self.report.destination}: {message['error']}")

    def take_waiting(self, stats: dict[str, Any]) -> None:
        waits_s = int(stats.get("oldest_wait_us", 0)) / 1e6
        self.waiting = (int(stats.get("waiting_faults", 0)), time.monotonic() - waits_s)

    def watch(self, step: Awaitable[None]) -> None:
        self.watchers.append(asyncio.ensure_future(step))

    async def _watch_dump(self) -> None:
        """Its end before the end of the migration is trouble."""
        assert self.dump is not None and self.dump.process is not None
        status = await self.dump.process.wait()
        self.fail(f"criu dump ended by itself, with status {status}")

    async def _watch_relay(self) -> None:
        """The page server's end is trouble before "go"; after it its guardian starts another."""
        assert self.dump is not None and self.dump.relay is not None
        status = await self.dump.relay.wait()
        if self.said_go:
            self.warn(f"the page server ended by itself, with status {status}; waiting for another to go on")
        else:
            self.fail(f"the page server ended by itself, with status {status}")

    async def _watch_source(self) -> None:
        """A process of the frozen source task that is killed is told of; criu dump has what it dumped of it."""
        told: set[int] = set()
        while True:
            await asyncio.sleep(LOOK_S)
            over = {pid for pid, seen in self.look().processes.items() if seen in OVER}
            if over - told:
                which = ", ".join(map(str, sorted(over - told)))
                self.warn(
                    f"of the frozen source task, process {which} was killed at the source: it can't run on here any "
                    "more; its pages that are still to come are asked of criu dump"
                )
            told |= over

    def stop_watching(self) -> None:
        for watcher in self.watchers:
            watcher.cancel()

    async def _watch_host(self, host: RemoteHost) -> None:
        reason = await asyncio.shield(host.lost)
        if self.state in (State.RUNNING, State.DRAINED):
            self.warn(f"{host.name}: {reason}; waiting for the last page all the same")
        else:
            self.fail(f"{host.name}: {reason}")

    # ---- the steps ----

    async def preflight(self) -> None:
        """Both ends can do it; nothing is touched but directories made and pipe limits raised."""
        self.progress.phase(f"preflight: task {self.pid}, destination {self.report.destination}")
        problems = [
            f"{item.name}: {item.problem}"
            for item in await asyncio.to_thread(lambda: criu.requirements(source=False, destination=False))
            if item.problem
        ]
        if problems:
            raise SourceError("source: " + "; ".join(problems))
        needs = await asyncio.to_thread(preflight.look_at, self.profile, self.pid)
        silence = self.profile.timeouts.silence
        self.host = await RemoteHost.connect(self.profile.destination, silence, self.on_event)
        self.watch(self._watch_host(self.host))
        hello = await self.host.hello(silence)
        if hello["version"] != __version__:
            raise SourceError(f"criu-lazy {__version__} here, {hello['version']} at {self.host.name}: install the same")
        mine = await asyncio.to_thread(criu.version)
        theirs = tuple(hello["criu"])
        if theirs[:2] < mine[:2]:
            versions = f"{'.'.join(map(str, mine))} at the source, {'.'.join(map(str, theirs))} at the destination"
            raise SourceError(f"criu {versions}: an older criu can't restore a newer one's images")
        if self.profile.daemon == "stock" and criu.wire_version(theirs) != criu.wire_version(mine):
            raise SourceError("criu's own lazy-pages there doesn't speak this criu's protocol: use daemon: criu-lazy")
        local = "127.0.0.1" if self.profile.destination.local else hello["peer"]
        self.address = self.profile.source.address or local
        await self.check_reachable()
        self.prepare_directory()
        destination_directory = self.profile.directories.destination / f"{self.name}-{os.getpid()}-{int(time.time())}"
        rounds = self.profile.predump
        store = destination_directory / "store"
        if rounds is not None and rounds.directory is not None:
            store = rounds.directory / f"{destination_directory.name}.store"  # may be that same directory
        store_name = str(store) if rounds is not None else ""
        prepared = await self.host.request(
            "prepare", directory=str(destination_directory), keep=self.profile.keep_files,
            undo_hooks=self.undo_hooks(), store=store_name, daemon=self.profile.daemon,
            needs=preflight.as_message(needs, self.profile, store_name), within=60,
        )  # fmt: skip
        memory, free = memory_of_tree(self.pid), int(prepared["free_bytes"])
        if rounds is not None and memory > free:
            raise SourceError(
                f"{self.host.name}: {free / 1e6:.0f} MB are free at {store.parent}, and the task has "
                f"{memory / 1e6:.0f} MB of memory: let predump.directory be where there is room, or leave predump out"
            )
        self.limits.raise_()
        if self.journal is not None:
            self.journal.record(limits=self.limits.before())
        self.dump = LazyDump(self.profile, self.pid, self.directory)
        await self.dump.prepare(self.address, criu.wire_version(mine))

    async def check_reachable(self) -> None:
        """The destination can connect to the page server's address, and gets what is sent from there in bulk."""
        assert self.host is not None

        def send(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(os.urandom(PROBE_BYTES))
            writer.close()  # once it is sent

        try:
            probe = await asyncio.start_server(send, self.address, self.profile.source.port)
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else error
            raise SourceError(f"can't listen on {self.address}: {reason}; see source.address") from error
        try:
            port = probe.sockets[0].getsockname()[1]
            await self.host.request("reach", address=self.address, port=port, bytes=PROBE_BYTES, within=60)
        finally:
            probe.close()

    def prepare_directory(self) -> None:
        """The migration's directory at the source; an earlier one's that came to its end is replaced."""
        earlier = journal.read(self.directory) if (self.directory / "journal.json").exists() else None
        if earlier and (why := decide.why_not_replaced(earlier)):
            raise UsageError(f"{self.directory}: {why}; see criu-lazy migrate --status")
        try:
            shutil.rmtree(self.directory, ignore_errors=True)
            (self.directory / "images").mkdir(parents=True, mode=0o700)
            journal.sync_directory(self.directory.parent)
        except OSError as error:
            raise SourceError(f"{self.directory}: {error.strerror}") from error
        self.journal = Journal(self.directory)
        self.journal.record(
            state=self.state.value,
            boot_id=boot_id(),
            pid=self.pid,
            task_began=self.began,
            destination=self.report.destination,
            owner=[os.getpid(), start_time(os.getpid())],
            control=str(self.directory / "page-server.sock"),
        )

    async def freeze(self) -> None:
        """Lazy dump, images at the destination, daemon ready there."""
        assert self.host is not None and self.dump is not None
        if not_lazy := await self.guarded(await_lazy_stacks(self.pid)):
            self.warn(not_lazy)
        await self.guarded(asyncio.to_thread(preflight.check_arrived, self.pid))
        self.progress.phase("lazy dump: the task is frozen")
        assert self.dump.relay is not None
        self.stopped = self.look().some(Seen.STOPPED)
        self.enter(State.DUMPING, stopped=self.stopped, page_server=identity(self.dump.relay.pid))
        self.dump_started = time.monotonic()
        dump = self.dump
        await self.guarded(dump.start())
        self.report.freeze_s = time.monotonic() - self.dump_started
        assert dump.process is not None
        self.tree = identities(self.pid)
        for watcher in (self._watch_dump, self._watch_relay, self._watch_source):
            self.watch(watcher())
        sent = self.report.image_bytes = await self.guarded(self.host.send_files(dump.images))
        facts = {"address": self.address, "port": dump.port, "resume": dump.resume_command}
        self.enter(State.SERVING, **facts, dump=identity(dump.process.pid), tree=self.tree)
        await self.hooks("after_dump")
        plain = "" if dump.key else "; pages go in plain"
        self.progress.phase(f"images are over ({sent / 1e6:.1f} MB); starting lazy-pages there{plain}")
        request = self.host.request(
            "daemon", daemon=self.profile.daemon, options=[*daemon_options(self.profile), *self.profile.daemon_options],
            address=self.address, port=dump.port, key=dump.key, within=60,
            precopied=bool(self.report.predump and self.report.predump["used"]),
        )  # fmt: skip
        await self.guarded(request)

    async def restore(self) -> None:
        """Restore, up to the point of no return and over it."""
        assert self.host is not None and self.dump is not None
        await self.hooks("before_restore")
        self.enter(State.RESTORING)
        options = [*self.profile.criu.options(), *self.profile.criu.restore_options]
        timeout = self.profile.timeouts.restore
        restored = asyncio.ensure_future(self.host.request("restore", options=options, timeout=timeout))
        asked = asyncio.ensure_future(self.asked.wait())
        try:
            either: set[asyncio.Future[Any]] = {restored, asked}
            await self.guarded(asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED))
            if not asked.done():
                await restored  # it failed: its error
                raise HostError(f"{self.host.name}: restore ended without asking")
            await self.allow()
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
        self.resumed = time.monotonic()
        self.report.downtime_s = self.resumed - self.dump_started
        self.enter(State.RUNNING)
        self.progress.phase(f"the task runs at the destination; downtime {self.report.downtime_s * 1e3:.0f} ms")

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
        await asyncio.sleep(0)  # who ended or what came meanwhile is known then
        self.check_dump()
        self.said_go = True

    def check_dump(self) -> None:
        """Raises what has gone wrong."""
        if self.trouble.done():
            self.trouble.result()
        source = self.look()
        if not source.dump_lives:
            raise SourceError(f"{source.words()}")

    async def page_server_state(self) -> Answer | None:
        """None while it doesn't answer: its guardian starts another."""
        assert self.dump is not None
        with contextlib.suppress(ControlError):
            return await self.guarded(self.dump.ask("state", timeout=ANSWER_WITHIN_S))
        return None

    async def drain(self) -> None:
        """Wait for the last page: the daemon's word, by the agent or, if that is lost, by its CLOSE."""
        assert self.dump is not None and self.host is not None
        last, since = -1, time.monotonic()
        drained: float | None = None
        while not self.daemon_ended.done():
            either: set[asyncio.Future[Any]] = {self.daemon_ended, self.trouble}
            await asyncio.wait(either, timeout=POLL_S, return_when=asyncio.FIRST_COMPLETED)
            if self.trouble.done():
                self.trouble.result()
            state = await self.page_server_state()
            if state is not None and state["state"] == "drained":
                drained = drained or time.monotonic()
                # The daemon's own word is better, but may be lost with who passes it on.
                if self.host.lost.done() or time.monotonic() - drained > DRAINED_S:
                    break
            if state is not None and state["bytes"] != last:
                last, since = state["bytes"], time.monotonic()
            elif self.warned_of_stall(since):
                since = time.monotonic()
        if self.trouble.done():
            self.trouble.result()
        self.report.transfer_s = time.monotonic() - self.resumed
        if not self.report.lazy_pages and (state := await self.page_server_state()):
            self.report.received_bytes = int(state["bytes"])  # stock's daemon doesn't tell; the page server does
        self.enter(State.DRAINED, complete=True)

    def warned_of_stall(self, since: float) -> bool:
        """Warn, if it is time to, that nothing has come `since` then."""
        now, stall = time.monotonic(), self.profile.timeouts.stall
        faults, waiting_since = self.waiting
        if faults and now - since > min(stall, LONG_WAIT_S) and now - waiting_since > min(stall, LONG_WAIT_S):
            self.warn(
                f"{faults} fault{'s wait' if faults > 1 else ' waits'} since {now - waiting_since:.0f} s, and nothing "
                "comes: look at the path between the hosts; the source waits, frozen"
            )
        elif now - since > stall:
            self.warn(f"nothing was sent in {stall:g} s; the source waits, frozen")
        else:
            return False
        return True

    async def commit(self) -> None:
        """Every page is there: let the source task go, and look that it went."""
        assert self.dump is not None and self.dump.process is not None
        self.stop_watching()
        ended = self.daemon_ended.result().get("ended", []) if self.daemon_ended.done() else []
        for process in ended[:MAX_ENDED_TOLD]:
            status = str(process["how"]).removeprefix("exit ")
            pid = process["pid"]
            self.warn(f"the restored task {pid} ended by itself, with status {status}, before all its pages came")
        self.enter(State.COMMITTING, committing=True)
        await self.say_commit()
        source = await self.source_ends()
        if not source.is_over:
            words = source.words()
            signal_tree(self.pid, signal.SIGSTOP)
            raise SourceError(f"criu dump was told that it may end, and yet {words}; it was stopped now, by SIGSTOP")
        await self.end_dump()
        # The page server has removed it already, if it lives.
        for problem in await asyncio.to_thread(network_lock.remove, self.pid, self.dump.images):
            self.warn(problem)
        self.enter(State.COMMITTED)
        self.report.outcome = "committed"
        self.progress.phase("every page arrived; the source task is gone")
        await self.hooks("after_commit", fatal=False)

    async def say_commit(self) -> None:
        """CLOSE to criu dump. A page server that was lost is waited for; what counts is what criu dump then does."""
        assert self.dump is not None
        while self.look().dump_lives:
            try:
                answer = await self.dump.ask("commit", self.by_itself)
                for warning in answer.get("warnings", ()):
                    self.warn(warning)
                return
            except Refused:
                raise
            except ControlError as error:
                if self.trouble.done():
                    self.trouble.result()
                self.progress.phase(f"waiting for the page server: {error}")
            await asyncio.sleep(LOOK_S)

    async def source_ends(self) -> Source:
        """What is there of the source task after the commit; it may take a moment until it is seen to be killed."""
        deadline = time.monotonic() + ENDS_WITHIN_S
        while not (source := self.look()).is_over and time.monotonic() < deadline:
            if not source.dump_lives:
                deadline = min(deadline, time.monotonic() + RUNS_WITHIN_S)
            await asyncio.sleep(0.02)
        return source

    async def end_dump(self) -> None:
        """criu dump has nothing to do any more: the source task is gone, or nothing is left of it to let go."""
        assert self.dump is not None and self.dump.process is not None
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.dump.process.wait(), ENDS_WITHIN_S)
        if self.dump.process.returncode is None:
            os.kill(self.dump.process.pid, signal.SIGKILL)
            await self.dump.process.wait()
        if self.dump.relay is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.dump.relay.wait(), ENDS_WITHIN_S)

    def undo_hooks(self) -> list[dict[str, Any]]:
        """The destination's hooks for a roll back: it runs them itself, also when nobody can tell it any more."""
        environment = hook_environment("after_rollback", self.pid, self.report.destination)
        return [
            {"run": hook.run, "env": environment, "timeout": hook.timeout}
            for hook in self.profile.hooks.get("after_rollback", [])
            if hook.on == "destination"
        ]

    async def hooks(self, phase: str, fatal: bool = True) -> None:
        """Run the profile's hooks of `phase`, in order. A failure is trouble, or only a warning."""
        environment = hook_environment(phase, self.pid, self.report.destination)
        for hook in self.profile.hooks.get(phase, []):
            if phase == "after_rollback" and hook.on == "destination":
                continue  # see undo_hooks
            self.hooked = True
            try:
                if hook.on == "source":
                    step: Awaitable[Any] = run_hook(hook.run, environment, hook.timeout)
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
        self.progress.phase(f"warning: {text}")

    # ---- the end ----

    async def roll_back(self, reason: str, force: bool) -> None:
        """Before the point of no return (or the restore is known to have failed): the source task runs on."""
        self.stop_watching()
        frozen = self.state not in (State.PREFLIGHT, State.PRE_DUMPING)
        self.progress.phase(f"{'rolling back' if frozen else 'stopped'}: {reason}")
        source = self.look()
        try:
            if source.is_over and self.dump is not None and self.dump.process is not None:
                await self.end_dump()  # there is nothing that it could let run on
            if self.dump is not None:
                await self.let_go(force)
        except CriuLazyError as error:
            self.report.outcome = "undecided"
            self.report.message = f"{reason}; rolling back failed: {error}; {self.look().words()}"
            self.enter(State.UNDECIDED)
            return
        locked: list[str] = []
        if frozen and self.dump is not None:  # the page server has done it already, unless it or the dump was killed
            locked = await asyncio.to_thread(network_lock.unlock, self.pid, self.dump.images)
        source = await self.source_runs()
        end = State.ROLLED_BACK if frozen and not source.is_over else State.FAILED
        self.report.outcome = end.value
        runs = "the source task runs on" if self.is_free(source) else source.words()
        if gone := [pid for pid, seen in source.processes.items() if seen in OVER and not source.is_over]:
            runs += f", but for its processes {gone}, which were killed"
        self.report.message = "; but ".join([f"{reason}; {runs}", *locked])
        self.enter(end)
        if self.host is not None:
            await self.host.close(END_WITHIN_S + sum(hook["timeout"] for hook in self.undo_hooks()))
        if frozen or self.hooked:
            await self.hooks("after_rollback", fatal=False)

    async def let_go(self, force: bool) -> None:
        """Make criu dump let the source task run on; once it has dumped, by killing it if nothing else helps."""
        assert self.dump is not None
        try:
            await self.dump.roll_back(force)
        except CriuLazyError as error:
            if not self.tree or self.dump.process is None:
                raise
            self.warn(f"{error}: killed")
            for problem in await asyncio.to_thread(network_lock.unlock, self.pid, self.dump.images):
                self.warn(problem)
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.dump.process.pid, signal.SIGKILL)
            await self.dump.process.wait()

    async def source_runs(self) -> Source:
        """What is there of the source task, which should run on; the fence around it is lifted, if it still stands."""
        deadline = time.monotonic() + RUNS_WITHIN_S
        while not self.is_free(source := self.look()) and not source.is_over and time.monotonic() < deadline:
            for pid in set(source.some(Seen.STOPPED)) - set(self.stopped) if self.tree else ():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
            await asyncio.sleep(0.02)
        return source

    def stop_undecided(self, reason: str) -> None:
        """After the point of no return: nothing is killed, nothing resumed; say what is there, and how to go on."""
        self.stop_watching()
        facts = {"restored_ended": self.restored_ended} if self.restored_ended else {}
        self.enter(State.UNDECIDED, **facts)
        self.report.outcome = "undecided"
        ways = "--commit if the restored task is complete, or --abort --force (after killing the restored task) to let "
        ways += "the source task run on"
        if self.restored_ended:
            ways = "--abort --force to let the source task run on, or --commit to give it up"
        self.report.message = (
            f"{reason}; the restored task was let run; here {self.look().words()}. Look at the destination, then: "
            f"criu-lazy migrate --status PROFILE, and {ways}"
        )

    async def run(self) -> Report:
        """All of it. Never raises for what goes wrong in a migration: the report tells."""
        force = False
        if self.profile.predump is not None:
            self.rounds.start_sampling()
        try:
            await self.guarded(self.preflight())
            if self.profile.predump is not None:
                self.enter(State.PRE_DUMPING)
                await self.rounds.run()
            self.rounds.stop_sampling()
            await self.hooks("before_dump")
            await self.freeze()
            try:
                await self.restore()
            except HostInDoubt:
                raise
            except HostError:
                force = True  # the agent lives and says that the restore failed: nothing runs there
                raise
            await self.hooks("after_restore", fatal=False)
            await self.drain()
            await self.commit()
        except Exception as error:
            await self.stop(self.in_a_line(error), force)
        try:
            await self.clean_up()
        except Exception as error:  # what is left behind changes no outcome
            self.warn(self.in_a_line(error))
        self.report.total_s = time.monotonic() - self.start
        self.progress.end()
        return self.report

    async def stop(self, reason: str, force: bool) -> None:
        """It can't go on; `force`: nothing runs at the destination, as its agent says."""
        if self.state is State.COMMITTED:
            self.warn(reason)
            return
        try:
            if self.state in (State.RUNNING, State.DRAINED, State.COMMITTING) or (self.said_go and not force):
                self.stop_undecided(reason)
            else:
                await self.roll_back(reason, force or self.told_running)
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


# ---- the command ----


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="criu-lazy migrate", description="Move a running task to another host.")
    parser.add_argument("profile", type=Path, help="the migration, as YAML (see configs/)")
    parser.add_argument("--json", action="store_true", help="print the report as JSON on stdout")
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")
    parser.add_argument("--dry-run", action="store_true", help="preflight on both ends, and stop")
    parser.add_argument("--status", action="store_true", help="tell how far an earlier run of this profile came")
    parser.add_argument("--rate", metavar="SIZE", type=rate_argument,
        help="let pages take so many bytes per second (K, M, G may follow) from now on; 0: no limit")  # fmt: skip
    parser.add_argument("--abort", action="store_true", help="let the source task of a stopped migration run on")
    parser.add_argument("--commit", action="store_true", help="let the source task of a stopped migration go")
    parser.add_argument("--force", action="store_true", help="--abort or --commit all the same")
    return parser.parse_args(argv)


async def _dry_run(migration: Migration, profile: Path) -> int:
    """Preflight, and nothing else; nothing is left behind."""
    try:
        await migration.guarded(migration.preflight())
    finally:
        migration.stop_watching()
        if migration.dump is not None:
            await migration.dump.roll_back(force=False)
        if migration.host is not None:
            await migration.host.close()
        migration.limits.restore()
        if migration.journal is not None:
            shutil.rmtree(migration.directory, ignore_errors=True)
    print(f"{profile}: task {migration.pid} can be moved to {migration.report.destination}")
    return 0


async def _migrate(profile: Profile, name: str, options: argparse.Namespace) -> int:
    progress = Progress(quiet=options.quiet)
    migration = Migration(profile, name, progress)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup wants it
            loop.add_signal_handler(number, migration.fail, f"stopped by {signal.Signals(number).name}")
    if options.dry_run:
        return await _dry_run(migration, options.profile)
    report = await migration.run()
    if options.json:
        print(json.dumps(report.as_json()))
    else:
        print(report.as_text(), file=sys.stdout if report.outcome == "committed" else sys.stderr)
    return EXIT_STATUS[migration.state]


def main(argv: list[str]) -> int:
    """Exit status: 0 committed, 1 failed before anything was frozen, 2 wrong usage, 3 rolled back, 4 undecided.

    --status, --abort and --commit: 4 while the source task of a stopped migration is still frozen.
    """
    options = _arguments(argv)
    profile = load(options.profile)
    name = options.profile.stem
    if options.status or options.abort or options.commit or options.rate is not None:
        return decide.decide(profile, name, options)
    lock = Lock(lock_path(profile.directories.source / name))
    try:
        return asyncio.run(_migrate(profile, name, options))
    finally:
        lock.release()
