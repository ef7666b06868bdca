"""The daemon outlives its connection to the page server once the restored task runs: it pauses, and goes on."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest
from lazy_migration import lazy_migration

from testbed import Testbed

TASK = ("--mib", "128", "--threads", "2", "--ops", "all")
RECONNECT = ("--reconnect-seconds", "60")
pytestmark = pytest.mark.usefixtures("slow_link")


@pytest.fixture(scope="module")
def hosts() -> Iterator[Testbed]:
    if os.geteuid() != 0:
        pytest.skip("the testbed needs root")
    with Testbed.start(criu=("4.2", "4.2"), name=f"reconnect-{os.getpid()}") as started:
        yield started


def test_a_client_dropped_ten_times_in_one_transfer_loses_no_page(hosts: Testbed) -> None:
    hosts.link.set(rate_mbit=150, rtt_ms=0.2)  # each drop takes half a second on a busy machine
    with lazy_migration(hosts, TASK, RECONNECT) as migration:
        for i in range(10):
            migration.until_share(i / 11)
            migration.op("drop")
            migration.until(lambda s, i=i: s["reconnects"] > i, "the daemon is back")
        assert migration.complete()["reconnects"] == 10


@pytest.mark.parametrize("seconds", [2, 8], ids=["short", "longer-than-a-silent-host-is-waited-for"])
def test_a_link_cut_during_the_transfer_pauses_it(hosts: Testbed, seconds: float) -> None:
    with lazy_migration(hosts, TASK, RECONNECT) as migration:
        migration.until_share(0.2)
        hosts.link.cut()
        time.sleep(seconds)
        hosts.link.mend()
        stats = migration.complete()
    if seconds > 5:
        assert stats["reconnects"] > 0


def test_a_page_server_that_is_killed_is_followed_by_another(hosts: Testbed) -> None:
    hosts.link.set(rate_mbit=100, rtt_ms=0.2)  # pages are missing when the last is killed
    with lazy_migration(hosts, TASK, RECONNECT) as migration:
        for i in range(3):
            migration.until_share(0.25 * i + 0.1)
            migration.kill_server()
            migration.until(lambda s, i=i: s["reconnects"] > i, "the daemon is back")
        hosts.link.set(rate_mbit=500, rtt_ms=0.2)
        assert migration.complete()["reconnects"] >= 3


def test_a_page_server_that_stays_away_fails_the_daemon_in_time(hosts: Testbed) -> None:
    with lazy_migration(hosts, TASK, ("--reconnect-seconds", "2")) as migration:
        migration.until_share(0.1)
        migration.kill_server(guardian_too=True)
        assert migration.daemon.wait(30) == 1
        assert "did not come back in 2 s: Connection refused" in migration.stats()["error"]


def test_without_the_option_a_lost_connection_fails_at_once(hosts: Testbed) -> None:
    with lazy_migration(hosts, TASK) as migration:
        migration.until_share(0.1)
        migration.op("drop")
        assert migration.daemon.wait(30) == 1
        assert "the connection was closed with" in migration.stats()["error"]
