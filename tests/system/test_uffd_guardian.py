"""A daemon that is killed while the restored task runs: the task waits for its pages, it reads no zeroes."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from lazy_migration import DIRECTORY, IMAGES, PORT, LazyMigration, lazy_migration
from lazy_source import eventually

from criu_lazy_ext.native.engine import GUARDIAN_SOCKET
from testbed import Testbed

TASK = ("--mib", "128", "--threads", "2", "--ops", "all")
GUARDIAN = "criu-lazy-guard"
OTHER_IMAGES = f"{DIRECTORY}/others"


@pytest.fixture(scope="module")
def hosts() -> Iterator[Testbed]:
    if os.geteuid() != 0:
        pytest.skip("the testbed needs root")
    with Testbed.start(criu=("4.2", "4.2"), name=f"hold-{os.getpid()}") as started:
        yield started


@pytest.fixture(autouse=True)
def slow_until_it_is_over(hosts: Testbed) -> None:
    """What is to happen happens while pages are missing; a test lets the rest come fast."""
    hosts.link.set(rate_mbit=150, rtt_ms=0.2)


def guardians(tb: Testbed) -> list[int]:
    """Pids, within the host, of the guardians there."""
    return [int(word) for word in tb.dst.run(["pgrep", "-x", GUARDIAN], check=False).stdout.split()]


def wrong_memory(tb: Testbed, migration: LazyMigration) -> str:
    """What the task and its children have noted as wrong, while they run."""
    in_child = tb.dst.root / f"{migration.task.status_path}.child".lstrip("/")
    return in_child.read_text() if in_child.exists() else ""


def waiting_threads(tb: Testbed) -> int:
    """How many threads of the task and its children wait for a daemon: in a page fault, or in a fork, say.

    Of the children, too: pages that are missing may all be theirs.
    """
    pids = tb.dst.run(["pgrep", "-x", "memtask"]).stdout.split()
    stacks = (stack for pid in pids for stack in (tb.dst.root / f"proc/{pid}/task").glob("*/stack"))
    return sum("userfault" in _read(stack) for stack in stacks)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def test_a_killed_daemon_leaves_the_task_waiting_and_no_byte_wrong(hosts: Testbed) -> None:
    with lazy_migration(hosts, TASK) as migration:
        migration.until_share(0.3)
        assert len(guardians(hosts)) == 1
        migration.kill_daemon()
        eventually(lambda: waiting_threads(hosts), "the task waits")
        time.sleep(1)
        assert waiting_threads(hosts)
        assert not wrong_memory(hosts, migration)
        assert "the daemon was killed with pages missing" in migration.daemon_log()
        (guardian,) = guardians(hosts)
        hosts.dst.run(["kill", "-TERM", str(guardian)])
        time.sleep(0.5)
        assert guardians(hosts) == [guardian]
        migration.task.kill(hosts.dst)
        eventually(lambda: not guardians(hosts), "the guardian has ended")


def test_a_daemon_that_is_done_leaves_no_guardian(hosts: Testbed) -> None:
    with lazy_migration(hosts, TASK) as migration:
        hosts.link.set()
        migration.complete()
        assert not guardians(hosts)
        assert "guards the tasks" not in migration.daemon_log()


def test_a_daemon_that_is_stopped_leaves_no_guardian(hosts: Testbed) -> None:
    with lazy_migration(hosts, TASK) as migration:
        migration.until_share(0.3)
        pid = migration.daemon.inner_pid()
        assert pid is not None
        os.kill(pid, signal.SIGTERM)
        migration.daemon.wait(30)
        assert "pages are lost to it" in migration.daemon_log()
        assert not guardians(hosts)


def test_a_lost_guardian_is_missed_with_one_warning(hosts: Testbed) -> None:
    with lazy_migration(hosts, TASK) as migration:
        migration.until_share(0.1)
        hosts.dst.run(["kill", "-KILL", *map(str, guardians(hosts))])
        migration.complete()
        assert migration.daemon_log().count("the process that guards the tasks is lost") == 1


@pytest.mark.parametrize("options", [(), ("--push=2",)], ids=["asking", "pushed-to"])
def test_a_daemon_killed_three_times_and_resumed_loses_no_page(hosts: Testbed, options: tuple[str, ...]) -> None:
    with lazy_migration(hosts, TASK, options, push=bool(options)) as migration:
        for i in range(3):
            migration.until_share(0.25 * i + 0.1)
            migration.kill_daemon()
            migration.resume_daemon(*options)
            migration.until(lambda s: s["received_bytes"] > 0, "it goes on")
            assert bool(migration.stats()["push_streams"]) == bool(options)
        hosts.link.set()
        migration.complete()
        assert not guardians(hosts)


def test_a_successor_waits_for_a_page_server_that_is_away(hosts: Testbed) -> None:
    with lazy_migration(hosts, TASK, ("--push=2",), push=True) as migration:
        migration.until_share(0.2)
        migration.kill_daemon()
        hosts.link.cut()
        try:
            migration.resume_daemon("--push=2")
            eventually(lambda: "the tasks wait for it, and so does this daemon" in migration.daemon_log(), "it waits")
        finally:
            hosts.link.mend()
        hosts.link.set()
        migration.complete()


def test_what_does_not_fit_is_refused_and_the_tasks_wait_on(hosts: Testbed) -> None:
    with lazy_migration(hosts, TASK) as migration:
        migration.until_share(0.2)
        migration.kill_daemon()
        eventually(lambda: "the daemon was killed" in migration.daemon_log(), "the guardian has noticed")
        hosts.dst.run(["cp", "-r", IMAGES, OTHER_IMAGES])
        for pagemap in (hosts.dst.root / OTHER_IMAGES.lstrip("/")).glob("pagemap-*.img"):
            pagemap.write_bytes(without_last_entry(pagemap.read_bytes()))
        command = ["criu-lazy", "lazy-pages", "--resume", "--page-server", "--address", hosts.src.address, "-W", IMAGES]
        refused = hosts.dst.run([*command, "--port", str(PORT), "-D", OTHER_IMAGES], check=False)
        assert refused.returncode == 1
        assert "these are not the images that the daemon served" in refused.stderr
        refused = hosts.dst.run([*command, "--port", "1", "-D", IMAGES], check=False)
        assert refused.returncode == 1
        assert "can't connect to the page server" in refused.stderr
        left_behind = hosts.dst.root / IMAGES.lstrip("/") / GUARDIAN_SOCKET
        eventually(left_behind.exists, "the guardian listens again")
        assert left_behind.stat().st_mode & 0o777 == 0o600
        migration.resume_daemon()
        hosts.link.set()
        migration.complete()
        assert not left_behind.exists()
        nothing = hosts.dst.run([*command, "--port", str(PORT), "-D", IMAGES], check=False)
        assert nothing.returncode == 1
        assert "nothing to resume" in nothing.stderr


def without_last_entry(pagemap: bytes) -> bytes:
    """A pagemap image: two magic numbers, then records with their length before them."""
    at, last = 8, 8
    while at < len(pagemap):
        last, at = at, at + 4 + int.from_bytes(pagemap[at : at + 4], "little")
    return pagemap[:last]
