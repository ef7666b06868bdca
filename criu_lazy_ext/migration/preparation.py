"""Before anything is frozen: both ends are looked at, the migration's directories made, the page server started."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from criu_lazy_ext.checks.check import Verdict, accept, failures
from criu_lazy_ext.checks.needs import Arrival
from criu_lazy_ext.criu import program as criu
from criu_lazy_ext.engines.engine import container_as_message
from criu_lazy_ext.migration import preflight
from criu_lazy_ext.migration.files import ContainerFiles
from criu_lazy_ext.migration.journal import Journal
from criu_lazy_ext.migration.precopy_policy import why_lazy
from criu_lazy_ext.migration.preflight import AtSource, PreflightError
from criu_lazy_ext.remote.channel import Message
from criu_lazy_ext.remote.hosts import RemoteHost
from criu_lazy_ext.remote.way_back import PROBE_BYTES, Way
from criu_lazy_ext.source.control_socket import CONTROL_SOCKET
from criu_lazy_ext.source.dump import LazyDump, SourceError, memory_of_tree, program_of
from criu_lazy_ext.source.task import boot_id
from criu_lazy_ext.system.addresses import interface_rate
from criu_lazy_ext.system.files import sync_directory
from criu_lazy_ext.system.processes import start_time

if TYPE_CHECKING:
    from criu_lazy_ext.migration.driver import Migration


class Preparation:
    """What one migration needs before its freeze."""

    def __init__(self, migration: Migration, *, is_dry: bool = False) -> None:
        self.migration = migration
        self.is_dry = is_dry
        self.directory = migration.directory_there
        self.way = Way("")

    async def run(self) -> None:
        """Both ends can do it; nothing is touched but directories made and pipe limits raised."""
        migration = self.migration
        name = f" ({program_of(migration.pid)})" if migration.engine is None else ""
        what = f"{migration.report.what}{name}, destination {migration.report.destination}, migration {migration.id}"
        migration.progress.phase(f"preflight: {what}")
        await migration.check_not_moving()
        store = "" if migration.profile.chooses() else self.store()  # one that has no room is left out
        looking = asyncio.ensure_future(AtSource.look(migration.profile, migration.pid, store))
        try:
            hello = await self.meet()
            found = await looking
        finally:
            looking.cancel()
        await self.check(found, hello)
        migration.network.plan()
        self.prepare_directory()
        self.prepare_files()
        await self.prepare_destination(found.arrival)
        migration.limits.raise_()
        if migration.journal is not None:
            migration.journal.record(limits=migration.limits.before())
        migration.dump = LazyDump(
            migration.profile, migration.pid, migration.directory, migration.engine, migration=migration.id
        )
        version = criu.wire_version(await asyncio.to_thread(criu.version))
        await migration.dump.prepare(migration.address, version, migration.rounds.limits)

    async def meet(self) -> Message:
        """Start the agent there; what it says of itself."""
        migration, profile = self.migration, self.migration.profile
        silence = profile.timeouts.silence
        host = migration.host = await RemoteHost.connect(profile.destination, silence, migration.on_event)
        migration.watch(migration.watch_host(host))
        hello = await host.hello(silence, migration.id)
        self.way = await Way.find(host, profile.destination, profile.source, hello["peer"])
        migration.address = self.way.address
        migration.progress.recorder.interface = interface_rate(self.way.address)
        return hello

    async def check(self, found: AtSource, hello: Message) -> None:
        """Have the destination look, too; what is wrong stops the migration, or is told."""
        migration = self.migration
        assert migration.host is not None
        migration.findings += found.findings
        migration.findings += await preflight.both(migration.host, found, hello, self.way)
        self.stop_at_failures()
        for finding in self.migration.findings:
            if finding.verdict is Verdict.WARN:
                self.migration.warn(finding.line)

    def stop_at_failures(self) -> None:
        findings = self.migration.findings = list(accept(self.migration.findings, self.migration.profile.accept))
        if failed := failures(findings):
            raise PreflightError(failed)

    def store(self) -> str:
        """The directory there for pages that come before the dump, or ""."""
        rounds = self.migration.rounds.limits
        if rounds is None:
            return ""
        if rounds.directory is None:
            return str(self.directory / "store")
        return str(rounds.directory / f"{self.directory.name}.store")  # may be that same directory

    async def prepare_destination(self, arrival: Arrival) -> None:
        """The agent makes its directory. It is known then whether pre-copy can pay."""
        migration, profile = self.migration, self.migration.profile
        assert migration.host is not None
        store = self.store()
        container = None if self.is_dry else arrival.container or None  # no room is made for it
        prepared = await migration.host.request(
            "prepare", directory=str(self.directory), logs=str(migration.logs_there), keep=profile.keep_files,
            undo_hooks=migration.undo_hooks(), store=store, daemon=profile.daemon, ids=arrival.ids,
            container=container, within=60,
        )  # fmt: skip
        migration.turns.pod_there(prepared.get("pod", ""))
        if not store:
            return
        memory, free = memory_of_tree(migration.pid), int(prepared["free_bytes"])
        why = f"{migration.host.name}: {free / 1e6:.0f} MB are free at {Path(store).parent}" if memory > free else ""
        if why and not profile.chooses():
            raise SourceError(
                f"{why}, and the task has {memory / 1e6:.0f} MB of memory: let precopy.directory be where there is "
                "room, or leave pre-copy out (strategy: lazy)"
            )
        if profile.chooses():
            if prepared["in_memory"]:
                why = why or f"{migration.host.name}: {Path(store).parent} is a tmpfs, where it would take memory twice"
            self.choose(why or why_lazy(memory, PROBE_BYTES, self.way.seconds))

    def choose(self, lazy: str | None) -> None:
        """Pre-copy or not: tell which."""
        migration = self.migration
        if lazy:
            migration.rounds.leave_out()
            migration.report.strategy = f"purely lazy: {lazy}"
        else:
            migration.report.strategy = "pre-copy while the task runs, then what has changed, lazily"
        migration.progress.phase(f"strategy: {migration.report.strategy}")

    def prepare_files(self) -> None:
        """What is to be sent of a container's files."""
        migration = self.migration
        container, engine, found = migration.profile.container, migration.engine, migration.container
        if container is None or engine is None or found is None or container.files == "shared":
            return
        if not (trees := engine.trees(found)):
            return
        assert migration.ssh is not None, "the profile's: files: shared, if not"
        migration.ssh.prepare()
        migration.files = ContainerFiles(trees, migration.pid, migration.ssh)

    def prepare_directory(self) -> None:
        """The migration's directory at the source; an earlier one's that came to its end is replaced."""
        migration = self.migration
        try:
            shutil.rmtree(migration.directory, ignore_errors=True)
            (migration.directory / "images").mkdir(parents=True, mode=0o700)
            sync_directory(migration.directory.parent)
        except OSError as error:
            raise SourceError(f"{migration.directory}: {error.strerror}") from error
        migration.progress.keep_in(migration.directory)
        migration.journal = Journal(migration.directory)
        migration.journal.record(
            state=migration.state.value,
            id=migration.id,
            boot_id=boot_id(),
            pid=migration.pid,
            container=container_as_message(migration.profile.container) if migration.profile.container else None,
            kept=migration.engine.kept(migration.container) if migration.engine and migration.container else {},
            task_began=migration.began,
            group=migration.turns.group(),
            destination=migration.report.destination,
            owner=[os.getpid(), start_time(os.getpid())],
            control=str(migration.directory / CONTROL_SOCKET),
            run_file=str(migration.run_file),
        )
        migration.progress.keep_run()
