"""Whole migrations by `criu-lazy migrate`, of a memtask: with and without rounds before the freeze, and with stock's
daemon and page server."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from dataclasses import asdict, dataclass, field
from typing import Any

from bench import timeline
from bench.cases import MigrateCase
from bench.handmade import MemTask, answer_of, migrated_memtask
from bench.timeline import ProcessEvents, Span
from criu_lazy_ext.sizes import PAGE_BYTES
from testbed import Testbed

PROFILE = "task: {pidfile: /run/bench.pid}\ndestination: {ssh: dst}\n"
WAYS = {
    "stock": PROFILE + "page_source: stock\ndaemon: stock\n",
    "lazy": PROFILE + "strategy: lazy\n",
    "precopy": PROFILE + "precopy: {}\n",
}
PATH = "/root/bench.yaml"
JOURNAL = "/var/lib/criu-lazy/bench/journal.json"
BEFORE_SECONDS = 1.0
AFTER_SECONDS = 8.0  # how long the task is looked at after the end: huge pages come back only then
SAMPLE_SECONDS = 0.05
BACK_SHARE = 0.9
TIMEOUT_SECONDS = 600.0
MUCH_BYTES = 1 << 20


@dataclass
class MigrateRun:
    """The figures of one migration."""

    case: str
    way: str  # of WAYS
    repeat: int
    mib: int
    total_s: float  # of the whole command
    downtime_s: float
    freeze_s: float  # of that, stock's criu dump until it served
    ours_s: float  # the rest of it
    precopy_mb: float  # sent while the task ran
    rounds: int
    after_mb: float  # sent after the freeze
    changed_mb: float  # of pages that were not there, unchanged, from before
    after_of_changed: float | None  # None: hardly any
    sent_of_memory: float  # all bytes sent, over the task's memory
    transfer_s: float  # from resume until the last page
    back_s: float | None  # from resume until the task works at BACK_SHARE of its speed before; None: it does nothing
    stopped: str  # why rounds ended
    phases_s: dict[str, float]
    timeline: list[Span] = field(default_factory=list)  # if it was asked for

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def measure_migration(
    tb: Testbed, case: MigrateCase, way: str, repeat: int, mib: int, with_timeline: bool = False
) -> MigrateRun:
    """Migrate once and check every byte. Raises MigrationError, or TestbedError; no task is left then."""
    with migrated_memtask(tb, "--mib", str(mib), *case.options) as task:
        tb.src.write("/run/bench.pid", f"{task.pid}\n")
        tb.src.write(PATH, WAYS[way])
        before = None if case.is_idle else _speed(tb, task)
        command = ["criu-lazy", "migrate", PATH, "--json", "--quiet"]
        # Nobody reads before its end: the report is small.
        with contextlib.ExitStack() as stack:
            events = ProcessEvents([tb.src, tb.dst], tb.src.outer_pid(task.pid)) if with_timeline else None
            if events is not None:
                stack.enter_context(events)
            process = tb.src.popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            stack.callback(process.kill_session)
            back_s = None if before is None else _back_after(tb, task, process, before * BACK_SHARE)
            told = answer_of(process, TIMEOUT_SECONDS)
        task.verify(tb.dst)
    run = _figures(case, way, repeat, mib, told, back_s)
    if events is not None:
        run.timeline = [*timeline.phases(told), *events.spans()]
    return run


def _figures(
    case: MigrateCase, way: str, repeat: int, mib: int, report: dict[str, Any], back_s: float | None
) -> MigrateRun:
    told = report["precopy"] or {"bytes": 0, "rounds": [], "stopped": ""}
    # Stock's daemon doesn't tell of pages; memtask's are nearly all of the task's.
    pages = report["lazy_pages"] or mib * 256
    changed = (pages - report["same_pages"]) * PAGE_BYTES
    received = report["received_bytes"]
    return MigrateRun(
        case=case.name,
        way=way,
        repeat=repeat,
        mib=mib,
        total_s=report["total_s"],
        downtime_s=report["downtime_s"],
        freeze_s=report["freeze_s"],
        ours_s=report["downtime_s"] - report["freeze_s"],
        precopy_mb=told["bytes"] / 1e6,
        rounds=len(told["rounds"]),
        after_mb=received / 1e6,
        changed_mb=changed / 1e6,
        after_of_changed=received / changed if changed > MUCH_BYTES else None,
        sent_of_memory=(told["bytes"] + received) / (pages * PAGE_BYTES),
        transfer_s=report["transfer_s"],
        back_s=back_s,
        stopped=told["stopped"],
        phases_s=report["phases_s"],
    )


def _steps(tb: Testbed, task: MemTask, on_dst: bool) -> tuple[float, int]:
    """Seconds by the task's clock, and steps of the threads that have run here."""
    state = task.status(tb.dst if on_dst else tb.src)
    return state["unix_us"] / 1e6, state["steps"]


def _speed(tb: Testbed, task: MemTask) -> float:
    """Steps a second at the source."""
    start, first = _steps(tb, task, on_dst=False)
    time.sleep(BEFORE_SECONDS)
    end, last = _steps(tb, task, on_dst=False)
    return (last - first) / (end - start)


def _back_after(tb: Testbed, task: MemTask, process: subprocess.Popen[Any], speed: float) -> float | None:
    """Seconds from the resume until the task's steps a second are `speed`, as seen until some time after the end."""
    journal = tb.src.root / JOURNAL.lstrip("/")
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, ValueError):
            if json.loads(journal.read_text())["state"] in ("running", "drained", "committed"):
                break
        if process.poll() is not None:
            return None
        time.sleep(0.002)
    resumed, ended = time.time(), None
    before, done = _steps(tb, task, on_dst=True)
    while ended is None or time.monotonic() < ended + AFTER_SECONDS:
        time.sleep(SAMPLE_SECONDS)
        now, steps = _steps(tb, task, on_dst=True)
        # Threads that have run since the resume only now count as well.
        if steps >= done and (steps - done) / (now - before) >= speed:
            return max(0.0, before - resumed)
        before, done = now, steps
        if ended is None and process.poll() is not None:
            ended = time.monotonic()
    return None
