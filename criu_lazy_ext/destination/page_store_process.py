"""`criu-lazy page-store`, as the agent runs it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from asyncio.subprocess import Process

from criu_lazy_ext.destination.undo import AgentError
from criu_lazy_ext.destination.workplace import Workplace
from criu_lazy_ext.remote.channel import Message
from criu_lazy_ext.system.awaited import read_all
from criu_lazy_ext.system.migration_id import without_mark
from criu_lazy_ext.system.processes import CRIU_LAZY, describe_status

STORED_WITHIN_S = 30.0


class PageStoreProcess:
    """Keeps pages that come before the dump. Its public methods are operations of the agent."""

    def __init__(self, place: Workplace) -> None:
        self.place = place
        self.process: Process | None = None

    async def start(self, request: Message) -> Message:
        """Start page-store, to keep pages that come before the dump: {"address", "port", "key"}.

        Answered when the page server has agreed.
        """
        work = self.place.work()
        ready_read, ready_write = os.pipe()
        command = [*CRIU_LAZY, "page-store", "--directory", self.place.made.store]
        command += ["--address", str(request["address"]), "--port", str(request["port"])]
        command += ["--status-fd", str(ready_write), "-o", str(work / "page-store.log"), "-v"]
        if request["key"]:
            command += ["--tls-psk", str(self.place.key_file(str(request["key"])))]
        try:
            with (work / "page-store.out").open("wb") as output:
                self.process = await asyncio.create_subprocess_exec(
                    *command, stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output,
                    pass_fds=(ready_write,), start_new_session=True,
                )  # fmt: skip
        finally:
            os.close(ready_write)
        self.place.made.page_store = self.process.pid
        self.place.tell_keeper()
        if self.place.live is not None:
            self.place.live.note(store=self.place.made.store)
        ready = await asyncio.wait_for(read_all(ready_read), 30)
        if ready != b"\0":
            raise self._failed(await self.process.wait())
        return {}

    async def stored(self, request: Message) -> Message:
        """Wait until page-store is done, and has everything."""
        if self.process is None:
            raise AgentError("no page-store was started")
        status = await asyncio.wait_for(self.process.wait(), STORED_WITHIN_S)
        self.place.made.page_store = 0
        self.place.tell_keeper()
        if status:
            raise self._failed(status)
        return {}

    async def drop(self, request: Message) -> Message:
        """Give up what page-store has; tells why it had ended by itself, if it had: {"why"}."""
        why = ""
        if self.process is not None:
            with contextlib.suppress(TimeoutError):
                why = str(self._failed(await asyncio.wait_for(self.process.wait(), 1)))
            if self.process.returncode is None:
                await asyncio.to_thread(self.place.made.kill_group, self.process.pid)
        if self.place.made.store:
            shutil.rmtree(self.place.made.store, ignore_errors=True)
        self.place.made.page_store, self.place.made.store = 0, ""
        self.place.tell_keeper()
        return {"why": why}

    def _failed(self, status: int) -> AgentError:
        try:
            said = (self.place.work() / "page-store.out").read_text(errors="replace").strip().splitlines()
        except OSError:
            said = []
        last = without_mark(said[-1]).removeprefix("criu-lazy page-store: error: ") if said else ""
        return AgentError(f"page-store {describe_status(status)}{f': {last}' if last else ''}")
