"""`criu-lazy migrate` between two real hosts: every page right, no task lost, whatever dies."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from lazy_source import eventually
from migrating import (
    BASE,
    COMMITTED,
    FAILED,
    USAGE,
    Migration,
    Worker,
    assert_clean,
    assert_moved,
    pids_of,
)
from paths import CONFIGS
from report_page import Page

from testbed import Testbed

# --- it moves -----------------------------------------------------------------------------------------------------


def test_a_task_moves_with_every_page(worker: Worker) -> None:
    migration = Migration(worker.testbed, (CONFIGS / "process.yaml").read_text(), "--log-format", "json")
    assert_moved(worker, migration)
    report = migration.report
    told = [json.loads(line) for line in migration.stderr.splitlines()]
    assert told[0]["message"].startswith("preflight: task") and told[0]["phase"] == "preflight"
    phases = {line["message"].split(":")[0].split(" (")[0]: line["phase"] for line in told}
    assert (phases["lazy dump"], phases["images transferred"]) == ("dumping", "serving")
    assert {line["level"] for line in told} <= {"info", "warning"} and told[-1]["phase"] == "committed"
    assert told[-1]["figures"]["missing_bytes"] == 0 and told[-1]["figures"]["downtime_s"] == report["downtime_s"]
    assert report["task_pid"] == worker.pid
    assert report["destination"] == "dst"
    assert report["lazy_pages"] >= 32 * 256
    assert 0 < report["received_bytes"] < 40 << 20  # pages that shrink are packed
    assert report["downtime_s"] > 0
    made = worker.testbed.src.run(["criu-lazy", "report", report["run_file"], report["run_file"], "-o", "-"])
    page = Page(made.stdout)
    assert page.words.count(f"{migration.name}: task {worker.pid}, ") == 6, "title, comparison and headings"
    pictures = {"time line", "MB/s over time", "MB over time", "arrival of pages by address and time", "shares"}
    assert pictures <= set(page.pictures)
    assert "the task runs at the destination" in page.words
    states = ["dumping", "serving", "restoring", "allowed", "running", "drained", "committing", "committed"]
    chosen = ["pre-copy"] if report["precopy"] else []  # as busy as the machine is, the path may look slow
    assert list(report["phases_s"]) == chosen + states
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


def test_rsync_of_hooks_goes_by_a_connection_that_is_there_before_the_freeze(worker: Worker) -> None:
    src, dst = worker.testbed.src, worker.testbed.dst
    src.write("/srv/brought", "all of it\n")
    checks = "$RSYNC_RSH -O check dst 2>/srv/said; ! $RSYNC_RSH -O check root@10.78.0.9 2>/dev/null"
    hook = f"{checks} && rsync -a /srv/brought dst:/srv/brought"
    assert_moved(worker, Migration(worker.testbed, BASE + f"hooks: {{after_dump: [{{run: '{hook}'}}]}}\n"))
    assert src.read("/srv/said").startswith("Master running") and dst.read("/srv/brought") == "all of it\n"
    eventually(lambda: src.run(["ls", "/run/criu-lazy/ssh"]).stdout == "", "it is closed")


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
        told = host.run(["criu-lazy", "check"]).stdout
        assert re.fullmatch(r"\d+ ok\nno task was looked at: --pid PID, .*\n", told), "only what is not well is named"
        named = host.run(["criu-lazy", "check", "--verbose"]).stdout.splitlines()
        assert f"{sum(line.startswith('ok   ') for line in named)} ok" in told
        items = json.loads(host.run(["criu-lazy", "check", "--json"]).stdout)
        assert {"pycriu", "criu-check", "userfaultfd"} <= {item["check"] for item in items}
    told = testbed.src.run(
        ["env", "PATH=/nowhere", "/usr/bin/python3", "-m", "criu_lazy_ext.cli", "check"], check=False
    )
    assert told.returncode == 1
    missing = "FAIL criu: source: criu: No such file or directory; install criu 4.1 or later"
    assert f"{missing}: apt install criu python3-pycriu: " in told.stdout
