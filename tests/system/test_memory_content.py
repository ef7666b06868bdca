"""Every byte of a task that works while it is migrated is right; memtask.c tells what it does and checks."""

from __future__ import annotations

import time
from typing import Any

import pytest

from bench.handmade import (
    OURS,
    STOCK,
    ByHand,
    Migration,
    MigrationError,
    lazy_migrate_by_hand,
    start_memtask,
)
from testbed import Testbed

# mprotect splits mappings without an event: stock's daemon then loses pages, and the task waits for ever.
OPS_STOCK_CAN = "fork,mremap,munmap,dontneed"


def migrate(
    tb: Testbed, *options: str, daemon: tuple[str, str] = OURS, start_at_resume: bool = False
) -> tuple[Migration, dict[str, Any], dict[str, Any]]:
    """Migrate a memtask; the migration, its state right after it, and the verdict on every page."""
    task = start_memtask(tb, *options, *(["--hold"] if start_at_resume else []))
    time.sleep(0.3)
    try:
        on_resume = (lambda: task.toggle(tb.dst)) if start_at_resume else None
        done = lazy_migrate_by_hand(tb, task, ByHand(daemon=daemon, on_resume=on_resume, timeout=120))
        state = task.status(tb.dst)
        return done, state, task.verify(tb.dst)
    finally:
        task.kill(tb.src)
        task.kill(tb.dst)


def test_a_task_of_1_gib_that_forks_moves_unmaps_and_drops_memory_all_through_its_migration(hosts: Testbed) -> None:
    hosts.link.set(rate_mbit=None)
    _, state, verdict = migrate(hosts, "--mib", "1024", "--threads", "4", "--ops", "all")
    assert verdict["errors"] == 0 and verdict["children_bad"] == 0
    assert verdict["children_ok"] == verdict["ops"]["fork"] > 0
    assert state["epoch"] == 2 and state["stalls"] > 0  # it ran on missing pages


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_memory_changes_that_begin_at_the_resume_find_all_pages_missing(hosts: Testbed, seed: int) -> None:
    hosts.link.set(rate_mbit=1000, rtt_ms=0.2)
    done, _, verdict = migrate(hosts, "--mib", "128", "--ops", "all", "--seed", str(seed), start_at_resume=True)
    for event in ("fork", "remap", "unmap", "remove"):
        assert done.engine[f"events_{event}"] > 0, f"no {event} happened during the transfer"
    assert verdict["errors"] == 0 and verdict["children_bad"] == 0


def test_advice_on_missing_memory_from_before_the_dump_and_from_after_the_resume_is_followed(hosts: Testbed) -> None:
    """What a fork wipes, or doesn't any more, and zeroes where guard regions were put on and taken off."""
    before = ["--wipe-on-fork"] if hosts.src.criu != "4.1" else []  # which doesn't restore MADV_WIPEONFORK
    hosts.link.set(rate_mbit=100)
    _, _, verdict = migrate(hosts, "--mib", "32", "--ops", "fork", *before, "--advise-later", start_at_resume=True)
    assert verdict["errors"] == 0 and verdict["children_bad"] == 0 and verdict["children_ok"] > 0


@pytest.mark.parametrize("mode", ["random", "sequential", "strided", "zipf"])
def test_pages_written_before_they_arrive_keep_what_was_written(hosts: Testbed, mode: str) -> None:
    hosts.link.set(rate_mbit=1000)
    done, state, verdict = migrate(hosts, "--mib", "64", "--threads", "3", "--mode", mode, "--write-percent", "50")
    assert state["written_pages"] > 0 and done.engine["demand_faults"] > 0
    assert verdict["errors"] == 0


def test_stock_daemon_keeps_the_same_memory_right(hosts: Testbed) -> None:
    """A control of the task itself: what it does is fair."""
    hosts.link.set(rate_mbit=None)
    _, _, verdict = migrate(hosts, "--mib", "48", "--threads", "2", "--ops", OPS_STOCK_CAN, daemon=STOCK)
    assert verdict["errors"] == 0 and verdict["children_bad"] == 0


def test_a_wrong_byte_is_seen(hosts: Testbed) -> None:
    """A control of the checks: one word, changed from outside, fails the verdict."""
    task = start_memtask(hosts, "--mib", "16", "--mode", "idle", "--threads", "1")
    maps = (hosts.src.root / f"proc/{task.pid}/maps").read_text().splitlines()
    largest = max((line.split()[0].split("-") for line in maps), key=lambda ends: int(ends[1], 16) - int(ends[0], 16))
    with (hosts.src.root / f"proc/{task.pid}/mem").open("r+b", buffering=0) as memory:
        memory.seek(int(largest[0], 16) + 5 * 4096 + 8)
        memory.write(b"wrong!!!")
    with pytest.raises(MigrationError, match="memtask saw wrong memory: 1 times"):
        task.verify(hosts.src)


def test_ten_migrations_in_a_row(hosts: Testbed) -> None:
    hosts.link.set(rate_mbit=None)
    for seed in range(10):
        _, _, verdict = migrate(hosts, "--mib", "32", "--ops", "all", "--seed", str(seed))
        assert verdict["errors"] == 0 and verdict["children_bad"] == 0
