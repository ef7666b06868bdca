"""`criu dump` dies while memory follows: the page server serves on, and commits without it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator

import pytest
from lazy_migration import CONTROL, DIRECTORY, IMAGES, LazyMigration, lazy_migration, servers
from lazy_source import eventually

from testbed import Testbed

TASK = ("--mib", "48", "--threads", "2", "--ops", "all")
PUSH = ("--push=2",)
ALONE = "going on without the dump: the source task is stopped"


@pytest.fixture(scope="module")
def hosts() -> Iterator[Testbed]:
    if os.geteuid() != 0:
        pytest.skip("the testbed needs root")
    with Testbed.start(criu=("4.2", "4.2"), name=f"dump-death-{os.getpid()}") as started:
        started.link.set(rate_mbit=100, rtt_ms=0.2)
        yield started


def dumps(tb: Testbed) -> list[str]:
    return tb.src.run(["pgrep", "-x", "criu"], check=False).stdout.split()


def log(tb: Testbed) -> str:
    return (tb.src.root / DIRECTORY.lstrip("/") / "page-server.log").read_text()


def state_of(tb: Testbed, pid: int) -> str:
    """The letter of /proc/PID/stat at the source; "" if the task is gone."""
    stat = tb.src.run(["cat", f"/proc/{pid}/stat"], check=False).stdout
    return stat.rsplit(")", 1)[1].split()[0] if stat else ""


def kill_dump(migration: LazyMigration) -> None:
    migration.tb.src.run(["kill", "-KILL", *dumps(migration.tb)])


def stop_and_continue_dump(migration: LazyMigration) -> None:
    """It reads less of a request than was asked for then, and gives up."""
    for name in ("STOP", "CONT"):
        migration.tb.src.run(["kill", f"-{name}", *dumps(migration.tb)])
        time.sleep(0.2)
    os.kill(migration.dump.pid, signal.SIGCONT)  # nsenter stops itself when what it runs is stopped


def assert_source_is_gone(migration: LazyMigration) -> None:
    """It executes nothing any more once it has been killed; to be taken apart it may need longer."""
    eventually(lambda: state_of(migration.tb, migration.task.pid) in ("", "Z"), "the source task is gone")


@pytest.mark.parametrize("end", [kill_dump, stop_and_continue_dump])
def test_every_page_comes_and_the_page_server_commits(hosts: Testbed, end: Callable[[LazyMigration], None]) -> None:
    with lazy_migration(hosts, TASK, PUSH, push=True) as migration:
        migration.until_share(0.1)
        end(migration)
        eventually(lambda: migration.op("state")["without_dump"], "the dump is dead, and it goes on")
        assert state_of(hosts, migration.task.pid) == "T"
        stats = migration.complete(dump_status=None)
        assert stats["lost_pages"] == 0
        assert migration.last_state["push"]["sessions"] == 1, "not even the session has ended"
        assert_source_is_gone(migration)


def test_a_dump_that_died_after_the_last_page_is_committed_as_well(hosts: Testbed) -> None:
    with lazy_migration(hosts, TASK, PUSH, push=True) as migration:
        assert migration.daemon.wait(120) == 0
        assert migration.op("state")["state"] == "drained"
        kill_dump(migration)
        eventually(lambda: migration.op("state")["without_dump"], "it goes on")
        assert migration.op("state")["state"] == "drained"
        assert migration.op("commit")["source_alive"] is False
        assert_source_is_gone(migration)


def test_a_page_server_killed_after_the_dump_is_followed_by_another(hosts: Testbed) -> None:
    with lazy_migration(hosts, TASK, PUSH, push=True) as migration:
        migration.until_share(0.1)
        kill_dump(migration)
        eventually(lambda: migration.op("state")["without_dump"], "it goes on")
        migration.kill_server()
        migration.await_server()
        eventually(lambda: migration.op("state")["without_dump"], "the other one does, too")
        assert state_of(hosts, migration.task.pid) == "T"
        migration.complete(dump_status=None)
        assert_source_is_gone(migration)


def test_both_killed_at_once_are_no_end_either(hosts: Testbed) -> None:
    with lazy_migration(hosts, TASK, PUSH, push=True) as migration:
        migration.until_share(0.1)
        own = [str(pid) for pid, is_guardian in servers(hosts).items() if not is_guardian]
        hosts.src.run(["kill", "-KILL", *own, *dumps(hosts)])
        migration.await_server()
        eventually(lambda: migration.op("state")["without_dump"], "it goes on")
        migration.complete(dump_status=None)
        assert_source_is_gone(migration)


def test_nothing_is_committed_with_pages_missing(hosts: Testbed) -> None:
    with lazy_migration(hosts, TASK, PUSH, ("--rate", "4M"), push=True) as migration:
        migration.until_share(0.1)
        kill_dump(migration)
        eventually(lambda: migration.op("state")["without_dump"], "it goes on")
        done = hosts.src.run(["criu-lazy", "page-server", "--control", CONTROL, "--op", "commit"], check=False)
        assert done.returncode == 1 and "the client has not said that it has every page" in done.stderr
        assert state_of(hosts, migration.task.pid) == "T"
        migration.op("rate", rate=0)
        migration.complete(dump_status=None)


def test_an_abort_lets_the_source_task_run_on(hosts: Testbed) -> None:
    """Also while its pages are read: it is let run once nobody looks any more whether it stays stopped."""
    with lazy_migration(hosts, TASK, PUSH, push=True) as migration:
        migration.until_share(0.1)
        kill_dump(migration)
        eventually(lambda: migration.op("state")["without_dump"], "it goes on")
        assert migration.op("abort", force=True)["state"] == "aborted"
        assert "does not stay stopped" not in log(hosts)
        migration.task.kill(hosts.dst)
        eventually(lambda: state_of(hosts, migration.task.pid) in ("R", "S"), "the source task runs")
        eventually(lambda: not servers(hosts), "nobody is left")
        assert migration.task.verify(hosts.src)["errors"] == 0


@pytest.mark.parametrize("name", ["CONT", "KILL"])
def test_a_source_task_that_does_not_stay_as_it_was_is_served_no_more(hosts: Testbed, name: str) -> None:
    with lazy_migration(hosts, TASK, PUSH, push=True) as migration:
        migration.until_share(0.1)
        kill_dump(migration)
        eventually(lambda: migration.op("state")["without_dump"], "it goes on")
        hosts.src.run(["kill", f"-{name}", str(migration.task.pid)])
        eventually(lambda: not servers(hosts), "page server and guardian have ended")
        said = "does not stay stopped" if name == "CONT" else "was killed"
        assert f"the source task {migration.task.pid} {said}: no page is sent any more" in log(hosts)
        assert migration.daemon.poll() is None, "it is not told that it is over"


def test_one_that_was_continued_before_the_dump_died_is_not_served(hosts: Testbed) -> None:
    """Somebody has taken the fence away: it runs as soon as the dump is dead."""
    with lazy_migration(hosts, TASK, PUSH, push=True) as migration:
        migration.until_share(0.1)
        hosts.src.run(["kill", "-CONT", str(migration.task.pid)])
        kill_dump(migration)
        eventually(lambda: not servers(hosts), "page server and guardian have ended")
        assert ALONE not in log(hosts)
        assert "no page is sent any more" in log(hosts)


def test_a_client_of_crius_protocol_is_not_served_without_a_dump(hosts: Testbed) -> None:
    with lazy_migration(hosts, TASK, push=True) as migration:
        migration.until_share(0.1)
        kill_dump(migration)
        eventually(lambda: not servers(hosts), "page server and guardian have ended")
        assert ALONE not in log(hosts)
        assert state_of(hosts, migration.task.pid) == "T"


def test_a_guardian_whose_migration_was_cleaned_up_ends(hosts: Testbed) -> None:
    """An operator has ended it, with page server and dump dead: another has nothing to go on with."""
    with lazy_migration(hosts, TASK, PUSH, push=True) as migration:
        migration.until_share(0.1)
        hosts.src.run(["mv", IMAGES, f"{IMAGES}.old"])
        own = [str(pid) for pid, is_guardian in servers(hosts).items() if not is_guardian]
        hosts.src.run(["kill", "-KILL", *own, *dumps(hosts)])
        eventually(lambda: not servers(hosts), "the guardian has ended", 60)
        assert state_of(hosts, migration.task.pid) == "T"
