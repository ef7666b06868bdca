"""`criu-lazy status`: every migration that this host has on record, as its source or its destination. It only looks."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from criu_lazy_ext.commands.arguments import add_directories, directories_of
from criu_lazy_ext.errors import CriuLazyError
from criu_lazy_ext.migration import run_file
from criu_lazy_ext.migration.on_record import Listed, clock, look
from criu_lazy_ext.migration.state import ENDED, EXIT_STATUS, State

WATCH_S = 1.0
BEGINS_WITHIN_S, LOOK_S = 10.0, 0.2  # so long the first migration is waited for, and looked for so often
QUIET_S = 10.0  # nobody drives it, and no page comes: it is not watched any longer
CLEAR = "\033[H\033[J"
NOTHING = "no migration is on record here"
WAITING = f"no migration is under way here: waiting for one to begin, {BEGINS_WITHIN_S:g} s"
HEAD = ("MIGRATION", "TASK", "FROM/TO", "STATE", "MEMORY", "RATE", "LEFT")


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="criu-lazy status",
        description="List the migrations that this host has on record; nothing is touched.",
        epilog="Exit status: 0; 4 if a migration waits for an operator's decision.",
    )
    add_directories(parser)
    parser.add_argument("--json", action="store_true", help="a list of objects; with --watch one list a line")
    parser.add_argument("--watch", action="store_true",
        help="go on, each second, until nothing is under way: no driver, and no page that still comes; if nothing is "
        f"at first, it waits {BEGINS_WITHIN_S:g} s")  # fmt: skip
    return parser


def main(argv: list[str]) -> int:
    """The exit status: as `--help` says."""
    options = arguments().parse_args(argv)
    watched: dict[str, tuple[Listed, Path]] = {}  # by the migration's id
    pages = Pages()
    start, has_begun, is_waiting = time.monotonic(), False, False
    while True:
        listed = [(seen, directory) for directory in directories_of(options) for seen in look(directory)]
        found = [seen for seen, _ in listed]
        under_way = [seen.migration for seen in found if seen.driver or pages.come_for(seen)]
        is_last = not options.watch or not under_way
        has_begun = has_begun or not is_last or any(seen.needs_decision for seen in found)
        if options.watch and not has_begun and time.monotonic() - start < BEGINS_WITHIN_S:
            if not is_waiting:
                print(f"criu-lazy status: {WAITING}", file=sys.stderr, flush=True)
            is_waiting = True
            time.sleep(LOOK_S)
            continue
        for seen in found:
            if seen.driver or seen.state not in ENDED:  # its record goes a moment after its driver
                watched.pop(seen.migration, None)
        ended = [how_it_ended(seen, directory) for seen, directory in watched.values()]
        if options.watch and is_last:
            ended += [what_to_type(seen) for seen in found if seen.needs_decision]
        clears = options.watch and sys.stdout.isatty()
        if not listed and not ended and not options.json:
            ended = [NOTHING, *last_run(directories_of(options))]
        show(found, options.json, clear=clears, below=ended)
        if not clears:  # what was told stays to be read
            watched.clear()
        watched.update({seen.migration: (seen, directory) for seen, directory in listed if seen.migration in under_way})
        if is_last:
            return EXIT_STATUS[State.UNDECIDED] if any(seen.needs_decision for seen in found) else 0
        time.sleep(WATCH_S)


class Pages:
    """Whether those of migrations that nobody drives still come."""

    def __init__(self) -> None:
        self._sent: dict[str, tuple[int, float]] = {}  # by the migration's id: bytes, and when they were more last

    def come_for(self, seen: Listed) -> bool:
        """As it is seen now. A page connection that was lost may be made again."""
        now = time.monotonic()
        sent, since = self._sent.get(seen.migration, (-1, now))
        if seen.sent_bytes != sent:
            sent, since = self._sent[seen.migration] = seen.sent_bytes, now
        return seen.pages_come and now - since < QUIET_S


def what_to_type(seen: Listed) -> str:
    """A line on one that waits for a decision."""
    option, why = "status", "nobody drives it"
    if seen.complete:
        option, why = "commit", "every page arrived, and nobody drives it"
    elif seen.pages_come:
        why = f"no page came for {QUIET_S:g} s, and nobody drives it"
    return f"{seen.name}: {why}: criu-lazy migrate --{option} PROFILE ({seen.name}.yaml)"


def how_it_ended(seen: Listed, directory: Path) -> str:
    """A line on one that is on record no more."""
    deadline = time.monotonic() + WATCH_S
    with contextlib.suppress(CriuLazyError, KeyError):
        facts = run_file.read(run_file.directory_of(directory / seen.name))
        while run_file.outcome(facts) == run_file.UNDER_WAY and time.monotonic() < deadline:  # written a moment later
            time.sleep(0.05)
            facts = run_file.read(run_file.directory_of(directory / seen.name))
        if seen.role == "source" and facts["report"]["id"] == seen.migration:
            return f"{seen.name}: {run_file.outcome(facts)}{downtime(facts)}: criu-lazy report {seen.name}"
    return f"{seen.name}: over; the source, {seen.peer}, knows how it ended"


def downtime(facts: dict[str, Any]) -> str:
    """Of a run, as a part of a sentence; "" if its restored task never ran."""
    seconds = facts["report"]["downtime_s"]
    return "" if seconds is None else f", downtime {seconds * 1e3:.0f} ms"


def last_run(directories: list[Path]) -> list[str]:
    """A line on the newest whose source this host was, if any is on file."""
    found = [run for run in map(run_file.last, directories) if run is not None]
    if not found:
        return []
    from criu_lazy_ext.profile import Directories  # as in directories_of

    path, facts = max(found, key=lambda run: float(run[1]["began"]))
    name = path.stem
    told = f"{run_file.outcome(facts)} {clock(run_file.ended_at(facts))}{downtime(facts)}"
    return [f"last: {name} {told}: criu-lazy report {name if path.parent == Directories().source else path}"]


def show(found: list[Listed], as_json: bool, *, clear: bool, below: list[str]) -> None:
    """A table, if there is anything to list, and lines `below` it."""
    if as_json:
        print(json.dumps([asdict(seen) | {"seconds_left": seen.seconds_left} for seen in found]), flush=True)
        return
    rows = [HEAD, *(seen.cells() for seen in found)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    print(CLEAR if clear else "", end="")
    for line, seen in zip(lines, [None, *found], strict=True):
        if found:
            print(line)
        for note in seen.notes if seen is not None else []:
            print(f"    {note}")
    for line in below:
        print(line)
    sys.stdout.flush()
