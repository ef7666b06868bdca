"""One measurement: a migration of memtask over one link with one daemon, as figures."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from bench.cases import Case
from bench.handmade import (
    OURS,
    STOCK,
    ByHand,
    MigrationError,
    install,
    install_simulator,
    lazy_migrate_by_hand,
    migrated_memtask,
)
from criu_lazy_ext.sizes import PAGE_BYTES
from testbed import Host, Testbed

DAEMONS = {"stock": STOCK, "ours": OURS}
# Long enough for the threads to have used CPU time before the dump, by which they notice that they were restored.
WARM_UP_SECONDS = 0.3
LIMIT_PORT = 27001
# Of a task that does nothing.
NO_STALLS = dict.fromkeys(
    ("stalls", "stall_s", "stall_of_oracle", "stall_p50_ms", "stall_p99_ms", "stall_max_ms", "touch_mb_per_s")
)


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
    oracle_stall_s: float | None  # the same, simulated, if every page came in the order of need at plain TCP's rate
    stall_of_oracle: float | None  # stall_s over that; None if not finished
    stall_p50_ms: float | None
    stall_p99_ms: float | None
    stall_max_ms: float | None
    touch_mb_per_s: float | None  # pages the task touched for the first time, until it had touched its last one
    cpu_s_per_gb: float | None  # of the daemon
    source_cpu_s_per_gb: float | None  # of criu dump, and of our page server
    peak_mib: float  # that the daemon had resident
    source_peak_mib: float  # criu dump's and our page server's, summed
    requests: int | None  # that the daemon sent (ours tells)
    dump_s: float
    restore_s: float
    arrived: list[tuple[float, int]]  # seconds since the resume, bytes by then

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Setting:
    """How all migrations on one link are made, and measured."""

    mib: int  # memory of the task
    window_s: float  # it is measured no longer than that
    plain_tcp_mb_per_s: float  # of the link, just before
    push_streams: int = 0  # so many connections push to ours
    encrypt: bool = False  # by TLS


def measure(tb: Testbed, case: Case, daemon: str, repeat: int, setting: Setting) -> Run:
    """Migrate once and check every byte. Raises MigrationError; no task is left then."""
    access = case.access
    with contextlib.ExitStack() as stack:
        task = stack.enter_context(migrated_memtask(tb, "--mib", str(setting.mib), *access.options))
        time.sleep(WARM_UP_SECONDS)
        step_ns = _step_ns(task.status(tb.src)) if access.mode != "idle" else None
        if case.link.shared:
            stack.enter_context(tb.link.plain_tcp_stream())
        done = lazy_migrate_by_hand(
            tb,
            task,
            ByHand(
                daemon=DAEMONS[daemon],
                window_seconds=setting.window_s,
                timeout=180,
                push_streams=setting.push_streams if daemon == "ours" else 0,
                encrypt=setting.encrypt,
                proxied=case.link.proxied,
            ),
        )
        state = done.window_status or task.status(tb.dst)
        task.verify(tb.dst)
    if access.mode != "idle" and state["epoch"] < 2:
        raise MigrationError("memtask's threads did not notice that they were restored: no figures")
    # The oracle knows of pages as they are, not of packed ones.
    oracle_s = None
    if step_ns is not None and not access.compressible:
        oracle_s = oracle_stall(tb, case, setting.mib, step_ns, setting.plain_tcp_mb_per_s)
    return Run(
        case=case.name,
        daemon=daemon,
        repeat=repeat,
        mib=setting.mib,
        finished=done.finished,
        seconds=done.transfer_seconds,
        exit_s=done.exit_seconds if done.finished else None,
        mb_per_s=done.rate / 1e6,
        oracle_stall_s=oracle_s,
        **_stalls(state, oracle_s if done.finished else None) if access.mode != "idle" else NO_STALLS,
        cpu_s_per_gb=done.per_gb(done.cpu_seconds),
        source_cpu_s_per_gb=done.per_gb(done.source_cpu_seconds),
        peak_mib=done.peak_bytes / 2**20,
        source_peak_mib=done.source_peak_bytes / 2**20,
        requests=done.engine.get("requests"),
        dump_s=done.dump_seconds,
        restore_s=done.restore_seconds,
        arrived=done.arrived,
    )


def _stalls(state: dict[str, Any], oracle_s: float | None) -> dict[str, Any]:
    """What the task waited, from its state; `oracle_s`: what it would have, if that is to be compared."""
    stall_s = state["stall_sum_us"] / 1e6
    touching_s = (state["last_first_touch_us"] - state["start_us"]) / 1e6
    single = {f"stall_{name}_ms": state[f"stall_{name}_us"] / 1e3 for name in ("p50", "p99", "max")}
    return {
        **NO_STALLS,
        **(single if state["stalls"] else {}),
        "stalls": state["stalls"],
        "stall_s": stall_s,
        "stall_of_oracle": stall_s / oracle_s if oracle_s else None,
        "touch_mb_per_s": state["first_touches"] * PAGE_BYTES / 1e6 / touching_s if touching_s > 0 else None,
    }


def _step_ns(state: dict[str, Any]) -> int:
    """What a step of memtask's takes on a processor of its own, from its state on the source."""
    processors: int = min(state["threads"], os.cpu_count() or 1)
    elapsed_ns = float(state["unix_us"] - state["start_us"]) * 1e3
    return max(1, round(elapsed_ns * processors / max(1, int(state["steps"]))))


def oracle_stall(tb: Testbed, case: Case, mib: int, step_ns: int, mb_per_s: float) -> float:
    """Seconds that a task of such threads waits at least, if the link carries that much: from simulate.c's oracle."""
    install_simulator(tb)
    command = ["simulate", "--oracle", "--trace", f"task-{case.access.mode}", "--threads", str(case.access.threads)]
    command += ["--pages", str(mib * 256), "--think-ns", str(step_ns), "--rate-mbit", str(round(mb_per_s * 8))]
    command += ["--rtt-us", str(round(case.link.rtt_ms * 1e3))]
    return float(json.loads(tb.src.run(command).stdout)["stall_s"])


@contextlib.contextmanager
def _limit(host: Host, *words: str) -> Iterator[None]:
    """`limit WORDS` runs, and is ready. Raises MigrationError."""
    with host.popen(["limit", *words], stdout=-1, stderr=-1, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        try:
            if process.stdout.readline().strip() != "ready":
                raise MigrationError(f"limit {words[0]} failed: {process.stderr.read().strip()}")
            yield
        finally:
            process.kill_session()


@contextlib.contextmanager
def warm_memory(tb: Testbed, mib: int) -> Iterator[None]:
    """Keep so much of the machine's free memory as it is after use, half of what is free at most.

    On a virtual machine, memory that was never used, or whose host has taken it back, costs a second a GB more at first
    touch: that is the machine's cost, and far more than what is measured. Raises MigrationError.
    """
    install(tb, "limit")
    free = os.sysconf("SC_AVPHYS_PAGES") * PAGE_BYTES >> 20
    with _limit(tb.dst, "warm", str(min(mib, free // 2))):
        yield


def machine_limit(tb: Testbed, mib: int, busy_threads: int) -> float:
    """MB/s of one bare stream, process_vm_readv -> TCP -> UFFDIO_COPY, beside `busy_threads` reading memory."""
    install(tb, "limit")
    with _limit(tb.src, "serve", str(LIMIT_PORT), str(mib)):
        fetch = ["limit", "fetch", tb.src.address, str(LIMIT_PORT), str(mib), str(busy_threads)]
        measured = json.loads(tb.dst.run(fetch).stdout)
    return float(measured["bytes"]) / float(measured["seconds"]) / 1e6
