"""`criu-lazy page-server --tree` pushes: real tasks, verified page by page, whatever breaks."""

from __future__ import annotations

import struct
import time

import pytest
from lazy_source import GET, connect_inside
from relayed import CONTROL, PORT, relayed

from criu_lazy_ext import relay_control
from criu_lazy_ext.testbed import Testbed

TASK = ("--mib", "128", "--threads", "2", "--ops", "all")
RECONNECT = ("--reconnect-seconds", "60")
pytestmark = pytest.mark.usefixtures("slow_link")
KEY = "9f" * 32


def test_a_task_is_pushed_by_several_streams(hosts: Testbed) -> None:
    with relayed(hosts, TASK, ("--push=4",), push=True) as migration:
        migration.until_share(0.1)
        state = migration.op("state")
        assert state["state"] == "serving" and state["client"]
        assert migration.complete()["push_streams"] == 4
    assert state["push"]["streams"] == 4 and state["push"]["pushed_pages"] > 0


def test_other_clients_are_served_as_before(hosts: Testbed) -> None:
    with relayed(hosts, TASK, push=True) as migration:
        assert migration.complete()["push_streams"] == 0


def test_a_page_server_that_cannot_push_says_so(hosts: Testbed) -> None:
    with relayed(hosts, TASK, ("--push",)) as migration:
        assert migration.complete()["push_streams"] == 0


def test_ten_sessions_lost_in_one_transfer_lose_no_page(hosts: Testbed) -> None:
    hosts.link.set(rate_mbit=150, rtt_ms=0.2)  # each drop takes half a second on a busy machine
    with relayed(hosts, TASK, ("--push", *RECONNECT), push=True) as migration:
        for i in range(10):
            migration.until_share(i / 20)
            migration.op("drop")
            migration.until(lambda s, i=i: s["reconnects"] > i, "the daemon is back")
        assert migration.complete()["reconnects"] == 10


def test_a_cut_link_pauses_the_transfer(hosts: Testbed) -> None:
    with relayed(hosts, TASK, ("--push", *RECONNECT), push=True) as migration:
        migration.until_share(0.2)
        hosts.link.cut()
        time.sleep(8)
        hosts.link.mend()
        assert migration.complete()["reconnects"] > 0


def test_a_page_server_that_is_killed_is_followed_by_another_that_pushes(hosts: Testbed) -> None:
    with relayed(hosts, TASK, ("--push",), push=True) as migration:  # without limit is the default
        for i in range(3):
            migration.until_share(0.25 * i + 0.1)
            migration.kill_server()
            migration.until(lambda s, i=i: s["reconnects"] > i, "the daemon is back")
        assert migration.complete()["reconnects"] >= 3


def test_the_rate_is_kept_to_and_can_be_changed(hosts: Testbed) -> None:
    hosts.link.set(rate_mbit=None)
    with relayed(hosts, ("--mib", "64", "--mode", "idle"), ("--push",), ("--rate", "4M"), push=True) as migration:
        migration.until(lambda s: s["received_bytes"] > 1 << 20, "it began")
        began, before = time.monotonic(), migration.op("state")["push"]["sent_bytes"]
        time.sleep(2)
        sent = migration.op("state")["push"]["sent_bytes"] - before
        elapsed = time.monotonic() - began
        assert 0 < sent < 1.5 * 4 * 2**20 * elapsed
        assert migration.op("rate", "--rate", "0")["rate"] == 0
        migration.complete()


def test_pages_that_shrink_are_packed_on_a_slow_link_and_zero_ones_not_sent(hosts: Testbed) -> None:
    hosts.link.set(rate_mbit=100, rtt_ms=0)
    with relayed(hosts, ("--mib", "64", "--mode", "idle", "--compressible"), ("--push",), push=True) as migration:
        stats = migration.complete()
        packed = migration.last_state["push"]
    assert packed["packed_pages"] > 64 * 256 / 2
    assert stats["received_bytes"] < 0.75 * 64 * 2**20


def test_sessions_lost_while_they_begin_lose_no_page(hosts: Testbed) -> None:
    """With a key, the end of a stream that is being opened looks like a refusal."""
    for host in (hosts.src, hosts.dst):
        host.write("/root/migration.key", KEY + "\n", mode=0o600)
    key = ("--tls-psk", "/root/migration.key")
    control = hosts.src.root / CONTROL.lstrip("/")
    with relayed(hosts, TASK, ("--push=4", *RECONNECT, *key), key, push=True) as migration:
        migration.until_share(0.1)
        for i in range(100):
            relay_control.request(control, "drop")
            time.sleep(i % 20 / 1000)
        assert migration.complete()["reconnects"] > 10


def test_with_a_key_only_who_knows_it_is_served(hosts: Testbed) -> None:
    for host in (hosts.src, hosts.dst):
        host.write("/root/migration.key", KEY + "\n", mode=0o600)
    key = ("--tls-psk", "/root/migration.key")
    with relayed(hosts, TASK, ("--push", *RECONNECT, *key), key, push=True) as migration:
        stranger = connect_inside(hosts.src, PORT, hosts.src.address)
        stranger.sendall(struct.pack("<IIQQQ", GET, 0, 1, 0x10000, migration.task.pid) * 4)
        with pytest.raises((EOFError, ConnectionResetError)):
            while stranger.recv(4096) != b"":
                pass
            raise EOFError
        stranger.close()
        migration.op("drop")
        assert migration.complete()["reconnects"] == 1

