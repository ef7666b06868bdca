"""`criu-lazy migrate` once the restored task runs: whatever dies, no page of the task is given up by itself."""

from __future__ import annotations

import json
import signal
import time

from lazy_source import eventually
from migrating import (
    BASE,
    COMMITTED,
    HOLD_RESTORE,
    UNDECIDED,
    Migration,
    Worker,
    ask_to_abort,
    assert_clean,
    assert_moved,
    daemons,
    held,
    interrupt,
    kill,
    kill_all_that_serve,
    pids_of,
    running,
    stopped,
)

from testbed import Testbed


def test_ssh_killed_while_memory_follows(worker: Worker) -> None:
    migration = running(worker)
    kill(worker.testbed.src, "ssh", "criu-lazy agent")
    assert_moved(worker, migration)
    assert "waiting for the last page all the same" in migration.report["warnings"][0]
    run = json.loads(worker.testbed.src.read(migration.report["run_file"]))
    assert migration.report["heard_until_s"] == run["report"]["heard_until_s"] < run["report"]["phases_s"]["drained"]
    assert run["sent"]["bytes"][-1] == migration.report["received_bytes"] > run["samples"]["received_bytes"][-1]


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
    interrupt(migration)
    assert_in_doubt(worker, migration, "stopped by SIG")


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
    worker.is_gone_from(testbed.src)


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
    worker.is_gone_from(testbed.src)
    assert worker.answers(testbed.dst) == "right\n"


def test_a_lost_terminal_and_one_signal_stop_nothing_once_the_task_runs(worker: Worker) -> None:
    migration = running(worker)
    for number in (signal.SIGHUP, signal.SIGINT):
        migration.process.send_signal(number)
    worker.testbed.link.set(rate_mbit=100, rtt_ms=0.2)
    assert_moved(worker, migration)
    there = "the task runs at dst, and its memory follows: the migration goes on"
    again = "; a second SIGINT or SIGTERM stops it, and leaves it undecided"
    assert sorted(migration.report["warnings"]) == [f"SIGHUP: {there}", f"SIGINT: {there}{again}"]


def test_interrupted_then_committed(worker: Worker) -> None:
    migration = stopped(worker, interrupt)
    commit = worker.testbed.src.popen(["criu-lazy", "migrate", migration.path, "--commit"], stdout=-1, text=True)
    assert commit.stdout is not None and "undecided" in commit.stdout.readline()
    assert "pages are on their way: the last one is waited for" in commit.stdout.readline()
    commit.send_signal(signal.SIGTERM)
    assert commit.wait(30) != 0
    assert "pages are on their way: --commit waits" in migration.decide("--status").stdout, "nothing was done"
    assert Migration(worker.testbed, BASE).end() != COMMITTED
    done = migration.decide("--commit")
    assert done.returncode == 0 and "now committed" in done.stdout, done
    assert "committed" in migration.decide("--status").stdout
    worker.is_gone_from(worker.testbed.src)
    assert worker.answers(worker.testbed.dst) == "right\n"
    assert_clean(worker.testbed)


def test_interrupted_then_given_up(worker: Worker) -> None:
    migration = stopped(worker, interrupt)
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
    worker.is_gone_from(worker.testbed.src)
    assert worker.answers(worker.testbed.dst) == "right\n"


def test_an_operators_abort_is_refused_once_the_task_runs(worker: Worker) -> None:
    migration = running(worker)
    refused = ask_to_abort(migration)
    assert refused.returncode == 1
    assert "the restored task runs" in refused.stderr
    assert "stop it first: kill" in migration.decide("--abort", "--force").stderr
    assert "commits by itself when its last page has come" in migration.decide("--commit").stderr
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


def test_a_daemon_killed_with_its_guardian_is_the_end(worker: Worker) -> None:
    # The kernel gives zeroes for missing pages then: the restored task may crash.
    migration = stopped(worker, lambda _: kill(worker.testbed.dst, "lazy-pages"), restored_lives=False)
    assert "lazy-pages was killed by SIGKILL, and its successor ended with status 1" in migration.report["message"]
    worker.testbed.dst.run(["kill", "-9", str(worker.pid)], check=False)
    assert migration.decide("--abort", "--force").returncode == 0
    assert worker.answers(worker.testbed.src) == "right\n"
