"""`criu-lazy migrate` between two real hosts: every page right, no task lost, whatever dies."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import Any

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
    UNDECIDED,
    USAGE,
    Migration,
    Worker,
    assert_clean,
    assert_moved,
    assert_stayed,
    compile_task,
    daemons,
    held,
    kill,
    kill_all_that_serve,
    ours,
    pids_of,
    processes,
    running,
    stopped,
)
from paths import CONFIGS

from testbed import Testbed

# --- it moves -----------------------------------------------------------------------------------------------------


def test_a_task_moves_with_every_page(worker: Worker) -> None:
    migration = Migration(worker.testbed, (CONFIGS / "process.yaml").read_text())
    assert_moved(worker, migration)
    report = migration.report
    assert report["task_pid"] == worker.pid
    assert report["destination"] == "dst"
    assert report["lazy_pages"] >= 32 * 256
    assert 0 < report["received_bytes"] < 40 << 20  # pages that shrink are packed
    assert report["downtime_s"] > 0
    states = ["dumping", "serving", "restoring", "allowed", "running", "drained", "committing", "committed"]
    assert list(report["phases_s"]) == states
    assert sorted(report["phases_s"].values()) == list(report["phases_s"].values())


def test_a_task_none_of_whose_pages_criu_makes_lazy_moves_with_a_warning(worker: Worker) -> None:
    worker.end()
    asleep = Worker(worker.testbed, 32, "at-page-start")
    migration = Migration(worker.testbed, BASE)
    assert_moved(asleep, migration)
    (warning,) = migration.report["warnings"]
    assert "the stack pointer of thread" in warning and "not lazily" in warning
    assert migration.report["lazy_pages"] < 100  # else criu has learnt better, and the warning may go


def test_every_hook_runs_in_its_phase(worker: Worker) -> None:
    src, dst = worker.testbed.src, worker.testbed.dst
    src.run(["mkdir", "-p", "/srv/worker"])
    src.write("/srv/worker/file", "its last word")
    migration = Migration(worker.testbed, (CONFIGS / "hooks.yaml").read_text())
    assert_moved(worker, migration)
    assert migration.report["warnings"] == []
    assert dst.read("/srv/worker/file") == "its last word"
    assert src.read("/srv/worker.log") == f"worker {worker.pid} moved to dst\n"
    assert src.run(["test", "-e", "/run/worker.pid"], check=False).returncode == 1


def test_a_task_moves_into_a_container_on_the_same_machine(worker: Worker) -> None:
    src = worker.testbed.src
    room = src.start(["sh", "-c", "unshare --pid --mount --fork --mount-proc sleep 1000 & echo $! >/run/room; wait"])
    pid = eventually(lambda: src.run(["sh", "-c", "pgrep -P $(cat /run/room)"], check=False).stdout.strip(), "a room")
    src.write("/run/room.pid", pid)
    try:
        migration = Migration(worker.testbed, (CONFIGS / "local.yaml").read_text())
        assert migration.end() == COMMITTED, migration.stderr
        inside = src.run(["nsenter", "--target", pid, "--pid", "--mount", "--", "ps", "-eo", "pid=,comm="]).stdout
        assert f"{worker.pid} patterned_task" in inside
        assert worker.answers(src) == "right\n"
        assert_clean(worker.testbed)
    finally:
        src.run(["kill", "-9", pid, str(room)], check=False)


def run_load(testbed: Testbed, keys: int) -> Any:
    """The demo's client: it writes and reads through the service address, and checks every value."""
    command = ["python3", "-m", "demo.client", "10.78.0.100", str(keys), "4096"]
    return testbed.client.popen(command, stdin=-1, stdout=-1, text=True)


def test_redis_moves_with_its_address_and_its_clients_connection(worker: Worker) -> None:
    worker.end()
    testbed = worker.testbed
    testbed.src.run(["ip", "address", "add", "10.78.0.100/24", "dev", "svc0"])
    options = ["--save", "", "--bind", "0.0.0.0", "--protected-mode", "no"]
    pid = testbed.src.start(["redis-server", *options])
    testbed.src.write("/run/redis.pid", f"{pid}\n")
    try:
        load = run_load(testbed, 8000)
        eventually(lambda: "filled" in json.loads(load.stdout.readline()), "the client wrote its values")
        migration = Migration(testbed, (CONFIGS / "redis.yaml").read_text())
        assert migration.end() == COMMITTED, migration.stderr
        assert pid in pids_of(testbed.dst, "redis-server")
        assert pids_of(testbed.src, "redis-server") == []
        load.stdin.close()
        facts: dict[str, Any] = {}
        for line in load.stdout:
            facts |= json.loads(line)
        assert facts["checked"] == 8000
        assert facts["wrong"] == 0
        assert facts["errors"] == 0, "its connection lived on"
        assert_clean(testbed)
    finally:
        for host in (testbed.src, testbed.dst):
            host.run(["pkill", "-9", "-x", "redis-server"], check=False)
            host.run(["ip", "address", "del", "10.78.0.100/24", "dev", "svc0"], check=False)


def test_twenty_migrations_in_a_row(worker: Worker) -> None:
    for _ in range(20):
        assert_moved(worker, Migration(worker.testbed, BASE))
        worker.end()
        worker = Worker(worker.testbed, 8)


# --- before the restored task runs: it stays ------------------------------------------------------------------------


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


def test_a_restore_that_fails(worker: Worker) -> None:
    migration = Migration(worker.testbed, BASE + "criu: {restore_options: [--no-such-option]}\n")
    assert_stayed(worker, migration, "dst: criu restore ended with status 1")


def test_a_pid_taken_meanwhile_is_left_alone(worker: Worker) -> None:
    testbed = worker.testbed
    migration = held(testbed, BASE + HOLD)
    testbed.dst.run(["sh", "-c", f"echo {worker.pid - 1} >/proc/sys/kernel/ns_last_pid; sleep 1000 >&- 2>&- &"])
    assert processes(testbed.dst)[worker.pid] == "sleep 1000"
    testbed.src.run(["rm", "/run/held"])
    assert migration.end() == ROLLED_BACK
    assert processes(testbed.dst)[worker.pid] == "sleep 1000"
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
    agents = sorted(pids_of(worker.testbed.dst, "python", "criu-lazy agent"))
    worker.testbed.dst.run(["kill", "-9", str(agents[which])])
    assert_stayed(worker, migration, "dst: the connection was closed")


def test_a_killed_page_server(worker: Worker) -> None:
    migration = held(worker.testbed, BASE + HOLD)
    server = min(pids_of(worker.testbed.src, "page-server"))  # the other one is its guardian
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
        dst.run(["kill", "-9", str(max(pids_of(dst, "python", "criu-lazy agent")))])
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


def ask_to_abort(migration: Migration) -> Any:
    """The operator asks the page server itself."""
    command = ["criu-lazy", "page-server", "--control", str(migration.journal()["control"]), "--op", "abort"]
    return migration.testbed.src.run(command, check=False)


def test_an_operators_abort_before_the_task_runs(worker: Worker) -> None:
    migration = held(worker.testbed, BASE + HOLD)
    assert "stop it first (SIGINT)" in migration.decide("--abort").stderr
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


# --- after it runs: nothing is given up -----------------------------------------------------------------------------


def test_ssh_killed_while_memory_follows(worker: Worker) -> None:
    migration = running(worker)
    kill(worker.testbed.src, "ssh", "criu-lazy agent")
    assert_moved(worker, migration)
    assert "waiting for the last page all the same" in migration.report["warnings"][0]


def test_link_cut_while_memory_follows(worker: Worker) -> None:
    migration = running(worker)
    worker.testbed.link.cut()
    time.sleep(2)
    worker.testbed.link.mend()
    assert_moved(worker, migration)


def test_agent_killed_while_memory_follows(worker: Worker) -> None:
    migration = running(worker)
    kill(worker.testbed.dst, "python", "criu-lazy agent")
    assert migration.end() == COMMITTED, migration.stderr
    assert worker.answers(worker.testbed.dst) == "right\n"
    assert "waiting for the last page" in migration.report["warnings"][0]


# criu's stage just before it lets the restored tasks go, past the point of no return.
def held_on_the_way(testbed: Testbed, seconds: int = 2) -> Migration:
    migration = held(testbed, BASE + HOLD_RESTORE, at="pre-resume", host=testbed.dst, seconds=seconds)
    assert migration.is_in("allowed")
    return migration


def assert_in_doubt(worker: Worker, migration: Migration, says: str) -> None:
    """Neither end is given up by itself; both can be, by hand."""
    testbed = worker.testbed
    assert migration.end() == UNDECIDED, migration.stderr
    assert says in migration.report["message"]
    assert "is frozen, with all of its memory; criu dump" in migration.report["message"]
    assert worker.is_on(testbed.src)
    testbed.dst.run(["pkill", "-9", "-x", "patterned_task"], check=False)
    assert migration.decide("--abort").returncode == 1
    assert migration.decide("--abort", "--force").returncode == 0
    assert worker.answers(testbed.src) == "right\n"


def test_a_restore_killed_as_it_lets_the_task_run_is_no_roll_back(worker: Worker) -> None:
    migration = held_on_the_way(worker.testbed)
    kill(worker.testbed.dst, "criu restore")
    assert_in_doubt(worker, migration, "dst: criu restore was killed by SIGKILL while it resumed the restored task")


def test_ssh_killed_as_the_task_is_resumed_is_no_roll_back(worker: Worker) -> None:
    migration = held_on_the_way(worker.testbed)
    kill(worker.testbed.src, "ssh", "criu-lazy agent")
    assert_in_doubt(worker, migration, "dst: the connection was closed")


def test_stopped_as_the_task_is_resumed_is_no_roll_back(worker: Worker) -> None:
    migration = held_on_the_way(worker.testbed, seconds=20)
    migration.process.send_signal(signal.SIGINT)
    assert_in_doubt(worker, migration, "stopped by SIGINT")


def test_a_dump_killed_while_memory_follows_is_no_end_of_the_migration(worker: Worker) -> None:
    testbed = worker.testbed
    migration = running(worker)
    kill(testbed.src, "criu dump")
    testbed.link.set(rate_mbit=100, rtt_ms=0.2)
    assert_moved(worker, migration)
    (warning,) = migration.report["warnings"]
    assert warning == (
        "criu dump ended by itself, with status -9; the page server goes on: the source task is stopped, with all of "
        "its memory"
    )


def test_a_dump_killed_with_the_driver_is_committed_by_an_operator(worker: Worker) -> None:
    testbed = worker.testbed
    migration = running(worker)
    kill(testbed.src, "criu dump")
    kill(testbed.src, "python", "criu-lazy migrate")
    migration.process.wait(30)
    assert "is stopped, with all of its memory" in migration.decide("--status").stdout
    testbed.link.set(rate_mbit=100, rtt_ms=0.2)
    eventually(lambda: "page server: drained" in migration.decide("--status").stdout, "every page arrived", 60)
    assert "every page arrived: --commit ends it" in migration.decide("--status").stdout
    assert migration.decide("--commit").returncode == 0
    assert worker.answers(testbed.dst) == "right\n"
    assert not worker.is_on(testbed.src)


def test_a_dump_and_all_page_servers_killed_let_the_source_task_run_no_further(worker: Worker) -> None:
    """Its tasks are free then, at once; they must not run at both hosts."""
    testbed = worker.testbed
    migration = running(worker, BASE + "hooks: {after_rollback: [{run: touch /run/undone}]}\n")
    testbed.src.run(["rm", "-f", "/run/undone"])
    kill_all_that_serve(testbed)
    assert migration.end() == UNDECIDED, migration.stderr
    assert f"the source task (pid {worker.pid}) is stopped, with all of its memory" in migration.report["message"]
    assert testbed.src.run(["ps", "-o", "state=", "-p", str(worker.pid)]).stdout.strip() == "T"
    for options in (["--status"], ["--abort"], ["--commit"]):
        said = migration.decide(*options)
        told = said.stdout + said.stderr
        assert said.returncode == (UNDECIDED if options == ["--status"] else 1)
        assert "is stopped, with all of its memory; criu dump" in told and "is dead" in told
        assert "can no longer be sent" in told
    testbed.dst.run(["pkill", "-9", "-x", "patterned_task"], check=False)
    assert migration.decide("--abort", "--force").returncode == 0
    assert worker.answers(testbed.src) == "right\n"
    assert (testbed.src.root / "run/undone").exists()
    assert "rolled-back" in migration.decide("--status").stdout


def kill_page_server_but_its_guardian(testbed: Testbed) -> None:
    drivers = ",".join(map(str, pids_of(testbed.src, "python", "criu-lazy migrate")))
    testbed.src.run(["pkill", "-KILL", "-P", drivers, "-f", "page-server"])


def test_a_page_server_killed_while_memory_follows_is_waited_for(worker: Worker) -> None:
    testbed = worker.testbed
    migration = running(worker)
    kill_page_server_but_its_guardian(testbed)
    testbed.link.set(rate_mbit=100, rtt_ms=0.2)
    assert_moved(worker, migration)
    (warning,) = migration.report["warnings"]
    assert "the page server ended by itself, with status -9; waiting for another" in warning


def test_a_page_server_killed_with_the_driver_is_followed_by_another(worker: Worker) -> None:
    testbed = worker.testbed
    migration = running(worker)
    kill_page_server_but_its_guardian(testbed)
    kill(testbed.src, "python", "criu-lazy migrate")
    migration.process.wait(30)
    assert migration.decide("--status").returncode == UNDECIDED
    testbed.link.set(rate_mbit=100, rtt_ms=0.2)
    eventually(lambda: "page server: drained" in migration.decide("--status").stdout, "every page arrived", 60)
    assert "it listens on 10.77.0.1 port" in migration.decide("--status").stdout
    assert migration.decide("--commit").returncode == 0
    assert not worker.is_on(testbed.src)
    assert worker.answers(testbed.dst) == "right\n"


def test_interrupted_then_committed(worker: Worker) -> None:
    migration = stopped(worker, lambda it: it.process.send_signal(signal.SIGINT))
    refused = migration.decide("--commit")
    assert refused.returncode == 1
    assert "--commit needs --force: page server: " in refused.stderr and "pages are on their way" in refused.stderr
    assert Migration(worker.testbed, BASE).end() != COMMITTED
    eventually(lambda: "page server: drained" in migration.decide("--status").stdout, "every page arrived")
    assert migration.decide("--commit").returncode == 0
    assert "committed" in migration.decide("--status").stdout
    assert not worker.is_on(worker.testbed.src)
    assert worker.answers(worker.testbed.dst) == "right\n"
    assert_clean(worker.testbed)


def test_interrupted_then_given_up(worker: Worker) -> None:
    migration = stopped(worker, lambda it: it.process.send_signal(signal.SIGINT))
    assert "force" in migration.decide("--abort").stderr
    worker.testbed.dst.run(["kill", "-9", str(worker.pid)])
    assert migration.decide("--abort", "--force").returncode == 0
    assert worker.answers(worker.testbed.src) == "right\n"
    assert "rolled-back" in migration.decide("--status").stdout


def test_killed_while_memory_follows_then_committed(worker: Worker) -> None:
    migration = running(worker)
    kill(worker.testbed.src, "python", "criu-lazy migrate")
    migration.end()
    assert "the restored task was resumed" in migration.decide("--status").stdout
    eventually(lambda: "page server: drained" in migration.decide("--status").stdout, "every page arrived")
    assert migration.decide("--commit").returncode == 0
    assert not worker.is_on(worker.testbed.src)
    assert worker.answers(worker.testbed.dst) == "right\n"


def test_an_operators_abort_is_refused_once_the_task_runs(worker: Worker) -> None:
    migration = running(worker)
    refused = ask_to_abort(migration)
    assert refused.returncode == 1
    assert "the restored task runs" in refused.stderr
    assert "stop it first (SIGINT)" in migration.decide("--abort", "--force").stderr
    assert_moved(worker, migration)


def test_its_rate_is_the_profiles_until_it_is_changed(worker: Worker) -> None:
    migration = running(worker, BASE + "source: {rate: 40K}\n")
    assert "pages may take 40960 bytes per second" in migration.decide("--status").stdout
    assert migration.decide("--rate", "0").returncode == 0
    assert_moved(worker, migration)


def test_a_daemon_killed_while_memory_follows_is_succeeded(worker: Worker) -> None:
    dst = worker.testbed.dst
    migration = running(worker, BASE + "source: {rate: 500K}\n")
    killed: set[int] = set()
    for _ in range(7):
        (daemon,) = eventually(lambda: daemons(dst) - killed, "a daemon")
        time.sleep(0.5)
        dst.run(["kill", "-9", str(daemon)])
        killed.add(daemon)
    eventually(lambda: daemons(dst) - killed, "the last daemon")
    assert migration.decide("--rate", "0").returncode == 0
    assert_moved(worker, migration)
    said = "dst: lazy-pages was killed by SIGKILL; another goes on where it was"
    assert migration.report["warnings"] == [said] * 7


def test_a_daemon_killed_with_its_holder_is_the_end(worker: Worker) -> None:
    # The kernel gives zeroes for missing pages then: the restored task may crash.
    migration = stopped(worker, lambda _: kill(worker.testbed.dst, "lazy-pages"), restored_lives=False)
    assert "lazy-pages was killed by SIGKILL, and its successor ended with status 1" in migration.report["message"]
    worker.testbed.dst.run(["kill", "-9", str(worker.pid)], check=False)
    assert migration.decide("--abort", "--force").returncode == 0
    assert worker.answers(worker.testbed.src) == "right\n"


# --- nothing is touched ---------------------------------------------------------------------------------------------


def test_a_wrong_profile_is_refused(worker: Worker) -> None:
    migration = Migration(worker.testbed, "task: {pidfile: /run/worker.pid}\ndestinatoin: {ssh: dst}\n")
    assert migration.end() == USAGE
    where = f"{migration.path}:2:1: destinatoin: unknown key; did you mean 'destination'?"
    assert migration.stderr == f"criu-lazy migrate: error: {where}\n"
    assert worker.answers(worker.testbed.src) == "right\n"
    assert worker.testbed.src.run(["test", "-e", "/var/lib/criu-lazy"], check=False).returncode == 1


def test_a_dry_run_leaves_nothing(worker: Worker) -> None:
    migration = Migration(worker.testbed, BASE, "--dry-run")
    assert migration.end() == COMMITTED, migration.stderr
    assert_clean(worker.testbed)
    assert worker.testbed.src.run(["sh", "-c", "ls /var/lib/criu-lazy"], check=False).stdout == ""
    assert worker.answers(worker.testbed.src) == "right\n"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("source: {address: 10.99.0.1}\n", "can't listen on 10.99.0.1"),
        ("source: {address: 127.0.0.1}\n", "can't connect to the source at 127.0.0.1"),
        ("directories: {destination: /proc/nowhere}\n", "/proc/nowhere"),
        ("hooks: {before_dump: [{run: 'false'}]}\n", "hook 'false' ended with status 1"),
    ],
)
def test_a_failed_preflight(worker: Worker, change: str, says: str) -> None:
    migration = Migration(worker.testbed, BASE + change)
    assert migration.end() == FAILED, migration.stderr
    assert says in migration.report["message"]
    assert worker.answers(worker.testbed.src) == "right\n"
    assert_clean(worker.testbed)


def test_check_tells_what_holds(testbed: Testbed) -> None:
    for host in (testbed.src, testbed.dst):
        told = host.run(["criu-lazy", "check"])
        assert all(line.startswith("ok   ") for line in told.stdout.splitlines())
        items = json.loads(host.run(["criu-lazy", "check", "--json"]).stdout)
        assert {"pycriu", "criu-check", "userfaultfd"} <= {item["check"] for item in items}
    told = testbed.src.run(
        ["env", "PATH=/nowhere", "/usr/bin/python3", "-m", "criu_lazy_ext.cli", "check"], check=False
    )
    assert told.returncode == 1
    assert "FAIL criu: source: criu: No such file or directory; install criu 4.1 or later" in told.stdout
