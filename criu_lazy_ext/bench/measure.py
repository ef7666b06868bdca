"""One measurement: a migration of memtask over one link with one daemon, as figures."""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import asdict, dataclass
from typing import Any

from criu_lazy_ext.bench.cases import Case
from criu_lazy_ext.bench.handmade import (
    OURS,
    STOCK,
    MigrationError,
    install,
    lazy_migrate_by_hand,
    start_memtask,
)
from criu_lazy_ext.testbed import Testbed

DAEMONS = {"stock": STOCK, "ours": OURS}
# Long enough for the threads to have used CPU time before the dump, by which they notice that they were restored.
WARM_UP_SECONDS = 0.3
LIMIT_PORT = 27001


@dataclass
class Run:
    """The figures of one migration. None where there is nothing to measure."""

    case: str
    daemon: str
    repeat: int
    mib: int
    finished: bool  # False: the figures are of the first seconds only, the window
    seconds: float  # from resume until the last page, or the window
    exit_s: float | None  # from resume until the daemon had ended; None if not finished
    mb_per_s: float
    stalls: int | None  # page faults that the task waited for
    stall_s: float | None  # all threads' waits in them, summed
    stall_p50_ms: float | None
    stall_p99_ms: float | None
    stall_max_ms: float | None
    touch_mb_per_s: float | None  # pages the task touched for the first time, until it had touched its last one
    cpu_s_per_gb: float | None  # of the daemon
    requests: int | None  # that the daemon sent (ours tells)
    dump_s: float
    restore_s: float

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def measure(tb: Testbed, case: Case, daemon: str, repeat: int, mib: int, window_seconds: float) -> Run:
    """Migrate once and check every byte. Raises MigrationError; no task is left then."""
    access = case.access
    task = start_memtask(tb, "--mib", str(mib), "--mode", access.mode, "--threads", str(access.threads))
    try:
        time.sleep(WARM_UP_SECONDS)
        done = lazy_migrate_by_hand(tb, task, daemon=DAEMONS[daemon], window_seconds=window_seconds, timeout=180)
        state = done.window_status or task.status(tb.dst)
        task.verify(tb.dst)
    except BaseException:
        with contextlib.suppress(Exception):
            task.kill(tb.src)
            task.kill(tb.dst)
        raise
    if access.mode != "idle" and state["epoch"] < 2:
        raise MigrationError("memtask's threads did not notice that they were restored: no figures")
    stalled = access.mode != "idle" and state["stalls"] > 0
    touching_s = (state["last_first_touch_us"] - state["start_us"]) / 1e6
    touched = touching_s > 0 and access.mode != "idle"
    return Run(
        case=case.name,
        daemon=daemon,
        repeat=repeat,
        mib=mib,
        finished=done.finished,
        seconds=done.transfer_seconds,
        exit_s=done.exit_seconds if done.finished else None,
        mb_per_s=done.rate / 1e6,
        stalls=state["stalls"] if access.mode != "idle" else None,
        stall_s=state["stall_sum_us"] / 1e6 if access.mode != "idle" else None,
        stall_p50_ms=state["stall_p50_us"] / 1e3 if stalled else None,
        stall_p99_ms=state["stall_p99_us"] / 1e3 if stalled else None,
        stall_max_ms=state["stall_max_us"] / 1e3 if stalled else None,
        touch_mb_per_s=state["first_touches"] * 4096 / 1e6 / touching_s if touched else None,
        cpu_s_per_gb=done.cpu_seconds / (done.transfer_bytes / 1e9) if done.transfer_bytes else None,
        requests=done.engine.get("requests"),
        dump_s=done.dump_seconds,
        restore_s=done.restore_seconds,
    )


def machine_limit(tb: Testbed, mib: int, busy_threads: int) -> float:
    """MB/s of one bare stream, process_vm_readv -> TCP -> UFFDIO_COPY, beside `busy_threads` reading memory."""
    install(tb, "limit")
    with tb.src.popen(["limit", "serve", str(LIMIT_PORT), str(mib)], stdout=-1, stderr=-1, text=True) as server:
        assert server.stdout is not None and server.stderr is not None
        try:
            if server.stdout.readline().strip() != "ready":
                raise MigrationError(f"limit serve failed: {server.stderr.read().strip()}")
            fetch = ["limit", "fetch", tb.src.address, str(LIMIT_PORT), str(mib), str(busy_threads)]
            measured = json.loads(tb.dst.run(fetch).stdout)
        finally:
            server.kill_session()
    return float(measured["bytes"]) / float(measured["seconds"]) / 1e6
