"""`criu-lazy migrate` until the restored task runs: whatever dies, the source task runs on alone."""

from __future__ import annotations

import os
import signal

import pytest
from lazy_source import eventually
from migrating import (
    BASE,
    COMMITTED,
    FAILED,
    HOLD,
    HOLD_DUMP,
    HOLD_RESTORE,
    ROLLED_BACK,
    Migration,
    Worker,
    ask_to_abort,
    assert_clean,
    assert_moved,
    assert_stayed,
    compile_task,
    held,
    kill,
    kill_agent,
    ours,
    pids_of,
    processes,
)

from testbed import Testbed


def test_a_killed_daemon(worker: Worker) -> None:
    migration = held(worker.testbed, BASE + HOLD)
    kill(worker.testbed.dst, "lazy-pages")
    assert_stayed(worker, migration, "dst: lazy-pages was killed by SIGKILL")


def test_a_killed_restore(worker: Worker) -> None:
    migration = held(worker.testbed, BASE + HOLD_RESTORE, at="pre-restore", host=worker.testbed.dst)
    assert migration.is_in("restoring")
    kill(worker.testbed.dst, "criu restore")
    assert_stayed(worker, migration, "dst: criu restore was killed by SIGKILL")


def test_a_restore_killed_with_everything_restored(worker: Worker) -> None:
    testbed = worker.testbed
    migration = held(testbed, BASE + HOLD_RESTORE, at="post-restore", host=testbed.dst)
    kill(testbed.dst, "criu restore")
    assert_stayed(worker, migration, "dst: criu restore was killed by SIGKILL")


def test_a_task_that_is_not_resumed_within_the_downtime_limit(worker: Worker) -> None:
    migration = Migration(worker.testbed, BASE + HOLD + "downtime_limit: 1\n")
    assert_stayed(worker, migration, "could not be resumed within 1 s of its freeze (downtime_limit)")


def test_a_restore_that_fails(worker: Worker) -> None:
    """The logs of both ends stay, and the message names them; the next migration of that name removes them."""
    src, dst = worker.testbed.src, worker.testbed.dst
    refused = "criu: {restore_options: [--no-such-option]}\naccept: [restore-options]\n"
    migration = Migration(worker.testbed, BASE + refused)
    here, there = f"/var/lib/criu-lazy/{migration.name}", f"/var/lib/criu-lazy/{migration.name}.failed"
    logs = f"logs: {here}/ (dump.log, migrate.log, page-server.log), dst: {there}/"
    assert_stayed(worker, migration, "dst: criu restore ended with status 1", logs)
    assert sorted(path.name for path in (dst.root / there[1:]).iterdir()) == ["agent.log", "lazy-pages.log"]
    src.write(migration.path, BASE)
    assert src.run(["criu-lazy", "migrate", "--quiet", migration.path], check=False).returncode == COMMITTED
    assert not (dst.root / there[1:]).exists() and not (src.root / here[1:]).exists()


def test_a_pid_taken_meanwhile_is_left_alone(worker: Worker) -> None:
    testbed = worker.testbed
    migration = held(testbed, BASE + HOLD)
    testbed.dst.run(["sh", "-c", f"echo {worker.pid - 1} >/proc/sys/kernel/ns_last_pid; sleep 1000 >&- 2>&- &"])
    assert {p.pid: p.command for p in processes(testbed.dst)}[worker.pid] == "sleep 1000"
    testbed.src.run(["rm", "/run/held"])
    assert migration.end() == ROLLED_BACK
    assert {p.pid: p.command for p in processes(testbed.dst)}[worker.pid] == "sleep 1000"
    testbed.dst.run(["kill", "-9", str(worker.pid)])
    testbed.dst.run(["sh", "-c", "echo 400 >/proc/sys/kernel/ns_last_pid"])
    assert_stayed(worker, migration, "criu restore")


def test_a_killed_ssh(worker: Worker) -> None:
    migration = held(worker.testbed, BASE + HOLD)
    kill(worker.testbed.src, "ssh", "criu-lazy agent")
    assert_stayed(worker, migration, "dst: the connection was closed")


@pytest.mark.parametrize("which", [0, 1, 2], ids=["first", "keeper", "agent"])
def test_a_killed_agent(worker: Worker, which: int) -> None:
    migration = held(worker.testbed, BASE + HOLD)
    agents = pids_of(worker.testbed.dst, "python", "criu-lazy agent")
    worker.testbed.dst.run(["kill", "-9", str(agents[which])])
    says = ["the connection was closed", "the connection was closed", "the agent was killed by SIGKILL"]
    assert_stayed(worker, migration, f"dst: {says[which]}")


def test_the_source_task_does_not_wait_until_a_killed_agent_s_half_is_undone(worker: Worker) -> None:
    src, dst = worker.testbed.src, worker.testbed.dst
    wait = "touch /run/undoing; while test -e /run/undoing; do sleep 0.05; done"
    undone = f"after_rollback: [{{run: '{wait}', on: destination}}]"
    dst.run(["rm", "-f", "/run/undoing"])
    migration = held(worker.testbed, BASE + HOLD.replace("{", f"{{{undone}, ", 1))
    kill_agent(dst)
    eventually((dst.root / "run/undoing").exists, "it is being undone")
    assert worker.answers(src) == "right\n"
    assert (dst.root / "run/undoing").exists()
    dst.run(["rm", "/run/undoing"])
    assert_stayed(worker, migration, "dst: the agent was killed by SIGKILL; the source task runs on")


def test_a_killed_page_server(worker: Worker) -> None:
    migration = held(worker.testbed, BASE + HOLD)
    server = pids_of(worker.testbed.src, "page-server")[0]  # the other one is its guardian
    worker.testbed.src.run(["kill", "-9", str(server)])
    assert_stayed(worker, migration, "ended by itself")


def test_an_agent_that_hangs(worker: Worker) -> None:
    """It answers nothing, though SSH's connection stands."""
    migration = held(worker.testbed, BASE + HOLD)
    agents = list(map(str, pids_of(worker.testbed.dst, "python", "criu-lazy agent")))
    worker.testbed.dst.run(["kill", "-STOP", *agents])
    try:
        assert migration.end() == ROLLED_BACK, migration.stderr
        assert "the source task runs on" in migration.report["message"]
        assert worker.answers(worker.testbed.src) == "right\n"
    finally:
        worker.testbed.dst.run(["kill", "-CONT", *agents], check=False)
    assert_clean(worker.testbed)


def test_a_killed_dump(worker: Worker) -> None:
    migration = held(worker.testbed, BASE + HOLD)
    kill(worker.testbed.src, "criu dump")
    assert_stayed(worker, migration, "criu dump ended by itself")


@pytest.mark.parametrize(("phase", "where"), [("after_dump", "source"), ("before_restore", "destination")])
def test_a_failing_hook(worker: Worker, phase: str, where: str) -> None:
    hooks = f"hooks: {{{phase}: [{{run: 'echo no room; exit 7', on: {where}}}]}}\n"
    migration = Migration(worker.testbed, BASE + hooks)
    assert_stayed(worker, migration, "hook 'echo no room; exit 7' ended with status 7: no room")


def test_a_hook_that_takes_too_long_is_killed(worker: Worker) -> None:
    hooks = "hooks: {before_restore: [{run: sleep 1234, on: destination, timeout: 0.5}]}\n"
    assert_stayed(worker, Migration(worker.testbed, BASE + hooks), "took longer than 0.5 s")
    assert pids_of(worker.testbed.dst, "sleep 1234") == []


UNDO = """
hooks:
  before_dump:
    - {run: touch /srv/here}
  before_restore:
    - {run: touch /srv/there, on: destination}
    - {run: 'touch /run/held; sleep 20; true'}
  after_rollback:
    - {run: rm /srv/here}
    - {run: rm /srv/there, on: destination}
"""


@pytest.mark.parametrize("victim", ["nobody", "ssh", "agent"])
def test_hooks_undo_on_both_ends_whoever_dies(worker: Worker, victim: str) -> None:
    src, dst = worker.testbed.src, worker.testbed.dst
    migration = held(worker.testbed, BASE + UNDO)
    if victim == "nobody":
        migration.process.send_signal(signal.SIGINT)
    elif victim == "ssh":
        kill(src, "ssh", "criu-lazy agent")
    else:
        kill_agent(dst)
    assert_stayed(worker, migration)
    assert migration.report["warnings"] == []
    assert src.run(["test", "-e", "/srv/here"], check=False).returncode == 1
    eventually(lambda: dst.run(["test", "-e", "/srv/there"], check=False).returncode == 1, "the destination undid")


def test_a_hook_before_the_dump_is_undone_though_nothing_was_frozen(worker: Worker) -> None:
    hooks = "hooks: {before_dump: [{run: touch /srv/here}, {run: 'false'}], after_rollback: [{run: rm /srv/here}]}\n"
    migration = Migration(worker.testbed, BASE + hooks)
    assert migration.end() == FAILED, migration.stderr
    assert migration.report["warnings"] == []
    assert worker.testbed.src.run(["test", "-e", "/srv/here"], check=False).returncode == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("state", ["dumping", "serving"])
def test_stopped_by_a_signal(worker: Worker, number: signal.Signals, state: str) -> None:
    testbed = worker.testbed
    dumping = state == "dumping"
    migration = held(testbed, BASE + (HOLD_DUMP if dumping else HOLD), at="pre-dump" if dumping else "")
    assert migration.is_in(state)
    migration.process.send_signal(number)
    assert_stayed(worker, migration, f"stopped by {number.name}")


@pytest.mark.parametrize("state", ["dumping", "serving"])
def test_migrate_itself_killed(worker: Worker, state: str) -> None:
    testbed = worker.testbed
    dumping = state == "dumping"
    migration = held(testbed, BASE + (HOLD_DUMP if dumping else HOLD), at="pre-dump" if dumping else "")
    assert migration.is_in(state)
    kill(testbed.src, "python", "criu-lazy migrate")
    assert migration.end() != COMMITTED
    eventually(lambda: ours(testbed.src) == [], "the dump gave up", 15)
    assert worker.answers(testbed.src) == "right\n"
    told = migration.decide("--status")
    assert told.stdout == f"{migration.name}: task {worker.pid} -> dst: rolled-back\n"
    assert_clean(testbed)
    assert_moved(worker, Migration(testbed, BASE))


def test_an_operators_abort_before_the_task_runs(worker: Worker) -> None:
    migration = held(worker.testbed, BASE + HOLD)
    assert "stop it first: kill" in migration.decide("--abort").stderr
    assert worker.is_on(worker.testbed.src)
    assert ask_to_abort(migration).returncode == 0
    assert_stayed(worker, migration)


def test_a_cut_link(worker: Worker) -> None:
    migration = held(worker.testbed, BASE + HOLD)
    worker.testbed.link.cut()
    assert migration.end() == ROLLED_BACK
    eventually(lambda: ours(worker.testbed.dst) == [], "the destination noticed, too", 15)
    worker.testbed.link.mend()
    assert_stayed_after_end(worker, migration)


def assert_stayed_after_end(worker: Worker, migration: Migration) -> None:
    assert "the source task runs on" in migration.report["message"]
    assert worker.answers(worker.testbed.src) == "right\n"
    assert_clean(worker.testbed)


def test_a_dead_destination() -> None:
    if os.geteuid() != 0:
        pytest.skip("the testbed needs root")
    with Testbed.start(name=f"dead-{os.getpid()}") as testbed:
        compile_task(testbed)
        worker = Worker(testbed, 16)
        migration = held(testbed, BASE + HOLD)
        os.kill(testbed.dst.pid, signal.SIGKILL)
        assert migration.end() == ROLLED_BACK, migration.stderr
        assert "the source task runs on" in migration.report["message"]
        assert worker.answers(testbed.src) == "right\n"
        assert ours(testbed.src) == []
