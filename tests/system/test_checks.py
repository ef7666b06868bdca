"""What can't move is said before the freeze, of tasks with one odd thing each; and what moves isn't refused."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
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


TCP_CLOSE = "criu: {dump_options: [--tcp-close], restore_options: [--tcp-close]}"
# The parent waits for an exec that does not come.
VFORK = "echo '#include <unistd.h>\nint main(void) { if (!vfork()) pause(); }' | cc -w -x c -o /srv/odd.vfork -"
# What stays, with its sockets: a stream's name, a datagram's, a port.
OUTSIDE = (
    "setsid python3 /srv/outside.py {} /run/outside.log 7001 </dev/null >/dev/null 2>&1 & "
    "while [ ! -e /run/outside.ready ]; do sleep 0.05; done"
)
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
    Case("file whose mount is gone", "output",
        {"outside-mounts": "descriptor 9 of process", "missing-files": "/file"}, moves=False,
        start="mkdir -p /srv/odd.mount; mount -t tmpfs none /srv/odd.mount; : >/srv/odd.mount/file; "
        "exec 9</srv/odd.mount/file; umount --lazy /srv/odd.mount; exec {task} </dev/null >/dev/null 2>&1"),
    Case("file of another mount namespace", "output", {"outside-mounts": "is /dev/null in a mount that is none"},
        {"container": "has a mount namespace of its own"}, moves=False,
        start="exec unshare --mount {task} </dev/null >/dev/null 2>&1 9</dev/null"),
    Case("lock", "lock", {"file-locks": "/srv/odd.lock"}, moves=False, at_destination=": >/srv/odd.lock"),
    Case("lock, allowed", "lock", profile="criu: {file_locks: true}", moves=True, at_destination=": >/srv/odd.lock"),
    Case("pipe to outside", "output", {"outside-pipes": "is a pipe to process"}, moves=True,
        start="setsid {task} </dev/null | cat >/dev/null", answers="BrokenPipeError: [Errno 32] Broken pipe\n"),
    Case("job of a shell", "output", {"session": "no session leader"},
        start="{task} </dev/null >/dev/null 2>&1 & wait"),
    Case("job of a shell that reaps its children", "reaping", {"session": "no session leader"},
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
    Case("System V semaphores", "semaphore", {"system-v": "has System V semaphores"}, moves=True,
        answers="OSError: [Errno 22] Invalid argument\n"),
    Case("System V messages", "queue", {"system-v": "has System V message queues"}),
    Case("FIFO to outside", "fifo /srv/odd.fifo", {"outside-pipes": "(cat), which stays here"}, moves=True,
        at_source="mkfifo /srv/odd.fifo; setsid cat /srv/odd.fifo </dev/null >/dev/null 2>&1 &",
        at_destination="mkfifo /srv/odd.fifo", answers="BrokenPipeError: [Errno 32] Broken pipe\n"),
    Case("pidfd of a process that stays", "pidfd 1", {"outside-pidfds": "a pidfd of process 1 ("}),
    Case("own CPUs", "scheduled here", warns={"scheduling": "has an I/O priority, and none there"}),
    Case("SCHED_DEADLINE", "scheduled deadline", {"scheduling": "has threads of SCHED_DEADLINE"}, moves=False),
    Case("nested namespaces", "nested 0x4000000", {"nested-namespaces": "has another uts namespace"}),
    Case("nested network namespace", "nested 0x40000000", {"nested-namespaces": "has another net namespace"}),
    Case("thread's own descriptors", "thread 0x400", {"own-of-threads": "has descriptors of its own"}),
    Case("thread's own network", "thread 0x40000000", {"own-of-threads": "has a net namespace of its own"}),
    Case("zombie", "zombie", {"zombies": "whose session leader is outside"}),
    Case("unix stream", "stream /run/outside.stream", {"outside-sockets": "/run/outside.stream"}, moves=False),
    Case("syslog", "datagram /run/outside.log", {"outside-sockets": "/run/outside.log", "socket-names": "not there"}),
    Case("syslog there, too", "datagram /run/outside.log", profile="criu: {ext_unix_sk: true}", moves=True,
        at_destination=OUTSIDE.format("/run/outside.stream")),
    Case("unix listener", "unix_listener /run/odd.socket", moves=True),
    Case("unix listener in a directory of its own", "unix_listener /srv/odd.d/socket", {"missing-files": "/srv/odd.d"},
        at_source="mkdir -p /srv/odd.d"),
    Case("unix listener whose name is taken", "unix_listener /run/outside.name",
        {"socket-names-free": "another program there has the unix socket /run/outside.name"},
        at_destination=OUTSIDE.format("/run/outside.name")),
    Case("address", "listener 10.78.0.1:7003", {"addresses": "10.78.0.1"}),
    Case("port", "listener 0.0.0.0:22", {"ports": "0.0.0.0 port 22"}, moves=False, at_source="pkill -x sshd; true"),
    Case("free port", "listener 0.0.0.0:7003", moves=True),
    Case("connection here", "connection 127.0.0.1:7001", {"local-connections": ":7001"}),
    Case("connection to an address that stays", "connection 10.78.0.2:22",
        {"addresses": "TCP connections of the task's end at addresses that are not there: 10.78.0.1"}, moves=False),
    Case("connection to an address that stays, closed", "connection 10.78.0.2:22", moves=True, profile=TCP_CLOSE,
        answers="BrokenPipeError: [Errno 32] Broken pipe\n"),
    Case("connection that is not to move", "connection 127.0.0.1:7001",
        {"connections": "127.0.0.1:7001", "local-connections": ":7001"}, profile="criu: {tcp_established: false}"),
    Case("MPTCP", "mptcp", {"socket-kinds": "MPTCP"}),
    Case("code in shared memory", "shared_code", {"shared-code": "is shared, and read-only"}, moves=False),
    Case("source that is not reached", "output", {"reach": "dst: can't connect to the source at 127.0.0.1"},
        profile="source: {address: 127.0.0.1}"),
    Case("vfork", "", {"shared-memory-space": "runs in the memory of its parent"}, moves=False, at_source=VFORK,
        at_destination=VFORK, start="echo $$ >/run/odd.pid; exec /srv/odd.vfork </dev/null >/dev/null 2>&1"),
    Case("dead leader", "dead_leader", {"dead-leader": "the first thread of process"}),
    Case("memfd", "memfd 16", moves=True, warns={
        "not-lazy": "17 MB shared anonymous or memfd", "images-time": "17 MB that are not lazy take about"}),
    Case("written copy of a file", "copied /srv/odd.file", moves=True, at_source="truncate -s 16M /srv/odd.file",
        at_destination="truncate -s 16M /srv/odd.file", warns={
        "not-lazy": "MB written to private mappings of files", "images-time": "MB that are not lazy take about"}),
    Case("memfd beyond the limit", "memfd 16", {"images-time": ", and downtime_limit is 0.01 s"},
        {"not-lazy": "17 MB shared anonymous or memfd"}, profile="downtime_limit: 0.01"),
    Case("supervisor", "output", warns={"supervisor": "(runsv), may start it again"}, at_source="mkdir -p /srv/odd.d; "
        "cp /bin/sh /srv/odd.d/runsv", start="exec /srv/odd.d/runsv -c 'setsid {task} </dev/null >/dev/null 2>&1; :'"),
    Case("user namespace", "output", {"container": "has a user namespace of its own"}, moves=False,
        start="exec unshare -Ur {task} </dev/null >/dev/null 2>&1"),
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


@pytest.fixture(scope="module")
def check(hosts: Testbed) -> Iterator[Callable[[str], list[dict[str, Any]]]]:
    """What `criu-lazy check` finds of a profile, without its start."""
    hosts.src.write("/srv/checking.py", (SUPPORT / "checking.py").read_text())
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with hosts.src.popen(["python3", "/srv/checking.py"], **pipes) as checking:
        assert checking.stdin is not None and checking.stdout is not None

        def found(profile: str) -> list[dict[str, Any]]:
            checking.stdin.write(profile + "\n")
            checking.stdin.flush()
            return list(json.loads(checking.stdout.readline()))

        yield found
        checking.stdin.close()
        checking.wait(30)


@pytest.fixture
def clean(hosts: Testbed) -> Iterator[Testbed]:
    yield hosts
    for host in (hosts.src, hosts.dst):
        host.run(["pkill", "-9", "-f", "odd_task.py|odd[.]vfork"], check=False)
        host.run(["umount", "-l", "/srv/odd.full"], check=False)
    hosts.dst.run(["pkill", "-9", "-f", "outside.py"], check=False)
    hosts.dst.run(["umount", "-l", "/srv/odd.small"], check=False)
    remove = "rm -rf /run/odd.* /srv/odd[.\\ ]* /usr/share/odd.data /dev/shm/odd /run/outside.ready /root/m*.yaml "
    remove += "/var/lib/criu-lazy*"
    for host in (hosts.src, hosts.dst):
        host.run(["sh", "-c", remove])
    serves = "ss -Hltnp sport = :22 | grep -q sshd || { /usr/sbin/sshd; false; }"  # not while a task has its port
    eventually(lambda: hosts.src.run(["sh", "-c", serves], check=False).returncode == 0, "src has its sshd")


def start(host: Host, task: str, command: str = "exec {task} </dev/null >/dev/null 2>&1") -> None:
    """odd_task.py as CASES do it."""
    host.start(["sh", "-c", command.format(task=f"python3 /srv/odd_task.py {task}")])
    eventually((host.root / "run/odd.pid").exists, "it runs")


def findings(host: Host, *arguments: str) -> list[dict[str, Any]]:
    return list(json.loads(host.run(["criu-lazy", "check", "--json", *arguments], check=False).stdout))


def told(found: list[dict[str, Any]], verdict: str) -> dict[str, str]:
    return {item["check"]: item["text"] for item in found if item["verdict"] == verdict}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))
def test_what_is_said_of_a_task_is_what_happens_to_it(
    clean: Testbed, check: Callable[[str], list[dict[str, Any]]], case: Case
) -> None:
    src, dst = clean.src, clean.dst
    src.run(["sh", "-c", case.at_source])
    dst.run(["sh", "-c", case.at_destination])
    start(src, case.task, case.start)
    src.write("/root/m-check.yaml", PROFILE + case.profile)
    found = check("/root/m-check.yaml")
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


def test_a_socket_that_criu_can_not_dump_on_this_kernel_is_told_of(hosts: Testbed) -> None:
    """Of 4.1, whatever the socket does."""
    with Testbed.start(criu=("4.1", "4.1"), name=f"old-{os.getpid()}") as old:
        old.src.write("/srv/odd_task.py", (SUPPORT / "odd_task.py").read_text())
        start(old.src, "listener 0.0.0.0:7003")
        migration = Migration(old, PROFILE + "accept: [socket-kinds]\n")
        is_refused = migration.end() != COMMITTED
        said = told(findings(old.src, "--pid", old.src.read("/run/odd.pid").strip(), "dst"), "fail")
        assert ("socket-kinds" in said) == is_refused, migration.report
        if is_refused:
            assert "criu 4.1" in said["socket-kinds"] and "can't dump one on this kernel" in said["socket-kinds"]
            assert "install criu 4.2" in migration.report["message"]


def test_a_task_whose_children_come_and_go_is_dumped_in_the_end(
    clean: Testbed, check: Callable[[str], list[dict[str, Any]]]
) -> None:
    """One that ends while it is looked at, or dumped, fails nothing: criu's "Can't open PID" is tried again."""
    src = clean.src
    start(src, "churn 200")
    src.write("/root/m-check.yaml", PROFILE)
    said = eventually(lambda: told(check("/root/m-check.yaml"), "warn").get("short-lived"), "they are told of")
    assert "began just now" in said
    for _ in range(3):
        found = check("/root/m-check.yaml")
        assert {item["check"] for item in found if item["verdict"] != "ok"} <= {"short-lived"}
    migration = Migration(clean, PROFILE)
    assert migration.end() == COMMITTED, migration.report


def test_locked_memory_does_not_go_in_the_rounds(clean: Testbed) -> None:
    """A dump takes it into its images, whole."""
    start(clean.src, "locked 32")
    migration = Migration(clean, PROFILE + "precopy: {rounds: 1}\n")
    assert migration.end() == COMMITTED, migration.report
    assert any("34 MB locked (mlock)" in text for text in migration.report["warnings"])
    (first,) = migration.report["precopy"]["rounds"]
    assert 0 < first["scanned_pages"] << 12 < 64 << 20, "what it checks against is as large, and not locked"
    clean.dst.run(["pkill", "-USR1", "-f", "python3 /srv/odd_task.py"])
    eventually((clean.dst.root / "run/odd.result").exists, "it answers")
    assert clean.dst.read("/run/odd.result") == RIGHT


def test_a_failure_stops_a_migration_before_the_freeze(clean: Testbed) -> None:
    src = clean.src
    start(src, "lock")
    migration = Migration(clean, PROFILE)
    assert migration.end() == FAILED
    message = migration.report["message"]
    assert "source: process" in message and "holds a lock on /srv/odd.lock: criu.file_locks: true" in message
    assert "dst: not there: /srv/odd.lock" in message and "\n" not in message
    assert migration.report["phases_s"].keys() == {"failed"}


def test_init_writes_a_profile_by_which_the_task_moves(clean: Testbed) -> None:
    """A job of a shell that holds a lock on a file which the destination lacks."""
    src, dst = clean.src, clean.dst
    start(src, "lock", "{task} </dev/null >/dev/null 2>&1 & wait")
    pid = src.read("/run/odd.pid").strip()
    made = src.run(["criu-lazy", "init", "--pid", pid, "dst", "-o", "/root/m-init.yaml"], check=False)
    assert made.returncode == 0, made.stdout + made.stderr
    text = src.read("/root/m-init.yaml")
    for words in ("file_locks: true", "shell_job: true", "rsync -a --relative /srv/odd.lock dst:/"):
        assert words in text
    again = src.run(["criu-lazy", "init", "--pid", pid, "dst", "-o", "/root/m-init.yaml"], check=False)
    assert again.returncode == USAGE and "is there already" in again.stderr
    again = src.run(["criu-lazy", "init", "--pid", pid, "dst", "-o", "/root/m-init.yaml", "--force"], check=False)
    assert again.returncode == 0 and src.read("/root/m-init.yaml") == text
    migration = Migration(clean, text)
    assert migration.end() == COMMITTED, migration.report
    dst.run(["pkill", "-USR1", "-f", "python3 /srv/odd_task.py"])
    eventually((dst.root / "run/odd.result").exists, "it answers")
    assert dst.read("/run/odd.result") == RIGHT


def test_rsync_is_looked_for_where_hooks_run_it_at_both_ends(clean: Testbed) -> None:
    src = clean.src
    start(src, "lock", "exec {task} >/dev/null 2>&1")
    pid = src.read("/run/odd.pid").strip()
    for host, side in ((src, "source"), (clean.dst, "dst")):
        host.run(["mv", "/usr/bin/rsync", "/usr/bin/rsync.away"])
        try:
            made = src.run(["criu-lazy", "init", "--pid", pid, "dst", "-o", "-"], check=False)
        finally:
            host.run(["mv", "/usr/bin/rsync.away", "/usr/bin/rsync"])
        assert made.returncode == FAILED
        said = [line for line in made.stdout.splitlines() if line.startswith("# fail: ")]
        missing = "hooks run rsync, which takes it at both ends, and it is not installed here"
        assert said == [f"# fail: {side}: {missing}: apt install rsync on that host"], made.stdout


def test_init_brings_files_whatever_their_names_and_leaves_programs_to_packages(clean: Testbed) -> None:
    src, dst = clean.src, clean.dst
    name = "/srv/odd (of 2), or 3/it's one: a"
    src.run(["sh", "-c", 'mkdir -p "${1%/*}" && echo here >"$1"', "sh", name])
    for host, version in ((src, "1"), (dst, "2")):
        host.run(["sh", "-c", f"echo {version} >/usr/share/odd.data"])
    start(src, f"opened {shlex.quote(name)}", "exec {task} </usr/share/odd.data >/dev/null 2>&1")
    pid = src.read("/run/odd.pid").strip()
    written = src.run(["criu-lazy", "init", "--pid", pid, "dst", "-o", "-"], check=False).stdout
    assert "not the same there: /usr/share/odd.data" in written
    hooks = yaml.safe_load(written)["hooks"]
    (before,), (after,) = hooks["before_dump"], hooks["after_dump"]
    assert shlex.split(before["run"])[:5] == ["rsync", "-a", "--relative", name, "dst:/"]
    assert shlex.split(after["run"]) == ["rsync", "-a", "--relative", name, "dst:/"]
    migration = Migration(clean, written)
    assert migration.end() == COMMITTED, migration.report
    assert (dst.read(name), dst.read("/usr/share/odd.data")) == ("here\n", "2\n")


def test_init_has_a_service_address_ready_and_not_the_hosts_own(clean: Testbed) -> None:
    src = clean.src
    src.run(["ip", "address", "add", "10.78.0.99/24", "dev", "svc0"])
    try:
        written = {}
        for address in ("10.77.0.1", "10.78.0.99"):
            src.run(["sh", "-c", "pkill -9 -f odd_task[.]py; rm -f /run/odd.pid"])
            start(src, f"listener {address}:7003")
            pid = src.read("/run/odd.pid").strip()
            made = src.run(["criu-lazy", "init", "--pid", pid, "dst", "-o", "-"], check=False)
            assert made.returncode == FAILED
            assert f"bound to addresses that are not there: {address}: " in made.stdout
            written[address] = made.stdout
        assert "# network: " not in written["10.77.0.1"], "SSH comes from it, and pages are fetched there"
        ready = written["10.78.0.99"].replace("# network: ", "network: ")
        assert yaml.safe_load(ready)["network"] == {"addresses": ["10.78.0.99/24 dev svc0"]}
        src.write("/root/m-ready.yaml", ready)
        assert not told(findings(src, "/root/m-ready.yaml"), "fail")
    finally:
        src.run(["ip", "address", "del", "10.78.0.99/24", "dev", "svc0"])


def test_init_names_what_is_left_to_settle(clean: Testbed) -> None:
    src = clean.src
    start(src, "io_uring")
    pid = src.read("/run/odd.pid").strip()
    made = src.run(["criu-lazy", "init", "--pid", pid, "dst", "-o", "-"], check=False)
    assert made.returncode == FAILED
    assert "# fail: source: descriptor 3 of process" in made.stdout and "[io_uring]" in made.stdout


SMALL = ["mount", "-t", "tmpfs", "-o", "size=8m,noexec", "small", "/srv/odd.small"]


def test_a_destination_without_room_for_images_and_where_nothing_may_be_executed_is_told_of(
    clean: Testbed, check: Callable[[str], list[dict[str, Any]]]
) -> None:
    start(clean.src, "memfd 16")
    clean.dst.run(["mkdir", "-p", "/srv/odd.small"])
    clean.dst.run(SMALL)
    clean.src.write("/root/m-check.yaml", PROFILE + "directories: {destination: /srv/odd.small/m}\n")
    said = told(check("/root/m-check.yaml"), "fail")
    assert said.keys() == {"disk", "noexec"}, said
    assert "the images will take 17 MB or more, and 8 MB are free for /srv/odd.small/m" in said["disk"]
    assert said["noexec"] == "/srv/odd.small/m is on a file system that is mounted noexec"
    migration = Migration(clean, PROFILE + "directories: {destination: /srv/odd.small}\naccept: [disk, noexec]\n")
    assert migration.end() == ROLLED_BACK, migration.report


CPU = """
import base64, sys, tempfile
import pycriu
from criu_lazy_ext.checks.needs import Arrival
from criu_lazy_ext.checks.tools import cpu
from criu_lazy_ext.criu import program
with tempfile.TemporaryFile() as file:
    file.write(program.cpu_facts())
    file.seek(0)
    image = pycriu.images.load(file)
    entry = image["entries"][0]["x86_entry"][0]
    entry["xsave_size"] += int(sys.argv[1])
    entry["xsave_size_max"] += int(sys.argv[1])
    file.seek(0)
    pycriu.images.dump(image, file)
    file.seek(0)
    facts = base64.b64encode(file.read()).decode()
print(cpu.run(Arrival(cpu=facts), "dst")[0].text)
"""


def test_a_cpu_that_lacks_what_the_sources_has_is_told_of(hosts: Testbed) -> None:
    said = [hosts.dst.run(["python3", "-c", CPU, more]).stdout.strip() for more in ("0", "64")]
    assert said[0] == ""
    assert said[1].startswith("criu cpuinfo check: Error (") and "xsave size mismatch" in said[1]
    assert said[1].endswith("(the destination's processor lacks what the source's has)")


def test_processes_of_others_are_told_of_where_criu_may_not_read_their_limits(clean: Testbed) -> None:
    src = clean.src
    pid = src.start(["setpriv", "--reuid", "65534", "--clear-groups", "sleep", "1000"])
    eventually(lambda: pid in pids_of(src, "sleep 1000"), "it runs")
    few = ["setpriv", "--bounding-set=-sys_resource", "--inh-caps=-sys_resource", "criu-lazy", "check", "--json"]
    eventually(lambda: src.run(["ps", "-o", "comm=", str(pid)]).stdout == "sleep\n", "it is another user's")
    said = src.run([*few, "--pid", str(pid)], check=False).stdout
    src.run(["kill", str(pid)])
    assert "(sleep) runs as user 65534, group 0, and CAP_SYS_RESOURCE" in told(json.loads(said), "fail")["capabilities"]


MAY_NOT = """
from criu_lazy_ext.checks.needs import Arrival
from criu_lazy_ext.checks.tools import UNPRIVILEGED, user_namespace
before = UNPRIVILEGED.read_text()
try:
    for value in "01":
        UNPRIVILEGED.write_text(value)
        print(user_namespace.run(Arrival(user_namespace=True), "dst")[0].text)
finally:
    UNPRIVILEGED.write_text(before)
"""


def test_a_user_namespace_for_which_userfaultfd_is_forbidden_is_told_of(hosts: Testbed) -> None:
    said = hosts.dst.run(["python3", "-c", MAY_NOT]).stdout.splitlines()
    assert said == ["the task has a user namespace of its own, and vm.unprivileged_userfaultfd is 0", ""]


def test_a_tasks_monotonic_clocks_go_on_where_the_host_has_run_for_another_time(clean: Testbed) -> None:
    src, dst = clean.src, clean.dst
    start(src, "clocks")
    younger = "{ssh: dst, criu_lazy: unshare --time --fork --monotonic -100 --boottime -100 criu-lazy}"
    migration = Migration(clean, PROFILE.replace("{ssh: dst}", younger))
    assert migration.end() == COMMITTED, migration.report
    dst.run(["pkill", "-USR1", "-f", "python3 /srv/odd_task.py"])
    eventually((dst.root / "run/odd.result").exists, "it answers")
    assert dst.read("/run/odd.result") == RIGHT


LATE = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>
int clock_gettime(clockid_t clock, struct timespec *now)
{
	int failed = ((int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime"))(clock, now);
	now->tv_sec -= clock == CLOCK_REALTIME ? 100 : 0;
	return failed;
}
"""


def test_a_destination_whose_clock_is_late_is_warned_of(clean: Testbed) -> None:
    clean.dst.write("/srv/odd.late.c", LATE)
    clean.dst.run(["cc", "-shared", "-fPIC", "-o", "/srv/odd.late.so", "/srv/odd.late.c"])
    late = "{ssh: dst, criu_lazy: env LD_PRELOAD=/srv/odd.late.so criu-lazy}"
    clean.src.write("/root/m-check.yaml", PROFILE.replace("{ssh: dst}", late))
    start(clean.src, "output")
    said = told(findings(clean.src, "/root/m-check.yaml"), "warn")
    assert said.keys() == {"wall-clock"} and said["wall-clock"].startswith("the clock at dst is ")
    assert 80 < float(said["wall-clock"].split()[5]) <= 100 and "behind this host's" in said["wall-clock"]


def test_huge_pages_that_the_destination_lacks_are_told_of(
    clean: Testbed, check: Callable[[str], list[dict[str, Any]]]
) -> None:
    """The hosts share one kernel, and its pages."""
    pages = Path("/proc/sys/vm/nr_hugepages")
    before = pages.read_text()
    try:
        pages.write_text(str(int(before) + 2))
        if int(Path("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages").read_text()) != 2:
            pytest.skip("this machine has no huge pages to spare, or others use them")
        start(clean.src, "huge 2")
        clean.src.write("/root/m-check.yaml", PROFILE)
        said = told(check("/root/m-check.yaml"), "fail")
        assert said == {"huge-pages": "the task has 4 MB in huge pages, and 0 MB are free there"}
    finally:
        pages.write_text(before)


NOBODY = "setpriv --reuid 65534 --regid 65534 --clear-groups"
# A profile but for its task, what runs `criu-lazy migrate PROFILE`, and what is said.
WRONG = {
    "no such host": ("destination: {ssh: nohost}", "",
        "nohost: ssh to it failed: it has to work as root without a prompt; try `ssh nohost true`"),
    "no login there": ("destination: {ssh: nobody@dst}", "", "nobody@dst: ssh to it failed: it has to work as root"),
    "not installed there": ("destination: {ssh: dst, criu_lazy: criu-lazee}", "",
        "dst: criu-lazee is not there: install criu-lazy there, or let"),
    "not root there": (f"destination: {{ssh: dst, criu_lazy: {NOBODY} criu-lazy}}", "", "dst: uid is 65534: run it as"),
    "not root": ("destination: {ssh: dst}", NOBODY, "odd.wrong.lock: Permission denied: run it as root"),
    "no ssh": ("destination: {ssh: dst}", "env PATH=/srv/odd.bin", "ssh: No such file or directory: is it installed"),
    "no criu": ("destination: {local: true}", "env PATH=/srv/odd.bin", "criu: No such file or directory; install"),
    "this very host": ("destination: {ssh: src}", "",
        "this is the source itself, where the task has its pids: name another host as the destination"),
    "an address that is none": ("destination: {ssh: dst}\nsource: {address: none.invalid}", "",
        "can't listen on none.invalid, port any: Temporary failure in name resolution"),
    "an option that criu has not": ("destination: {ssh: dst}\ncriu: {dump_options: [--fast]}", "",
        "source: criu dump: unrecognized option '--fast': see criu.dump_options"),
    "an option that criu has not there": ("destination: {ssh: dst}\ncriu: {restore_options: [--fast]}", "",
        "dst: criu restore: unrecognized option '--fast': see criu.restore_options"),
    "a hook that is no program": ("destination: {ssh: dst}\nhooks: {after_dump: [{run: [/srv/none]}]}", "",
        "source: hooks run what is no program here: /srv/none: see hooks"),
    "a hook that is no program there": (
        "destination: {ssh: dst}\nhooks: {after_restore: [{run: [/srv/none], on: destination}]}", "",
        "dst: hooks run what is no program here: /srv/none: see hooks"),
    "no way back": ("destination: {ssh: dst}\nsource: {address: 127.0.0.1}", "",
        "let source.address be one that the destination reaches"),
    "a full disk there": ("destination: {ssh: dst}\ndirectories: {destination: /srv/odd.full}", "",
        "dst: the images will take"),
    "a file system that can't be written there": ("destination: {ssh: dst}\ndirectories: {destination: /proc/odd}", "",
        "let directories.destination be"),
    "a port in use": ("destination: {ssh: dst}\nsource: {port: 7022}", "",
        "port 7022: Address already in use: source.address has to be one of this host's, and source.port a free one"),
    "an address of another": ("destination: {ssh: dst}\nsource: {address: 10.9.9.9}", "",
        "can't listen on 10.9.9.9, port any: Cannot assign requested address: source.address has to be one"),
    "no directory there": ("destination: {ssh: dst}\ndirectories: {destination: /etc/passwd}", "",
        "Not a directory: let directories.destination"),
    "no directory": ("destination: {ssh: dst}\ndirectories: {source: /etc/passwd}", "",
        "let directories.source be where it can be made"),
    "a full disk": ("destination: {ssh: dst}\ndirectories: {source: /srv/odd.full}", "",
        "0 kB are free for /srv/odd.full"),
}  # fmt: skip
# The same of other commands, and their exit statuses.
WRONG_COMMANDS = {
    f"{NOBODY} criu-lazy drop-in install": (USAGE, "Permission denied: run it as root, or name another directory"),
    f"{NOBODY} criu-lazy status --directory /root": (USAGE, "/root: Permission denied: run it as root"),
    f"{NOBODY} criu-lazy init --pid 1 dst -o /root/x.yaml": (FAILED, "/root/x.yaml: Permission denied"),
    "criu-lazy init --container none dst": (FAILED, "know no container 'none'; see podman ps, runc list"),
}
PREPARED = (
    "mkdir /srv/odd.bin /srv/odd.full; ln -s /usr/local/bin/criu-lazy $(which python3) /srv/odd.bin; "
    "mount -t tmpfs -o size=16k full /srv/odd.full; head -c 64K /dev/zero >/srv/odd.full/x 2>/dev/null || true"
)


def test_wrong_hosts_rights_tools_and_full_disks_are_told_in_one_line_each(clean: Testbed) -> None:
    src = clean.src
    start(src, "output")
    for host in (src, clean.dst):
        host.run(["sh", "-c", PREPARED])
    listening = src.start(["python3", "-m", "http.server", "7022"])
    eventually(lambda: src.run(["sh", "-c", "ss -Hltn | grep :7022"], check=False).stdout, "the port is in use")
    for name, (profile, run, says) in WRONG.items():
        src.write("/srv/odd.wrong.yaml", f"task: {{pidfile: /run/odd.pid}}\n{profile}\n")
        done = src.run(["sh", "-c", f"exec {run} criu-lazy migrate --quiet /srv/odd.wrong.yaml"], check=False)
        said = [line for line in (done.stderr + done.stdout).splitlines() if says in line]
        assert done.returncode == FAILED and len(said) == 1, (name, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr + done.stdout
    src.run(["kill", str(listening)])
    for command, (status, says) in WRONG_COMMANDS.items():
        done = src.run(["sh", "-c", command], check=False)
        assert done.returncode == status and says in done.stderr and len(done.stderr.splitlines()) == 1, done


def test_to_the_very_same_host_nobody_is_told_to_stop_what_is_the_tasks_own(clean: Testbed) -> None:
    start(clean.src, "listener 0.0.0.0:7003")
    pid = clean.src.read("/run/odd.pid").strip()
    said = told(findings(clean.src, "--pid", pid, "src"), "fail")
    assert list(said) == ["pids"] and "this is the source itself" in said["pids"], said


def test_the_outcome_of_a_migration_is_its_exit_status_even_if_nobody_reads_it(clean: Testbed) -> None:
    start(clean.src, "output")
    clean.src.write("/srv/odd.unread.yaml", PROFILE)
    done = clean.src.run(["sh", "-c", "criu-lazy migrate --quiet --json /srv/odd.unread.yaml >/dev/full"], check=False)
    assert (done.returncode, done.stderr) == (COMMITTED, "")


def test_a_task_that_criu_lazy_itself_belongs_to_is_refused(clean: Testbed) -> None:
    src = clean.src
    src.write("/srv/odd.own.yaml", PROFILE)
    own = "echo $$ >/run/odd.pid; criu-lazy migrate --quiet /srv/odd.own.yaml >/srv/odd.said 2>&1; :"
    src.run(["setsid", "--wait", "sh", "-c", own], check=False)
    assert "criu-lazy itself, process " in src.read("/srv/odd.said")


WAYS = {
    "jump host": ("{ssh: dst-service, ssh_options: [-J, dst]}", ""),
    "sudo": ("{ssh: dst, criu_lazy: env -u SSH_CONNECTION criu-lazy}", ""),
    "name that only the jump host knows": (
        "{ssh: behind, ssh_options: [-o, ProxyCommand=ssh -W dst-service:22 dst, -o, StrictHostKeyChecking=no]}",
        "it sees 10.78.0.2, which is not",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("destination", "says"), WAYS.values(), ids=[name.replace(" ", "-") for name in WAYS])
def test_the_way_back_to_the_source_is_found_or_asked_for(clean: Testbed, destination: str, says: str) -> None:
    start(clean.src, "output")
    migration = Migration(clean, PROFILE.replace("{ssh: dst}", destination))
    assert migration.end() == (FAILED if says else COMMITTED), migration.report
    assert says in migration.report["message"] and (not says or "source.address: one of" in migration.report["message"])
