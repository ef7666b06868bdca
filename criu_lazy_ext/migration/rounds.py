"""Pre-copy in rounds: the running task's memory is sent until that is no longer worth it, or hopeless."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from typing import TYPE_CHECKING, Any

from criu_lazy_ext.errors import CriuLazyError
from criu_lazy_ext.migration.dirty_sample import DirtySample
from criu_lazy_ext.migration.precopy_policy import Round, why_hopeless, why_stop
from criu_lazy_ext.remote.hosts import HostError
from criu_lazy_ext.sizes import PAGE_BYTES
from criu_lazy_ext.source.control_socket import ControlError
from criu_lazy_ext.source.dump import SourceError, memory_of_tree

if TYPE_CHECKING:
    from criu_lazy_ext.migration.driver import Migration
    from criu_lazy_ext.profile import Precopy

FIRST_SAMPLE_S, SAMPLES_GROW = 0.05, 1.25  # the ages at which a sample of the task's pages is looked at
FAST_LINK = 1.25e9  # bytes per second: as long as nothing was sent, the link may be such a one
DEATH_WITHIN_S = 0.5  # of a page server that doesn't answer
CUT_AGAIN_S = 0.2
ENDS_WITHIN_S = 30.0  # a round that was cut: what is on its way arrives, and is confirmed
TELL_S = 0.3


class Rounds:
    """The rounds of one migration, and a sample of the task's pages that tells whether they can help."""

    def __init__(self, migration: Migration, limits: Precopy | None) -> None:
        """`limits` None: there are none; Preparation may leave them out later."""
        self.migration = migration
        self.limits = limits
        self.hopeless = ""  # why pre-copy is
        self.sampling: asyncio.Task[None] | None = None
        self.began = 0.0  # the first one

    def start_sampling(self) -> None:
        self.sampling = asyncio.ensure_future(self.sample())

    def leave_out(self) -> None:
        """The migration is purely lazy."""
        self.limits = None
        self.stop_sampling()

    def stop_sampling(self) -> None:
        if self.sampling is not None:
            self.sampling.cancel()

    async def run(self) -> None:
        """Rounds, as the profile says. Only the loss of the page server or the other host is trouble; if the pages
        can't be sent or kept, the migration is purely lazy."""
        migration = self.migration
        host, dump, limits = migration.host, migration.dump, self.limits
        assert host is not None and dump is not None and limits is not None
        told: dict[str, Any] = {"rounds": [], "stopped": "", "bytes": 0, "seconds": 0.0, "used": False}
        migration.report.precopy = told
        if why := self.hopeless or migration.past_deadline():
            told["stopped"] = why
            migration.progress.phase(f"pre-copy is left out: {why}")
            return
        rounds: list[Round] = []
        try:
            state = await migration.guarded(dump.ask("state"))
            request = host.request(
                "page-store", address=migration.address, port=int(state["port"]), key=dump.key, within=60
            )
            await migration.guarded(request)
            await migration.guarded(migration.turns.rounds(migration))
            while not told["stopped"]:
                rounds.append(await self.round(min(limits.max_seconds - told["seconds"], migration.until_deadline())))
                told["rounds"].append(dataclasses.asdict(rounds[-1]))
                told["bytes"] += rounds[-1].sent_bytes
                told["seconds"] = round(told["seconds"] + rounds[-1].seconds, 6)
                migration.progress.phase(f"pre-copy, round {len(rounds)}: {rounds[-1].as_text()}")
                told["stopped"] = self.hopeless or migration.past_deadline() or why_stop(rounds, limits) or ""
            migration.progress.phase(f"pre-copy is over: {told['stopped']}")
            await migration.guarded(dump.ask("precopied", timeout=None))
            await migration.guarded(host.request("page-stored", within=60))
            told["used"] = True
        except (HostError, ControlError) as error:
            await self.failed(error, told)

    async def round(self, seconds: float) -> Round:
        """One round, of so many seconds at the most; the first one also ends when it is known to be hopeless."""
        dump = self.migration.dump
        assert dump is not None
        self.began = self.began or time.monotonic()
        self.migration.progress.figures.round_began = time.monotonic()
        answer = asyncio.ensure_future(self.migration.guarded(dump.ask("round", timeout=None)))
        telling = asyncio.ensure_future(self.tell())
        left = max(0.0, seconds)
        give_up = time.monotonic() + left + ENDS_WITHIN_S
        try:
            while not (await asyncio.wait({answer}, timeout=left))[0]:
                if time.monotonic() > give_up:
                    raise SourceError(
                        f"the round was to end {ENDS_WITHIN_S:g} s ago: the page store at "
                        f"{self.migration.report.destination}, or the path that pages take to it, hangs"
                    )
                await dump.ask("cut")
                left = CUT_AGAIN_S  # the round may not have begun
            result = Round.of(await answer)
        finally:
            telling.cancel()
            answer.cancel()
        self.migration.progress.round_over(result.sent_bytes, result.seconds)
        self.stop_sampling()
        return result

    async def tell(self) -> None:
        """How much of memory the round under way has read, for who watches."""
        dump = self.migration.dump
        memory = max(1, memory_of_tree(self.migration.pid))
        while dump is not None:
            await asyncio.sleep(TELL_S)
            with contextlib.suppress(ControlError):
                state = await dump.ask("state")
                read = int(state.get("scanned_pages", 0)) * PAGE_BYTES
                self.migration.progress.round(min(1.0, read / memory), int(state.get("sent_bytes", 0)))

    async def sample(self) -> None:
        """Look how much the task changes, until it is known whether the first round is worth its end."""
        migration = self.migration
        memory = memory_of_tree(migration.pid)
        sample = await asyncio.to_thread(DirtySample, migration.pid)
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
        while migration.dump is not None:  # until its end; it may be about to begin
            if self.began:
                with contextlib.suppress(ControlError):
                    await migration.dump.ask("cut")
            await asyncio.sleep(FIRST_SAMPLE_S)

    async def round_seconds(self, memory: int) -> float:
        """What the first round will have taken for so many bytes; as long as that can't be told, the least."""
        dump = self.migration.dump
        if self.began and dump is not None:
            with contextlib.suppress(ControlError):
                if scanned := int((await dump.ask("state")).get("scanned_pages", 0)):
                    return (time.monotonic() - self.began) * memory / (scanned * PAGE_BYTES)
        return memory / FAST_LINK

    async def failed(self, error: CriuLazyError, told: dict[str, Any]) -> None:
        """Go on purely lazily, if both sides are there. Raises what isn't."""
        migration = self.migration
        assert migration.host is not None and migration.dump is not None and migration.dump.page_server is not None
        with contextlib.suppress(TimeoutError):
            status = await asyncio.wait_for(migration.dump.page_server.wait(), DEATH_WITHIN_S)
            raise SourceError(f"the page server ended by itself, with status {status}") from error
        why = (await migration.guarded(migration.host.request("drop-page-store", within=60)))["why"]
        reason = f"{migration.host.name}: {why}" if why else str(error)
        told["stopped"] = reason
        migration.warn(f"{reason}; going on without pre-copy")
