"""`criu-lazy migrate profile.yaml`: moves a running task, or tells and changes what became of that."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from pathlib import Path

from criu_lazy_ext.engines.engine import UnknownContainer
from criu_lazy_ext.errors import CriuLazyError, UsageError
from criu_lazy_ext.migration import operator_commands
from criu_lazy_ext.migration.display import choose
from criu_lazy_ext.migration.driver import Migration
from criu_lazy_ext.migration.lock import Lock, lock_path
from criu_lazy_ext.migration.on_record import moved_away
from criu_lazy_ext.migration.progress import Progress
from criu_lazy_ext.migration.state import EXIT_STATUS
from criu_lazy_ext.profile import Profile, load
from criu_lazy_ext.sizes import rate_argument
from criu_lazy_ext.source.control_socket import check_path
from criu_lazy_ext.source.dump import SourceError
from criu_lazy_ext.system.files import drop_output
from criu_lazy_ext.system.stop_signals import StopSignals


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="criu-lazy migrate",
        description="Move a running task to another host.",
        epilog="Exit status: 0 committed, 1 failed before anything was frozen, 2 wrong usage, 3 rolled back, "
        "4 undecided. --status, --abort and --commit: 4 while the source task of a stopped migration is still frozen.",
    )
    parser.add_argument("profile", type=Path, help="the migration, as YAML: criu-lazy init writes one")
    parser.add_argument("--json", action="store_true", help="print the report as JSON on stdout")
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")
    parser.add_argument("--log-format", choices=("text", "json"), default="text",
        help="of progress on stderr; json: an object a line")  # fmt: skip
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--dry-run", action="store_true", help="preflight on both ends, and stop")
    instead.add_argument("--status", action="store_true", help="tell how far an earlier run of this profile came")
    instead.add_argument("--rate", metavar="SIZE", type=rate_argument,
        help="let pages take so many bytes per second (K, M, G may follow) from now on; 0: no limit")  # fmt: skip
    instead.add_argument("--abort", action="store_true", help="let the source task of a stopped migration run on")
    instead.add_argument("--commit", action="store_true", help="end the source task of a stopped migration")
    parser.add_argument("--force", action="store_true", help="--abort or --commit all the same")
    return parser


async def _migrate(profile: Profile, name: str, options: argparse.Namespace) -> int:
    progress = Progress(choose(options.log_format, name, quiet=options.quiet))
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, progress.tell)
    fresh = asyncio.ensure_future(progress.keep_fresh())
    try:
        return await _drive(_migration(profile, name, progress, options), options)
    finally:
        fresh.cancel()
        progress.end()


def _migration(profile: Profile, name: str, progress: Progress, options: argparse.Namespace) -> Migration:
    """Raises CriuLazyError if what is to move isn't here; if that is as it has moved already, with where it is."""
    try:
        return Migration(profile, name, progress)
    except (SourceError, UnknownContainer) as error:
        if not (moved := moved_away(profile.directories.source / name)):
            raise
        way_out = f"look for it there, or see criu-lazy report {options.profile}"
        raise CriuLazyError(f"{error}; {moved}: {way_out}") from error


async def _drive(migration: Migration, options: argparse.Namespace) -> int:
    """To its end; the exit status."""
    loop = asyncio.get_running_loop()
    for number in StopSignals.SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup wants it
            loop.add_signal_handler(number, migration.signalled, signal.Signals(number).name)
    migration.profile_path = str(options.profile)
    if options.dry_run:
        await migration.dry_run()
        migration.progress.end()
        movable = migration.report.as_json() | {"outcome": "movable"}
        text = f"{options.profile}: {migration.report.what} can be moved to {migration.report.destination}"
        print(json.dumps(movable) if options.json else text)
        return 0
    migration.end_is_told = not options.json and options.log_format != "json"
    report = await migration.run()
    committed, as_json = report.outcome == "committed", options.log_format == "json"
    if as_json:
        migration.progress.phase(report.in_a_line(), "info" if committed else "error")
    text = json.dumps(report.as_json()) if options.json else report.as_text()
    output = sys.stdout if options.json or committed or as_json else sys.stderr
    try:
        print(text, file=output, flush=True)
    except OSError:  # its reader has gone, or a disk is full: the exit status tells of the migration all the same
        drop_output(output)
    return EXIT_STATUS[migration.state]


def main(argv: list[str]) -> int:
    """The exit status: as `--help` says."""
    parser = arguments()
    options = parser.parse_args(argv)
    if options.force and not (options.abort or options.commit):
        parser.error("--force goes with --abort or --commit")
    profile = load(options.profile)
    name = options.profile.stem
    if options.status or options.abort or options.commit or options.rate is not None:
        return operator_commands.run(profile, name, options)
    if profile.container is not None and profile.container.pod is not None:
        raise UsageError("container.pod: a pod moves as one, by criu-lazy evacuate (init --evacuate writes a plan)")
    check_path(profile.directories.source / name)
    lock = Lock(lock_path(profile.directories.source / name))
    try:
        operator_commands.close_earlier(profile, name)
        return asyncio.run(_migrate(profile, name, options))
    finally:
        lock.release()
