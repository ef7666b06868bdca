"""`criu-lazy status`: every migration that this host has on record, as its source or its destination. It only looks."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from criu_lazy_ext.errors import CriuLazyError
from criu_lazy_ext.migration import journal
from criu_lazy_ext.migration.operator_commands import Found
from criu_lazy_ext.migration.state import ENDED, EXIT_STATUS, State
from criu_lazy_ext.profile import Directories
from criu_lazy_ext.sizes import PAGE_BYTES
from criu_lazy_ext.source.task import boot_id
from criu_lazy_ext.system import live_state
from criu_lazy_ext.system.processes import start_time

WATCH_S = 1.0
CLEAR = "\033[H\033[J"
HEAD = ("MIGRATION", "TASK", "FROM/TO", "STATE", "MEMORY", "RATE", "LEFT")


@dataclass(frozen=True)
class Listed:
    """One migration, as this host has it. Bytes are of lazy memory; `rate`: bytes per second. `driver`: the pid of the
    `migrate`, or of the destination's half, that is at work on it, or 0. `notes`: what there is, and the way out."""

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
    seconds_old: float = 0.0  # since the figures were noted
    needs_decision: bool = False
    notes: list[str] = field(default_factory=list)

    @property
    def seconds_left(self) -> float | None:
        """As it goes now; None if that can't be told."""
        return self.missing_bytes / self.rate if self.rate and self.missing_bytes and self.driver else None

    def cells(self) -> tuple[str, ...]:
        """For the table."""
        arrow = "to" if self.role == "source" else "from"
        came = self.total_bytes - self.missing_bytes
        memory = f"{came / 1e6:.0f}/{self.total_bytes / 1e6:.0f} MB ({came / self.total_bytes:.0%})" if came else "-"
        rate = f"{self.rate / 1e6:.0f} MB/s" if self.driver and self.rate else "-"
        left = f"{self.seconds_left:.1f} s" if self.seconds_left is not None else "-"
        return (self.name, str(self.task or "-"), f"{arrow} {self.peer}", self.state, memory, rate, left)


def main(argv: list[str]) -> int:
    """Exit status: 0; 4 if a migration waits for an operator's decision."""
    parser = argparse.ArgumentParser(
        prog="criu-lazy status", description="List the migrations that this host has on record; nothing is touched."
    )
    parser.add_argument("--directory", type=Path, action="append",
        help="directories.source or .destination of profiles (default /var/lib/criu-lazy); repeatable")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="a list of objects; with --watch one list a line")
    parser.add_argument("--watch", action="store_true", help="go on, each second, until nothing is under way")
    options = parser.parse_args(argv)
    directories = options.directory or sorted({Directories().source, Directories().destination})
    while True:
        found = [seen for directory in directories for seen in look(directory)]
        show(found, options.json, clear=options.watch and sys.stdout.isatty())
        if not options.watch or not any(seen.driver for seen in found):
            return EXIT_STATUS[State.UNDECIDED] if any(seen.needs_decision for seen in found) else 0
        time.sleep(WATCH_S)


def show(found: list[Listed], as_json: bool, *, clear: bool) -> None:
    if as_json:
        print(json.dumps([asdict(seen) | {"seconds_left": seen.seconds_left} for seen in found]), flush=True)
        return
    rows = [HEAD, *(seen.cells() for seen in found)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    print(CLEAR if clear else "", end="")
    if not found:
        print("no migration is on record here")
    for line, seen in zip(lines, [None, *found], strict=True):
        if found:
            print(line)
        for note in seen.notes if seen is not None else []:
            print(f"    {note}")
    sys.stdout.flush()


def look(directory: Path) -> Iterable[Listed]:
    """The migrations below a directory, by name."""
    for path in sorted(directory.iterdir()) if directory.is_dir() else []:
        try:
            if journal.exists(path):
                yield leaving(path, journal.read(path))
            elif live := live_state.read(path):
                yield arriving(path, live)
        except CriuLazyError as error:
            yield Listed(path.name, "source", "?", "unreadable", notes=[str(error)])


def memory_of(live: dict[str, Any]) -> dict[str, Any]:
    """What the daemon counted last."""
    return {
        "total_bytes": int(live.get("total_pages", 0)) * PAGE_BYTES,
        "missing_bytes": int(live.get("remaining_pages", 0)) * PAGE_BYTES,
        "rate": int(live.get("rate", 0)),
        "seconds_old": round(max(0.0, time.time() - live.get("at", time.time())), 3),
    }


def leaving(path: Path, facts: dict[str, Any]) -> Listed:
    """A migration whose source this host is."""
    live = live_state.read(path)
    memory = memory_of(live)
    driver, began = facts.get("owner", (0, None))
    name, peer, task = path.name, facts["destination"], int(facts["pid"])
    this_boot = facts.get("boot_id") == boot_id()
    if facts["state"] not in ENDED and this_boot and driver and start_time(driver) == began:
        step = str(live.get("phase", ""))
        return Listed(name, "source", peer, facts["state"], task, driver, step, **memory, notes=[step] if step else [])
    found = Found.look(facts)
    if (ended := found.ended()) is not None:
        return Listed(name, "source", peer, ended.value, task, **memory)
    notes = [*found.words(), f"nobody drives it: criu-lazy migrate --status PROFILE ({name}.yaml)"]
    return Listed(name, "source", peer, facts["state"], task, **memory, needs_decision=True, notes=notes)


def arriving(path: Path, live: dict[str, Any]) -> Listed:
    """A migration whose destination this host is."""
    alive = [pid for pid, began in live["processes"] if start_time(pid) == began]
    state, notes = str(live["state"]), []
    if (outcome := live_state.outcome(path)) is not None:
        state = "failed" if outcome["status"] else "ended by itself"
        notes = [f"{outcome['error']}: decide at the source"] if outcome.get("error") else []
    elif not alive:
        state = "ended"
        notes = [f"nothing of it runs any more, and its files stayed; logs are in {path / 'work'}"]
    elif len(alive) < len(live["processes"]):
        notes = ["a part of its half was killed; what is left sees it through"]
    return Listed(
        path.name, "destination", live["peer"], state, driver=max(alive, default=0), **memory_of(live), notes=notes
    )
