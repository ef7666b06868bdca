"""`criu-lazy evacuate PLAN.yaml`: moves all that a plan names to other hosts."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml

from criu_lazy_ext.errors import CriuLazyError, UsageError
from criu_lazy_ext.evacuation.evacuation import Evacuation
from criu_lazy_ext.evacuation.plan import PlanFile
from criu_lazy_ext.evacuation.record import GONE, MOVING, STAYED, WAITING, Item, Record, plan_path, profile_path
from criu_lazy_ext.evacuation.schedule import Schedule
from criu_lazy_ext.evacuation.selection import Chosen, select
from criu_lazy_ext.evacuation.settling import look_at
from criu_lazy_ext.evacuation.show import Show, as_json, choose, report_text
from criu_lazy_ext.migration.lock import Lock, Locked, lock_path
from criu_lazy_ext.migration.state import EXIT_STATUS, State
from criu_lazy_ext.sizes import rate_argument
from criu_lazy_ext.source.control_socket import check_path
from criu_lazy_ext.system.stop_signals import StopSignals

THREADS = 512  # a round holds one to its end, and no frozen task is to wait for that; made when needed
STARTS_AGAIN = {*STAYED, State.UNDECIDED.value}


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="criu-lazy evacuate",
        description="Move all the tasks and containers that a plan names.",
        epilog="Exit status: 0 all have moved, 1 none has, 3 some stay here and run on, 4 one has to be decided.",
    )
    parser.add_argument("plan", type=Path, help="what moves, and where to (YAML; criu-lazy init --evacuate writes one)")
    parser.add_argument("--dry-run", action="store_true", help="preflight of all, and say what would move where")
    parser.add_argument("--resume", action="store_true", help="go on with what an earlier run of this plan began")
    parser.add_argument("--status", action="store_true", help="tell how far an earlier run of this plan came")
    parser.add_argument("--bandwidth", metavar="SIZE", type=rate_argument, help="in place of the plan's bandwidth")
    parser.add_argument("--json", action="store_true", help="print the report as JSON on stdout")
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")
    parser.add_argument("--log-format", choices=("text", "json"), default="text",
        help="of progress on stderr; json: an object a line")  # fmt: skip
    return parser


def main(argv: list[str]) -> int:
    """The exit status is in --help; 2: wrong usage."""
    options = arguments().parse_args(argv)
    file = PlanFile.load(options.plan)
    directory = file.source_directory / f"{options.plan.stem}.evacuation"
    if options.dry_run:
        with tempfile.TemporaryDirectory(prefix="criu-lazy-") as temporary:
            record = begin(file, options, Path(temporary, directory.name))
            dry = evacuation(file, record, options)
            asyncio.run(dry.dry_run())
            return tell_plan(record, untold(dry.show))
    earlier = Record.read(directory)
    if earlier is not None and earlier.plan != str(options.plan.resolve()) and (options.status or not over(earlier)):
        raise UsageError(f"{directory}: that is the record of another plan, {earlier.plan}: rename one of the two")
    try:
        lock = Lock(lock_path(directory))
    except Locked as locked:
        if options.status and earlier is not None:
            if not options.json:
                print(f"under way (pid {locked.pid})")
            tell(as_seen(earlier), options)
            return 0
        raise UsageError(f"{options.plan}: already being evacuated (pid {locked.pid})") from None
    try:
        if options.status or options.resume:
            if earlier is None:
                raise UsageError(f"{directory}: no evacuation by this plan is on record here")
            if options.resume:
                show = asyncio.run(evacuate(resumed_plan(file, earlier), again(earlier), options))
                return tell(as_seen(earlier), options, untold(show))
            if not (over(earlier) or options.json):
                print("nobody drives it: --resume goes on")
            return tell(as_seen(earlier), options)
        if earlier is not None and not over(earlier):
            raise UsageError(
                f"{directory}: an earlier evacuation by this plan was interrupted: --resume goes on with it"
            )
        record = begin(file, options, directory)
        shown = untold(asyncio.run(evacuate(file, record, options)))
        return tell(as_seen(record), options, shown)
    finally:
        lock.release()


def over(record: Record) -> bool:
    """Whether nothing of it is under way, or has to be decided."""
    return not any(item.state in (MOVING, State.UNDECIDED.value) for item in record.items)


def as_seen(record: Record) -> Record:
    """Of those that are under way, or had to be decided, what can be seen of them now."""
    for item in record.items:
        look_at(item, record.directory.parent / migration_names(record)[item.name])
    return record


def again(record: Record) -> Record:
    """What stayed starts again; what was undecided may have been decided since."""
    for item in record.items:
        if item.state in STARTS_AGAIN:
            item.state = MOVING if item.state == State.UNDECIDED.value else WAITING
            item.tried = []
    return record


def resumed_plan(file: PlanFile, record: Record) -> PlanFile:
    """The one that the evacuation began with: its items go where that says."""
    path = plan_path(record.directory)
    began_with = PlanFile.load(path)
    if began_with.text != file.text:
        print(
            f"criu-lazy evacuate: warning: {file.name} has changed since: this goes on as it was then ({path}); what "
            "stays can be moved by another run, without --resume",
            file=sys.stderr,
        )
    return began_with


def begin(file: PlanFile, options: argparse.Namespace, directory: Path) -> Record:
    """A new record, in place of one that is over. Raises CriuLazyError."""
    chosen, nothing = select(file)
    for line in nothing:
        print(f"criu-lazy evacuate: warning: {line}", file=sys.stderr)
    record = Record(directory, str(options.plan.resolve()), items_of(file, chosen))
    write(file, record, chosen, options)
    return record


def items_of(file: PlanFile, chosen: list[Chosen]) -> list[Item]:
    names: dict[str, list[str]] = {}  # of an entry's items
    for one in chosen:
        if one.entry.title:
            names.setdefault(one.entry.title, []).append(one.name)
    places = [place.title for place in file.plan.destinations]
    return [
        Item(
            one.name, one.pid, one.began, one.container, one.memory, one.entry.to or places, one.entry.priority,
            [name for entry in one.entry.after for name in names.get(entry, ())], one.pod,
        )
        for one in chosen
    ]  # fmt: skip


def migration_names(record: Record) -> dict[str, str]:
    """Each item's migration's: its profile's, and its journal's directory."""
    return {item.name: f"{record.directory.stem}.{item.name}" for item in record.items}


def write(file: PlanFile, record: Record, chosen: list[Chosen], options: argparse.Namespace) -> None:
    """A profile for each way that an item may go, then the record. Raises CriuLazyError."""
    names = migration_names(record)
    rate = file.plan.bandwidth if options.bandwidth is None else options.bandwidth
    try:
        shutil.rmtree(record.directory, ignore_errors=True)
        record.directory.mkdir(parents=True, mode=0o700)
        plan_path(record.directory).write_text(file.text)
        for one, item in zip(chosen, record.items, strict=True):
            check_path(record.directory.parent / names[item.name])
            for number, place in enumerate(file.plan.destinations):
                if place.title not in item.places:
                    continue
                which = {"container": one.container, "pod": one.pod} if one.container else {"pid": one.pid}
                file.profile(one.entry, place, rate=rate, **which)  # its own rules, with the plan's lines
                node = file.document(one.entry, place, rate=rate, **which)
                path = profile_path(record.directory, names[item.name], number)
                path.parent.mkdir(exist_ok=True)
                path.write_text(yaml.serialize(node, Dumper=yaml.SafeDumper))
    except OSError as error:
        raise CriuLazyError(f"{error.filename or record.directory}: {error.strerror}") from error
    record.save()


def evacuation(file: PlanFile, record: Record, options: argparse.Namespace) -> Evacuation:
    """Of the record's items, as the plan says."""
    plan = file.plan
    limit = plan.bandwidth if options.bandwidth is None else options.bandwidth
    schedule = Schedule(plan.at_once, max(1, (os.cpu_count() or 2) // 2), limit)
    show = choose(options.log_format, quiet=options.quiet)
    return Evacuation(record, migration_names(record), plan, schedule, show)


async def evacuate(file: PlanFile, record: Record, options: argparse.Namespace) -> Show:
    """Where it was shown."""
    run = evacuation(file, record, options)
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(THREADS))
    for number in StopSignals.SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup wants it
            loop.add_signal_handler(number, run.signalled, f"stopped by {signal.Signals(number).name}")
    loop.add_signal_handler(signal.SIGUSR1, run.tell)
    try:
        with contextlib.redirect_stdout(sys.stderr):  # what is settled on the way; stdout is the report's
            await run.run()
    finally:
        run.show.end()
    return run.show


Untold = Callable[[str, str], str]


def whole(name: str, message: str) -> str:
    return message


def untold(show: Show) -> Untold:
    """Of an item's message what was not shown where the report goes."""
    return show.untold if os.path.sameopenfile(1, 2) else whole


def tell(record: Record, options: argparse.Namespace, untold: Untold = whole) -> int:
    """The report, and the exit status."""
    print(json.dumps(as_json(record)) if options.json else report_text(record, untold))
    states = {item.state for item in record.items}
    if states & {State.UNDECIDED.value, MOVING}:
        return EXIT_STATUS[State.UNDECIDED]
    if states <= {State.COMMITTED.value, GONE}:
        return 0
    return EXIT_STATUS[State.ROLLED_BACK] if State.COMMITTED.value in states else EXIT_STATUS[State.FAILED]


def tell_plan(record: Record, untold: Untold) -> int:
    """What would move where. The exit status: 0 if all can, else 1."""
    for item in record.in_order():
        kind = f"container {item.container}" if item.container else f"task {item.pid}"
        after = f", after {', '.join(item.after)}" if item.after else ""
        kind += f" of the pod {item.pod}" if item.pod else ""
        why = untold(item.name, item.message)
        can = "can't be moved" + (f": {why}" if why else "")
        can = can if item.is_over else f"can be moved to {item.place}{after}"
        print(f"{item.name}: {kind}, {item.memory / 1e6:.0f} MB, {can}")
    return EXIT_STATUS[State.FAILED] if any(item.is_over for item in record.items) else 0
