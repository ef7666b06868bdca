"""Whole migrations by `criu-lazy migrate` of programs at work: what their users feel, pre-copy's cost included."""

from __future__ import annotations

import subprocess
import time
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from bench.cases import ServiceCase
from bench.handmade import answer_of
from bench.programs import (
    AFTER_SECONDS,
    BACK_SHARE,
    BEFORE_SECONDS,
    WARM_UP_SECONDS,
    OwnLoad,
    RedisLoad,
    Timeline,
    install_java,
    killed_at_failure,
    require_all_right,
)
from testbed import Testbed

SERVICE = "10.78.0.100"
ADDRESS = f"{SERVICE}/24"
DEVICE = "svc0"
PROFILE = "task: {pidfile: /run/bench.pid}\ndestination: {ssh: dst}\n"
NETWORK = f"network: {{addresses: [{ADDRESS} dev {DEVICE}]}}\n"
# What the profile says beside that. `default`: nothing, so that the program decides by what it measures.
WAYS = {"stock": "page_source: stock\ndaemon: stock\n", "lazy": "strategy: lazy\n", "default": ""}
PATH = "/root/bench.yaml"
TIMEOUT_SECONDS = 600.0


@dataclass
class ServiceRun:
    """The figures of one migration of a program at work."""

    case: str
    way: str  # of WAYS
    repeat: int
    mib: int  # of records
    before_per_s: float  # operations a second, of the BEFORE_SECONDS up to the start of migrate
    lost_s: float  # so many seconds of work were lost from the start of migrate until AFTER_SECONDS after its end
    back_s: float | None  # from the resume until it works at BACK_SHARE again; None: not that soon
    gap_s: float  # the longest time without an answer (of redis: to its client), or without an operation
    gap_beyond_s: float  # that, less the downtime that was reported
    downtime_s: float
    transfer_s: float  # from the resume until the last page
    total_s: float  # of the whole command
    fault_p50_ms: float | None  # of the daemon's faults that waited for their pages; stock's doesn't tell
    fault_p99_ms: float | None
    fault_max_ms: float | None
    checked: int  # records, at the end
    strategy: str

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def measure_service(tb: Testbed, case: ServiceCase, way: str, repeat: int, mib: int) -> ServiceRun:
    """Migrate the program once and check all its records. Raises MigrationError; no program is left then."""
    if case.program == "jvm":
        install_java(tb)
    is_redis = case.program == "redis"
    load: RedisLoad | OwnLoad
    try:
        if is_redis:
            tb.src.run(["ip", "address", "add", ADDRESS, "dev", DEVICE])
            tb.client.run(["ip", "neighbour", "flush", "all"])  # the last migration took the address elsewhere
            load = RedisLoad(tb, mib, SERVICE, case.write_percent)
        else:
            load = OwnLoad(tb, case.program, mib)
        with killed_at_failure(load):
            time.sleep(WARM_UP_SECONDS)
            tb.src.write("/run/bench.pid", f"{load.pid}\n")
            tb.src.write(PATH, PROFILE + (NETWORK if is_redis else "") + WAYS[way])
            began = time.monotonic()
            report = _migrate(tb)
            resumed = time.monotonic() - (report["total_s"] - report["phases_s"]["running"])
            time.sleep(AFTER_SECONDS)
            ended = time.monotonic()
            outcome = load.end()
    finally:
        for host in (tb.src, tb.dst):
            host.run(["ip", "address", "del", ADDRESS, "dev", DEVICE], check=False)
    require_all_right(outcome, mib)
    timeline = Timeline(outcome["timeline"])
    before = timeline.rate(began - BEFORE_SECONDS, began)
    back_at = timeline.back_at(resumed, ended, BACK_SHARE * before)
    at = [when for when, _ in outcome["timeline"] if began <= when <= ended]
    gap = max(later - earlier for earlier, later in pairwise([began, *at, ended]))
    waits = {name: value / 1e3 for name, value in report["fault_wait_us"].items()}
    return ServiceRun(
        case=case.name,
        way=way,
        repeat=repeat,
        mib=mib,
        before_per_s=before,
        lost_s=timeline.lost(began, ended, before),
        back_s=None if back_at is None else back_at - resumed,
        gap_s=gap,
        gap_beyond_s=gap - report["downtime_s"],
        downtime_s=report["downtime_s"],
        transfer_s=report["transfer_s"],
        total_s=report["total_s"],
        fault_p50_ms=waits.get("p50"),
        fault_p99_ms=waits.get("p99"),
        fault_max_ms=waits.get("max"),
        checked=outcome["checked"],
        strategy=report["strategy"],
    )


def _migrate(tb: Testbed) -> dict[str, Any]:
    """The report of `criu-lazy migrate`. Raises MigrationError if it didn't commit."""
    process = tb.src.popen(
        ["criu-lazy", "migrate", PATH, "--json", "--quiet"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    report: dict[str, Any] = answer_of(process, TIMEOUT_SECONDS)
    return report
