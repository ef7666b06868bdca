"""What can't move is said before the freeze, of tasks with one odd thing each; and what moves isn't refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from lazy_source import eventually
from migrating import COMMITTED, FAILED, ROLLED_BACK, USAGE, Migration, pids_of
from paths import SUPPORT

from testbed import Host, Testbed

PROFILE = "task: {pidfile: /run/odd.pid}\ndestination: {ssh: dst}\n"
RIGHT = "right\n"


@dataclass(frozen=True)
class Case:
    """A task (odd_task.py's words), and what is said of it: a word of each finding's text, by its check."""

    name: str
    task: str
    fails: dict[str, str] = field(default_factory=dict)
    warns: dict[str, str] = field(default_factory=dict)
    profile: str = ""
    at_source: str = "true"
    at_destination: str = "true"
    start: str = "exec {task} </dev/null >/dev/null 2>&1"
    moves: bool | None = None  # what happens when the failures are accepted; None: it isn't tried
    answers: str = RIGHT  # of the restored task


CASES = [
    Case("plain", "output", moves=True),
    Case("shared file", "mapped /dev/shm/odd", {"shared-files": "/dev/shm/odd"}, moves=True, answers="SystemExit: 1\n",
        at_destination="head -c 1048576 /dev/zero >/dev/shm/odd"),
    Case("shared file that a hook brings", "mapped /srv/odd.file", moves=True,
        profile="hooks: {after_dump: [{run: [scp, -q, -p, /srv/odd.file, 'dst:/srv/odd.file']}]}",
        at_destination="head -c 1048576 /dev/zero >/srv/odd.file"),
    Case("shared file and another hook", "mapped /srv/odd.file", warns={"shared-files": "/srv/odd.file"},
        profile="hooks: {after_dump: [{run: /usr/bin/sync}]}",
        at_destination="head -c 1048576 /dev/zero >/srv/odd.file"),
    Case("file that grew", "opened /srv/odd.file", {"differing-files": "has 4 bytes there, 3 here"}, moves=False,
        at_source="printf abc >/srv/odd.file", at_destination="printf abcd >/srv/odd.file"),
    Case("other content", "opened /srv/odd.file", {"differing-files": "another content there"}, moves=True,
        at_source="printf abc >/srv/odd.file", at_destination="printf abd >/srv/odd.file"),
    Case("same content", "opened /srv/odd.file", moves=True,
        at_source="printf abc >/srv/odd.file", at_destination="sleep 0.1; printf abc >/srv/odd.file"),
    Case("other mode", "opened /srv/odd.file", {"differing-files": "has mode 600 there, 644 here"},
        at_source="printf abc >/srv/odd.file", at_destination="printf abc >/srv/odd.file; chmod 600 /srv/odd.file"),
    Case("log of another size", "output", moves=True, start="exec {task} </dev/null >>/srv/odd.log 2>&1",
        at_source="printf abc >/srv/odd.log", at_destination="printf abcd >/srv/odd.log"),
    Case("missing file", "opened /srv/odd.file", {"missing-files": "/srv/odd.file"},
        at_source="printf abc >/srv/odd.file"),
    Case("small deleted file", "deleted 100", moves=True),
    Case("large deleted file", "deleted 3000", {"deleted-files": "/srv/odd.deleted (3.1 MB)"}, moves=False),
    Case("large one, allowed", "deleted 3000", moves=True, profile="criu: {dump_options: [--ghost-limit, 4M]}"),
    Case("file of another name", "renamed_over", {"deleted-files": "/srv/odd.linked"}),
    Case("lock", "lock", {"file-locks": "/srv/odd.lock"}, moves=False, at_destination=": >/srv/odd.lock"),
    Case("lock, allowed", "lock", profile="criu: {file_locks: true}", moves=True, at_destination=": >/srv/odd.lock"),
    Case("pipe to outside", "output", {"outside-pipes": "is a pipe to process"}, moves=True,
        start="setsid {task} </dev/null | cat >/dev/null", answers="BrokenPipeError: [Errno 32] Broken pipe\n"),
    Case("job of a shell", "output", {"session": "no session leader"},
        start="{task} </dev/null >/dev/null 2>&1 & wait"),
    Case("job of a shell, allowed", "output", profile="criu: {shell_job: true}", moves=True,
        start="{task} </dev/null >/dev/null 2>&1 & wait"),
    Case("terminal", "output", {"terminal": "is the terminal /dev/pts/"},
        profile="criu: {shell_job: true}", start="exec script -qc '{task}' /dev/null </dev/null >/dev/null"),
    Case("io_uring", "io_uring", {"kernel-objects": "[io_uring]"}),
    Case("inotify", "watch /srv", {"inotify": "can't name"}),
    Case("inotify on a tmpfs", "watch /run", moves=True),
    Case("tun", "device /dev/net/tun", {"devices": "/dev/net/tun"}),
    Case("System V", "system_v", {"system-v": "System V shared memory"}),
    Case("zombie", "zombie", {"zombies": "whose session leader is outside"}),
    Case("unix stream", "stream /run/outside.stream", {"outside-sockets": "/run/outside.stream"}, moves=False),
    Case("syslog", "datagram /run/outside.log", {"outside-sockets": "/run/outside.log", "socket-names": "not there"}),
    Case("syslog there, too", "datagram /run/outside.log", profile="criu: {ext_unix_sk: true}", moves=True,
        at_destination="setsid python3 /srv/outside.py /run/outside.stream /run/outside.log 7001 </dev/null >/dev/null "
        "2>&1 & while [ ! -e /run/outside.ready ]; do sleep 0.05; done"),
    Case("unix listener", "unix_listener /run/odd.socket", moves=True),
    Case("unix listener in a directory of its own", "unix_listener /srv/odd.d/socket", {"missing-files": "/srv/odd.d"},
        at_source="mkdir -p /srv/odd.d"),
    Case("address", "listener 10.78.0.1:7003", {"addresses": "10.78.0.1"}),
    Case("port", "listener 0.0.0.0:22", {"ports": "0.0.0.0 port 22"}, moves=False, at_source="pkill -x sshd; true"),
    Case("free port", "listener 0.0.0.0:7003", moves=True),
    Case("connection here", "connection 127.0.0.1:7001", {"local-connections": ":7001"}),
    Case("connection that is not to move", "connection 127.0.0.1:7001",
        {"connections": "127.0.0.1:7001", "local-connections": ":7001"}, profile="criu: {tcp_established: false}"),
    Case("MPTCP", "mptcp", {"socket-kinds": "MPTCP"}),
]  # fmt: skip


@pytest.fixture(scope="module")
def hosts(testbed: Testbed) -> Iterator[Testbed]:
    testbed.link.set(rate_mbit=1000, rtt_ms=0.2)
    for host in (testbed.src, testbed.dst):
        for name in ("odd_task.py", "outside.py"):
            host.write(f"/srv/{name}", (SUPPORT / name).read_text())
    src = testbed.src
    src.start(["python3", "/srv/outside.py", "/run/outside.stream", "/run/outside.log", "7001"])
    eventually(lambda: (src.root / "run/outside.ready").exists(), "what stays is there")
    yield testbed
    for host in (testbed.src, testbed.dst):
        host.run(["pkill", "-9", "-f", "outside.py"], check=False)
        host.run(["sh", "-c", "rm -f /run/outside.* /srv/outside.py /srv/odd_task.py"])
    if not pids_of(src, "sshd: /usr/sbin/sshd"):
        src.start(["/usr/sbin/sshd"])


@pytest.fixture
def clean(hosts: Testbed) -> Iterator[Testbed]:
    yield hosts
    for host in (hosts.src, hosts.dst):
        host.run(["pkill", "-9", "-f", "odd_task.py"], check=False)
    hosts.dst.run(["pkill", "-9", "-f", "outside.py"], check=False)
    remove = "rm -rf /run/odd.* /srv/odd.* /dev/shm/odd /run/outside.ready /root/m*.yaml /var/lib/criu-lazy*"
    for host in (hosts.src, hosts.dst):
        host.run(["sh", "-c", remove])


def findings(host: Host, *arguments: str) -> list[dict[str, Any]]:
    return list(json.loads(host.run(["criu-lazy", "check", "--json", *arguments], check=False).stdout))


def told(found: list[dict[str, Any]], verdict: str) -> dict[str, str]:
    return {item["check"]: item["text"] for item in found if item["verdict"] == verdict}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))
def test_what_is_said_of_a_task_is_what_happens_to_it(clean: Testbed, case: Case) -> None:
    src, dst = clean.src, clean.dst
    src.run(["sh", "-c", case.at_source])
    dst.run(["sh", "-c", case.at_destination])
    src.start(["sh", "-c", case.start.format(task=f"python3 /srv/odd_task.py {case.task}")])
    eventually((src.root / "run/odd.pid").exists, "it runs")
    src.write("/root/m-check.yaml", PROFILE + case.profile)
    found = findings(src, "/root/m-check.yaml")
    for verdict, expected in (("fail", case.fails), ("warn", case.warns)):
        said = told(found, verdict)
        assert said.keys() == expected.keys(), said
        assert all(words in said[check] for check, words in expected.items()), said
    if case.moves is None:
        return
    migration = Migration(clean, f"{PROFILE}{case.profile}\naccept: [{', '.join(case.fails)}]\n")
    status = migration.end()
    if not case.moves:
        assert status == ROLLED_BACK, migration.report
        return
    assert status == COMMITTED, migration.report
    if case.fails:
        assert any(case.fails[check] in text for check in case.fails for text in migration.report["warnings"])
    dst.run(["pkill", "-USR1", "-f", "python3 /srv/odd_task.py"])
    answer = dst.root / "run/odd.result"
    eventually(lambda: answer.exists() and answer.read_text(), "it answers")
    assert answer.read_text() == case.answers


def test_a_task_whose_children_come_and_go_is_dumped_in_the_end(clean: Testbed) -> None:
    """One that ends while it is looked at, or dumped, fails nothing: criu's "Can't open PID" is tried again."""
    src = clean.src
    src.start(["sh", "-c", "exec python3 /srv/odd_task.py churn 200 </dev/null >/dev/null 2>&1"])
    eventually((src.root / "run/odd.pid").exists, "it runs")
    src.write("/root/m-check.yaml", PROFILE)
    for _ in range(3):
        found = findings(src, "/root/m-check.yaml")
        assert [item for item in found if item["verdict"] != "ok"] == []
    migration = Migration(clean, PROFILE)
    assert migration.end() == COMMITTED, migration.report


def test_a_failure_stops_a_migration_before_the_freeze(clean: Testbed) -> None:
    src = clean.src
    src.start(["sh", "-c", "exec python3 /srv/odd_task.py lock </dev/null >/dev/null 2>&1"])
    eventually((src.root / "run/odd.pid").exists, "it runs")
    migration = Migration(clean, PROFILE)
    assert migration.end() == FAILED
    message = migration.report["message"]
    assert "source: process" in message and "holds a lock on /srv/odd.lock: criu.file_locks: true" in message
    assert "dst: not there: /srv/odd.lock" in message and "\n" not in message
    assert migration.report["phases_s"].keys() == {"failed"}


def test_init_writes_a_profile_by_which_the_task_moves(clean: Testbed) -> None:
    """A job of a shell that holds a lock on a file which the destination lacks."""
    src, dst = clean.src, clean.dst
    src.start(["sh", "-c", "python3 /srv/odd_task.py lock </dev/null >/dev/null 2>&1 & wait"])
    eventually((src.root / "run/odd.pid").exists, "it runs")
    pid = src.read("/run/odd.pid").strip()
    made = src.run(["criu-lazy", "init", "--pid", pid, "dst", "-o", "/root/m-init.yaml"], check=False)
    assert made.returncode == 0, made.stdout + made.stderr
    text = src.read("/root/m-init.yaml")
    for words in ("file_locks: true", "shell_job: true", "[rsync, -a, --relative, /srv/odd.lock, 'dst:/']"):
        assert words in text
    again = src.run(["criu-lazy", "init", "--pid", pid, "dst", "-o", "/root/m-init.yaml"], check=False)
    assert again.returncode == USAGE and "is there already" in again.stderr
    migration = Migration(clean, text)
    assert migration.end() == COMMITTED, migration.report
    dst.run(["pkill", "-USR1", "-f", "python3 /srv/odd_task.py"])
    eventually((dst.root / "run/odd.result").exists, "it answers")
    assert dst.read("/run/odd.result") == RIGHT


def test_init_names_what_is_left_to_settle(clean: Testbed) -> None:
    src = clean.src
    src.start(["sh", "-c", "exec python3 /srv/odd_task.py io_uring </dev/null >/dev/null 2>&1"])
    eventually((src.root / "run/odd.pid").exists, "it runs")
    pid = src.read("/run/odd.pid").strip()
    made = src.run(["criu-lazy", "init", "--pid", pid, "dst", "-o", "-"], check=False)
    assert made.returncode == FAILED
    assert "# fail: source: descriptor 3 of process" in made.stdout and "[io_uring]" in made.stdout
