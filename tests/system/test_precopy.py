"""Pre-copy from end to end: a store before the freeze, then a lazy migration that moves only what changed since."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator

import pytest
from lazy_migration import STORE, LazyMigration, ask, lazy_migration, page_store
from vm import TRACKED

from bench.handmade import MemTask, start_memtask
from testbed import Testbed

MIB, THREADS = (32, "1") if TRACKED else (64, "2")
PAGES = MIB * 256
# Some pages are written all the time, most now and then or never.
ZIPF = ("--mib", str(MIB), "--threads", THREADS, "--mode", "zipf", "--write-percent", "1")
# Everything is, and memory comes, goes and moves, and children are forked.
CHURNING = ("--mib", str(MIB), "--threads", "2", "--ops", "all")
# When it is told to run, it writes two thirds of its pages, again and again.
WRITING = ("--mib", str(MIB), "--mode", "random", "--threads", "1", "--write-percent", "100", "--hot-percent", "66")
DAEMON = ("--push", "--precopied", STORE, "--reconnect-seconds", "60")
pytestmark = pytest.mark.usefixtures("slow_link")


@pytest.fixture
def rounds(hosts: Testbed) -> Callable[..., Callable[[], None]]:
    """rounds(n, rate=...): to be called before the dump; n rounds to a store, which is completed.

    `rate`: of pages after that, in bytes per second; 0: no limit.
    """

    def make(count: int, rate: int = 0) -> Callable[[], None]:
        def run() -> None:
            store = page_store(hosts)
            for number in range(1, count + 1):
                told = ask(hosts, "round")
                assert told["round"] == number
                assert told["unread_pages"] > 0 or number == 1 or not TRACKED
            ask(hosts, "precopied")
            assert store.wait(30) == 0
            assert ask(hosts, "rate", rate=rate)["ok"]

        return run

    return make


def stored(hosts: Testbed) -> list[str]:
    """What is in the store's directory."""
    return hosts.dst.run(["sh", "-c", f"ls {STORE} 2>/dev/null || true"]).stdout.split()


def test_after_the_freeze_little_is_moved_and_every_page_is_right(hosts: Testbed, rounds) -> None:
    hosts.link.set(rate_mbit=200, rtt_ms=2)
    with lazy_migration(hosts, ZIPF, DAEMON, push=True, precopy=rounds(3)) as migration:
        assert stored(hosts) == []  # the daemon holds it, and it goes with the daemon
        stats = migration.complete()
    push = migration.last_state["push"]
    assert stats["same_pages"] > PAGES / 4
    changed = push["pushed_pages"] + push["asked_pages"] - push["zero_pages"] - push["same_pages"]
    assert push["sent_bytes"] < changed * 4096 + PAGES * 32


def test_a_task_that_forks_and_moves_its_memory_gets_the_right_pages(hosts: Testbed, rounds) -> None:
    with lazy_migration(hosts, CHURNING, DAEMON, push=True, precopy=rounds(2)) as migration:
        assert migration.complete()["same_pages"] > 0


def test_with_a_key(hosts: Testbed) -> None:
    for host in (hosts.src, hosts.dst):
        host.write("/root/migration.key", "9f" * 32 + "\n", mode=0o600)
    key = ("--tls-psk", "/root/migration.key")

    def precopy() -> None:
        store = page_store(hosts, *key)
        ask(hosts, "round")
        ask(hosts, "precopied")
        assert store.wait(30) == 0

    with lazy_migration(hosts, ZIPF, (*DAEMON, *key), key, push=True, precopy=precopy) as migration:
        assert migration.complete()["same_pages"] > PAGES / 4


def test_a_store_lost_before_the_freeze_leaves_a_lazy_migration(hosts: Testbed) -> None:
    def precopy() -> None:
        store = page_store(hosts)
        ask(hosts, "round")
        store.send_signal(signal.SIGTERM)
        assert store.wait(30) == 1
        assert stored(hosts) == []

    with lazy_migration(hosts, ZIPF, DAEMON, push=True, precopy=precopy) as migration:
        assert migration.complete()["same_pages"] == 0


@contextlib.contextmanager
def slow_migration(hosts: Testbed, rounds) -> Iterator[LazyMigration]:
    """Of a task that has written to many pages since its only round, and is idle: these come one a second, the others
    from the store."""
    tasks: list[MemTask] = []

    def start(tb: Testbed) -> MemTask:
        tasks.append(start_memtask(tb, *WRITING, "--hold"))
        return tasks[0]

    def precopy() -> None:
        rounds(1, rate=4096)()
        tasks[0].toggle(hosts.src)
        time.sleep(2)
        tasks[0].toggle(hosts.src)

    with lazy_migration(hosts, (), DAEMON, push=True, precopy=precopy, start=start) as migration:
        begin_slowly(migration)
        yield migration


def begin_slowly(migration: LazyMigration) -> None:
    """Until pages came from the store; many others are missing still."""
    migration.until(lambda s: s["same_pages"] > 0, "pages come from the store")
    assert migration.stats()["remaining_pages"] > PAGES / 3


def test_sessions_lost_after_pages_came_from_the_store_lose_none(hosts: Testbed, rounds) -> None:
    with slow_migration(hosts, rounds) as migration:
        for i in range(3):
            migration.op("drop")
            migration.until(lambda s, i=i: s["reconnects"] > i, "the daemon is back")
        migration.op("rate", rate=0)
        stats = migration.complete()
    assert stats["reconnects"] == 3 and stats["same_pages"] > PAGES / 5


def test_a_daemon_that_was_killed_goes_on_without_the_store(hosts: Testbed, rounds) -> None:
    with slow_migration(hosts, rounds) as migration:
        migration.kill_daemon()
        migration.resume_daemon("--push")
        migration.op("rate", rate=0)
        migration.complete()
        assert migration.last_state["push"]["sent_bytes"] > PAGES * 4096 / 3


def test_a_page_server_that_was_killed_sends_pages_whole(hosts: Testbed, rounds) -> None:
    with slow_migration(hosts, rounds) as migration:
        migration.kill_server()
        migration.await_server()
        migration.op("rate", rate=0)  # its successor keeps the options of the killed one
        assert migration.complete()["reconnects"] > 0
        assert migration.last_state["push"]["same_pages"] == 0
        assert migration.last_state["push"]["sent_bytes"] > PAGES * 4096 / 3


@pytest.mark.parametrize("damage", ["truncate -s 4096 pages", "truncate -s 20 index", "rm pages", "rm index"])
def test_a_damaged_store_is_not_used(hosts: Testbed, rounds, damage: str) -> None:
    def precopy() -> None:
        rounds(1)()
        hosts.dst.run(["sh", "-c", f"cd {STORE} && {damage}"])

    with lazy_migration(hosts, ZIPF, DAEMON, push=True, precopy=precopy) as migration:
        assert migration.complete()["same_pages"] == 0
