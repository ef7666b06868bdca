"""`criu-lazy check`: can this host take part in a lazy migration?"""

from __future__ import annotations

import argparse
import json

from criu_lazy_ext.criu import program as criu
from criu_lazy_ext.migration import preflight
from criu_lazy_ext.system.limits import raise_descriptors


def main(argv: list[str]) -> int:
    """Print what was checked, one line each. Exit status: 0 all holds, 1 something doesn't."""
    parser = argparse.ArgumentParser(
        prog="criu-lazy check", description="Say whether this host can take part in a lazy migration."
    )
    role = parser.add_mutually_exclusive_group()
    role.add_argument("--source", action="store_true", help="only as the source")
    role.add_argument("--destination", action="store_true", help="only as the destination")
    parser.add_argument("--task", type=int, metavar="PID", help="also whether this task, and all below it, can leave")
    parser.add_argument("--json", action="store_true", help='print [{"name": text, "problem": text or null}, ...]')
    options = parser.parse_args(argv)
    checked = criu.requirements(source=not options.destination, destination=not options.source)
    checked += preflight.configuration(source=not options.destination, destination=not options.source)
    if options.task is not None:
        raise_descriptors()  # as migrate does
        checked += preflight.of_task(options.task)
    if options.json:
        print(json.dumps([{"name": item.name, "problem": item.problem} for item in checked]))
    else:
        for item in checked:
            print(f"FAIL {item.name}: {item.problem}" if item.problem else f"ok   {item.name}")
    return 1 if any(item.problem for item in checked) else 0
