"""`criu-lazy migrate` and its other half: what hangs, is slow, or dies there."""

from __future__ import annotations

import json
import time

import pytest
from lazy_source import eventually
from migrating import (
    BASE,
    COMMITTED,
    FAILED,
    ROLLED_BACK,
    UNDECIDED,
    Migration,
    Worker,
    assert_clean,
    assert_moved,
    daemons,
    kill_agent,
    pids_of,
    running,
)


def with_big_images(worker: Worker, megabytes: int) -> Worker:
    """A task all of whose memory goes into the images."""
    worker.end()
    return Worker(worker.testbed, megabytes, "at-page-start")


def image_bytes(worker: Worker) -> int:
    """How much of the images has come to the destination."""
    root = worker.testbed.dst.root / "var/lib/criu-lazy"
    return sum(path.stat().st_size for path in root.glob("*/images/*.img"))


def test_an_agent_that_hangs_while_images_are_sent(worker: Worker) -> None:
    testbed = worker.testbed
    worker = with_big_images(worker, 32)
    testbed.link.set(rate_mbit=20, rtt_ms=0.2)
    migration = Migration(testbed, BASE)
    eventually(lambda: image_bytes(worker) > 1 << 20, "images are coming")
    agents = list(map(str, pids_of(testbed.dst, "python", "criu-lazy agent")))
    testbed.dst.run(["kill", "-STOP", *agents])
    try:
        assert migration.end() == ROLLED_BACK, migration.stderr
        assert "said nothing for" in migration.report["message"]
        assert "the source task runs on" in migration.report["message"]
        assert worker.answers(testbed.src) == "right\n"
    finally:
        testbed.dst.run(["kill", "-CONT", *agents], check=False)
    assert_clean(testbed)


def test_images_on_a_thin_link_are_not_taken_for_silence(worker: Worker) -> None:
    testbed = worker.testbed
    worker = with_big_images(worker, 4)
    testbed.link.set(rate_mbit=2.5, rtt_ms=20)
    migration = Migration(testbed, BASE)
    assert_moved(worker, migration)
    assert migration.report["image_bytes"] > 4 << 20


@pytest.fixture
def broken_pycriu(worker: Worker) -> object:
    dst = worker.testbed.dst
    code = "import importlib.util; print(importlib.util.find_spec('pycriu').origin)"
    path = dst.run(["/usr/bin/python3", "-c", code]).stdout.strip()
    before = dst.read(path)
    dst.write(path, "raise TypeError('broken here')\n" + before)
    yield path
    dst.write(path, before)


def test_a_pycriu_that_cannot_be_imported_is_told_at_once(worker: Worker, broken_pycriu: str) -> None:
    migration = Migration(worker.testbed, BASE)
    assert migration.end(30) == FAILED, migration.stderr
    message = migration.report["message"]
    assert "pycriu" in message and "broken here" in message and "\n" not in message
    assert "Traceback" not in migration.stderr
    assert worker.answers(worker.testbed.src) == "right\n"
    assert_clean(worker.testbed)


BLACK_HOLE = """table inet hole {
  chain in {
    type filter hook input priority 0;
    ip saddr 10.77.0.1 tcp sport != 22 tcp dport != 22 meta length gt 900 drop;
  }
}
"""


def test_a_path_that_drops_bulk_is_told_in_the_preflight(worker: Worker) -> None:
    testbed = worker.testbed
    testbed.dst.run(["nft", BLACK_HOLE])
    try:
        migration = Migration(testbed, BASE)
        assert migration.end() == FAILED, migration.stderr
    finally:
        testbed.dst.run(["nft", "delete table inet hole"])
    assert "passes small packets, but not bulk data" in migration.report["message"]
    assert worker.answers(testbed.src) == "right\n"
    assert_clean(testbed)


def test_the_daemon_goes_on_when_the_agent_and_then_the_daemon_is_killed(worker: Worker) -> None:
    """The keeper, which outlives the agent, starts another daemon."""
    dst = worker.testbed.dst
    migration = running(worker)
    (daemon,) = daemons(dst)
    keeper = pids_of(dst, "python", "criu-lazy agent")[1]
    kill_agent(dst)
    eventually(lambda: pids_of(dst, "python", "criu-lazy agent") == [keeper], "only the keeper is left")
    time.sleep(0.5)
    dst.run(["kill", "-9", str(daemon)])
    assert_moved(worker, migration)
    assert "waiting for the last page" in migration.report["warnings"][0]


def test_the_restored_task_is_left_to_init_when_the_migration_is_over(worker: Worker) -> None:
    dst = worker.testbed.dst
    migration = running(worker)
    status = dst.read(f"/proc/{worker.pid}/status")
    keeper = pids_of(dst, "python", "criu-lazy agent")[1]
    assert f"\nPPid:\t{keeper}\n" in status
    assert_moved(worker, migration)
    assert "\nPPid:\t1\n" in dst.read(f"/proc/{worker.pid}/status")
    assert "Z" not in dst.run(["ps", "-eo", "state="]).stdout.split(), "no zombies"


def test_a_restored_task_that_is_killed_while_its_memory_follows_is_still_at_the_source(worker: Worker) -> None:
    testbed = worker.testbed
    migration = running(worker)
    testbed.dst.run(["kill", "-9", str(worker.pid)])
    assert migration.end() == UNDECIDED, migration.stderr
    message = migration.report["message"]
    assert f"the restored task {worker.pid} was killed by SIGKILL with" in message
    assert "pages missing; the source still has them" in message
    assert worker.is_on(testbed.src)
    (outcome,) = (testbed.dst.root / "var/lib/criu-lazy").glob("*/outcome.json")
    told = json.loads(outcome.read_text())
    assert (told["status"], [(task["pid"], task["how"]) for task in told["ended"]]) == (
        4,
        [(worker.pid, "killed by SIGKILL")],
    )
    assert 0 < told["lost_pages"] == told["ended"][0]["missing_pages"]
    assert migration.decide("--abort", "--force").returncode == 0
    assert worker.answers(testbed.src) == "right\n"


def test_a_restored_task_that_ends_by_itself_is_committed(worker: Worker) -> None:
    testbed = worker.testbed
    migration = running(worker)
    (testbed.dst.root / worker.directory[1:] / "exit").touch()
    assert migration.end() == COMMITTED, migration.stderr
    assert "ended by itself, with status 0" in f"{migration.report['message']} {migration.report['warnings']}"
    assert "every page arrived, but for those of processes that ended by themselves;" in migration.stderr
    worker.is_gone_from(testbed.src)
    assert_clean(testbed)


REFUSED = """table inet refused {{
  chain out {{
    type filter hook output priority 0;
    ip daddr 10.77.0.1 tcp dport {port} reject with tcp reset;
  }}
}}
"""


def test_a_successor_that_cannot_reach_the_page_server_gives_nothing_up(worker: Worker) -> None:
    """It waits for it; where that fails, others follow."""
    dst = worker.testbed.dst
    migration = running(worker)
    dst.run(["nft", REFUSED.format(port=migration.journal()["port"])])
    try:
        (daemon,) = daemons(dst)
        dst.run(["kill", "-9", str(daemon)])
        eventually(lambda: daemons(dst) - {daemon}, "a successor")
        time.sleep(5)
        assert migration.process.poll() is None
    finally:
        dst.run(["nft", "delete table inet refused"])
    assert_moved(worker, migration)


def test_a_path_that_drops_bulk_from_the_freeze_on_is_told_before_the_task_runs(worker: Worker) -> None:
    testbed = worker.testbed
    testbed.dst.write("/srv/hole.nft", BLACK_HOLE)
    hook = "hooks: {before_restore: [{run: nft -f /srv/hole.nft, on: destination}]}\n"
    try:
        migration = Migration(testbed, BASE + hook)
        assert migration.end() == ROLLED_BACK, migration.stderr
    finally:
        testbed.dst.run(["nft", "delete table inet hole"], check=False)
    assert "page faults wait, and no page came" in migration.report["message"]
    assert worker.answers(testbed.src) == "right\n"
    assert_clean(testbed)
