"""Where a migration waits for others, if it is one of several (evacuation/)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from criu_lazy_ext.migration.driver import Migration


# Nothing new is connected to it, and what was being connected is; it is frozen, and dumped; it is restored; every page
# of it has arrived.
STEPS = ("held", "accepted", "frozen", "dumped", "restored", "drained")


class Turns:
    """Alone, it never waits. The first two may raise Trouble: nothing was frozen, and the task stays."""

    async def rounds(self, migration: Migration) -> None:
        """The destination is ready: may files and rounds be sent there, while the task runs? May be asked twice."""

    async def freeze(self, migration: Migration) -> None:
        """All is ready: may the task be frozen?"""

    leads = True  # of those that move as one, one moves the service addresses of all
    has_others = False  # that move as one with it

    def pod_there(self, made: str = "") -> str:
        """The ID of the pod that they go into there; whose agent has made it tells it by `made`."""
        return ""

    async def together(self, migration: Migration, step: str) -> None:
        """Until all that move as one are at that step (of STEPS). Raises Trouble if one of them has failed."""

    async def go(self, migration: Migration) -> None:
        """"go" may be said, as far as the record is concerned: from now on it is held to be said, of all that move as
        one, or of none. Raises what has gone wrong."""
        await asyncio.sleep(0)  # who ended or what came meanwhile is known then
        migration.check_dump()
        migration.said_go = True

    def runs(self, migration: Migration) -> None:
        """It does, there."""

    async def none_there(self, migration: Migration) -> bool:
        """"go" was said, and nothing of it is left there: whether that is so of all that move as one with it."""
        return True

    def stopping(self, migration: Migration, reason: str) -> None:
        """It has failed, and is about to be rolled back, or undecided."""

    def group(self) -> dict[str, Any]:
        """Which move as one with it, for the journal: an id of this try, and the names of the migrations."""
        return {}

    def ended(self, migration: Migration) -> None:
        """Its end is on record; what is cleaned up then isn't yet. Raises CriuLazyError: its journal stays."""
