"""`criu-lazy page-server --tree` pushes: real tasks, verified page by page, whatever breaks."""

from __future__ import annotations

import contextlib
import itertools
import socket
import struct
import subprocess
import time

import pytest
from lazy_migration import CONTROL, PORT, lazy_migration
from lazy_source import GET, connect_inside

from criu_lazy_ext.source import control_socket
from testbed import Testbed

TASK = ("--mib", "128", "--threads", "2", "--ops", "all")
IDLE = ("--mib", "64", "--mode", "idle")
# PARENT, one stream, "CLPUSH" of version 1, and another client's number (docs/protocol.md).
HELLO = {1: (5, 1, 0x434C505553480001, 77 << 8 | 1), 2: (5, 0, 1, 0x434C505553480001, 77 << 8 | 1)}
BUSY = 1
RECONNECT = ("--reconnect-seconds", "60")
pytestmark = pytest.mark.usefixtures("slow_link")
KEY = "9f" * 32


def test_a_task_is_pushed_by_several_streams(hosts: Testbed) -> None:
    hosts.link.set(rate_mbit=50)
    with lazy_migration(hosts, TASK, ("--push=4",), push=True) as migration:
        migration.until_share(0.05)
        state = migration.op("state")
        hosts.link.set(rate_mbit=500)
        assert state["state"] == "serving" and state["client"]
        assert migration.complete()["push_streams"] == 4
    assert state["push"]["streams"] == 4 and state["push"]["pushed_pages"] > 0


def test_other_clients_are_served_as_before(hosts: Testbed) -> None:
    with lazy_migration(hosts, TASK, push=True) as migration:
        assert migration.complete()["push_streams"] == 0


def test_a_page_server_that_cannot_push_says_so(hosts: Testbed) -> None:
    with lazy_migration(hosts, TASK, ("--push",)) as migration:
        assert migration.complete()["push_streams"] == 0


def test_ten_sessions_lost_in_one_transfer_lose_no_page(hosts: Testbed) -> None:
    hosts.link.set(rate_mbit=150, rtt_ms=0.2)  # each drop takes half a second on a busy machine
    with lazy_migration(hosts, TASK, ("--push", *RECONNECT), push=True) as migration:
        for i in range(10):
            migration.until_share(i / 20)
            migration.op("drop")
            migration.until(lambda s, i=i: s["reconnects"] > i, "the daemon is back")
        assert migration.complete()["reconnects"] == 10


def test_a_cut_link_pauses_the_transfer(hosts: Testbed) -> None:
    with lazy_migration(hosts, TASK, ("--push", *RECONNECT), push=True) as migration:
        migration.until_share(0.2)
        hosts.link.cut()
        time.sleep(8)
        hosts.link.mend()
        assert migration.complete()["reconnects"] > 0


def test_a_page_server_that_is_killed_is_followed_by_another_that_pushes(hosts: Testbed) -> None:
    hosts.link.set(rate_mbit=100, rtt_ms=0.2)  # pages are missing when the last is killed
    with lazy_migration(hosts, TASK, ("--push",), push=True) as migration:  # without limit is the default
        for i in range(3):
            migration.until_share(0.25 * i + 0.1)
            migration.kill_server()
            migration.until(lambda s, i=i: s["reconnects"] > i, "the daemon is back")
        hosts.link.set(rate_mbit=500, rtt_ms=0.2)
        assert migration.complete()["reconnects"] >= 3


def test_the_rate_is_kept_to_and_can_be_changed(hosts: Testbed) -> None:
    hosts.link.set(rate_mbit=None)
    with lazy_migration(hosts, IDLE, ("--push",), ("--rate", "4M"), push=True) as migration:
        migration.until(lambda s: s["received_bytes"] > 1 << 20, "it began")
        began, before = time.monotonic(), migration.op("state")["push"]["sent_bytes"]
        time.sleep(2)
        sent = migration.op("state")["push"]["sent_bytes"] - before
        elapsed = time.monotonic() - began
        assert 0 < sent < 1.5 * 4 * 2**20 * elapsed
        assert migration.op("rate", rate=0)["rate"] == 0
        migration.complete()


def test_pages_that_shrink_are_packed_on_a_slow_link_and_zero_ones_not_sent(hosts: Testbed) -> None:
    hosts.link.set(rate_mbit=100, rtt_ms=0)
    with lazy_migration(hosts, (*IDLE, "--compressible"), ("--push",), push=True) as migration:
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
    hosts.link.set(rate_mbit=50)  # pages are missing until the last of these sessions
    with lazy_migration(hosts, TASK, ("--push=4", *key), key, push=True) as migration:
        migration.until_share(0.05)
        # How many sessions fit into a time is the machine's business: where no page comes in one, the next is put off.
        for i in itertools.count():
            assert migration.daemon.poll() is None, migration.daemon_log()
            if control_socket.request(control, "drop")["push"]["sessions"] > 20:
                break
            time.sleep(i % 20 / 1000)
        hosts.link.set(rate_mbit=500)
        assert migration.complete()["reconnects"] > 0


def test_with_a_key_only_who_knows_it_is_served(hosts: Testbed) -> None:
    for host in (hosts.src, hosts.dst):
        host.write("/root/migration.key", KEY + "\n", mode=0o600)
    key = ("--tls-psk", "/root/migration.key")
    with lazy_migration(hosts, TASK, ("--push", *RECONNECT, *key), key, push=True) as migration:
        stranger = connect_inside(hosts.src, PORT, hosts.src.address)
        stranger.sendall(struct.pack("<IIQQQ", GET, 0, 1, 0x10000, migration.task.pid) * 4)
        with pytest.raises((EOFError, ConnectionResetError)):
            while stranger.recv(4096) != b"":
                pass
            raise EOFError
        stranger.close()
        migration.op("drop")
        assert migration.complete()["reconnects"] == 1



def test_a_frozen_task_that_is_killed_loses_no_page(hosts: Testbed) -> None:
    """The dump has its pages still: the daemon asks for them, also after another page server has followed."""
    with lazy_migration(hosts, IDLE, ("--push", *RECONNECT), ("--rate", "4M"), push=True) as migration:
        hosts.link.set(rate_mbit=100)
        migration.until_share(0.05)
        assert migration.op("state")["source_tasks"] == {"alive": [migration.task.pid], "killed": []}
        hosts.src.run(["kill", "-KILL", str(migration.task.pid)])
        migration.until(lambda s: s["reconnects"] > 0, "the daemon is back, for what is missing")
        tasks = migration.op("state")["source_tasks"]
        assert tasks == {"alive": [], "killed": [migration.task.pid]}, "told at once"
        migration.kill_server()
        migration.await_server()
        migration.complete()
        assert migration.last_state["source_tasks"] == tasks


def test_a_second_daemon_is_refused_in_words_and_the_first_goes_on(hosts: Testbed) -> None:
    version = 1 if hosts.src.criu.startswith("4.1") else 2
    with lazy_migration(hosts, IDLE, ("--push", *RECONNECT), ("--rate", "4M"), push=True) as migration:
        migration.until_share(0.05)
        hello = struct.pack("<IIQQQ" if version == 2 else "<IIQQ", *HELLO[version])
        second = connect_inside(hosts.src, PORT, hosts.src.address)
        second.sendall(hello + b"\x07")
        assert second.recv(24, socket.MSG_WAITALL) == struct.pack("<4sHH16x", b"CLPR", 1, BUSY)
        assert second.recv(1) == b"", "and it is closed"
        stock = connect_inside(hosts.src, PORT, hosts.src.address)
        stock.sendall(struct.pack("<IIQQQ", GET, 0, 1, 0x10000, migration.task.pid))
        with contextlib.suppress(ConnectionResetError):
            assert stock.recv(1) == b""
        migration.op("rate", rate=0)
        migration.complete()


def test_strangers_do_not_keep_the_daemon_from_coming_back(hosts: Testbed) -> None:
    strangers = [f"s{i}=socket.create_connection(('{hosts.src.address}', {PORT}))" for i in range(100)]
    program = "import socket, time; " + "; ".join(strangers) + "; print(1, flush=True); time.sleep(600)"
    with lazy_migration(hosts, IDLE, ("--push", *RECONNECT), ("--rate", "4M"), push=True) as migration:
        migration.until_share(0.05)
        crowd = hosts.src.popen(["python3", "-c", program], stdout=subprocess.PIPE)
        try:
            assert crowd.stdout.readline() == b"1\n"
            migration.op("drop")
            migration.until(lambda s: s["reconnects"] > 0, "the daemon is back")
            migration.op("rate", rate=0)
            migration.complete()
        finally:
            crowd.kill_session()
            crowd.wait(30)
