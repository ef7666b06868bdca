"""Every migration that this host has on record, as its source or its destination. It only looks."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from criu_lazy_ext.errors import CriuLazyError
from criu_lazy_ext.migration import journal, run_file
from criu_lazy_ext.migration.figures import duration_as_text, missing_pages
from criu_lazy_ext.migration.operator_commands import Found
from criu_lazy_ext.migration.state import ENDED, State
from criu_lazy_ext.sizes import PAGE_BYTES
from criu_lazy_ext.source.task import boot_id
from criu_lazy_ext.system import live_state
from criu_lazy_ext.system.processes import start_time

FRESH_S = 3.0  # older figures don't tell how fast pages come now
UNDRIVEN = "undriven"  # for people: its state is what its driver, which was killed, recorded last


@dataclass(frozen=True)
class Listed:
    """One migration, as this host has it. Bytes are of lazy memory; `rate`: received ones per second. `driver`: the pid
    of the `migrate`, or of the destination's half, that is at work on it, or 0. `notes`: what there is, the way out."""

    name: str
    role: str  # source, destination
    peer: str
    state: str
    task: int = 0
    driver: int = 0
    step: str = ""
    total_bytes: int = 0
    missing_bytes: int = 0
    rate: int = 0
    missing_rate: int = 0  # so many bytes less are missing, per second
    seconds_old: float = 0.0  # since the figures were noted
    needs_decision: bool = False
    pages_come: bool = False  # though nobody drives it: those that are missing may still come
    complete: bool = False  # nobody drives it, and every page arrived: a commit ends it
    precopied_bytes: int = 0  # sent in rounds
    round_read: float = 0.0  # share of memory that the one under way has read
    sent_bytes: int = 0  # by its page server, if nobody drives it
    counters: dict[str, int] = field(default_factory=dict)  # of the daemon's, as they were noted last
    notes: list[str] = field(default_factory=list)
    migration: str = ""  # its id

    @property
    def seconds_left(self) -> float | None:
        """As it goes now; None if that can't be told."""
        awaited = self.missing_bytes - self.counters.get("lost_pages", 0) * PAGE_BYTES
        return awaited / self.missing_rate if self.missing_rate > 0 and awaited > 0 and self.goes_on else None

    @property
    def goes_on(self) -> bool:
        """Whether the rate is of now."""
        return bool(self.driver) and self.seconds_old <= FRESH_S

    def words(self) -> str:
        """How far it is, in short."""
        state, *figures = self.cells()[3:]
        of_each = (figures[0], figures[1], f"{figures[2]} left" if figures[2] != "-" else "-")
        how_far = [state, *(each for each in of_each if each != "-"), *([self.step] if self.step else [])]
        return ", ".join([*how_far, "nobody drives it"] if self.needs_decision else how_far)

    def cells(self) -> tuple[str, ...]:
        """For the table."""
        arrow = "to" if self.role == "source" else "from"
        came = self.total_bytes - self.missing_bytes
        memory = f"{came / 1e6:.0f}/{self.total_bytes / 1e6:.0f} MB ({came / self.total_bytes:.0%})" if came else "-"
        if self.state == State.PRE_COPY.value:
            memory = f"{self.precopied_bytes / 1e6:.0f} MB sent"
        comes = self.goes_on and self.state in (State.PRE_COPY.value, State.RUNNING.value)
        rate = f"{self.rate / 1e6:.0f} MB/s" if comes and self.rate else "-"
        left = duration_as_text(self.seconds_left) if self.seconds_left is not None else "-"
        state = UNDRIVEN if self.needs_decision and self.state != State.UNDECIDED.value else self.state
        return (self.name, str(self.task or "-"), f"{arrow} {self.peer}", state, memory, rate, left)


def look(directory: Path) -> Iterable[Listed]:
    """The migrations below a directory, by name; not those that were committed: their task is elsewhere now."""
    for path in sorted(directory.iterdir()) if directory.is_dir() else []:
        try:
            if journal.exists(path):
                if (seen := leaving(path, journal.read(path))).state != State.COMMITTED.value:
                    yield seen
            elif live := live_state.read(path):
                yield arriving(path, live)
        except CriuLazyError as error:
            yield Listed(path.name, "source", "?", "unreadable", notes=[str(error)])


def memory_of(live: dict[str, Any]) -> dict[str, Any]:
    """What the daemon counted last."""
    return {
        "total_bytes": int(live.get("total_pages", 0)) * PAGE_BYTES,
        "missing_bytes": missing_pages(live) * PAGE_BYTES,
        "rate": int(live.get("rate", 0)),
        "missing_rate": int(live.get("pages_rate", 0)) * PAGE_BYTES,
        "precopied_bytes": int(live.get("precopied_bytes", 0)),
        "round_read": float(live.get("round_read", 0.0)),
        "counters": {name: int(live[name]) for name in live_state.COUNTERS if name in live},
        "migration": str(live.get("migration", "")),
        "seconds_old": round(max(0.0, time.time() - live.get("counted_at", time.time())), 3),
    }


def leaving(path: Path, facts: dict[str, Any]) -> Listed:
    """A migration whose source this host is."""
    live = live_state.read(path)
    memory = memory_of(live | {"migration": facts.get("id", "")})
    driver, began = facts.get("owner", (0, None))
    name, peer, task = path.name, facts["destination"], int(facts["pid"])
    this_boot = facts.get("boot_id") == boot_id()
    if facts["state"] not in ENDED and this_boot and driver and start_time(driver) == began:
        step = str(live.get("phase", ""))
        notes = [*([step] if step else []), *what_is_wrong(memory)]
        return Listed(name, "source", peer, facts["state"], task, driver, step, **memory, notes=notes)
    found = Found.look(facts)
    if (ended := found.ended()) is not None:
        notes = [f"it is over; its logs are in {path}, until the next migration of that name"]
        return Listed(name, "source", peer, ended.value, task, migration=memory["migration"], notes=notes)
    if found.complete:
        memory["missing_bytes"] = 0
    old = what_is_wrong(memory) if memory["seconds_old"] > FRESH_S else []
    notes = [*found.words(), *old, f"nobody drives it: criu-lazy migrate --status PROFILE ({name}.yaml)"]
    if phase := str(live.get("phase", "")):
        notes.append(f"last words of its migrate, {time.time() - live['at']:.0f} s ago: {phase}")
    if (run := Path(facts.get("run_file", ""))).is_file():
        notes.append(f"what it saw until then: criu-lazy report {run}")
    return Listed(
        name, "source", peer, facts["state"], task, **memory, needs_decision=True, notes=notes,
        pages_come=found.pages_come, complete=found.complete and found.may_commit,
        sent_bytes=int((found.server.answer or {}).get("bytes", 0)),
    )  # fmt: skip


def arriving(path: Path, live: dict[str, Any]) -> Listed:
    """A migration whose destination this host is."""
    alive = [pid for pid, began in live["processes"] if start_time(pid) == began]
    state, notes = str(live["state"]), []
    if (outcome := live_state.outcome(path)) is not None:
        state = "failed" if outcome["status"] else "ended by itself"
        notes = [f"at {clock(outcome.get('at', live['at']))}: {outcome['error']}"] if outcome.get("error") else []
        notes.append(until_settled(path))
    elif not alive:
        state = "ended"
        notes = [f"nothing of it runs any more, and its files stayed; logs are in {path / 'work'}", until_settled(path)]
    elif len(alive) < len(live["processes"]):
        notes = ["a part of its half was killed; what is left sees it through"]
    elif kept := kept_bytes(live):
        notes = [f"pre-copy: the task runs at the source, and {kept / 1e6:.0f} MB of its pages are kept here"]
    if state == State.RUNNING.value:
        notes += what_is_wrong(memory_of(live))
    return Listed(
        path.name, "destination", live["peer"], state, driver=max(alive, default=0), **memory_of(live), notes=notes
    )


def what_is_wrong(memory: dict[str, Any]) -> list[str]:
    """While memory follows: a line on what holds it up, if anything does."""
    counters, old = memory["counters"], memory["seconds_old"]
    if not memory["missing_bytes"]:
        return []
    if old > FRESH_S:
        return [f"nothing was heard of the restored task's memory for {duration_as_text(old)}"]
    lost_s, wait_s = (counters.get(name, 0) / 1e6 for name in ("paused_us", "oldest_wait_us"))
    told = [f"the page connection is lost for {duration_as_text(lost_s)}"] if lost_s else []
    if wait_s > FRESH_S:
        count = counters["waiting_faults"]
        told.append(f"{count} fault{'s wait' if count > 1 else ' waits'}, the longest for {duration_as_text(wait_s)}")
    return told


def kept_bytes(live: dict[str, Any]) -> int:
    """In the store of pages that come before the dump, as long as they do."""
    with contextlib.suppress(OSError, KeyError):
        if live["state"] == "prepared":
            return Path(live["store"], "pages").stat().st_blocks * 512
    return 0


def until_settled(path: Path) -> str:
    """What an operator does about one that can go no further here. Whether that was done is not known here."""
    return f"decide at the source; once that is done, this record is of no use any more: rm -r {path}"


def moved_away(directory: Path) -> str:
    """What the last migration that had this `directory` moved, where to and when, if it was committed; else ""."""
    with contextlib.suppress(run_file.RunFileError, KeyError):
        facts = run_file.read(run_file.directory_of(directory))
        if run_file.outcome(facts) == State.COMMITTED.value:
            what = f"{run_file.what(facts)} to {facts['report']['destination']}"
            return f"{directory.name} moved {what}, committed {clock(run_file.ended_at(facts))}"
    return ""


def clock(at: float) -> str:
    """A time as people write it; with the date, unless that is today's."""
    then, now = time.localtime(at), time.localtime()
    return time.strftime("%H:%M" if then[:3] == now[:3] else "%Y-%m-%d %H:%M", then)
