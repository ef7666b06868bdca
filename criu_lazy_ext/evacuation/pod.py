"""Migrations that move as one: of the containers of a pod. None goes on alone, until all may.

Whatever fails before "go" fails all of them, and each is rolled back. "go" is said to all or to none: the record of
each says that it may be before the last of them is asked (Turns.go), which an operator's commands go by (is_held).
After it, each is seen through by itself, unless the restores of all fail even then: they are rolled back. None is
committed before every page of all has arrived, if none of them ends before.
"""

from __future__ import annotations

import asyncio
from typing import Any

from criu_lazy_ext.migration.driver import Migration
from criu_lazy_ext.migration.state import Trouble
from criu_lazy_ext.system.migration_id import new_id


class Pod:
    """`names`: what each migration moves, by its own name; `leader`: the migration whose profile's `network` counts."""

    def __init__(self, names: dict[str, str]) -> None:
        self.names = names
        self.leader = min(names)
        self.id = new_id()
        self.failed = ""  # why all of it is to be rolled back
        self.went = False
        self.may_run = False  # one does, there
        self.there_as = ""  # its ID at the destination
        self.migrations: dict[str, Migration] = {}
        self.there: dict[str, set[str]] = {}  # who has come to a step
        self.complete: dict[str, asyncio.Event] = {}

    def facts(self) -> dict[str, Any]:
        """For the journals."""
        return {"id": self.id, "names": list(self.names)}

    def begin(self, migration: Migration) -> None:
        """Raises Trouble if another has failed."""
        self.check()
        self.migrations[migration.name] = migration

    def check(self) -> None:
        """Raises Trouble if one has failed, and all are to be rolled back."""
        if self.failed and not self.went:
            raise Trouble(self.failed)

    async def together(self, migration: Migration, step: str) -> None:
        """Until all have come to the step. Raises Trouble."""
        self.check()
        if self.come(migration, step):
            self.event(step).set()
        await self.event(step).wait()
        self.check()

    def come(self, migration: Migration, step: str) -> bool:
        """Whether all have."""
        there = self.there.setdefault(step, set())
        there.add(migration.name)
        return len(there) == len(self.names)

    def event(self, step: str) -> asyncio.Event:
        return self.complete.setdefault(step, asyncio.Event())

    async def go(self, migration: Migration) -> None:
        """The last one asks all agents, and decides for all of them, in one step. Raises CriuLazyError."""
        self.check()
        if not self.come(migration, "go"):
            await self.event("go").wait()
            self.check()
            return
        await asyncio.gather(*(other.ready() for other in self.migrations.values()))
        self.check()
        for other in self.migrations.values():
            other.check_dump()
        self.went = True
        for other in self.migrations.values():
            other.said_go = True
        self.event("go").set()

    def runs(self) -> None:
        """One of them does, there, or may: whoever is not there has no way back by itself."""
        self.may_run = True
        self.event("none there").set()

    async def none_there(self, migration: Migration) -> bool:
        """After "go": whether nothing of any is left there."""
        if self.come(migration, "none there"):
            self.event("none there").set()
        await self.event("none there").wait()
        return not self.may_run

    def stopping(self, migration: Migration, reason: str) -> None:
        """One of them has failed."""
        if self.went:
            self.event("drained").set()  # nobody waits for it
            if not migration.none_there:
                self.runs()
        elif not self.failed:
            self.fail(f"{self.names[migration.name]}, of the same pod: {reason}", migration)

    def fail(self, why: str, but: Migration | None = None) -> None:
        """All are to be rolled back; whoever isn't told here finds it when it asks."""
        self.failed = self.failed or why
        for event in self.complete.values():
            event.set()
        for other in self.migrations.values():
            if other is not but:
                other.fail(why)
