"""`criu-lazy migrate profile.yaml`: one migration, from preflight to commit or roll back.

The state machine: the states are State, the transitions TRANSITIONS, and `Migration.enter` is the one place that
changes state. The point of no return is the word "go" to the agent, when everything is restored and nothing runs yet:
before it any failure rolls back and the source task runs on; after it nothing does but an operator's forced abort.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from criu_lazy_ext import __version__, criu, decide, journal, relay_control
from criu_lazy_ext.channel import Message
from criu_lazy_ext.dirty_sample import PAGE_BYTES, DirtySample
from criu_lazy_ext.errors import CriuLazyError, UsageError
from criu_lazy_ext.hosts import END_WITHIN_S, HostError, HostInDoubt, RemoteHost
from criu_lazy_ext.journal import Journal
from criu_lazy_ext.predump import Round, why_hopeless, why_stop
from criu_lazy_ext.processes import Child, is_alive, signal_tree, start_time
from criu_lazy_ext.profile import Profile, hook_environment, load
from criu_lazy_ext.progress import Progress
from criu_lazy_ext.report import Report
from criu_lazy_ext.sizes import rate_argument
from criu_lazy_ext.source import (
    LazyDump,
    PipeLimits,
    SourceError,
    await_lazy_stacks,
    daemon_options,
    find_task,
    ids_of_tree,
    memory_of_tree,
)
from criu_lazy_ext.state import EXIT_STATUS, FINAL, LET_RUN, TRANSITIONS, State
from criu_lazy_ext.undo import run_hook

T = TypeVar("T")

POLL_S = 0.2
FIRST_SAMPLE_S, SAMPLES_GROW = 0.05, 1.25  # the ages at which a sample of the task's pages is looked at
FAST_LINK = 1.25e9  # bytes per second: as long as nothing was sent, the link may be such a one
WORD_WITHIN_S = 2.0
DRAINED_S = 5.0


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
        self.hopeless = ""  # why rounds before the freeze are
        self.sampling: asyncio.Task[None] | None = None
        self.round_began = 0.0  # the first one
        self.hooked = False  # a hook ran
        self.escaped = False  # criu dump died after "go": the source task was stopped by a signal

    def enter(self, state: State, **facts: Any) -> None:
        """Go to `state`, note `facts`, durably; no disk is waited for if nothing hangs on it and the task is frozen."""
        assert state in TRANSITIONS[self.state], f"{self.state} -> {state}"
        self.state = state
        self.report.phases_s[state.value] = round(time.monotonic() - self.start, 6)
        if self.journal is not None:
            try:
                durable = state not in (State.SERVING, State.RESTORING)
                self.journal.record(state=state.value, durable=durable, **facts)
            except OSError as error:
                if state not in FINAL | {State.UNDECIDED}:
                    raise
                self.warn(f"{self.journal.path}: {error.strerror}")  # what is to be undone is undone all the same

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
            if self.resumed:
                self.progress.stats(message["stats"])
        elif message["event"] == "ask":
            self.asked.set()
        elif message["event"] == "daemon-succeeded":
            self.warn(f"{self.report.destination}: {message['why']}; another goes on where it was")
        elif message["event"] == "daemon" and not self.daemon_ended.done():
            self.daemon_ended.set_result(message)
            if message["status"] != 0:
                self.fail(f"{self.report.destination}: {message['error']}")

    def watch(self, process: Child, what: str) -> None:
        """The end of `process` before the end of the migration is trouble."""

        async def wait() -> None:
            status = await process.wait()
            if self.dump is not None and process is self.dump.process and self.state in LET_RUN:
                # Nothing holds the source task any more; but it runs at the destination, or is about to.
                signal_tree(self.pid, signal.SIGSTOP)
                self.escaped = True
            self.fail(f"{what} ended by itself, with status {status}")

        self.watchers.append(asyncio.ensure_future(wait()))

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
        silence = self.profile.timeouts.silence
        self.host = await RemoteHost.connect(self.profile.destination, silence, self.on_event)
        self.watchers.append(asyncio.ensure_future(self._watch_host(self.host)))
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
        prepared = await self.host.request(
            "prepare", directory=str(destination_directory), pids=ids_of_tree(self.pid), keep=self.profile.keep_files,
            undo_hooks=self.undo_hooks(), store=str(store) if rounds is not None else "",
            daemon=self.profile.daemon, within=60,
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
        """The destination can connect to the page server's address."""
        assert self.host is not None
        try:
            probe = await asyncio.start_server(lambda _, writer: writer.close(), self.address, self.profile.source.port)
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else error
            raise SourceError(f"can't listen on {self.address}: {reason}; see source.address") from error
        async with probe:
            port = probe.sockets[0].getsockname()[1]
            await self.host.request("reach", address=self.address, port=port, within=30)

    def prepare_directory(self) -> None:
        """The migration's directory at the source; an earlier one's that came to its end is replaced."""
        if (self.directory / "journal.json").exists():
            facts = journal.read(self.directory)
            if decide.is_owned(facts):
                raise UsageError(f"{self.directory}: another criu-lazy migrate is at it (pid {facts['owner'][0]})")
            if decide.how_it_ended(facts) in (None, State.UNDECIDED.value):
                raise UsageError(
                    f"{self.directory}: an earlier migration stopped in state {facts['state']}; "
                    "see criu-lazy migrate --status"
                )
        try:
            shutil.rmtree(self.directory, ignore_errors=True)
            (self.directory / "images").mkdir(parents=True, mode=0o700)
        except OSError as error:
            raise SourceError(f"{self.directory}: {error.strerror}") from error
        self.journal = Journal(self.directory)
        self.journal.record(
            state=self.state.value,
            pid=self.pid,
            task_began=start_time(self.pid),
            destination=self.report.destination,
            owner=[os.getpid(), start_time(os.getpid())],
            control=str(self.directory / "page-server.sock"),
        )

    async def pre_dump(self) -> None:
        """Rounds, as the profile says. Only the loss of the page server or the other host is trouble; if the pages
        can't be sent or kept, the migration is purely lazy."""
        assert self.host is not None and self.dump is not None
        limits = self.profile.predump
        if limits is None:
            return
        self.enter(State.PRE_DUMPING)
        told: dict[str, Any] = {"rounds": [], "stopped": self.hopeless, "bytes": 0, "seconds": 0.0, "used": False}
        self.report.predump = told
        if self.hopeless:
            self.progress.phase(f"pre-dump is left out: {self.hopeless}")
            return
        rounds: list[Round] = []
        try:
            state = await self.guarded(self.dump.ask("state"))
            request = self.host.request(
                "page-store", address=self.address, port=int(state["port"]), key=self.dump.key, within=60
            )
            await self.guarded(request)
            while not told["stopped"]:
                rounds.append(await self.round(limits.max_seconds - told["seconds"]))
                told["rounds"].append(dataclasses.asdict(rounds[-1]))
                told["bytes"] += rounds[-1].sent_bytes
                told["seconds"] = round(told["seconds"] + rounds[-1].seconds, 6)
                self.progress.phase(f"pre-dump, round {len(rounds)}: {rounds[-1].as_text()}")
                told["stopped"] = self.hopeless or why_stop(rounds, limits) or ""
            self.progress.phase(f"pre-dump is over: {told['stopped']}")
            await self.guarded(self.dump.ask("precopied", timeout=None))
            await self.guarded(self.host.request("page-stored", within=60))
            told["used"] = True
        except (HostError, relay_control.ControlError) as error:
            await self.pre_dump_failed(error)

    async def round(self, seconds: float) -> Round:
        """One round, of so many seconds at the most; the first one also ends when it is known to be hopeless."""
        assert self.dump is not None
        self.round_began = self.round_began or time.monotonic()
        answer = asyncio.ensure_future(self.guarded(self.dump.ask("round", timeout=None)))
        if not (await asyncio.wait({answer}, timeout=max(0.0, seconds)))[0]:
            await self.dump.ask("cut")
        result = Round.of(await answer)
        self.stop_sampling()
        return result

    async def sample(self) -> None:
        """Look how much the task changes, until it is known whether the first round is worth its end."""
        memory = memory_of_tree(self.pid)
        sample = await asyncio.to_thread(DirtySample, self.pid)
        began = time.monotonic()
        samples: list[tuple[float, float]] = []
        due = FIRST_SAMPLE_S
        try:
            while not self.hopeless:
                await asyncio.sleep(began + due - time.monotonic())
                due *= SAMPLES_GROW
                age = time.monotonic() - began
                share = await asyncio.to_thread(sample.changed)
                if share is None:
                    return
                samples.append((age, share))
                self.hopeless = why_hopeless(samples, await self.round_seconds(memory)) or ""
        finally:
            sample.close()
        while self.dump is not None:  # until its end; it may be about to begin
            if self.round_began:
                with contextlib.suppress(relay_control.ControlError):
                    await self.dump.ask("cut")
            await asyncio.sleep(FIRST_SAMPLE_S)

    async def round_seconds(self, memory: int) -> float:
        """What the first round will have taken for so many bytes; as long as that can't be told, the least."""
        if self.round_began and self.dump is not None:
            with contextlib.suppress(relay_control.ControlError):
                scanned = int((await self.dump.ask("state")).get("scanned_pages", 0)) * PAGE_BYTES
                if scanned:
                    return (time.monotonic() - self.round_began) * memory / scanned
        return memory / FAST_LINK

    def stop_sampling(self) -> None:
        if self.sampling is not None:
            self.sampling.cancel()

    async def pre_dump_failed(self, error: CriuLazyError) -> None:
        """Go on purely lazily, if both sides are there. Raises what isn't."""
        assert self.host is not None and self.dump is not None and self.dump.relay is not None
        with contextlib.suppress(TimeoutError):
            status = await asyncio.wait_for(self.dump.relay.wait(), WORD_WITHIN_S / 4)
            raise SourceError(f"the page server ended by itself, with status {status}") from error
        why = (await self.guarded(self.host.request("drop-page-store", within=60)))["why"]
        reason = f"{self.host.name}: {why}" if why else str(error)
        assert self.report.predump is not None
        self.report.predump["stopped"] = reason
        self.warn(f"{reason}; going on without pre-dump")

    async def freeze(self) -> None:
        """Lazy dump, images at the destination, daemon ready there."""
        assert self.host is not None and self.dump is not None
        if not_lazy := await self.guarded(await_lazy_stacks(self.pid)):
            self.warn(not_lazy)
        self.progress.phase("lazy dump: the task is frozen")
        self.enter(State.DUMPING)
        self.dump_started = time.monotonic()
        dump = self.dump
        await self.guarded(dump.start())
        self.report.freeze_s = time.monotonic() - self.dump_started
        assert dump.process is not None and dump.relay is not None
        self.watch(dump.process, "criu dump")
        self.watch(dump.relay, "the page server")
        sent = self.report.image_bytes = await self.guarded(self.host.send_files(dump.images))
        self.enter(State.SERVING, address=self.address, port=dump.port, resume=dump.resume_command)
        await self.hooks("after_dump")
        self.progress.phase(f"images are over ({sent / 1e6:.1f} MB); starting lazy-pages there")
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
            if self.trouble.done():
                self.trouble.result()
            await self.dump.ask("running")
            self.enter(State.ALLOWED, went=True)
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
            state = await self.dump.ask("state")
            if state["state"] == "drained":
                drained = drained or time.monotonic()
                # The daemon's own word is better, but may be lost with who passes it on.
                if self.host.lost.done() or time.monotonic() - drained > DRAINED_S:
                    break
            if state["bytes"] != last:
                last, since = state["bytes"], time.monotonic()
            elif time.monotonic() - since > self.profile.timeouts.stall:
                self.warn(f"no page was asked for in {self.profile.timeouts.stall:g} s; the source waits, frozen")
                since = time.monotonic()
        if self.trouble.done():
            self.trouble.result()
        self.report.transfer_s = time.monotonic() - self.resumed
        if not self.report.lazy_pages:  # stock's daemon doesn't tell; the page server does
            self.report.received_bytes = int((await self.dump.ask("state"))["bytes"])
        self.enter(State.DRAINED)

    async def commit(self) -> None:
        """Every page is there: let the source task go."""
        assert self.dump is not None and self.dump.process is not None
        self.stop_watching()
        await self.dump.ask("commit")
        await self.dump.process.wait()
        if self.dump.relay is not None:
            await self.dump.relay.wait()
        self.enter(State.COMMITTED)
        self.report.outcome = "committed"
        self.progress.phase("every page arrived; the source task is gone")
        await self.hooks("after_commit", fatal=False)

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
        try:
            if self.dump is not None:
                await self.dump.roll_back(force)
        except CriuLazyError as error:
            self.report.outcome, self.report.message = "undecided", f"{reason}; rolling back failed: {error}"
            self.enter(State.UNDECIDED)
            return
        if self.escaped:
            signal_tree(self.pid, signal.SIGCONT)
        alive = is_alive(self.pid)
        self.report.outcome = "rolled-back" if frozen else "failed"
        self.report.message = f"{reason}; the source task {'runs on' if alive else 'is NOT running'}"
        self.enter(State.ROLLED_BACK if frozen else State.FAILED)
        if self.host is not None:
            await self.host.close(END_WITHIN_S + sum(hook["timeout"] for hook in self.undo_hooks()))
        if frozen or self.hooked:
            await self.hooks("after_rollback", fatal=False)

    def stop_undecided(self, reason: str) -> None:
        """After the point of no return: nothing is killed, nothing resumed; say how to go on."""
        self.stop_watching()
        self.enter(State.UNDECIDED)
        self.report.outcome = "undecided"
        held = "so the source stays frozen, with all of its memory"
        if self.escaped:
            held = f"so the source task (pid {self.pid}) was stopped by SIGSTOP; what had not come is lost to the other"
        self.report.message = (
            f"{reason}; the restored task was let run, {held}. Look at the "
            "destination, then: criu-lazy migrate --status PROFILE, and --commit if the restored task is complete, or "
            "--abort --force (after killing the restored task) to let the source task run on"
        )

    async def run(self) -> Report:
        """All of it. Never raises for what goes wrong in a migration: the report tells."""
        force = False
        if self.profile.predump is not None:
            self.sampling = asyncio.ensure_future(self.sample())
        try:
            await self.guarded(self.preflight())
            await self.pre_dump()
            self.stop_sampling()
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
        except (CriuLazyError, OSError) as error:
            if self.state in (State.RUNNING, State.DRAINED) or (self.state is State.ALLOWED and not force):
                self.stop_undecided(str(error))
            elif self.state is not State.COMMITTED:
                await self.roll_back(str(error), force)
        await self.clean_up()
        self.report.total_s = time.monotonic() - self.start
        self.progress.end()
        return self.report

    async def clean_up(self) -> None:
        """Leave nothing behind but, after a failure, the logs."""
        self.stop_sampling()
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
    return asyncio.run(_migrate(profile, name, options))
