"""What can't move is said before anything is frozen: what the preflight goes by, without a testbed."""

from __future__ import annotations

import json
import mmap
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from criu_lazy_ext.checks import catalogue, destination
from criu_lazy_ext.checks.check import Finding, Found, Verdict, accept, check, fail, failures
from criu_lazy_ext.checks.descriptors import outside_pipes
from criu_lazy_ext.checks.leaving import Leaving
from criu_lazy_ext.checks.needs import Arrival, FileFact, measure, pack_ids, unpack_ids
from criu_lazy_ext.checks.pair import Pair, architecture
from criu_lazy_ext.checks.state import NotMovable, check_movable
from criu_lazy_ext.checks.task import Descriptor, Process, Task
from criu_lazy_ext.criu.contrary import contrary_in, value_of
from criu_lazy_ext.profile import parse
from criu_lazy_ext.remote.channel import MAX_JSON_BYTES
from criu_lazy_ext.remote.way_back import Way
from criu_lazy_ext.system import cgroup
from criu_lazy_ext.system.processes import below
from tools.preflight_doc import PAGE, page

LEAST = "task: {pid: 1}\ndestination: {ssh: x}\n"
TRACED = "import ctypes; ctypes.CDLL(None).ptrace(0, 0, 0, 0); print(flush=True); input()"


def test_a_task_that_somebody_traces_is_not_moved() -> None:
    """A debugger, or criu dump, for another migration of it."""
    with subprocess.Popen([sys.executable, "-c", TRACED], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as task:
        assert task.stdout is not None
        task.stdout.readline()
        said = f"task {task.pid} is being traced, by process {os.getpid()}"
        with pytest.raises(NotMovable, match=said):
            check_movable(task.pid)
        task.kill()


@pytest.mark.parametrize(("path", "mode", "is_program"), [
    ("none/app.log", 0o100644, False), ("none/data.db", 0o100600, False), ("none", 0o40755, False),
    ("none/server", 0o100755, True), ("none/libx.so.6", 0o100644, True),
])  # fmt: skip
def test_packages_are_advised_for_what_a_package_brings(tmp_path: Path, path: str, mode: int, is_program: bool) -> None:
    fact = FileFact(str(tmp_path / path), "open", mode, -1, 0, 0, 0, "ext4", "")
    (check,) = [each for each in catalogue.DESTINATION if each.name == "missing-files"]
    (finding,) = check.run(Arrival(files=[list(fact)]), "dst")
    assert finding.text == f"not there: {tmp_path / path}" and finding.way_out.startswith("have hooks copy them")
    assert ("install the same packages" in finding.way_out) is is_program


@pytest.mark.parametrize(("run", "here", "there"), [
    ("rsync -a /srv x:/", True, True), ("cd /srv && exec rsync -a . x:/srv || [ $? = 24 ]", True, True),
    ('rsync -a /srv "$CRIU_LAZY_DESTINATION":/', True, True), ("A=1 rsync -a /srv backup:/", True, False),
    (["rsync", "-a", "/srv", "x:/"], True, True), ("echo no rsync", False, False), ("rsync.sh x:/", False, False),
])  # fmt: skip
def test_rsync_in_a_hook_is_looked_for_at_both_ends_if_it_leads_there(
    run: str | list[str], here: bool, there: bool
) -> None:
    leaving = Leaving(parse(f"{LEAST}hooks: {{before_dump: [{{run: {json.dumps(run)}}}]}}", "p"))
    assert [("rsync" in leaving.hook_programs(on)) for on in ("source", "destination")] == [here, there]


def test_who_has_a_pid_of_the_tasks_is_named() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdin is not None and other.stdout is not None
        other.stdin.write(b"\n")
        other.stdin.flush()
        other.stdout.readline()  # it has its name by now; it ends with its input, whatever is found
        (found,) = destination.pids.look(Arrival(ids=pack_ids([other.pid])))
        assert found.text == f"pids are taken by other processes: {other.pid} (cat)"


@pytest.fixture
def logged() -> Iterator[tuple[subprocess.Popen[bytes], subprocess.Popen[bytes]]]:
    """A task and its logger, which reads its output."""
    with (
        subprocess.Popen(["sleep", "1000"], stdout=subprocess.PIPE) as task,
        subprocess.Popen(["cat"], stdin=task.stdout, stdout=subprocess.DEVNULL) as logger,
    ):
        assert task.stdout is not None
        task.stdout.close()
        yield task, logger
        task.kill()


def test_a_process_that_has_ended_is_at_no_end_of_a_pipe(
    logged: tuple[subprocess.Popen[bytes], subprocess.Popen[bytes]],
) -> None:
    """A child of the task's that ended after the look made its logger's pipe look like one of the task's own."""
    task, logger = logged
    with subprocess.Popen(["true"]) as child:
        pass
    pipe = str(Path(f"/proc/{task.pid}/fd/1").readlink())
    processes = [Process(pid, pid, descriptors=[Descriptor(pid, 1, pipe)]) for pid in (task.pid, child.pid)]
    (finding,) = outside_pipes.run(Leaving(task=Task(task.pid, processes)), "source")
    assert finding.verdict is Verdict.FAIL
    assert f"stdout of process {task.pid} is a pipe to process {logger.pid} (cat), which stays here" in finding.text


def test_a_child_that_came_after_the_look_is_not_what_stays() -> None:
    """A pipe between a task and a new child of its own."""
    script = "import subprocess, sys; subprocess.run(['cat'], stdin=0)"
    reader, writer = os.pipe()
    with subprocess.Popen([sys.executable, "-c", script], stdin=reader, stdout=writer) as task:
        os.close(reader)
        os.close(writer)
        while not below(task.pid):
            time.sleep(0.01)
        pipe = str(Path(f"/proc/{task.pid}/fd/1").readlink())
        process = Process(task.pid, task.pid, descriptors=[Descriptor(task.pid, 1, pipe)])
        (finding,) = outside_pipes.run(Leaving(task=Task(task.pid, [process])), "source")
        for child in below(task.pid):
            child.kill()
        task.kill()
    assert finding.verdict is Verdict.OK, finding.line


def test_the_page_about_the_preflight_is_what_the_checks_say() -> None:
    assert PAGE.read_text() == page(), "run python tools/preflight_doc.py"


def test_a_check_that_can_not_look_says_so() -> None:
    def look(_: None) -> Iterator[Found]:
        yield fail("seen first")
        raise PermissionError(1, "Operation not permitted")

    found = check("it", why="")(look).run(None, "src")
    assert [each.verdict for each in found] == [Verdict.FAIL, Verdict.WARN] and found[0].line == "src: seen first"
    assert found[1].line == "src: it: could not look: Operation not permitted"
    assert list(accept(found, ["it"]))[1] == found[1]


def test_what_the_user_accepts_does_not_stop_a_migration() -> None:
    found = [Finding("a", "src", Verdict.FAIL, "bad", "do"), Finding("b", "dst", Verdict.FAIL, "worse")]
    assert failures(found) == "src: bad: do; dst: worse"
    assert failures(accept(found, ["a"])) == "dst: worse"
    assert failures(accept(found, ["a", "b"])) == ""
    told = list(accept([*found, Finding("b", "dst", Verdict.WARN, "odd")], ["b"]))
    assert [each.verdict for each in told] == [Verdict.FAIL, Verdict.WARN, Verdict.OK] and told[2].text == "odd"


def test_what_is_shared_on_purpose_counts_once() -> None:
    size = 16 << 20
    with mmap.mmap(-1, size) as shared:
        shared.write(b"x" * size)
        ready, end = os.pipe(), os.pipe()
        root = os.fork()
        if root == 0:
            os.fork()
            sum(shared[:])
            os.write(ready[1], b"x")
            os.close(end[1])
            os.read(end[0], 1)
            os._exit(0)
        for _ in range(2):
            os.read(ready[0], 1)
        needs = measure(root, charged=False)
        once = measure(os.getpid(), charged=False)
    for fd in (*ready, *end):
        os.close(fd)
    os.waitpid(root, 0)
    # Its part, as this process shares it, too.
    assert needs.processes == 2 and needs.memory_bytes >= 2 * size // 3
    assert needs.memory_bytes - once.memory_bytes < size


def test_a_v2_groups_room_is_its_limit_less_what_it_can_not_give_back(tmp_path: Path) -> None:
    files = {"max": 1000000, "current": 900000, "swap.max": 50000, "swap.current": 20000}
    for name, value in files.items():
        (tmp_path / f"memory.{name}").write_text(f"{value}\n")
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 300000\nactive_file 100000\nslab 5\n")
    room = cgroup.memory_left(tmp_path, 2, 1 << 40)
    assert room is not None and room.left == 1000000 - 900000 + 400000 + 30000
    (tmp_path / "memory.max").write_text("max\n")
    assert cgroup.memory_left(tmp_path, 2, 0) is None


def test_the_groups_above_are_looked_at_as_far_as_they_are_shown(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    shown = cgroup.Hierarchy(tmp_path, "/top", 2)
    assert list(shown.chain("/top/a/b/not-yet")) == [tmp_path / "a/b", tmp_path / "a", tmp_path]
    assert list(shown.chain("/top")) == [tmp_path]
    assert list(shown.chain("/other")) == []
    assert list(shown.chain("/top/../x")) == []


def test_a_hundred_thousand_ids_fit_into_a_message() -> None:
    ids = random.Random(1).sample(range(1, 1 << 22), 200_000)
    packed = pack_ids(ids)
    assert len(packed) < MAX_JSON_BYTES / 2
    assert unpack_ids(packed) == sorted(ids)
    assert unpack_ids(pack_ids([])) == []
    with pytest.raises(ValueError):
        unpack_ids("AAAA")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("criu: {dump_options: [-v4, -R]}\n", "p:3:28: criu.dump_options[1]: -R: the source task would run on beside"),
        ("criu: {dump_options: [-ls]}\n", "p:3:23: criu.dump_options[0]: -s: the source task would stay, stopped"),
        ("criu: {dump_options: [--external, x, --page-serv]}\n", "criu.dump_options[2]: --page-server: "),
        ("criu: {dump_options: [--images-dir=/x]}\n", "criu.dump_options[0]: --images-dir: criu-lazy gives it itself"),
        ("criu: {dump_options: [restore]}\n", "criu.dump_options[0]: 'restore' is no option"),
        ("criu: {restore_options: [-S]}\n", "criu.restore_options[0]: -S: the restored task could not be found"),
        (
            "criu: {restore_options: [--no-restore-detached]}\n",
            "criu.restore_options[0]: --no-restore-detached: criu",
        ),
        ("daemon_options: [-d]\n", "p:3:18: daemon_options[0]: -d: criu-lazy waits for its end"),
    ],
)
def test_options_that_work_against_a_migration_are_refused(given: str, says: str) -> None:
    from criu_lazy_ext.profile import ProfileError, parse

    with pytest.raises(ProfileError) as refusal:
        parse(LEAST + given, "p")
    assert says in str(refusal.value)


@pytest.mark.parametrize("options", [["--ghost-limit", "1M"], ["--action-script", "/x"], ["--new", "x", "-v4"], ["-v"]])
def test_other_options_are_passed_on(options: list[str]) -> None:
    assert contrary_in(options, "dump") is None


def test_the_last_value_of_an_option_counts_files_before_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "config"
    config.write_text("manage-cgroups=ignore\nno-such-thing 5\n")
    monkeypatch.setenv("CRIU_CONFIG_FILE", str(config))
    assert value_of("manage-cgroups", ["--no-default-config"]) == "ignore"
    assert value_of("manage-cgroups", ["--no-default-config", "--manage-cgroups=soft", "-v4"]) == "soft"
    assert value_of("ghost-limit", ["--no-default-config"]) is None


@pytest.mark.parametrize("machine", [os.uname().machine, "riscv64"], ids=["same", "other"])
def test_a_host_of_another_architecture_takes_no_task(machine: str) -> None:
    pair = Pair(None, (4, 2), "there", {"machine": machine}, Way("::1"), 0, 0.0, 0.0)
    (finding,) = architecture.run(pair, "both")
    wanted = f"this host is of {os.uname().machine}, there of riscv64" if machine == "riscv64" else ""
    assert finding.text == wanted and (finding.verdict is Verdict.FAIL) == bool(wanted)
