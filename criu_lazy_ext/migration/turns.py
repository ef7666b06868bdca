"""Where a migration waits for others, if it is one of several (evacuation/)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from criu_lazy_ext.migration.driver import Migration


class Turns:
    """Alone, it never waits. The first two may raise Trouble: nothing was frozen, and the task stays."""

    async def rounds(self, migration: Migration) -> None:
        """The destination is ready: may files and rounds be sent there, while the task runs? May be asked twice."""

    async def freeze(self, migration: Migration) -> None:
        """All is ready: may the task be frozen?"""

    def ended(self, migration: Migration) -> None:
        """Its end is on record; what is cleaned up then isn't yet. Raises CriuLazyError: its journal stays."""
