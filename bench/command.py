"""`criu-lazy bench`: the command line, the order of the runs, what is printed."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from bench import cases, picture, results, table, timeline
from bench.evacuations import EvacuationRun, measure_evacuation
from bench.handmade import MigrationError
from bench.measure import DAEMONS, Run, Setting, machine_limit, measure, warm_memory
from bench.migrations import MigrateRun, measure_migration
from bench.programs import ProgramRun, measure_program
from bench.services import ServiceRun, measure_service
from bench.startup import Startup, measure_startup
from criu_lazy_ext import __version__
from criu_lazy_ext.errors import UsageError
from criu_lazy_ext.native.engine import MAX_PUSH_STREAMS
from testbed import Testbed, TestbedError

DEFAULT_REPEATS = 3
DEFAULT_WINDOW_SECONDS = 6.0
QUICK_MIB = 128
QUICK_WINDOW_SECONDS = 4.0
FEWEST_MIB = 16
COPIES = 4


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(
        prog="criu-lazy bench",
        description="Migrate a task between two hosts on this machine with stock criu's lazy-pages daemon and with "
        "ours, in turn, from an unmodified criu dump, and compare.",
    )
    top.add_argument("--cases", metavar="LIST", help="names or patterns, as '1g*/random-*'; all: every case")
    top.add_argument("--repeats", type=int, metavar="N", help=f"migrations for each figure (default {DEFAULT_REPEATS})")
    top.add_argument("--mib", type=int, metavar="N", help="memory of the task (default: 256 at 1 Gbit/s, else 1024)")
    top.add_argument(
        "--window",
        type=float,
        metavar="SECONDS",
        help="measure no longer than this; a migration that takes longer is measured over it, then the task's pattern "
        f"is held until the last page (default {DEFAULT_WINDOW_SECONDS:g})",
    )
    top.add_argument("--quick", action="store_true", help="few cases, once each, little memory: below two minutes")
    top.add_argument("--criu", default="4.2", choices=("4.1", "4.2"), help="criu series of both hosts (default 4.2)")
    top.add_argument("--json", type=Path, metavar="FILE", help="write everything measured to FILE")
    top.add_argument("--picture", type=Path, metavar="FILE.svg", help="draw how the first case's memory arrived")
    top.add_argument("--into", type=Path, metavar="FILE.md", help="put the report into FILE, as Markdown")
    top.add_argument(
        "--push", type=int, metavar="STREAMS", default=0, help="criu-lazy page-server pushes to ours (access cases)"
    )
    top.add_argument("--tls", action="store_true", help="with --push: by TLS")
    top.add_argument(
        "--timeline", action="store_true", help="print when each state and process of a migration began and ended"
    )
    top.add_argument("--cold", action="store_true", help="don't keep free memory warm: its first use is measured, too")
    top.add_argument("--list", action="store_true", help="print the names of all cases")
    return top


def main(argv: list[str]) -> int:
    """Run `criu-lazy bench ARGV`; returns 0, or 1 if a migration failed. Raises CriuLazyError."""
    arguments = parser().parse_args(argv)
    if arguments.list:
        print("\n".join(case.name for case in cases.ALL))
        return 0
    quick = arguments.quick
    chosen = cases.select(arguments.cases or (cases.QUICK if quick else cases.DEFAULT))
    repeats = arguments.repeats if arguments.repeats is not None else 1 if quick else DEFAULT_REPEATS
    mib = arguments.mib if arguments.mib is not None else QUICK_MIB if quick else None
    default_window = QUICK_WINDOW_SECONDS if quick else DEFAULT_WINDOW_SECONDS
    window = arguments.window if arguments.window is not None else default_window
    if not 0 <= arguments.push <= MAX_PUSH_STREAMS:
        raise UsageError(f"--push must be from 1 to {MAX_PUSH_STREAMS}")
    if arguments.tls and not arguments.push:
        raise UsageError("--tls needs --push: a plain daemon asks criu dump itself, in plain")
    if repeats < 1 or window <= 0 or (mib is not None and mib < FEWEST_MIB):
        raise UsageError(f"--repeats must be 1 or more, --window above 0, --mib {FEWEST_MIB} or more")
    for option in ("json", "into", "picture"):
        file: Path | None = getattr(arguments, option)
        if file is not None and not file.absolute().parent.is_dir():
            raise UsageError(f"--{option} {file}: its directory does not exist")
    if os.geteuid() != 0:
        raise TestbedError("the benchmark runs on a testbed, and that needs root")
    bench = Bench(arguments, chosen, repeats, mib, window)
    with Testbed.start(criu=(arguments.criu, arguments.criu), name=f"bench-{os.getpid()}") as tb:
        criu_version = tb.dst.run(["criu", "--version"]).stdout.split("\n")[0].removeprefix("Version: ")
        with contextlib.ExitStack() as stack:
            if bench.mib_at_work and not arguments.cold:
                stack.enter_context(warm_memory(tb, bench.mib_at_work))
            bench.run(tb)
    measured = bench.results(criu_version)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(measured, indent=1) + "\n")
    if arguments.into is not None:
        which = without(argv, "--json", "--into", "--picture")
        results.write_into(arguments.into, results.section(which, measured, report(measured, True, bench.migrations)))
    if arguments.picture is not None and bench.runs:
        arguments.picture.write_text(bench.picture())
    print(report(measured, False, bench.migrations))
    return 1 if bench.failures else 0


def without(argv: Sequence[str], *options: str) -> list[str]:
    """The arguments but for these options and their values."""
    words = iter(argv)
    kept = []
    for word in words:
        if word in options:
            next(words, None)
        elif word.partition("=")[0] not in options:
            kept.append(word)
    return kept


class Bench:
    """The runs of one invocation: within a repeat, link by link, case by case, stock and ours in turn."""

    def __init__(
        self,
        options: argparse.Namespace,
        chosen: list[cases.AnyCase],
        repeats: int,
        mib: int | None,
        window: float,
    ) -> None:
        """`options`: push, tls, timeline and cold of the command line."""
        self._push, self._encrypt, self._timeline = options.push, options.tls, options.timeline
        self._cold = options.cold
        self._cases = chosen
        self._repeats = repeats
        self._mib = mib
        self._window = window
        self._began = time.monotonic()
        self.runs: list[Run] = []
        self.program_runs: list[ProgramRun] = []
        self.startups: list[Startup] = []
        self.migrations: list[MigrateRun] = []
        self.services: list[ServiceRun] = []
        self.evacuations: list[EvacuationRun] = []
        self.plain_tcp: dict[str, list[float]] = {}
        self.limits: dict[str, list[float]] = {}
        self.failures: list[str] = []

    @property
    def mib_at_work(self) -> int:
        """Memory that the largest case takes: at both hosts, in a page store, and some."""
        return max(COPIES * (self._mib or cases.mib_of(case)) * getattr(case, "tasks", 1) for case in self._cases)

    def run(self, tb: Testbed) -> None:
        """Measure everything. A migration that fails is noted in `failures`, and the next one goes on."""
        for repeat in range(1, self._repeats + 1):
            for link, on_link in groupby(self._cases, key=lambda case: case.link):
                tb.link.set(link.rate_mbit, link.rtt_ms, link.jitter, link.loss)
                rate = tb.link.plain_tcp_rate(seconds=1.0) / 1e6
                self.plain_tcp.setdefault(link.name, []).append(rate)
                self._say(f"{link.name}: one plain TCP stream: {rate:.1f} MB/s")
                on_it = list(on_link)
                accesses = [case.access for case in on_it if isinstance(case, cases.Case)]
                if link.rate_mbit is None and accesses:
                    self._limits(tb, link, accesses)
                for case in on_it:
                    for daemon in getattr(case, "ways", DAEMONS):
                        self._measure(tb, case, daemon, repeat)

    def _limits(self, tb: Testbed, link: cases.LinkSetting, accesses: list[cases.Access]) -> None:
        for threads in sorted({access.busy_threads for access in accesses} | {0}):
            rate = machine_limit(tb, self._mib or link.mib, threads)
            self.limits.setdefault(f"{link.name}/{threads}", []).append(rate)
            self._say(f"{link.name}: machine's limit beside {threads} busy threads: {rate:.0f} MB/s")

    def _measure(self, tb: Testbed, case: cases.AnyCase, daemon: str, repeat: int) -> None:
        try:
            if isinstance(case, cases.Case):
                self._measure_access(tb, case, daemon, repeat)
            elif isinstance(case, cases.ProgramCase):
                self._measure_program(tb, case, daemon, repeat)
            elif isinstance(case, cases.MigrateCase):
                self._measure_migration(tb, case, daemon, repeat)
            elif isinstance(case, cases.ServiceCase):
                self._measure_service(tb, case, daemon, repeat)
            elif isinstance(case, cases.EvacuationCase):
                self._measure_evacuation(tb, case, daemon, repeat)
            elif daemon == "ours":
                self._measure_startup(tb)
        except (MigrationError, TestbedError) as error:
            self.failures.append(f"{case.name} with {daemon}: {error}")
            self._say(f"{case.name} {daemon}: FAILED: {error}")

    def _measure_startup(self, tb: Testbed) -> None:
        started = measure_startup(tb)
        self.startups.append(started)
        self._say(f"startup: ready after {started.ready_s:.2f} s")

    def _measure_program(self, tb: Testbed, case: cases.ProgramCase, daemon: str, repeat: int) -> None:
        run = measure_program(tb, case, daemon, repeat, self._mib or case.mib)
        self.program_runs.append(run)
        self._say(
            f"{case.name} {daemon}: {run.mb_per_s:.1f} MB/s, {run.lost_s:.2f} s of work lost; "
            f"{run.checked} records checked"
        )

    def _measure_migration(self, tb: Testbed, case: cases.MigrateCase, way: str, repeat: int) -> None:
        run = measure_migration(tb, case, way, repeat, self._mib or case.mib, self._timeline and repeat == 1)
        self.migrations.append(run)
        stopped = f"; rounds: {run.stopped}" if run.stopped else ""
        self._say(f"{case.name} {way}: downtime {run.downtime_s * 1e3:.0f} ms, {run.total_s:.2f} s in all{stopped}")

    def _measure_service(self, tb: Testbed, case: cases.ServiceCase, way: str, repeat: int) -> None:
        run = measure_service(tb, case, way, repeat, self._mib or case.mib)
        self.services.append(run)
        self._say(
            f"{case.name} {way}: {run.lost_s:.2f} s of work lost, longest gap {run.gap_s * 1e3:.0f} ms, downtime "
            f"{run.downtime_s * 1e3:.0f} ms; {run.checked} records checked"
        )

    def _measure_evacuation(self, tb: Testbed, case: cases.EvacuationCase, way: str, repeat: int) -> None:
        rate = self.plain_tcp[case.link.name][-1]
        run = measure_evacuation(tb, case, way, repeat, self._mib or case.mib, rate)
        self.evacuations.append(run)
        self._say(f"{case.name} {way}: {run.seconds:.2f} s, {run.of_link:.2f} of the link's time")

    def _measure_access(self, tb: Testbed, case: cases.Case, daemon: str, repeat: int) -> None:
        rate = self.plain_tcp[case.link.name][-1]
        setting = Setting(self._mib or case.link.mib, self._window, rate, self._push, self._encrypt)
        run = measure(tb, case, daemon, repeat, setting)
        self.runs.append(run)
        stall = "" if run.stall_s is None else f", the task stalled {run.stall_s:.2f} s"
        part = "" if run.finished else f" over the first {run.seconds:.0f} s"
        self._say(f"{case.name} {daemon}: {run.mb_per_s:.1f} MB/s{part}{stall}")

    def _say(self, text: str) -> None:
        print(f"[{time.monotonic() - self._began:5.0f} s] {text}", file=sys.stderr, flush=True)

    def picture(self) -> str:
        """Of the first case and repeat of memtask's."""
        first = self.runs[0]
        curves = {run.daemon: run.arrived for run in self.runs if (run.case, run.repeat) == (first.case, first.repeat)}
        rate = self.plain_tcp[first.case.partition("/")[0]][0] * 1e6
        return picture.svg(f"{first.case}, {first.mib} MiB: memory that had arrived", curves, rate)

    def results(self, criu_version: str) -> dict[str, Any]:
        """All that was measured, as it goes into --json."""
        plain_tcp = {link: statistics.median(rates) for link, rates in self.plain_tcp.items()}
        return {
            "criu_lazy": __version__,
            "criu": criu_version,
            "push_streams": self._push,
            "tls": self._encrypt,
            "cold": self._cold,
            "commit": results.commit(),
            "date": results.today(),
            "processor": results.processor(),
            "kernel": platform.release(),
            "machine": platform.machine(),
            "cpus": os.cpu_count(),
            "repeats": self._repeats,
            "window_s": self._window,
            "plain_tcp_mb_per_s": plain_tcp,
            "limit_mb_per_s": {threads: statistics.median(rates) for threads, rates in self.limits.items()},
            "cases": table.summarise(self.runs, plain_tcp),
            "startup": table.startup_medians(self.startups),
            "programs": table.summarise(self.program_runs, {}),
            "migrations": table.migration_medians(self.migrations),
            "services": table.migration_medians(self.services),
            "evacuations": table.migration_medians(self.evacuations),
            "runs": [
                run.as_json()
                for runs in (self.runs, self.program_runs, self.migrations, self.services, self.evacuations)
                for run in runs
            ],
            "failures": self.failures,
        }


def report(measured: dict[str, Any], markdown: bool, migrations: Sequence[MigrateRun] = ()) -> str:
    """What is printed at the end; `migrations`: those whose time lines are."""
    show = table.as_markdown if markdown else table.as_text
    lines = [show(table.rows(measured["cases"])), ""] if measured["cases"] else []
    if measured["programs"]:
        lines += [show(table.rows(measured["programs"], table.PROGRAM_COLUMNS)), ""]
    if measured["migrations"]:
        lines += [show(table.migration_rows(measured["migrations"])), ""]
    if measured["services"]:
        lines += [show(table.migration_rows(measured["services"], table.SERVICE_COLUMNS)), ""]
    if measured["evacuations"]:
        lines += [show(table.migration_rows(measured["evacuations"], table.EVACUATION_COLUMNS)), ""]
    for run in migrations:
        if run.timeline:
            lines += [f"{run.case} {run.way}, since criu dump began:", timeline.as_text(run.timeline), ""]
    lines.append(
        f"criu {measured['criu']}, Linux {measured['kernel']} {measured['machine']}, {measured['cpus']} CPUs; "
        f"{_source(measured)}"
        f"memory {'cold' if measured['cold'] else 'warm'}; medians of {measured['repeats']}."
    )
    plain = [f"{link} {rate:.1f}" for link, rate in measured["plain_tcp_mb_per_s"].items()]
    lines.append(f"One plain TCP stream, MB/s: {', '.join(plain)}.")
    for key, rate in measured["limit_mb_per_s"].items():
        link, _, threads = key.partition("/")
        shares = [_share_of_limit(entry, rate) for entry in measured["cases"] if _limit_of(entry) == key]
        where = f"{link}, beside {threads} busy threads" if threads != "0" else link
        lines.append(
            f"This machine's limit (one stream, process_vm_readv -> TCP -> UFFDIO_COPY; {where}): {rate:.0f} MB/s"
            + "".join(f"; {share}" for share in shares if share)
            + "."
        )
    if measured["startup"]:
        lines.append(table.startup_line(measured["startup"]))
    if any(not entry[daemon].get("finished", True) for entry in measured["cases"] for daemon in DAEMONS):
        star = "\\*" if markdown else "*"
        lines.append(
            f"{star} not finished after {measured['window_s']:g} s: figures of those seconds. "
            "The stalls of the rest would come on top."
        )
    lines += [f"FAILED: {failure}" for failure in measured["failures"]]
    return "\n".join(lines)


def _source(measured: dict[str, Any]) -> str:
    if not measured["push_streams"]:
        return ""
    return f"pushed by {measured['push_streams']} streams{', TLS' if measured['tls'] else ''}; "


def _limit_of(entry: dict[str, Any]) -> str:
    """The key among the limits that a case is to be compared with."""
    link, _, access = entry["case"].partition("/")
    return f"{link}/{next(a for a in cases.ACCESSES if a.name == access).busy_threads}"


def _share_of_limit(entry: dict[str, Any], limit: float) -> str:
    shares = [f"{daemon} {entry[daemon]['mb_per_s'] / limit:.1%}" for daemon in DAEMONS if entry[daemon]]
    return f"{entry['case']}: {', '.join(shares)}" if shares else ""
