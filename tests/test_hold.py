"""A daemon that is killed while the restored task runs: the task waits for its pages, it reads no zeroes."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from lazy_source import eventually
from relayed import Relayed, relayed

from criu_lazy_ext.testbed import Testbed

TASK = ("--mib", "128", "--threads", "2", "--ops", "all")
HOLDER = "criu-lazy-hold"


@pytest.fixture(scope="module")
def hosts() -> Iterator[Testbed]:
    if os.geteuid() != 0:
        pytest.skip("the testbed needs root")
    with Testbed.start(criu=("4.2", "4.2"), name=f"hold-{os.getpid()}") as started:
        started.link.set(rate_mbit=500, rtt_ms=0.2)
        yield started


def holders(tb: Testbed) -> list[int]:
    """Pids, within the host, of the holders there."""
    return [int(word) for word in tb.dst.run(["pgrep", "-x", HOLDER], check=False).stdout.split()]


def kill_daemon(migration: Relayed) -> None:
    pid = migration.daemon.inner_pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    migration.daemon.wait(30)


def wrong_memory(tb: Testbed, migration: Relayed) -> str:
    """What the task and its children have noted as wrong, while they run."""
    in_child = tb.dst.root / f"{migration.task.status_path}.child".lstrip("/")
    return in_child.read_text() if in_child.exists() else ""


def threads_in_faults(tb: Testbed, migration: Relayed) -> int:
    """How many threads of the task sleep in a page fault."""
    process = tb.dst.root / f"proc/{migration.task.pid}/task"
    stacks = (thread / "stack" for thread in process.iterdir())
    return sum("handle_userfault" in _read(stack) for stack in stacks)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def test_a_killed_daemon_leaves_the_task_waiting_and_no_byte_wrong(hosts: Testbed) -> None:
    with relayed(hosts, TASK) as migration:
        migration.until_share(0.3)
        assert len(holders(hosts)) == 1
        kill_daemon(migration)
        eventually(lambda: threads_in_faults(hosts, migration), "the task waits for a page")
        time.sleep(1)
        assert threads_in_faults(hosts, migration)
        assert not wrong_memory(hosts, migration)
        assert migration.task.status(hosts.dst)["errors"] == 0
        assert "the daemon was killed with pages missing" in migration.daemon_log()
        (holder,) = holders(hosts)
        hosts.dst.run(["kill", "-TERM", str(holder)])
        time.sleep(0.5)
        assert holders(hosts) == [holder]
        migration.task.kill(hosts.dst)
        eventually(lambda: not holders(hosts), "the holder has ended")


def test_a_daemon_that_is_done_leaves_no_holder(hosts: Testbed) -> None:
    with relayed(hosts, TASK) as migration:
        migration.complete()
        assert not holders(hosts)
        assert "guards the tasks" not in migration.daemon_log()


def test_a_daemon_that_is_stopped_leaves_no_holder(hosts: Testbed) -> None:
    with relayed(hosts, TASK) as migration:
        migration.until_share(0.3)
        pid = migration.daemon.inner_pid()
        assert pid is not None
        os.kill(pid, signal.SIGTERM)
        migration.daemon.wait(30)
        assert "pages are lost to it" in migration.daemon_log()
        assert not holders(hosts)


def test_a_lost_holder_is_missed_with_one_warning(hosts: Testbed) -> None:
    with relayed(hosts, TASK) as migration:
        migration.until_share(0.1)
        hosts.dst.run(["kill", "-KILL", *map(str, holders(hosts))])
        migration.complete()
        assert migration.daemon_log().count("the process that guards the tasks is lost") == 1
