"""`criu-lazy status`: every migration that this host has on record, as its source or its destination. It only looks."""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict

from criu_lazy_ext.commands.arguments import add_directories, directories_of
from criu_lazy_ext.migration.on_record import Listed, look
from criu_lazy_ext.migration.state import EXIT_STATUS, State

WATCH_S = 1.0
CLEAR = "\033[H\033[J"
HEAD = ("MIGRATION", "TASK", "FROM/TO", "STATE", "MEMORY", "RATE", "LEFT")


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="criu-lazy status", description="List the migrations that this host has on record; nothing is touched."
    )
    add_directories(parser)
    parser.add_argument("--json", action="store_true", help="a list of objects; with --watch one list a line")
    parser.add_argument("--watch", action="store_true", help="go on, each second, until nothing is under way")
    return parser


def main(argv: list[str]) -> int:
    """Exit status: 0; 4 if a migration waits for an operator's decision."""
    options = arguments().parse_args(argv)
    while True:
        found = [seen for directory in directories_of(options) for seen in look(directory)]
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
