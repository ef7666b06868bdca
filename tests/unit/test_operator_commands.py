"""What is said of a migration that stopped rests on what was recorded and on what is there; nothing on an absence."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lazy_source import eventually

from criu_lazy_ext.commands import migrate, status
from criu_lazy_ext.errors import CriuLazyError, UsageError
from criu_lazy_ext.migration import journal, on_record, operator_commands, run_file
from criu_lazy_ext.migration.driver import Migration
from criu_lazy_ext.migration.journal import Journal, JournalError
from criu_lazy_ext.migration.lock import Lock, Locked, lock_path
from criu_lazy_ext.migration.report import Report
from criu_lazy_ext.profile import load
from criu_lazy_ext.source.dump import SourceError
from criu_lazy_ext.source.task import Seen, Source, boot_id, identity, look

FAILED, UNDECIDED = 1, 4
HOG = "x = bytearray(300 << 20)\nfor i in range(0, len(x), 4096): x[i] = 1\nprint(flush=True); input()"
DRIVER = """
import pathlib, sys
from criu_lazy_ext.migration.lock import Lock
lock = Lock(pathlib.Path(sys.argv[1]))
print(flush=True)
input()
"""


@pytest.fixture
def task() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "1000"]) as process:
        yield process
        process.kill()


class Stopped:
    """A migration that nobody drives: its profile, with hooks that leave a mark, its journal and its images."""

    def __init__(self, directory: Path, task: subprocess.Popen[bytes], **facts: Any) -> None:
        self.profile = directory / "moved.yaml"
        self.directory = directory / "below" / "moved"
        (self.directory / "images").mkdir(parents=True)
        self.hooked = directory / "hooked"
        run = f"echo $CRIU_LAZY_PHASE >>{self.hooked}"
        hooks = ", ".join(f"{phase}: [{{run: {run}}}]" for phase in ("after_commit", "after_rollback"))
        self.profile.write_text(
            f"task: {{pid: {task.pid}}}\ndestination: {{ssh: nowhere}}\ndirectories: {{source: {directory}/below}}\n"
            f"hooks: {{{hooks}}}\n"
        )
        found = identity(task.pid)
        assert found is not None
        began = found[1]
        known = {"boot_id": boot_id(), "pid": task.pid, "task_began": began, "destination": "nowhere"}
        control = str(self.directory / "page-server.sock")
        Journal(self.directory).record(**known | {"control": control, "tree": [[task.pid, began]]} | facts)

    def run(self, *options: str) -> int:
        return migrate.main([str(self.profile), *options])

    def hooks(self) -> str:
        return self.hooked.read_text() if self.hooked.exists() else ""

    def state(self) -> str:
        return str(journal.read(self.directory)["state"])

    def is_untouched(self) -> bool:
        return (self.directory / "images").exists() and not self.hooks()


def end(task: subprocess.Popen[bytes]) -> None:
    task.kill()
    task.wait()


# --- what the journal and /proc prove -------------------------------------------------------------------------------


def test_a_reboot_while_memory_follows_is_no_commit(
    tmp_path: Path, task: subprocess.Popen[bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    stopped = Stopped(tmp_path, task, boot_id="another", state="running", went=True)
    assert stopped.run("--status") == UNDECIDED
    said = capsys.readouterr().out
    assert "rebooted since, and the source task was lost with that" in said and "are lost" in said
    assert stopped.is_untouched() and stopped.state() == "running"
    with pytest.raises(Exception, match="needs --force"):
        stopped.run("--commit")
    assert stopped.run("--commit", "--force") == 0
    assert stopped.hooks() == "after_commit\n" and stopped.state() == "committed"
    assert task.poll() is None, "who has that pid after the reboot is somebody else"


def test_a_reboot_before_the_task_was_resumed_leaves_none(
    tmp_path: Path, task: subprocess.Popen[bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    stopped = Stopped(tmp_path, task, boot_id="another", state="restoring")
    assert stopped.run("--status") == UNDECIDED
    assert "the restored task was not resumed" in capsys.readouterr().out
    with pytest.raises(Exception, match="was not resumed"):
        stopped.run("--commit", "--force")
    assert stopped.run("--abort") == 1
    assert stopped.state() == "failed" and stopped.is_untouched()
    assert stopped.run("--status") == 0


def test_a_reboot_after_every_page_had_arrived_and_the_commit_was_begun_is_a_commit(
    tmp_path: Path, task: subprocess.Popen[bytes]
) -> None:
    stopped = Stopped(tmp_path, task, boot_id="another", state="committing", went=True, complete=True, committing=True)
    assert stopped.run("--status") == 0
    assert stopped.hooks() == "after_commit\n" and stopped.state() == "committed"


def test_a_source_task_that_is_gone_is_a_commit_only_if_one_was_begun(
    tmp_path: Path, task: subprocess.Popen[bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    stopped = Stopped(tmp_path, task, state="running", went=True)
    end(task)
    assert stopped.run("--status") == UNDECIDED
    assert "is gone" in (said := capsys.readouterr().out) and "before the commit" in said
    assert "kill the restored" not in said
    assert stopped.is_untouched()
    Journal(stopped.directory, journal.read(stopped.directory)).record(state="undecided", committing=True)
    assert stopped.run("--status") == 0
    assert stopped.hooks() == "after_commit\n" and stopped.state() == "committed"
    assert (stopped.run("--status"), stopped.run("--commit"), stopped.run("--abort")) == (0, 0, FAILED)
    assert stopped.hooks() == "after_commit\n", "once"


def test_a_source_task_that_runs_though_a_commit_was_begun_is_no_commit(
    tmp_path: Path, task: subprocess.Popen[bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    stopped = Stopped(tmp_path, task, state="committing", went=True, complete=True, committing=True)
    assert stopped.run("--status") == UNDECIDED
    assert "the source task" in (said := capsys.readouterr().out) and "runs" in said
    assert stopped.is_untouched()
    assert stopped.run("--commit") == 0
    assert task.wait(10) == -signal.SIGKILL
    assert stopped.state() == "committed" and stopped.hooks() == "after_commit\n"


def test_a_source_task_that_runs_and_was_not_resumed_elsewhere_is_a_roll_back(
    tmp_path: Path, task: subprocess.Popen[bytes]
) -> None:
    stopped = Stopped(tmp_path, task, state="serving")
    assert stopped.run("--status") == 0
    assert stopped.state() == "rolled-back" and stopped.hooks() == "after_rollback\n"


def test_a_fenced_source_task_runs_on_when_it_is_told_to(
    tmp_path: Path, task: subprocess.Popen[bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    """Page server, its guardian and criu dump are dead."""
    stopped = Stopped(tmp_path, task, state="running", went=True, dump=[task.pid, 1])
    task.send_signal(signal.SIGSTOP)
    eventually(lambda: look(identity(task.pid) or (0, 0)) is Seen.STOPPED, "it is stopped")
    assert stopped.run("--status") == UNDECIDED
    said = capsys.readouterr().out
    assert "is stopped, with all of its memory; criu dump" in said and "is dead" in said
    for options in (["--abort"], ["--commit"]):
        with pytest.raises(Exception, match="needs --force"):
            stopped.run(*options)
    assert stopped.is_untouched()
    assert stopped.run("--abort", "--force") == 0
    assert look(identity(task.pid) or (0, 0)) is Seen.RUNS
    assert stopped.state() == "rolled-back" and stopped.hooks() == "after_rollback\n"


def test_a_fenced_source_task_whose_restored_one_was_not_resumed_needs_no_force(
    tmp_path: Path, task: subprocess.Popen[bytes]
) -> None:
    """The driver died between the fence and the record of "go"."""
    stopped = Stopped(tmp_path, task, state="restoring")
    task.send_signal(signal.SIGSTOP)
    eventually(lambda: look(identity(task.pid) or (0, 0)) is Seen.STOPPED, "it is stopped")
    assert stopped.run("--status") == UNDECIDED
    assert stopped.is_untouched()
    assert stopped.run("--abort") == 0
    assert look(identity(task.pid) or (0, 0)) is Seen.RUNS
    assert (stopped.run("--abort"), stopped.run("--commit")) == (0, FAILED)


def test_an_abort_with_no_source_task_is_no_roll_back(
    tmp_path: Path, task: subprocess.Popen[bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    stopped = Stopped(tmp_path, task, state="undecided", went=True)
    end(task)
    assert stopped.run("--abort", "--force") == 1
    assert "now failed: the source task" in (said := capsys.readouterr().out) and "rolled-back" not in said
    assert not stopped.hooks()


def test_a_source_task_one_of_whose_processes_was_killed_is_told_of_as_it_is(
    tmp_path: Path, task: subprocess.Popen[bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    with subprocess.Popen(["sleep", "1000"]) as other:
        tree = [identity(task.pid), identity(other.pid)]
        stopped = Stopped(tmp_path, task, state="undecided", went=True, tree=tree, dump=[task.pid, 1])
        task.send_signal(signal.SIGSTOP)
        end(other)
        eventually(lambda: look(identity(task.pid) or (0, 0)) is Seen.STOPPED, "it is stopped")
        assert stopped.run("--status") == UNDECIDED
        told = f"of the source task's 2 processes 1 is stopped (pid {task.pid}); 1 is gone (pid {other.pid})"
        assert told in capsys.readouterr().out
        assert stopped.run("--abort", "--force") == 0
        told = f"of the source task's 2 processes 1 runs (pid {task.pid}); 1 is gone (pid {other.pid})"
        assert f"now rolled-back: {told}" in capsys.readouterr().out


def test_a_page_server_that_hangs_is_named(
    tmp_path: Path, task: subprocess.Popen[bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    stopped = Stopped(tmp_path, task, state="running", went=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(stopped.directory / "page-server.sock"))
        listener.listen(1)
        assert stopped.run("--status") == UNDECIDED
    assert f"the page server (pid {os.getpid()}) does not answer" in capsys.readouterr().out
    assert stopped.is_untouched()


def test_a_page_server_that_hangs_is_named_however_many_have_asked_it(
    tmp_path: Path, task: subprocess.Popen[bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    """Who gave up stays in the queue of its socket, which then takes nobody any more."""
    stopped = Stopped(tmp_path, task, state="running", went=True)
    path = str(stopped.directory / "page-server.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(1)
        with pytest.raises(BlockingIOError):
            while True:
                with socket.socket(socket.AF_UNIX) as asks:
                    asks.settimeout(1)
                    asks.connect(path)
        assert stopped.run("--status") == UNDECIDED
    assert f"the page server (pid {os.getpid()}) does not answer" in capsys.readouterr().out


def test_a_profile_without_a_migration_on_record_says_so(tmp_path: Path, task: subprocess.Popen[bytes]) -> None:
    stopped = Stopped(tmp_path, task, state="committed")
    (stopped.directory / "journal.json").unlink()
    with pytest.raises(CriuLazyError, match="no migration of this profile is on record here") as refused:
        stopped.run("--status")
    assert refused.value.exit_code == 1
    lock = Lock(lock_path(stopped.directory))
    assert stopped.run("--status") == 0, "it is at its beginning, or its end"
    lock.release()


@pytest.mark.parametrize("hooked", [False, True])
def test_a_migration_that_ended_before_the_freeze_has_failed(
    tmp_path: Path, task: subprocess.Popen[bytes], hooked: bool
) -> None:
    stopped = Stopped(tmp_path, task, state="preflight", **({"hooked": True} if hooked else {}))
    assert stopped.run("--status") == 0
    assert stopped.state() == "failed"
    assert stopped.hooks() == ("after_rollback\n" if hooked else "")


def test_a_commit_that_was_begun_is_to_be_ended(
    tmp_path: Path, task: subprocess.Popen[bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    """What criu dump was told last may be read by it any time: to kill the restored task would be the wrong advice."""
    stopped = Stopped(tmp_path, task, state="committing", went=True, committing=True)
    assert stopped.run("--status") == UNDECIDED
    said = capsys.readouterr().out
    assert "--commit finishes it" in said and "kill the restored" not in said
    end(task)
    assert stopped.run("--abort", "--force") == FAILED, "it is another end than was wanted"
    assert stopped.state() == "committed"


def test_what_an_ended_migration_leaves_is_done_before_another_has_its_place(
    tmp_path: Path, task: subprocess.Popen[bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    stopped = Stopped(tmp_path, task, state="serving")
    operator_commands.close_earlier(load(stopped.profile), "moved")
    assert stopped.hooks() == "after_rollback\n" and stopped.state() == "rolled-back"
    assert not capsys.readouterr().out, "that is for the report"
    operator_commands.close_earlier(load(stopped.profile), "moved")
    assert stopped.hooks() == "after_rollback\n"


def test_another_migration_is_refused_while_one_is_undecided(tmp_path: Path, task: subprocess.Popen[bytes]) -> None:
    """Before the preflight, which would find the restored task in its way, and say to stop it."""
    stopped = Stopped(tmp_path, task, state="running", went=True)
    with pytest.raises(UsageError, match=f"not over: task {task.pid} -> nowhere, running: .*--abort --force"):
        stopped.run()
    assert stopped.is_untouched() and stopped.state() == "running"
    assert not lock_path(stopped.directory).exists()


def test_old_figures_are_not_told_as_if_they_were_of_now(tmp_path: Path, task: subprocess.Popen[bytes]) -> None:
    counted = {"total_pages": 1000, "remaining_pages": 600, "pages_rate": 1, "rate": 4096, "at": time.time()}
    driver = identity(os.getpid())
    stopped = Stopped(tmp_path, task, state="running", went=True, owner=driver)
    for age_s, figures in ((0, ("2/4 MB (40%)", "0 MB/s", "10 min 0 s")), (9, ("2/4 MB (40%)", "-", "-"))):
        facts = counted | {"counted_at": time.time() - age_s}
        (stopped.directory / "live.json").write_text(json.dumps(facts))
        (seen,) = on_record.look(stopped.directory.parent)
        assert seen.cells()[4:] == figures
        assert seen.notes == (["nothing was heard of the restored task's memory for 9.0 s"] if age_s else [])
    lost = counted | {"paused_us": 75e6, "waiting_faults": 2, "oldest_wait_us": 80e6}
    (stopped.directory / "live.json").write_text(json.dumps(lost))
    (seen,) = on_record.look(stopped.directory.parent)
    told = ["the page connection is lost for 1 min 15 s", "2 faults wait, the longest for 1 min 20 s"]
    assert seen.notes == told, "of what can be seen here, why nothing comes"
    Journal(stopped.directory, journal.read(stopped.directory)).record(owner=[0, None], complete=True)
    (seen,) = on_record.look(stopped.directory.parent)
    assert seen.needs_decision and seen.cells()[4:] == ("4/4 MB (100%)", "-", "-")
    Journal(stopped.directory, journal.read(stopped.directory)).record(state="committed")
    assert not list(on_record.look(stopped.directory.parent)), "as of one that migrate has committed"


def test_it_is_watched_until_no_page_came_for_some_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    pages, seen = status.Pages(), on_record.Listed("m1", "source", "dst", "running", needs_decision=True, migration="1")
    assert not pages.come_for(seen), "none is to come"
    for at, sent, comes in ((100, 7, True), (109, 7, True), (111, 8, True), (120, 8, True), (121, 8, False)):
        now = at
        assert pages.come_for(dataclasses.replace(seen, pages_come=True, sent_bytes=sent)) is comes
    assert "no page came for 10 s" in status.what_to_type(dataclasses.replace(seen, pages_come=True))
    assert status.what_to_type(seen).endswith("criu-lazy migrate --status PROFILE (m1.yaml)")


def test_a_task_that_is_being_killed_is_dying(task: subprocess.Popen[bytes]) -> None:
    """It takes seconds to free much memory; its state is R or D then."""
    with contextlib.ExitStack() as stack:
        hog = subprocess.Popen([sys.executable, "-c", HOG], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        stack.callback(hog.wait)
        assert hog.stdout is not None
        hog.stdout.readline()
        found = identity(hog.pid)
        assert found is not None
        hog.kill()
        seen = {look(found)}
        while Seen.GONE not in seen:
            seen.add(look(found))
        assert Seen.DYING in seen and Seen.STOPPED not in seen
    assert Source.look([found], None).is_over


@pytest.mark.skipif(os.geteuid() != 0, reason="root chooses another process's CPU")
def test_a_task_that_is_to_stop_is_stopped(task: subprocess.Popen[bytes]) -> None:
    """A busy machine takes its time to let it."""
    found = identity(task.pid)
    assert found is not None
    cpu = min(os.sched_getaffinity(0))
    with subprocess.Popen(["sh", "-c", "while :; do :; done"]) as hog:
        try:
            os.sched_setscheduler(task.pid, os.SCHED_IDLE, os.sched_param(0))
            for pid in (task.pid, hog.pid):
                os.sched_setaffinity(pid, {cpu})
            for _ in range(20):
                task.send_signal(signal.SIGSTOP)
                assert {look(found) for _ in range(20)} == {Seen.STOPPED}
                task.send_signal(signal.SIGCONT)
        finally:
            hog.kill()


# --- one at a time --------------------------------------------------------------------------------------------------


def test_who_drives_a_migration_has_its_lock_for_life(
    tmp_path: Path, task: subprocess.Popen[bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    stopped = Stopped(tmp_path, task, state="running", went=True)
    path = lock_path(stopped.directory)
    command = [sys.executable, "-c", DRIVER, path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as driver:
        assert driver.stdout is not None
        driver.stdout.readline()
        with pytest.raises(Locked, match=f"already being migrated \\(pid {driver.pid}\\)") as refused:
            stopped.run()
        assert refused.value.exit_code == 2
        for options in (["--abort", "--force"], ["--commit"]):
            with pytest.raises(UsageError, match="it is under way"):
                stopped.run(*options)
        assert stopped.run("--status") == 0
        assert f"running (pid {driver.pid})" in capsys.readouterr().out
        driver.kill()
    lock = Lock(path)
    lock.release()
    assert not path.exists()


# --- it has moved already --------------------------------------------------------------------------------------------


def test_who_would_move_what_has_moved_is_told_where_it_is(tmp_path: Path, task: subprocess.Popen[bytes]) -> None:
    stopped = Stopped(tmp_path, task, state="committed")
    path = run_file.path_of(stopped.directory, 0)
    facts = {"format": run_file.FORMAT, "began": 0, "report": Report("rolled-back", task.pid, "dst").as_json()}
    run_file.save(path, facts)
    end(task)
    with pytest.raises(SourceError, match=r"no process has pid \d+; has it ended\?$"):
        stopped.run()
    run_file.settle(path, "committed", "made by criu-lazy migrate --commit", "running")
    way_out = f"look for it there, or see criu-lazy report {stopped.profile}"
    moved = rf"has it ended\?; moved moved task {task.pid} to dst, committed \d\d:\d\d: {way_out}$"
    with pytest.raises(CriuLazyError, match=moved):
        stopped.run("--dry-run")


# --- a disk that is full --------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", tmp_path], check=True)
    yield tmp_path
    subprocess.run(["umount", "-l", tmp_path], check=True)


def fill(directory: Path) -> None:
    with (directory / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))


def test_room_that_was_set_aside_outlives_a_full_disk(small_disk: Path) -> None:
    kept = Journal(small_disk)
    kept.record(state="restoring")
    kept.reserve()
    fill(small_disk)
    for state in ("allowed", "running", "drained", "committing", "committed"):
        kept.record(state=state, padding="." * 5000)
        assert journal.read(small_disk)["state"] == state


def test_a_full_disk_keeps_the_last_record(small_disk: Path) -> None:
    kept = Journal(small_disk)
    kept.record(state="restoring")
    fill(small_disk)
    with pytest.raises(JournalError, match="No space left on device"):
        kept.reserve()
    with pytest.raises(JournalError, match="No space left on device"):
        kept.record(state="allowed")
    assert journal.read(small_disk)["state"] == "restoring"
    assert time.time() >= journal.read(small_disk)["at"]


def test_less_room_is_set_aside_where_there_is_less(small_disk: Path) -> None:
    kept = Journal(small_disk)
    kept.record(state="restoring")
    fill(small_disk)
    os.truncate(small_disk / "filler", (small_disk / "filler").stat().st_size - 5 * 4096)
    kept.reserve()
    fill(small_disk)
    kept.record(state="allowed")


def test_with_a_full_disk_nothing_is_committed_and_no_hook_runs_twice(
    small_disk: Path, task: subprocess.Popen[bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    stopped = Stopped(small_disk, task, state="running", went=True, complete=True)
    fill(small_disk)
    with pytest.raises(JournalError, match="No space left on device"):
        stopped.run("--commit")
    assert task.poll() is None
    (small_disk / "filler").unlink()
    Journal(stopped.directory, journal.read(stopped.directory)).record(state="serving", went=False)
    fill(small_disk)
    assert stopped.run("--status") == 0
    assert "--status ends it, and runs its hooks" in capsys.readouterr().out
    (small_disk / "filler").unlink()
    assert not stopped.hooks()
    assert stopped.run("--status") == 0
    assert stopped.hooks() == "after_rollback\n"


# --- signals --------------------------------------------------------------------------------------------------------


def test_a_lost_terminal_takes_no_signal_back() -> None:
    told: list[str] = []
    report = SimpleNamespace(destination="there")
    migration = SimpleNamespace(
        said_go=True, asked_to_stop=False, resumed=0.0, report=report, warn=told.append, fail=told.append
    )
    for name in ("SIGHUP", "SIGINT", "SIGHUP", "SIGTERM"):
        Migration.signalled(migration, name)  # type: ignore[arg-type]
    assert [text.split(":")[0] for text in told] == ["SIGHUP", "SIGINT", "SIGHUP", "stopped by SIGTERM"]
    assert "by now the task may run at there" in told[0], "it was not seen to run yet"
