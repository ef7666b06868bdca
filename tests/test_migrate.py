"""`criu-lazy migrate` between two real hosts: every page right, no task lost, whatever dies."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lazy_source import TASK_C, eventually

from criu_lazy_ext.testbed import Host, Testbed

CONFIGS = Path(__file__).parent.parent / "configs"
COMMITTED, FAILED, USAGE, ROLLED_BACK, UNDECIDED = 0, 1, 2, 3, 4
_numbers = itertools.count(1)


def processes(host: Host) -> dict[int, str]:
    """Command lines of all that runs in the host, by pid."""
    found = {}
    for line in host.run(["ps", "-eo", "pid=,args="]).stdout.splitlines():
        pid, _, command = line.strip().partition(" ")
        found[int(pid)] = command
    return found


def pids_of(host: Host, *words: str) -> list[int]:
    """Every process with all of `words` in its command line."""
    return [pid for pid, command in processes(host).items() if all(word in command for word in words)]


def kill(host: Host, *words: str) -> None:
    """SIGKILL exactly these, which must be there."""
    pids = eventually(lambda: pids_of(host, *words), f"{words} runs")
    host.run(["kill", "-9", *map(str, pids)])


def ours(host: Host) -> list[str]:
    """What of a migration runs there."""
    words = ("criu dump", "criu restore", "lazy-pages", "page-server", "criu-lazy agent", "criu-lazy migrate", "gate.sh")
    return [c for c in processes(host).values() if any(word in c for word in words)]


class Worker:
    """The task that moves: it keeps a pattern in its memory, and checks it whenever it is asked."""

    def __init__(self, testbed: Testbed, megabytes: int) -> None:
        self.testbed = testbed
        self.directory = f"/srv/worker{next(_numbers)}"
        for host in (testbed.src, testbed.dst):
            host.run(["mkdir", "-p", self.directory])
        self.pid = testbed.src.start(
            ["sh", "-c", 'cd "$1" && exec /usr/local/bin/patterned_task "$2"', "sh", self.directory, str(megabytes)]
        )
        testbed.src.write("/run/worker.pid", f"{self.pid}\n")
        eventually(lambda: (testbed.src.root / self.directory[1:] / "info").exists(), "the task has started")

    def answers(self, host: Host, seconds: float = 30) -> str:
        """What it says about its memory, on `host`."""
        inside = host.root / self.directory[1:]
        (inside / "answer").unlink(missing_ok=True)
        (inside / "ask").touch()
        return str(eventually(lambda: (inside / "answer").exists() and (inside / "answer").read_text(), "it answers"))

    def is_on(self, host: Host) -> bool:
        return self.pid in pids_of(host, "patterned_task")

    def end(self) -> None:
        for host in (self.testbed.src, self.testbed.dst):
            host.run(["pkill", "-9", "-x", "patterned_task"], check=False)


class Migration:
    """One run of `criu-lazy migrate` on src."""

    def __init__(self, testbed: Testbed, profile: str, *options: str) -> None:
        self.testbed = testbed
        self.name = f"m{next(_numbers)}"
        self.path = f"/root/{self.name}.yaml"
        testbed.src.write(self.path, profile)
        command = ["criu-lazy", "migrate", self.path, "--json", *options]
        self.process = testbed.src.popen(command, stdout=-1, stderr=-1, text=True)
        self.status = -1
        self.stderr = ""
        self.report: dict[str, Any] = {}

    def journal(self) -> dict[str, Any]:
        path = self.testbed.src.root / f"var/lib/criu-lazy/{self.name}/journal.json"
        return dict(json.loads(path.read_text())) if path.exists() else {}

    def is_in(self, *states: str) -> bool:
        return self.journal().get("state") in states

    def end(self, seconds: float = 60) -> int:
        """Its exit status; `report` and `stderr` are there then."""
        stdout, self.stderr = self.process.communicate(timeout=seconds)
        self.status = self.process.returncode
        with contextlib.suppress(ValueError):
            self.report = json.loads(stdout)
        return self.status

    def decide(self, *options: str) -> Any:
        return self.testbed.src.run(["criu-lazy", "migrate", self.path, *options], check=False)


BASE = "task: {pidfile: /run/worker.pid}\ndestination: {ssh: dst}\ntimeouts: {silence: 3}\n"


@pytest.fixture(scope="session")
def hosts(testbed: Testbed) -> Testbed:
    compile_task(testbed)
    return testbed


def compile_task(testbed: Testbed) -> None:
    for host in (testbed.src, testbed.dst):
        host.write("/tmp/patterned_task.c", TASK_C.read_text())
        host.run(["cc", "-O1", "-o", "/usr/local/bin/patterned_task", "/tmp/patterned_task.c"])


@pytest.fixture
def worker(hosts: Testbed) -> Iterator[Worker]:
    hosts.link.set(rate_mbit=1000, rtt_ms=0.2)
    made = Worker(hosts, 32)
    yield made
    made.end()
    hosts.link.mend()
    hosts.link.set()
    for host in (hosts.src, hosts.dst):
        left = [pid for pid, command in processes(host).items() if command in ours(host)]
        if left:
            host.run(["kill", "-9", *map(str, left)], check=False)
        host.run(["sh", "-c", "rm -rf /var/lib/criu-lazy* /srv/worker* /run/worker.pid /root/m*.yaml"])


def assert_moved(worker: Worker, migration: Migration) -> None:
    testbed = worker.testbed
    assert migration.end() == COMMITTED, migration.stderr
    assert migration.report["outcome"] == "committed"
    assert not worker.is_on(testbed.src)
    assert worker.answers(testbed.dst) == "right\n"
    assert_clean(testbed)


def assert_clean(testbed: Testbed) -> None:
    for host in (testbed.src, testbed.dst):
        eventually(lambda host=host: ours(host) == [], f"nothing of it runs on {host.name}: {ours(host)}", 15)
    left = testbed.dst.run(["sh", "-c", "ls -d /var/lib/criu-lazy*/* 2>/dev/null"], check=False).stdout
    assert left == "", "the destination's files are gone"
    assert testbed.src.run(["sh", "-c", "ls -d /var/lib/criu-lazy/*/images"], check=False).stdout == ""


def assert_stayed(worker: Worker, migration: Migration, *says: str) -> None:
    """Rolled back: the source task runs on, nothing is left at the destination, and one line tells why."""
    testbed = worker.testbed
    assert migration.end() == ROLLED_BACK, (migration.stderr, migration.report)
    message = migration.report["message"]
    assert migration.report["outcome"] == "rolled-back"
    assert "\n" not in message
    for word in (*says, "the source task runs on"):
        assert word in message
    assert worker.answers(testbed.src) == "right\n"
    assert_clean(testbed)
    assert not worker.is_on(testbed.dst)


# --- it moves -----------------------------------------------------------------------------------------------------


def test_a_task_moves_with_every_page(worker: Worker) -> None:
    migration = Migration(worker.testbed, (CONFIGS / "process.yaml").read_text())
    assert_moved(worker, migration)
    report = migration.report
    assert report["task_pid"] == worker.pid
    assert report["destination"] == "dst"
    assert report["lazy_pages"] >= 32 * 256
    assert report["received_bytes"] >= 32 << 20
    assert report["downtime_s"] > 0
    states = ["dumping", "serving", "restoring", "allowed", "running", "drained", "committed"]
    assert list(report["phases_s"]) == states
    assert sorted(report["phases_s"].values()) == list(report["phases_s"].values())


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
