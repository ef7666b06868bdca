"""Several memtasks over one link: `criu-lazy evacuate`, as many `criu-lazy migrate` side by side, and one alone."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from dataclasses import asdict, dataclass
from typing import Any

from bench.cases import EvacuationCase
from bench.handmade import MemTask, answer_of, migrated_memtask
from testbed import HostProcess, Testbed

DIRECTORY = "/root/bench"
TIMEOUT_SECONDS = 600.0


@dataclass
class EvacuationRun:
    """The figures of one run. Of the tasks' downtimes and faults the worst are taken."""

    case: str
    way: str  # alone: one task by migrate; side-by-side: all at once, each by migrate; evacuate
    repeat: int
    mib: int  # of each task
    tasks: int
    seconds: float  # of the commands, the first preflight included
    after_preflight_s: float  # from the end of the first preflight on
    link_s: float  # what a plain TCP stream takes for all of their memory
    of_link: float  # after_preflight_s over that
    downtime_ms: float
    fault_p99_ms: float | None
    fault_max_ms: float | None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def measure_evacuation(
    tb: Testbed, case: EvacuationCase, way: str, repeat: int, mib: int, plain_mb_per_s: float
) -> EvacuationRun:
    """Move the tasks once and check every byte. Raises MigrationError, or TestbedError; no task is left then."""
    count = 1 if way == "alone" else case.tasks
    with contextlib.ExitStack() as stack:
        tasks = [
            stack.enter_context(migrated_memtask(tb, "--mib", str(mib), *case.options, name=f"memtask{number}"))
            for number in range(count)
        ]
        began = time.time()
        reports = _evacuate(tb, tasks) if way == "evacuate" else _migrate_all(tb, tasks)
        ended = time.time()
        first = min(_preflight_ended(tb, report) for report in reports)
        for task in tasks:
            task.verify(tb.dst)
    seconds, after_preflight_s = ended - began, ended - first
    link_s = count * mib * 2**20 / (plain_mb_per_s * 1e6)
    waits = [report["fault_wait_us"] for report in reports if report["fault_wait_us"]]
    return EvacuationRun(
        case=case.name,
        way=way,
        repeat=repeat,
        mib=mib,
        tasks=count,
        seconds=seconds,
        after_preflight_s=after_preflight_s,
        link_s=link_s,
        of_link=after_preflight_s / link_s,
        downtime_ms=max(report["downtime_s"] for report in reports) * 1e3,
        fault_p99_ms=max((wait["p99"] for wait in waits), default=0.0) / 1e3 if waits else None,
        fault_max_ms=max((wait["max"] for wait in waits), default=0.0) / 1e3 if waits else None,
    )


def _preflight_ended(tb: Testbed, report: dict[str, Any]) -> float:
    """When its first round, or its freeze, began: seconds since the epoch. (Phases count from the migration's start,
    and the programs' own start comes before that.)"""
    phases = report["phases_s"]
    began = json.loads(tb.src.read(report["run_file"]))["began"]
    return float(began) + float(phases.get("pre-copy", phases["dumping"]))


def _migrate_all(tb: Testbed, tasks: list[MemTask]) -> list[dict[str, Any]]:
    processes: list[HostProcess] = []
    for number, task in enumerate(tasks):
        path = f"{DIRECTORY}/task{number}.yaml"
        tb.src.write(path, f"task: {{pid: {task.pid}}}\ndestination: {{ssh: dst}}\n")
        command = ["criu-lazy", "migrate", path, "--json", "--quiet"]
        processes.append(tb.src.popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
    return [answer_of(process, TIMEOUT_SECONDS) for process in processes]


def _evacuate(tb: Testbed, tasks: list[MemTask]) -> list[dict[str, Any]]:
    """The reports of the migrations are in their run files."""
    moves = "".join(f"- {{task: {{pid: {task.pid}}}, name: task{number}}}\n" for number, task in enumerate(tasks))
    path = f"{DIRECTORY}/plan.yaml"
    tb.src.write(path, f"destinations: [{{ssh: dst}}]\nmove:\n{moves}")
    command = ["criu-lazy", "evacuate", path, "--json", "--quiet"]
    process = tb.src.popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    told = answer_of(process, TIMEOUT_SECONDS, "evacuate")
    return [json.loads(tb.src.read(item["run_file"]))["report"] for item in told["items"]]
