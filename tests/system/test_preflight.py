"""What can't move is said before anything is frozen: the task, both hosts' limits, criu's configuration."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lazy_source import eventually
from migrating import (
    BASE,
    COMMITTED,
    FAILED,
    UNDECIDED,
    USAGE,
    Migration,
    Worker,
    assert_clean,
    ours,
    pids_of,
)
from paths import SUPPORT

from criu_lazy_ext.criu.contrary import options_of_files
from testbed import Host, Testbed

# Root without CAP_SYS_RESOURCE can't raise a hard limit.
FEW = ["setpriv", "--bounding-set=-sys_resource", "--inh-caps=-sys_resource", "sh", "-c"]


@pytest.fixture(scope="module")
def hosts(pair: Testbed) -> Testbed:
    for name in ("many_tasks", "uffd_task", "forked_tree"):
        for host in (pair.src, pair.dst):
            host.write(f"/tmp/{name}.c", (SUPPORT / f"{name}.c").read_text())
            host.run(["cc", "-O1", "-o", f"/usr/local/bin/{name}", f"/tmp/{name}.c"])
    return pair


@pytest.fixture(autouse=True)
def cleaned(hosts: Testbed) -> Iterator[None]:
    """What `worker` leaves, which is made later and ends first, goes, too."""
    yield
    hosts.link.set(rate_mbit=1000, rtt_ms=0.2)
    for host in (hosts.src, hosts.dst):
        host.run(["pkill", "-9", "many_tasks|uffd_task|forked_tree"], check=False)
        host.run(["sh", "-c", "rm -rf /etc/criu /var/lib/criu-lazy* /srv/worker* /srv/many* /run/worker.pid /root/m*"])


def refused(migration: Migration, *says: str) -> str:
    """It failed with nothing touched, and one line tells why."""
    assert migration.end() == FAILED and migration.report, (migration.stderr, migration.report)
    message = str(migration.report["message"])
    assert migration.report["phases_s"].keys() == {"failed"}
    assert "\n" not in message
    for word in (*says, "the source task runs on"):
        assert word in message
    for host in (migration.testbed.src, migration.testbed.dst):
        eventually(lambda host=host: ours(host) == [], f"nothing runs on {host.name}", 15)
    return message


# --- a task whose memory is still to come -------------------------------------------------------------------------


def test_a_task_whose_memory_still_arrives_is_not_moved_on(worker: Worker) -> None:
    src, dst = worker.testbed.src, worker.testbed.dst
    first = Migration(worker.testbed, BASE + "source: {rate: 4K}\n")
    eventually(lambda: first.is_in("running"), "the restored task runs")
    dst.write("/root/m-on.yaml", f"task: {{pid: {worker.pid}}}\ndestination: {{local: true}}\n")
    for options in ([], ["--dry-run"]):
        on = dst.run(["criu-lazy", "migrate", "/root/m-on.yaml", *options], check=False)
        assert on.returncode == FAILED
        assert "its memory is still arriving: " in on.stderr and "pages missing" in on.stderr
    check = dst.run(["criu-lazy", "check", "--pid", str(worker.pid)], check=False)
    assert check.returncode == 1
    assert f"FAIL arriving: source: task {worker.pid}: its memory is still arriving: " in check.stdout
    assert first.is_in("running"), "that was tried in time"
    assert first.decide("--rate", "0").returncode == 0
    assert first.end() == COMMITTED, first.stderr
    assert worker.answers(dst) == "right\n"
    check = dst.run(["criu-lazy", "check", "--verbose", "--pid", str(worker.pid)], check=False)
    assert "ok   arriving (source)" in check.stdout
    worker.is_gone_from(src)
    assert_clean(worker.testbed)


def test_who_dumps_it_by_hand_then_is_told_on_by_the_first_migration_which_holds_its_source(worker: Worker) -> None:
    src, dst = worker.testbed.src, worker.testbed.dst
    first = Migration(worker.testbed, BASE + "source: {rate: 4K}\n")
    eventually(lambda: first.is_in("running"), "the restored task runs")
    dump = f"mkdir /root/m-images && exec criu dump -t {worker.pid} -D /root/m-images"
    dst.run(["sh", "-c", dump])  # it takes zeroes for what is missing, and kills the task
    assert first.end() == UNDECIDED, first.stderr
    assert "was killed by SIGKILL" in first.report["message"]
    assert worker.is_on(src) and not worker.is_on(dst)
    assert first.decide("--abort", "--force").returncode == 0
    assert worker.answers(src) == "right\n"


def test_a_userfaultfd_that_comes_after_the_preflight_is_seen_before_the_freeze(worker: Worker) -> None:
    src = worker.testbed.src
    start = f"cd {worker.directory} && exec uffd_task"
    pid = src.start(["sh", "-c", start])
    eventually(lambda: pid in pids_of(src, "uffd_task"), "it runs")
    hook = f"kill -USR1 {pid}; while [ ! -e {worker.directory}/watched ]; do sleep 0.01; done"
    profile = BASE.replace("{pidfile: /run/worker.pid}", f"{{pid: {pid}}}")
    migration = Migration(worker.testbed, f"{profile}hooks:\n  before_dump:\n    - run: {hook!r}\n")
    refused(migration, f"task {pid} uses a userfaultfd of its own")


# --- room at the destination --------------------------------------------------------------------------------------


@pytest.fixture
def limited() -> Iterator[Path]:
    """A memory cgroup, which both hosts see, as they share the machine's."""
    parent = Path("/sys/fs/cgroup/memory")
    if not (parent / "memory.limit_in_bytes").exists():
        pytest.skip("this machine has no cgroup v1 hierarchy for memory")
    group = parent / f"criu-lazy-preflight-{os.getpid()}"
    group.mkdir()
    yield group

    def is_removed() -> bool:
        for pid in (group / "cgroup.procs").read_text().split():
            with contextlib.suppress(OSError):
                (parent / "cgroup.procs").write_text(pid)
        with contextlib.suppress(OSError):
            group.rmdir()
        return not group.exists()

    eventually(is_removed, "the group is empty")


def test_too_little_memory_in_the_group_that_it_goes_to_is_said(worker: Worker, limited: Path) -> None:
    src = worker.testbed.src
    pid = int(src.run(["forked_tree", "24", f"{worker.directory}/tree"]).stdout)
    for each in pids_of(src, "forked_tree"):
        src.write(f"{limited}/cgroup.procs", str(each))
    profile = BASE.replace("{pidfile: /run/worker.pid}", f"{{pid: {pid}}}")
    (limited / "memory.limit_in_bytes").write_text(str(80 << 20))  # it shares 24 MiB; restored, 4 x 24 MiB
    message = refused(
        Migration(worker.testbed, profile),
        f"free in cgroup {limited}, which is limited",
        "check_memory: false",
    )
    needed = int(message.partition("the task will take ")[2].split()[0])
    assert 4 * 24 << 20 < needed * 1e6 < 5 * 24 << 20
    anyway = Migration(worker.testbed, profile.replace("ssh: dst", "ssh: dst, check_memory: false"), "--dry-run")
    assert anyway.end() == 0, anyway.stderr


def test_too_little_memory_at_the_destination_is_said(worker: Worker, limited: Path) -> None:
    """The agent's own group, where criu leaves a task that was dumped from criu's own; a store in memory counts."""
    dst = worker.testbed.dst
    (limited / "memory.limit_in_bytes").write_text(str(128 << 20))
    dst.write("/srv/many-few", f'#!/bin/sh\necho $$ >{limited}/cgroup.procs && exec criu-lazy "$@"\n', mode=0o755)
    profile = BASE.replace("ssh: dst", "ssh: dst, criu_lazy: /srv/many-few")
    migration = Migration(worker.testbed, profile, "--dry-run")
    assert migration.end() == 0, migration.stderr
    (limited / "memory.limit_in_bytes").write_text(str(48 << 20))
    refused(Migration(worker.testbed, profile), "dst: too little memory", f"free in cgroup {limited}")


# --- many processes -----------------------------------------------------------------------------------------------


@pytest.fixture
def many(hosts: Testbed) -> Callable[[int], int]:
    def start(number: int) -> int:
        hosts.src.run(["mkdir", "-p", "/srv/many"])
        hosts.dst.run(["mkdir", "-p", "/srv/many"])
        hosts.src.start(["many_tasks", str(number), "/srv/many/pid"])
        eventually(lambda: (hosts.src.root / "srv/many/pid").exists(), "they run", 60)
        return int(hosts.src.read("/srv/many/pid"))

    hosts.link.set(rate_mbit=None, rtt_ms=0)
    return start


def migrate_with(testbed: Testbed, shell: str, pid: int, more: str = "", wait: float = 120) -> Any:
    profile = f"task: {{pid: {pid}}}\ndestination: {{ssh: dst{more}}}\n"
    testbed.src.write("/root/m-many.yaml", profile)
    return testbed.src.run([*FEW, f"{shell}; exec criu-lazy migrate /root/m-many.yaml"], check=False, timeout=wait)


def test_a_thousand_processes_move_under_the_usual_soft_limit(hosts: Testbed, many: Callable[[int], int]) -> None:
    pid = many(1000)
    done = migrate_with(hosts, "ulimit -Sn 1024", pid, wait=240)
    assert done.returncode == COMMITTED, done.stderr
    hosts.dst.run(["kill", "-USR1", str(pid)])
    answer = hosts.dst.root / "srv/many/pid.result"
    eventually(answer.exists, "they have checked their memory", 60)
    assert answer.read_text() == "1000 right\n"


def test_more_processes_than_descriptors_are_refused_with_figures(hosts: Testbed, many: Callable[[int], int]) -> None:
    pid = many(150)
    done = migrate_with(hosts, "ulimit -n 500", pid)
    assert done.returncode == FAILED
    assert "source: criu dump holds " in done.stderr and "for 150 processes" in done.stderr
    assert "500 are allowed" in done.stderr
    hosts.dst.write("/srv/many-few", '#!/bin/sh\nulimit -n 250; exec criu-lazy "$@"\n', mode=0o755)
    few = "; ".join([" ".join(FEW[:-2]) + " /srv/many-few"])
    done = migrate_with(hosts, "true", pid, more=f", criu_lazy: {few}")
    assert done.returncode == FAILED
    assert "dst: lazy-pages holds 330 descriptors for 150 processes, and 250 are allowed" in done.stderr


# --- criu's own configuration -------------------------------------------------------------------------------------


LEAVING = ["leave-running", "  leave-running  # why", "leave-run", "leave-stopped"]


def has_been_killed(host: Host, pid: int) -> bool:
    """Also one that is still being taken apart: SIGKILL stays pending until it is reaped."""
    try:
        lines = (host.root / f"proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return True
    fields = dict(line.split(":", 1) for line in lines)
    pending = int(fields["SigPnd"], 16) | int(fields["ShdPnd"], 16)
    return fields["State"].split()[0] in "ZX" or bool(pending & 1 << (signal.SIGKILL - 1))


def test_what_criu_takes_from_its_files_is_what_is_found_in_them(worker: Worker, tmp_path: Path) -> None:
    """A real dump by hand: the task is still there with each of these, and gone with none."""
    src, survived, found = worker.testbed.src, [], []
    for line in (*LEAVING, "# leave-running", "log-pid"):
        pid = src.start(["sleep", "1000"])
        src.write("/root/m-config", f"shell-job\n{line}\n")
        dump = f"rm -rf /root/m-images; mkdir /root/m-images; exec criu dump -t {pid} -D /root/m-images"
        src.run(["sh", "-c", dump], env={"CRIU_CONFIG_FILE": "/root/m-config"})
        if not has_been_killed(src, pid):
            survived.append(line)
        src.run(["kill", "-9", str(pid)], check=False)
        (tmp_path / "config").write_text(f"shell-job\n{line}\n")
        names = [given.name for _, given in options_of_files([], {"CRIU_CONFIG_FILE": str(tmp_path / "config")})]
        if {"leave-running", "leave-stopped"} & set(names):
            found.append(line)
    assert survived == found == LEAVING


def configure(host: Host, text: str) -> None:
    host.write("/etc/criu/default.conf", text)


def test_configuration_files_that_work_against_a_migration_are_named(worker: Worker) -> None:
    src, dst = worker.testbed.src, worker.testbed.dst
    configure(src, "# ours\nleave-running\n")
    refused(
        Migration(worker.testbed, BASE), "source: /etc/criu/default.conf:2: leave-running: the source task would run"
    )
    check = src.run(["criu-lazy", "check", "--source"], check=False)
    assert check.returncode == 1 and "default.conf:2: leave-running" in check.stdout
    configure(dst, "tcp-established\nrestore-sibling\n")
    passed_over = BASE + "criu: {dump_options: [--no-default-config]}\n"
    refused(Migration(worker.testbed, passed_over), "dst: /etc/criu/default.conf:2: restore-sibling: ")
    # What is no option against a migration is still criu's; and named, when criu fails.
    configure(src, "tree 1\nport 1\naction-script /bin/false\n")
    dst.run(["rm", "/etc/criu/default.conf"])
    failed = Migration(worker.testbed, BASE)
    assert failed.end() == 3
    assert "action-script (/etc/criu/default.conf:3)" in failed.report["message"]
    configure(src, "tree 1\nport 1\nleave-running\n")
    moved = Migration(worker.testbed, passed_over)
    assert moved.end() == COMMITTED, moved.stderr
    worker.is_gone_from(src)
    assert worker.answers(dst) == "right\n"


def test_a_profile_with_leave_running_is_wrong_usage(worker: Worker) -> None:
    migration = Migration(worker.testbed, BASE + "criu: {dump_options: [-R]}\n")
    assert migration.end() == USAGE
    assert "the source task would run on beside the restored one" in migration.stderr
