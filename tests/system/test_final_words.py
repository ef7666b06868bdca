"""Whatever happens to the source task, criu dump or the disk: the last word of `migrate` is true, and leads out."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
from lazy_source import eventually
from migrating import (
    BASE,
    COMMITTED,
    FAILED,
    HOLD_RESTORE,
    UNDECIDED,
    Migration,
    Worker,
    assert_clean,
    assert_moved,
    assert_stayed,
    held,
    interrupt,
    kill,
    kill_agent,
    ours,
    pids_of,
    running,
    stopped,
)
from paths import SUPPORT

from criu_lazy_ext.source.task import boot_id
from testbed import Host

SMALL_DISK = BASE + "directories: {source: /srv/small}\n"
FILL = "cat /dev/zero >/srv/small/filler"


def state(host: Host, pid: int) -> str:
    """As ps has it: T stopped, t traced, S sleeping; "" if there is none."""
    return str(host.run(["ps", "-o", "state=", "-p", str(pid)], check=False).stdout.strip())


def frozen(worker: Worker) -> None:
    assert state(worker.testbed.src, worker.pid) == "t"


# --- the disk -------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(worker: Worker) -> Iterator[Worker]:
    src = worker.testbed.src
    src.run(["mkdir", "-p", "/srv/small"])
    src.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", "/srv/small"])
    yield worker
    src.run(["umount", "-l", "/srv/small"])


def test_a_disk_that_is_full_before_go_rolls_back(small_disk: Worker) -> None:
    testbed = small_disk.testbed
    migration = held(testbed, SMALL_DISK + HOLD_RESTORE, at="pre-restore", host=testbed.dst)
    testbed.src.run(["sh", "-c", FILL], check=False)
    assert_stayed(small_disk, migration, "No space left on device")
    assert migration.decide("--status").stdout == f"{migration.name}: task {small_disk.pid} -> dst: rolled-back\n"


def test_a_disk_that_is_full_while_memory_follows_changes_nothing(small_disk: Worker) -> None:
    testbed = small_disk.testbed
    testbed.link.set(rate_mbit=20, rtt_ms=0.2)
    migration = Migration(testbed, SMALL_DISK + "keep_files: true\n")
    path = testbed.src.root / f"srv/small/{migration.name}/journal.json"
    eventually(lambda: path.exists() and json.loads(path.read_text())["state"] == "running", "it runs")
    testbed.src.run(["sh", "-c", FILL], check=False)
    testbed.link.set(rate_mbit=1000, rtt_ms=0.2)
    assert migration.end() == COMMITTED, migration.stderr
    # The room that was set aside for the journal may do for the run file, too.
    assert all(warning.endswith(": there is no whole run file") for warning in migration.report["warnings"])
    assert small_disk.answers(testbed.dst) == "right\n"
    assert migration.decide("--status").stdout == f"{migration.name}: task {small_disk.pid} -> dst: committed\n"


# --- criu dump ------------------------------------------------------------------------------------------------------


def test_a_dump_that_dies_just_before_go_lets_nothing_run_at_the_destination(worker: Worker) -> None:
    """While the driver waits for the page server's word that the source task is fenced."""
    testbed = worker.testbed
    migration = held(testbed, BASE + HOLD_RESTORE, at="post-restore", host=testbed.dst, seconds=1)
    server = str(pids_of(testbed.src, "page-server")[0])
    testbed.src.run(["kill", "-STOP", server])
    time.sleep(2)  # the restore asks meanwhile
    kill(testbed.src, "criu dump")
    time.sleep(0.5)
    testbed.src.run(["kill", "-CONT", server])
    assert_stayed(worker, migration, "criu dump")


LEAVE_RUNNING = """#!/bin/sh
[ "$1" = dump ] && set -- "$@" --leave-running
exec /usr/sbin/criu "$@"
"""


def test_a_source_task_that_is_left_after_the_commit_is_stopped_and_no_commit(worker: Worker) -> None:
    """Somebody's wrapper of criu has it leave the task running."""
    src, dst = worker.testbed.src, worker.testbed.dst
    src.write("/usr/local/bin/criu", LEAVE_RUNNING)
    src.run(["chmod", "+x", "/usr/local/bin/criu"])
    try:
        migration = Migration(worker.testbed, BASE)
        assert migration.end() == UNDECIDED, migration.report
        assert f"the source task (pid {worker.pid}) is stopped" in migration.report["message"]
        assert state(src, worker.pid) == "T"
        assert worker.answers(dst) == "right\n"
        assert "every page arrived: --commit ends it" in migration.decide("--status").stdout
        assert migration.decide("--commit").returncode == 0
        worker.is_gone_from(src)
        assert_clean(worker.testbed)
    finally:
        src.run(["rm", "/usr/local/bin/criu"])


def test_a_dump_without_a_page_server_is_told_of_and_ended(worker: Worker) -> None:
    """As if the page server had died before it was connected."""
    src = worker.testbed.src
    migration = Migration(worker.testbed, "task: {pidfile: /run/worker.pid}\n")  # refused: only its profile is used
    assert migration.end() == 2
    src.write(migration.path, BASE)
    directory = f"/var/lib/criu-lazy/{migration.name}"
    began = src.run(["sh", "-c", f"awk '{{print $22}}' /proc/{worker.pid}/stat"]).stdout.strip()
    facts = {
        "state": "serving", "boot_id": boot_id(), "pid": worker.pid, "task_began": int(began), "destination": "dst",
        "control": f"{directory}/page-server.sock", "at": time.time(),
    }  # fmt: skip
    src.run(["mkdir", "-p", f"{directory}/images"])
    src.write(f"{directory}/journal.json", json.dumps(facts))
    command = ["criu", "dump", "-t", str(worker.pid), "-D", f"{directory}/images", "-W", directory, "-o", "dump.log"]
    with src.popen([*command, "--lazy-pages", "--address", "127.0.0.1", "--port", "27001"]) as dump:
        listens = ["sh", "-c", "ss -tln | grep -q :27001"]
        eventually(lambda: src.run(listens, check=False).returncode == 0, "the dump waits for a client")
        told = migration.decide("--status")
        assert told.returncode == UNDECIDED
        (holder,) = pids_of(src, "criu dump")
        assert f"is frozen, with all of its memory; criu dump (pid {holder}) holds it" in told.stdout
        assert "no page server is there" in told.stdout and "--abort lets the source task run on" in told.stdout
        assert src.run(["test", "-e", f"{directory}/images"], check=False).returncode == 0
        frozen(worker)
        assert migration.decide("--abort").returncode == 0
        dump.wait(30)
    assert worker.answers(src) == "right\n"
    assert "rolled-back" in migration.decide("--status").stdout
    assert_moved(worker, Migration(worker.testbed, BASE))


# --- the page server ------------------------------------------------------------------------------------------------


def test_a_page_server_that_hangs_is_killed_as_advised_and_followed_by_another(worker: Worker) -> None:
    testbed = worker.testbed
    migration = running(worker)
    kill(testbed.src, "python", "criu-lazy migrate")
    migration.process.wait(30)
    server = pids_of(testbed.src, "page-server")[0]
    testbed.src.run(["kill", "-STOP", str(server)])
    told = migration.decide("--status")
    assert told.returncode == UNDECIDED
    assert f"the page server (pid {server}) does not answer; the source task" in told.stdout
    advice = f"kill -KILL {server}"
    assert f"if it stays so: {advice};" in told.stdout
    testbed.src.run(advice.split())
    testbed.link.set(rate_mbit=1000, rtt_ms=0.2)
    eventually(lambda: "every page arrived" in migration.decide("--status").stdout, "another goes on", 60)
    assert migration.decide("--commit").returncode == 0
    worker.is_gone_from(testbed.src)
    assert worker.answers(testbed.dst) == "right\n"


def test_an_abort_needs_no_page_server(worker: Worker) -> None:
    """Its guardian can't start another: the images are away."""
    testbed = worker.testbed
    migration = running(worker)
    kill(testbed.src, "python", "criu-lazy migrate")
    migration.process.wait(30)
    directory = f"/var/lib/criu-lazy/{migration.name}"
    testbed.src.run(["mv", f"{directory}/images", f"{directory}/away"])
    testbed.src.run(["kill", "-KILL", str(pids_of(testbed.src, "page-server")[0])])
    told = migration.decide("--status").stdout
    assert "the page server is dead; its guardian holds criu dump's connection; the source task" in told
    testbed.dst.run(["kill", "-9", str(worker.pid)])
    said = migration.decide("--abort", "--force")
    assert said.returncode == 0, said.stdout + said.stderr
    assert worker.answers(testbed.src) == "right\n"
    eventually(lambda: ours(testbed.src) == [], "nothing of it runs", 15)


# --- the link -------------------------------------------------------------------------------------------------------

DROP_BULK = """
table inet bulk {
    chain input {
        type filter hook input priority 0;
        tcp sport != 22 ip saddr 10.77.0.1 meta length gt 900 drop
    }
}
"""


def test_faults_that_wait_for_a_path_that_drops_bulk_are_counted_in_the_warning(worker: Worker) -> None:
    testbed = worker.testbed
    dst = testbed.dst
    migration = running(worker, BASE.replace("{silence: 3}", "{silence: 9, stall: 3}"))
    dst.write("/run/drop.nft", DROP_BULK)
    dst.run(["nft", "-f", "/run/drop.nft"])
    (dst.root / worker.directory[1:] / "ask").touch()  # it looks at all of its memory, and so waits
    time.sleep(6)
    dst.run(["nft", "delete", "table", "inet", "bulk"])
    testbed.link.set(rate_mbit=1000, rtt_ms=0.2)
    assert_moved(worker, migration)
    assert "1 fault has waited for" in migration.report["warnings"][0], migration.report["warnings"]


# --- the restored task ----------------------------------------------------------------------------------------------


def test_a_restored_task_killed_with_pages_missing_can_be_given_up(worker: Worker) -> None:
    testbed = worker.testbed
    migration = running(worker)
    testbed.dst.run(["kill", "-SEGV", str(worker.pid)])
    assert migration.end() == UNDECIDED, migration.stderr
    message = migration.report["message"]
    assert f"the restored task {worker.pid} was killed by SIGSEGV with" in message
    assert f"here the source task (pid {worker.pid}) is frozen, with all of its memory" in message
    assert "--abort --force to let the source task run on, or --commit --force to end it for good" in message
    assert f"criu-lazy migrate --status {migration.path}, and" in message
    assert "the restored task was killed with pages missing" in migration.decide("--status").stdout
    frozen(worker)
    refused = migration.decide("--commit")
    assert refused.returncode == 1 and "--commit needs --force" in refused.stderr, "it is all that is left of the task"
    frozen(worker)
    assert migration.decide("--commit", "--force").returncode == 0
    worker.is_gone_from(testbed.src)
    assert "committed" in migration.decide("--status").stdout


def test_a_restored_task_that_is_killed_when_nobody_else_can_tell_is_told_by_its_daemon(worker: Worker) -> None:
    """By the connection by which its pages came."""
    src, dst = worker.testbed.src, worker.testbed.dst
    migration = running(worker)
    kill_agent(dst)
    dst.run(["kill", "-KILL", str(worker.pid)])
    assert migration.end(20) == UNDECIDED, migration.stderr
    message = migration.report["message"]
    assert f"the restored task {worker.pid} was killed by SIGKILL with" in message
    assert "pages missing, as its daemon told the page server; the source still has them" in message
    assert "--abort --force to let the source task run on, or --commit --force to end it for good" in message
    frozen(worker)
    assert migration.decide("--abort", "--force").returncode == 0
    assert worker.answers(src) == "right\n"


def test_status_knows_of_a_restored_task_that_was_killed_after_migrate(worker: Worker) -> None:
    src, dst = worker.testbed.src, worker.testbed.dst
    migration = running(worker)
    kill(src, "python", "criu-lazy migrate")
    migration.process.wait(10)
    dst.run(["kill", "-KILL", str(worker.pid)])
    told = "the restored task was killed with pages missing"
    eventually(lambda: told in migration.decide("--status").stdout, "it is told")
    frozen(worker)
    assert migration.decide("--abort", "--force").returncode == 0
    assert worker.answers(src) == "right\n"


def test_a_process_killed_after_its_last_page_is_told_of_and_is_no_loss(worker: Worker) -> None:
    """Its siblings' memory still follows."""
    src, dst = worker.testbed.src, worker.testbed.dst
    worker.end()
    pids = f"{worker.directory}/pids"
    src.write("/tmp/dying_task.c", (SUPPORT / "dying_task.c").read_text())
    src.run(["cc", "-O1", "-o", "/tmp/dying_task", "/tmp/dying_task.c"])
    dst.write("/tmp/dying_task", (src.root / "tmp/dying_task").read_bytes(), mode=0o755)
    src.run(["sh", "-c", f"exec /tmp/dying_task 12 {pids} 1 </dev/null >/dev/null 2>&1"])
    read = ["sh", "-c", f"cat {pids} 2>/dev/null || true"]
    parent, child = eventually(lambda: len(p := sorted(map(int, src.run(read).stdout.split()))) == 2 and p, "both run")
    src.write("/run/worker.pid", f"{parent}\n")
    try:
        migration = running(worker)
        dst.run(["kill", "-HUP", str(child)])  # what it touches then comes first
        complete = f"grep -q 'task {child}: complete' /var/lib/criu-lazy/*/work/lazy-pages.log"
        eventually(lambda: dst.run(["sh", "-c", complete], check=False).returncode == 0, "the child is complete")
        dst.run(["kill", "-KILL", str(child)])
        assert migration.end() == COMMITTED, migration.stderr
        told = f"process {child} of the restored task was killed by SIGKILL after all of its pages had arrived"
        assert migration.report["warnings"] == [told]
        assert "every page arrived; the source task is gone" in migration.stderr
        assert str(parent) in dst.run(["pgrep", "dying_task"]).stdout.split()
        assert_clean(worker.testbed)
    finally:
        for host in (src, dst):
            host.run(["pkill", "-9", "-x", "dying_task"], check=False)


# --- the source task ------------------------------------------------------------------------------------------------


def test_a_source_task_killed_while_frozen_is_told_of_and_is_no_roll_back(worker: Worker) -> None:
    testbed = worker.testbed
    migration = running(worker)
    testbed.src.run(["kill", "-9", str(worker.pid)])
    time.sleep(1.5)
    interrupt(migration)
    assert migration.end() == UNDECIDED, migration.stderr
    assert f"here the source task (pid {worker.pid}) is gone" in migration.report["message"]
    assert any("was killed at the source" in warning for warning in migration.report["warnings"])
    said = migration.decide("--abort", "--force")
    assert said.returncode == FAILED
    assert "now failed: the source task" in said.stdout and "rolled-back" not in said.stdout
    eventually(lambda: pids_of(testbed.src, "criu dump") == [], "criu dump does not stay")
    testbed.dst.run(["kill", "-9", str(worker.pid)], check=False)


def test_a_source_task_killed_while_memory_follows_costs_no_page(worker: Worker) -> None:
    """What criu dump holds of it is served."""
    testbed = worker.testbed
    migration = running(worker)
    testbed.src.run(["kill", "-9", str(worker.pid)])
    testbed.link.set(rate_mbit=100, rtt_ms=0.2)
    assert_moved(worker, migration)
    assert any("was killed at the source" in warning for warning in migration.report["warnings"])


def test_a_source_task_killed_before_go_is_no_roll_back_either(worker: Worker) -> None:
    testbed = worker.testbed
    migration = held(testbed, BASE + HOLD_RESTORE, at="post-restore", host=testbed.dst)
    testbed.src.run(["kill", "-9", str(worker.pid)])
    status = migration.end()
    message = migration.report["message"]
    assert (status, migration.report["outcome"]) == (FAILED, "failed"), message
    assert f"the source task (pid {worker.pid}) is gone" in message and "runs on" not in message
    eventually(lambda: ours(testbed.src) == [], "nothing of it runs", 15)


# --- this program ---------------------------------------------------------------------------------------------------

ODD_AGENT = """#!/usr/bin/python3
import json, sys
take, give = sys.stdin.buffer, sys.stdout.buffer
while head := take.read(4):
    request = json.loads(take.read(int.from_bytes(head, "big")))
    text = json.dumps({"id": request["id"], "ok": True}).encode()
    give.write(len(text).to_bytes(4, "big") + text)
    give.flush()
"""


def test_an_exception_of_any_kind_is_one_line(worker: Worker) -> None:
    """The agent's answer lacks what this version of criu-lazy looks for."""
    dst = worker.testbed.dst
    dst.write("/srv/odd-agent", ODD_AGENT)
    dst.run(["chmod", "+x", "/srv/odd-agent"])
    profile = BASE.replace("{ssh: dst}", "{ssh: dst, criu_lazy: /srv/odd-agent}")
    migration = Migration(worker.testbed, profile)
    assert migration.end() == FAILED, migration.stderr
    message = migration.report["message"]
    assert message.startswith("internal error: KeyError") and message.endswith("the source task runs on")
    assert "Traceback" not in migration.stderr
    assert worker.answers(worker.testbed.src) == "right\n"
    assert ours(worker.testbed.src) == []


# --- what the destination's daemon can't tell -----------------------------------------------------------------------


def test_a_restored_task_that_is_killed_while_criu_serves_it_is_no_commit(worker: Worker) -> None:
    """criu's own lazy-pages takes a task that is gone for one that misses nothing."""
    src, dst = worker.testbed.src, worker.testbed.dst
    migration = running(worker, BASE + "daemon: stock\n")
    dst.run(["kill", "-KILL", str(worker.pid)])
    assert migration.end() == UNDECIDED, migration.report
    assert f"the restored task {worker.pid} was killed by SIGKILL" in migration.report["message"]
    frozen(worker)
    assert "was killed with pages missing" in migration.decide("--status").stdout
    assert migration.decide("--abort", "--force").returncode == 0
    assert worker.answers(src) == "right\n"


def test_a_restored_task_that_criu_serves_is_not_known_to_live_without_the_agent(worker: Worker) -> None:
    """To the page server its daemon says the same, whether the task was killed or has every page; or it fails as it is
    about to install one, and hangs up."""
    src, dst = worker.testbed.src, worker.testbed.dst
    migration = running(worker, BASE + "daemon: stock\n")
    kill_agent(dst)
    dst.run(["kill", "-KILL", str(worker.pid)])
    assert migration.end() == UNDECIDED, migration.report
    message = migration.report["message"]
    assert "criu's own lazy-pages says that it is done" in message or "criu's own lazy-pages has hung up" in message
    assert migration.report["heard_until_s"] > migration.report["phases_s"]["running"]
    frozen(worker)
    said = migration.decide("--status").stdout
    told = "hung up before its last page" if "has hung up" in message else "when the restored task was killed: look at"
    assert "every page arrived" not in said and told in said
    assert migration.decide("--commit").returncode == 1
    frozen(worker)
    assert migration.decide("--abort", "--force").returncode == 0
    assert worker.answers(src) == "right\n"


def test_criu_s_own_daemon_that_hangs_up_is_waited_for_by_nobody_without_the_agent(worker: Worker) -> None:
    """It never connects again."""
    src, dst = worker.testbed.src, worker.testbed.dst
    migration = running(worker, BASE + "daemon: stock\n")
    kill_agent(dst)
    kill(dst, "criu lazy-pages")
    assert migration.end() == UNDECIDED, migration.report
    assert "criu's own lazy-pages has hung up before its last page" in migration.report["message"]
    said = migration.decide("--status").stdout
    assert "what is missing does not come. Kill the restored task" in said and "pages are on their way" not in said
    assert migration.decide("--commit").returncode == 1
    frozen(worker)
    dst.run(["kill", "-KILL", str(worker.pid)], check=False)
    assert migration.decide("--abort", "--force").returncode == 0
    assert worker.answers(src) == "right\n"


def test_a_task_that_criu_serves_to_the_end_moves(worker: Worker) -> None:
    assert_moved(worker, Migration(worker.testbed, BASE + "daemon: stock\n"))


def test_a_task_that_was_stopped_moves_stopped(worker: Worker) -> None:
    src, dst = worker.testbed.src, worker.testbed.dst
    src.run(["kill", "-STOP", str(worker.pid)])
    migration = Migration(worker.testbed, BASE)
    assert migration.end() == COMMITTED, migration.report
    assert state(dst, worker.pid) == "T"
    dst.run(["kill", "-CONT", str(worker.pid)])
    assert_moved(worker, migration)


# --- what an operator gives up --------------------------------------------------------------------------------------


def test_a_forced_commit_is_told_to_the_daemon_that_waits_for_pages(worker: Worker) -> None:
    """It gives the missing pages up, and ends; who touches one gets SIGBUS, never zeroes."""
    src, dst = worker.testbed.src, worker.testbed.dst
    migration = stopped(worker, interrupt)
    assert migration.decide("--commit", "--force").returncode == 0
    worker.is_gone_from(src)
    eventually(lambda: pids_of(dst, "lazy-pages") == [], "the daemon has ended", 10)
    eventually(lambda: ours(dst) == [] and ours(src) == [], "nothing of it is left", 10)
    (outcome,) = (dst.root / "var/lib/criu-lazy").glob("*/outcome.json")
    told = json.loads(outcome.read_text())
    assert told["status"] == 1 and "committed or rolled back" in told["error"], told
    assert "pages are missing" in told["error"], told
    (dst.root / worker.directory[1:] / "ask").touch()
    eventually(lambda: not worker.is_on(dst), "it touched a page that never came", 10)
    assert not (dst.root / worker.directory[1:] / "answer").exists()
