"""After the resume: until every page has arrived."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any

from criu_lazy_ext.migration.state import State, Trouble
from criu_lazy_ext.source.control_socket import Answer, ControlError

if TYPE_CHECKING:
    from criu_lazy_ext.migration.driver import Migration

POLL_S = 0.2
DRAINED_S = 5.0
ANSWER_WITHIN_S = 5.0  # of a page server that works
LONG_WAIT_S = 10.0  # a fault that waits longer is worth a warning


class Draining:
    """How one migration's memory follows."""

    def __init__(self, migration: Migration) -> None:
        self.migration = migration

    async def page_server_state(self) -> Answer | None:
        """None while it doesn't answer: its guardian starts another."""
        migration = self.migration
        assert migration.dump is not None
        with contextlib.suppress(ControlError):
            return await migration.guarded(migration.dump.ask("state", timeout=ANSWER_WITHIN_S))
        return None

    async def run(self) -> None:
        """Wait for the last page: the daemon's word, by the agent or, if that is lost, by its CLOSE."""
        migration = self.migration
        assert migration.dump is not None and migration.host is not None
        last, since = -1, time.monotonic()
        heard: float | None = None
        while not migration.daemon_ended.done():
            either: set[asyncio.Future[Any]] = {migration.daemon_ended, migration.trouble}
            await asyncio.wait(either, timeout=POLL_S, return_when=asyncio.FIRST_COMPLETED)
            if migration.trouble.done():
                migration.trouble.result()
            state = await self.page_server_state()
            if state is not None:
                migration.progress.figures.limit = int(state["rate"])  # an operator, or a plan, may have changed it
            if state is not None and (state["state"] == "drained" or state["lost"]):
                heard = heard or time.monotonic()
                # The daemon's own word is better, but may be lost with who passes it on.
                late = migration.profile.daemon != "stock" and time.monotonic() - heard > DRAINED_S
                if migration.host.lost.done() or late:
                    self.check_word(state)
                    break
            if state is not None and state["state"] == "paused":
                self.check_comes_again()
            if state is not None and (migration.host.lost.done() or migration.profile.daemon == "stock"):
                migration.progress.sent(int(state["bytes"]))
            if state is not None and state["bytes"] != last:
                last, since = state["bytes"], time.monotonic()
            elif self.warned_of_stall(since):
                since = time.monotonic()
        if migration.trouble.done():
            migration.trouble.result()
        migration.report.transfer_s = time.monotonic() - migration.resumed
        untold = migration.host.lost.done() or not migration.report.lazy_pages  # stock's daemon doesn't tell
        if untold and (state := await self.page_server_state()):
            migration.report.received_bytes = int(state["bytes"])
            migration.progress.sent(int(state["bytes"]))
        migration.enter(State.DRAINED, complete=True)

    def check_comes_again(self) -> None:
        """The page server has lost its client. Raises Trouble if none will come again, and nobody there tells of it."""
        migration = self.migration
        if migration.profile.daemon == "stock" and migration.host is not None and migration.host.lost.done():
            raise Trouble(
                "criu's own lazy-pages has hung up before its last page, and does not connect again; the agent, which "
                "would know what became of the restored task, is lost"
            )

    def check_word(self, state: Answer) -> None:
        """What the page server heard of the daemon, with nobody else to tell: raises what is no end of a migration."""
        migration = self.migration
        if lost := state["lost"]:
            migration.restored_ended = [lost]
            how = "ended, nobody knows how," if lost["how"] == "unknown" else f"was {lost['how']}"
            others = f" (and {lost['tasks'] - 1} more)" if lost["tasks"] > 1 else ""
            raise Trouble(
                f"the restored task {lost['pid']} {how}{others} with {lost['missing_pages']} pages missing, as its "
                "daemon told the page server; the source still has them"
            )
        if migration.profile.daemon == "stock":
            raise Trouble(
                "criu's own lazy-pages says that it is done, as it does, too, when the restored task was killed; the "
                "agent, which would know, is lost"
            )

    def warned_of_stall(self, since: float) -> bool:
        """Warn, if it is time to, that nothing has come `since` then."""
        migration = self.migration
        now, stall = time.monotonic(), migration.profile.timeouts.stall
        faults, waiting_since = migration.waiting
        if faults and now - since > min(stall, LONG_WAIT_S) and now - waiting_since > min(stall, LONG_WAIT_S):
            count = f"{faults} faults have" if faults > 1 else "1 fault has"
            migration.warn(
                f"{count} waited for {now - waiting_since:.0f} s, and nothing comes: look at the path between the "
                "hosts; the source waits, frozen"
            )
        elif now - since > stall:
            migration.warn(f"nothing was sent in {stall:g} s; the source waits, frozen")
        else:
            return False
        return True
