"""The ends of a migration: commit, roll back, undecided. What became of the source task is looked at, then said."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from criu_lazy_ext.errors import CriuLazyError
from criu_lazy_ext.migration.journal import JournalError
from criu_lazy_ext.migration.state import State
from criu_lazy_ext.remote.hosts import END_WITHIN_S
from criu_lazy_ext.source.control_socket import ControlError, Refused
from criu_lazy_ext.source.dump import SourceError
from criu_lazy_ext.source.task import OVER, Seen, Source
from criu_lazy_ext.system import network_lock
from criu_lazy_ext.system.files import logs_in
from criu_lazy_ext.system.processes import signal_tree

if TYPE_CHECKING:
    from criu_lazy_ext.migration.driver import Migration

RETRY_S = 0.5
ENDS_WITHIN_S = 10.0  # criu dump, once it was told that it may end
RUNS_WITHIN_S = 2.0  # the source task, once criu dump has let it go
MAX_ENDED_TOLD = 8  # of the restored tree's processes that ended early


def describe_ended(process: dict[str, Any]) -> str:
    """A process of the restored task that has ended, and lost nothing by that."""
    pid, how = process["pid"], str(process["how"])
    if process["missing_pages"]:
        status = how.removeprefix("exit ")
        return f"the restored task {pid} ended by itself, with status {status}, before all its pages came"
    how = "ended, it is not known how," if how == "unknown" else f"was {how}"
    return f"process {pid} of the restored task {how} after all of its pages had arrived"


class Ending:
    """How one migration ends."""

    def __init__(self, migration: Migration) -> None:
        self.migration = migration

    async def commit(self) -> None:
        """Nobody misses a page any more: end the source task, and look that it has ended."""
        migration = self.migration
        assert migration.dump is not None and migration.dump.process is not None
        migration.stop_watching()
        ended = migration.daemon_ended.result().get("ended", []) if migration.daemon_ended.done() else []
        ended = [process for process in ended if process["missing_pages"] or not process["how"].startswith("exit ")]
        for process in ended[:MAX_ENDED_TOLD]:
            migration.warn(describe_ended(process))
        ended = [process for process in ended if process["missing_pages"]]
        if migration.engine is not None and not migration.engine_told:
            await asyncio.to_thread(migration.engine.disable_restart)
        migration.enter(State.COMMITTING, committing=True)
        await self.say_commit()
        source = await self.source_ends()
        died = not migration.dump_lives() and not migration.dump.has_succeeded()
        if not source.is_over and died and source.all_are(Seen.STOPPED, *OVER):
            migration.kill_source()  # criu dump died before it could, and so did who would have done it in its place
            source = await self.source_ends()
        if not source.is_over:
            words = source.words()
            for pid, seen in source.processes.items():
                if seen not in OVER:
                    signal_tree(pid, signal.SIGSTOP)
            raise SourceError(f"criu dump was told that it may end, and yet {words}; it was stopped now, by SIGSTOP")
        await self.end_dump()
        # The page server has removed it already, if it lives.
        for problem in await asyncio.to_thread(network_lock.remove, migration.pid, migration.dump.images):
            migration.warn(problem)
        for problem in migration.network.end():
            migration.warn(problem)
        if migration.engine is not None:
            await self.forget_container()
        migration.enter(State.COMMITTED)
        migration.report.outcome = "committed"
        but = ", but for those of processes that ended by themselves" if ended else ""
        migration.progress.phase(f"every page arrived{but}; the source task is gone")
        await migration.hooks("after_commit", fatal=False)

    async def forget_container(self) -> None:
        """The engine has removed it, unless its command was killed."""
        assert self.migration.engine is not None
        try:
            await asyncio.to_thread(self.migration.engine.forget)
        except CriuLazyError as error:
            self.migration.warn(str(error))

    async def say_commit(self) -> None:
        """CLOSE to criu dump; if that is dead, the page server kills the source task.

        A page server that was lost is waited for; what counts is what becomes of the source task.
        """
        migration = self.migration
        assert migration.dump is not None
        told = False
        while True:
            try:
                answer = await migration.dump.ask("commit", migration.by_itself)
                for warning in answer.get("warnings", ()):
                    migration.warn(warning)
                return
            except Refused:
                raise
            except ControlError as error:
                if not migration.look().dump_lives and not await migration.dump.has_page_server():
                    return
                if migration.trouble.done():
                    migration.trouble.result()
                if not told:
                    migration.progress.phase(f"waiting for the page server: {error}")
                told = True
            await asyncio.sleep(RETRY_S)

    async def source_ends(self) -> Source:
        """What is there of the source task after the commit; it may take a moment until it is seen to be killed."""
        migration = self.migration
        deadline = time.monotonic() + ENDS_WITHIN_S
        while not (source := migration.look()).is_over and time.monotonic() < deadline:
            if not source.dump_lives:
                deadline = min(deadline, time.monotonic() + RUNS_WITHIN_S)
            await asyncio.sleep(0.02)
        return source

    async def end_dump(self) -> None:
        """criu dump has nothing to do any more: the source task is gone, or nothing is left of it to let go."""
        migration = self.migration
        assert migration.dump is not None and migration.dump.process is not None
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(migration.dump.wait(), ENDS_WITHIN_S)
        if migration.dump_lives():
            await migration.dump.kill()
        if migration.dump.page_server is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(migration.dump.page_server.wait(), ENDS_WITHIN_S)

    async def roll_back(self, reason: str, force: bool) -> None:
        """Before the point of no return (or the restore is known to have failed): the source task runs on."""
        migration = self.migration
        migration.stop_watching()
        frozen = migration.state not in (State.PREFLIGHT, State.PRE_COPY)
        if migration.state is State.DUMPING and migration.dump is not None and migration.dump.process is None:
            frozen = False  # it did not come to that
        held = migration.state not in (State.PREFLIGHT, State.PRE_COPY)  # new connections are
        migration.progress.figures.ending = "rolling back" if frozen else "stopped"
        if migration.journal is not None or not migration.end_is_told:  # else nothing is to be ended first
            says_so = not frozen and reason.startswith("stopped ")  # by a signal
            migration.progress.phase(reason if says_so else f"{migration.progress.figures.ending}: {reason}")
        source = migration.look()
        if migration.state is State.ALLOWED and not migration.said_go and migration.journal is not None:
            with contextlib.suppress(JournalError):  # before it runs on: this process may be killed
                migration.journal.record(went=False)
        try:
            if source.is_over and migration.dump is not None and migration.dump.process is not None:
                await self.end_dump()  # there is no task left that it could resume
            if migration.dump is not None:
                await self.resume_source(force)
        except CriuLazyError as error:
            migration.report.outcome = "undecided"
            migration.report.message = f"{reason}; rolling back failed: {error}; {migration.look().words()}"
            migration.enter(State.UNDECIDED, **({} if migration.said_go else {"went": False}))
            return
        # The page server has done it, unless it or the dump was killed.
        locked = migration.network.give_back() if held else []
        if frozen and migration.dump is not None:
            locked += await asyncio.to_thread(network_lock.unlock, migration.pid, migration.dump.images)
        for problem in await asyncio.to_thread(migration.network.deliver_here):
            migration.warn(problem)
        source = await self.source_runs()
        end = State.ROLLED_BACK if frozen and not source.is_over else State.FAILED
        migration.report.outcome = end.value
        runs = "the source task runs on" if migration.is_free(source) else source.words()
        if gone := [pid for pid, seen in source.processes.items() if seen in OVER and not source.is_over]:
            runs += f", but for its processes {gone}, which have ended, or were killed"
        migration.report.message = "; but ".join([f"{reason}; {runs}", *locked])
        migration.enter(end, **({} if migration.said_go else {"went": False}))
        if migration.host is not None:
            await migration.host.close(END_WITHIN_S + sum(hook["timeout"] for hook in migration.undo_hooks()))
        migration.report.message += self.logs(migration.logs_there)
        if migration.host is not None and (doubt := migration.network.in_doubt()):
            migration.report.message += f"; {doubt}"  # last: it ends with what to type
        if frozen or migration.hooked:
            await migration.hooks("after_rollback", fatal=False)

    def logs(self, there: Path) -> str:
        """Where those of what failed are, on both ends; `there`: the directory at the destination."""
        migration = self.migration
        here = [path.name for path in logs_in(migration.directory)]
        if migration.dump is None or not here:
            return ""
        text = f"; logs: {migration.directory}/ ({', '.join(here)})"
        if State.SERVING.value not in migration.report.phases_s or migration.host is None:
            return text
        lost = migration.state is State.ROLLED_BACK and not migration.host.has_undone
        return f"{text}, {migration.report.destination}: {there}/{', once it has undone its half' if lost else ''}"

    async def resume_source(self, force: bool) -> None:
        """Make criu dump let the source task run on; once it has dumped, by killing it if nothing else helps."""
        migration = self.migration
        assert migration.dump is not None
        try:
            await migration.dump.roll_back(force)
        except CriuLazyError as error:
            if not migration.tree or migration.dump.process is None:
                raise
            migration.warn(f"{error}: killed")
            for problem in await asyncio.to_thread(network_lock.unlock, migration.pid, migration.dump.images):
                migration.warn(problem)
            await migration.dump.kill()

    async def source_runs(self) -> Source:
        """What is there of the source task, which should run on; the fence around it is lifted, if it still stands."""
        migration = self.migration
        deadline = time.monotonic() + RUNS_WITHIN_S
        while not migration.is_free(source := migration.look()) and not source.is_over and time.monotonic() < deadline:
            for pid in set(source.some(Seen.STOPPED)) - set(migration.stopped) if migration.tree else ():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
            await asyncio.sleep(0.02)
        return source

    def stop_undecided(self, reason: str) -> None:
        """After the point of no return: nothing is killed, nothing resumed; say what is there, and how to go on."""
        migration = self.migration
        migration.stop_watching()
        facts: dict[str, Any] = {"restored_ended": migration.restored_ended} if migration.restored_ended else {}
        if migration.none_there:
            facts["none_there"] = True
        complete = migration.state is not State.ALLOWED and migration.state is not State.RUNNING
        migration.enter(State.UNDECIDED, **facts)
        migration.report.outcome = "undecided"
        ways = "--commit, which waits for the pages that still come; or, after killing the restored task, --abort "
        ways += "--force to let the source task run on"
        if complete:
            ways = "--commit, which ends it: every page arrived"
        if migration.restored_ended:
            ways = "--abort --force to let the source task run on, or --commit --force to end it for good"
        resumed = "the restored task was resumed"
        if migration.none_there:
            resumed = f"nothing of it is left at {migration.report.destination}, where what it was to move with may run"
            ways = "--abort --force to let the source task run on without that, or --commit --force to end it for good"
        logs = self.logs(migration.directory_there / "work")
        migration.report.message = (
            f"{reason}; {resumed}; here {migration.look().words()}{logs}. Look at the destination, "
            f"then: criu-lazy migrate --status {migration.profile_path}, and {ways}{migration.network.ways()}"
        )
