"""`criu-lazy migrate` with pre-copy: what has not changed is not sent again; whatever dies, no task is lost."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from lazy_source import eventually
from migrating import (
    COMMITTED,
    FAILED,
    Migration,
    assert_clean,
    kill,
    kill_agent,
    kill_ours,
    ours,
)
from paths import CONFIGS
from vm import TRACKED

from bench.handmade import MemTask, start_memtask
from testbed import Testbed

MIB, THREADS = (32, "1") if TRACKED else (96, "2")
PAGES = MIB * 256
# A machine of its own is an emulated one, and slow.
SILENCE_S = 20 if TRACKED else 3
BASE = f"task: {{pidfile: /run/memtask.pid}}\ndestination: {{ssh: dst}}\ntimeouts: {{silence: {SILENCE_S}}}\n"
AUTO = BASE + "precopy: {stop_when: {remaining: 1M}}\n"
# So slow that things can happen in the first round.
SLOWLY = BASE + "precopy: {bandwidth: 4M}\n"
# Some pages are written all the time, most now and then or never.
WRITING = ("--mib", str(MIB), "--threads", THREADS, "--mode", "zipf", "--write-percent", "1")


@pytest.fixture
def hosts(testbed: Testbed) -> Iterator[Testbed]:
    testbed.link.set(rate_mbit=500, rtt_ms=0.2)
    yield testbed
    if testbed.link.is_cut:
        testbed.link.mend()
    testbed.link.set()
    for host in (testbed.src, testbed.dst):
        kill_ours(host)
        host.run(["sh", "-c", "pkill -9 -x memtask; rm -rf /var/lib/criu-lazy* /run/memtask.pid /root/m*.yaml"])


def start(hosts: Testbed, *options: str) -> MemTask:
    task = start_memtask(hosts, *options)
    hosts.src.write("/run/memtask.pid", f"{task.pid}\n")
    return task


def in_round(hosts: Testbed, profile: str = SLOWLY) -> Migration:
    """A migration in the middle of its first round."""
    migration = Migration(hosts, profile)

    def some_came() -> bool:
        if migration.process.poll() is not None:
            migration.end()
        assert migration.status == -1, (migration.report, migration.stderr)
        return bool(stored_bytes(hosts)) and migration.is_in("pre-copy")

    eventually(some_came, "pages are stored")
    return migration


def stored_bytes(hosts: Testbed) -> int:
    """What the store's file takes, wherever it is in these tests."""
    files = [*hosts.dst.root.glob("var/lib/criu-lazy/*/store/pages"), *hosts.dst.root.glob("srv/stores/*/pages")]
    return sum(path.stat().st_blocks * 512 for path in files)


def assert_nothing_was_touched(hosts: Testbed, migration: Migration, task: MemTask, *says: str) -> None:
    assert migration.end() == FAILED, (migration.report, migration.stderr)
    assert migration.report["outcome"] == "failed"
    for word in (*says, "the source task runs on"):
        assert word in migration.report["message"]
    assert_clean(hosts)
    assert task.verify(hosts.src)["errors"] == 0


def assert_moved(hosts: Testbed, migration: Migration, task: MemTask) -> None:
    assert migration.end(600) == 0, f"{migration.report.get('message')}\n{migration.stderr}"
    assert migration.report["outcome"] == "committed"
    verdict = task.verify(hosts.dst)
    assert verdict["errors"] == 0 and verdict["children_bad"] == 0
    assert_clean(hosts)


def test_what_has_not_changed_is_not_sent_again(hosts: Testbed) -> None:
    task = start(hosts, *WRITING)
    migration = Migration(hosts, AUTO)
    assert_moved(hosts, migration, task)
    report = migration.report
    told = report["precopy"]
    assert report["warnings"] == [] and told["used"]
    assert told["rounds"][0]["sent_pages"] >= PAGES
    for i, done in enumerate(told["rounds"]):
        assert done["unread_pages"] > 0 or i == 0 or not TRACKED
    assert told["bytes"] == sum(r["sent_bytes"] for r in told["rounds"])
    assert f"pre-copy is over: {told['stopped']}" in migration.stderr
    assert len(re.findall(r"pre-copy, round \d+: ", migration.stderr)) == len(told["rounds"])
    assert report["same_pages"] > PAGES / 4
    # A page that is asked for when a stream already has it comes twice.
    twice = report["demand_faults"] * 4096
    assert report["received_bytes"] < (report["lazy_pages"] - report["same_pages"]) * 4096 + twice + PAGES * 32
    assert list(report["phases_s"])[:2] == ["pre-copy", "dumping"]


def test_an_idle_task_is_all_there_after_one_round(hosts: Testbed) -> None:
    task = start(hosts, "--mib", str(MIB), "--mode", "idle")
    migration = Migration(hosts, BASE + "precopy: {rounds: 1}\n")
    assert_moved(hosts, migration, task)
    assert len(migration.report["precopy"]["rounds"]) == 1
    assert migration.report["same_pages"] >= PAGES
    assert migration.report["received_bytes"] < PAGES * 4096 / 16


def test_a_profile_that_says_nothing_gets_what_pays(hosts: Testbed) -> None:
    """At 100 Mbit/s all of it would take seconds to follow; a disk that holds it twice is there."""
    task = start(hosts, *WRITING)
    hosts.link.set(rate_mbit=100, rtt_ms=0.2)
    migration = Migration(hosts, BASE)
    assert_moved(hosts, migration, task)
    assert migration.report["strategy"] == "pre-copy while the task runs, then what has changed, lazily"
    assert migration.report["precopy"]["used"] and migration.report["same_pages"] > PAGES / 4
    assert f"strategy: {migration.report['strategy']}" in migration.stderr


def test_where_the_store_would_take_memory_twice_nothing_is_copied_before(hosts: Testbed) -> None:
    task = start(hosts, *WRITING)
    hosts.link.set(rate_mbit=100, rtt_ms=0.2)
    hosts.dst.run(["sh", "-c", "mkdir -p /srv/ram && mount -t tmpfs none /srv/ram"])
    try:
        migration = Migration(hosts, BASE + "directories: {destination: /srv/ram}\n")
        assert_moved(hosts, migration, task)
    finally:
        hosts.dst.run(["umount", "-l", "/srv/ram"])
    why = "purely lazy: dst: /srv/ram/"
    assert migration.report["strategy"].startswith(why) and "is a tmpfs" in migration.report["strategy"]
    assert migration.report["precopy"] is None


def test_a_task_that_forks_and_moves_its_memory_is_right(hosts: Testbed) -> None:
    task = start(hosts, "--mib", str(MIB), "--threads", "2", "--ops", "all", "--guards")
    assert_moved(hosts, Migration(hosts, AUTO), task)


def test_a_task_that_changes_everything_goes_lazy_at_once(hosts: Testbed) -> None:
    task = start(hosts, "--mib", "64", "--threads", "2", "--mode", "sequential", "--write-percent", "100")
    hosts.link.set(rate_mbit=100, rtt_ms=0.2)
    migration = Migration(hosts, BASE + "precopy: {}\n")
    assert_moved(hosts, migration, task)
    told = migration.report["precopy"]
    assert "the task changes its memory faster than it can be sent: " in told["stopped"]
    assert len(told["rounds"]) <= 1
    assert told["bytes"] < 64 << 20


def test_a_task_that_begins_to_change_everything_is_noticed_in_the_first_round(hosts: Testbed) -> None:
    task = start(hosts, "--mib", "64", "--threads", "2", "--mode", "sequential", "--write-percent", "100", "--hold")
    migration = in_round(hosts, BASE + "precopy: {bandwidth: 1M}\n")
    task.toggle(hosts.src)
    hosts.link.set()
    assert_moved(hosts, migration, task)
    told = migration.report["precopy"]
    assert "the task changes its memory faster than it can be sent: " in told["stopped"]
    assert len(told["rounds"]) == 1
    assert told["used"] and 0 < told["bytes"] < 64 << 20


def test_a_round_ends_when_its_time_is_up(hosts: Testbed) -> None:
    task = start(hosts, "--mib", str(MIB), "--mode", "idle")
    migration = Migration(hosts, BASE + "precopy: {bandwidth: 4M, max_seconds: 1.5}\n")
    assert_moved(hosts, migration, task)
    told = migration.report["precopy"]
    assert "s were spent, of at most 1.5 s" in told["stopped"]
    assert len(told["rounds"]) == 1
    # What it had sent need not be sent again.
    assert told["used"] and 0 < told["rounds"][0]["sent_pages"] < PAGES / 2
    assert 0 < migration.report["same_pages"] <= told["rounds"][0]["sent_pages"] + 64


def test_at_the_deadline_the_rounds_are_cut_short(hosts: Testbed) -> None:
    task = start(hosts, "--mib", str(MIB), "--mode", "idle")
    migration = Migration(hosts, SLOWLY + "deadline: 8\ndowntime_limit: 60\n")
    assert_moved(hosts, migration, task)
    told = migration.report["precopy"]
    assert told["stopped"] == "the deadline of 8 s has passed" and told["used"] and len(told["rounds"]) == 1
    assert told["rounds"][0]["sent_pages"] < PAGES / 2
    assert migration.report["phases_s"]["dumping"] >= 8


def test_a_deadline_that_has_passed_already_leaves_out_the_rounds(hosts: Testbed) -> None:
    task = start(hosts, "--mib", "16", "--mode", "idle")
    migration = Migration(hosts, SLOWLY + "deadline: 0.01\n")
    assert_moved(hosts, migration, task)
    told = migration.report["precopy"]
    assert (told["stopped"], told["rounds"]) == ("the deadline of 0.01 s has passed", [])


def test_a_task_not_frozen_by_the_deadline_may_stay(hosts: Testbed) -> None:
    task = start(hosts, "--mib", str(MIB), "--mode", "idle")
    migration = in_round(hosts, SLOWLY + "deadline: 5\nat_deadline: give-up\n")
    says = "the deadline of 5 s has passed, and the task is not frozen yet (at_deadline: give-up)"
    assert_nothing_was_touched(hosts, migration, task, says)


def test_bandwidth_holds_for_the_rounds_only(hosts: Testbed) -> None:
    hosts.link.set()
    # The round ends before all is sent, so that it takes a while afterwards, too.
    task = start(hosts, "--mib", "64", "--mode", "idle")
    profile = BASE + "source: {rate: 9M}\nprecopy: {bandwidth: 8M, max_seconds: 1.5, stop_when: {remaining: 1K}}\n"
    migration = Migration(hosts, profile)
    rate = eventually(lambda: asked_rate(migration, "pre-copy"), "rounds")
    assert rate == 8 << 20
    rate = eventually(lambda: asked_rate(migration, "MB sent"), "it serves")
    assert rate == 9 << 20
    assert_moved(hosts, migration, task)


def test_a_rate_given_in_a_round_holds_after_it(hosts: Testbed) -> None:
    task = start(hosts, "--mib", "24", "--mode", "idle")
    hosts.link.set()
    profile = BASE + "source: {rate: 9M}\nprecopy: {bandwidth: 4M, max_seconds: 1.5, stop_when: {remaining: 1K}}\n"
    migration = in_round(hosts, profile)
    assert migration.decide("--rate", "6M").returncode == 0
    assert eventually(lambda: asked_rate(migration, "MB sent"), "it serves") == 6 << 20
    assert_moved(hosts, migration, task)


def test_bandwidth_does_not_hold_where_rounds_are_left_out(hosts: Testbed) -> None:
    task = start(hosts, "--mib", "24", "--threads", "2", "--mode", "sequential", "--write-percent", "100")
    migration = Migration(hosts, BASE + "source: {rate: 7M}\nprecopy: {bandwidth: 4M}\n")
    assert eventually(lambda: asked_rate(migration, "MB sent"), "it serves") == 7 << 20
    assert_moved(hosts, migration, task)
    assert "faster than it can be sent" in migration.report["precopy"]["stopped"]


def asked_rate(migration: Migration, state: str) -> int:
    """What `--status` says of the rate, once it says `state`."""
    said = migration.decide("--status").stdout if migration.is_in("pre-copy", "running") else ""
    lines = [line for line in said.splitlines() if line.startswith("pages may take ")]
    return int(lines[0].split()[3]) if state in said and lines else 0


def test_where_the_store_lies_is_the_profiles(hosts: Testbed) -> None:
    task = start(hosts, *WRITING)
    migration = in_round(hosts, BASE + "precopy: {bandwidth: 32M, directory: /srv/stores}\n")
    assert list(hosts.dst.root.glob("srv/stores/*/pages"))
    assert_moved(hosts, migration, task)
    assert list(hosts.dst.root.glob("srv/stores/*")) == []


def test_a_store_killed_in_a_round_leaves_a_lazy_migration(hosts: Testbed) -> None:
    task = start(hosts, *WRITING)
    migration = in_round(hosts)
    kill(hosts.dst, "python", "page-store")
    assert_moved(hosts, migration, task)
    warning = "dst: page-store was killed by SIGKILL; going on without pre-copy"
    assert migration.report["warnings"] == [warning]
    assert migration.report["same_pages"] == 0
    assert not migration.report["precopy"]["used"]


def test_a_daemon_killed_before_it_has_its_command_line_is_started_anew(hosts: Testbed) -> None:
    task = start(hosts, *WRITING)
    migration = in_round(hosts, BASE + "precopy: {bandwidth: 32M}\n")
    kill(hosts.dst, "python", "standby lazy-pages")
    assert_moved(hosts, migration, task)
    assert migration.report["warnings"] == []


def test_a_page_server_killed_in_a_round_touches_nothing(hosts: Testbed) -> None:
    task = start(hosts, *WRITING)
    migration = in_round(hosts)
    kill(hosts.src, "python", "page-server")
    assert_nothing_was_touched(hosts, migration, task, "the page server ended by itself")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_in_a_round_by_a_signal(hosts: Testbed, number: signal.Signals) -> None:
    task = start(hosts, *WRITING)
    migration = in_round(hosts)
    migration.process.send_signal(number)
    assert_nothing_was_touched(hosts, migration, task, f"stopped by {number.name}")


def test_an_agent_killed_in_a_round_touches_nothing(hosts: Testbed) -> None:
    task = start(hosts, *WRITING)
    migration = in_round(hosts, BASE + "precopy: {bandwidth: 4M, directory: /srv/stores}\n")
    kill_agent(hosts.dst)
    assert_nothing_was_touched(hosts, migration, task, "dst: the agent was killed by SIGKILL")
    assert list(hosts.dst.root.glob("srv/stores/*")) == []


def test_another_profile_can_t_move_it_meanwhile(hosts: Testbed) -> None:
    """Also after a failure of the first one."""
    task = start(hosts, *WRITING)
    migration = in_round(hosts)
    text = hosts.src.read(migration.path)
    for options in ((), ("--dry-run",)):
        other = Migration(hosts, text, *options)
        assert other.end() == FAILED
        assert f"task {task.pid} is being moved already, by another profile: see criu-lazy status" in other.stderr
    assert migration.is_in("pre-copy")
    hosts.src.run(["criu-lazy", "cancel", migration.path])
    assert migration.end() == FAILED
    later = Migration(hosts, text, "--dry-run")
    assert later.end() == COMMITTED, later.stderr
    assert task.verify(hosts.src)["errors"] == 0


def test_migrate_itself_killed_in_a_round(hosts: Testbed) -> None:
    task = start(hosts, *WRITING)
    migration = in_round(hosts)
    assert "pre-copy; store: connected" in migration.decide("--status").stdout
    kill(hosts.src, "python", "criu-lazy migrate")
    migration.end()
    eventually(lambda: ours(hosts.src) == [] and ours(hosts.dst) == [], "nothing of it runs")
    assert migration.decide("--status").stdout.endswith(": failed\n"), "it was not frozen"
    assert task.verify(hosts.src)["errors"] == 0


def test_a_link_cut_in_a_round_touches_nothing(hosts: Testbed) -> None:
    task = start(hosts, *WRITING)
    migration = in_round(hosts)
    hosts.link.cut()
    assert migration.end() == FAILED, migration.stderr
    eventually(lambda: ours(hosts.dst) == [], "the destination noticed, too", 15)
    hosts.link.mend()
    assert "the source task runs on" in migration.report["message"]
    assert_clean(hosts)
    assert task.verify(hosts.src)["errors"] == 0


def test_a_store_without_room_is_refused(hosts: Testbed) -> None:
    task = start(hosts, *WRITING)
    hosts.dst.run(["sh", "-c", "mkdir -p /srv/small && mount -t tmpfs -o size=8m none /srv/small"])
    try:
        migration = Migration(hosts, BASE + "precopy: {directory: /srv/small}\n")
        assert_nothing_was_touched(hosts, migration, task, "dst: 8 MB are free at /srv/small, and the task has")
    finally:
        hosts.dst.run(["umount", "/srv/small"])


def test_a_store_that_becomes_full_leaves_a_lazy_migration(hosts: Testbed) -> None:
    task = start(hosts, "--mib", str(MIB), "--mode", "idle")
    hosts.dst.run(["sh", "-c", "mkdir -p /srv/small && mount -t tmpfs -o size=512m none /srv/small"])
    try:
        migration = Migration(hosts, BASE + "precopy: {directory: /srv/small, bandwidth: 16M}\n")
        eventually(lambda: migration.is_in("pre-copy"), "its rounds have begun")
        hosts.dst.run(["sh", "-c", "head -c 500000000 /dev/zero >/srv/small/other"])
        assert_moved(hosts, migration, task)
        assert "No space left on device; going on without pre-copy" in migration.report["warnings"][0]
    finally:
        hosts.dst.run(["umount", "-l", "/srv/small"])


def test_a_dry_run_leaves_nothing(hosts: Testbed) -> None:
    task = start(hosts, *WRITING)
    migration = Migration(hosts, AUTO, "--dry-run")
    assert migration.end() == 0, migration.stderr
    assert_clean(hosts)
    assert task.verify(hosts.src)["errors"] == 0


def test_the_sample_is_right(hosts: Testbed) -> None:
    task = start(hosts, *WRITING)
    hosts.src.write("/run/worker.pid", f"{task.pid}\n")
    assert_moved(hosts, Migration(hosts, Path(CONFIGS / "precopy.yaml").read_text()), task)
