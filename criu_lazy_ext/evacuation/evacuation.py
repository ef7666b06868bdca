"""The run of an evacuation: preflight of all, then one migration after the other, as the schedule lets them.

All migrations run in this process (driver.Migration), each with its own journal, agent and page server. If this process
is killed, each is where a `migrate` that was killed leaves it, and `--resume` settles it.
"""

from __future__ import annotations

import asyncio
import math
import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from criu_lazy_ext.engines.engine import Moved, UnknownContainer, find
from criu_lazy_ext.errors import CriuLazyError, UsageError
from criu_lazy_ext.evacuation.plan import Plan
from criu_lazy_ext.evacuation.pod import Pod
from criu_lazy_ext.evacuation.record import GONE, MOVING, STAYED, WAITING, Item, Record, RecordError, profile_path
from criu_lazy_ext.evacuation.schedule import Member, Phase, Schedule
from criu_lazy_ext.evacuation.settling import settle
from criu_lazy_ext.evacuation.show import ItemDisplay, Show, headline
from criu_lazy_ext.migration import journal, operator_commands
from criu_lazy_ext.migration.driver import Migration
from criu_lazy_ext.migration.lock import Lock, lock_path
from criu_lazy_ext.migration.progress import Progress
from criu_lazy_ext.migration.rounds import TELL_S
from criu_lazy_ext.migration.state import State, Trouble
from criu_lazy_ext.migration.turns import Turns
from criu_lazy_ext.profile import Profile, load
from criu_lazy_ext.remote.hosts import HostError
from criu_lazy_ext.sizes import PAGE_BYTES
from criu_lazy_ext.source.control_socket import ControlError
from criu_lazy_ext.system.files import replace_file
from criu_lazy_ext.system.processes import start_time

TICK_S = 0.02
STUCK_S = 3.0  # without a byte
ROUND_STUCK_S = 10.0  # without a page that was read
SAME_RATE = 0.02  # a change of less isn't worth telling
DEAD_AFTER = 2  # connections that failed, and none that didn't
PREFLIGHTS = max(2, min(4, os.cpu_count() or 2))  # at a time; sshd drops some of more than ten that log in at once


class Gone(CriuLazyError):
    """It has ended before its turn."""


class Mover(Turns):
    """One item's migrations, one place after the other, and what the schedule needs of the one under way."""

    def __init__(
        self, item: Item, limit: int, show: Show, on_end: Callable[[Mover], None], pod: Pod | None = None
    ) -> None:
        """`limit`: its place's, bytes per second; `on_end`: told of the migration's end before that cleans up; `pod`:
        with which it moves."""
        self.pod = pod
        self.item = item
        self.on_end = on_end
        self.member = Member(item.name, item.place, limit, pod=item.pod)
        self.progress = Progress(ItemDisplay(show, item.name))
        self.migration: Migration | None = None
        self.job: asyncio.Task[None] | None = None
        self.may_send = asyncio.Event()
        self.may_freeze = asyncio.Event()
        self.rate = 0  # that its page server was told
        self.heard = (0, 0.0)  # bytes received, and when that changed
        self.round_heard = (-1.0, 0.0)  # rounds, and how much of the next was read, and when that changed

    # ---- what the migration asks ----

    async def rounds(self, migration: Migration) -> None:
        if self.member.phase is Phase.PREPARING:
            self.member.has_rounds = True
            self.member.phase = Phase.PREPARED
        await self.may_send.wait()

    async def freeze(self, migration: Migration) -> None:
        self.member.bytes_left = self.item.memory
        rounds = (migration.report.precopy or {}).get("rounds") or []
        if rounds:
            self.member.bytes_left = int(rounds[-1]["sent_bytes"])  # it dirties as much meanwhile
        self.member.phase = Phase.READY if self.member.phase is Phase.ROUNDS else Phase.PREPARED
        self.member.has_rounds = self.member.phase is Phase.READY
        await self.may_freeze.wait()

    async def together(self, migration: Migration, step: str) -> None:
        if self.pod is not None:
            await self.pod.together(migration, step)

    async def go(self, migration: Migration) -> None:
        await (super().go(migration) if self.pod is None else self.pod.go(migration))

    def pod_there(self, made: str = "") -> str:
        if self.pod is None:
            return ""
        self.pod.there_as = made or self.pod.there_as
        return self.pod.there_as

    def runs(self, migration: Migration) -> None:
        if self.pod is not None:
            self.pod.runs()

    async def none_there(self, migration: Migration) -> bool:
        return self.pod is None or await self.pod.none_there(migration)

    def stopping(self, migration: Migration, reason: str) -> None:
        if self.pod is not None:
            self.pod.stopping(migration, reason)

    def group(self) -> dict[str, Any]:
        return {} if self.pod is None else self.pod.facts()

    def ended(self, migration: Migration) -> None:
        self.on_end(self)

    # ---- what the schedule asks ----

    def look(self, schedule: Schedule) -> None:
        """Bring the member up to date; let the schedule know its downtime."""
        migration, member, figures = self.migration, self.member, self.progress.figures
        self.progress.refresh()
        now = time.monotonic()
        if member.phase is Phase.ROUNDS:  # only the first is foretold: those that follow are short
            read = figures.rounds + figures.round_read
            if read != self.round_heard[0]:
                self.round_heard = (read, now)
            unheard_s = now - self.round_heard[1]
            left = self.item.memory * (1 - figures.round_read) - schedule.rate * min(unheard_s, TELL_S)
            member.bytes_left = 0 if figures.rounds else max(0, int(left))
            member.stuck = unheard_s > ROUND_STUCK_S
        if migration is None or member.phase < Phase.FROZEN:
            return
        received = int(figures.stats.get("received_bytes", 0))
        if member.phase is Phase.FROZEN and migration.state is State.RUNNING:
            member.phase = Phase.FOLLOWING
            schedule.take_downtime(migration.report.downtime_s or schedule.downtime_s)
            self.heard = (received, now)
        if migration.state in (State.DRAINED, State.COMMITTING, State.COMMITTED, State.UNDECIDED):
            member.phase = Phase.OVER
        if member.phase is Phase.FOLLOWING and figures.stats:
            member.bytes_left = min(member.bytes_left, figures.awaited_bytes)  # of those that were sent before, too
            if received != self.heard[0] or not figures.awaited_bytes:
                self.heard = (received, now)
        member.stuck = member.phase is Phase.FOLLOWING and now - self.heard[1] > STUCK_S

    async def set_rate(self, rate: int) -> None:
        """Of its page server's pages, if that isn't it already."""
        migration = self.migration
        is_told = bool(rate) == bool(self.rate) and abs(rate - self.rate) <= self.rate * SAME_RATE
        if is_told or migration is None or migration.dump is None:
            return
        self.rate = rate
        try:
            await migration.dump.ask("rate", timeout=2.0, rate=rate)
        except ControlError:
            self.rate = -1  # again, then


class Evacuation:
    """Moves a record's items."""

    def __init__(self, record: Record, migrations: dict[str, str], plan: Plan, schedule: Schedule, show: Show) -> None:
        """`migrations`: the name of each item's migration. Of the plan, what it says of all is looked at."""
        self.record = record
        self.migrations = migrations
        self.order = record.in_order()
        self.items = {item.name: item for item in record.items}
        self.places = {place.title: place for place in plan.destinations}
        self.schedule = schedule
        self.show = show
        self.on_failure = plan.on_failure
        self.deadline = plan.deadline
        self.start = time.monotonic()
        self.stopped = ""  # why nothing more is frozen
        self.all_checked = False  # the preflight of all is over
        self.signals = 0  # that asked for an end
        self.complete: set[str] = set()  # of those that are settled: there with every page
        self.movers: dict[str, Mover] = {}
        self.failures: dict[str, int] = dict.fromkeys(self.places, 0)
        self.unreached: dict[str, int] = dict.fromkeys(self.places, 0)  # in a row
        self.preflights = asyncio.Semaphore(PREFLIGHTS)
        self.rating: asyncio.Task[None] | None = None

    # ---- which goes where ----

    def place_for(self, item: Item) -> str | None:
        """Where it is to go, with all of its pod: the place with the fewest failures that has room, of those not tried;
        None: nowhere."""
        unit = self.record.together(item)
        tried = {one["place"] for each in unit for one in each.tried}
        memory = sum(each.memory for each in unit)
        fitting = [place for place in item.places if place not in tried and self.room(place) >= memory]
        return min(fitting, key=lambda place: (self.failures[place], self.taken(place)), default=None)

    def taken(self, place: str) -> int:
        """Bytes of what went there, or is on its way."""
        there = (item for item in self.record.items if item.place == place and item.state not in (WAITING, *STAYED))
        return sum(item.memory for item in there)

    def room(self, place: str) -> float:
        limit = self.places[place].memory
        return limit - self.taken(place) if limit else math.inf

    def waits(self, item: Item) -> str:
        """Why it can't begin, as something that it waits for is where it was, for good; "" if that isn't so."""
        bad = [name for name in item.after if self.items[name].is_over and not self.items[name].is_done]
        if lost := [other for other in self.record.together(item) if other.is_over]:
            have = "has" if len(lost) == 1 else "have"
            how = "moved without it" if all(other.is_done for other in lost) else "not moved with it"
            return f"{', '.join(other.name for other in lost)}, of the same pod, {have} {how}"
        return f"{', '.join(bad)}, which it is to follow, has not moved" if bad else ""

    def is_due(self, item: Item) -> bool:
        return all(self.items[name].is_done for name in item.after)

    # ---- the run ----

    async def run(self) -> None:
        """Until every item is over."""
        earlier = self.start - self.record.seconds
        # What an earlier run left under way; nobody waits for it. A thread for each: those of a pod await each other.
        left = [item for item in self.record.items if item.state == MOVING]
        threads = ThreadPoolExecutor(max(1, len(left)))
        settling = [asyncio.ensure_future(self.settle(item, threads)) for item in left]
        checking = asyncio.ensure_future(self.check_all())
        try:
            while not self.record.is_over or self.movers:
                for job in (*settling, checking):
                    if job.done():
                        job.result()
                self.step()
                self.show.refresh(self)
                await asyncio.sleep(TICK_S)
        finally:
            checking.cancel()
            self.record.seconds = time.monotonic() - earlier
            self.save()

    def save(self) -> None:
        """If it can't be, that is told: what was recorded last is true as far as it goes."""
        try:
            self.record.save()
        except RecordError as error:
            self.show.line(f"{error}: the record is older than what is told here", "warning")

    def stop(self, why: str) -> None:
        """Nothing more is frozen; what is frozen is seen through."""
        self.stopped = self.stopped or why
        for mover in self.movers.values():
            if mover.migration is not None and (mover.member.phase < Phase.FROZEN or self.signals > 1):
                mover.migration.fail(why)

    def signalled(self, why: str) -> None:
        """The first time: stop. The second time all is to end, as migrate ends it."""
        self.signals += 1
        self.stop(why)

    def tell(self) -> None:
        """Somebody asks, by a signal."""
        self.show.line(headline(self), "info")

    def step(self) -> None:
        """What can be done now."""
        if self.deadline is not None and time.monotonic() - self.start > self.deadline and not self.stopped:
            self.stop(f"the deadline of {self.deadline:g} s has passed")
        self.schedule.take_rate(max((mover.progress.figures.best_rate for mover in self.movers.values()), default=0.0))
        for mover in self.movers.values():
            mover.look(self.schedule)
        self.begin_some()
        members = [self.movers[item.name].member for item in self.order if item.name in self.movers]
        # Rounds only read. But what they sent would be old if the preflight of many others came after them.
        may_read = self.all_checked or len(self.record.items) <= self.schedule.ahead
        if may_read and not self.stopped and (
            (member := self.schedule.next_rounds(members, may_freeze=self.all_checked)) is not None
        ):
            member.phase = Phase.ROUNDS
            self.movers[member.name].may_send.set()
        if self.all_checked and not self.stopped and (member := self.schedule.next_freeze(members)) is not None:
            for other in members:
                if other.unit == member.unit:
                    other.phase = Phase.FROZEN
                    self.movers[other.name].may_freeze.set()
        if self.rating is None or self.rating.done():
            self.rating = asyncio.ensure_future(self.set_rates(self.schedule.rates(members)))

    async def set_rates(self, rates: dict[str, int]) -> None:
        movers = [(self.movers[name], rate) for name, rate in rates.items() if name in self.movers]
        await asyncio.gather(*(mover.set_rate(rate) for mover, rate in movers))

    def begin_some(self) -> None:
        """Prepare who is next, as far as there is room for that."""
        ahead = sum(mover.member.phase < Phase.ROUNDS for mover in self.movers.values())
        preparing = sum(mover.member.phase is Phase.PREPARING for mover in self.movers.values())
        for item in self.order:
            if item.state != WAITING or item.name in self.movers:
                continue
            if why := self.left(item) if self.stopped else self.waits(item):
                self.over(item, State.FAILED.value, why)
            elif ahead < self.schedule.ahead and preparing < PREFLIGHTS and self.is_due(item):
                unit = self.record.together(item)
                if any(other.state != WAITING or other.name in self.movers for other in unit):
                    continue  # an earlier try of theirs isn't over
                if (place := self.place_for(item)) is None:
                    self.over(item, State.FAILED.value, self.nowhere(item))
                    continue
                self.begin(unit, place)
                ahead += len(unit)
                preparing += len(unit)

    def left(self, item: Item) -> str:
        tried = self.tried(item)[-1:]
        return "; ".join([*tried, f"{self.stopped}: it stays"])

    @staticmethod
    def tried(item: Item) -> list[str]:
        """What kept it from each place. (Most messages begin with the host's name.)"""
        return [f"{one['place']}: {one['message'].removeprefix(one['place'] + ': ')}" for one in item.tried]

    def nowhere(self, item: Item) -> str:
        """Why there is no place for it."""
        if item.tried:
            return "; ".join(self.tried(item))
        unit = self.record.together(item)
        if others := [f"{other.name}, of the same pod: {text}" for other in unit for text in self.tried(other)]:
            return "; ".join(others)
        memory = sum(each.memory for each in unit)
        return f"none of {', '.join(item.places)} has room for its {memory / 1e6:.0f} MB (the plan's memory)"

    def begin(self, unit: list[Item], place: str) -> None:
        """The migrations of what moves as one, each of which puts that on record first."""
        pod = Pod({self.migrations[item.name]: item.name for item in unit}) if unit[0].pod else None
        for item in unit:
            item.place, item.message = place, ""
            mover = Mover(item, self.places[place].bandwidth, self.show, self.on_end, pod)
            mover.leads = pod is None or pod.leader == self.migrations[item.name]
            mover.has_others = len(unit) > 1
            self.movers[item.name] = mover
            mover.job = asyncio.ensure_future(self.move(mover))

    def profile_of(self, item: Item, place: str) -> Path:
        """The file that would lead it there."""
        number = list(self.places).index(place)
        return profile_path(self.record.directory, self.migrations[item.name], number)

    def record_begin(self, item: Item, directory: Path) -> None:
        """From now on `directory` has this migration's journal: an earlier one's goes before. Raises CriuLazyError."""
        if journal.exists(directory):
            if why := operator_commands.why_not_replaced(journal.read(directory)):
                way = status_command(self.record.directory, self.migrations[item.name])
                raise UsageError(f"{directory}: {why}; see {way}")
            shutil.rmtree(directory)
        try:
            text = self.profile_of(item, item.place).read_text()
            replace_file(profile_path(self.record.directory, self.migrations[item.name]), text, durable=True)
            item.state = MOVING
            self.record.save()
        except (OSError, RecordError) as error:
            item.state = WAITING
            self.stop(f"{self.record.directory} can't be written ({getattr(error, 'strerror', None) or error})")
            raise Trouble(self.stopped) from error

    def over(self, item: Item, state: str, message: str) -> None:
        item.state, item.message = state, message
        self.save()
        self.show.end_of(item.name, state, message, "info" if item.has_moved else "warning")

    def on_end(self, mover: Mover) -> None:
        """Its migration's end, before that cleans up."""
        migration, item = mover.migration, mover.item
        assert migration is not None
        if migration.state is State.COMMITTED:
            report = migration.report
            item.downtime_s, item.fault_wait_us = report.downtime_s, report.fault_wait_us
            item.bytes = report.lazy_pages * PAGE_BYTES
            item.warnings = report.warnings
            item.state, item.message = State.COMMITTED.value, ""
            self.record.save()

    async def move(self, mover: Mover) -> None:
        """One migration to its end."""
        item = mover.item
        try:
            state, message = await self.migrate(mover)
        except Gone as error:
            del self.movers[item.name]
            self.over(item, GONE, str(error))
            if mover.pod is not None:
                mover.pod.fail(f"{item.name}, of the same pod: {error}")
            return
        except (CriuLazyError, OSError) as error:
            state, message = State.FAILED, str(error)
        except Exception as error:  # a fault of this program: the journal tells what became of the task
            state, message = State.UNDECIDED, f"internal error: {type(error).__name__}: {error}"
        in_preflight = mover.member.phase is Phase.PREPARING
        if state is not State.COMMITTED and mover.pod is not None and mover.migration is None:
            mover.pod.fail(f"{item.name}, of the same pod: {message}")  # it didn't come to a migration
        del self.movers[item.name]
        if state is State.COMMITTED:
            self.show.line(f"{item.name}: at {item.place}, downtime {(item.downtime_s or 0) * 1e3:.0f} ms", "info")
            self.save()
        elif state is State.UNDECIDED:
            self.over(item, state.value, message)
        else:
            self.failed(item, state, message, in_preflight)

    def failed(self, item: Item, state: State, message: str, in_preflight: bool) -> None:
        """It runs on here, or was killed: elsewhere, if the plan wants that, or if a place would not take it."""
        item.tried.append({"place": item.place, "message": message})
        if not self.stopped:
            self.failures[item.place] += 1
        runs_on = start_time(item.pid) == item.began
        again = (in_preflight or self.on_failure == "elsewhere") and not self.stopped and runs_on
        elsewhere = self.place_for(item) if again else None
        if elsewhere is None and self.on_failure == "stop" and not self.stopped:
            self.stop(f"{item.name} failed")
        if elsewhere is not None:
            self.show.end_of(item.name, item.place, f"{message}; next: {elsewhere}", "warning")
            item.state, item.place = WAITING, ""
            self.save()
        else:
            self.over(item, state.value, message if len(item.tried) < 2 else self.nowhere(item))

    async def migrate(self, mover: Mover) -> tuple[State, str]:
        """Raises CriuLazyError if it could not begin; Gone."""
        item, name = mover.item, self.migrations[mover.item.name]
        profile = load(self.profile_of(item, item.place))
        directory = profile.directories.source / name
        lock = Lock(lock_path(directory))
        try:
            await asyncio.to_thread(operator_commands.close_earlier, profile, name)
            moved = await self.find(item, profile)
            if self.stopped:
                raise Trouble(self.stopped)
            if mover.pod is not None:
                mover.pod.check()
            self.record_begin(item, directory)
            mover.migration = Migration(profile, name, mover.progress, mover, moved)
            if mover.pod is not None:
                mover.pod.begin(mover.migration)
            mover.member.limit = profile.source.rate
            mover.member.rounds_limit = profile.precopy.bandwidth if profile.precopy else 0
            report = await mover.migration.run()
            item.run_file = report.run_file
            return mover.migration.state, report.message
        finally:
            lock.release()

    @staticmethod
    async def find(item: Item, profile: Profile) -> Moved | None:
        """The container, if it is one. Raises Gone if its first process, or the task, was seen to have ended: that an
        engine knows no such container may be a fault of the engine's. Raises EngineError."""
        has_ended = start_time(item.pid) != item.began
        if profile.container is not None:
            try:
                return await asyncio.to_thread(find, profile.container)
            except UnknownContainer as error:
                if not has_ended:
                    raise
                raise Gone(f"{error}; its process {item.pid} has ended") from error
        if has_ended:
            raise Gone(f"task {item.pid} has ended")
        return None

    # ---- before the first ----

    async def check_all(self) -> None:
        """The preflight of all that are not prepared anyway; nothing is touched before it is over."""
        first = [item for item in self.order if item.state == WAITING and self.is_due(item)][: self.schedule.ahead]
        first = [item for item in self.order if any(item in self.record.together(other) for other in first)]
        await asyncio.gather(*(self.check(item) for item in self.order if item not in first and item.state == WAITING))
        while any(not self.is_prepared(item) for item in first):
            await asyncio.sleep(TICK_S)
        refused = [item.name for item in self.record.items if item.is_over and not item.is_done]
        if refused and self.on_failure == "stop":
            self.stop(f"{', '.join(refused)} failed")
        self.all_checked = True

    async def dry_run(self) -> None:
        """The preflight of all, and nothing else: `place` of each is the first that would take it."""
        await asyncio.gather(*(self.check(item) for item in self.order))
        for item in self.order:
            if item.state == WAITING and any(other.is_over for other in self.record.together(item)):
                self.over(item, State.FAILED.value, self.waits(item))

    def is_prepared(self, item: Item) -> bool:
        mover = self.movers.get(item.name)
        return item.state != WAITING if mover is None else mover.member.phase is not Phase.PREPARING

    async def check(self, item: Item) -> None:
        """A place that would not take it isn't tried, nor one that nobody could reach."""
        async with self.preflights:
            for place in sorted(item.places, key=lambda place: self.failures[place]):
                if item.state != WAITING or self.stopped:
                    return
                if self.unreached[place] >= DEAD_AFTER:
                    item.tried.append({"place": place, "message": "it could not be reached for others"})
                    continue
                try:
                    await self.check_at(item, place)
                except Gone as error:
                    self.over(item, GONE, str(error))
                    return
                except CriuLazyError as error:
                    self.unreached[place] += isinstance(error, HostError)
                    item.tried.append({"place": place, "message": str(error)})
                    self.failures[place] += 1
                else:
                    item.place, self.unreached[place] = place, 0
                    self.show.line(f"{item.name}: can be moved to {place}", "info")
                    return
            self.over(item, State.FAILED.value, self.nowhere(item))

    async def check_at(self, item: Item, place: str) -> None:
        """The preflight, and nothing else. Raises CriuLazyError, Gone."""
        profile, name = load(self.profile_of(item, place)), f"{self.migrations[item.name]}.check"
        moved = await self.find(item, profile)
        shutil.rmtree(profile.directories.source / name, ignore_errors=True)  # of one that was killed
        await Migration(profile, name, Progress(), None, moved).dry_run()

    async def settle(self, item: Item, threads: ThreadPoolExecutor) -> None:
        """To its end, if that can be had without force."""
        name = self.migrations[item.name]
        profile = load(profile_path(self.record.directory, name))

        def all_complete() -> bool:
            self.complete.add(item.name)
            return all(one.state != MOVING or one.name in self.complete for one in self.record.together(item))

        settled = await asyncio.get_running_loop().run_in_executor(
            threads, settle, profile, name, lambda: self.signals < 2, all_complete
        )
        if settled.state is State.COMMITTED:
            item.run_file = settled.run_file
            self.over(item, State.COMMITTED.value, "its driver was killed after it was resumed; settled by --resume")
        elif settled.state is State.UNDECIDED:
            self.over(item, State.UNDECIDED.value, f"{settled.message}; {status_command(self.record.directory, name)}")
        else:
            item.state, item.place = WAITING, ""
            self.save()


def status_command(directory: Path, migration: str) -> str:
    """How an operator sees, and ends, one that has to be decided."""
    return f"criu-lazy migrate --status {profile_path(directory, migration)}"
