"""Before anything is frozen: both ends are looked at, the migration's directories made, the page server started."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from typing import TYPE_CHECKING

from criu_lazy_ext import __version__
from criu_lazy_ext.criu import program as criu
from criu_lazy_ext.errors import UsageError
from criu_lazy_ext.migration import decide, journal, preflight
from criu_lazy_ext.migration.journal import Journal
from criu_lazy_ext.remote.hosts import RemoteHost
from criu_lazy_ext.source.dump import LazyDump, SourceError, memory_of_tree
from criu_lazy_ext.source.task import boot_id
from criu_lazy_ext.system.processes import start_time

if TYPE_CHECKING:
    from criu_lazy_ext.migration.driver import Migration

PROBE_BYTES = 256 << 10  # more than a path passes that only passes small packets


class Preparation:
    """What one migration needs before its freeze."""

    def __init__(self, migration: Migration) -> None:
        self.migration = migration

    async def run(self) -> None:
        """Both ends can do it; nothing is touched but directories made and pipe limits raised."""
        migration = self.migration
        migration.progress.phase(f"preflight: task {migration.pid}, destination {migration.report.destination}")
        problems = [
            f"{item.name}: {item.problem}"
            for item in await asyncio.to_thread(lambda: criu.requirements(source=False, destination=False))
            if item.problem
        ]
        if problems:
            raise SourceError("source: " + "; ".join(problems))
        needs = await asyncio.to_thread(preflight.look_at, migration.profile, migration.pid)
        wire_version = await self.meet()
        await self.check_reachable()
        self.prepare_directory()
        await self.prepare_destination(needs)
        migration.limits.raise_()
        if migration.journal is not None:
            migration.journal.record(limits=migration.limits.before())
        migration.dump = LazyDump(migration.profile, migration.pid, migration.directory)
        await migration.dump.prepare(migration.address, wire_version)

    async def meet(self) -> int:
        """Start the agent there; the version of criu's protocol that both sides speak."""
        migration, profile = self.migration, self.migration.profile
        silence = profile.timeouts.silence
        host = migration.host = await RemoteHost.connect(profile.destination, silence, migration.on_event)
        migration.watch(migration.watch_host(host))
        hello = await host.hello(silence)
        if hello["version"] != __version__:
            raise SourceError(f"criu-lazy {__version__} here, {hello['version']} at {host.name}: install the same")
        mine = await asyncio.to_thread(criu.version)
        theirs = tuple(hello["criu"])
        if theirs[:2] < mine[:2]:
            versions = f"{'.'.join(map(str, mine))} at the source, {'.'.join(map(str, theirs))} at the destination"
            raise SourceError(f"criu {versions}: an older criu can't restore a newer one's images")
        if profile.daemon == "stock" and criu.wire_version(theirs) != criu.wire_version(mine):
            raise SourceError("criu's own lazy-pages there doesn't speak this criu's protocol: use daemon: criu-lazy")
        local = "127.0.0.1" if profile.destination.local else hello["peer"]
        migration.address = profile.source.address or local
        return criu.wire_version(mine)

    async def prepare_destination(self, needs: preflight.Needs) -> None:
        """The agent looks whether the task will find there what it needs, and makes its directory."""
        migration, profile = self.migration, self.migration.profile
        assert migration.host is not None
        directory = profile.directories.destination / f"{migration.name}-{os.getpid()}-{int(time.time())}"
        rounds = profile.predump
        store = directory / "store"
        if rounds is not None and rounds.directory is not None:
            store = rounds.directory / f"{directory.name}.store"  # may be that same directory
        store_name = str(store) if rounds is not None else ""
        prepared = await migration.host.request(
            "prepare", directory=str(directory), keep=profile.keep_files, undo_hooks=migration.undo_hooks(),
            store=store_name, daemon=profile.daemon, needs=preflight.as_message(needs, profile, store_name), within=60,
        )  # fmt: skip
        memory, free = memory_of_tree(migration.pid), int(prepared["free_bytes"])
        if rounds is not None and memory > free:
            raise SourceError(
                f"{migration.host.name}: {free / 1e6:.0f} MB are free at {store.parent}, and the task has "
                f"{memory / 1e6:.0f} MB of memory: let predump.directory be where there is room, or leave predump out"
            )

    async def check_reachable(self) -> None:
        """The destination can connect to the page server's address, and gets what is sent from there in bulk."""
        migration = self.migration
        assert migration.host is not None

        def send(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(os.urandom(PROBE_BYTES))
            writer.close()  # once it is sent

        try:
            probe = await asyncio.start_server(send, migration.address, migration.profile.source.port)
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else error
            raise SourceError(f"can't listen on {migration.address}: {reason}; see source.address") from error
        try:
            port = probe.sockets[0].getsockname()[1]
            await migration.host.request("reach", address=migration.address, port=port, bytes=PROBE_BYTES, within=60)
        finally:
            probe.close()

    def prepare_directory(self) -> None:
        """The migration's directory at the source; an earlier one's that came to its end is replaced."""
        migration = self.migration
        earlier = journal.read(migration.directory) if journal.exists(migration.directory) else None
        if earlier and (why := decide.why_not_replaced(earlier)):
            raise UsageError(f"{migration.directory}: {why}; see criu-lazy migrate --status")
        try:
            shutil.rmtree(migration.directory, ignore_errors=True)
            (migration.directory / "images").mkdir(parents=True, mode=0o700)
            journal.sync_directory(migration.directory.parent)
        except OSError as error:
            raise SourceError(f"{migration.directory}: {error.strerror}") from error
        migration.journal = Journal(migration.directory)
        migration.journal.record(
            state=migration.state.value,
            boot_id=boot_id(),
            pid=migration.pid,
            task_began=migration.began,
            destination=migration.report.destination,
            owner=[os.getpid(), start_time(os.getpid())],
            control=str(migration.directory / "page-server.sock"),
        )
