"""A restored task that ends, or gives up its memory, before all of its pages came: who says what, who has it then."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lazy_migration import DIRECTORY, IMAGES, PORT, LazyMigration, lazy_migration
from lazy_source import eventually
from paths import SUPPORT

from bench.handmade import MemTask
from testbed import HostProcess, Testbed

MIB = 48
PAGES = MIB * 256
PROGRAM, FILE = "/usr/local/bin/dying_task", f"{DIRECTORY}/task"
PUSH = ("--push=2",)
LOST = 4
STOCK_PORT = 27120


@pytest.fixture(scope="module")
def started() -> Iterator[Testbed]:
    if os.geteuid() != 0:
        pytest.skip("the testbed needs root")
    with Testbed.start(criu=("4.2", "4.2"), name=f"death-{os.getpid()}") as tb:
        yield tb


@pytest.fixture
def hosts(started: Testbed) -> Testbed:
    started.link.set(rate_mbit=40, rtt_ms=0.2)  # 10 s, if nothing happens
    return started


def start(tb: Testbed, *, with_child: bool = False) -> MemTask:
    if not (tb.dst.root / PROGRAM.lstrip("/")).exists():
        tb.src.write("/tmp/dying_task.c", (SUPPORT / "dying_task.c").read_text())
        tb.src.run(["cc", "-O1", "-o", PROGRAM, "/tmp/dying_task.c"])
        tb.dst.write(PROGRAM, (tb.src.root / PROGRAM.lstrip("/")).read_bytes(), mode=0o755)
    words = f"{PROGRAM} {MIB} {FILE}" + (" child" if with_child else "")
    tb.src.run(["sh", "-c", f"exec {words} </dev/null >/dev/null 2>&1"])
    nr = 2 if with_child else 1
    told = tb.src.root / FILE.lstrip("/")
    eventually(lambda: told.exists() and len(told.read_text().split()) == nr, "the task has its memory")
    return MemTask(min(map(int, told.read_text().split())), FILE)


def start_two(tb: Testbed) -> MemTask:
    return start(tb, with_child=True)


def state_of(tb: Testbed, pid: int) -> str:
    """The letter of /proc/PID/stat at the source; "" if the task is gone."""
    stat = tb.src.run(["cat", f"/proc/{pid}/stat"], check=False).stdout
    return stat.rsplit(")", 1)[1].split()[0] if stat else ""


def child_of(migration: Any) -> int:
    pids = migration.tb.src.run(["cat", FILE]).stdout.split()
    return max(map(int, pids))


def hit(migration: LazyMigration, name: str, share: float = 0.1) -> None:
    """Send the restored task this signal, once so much of it came."""
    migration.until_share(share)
    migration.tb.dst.run(["kill", f"-{name}", str(migration.task.pid)])


@pytest.mark.parametrize("options", [("--reconnect-seconds", "60"), PUSH], ids=["asking", "pushed-to"])
def test_a_killed_task_is_lost_and_the_source_has_it_whole(hosts: Testbed, options: tuple[str, ...]) -> None:
    with lazy_migration(hosts, (), options, push=options == PUSH, start=start) as migration:
        hit(migration, "KILL")
        assert migration.daemon.wait(30) == LOST
        stats = migration.stats()
        (ended,) = stats["ended"]
        assert ended == {"pid": migration.task.pid, "how": "killed by SIGKILL", "missing_pages": stats["lost_pages"]}
        assert stats["lost_pages"] > PAGES / 2
        assert stats["copied_pages"] + stats["dropped_pages"] + stats["lost_pages"] == stats["total_pages"]
        assert stats["state"] == "failed"
        assert stats["error"] == (
            f"the restored task {migration.task.pid} was killed by SIGKILL with {stats['lost_pages']} pages missing; "
            "the source still has them"
        )
        assert stats["error"] in migration.daemon_log().splitlines()[-1]
        eventually(lambda: migration.op("state")["state"] == "paused", "the page server holds")
        assert state_of(hosts, migration.task.pid) in "tT"
        migration.op("abort", force=True)
        eventually(lambda: state_of(hosts, migration.task.pid) == "S", "the source task runs on")


@pytest.mark.parametrize(
    ("name", "ended"), [("USR1", "exit 3"), ("USR2", ""), ("HUP", "")], ids=["exit", "execve", "munmap"]
)
def test_what_a_task_gives_up_by_itself_is_not_lost(hosts: Testbed, name: str, ended: str) -> None:
    with lazy_migration(hosts, (), PUSH, push=True, start=start) as migration:
        hit(migration, name)
        assert migration.daemon.wait(30) == 0
        stats = migration.stats()
        assert migration.op("state")["state"] == "drained"
    assert [task["how"] for task in stats["ended"]] == [ended] * bool(ended)
    assert not stats["lost_pages"]
    assert stats["dropped_pages"] > PAGES / 2
    assert stats["copied_pages"] + stats["dropped_pages"] == stats["total_pages"]


def test_what_one_daemon_saw_end_its_successor_knows(hosts: Testbed) -> None:
    with lazy_migration(hosts, (), PUSH, push=True, start=start_two) as migration:
        hit(migration, "SEGV")
        migration.until(lambda s: s["lost_pages"] > 0, "the daemon knows")
        lost = migration.stats()["lost_pages"]
        migration.kill_daemon()
        hosts.dst.run(["kill", "-KILL", str(child_of(migration))])
        migration.resume_daemon(*PUSH)
        assert migration.daemon.wait(30) in (LOST, 1)  # 1: the guardian saw nobody left to hold
        if migration.daemon.wait(0) == LOST:
            assert migration.stats()["lost_pages"] > lost


def test_a_task_that_lives_is_served_whole_beside_a_killed_one(hosts: Testbed) -> None:
    with lazy_migration(hosts, (), PUSH, push=True, start=start_two) as migration:
        hit(migration, "SEGV")
        migration.until(lambda s: s["lost_pages"] > 0, "the daemon knows")
        migration.kill_daemon()
        migration.resume_daemon(*PUSH)
        assert migration.daemon.wait(60) == LOST
        stats = migration.stats()
        assert [task["how"] for task in stats["ended"]] == ["killed by SIGSEGV"]
        assert stats["remaining_pages"] == 0
        child = child_of(migration)
        assert hosts.dst.run(["cat", f"/proc/{child}/stat"]).stdout
        assert migration.op("state")["state"] == "paused"


@pytest.mark.skipif(
    tuple(map(int, os.uname().release.split(".")[:2])) < (6, 15), reason="a pidfd tells how a process ended since 6.15"
)
@pytest.mark.parametrize(
    ("name", "how", "status"), [("USR1", "exit 3", 0), ("KILL", "killed by SIGKILL", LOST)], ids=["exit", "killed"]
)
def test_how_a_task_ended_while_there_was_no_daemon_is_known(hosts: Testbed, name: str, how: str, status: int) -> None:
    with lazy_migration(hosts, (), PUSH, push=True, start=start_two) as migration:
        hit(migration, "WINCH")  # where a signal's frame takes another page of the stack, that comes now
        told = hosts.dst.root / FILE.lstrip("/")
        eventually(lambda: told.exists() and "handled" in told.read_text(), "it can handle a signal")
        migration.kill_daemon()
        hosts.dst.run(["kill", f"-{name}", str(migration.task.pid)])
        process = hosts.dst.root / f"proc/{migration.task.pid}"
        eventually(lambda: not process.exists(), "somebody has waited for it")
        hosts.link.set(rate_mbit=500, rtt_ms=0.2)
        migration.resume_daemon(*PUSH)
        assert migration.daemon.wait(60) == status, migration.daemon_log()
        assert [task["how"] for task in migration.stats()["ended"]] == [how]


# ---- the source is a stock one ----


class Stock:
    """A dying_task that runs on tb.dst while its pages come from a stock criu dump; see `stock`."""

    def __init__(self, tb: Testbed, task: MemTask, dump: HostProcess, daemon: HostProcess) -> None:
        self.tb, self.task, self.dump, self.daemon = tb, task, dump, daemon

    def log(self) -> str:
        return (self.tb.dst.root / IMAGES.lstrip("/") / "lazy-pages.log").read_text()[-2000:]


@contextlib.contextmanager
def stock(tb: Testbed, *, with_child: bool = False) -> Iterator[Stock]:
    for host in (tb.src, tb.dst):
        host.run(["sh", "-c", f"rm -rf {DIRECTORY} && mkdir -p {IMAGES}"])
    here, there = (host.root / IMAGES.lstrip("/") for host in (tb.src, tb.dst))
    where = ["--address", tb.src.address, "--port", str(STOCK_PORT)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with contextlib.ExitStack() as stack:
        task = start(tb, with_child=with_child)
        stack.callback(task.kill, tb.dst)
        stack.callback(task.kill, tb.src)
        dump = tb.src.popen(
            ["criu", "dump", "--lazy-pages", "-o", "dump.log", "-t", str(task.pid), "-D", IMAGES, *where], **quiet
        )
        stack.callback(dump.kill_session)
        listens = f":{STOCK_PORT:04X} 00000000:0000 0A"
        eventually(lambda: listens in tb.src.run(["cat", "/proc/net/tcp"]).stdout, "the dump listens")
        for image in here.iterdir():
            if image.suffix != ".log":
                shutil.copyfile(image, there / image.name)
        daemon = tb.dst.popen(
            ["criu-lazy", "lazy-pages", "-D", IMAGES, "-o", "lazy-pages.log", "-v4", "--page-server", *where], **quiet
        )
        stack.callback(daemon.kill_session)
        eventually((there / "lazy-pages.socket").exists, "the daemon listens")
        tb.dst.run(["criu", "restore", "-d", "--lazy-pages", "-o", "restore.log", "-D", IMAGES])
        yield Stock(tb, task, dump, daemon)


def test_a_stock_source_whose_restored_task_was_killed_runs_on(hosts: Testbed) -> None:
    with stock(hosts) as migration:
        hosts.dst.run(["kill", "-ABRT", str(migration.task.pid)])
        assert migration.daemon.wait(30) == LOST
        assert "was killed by SIGABRT with" in migration.log()
        assert "the source is told to let its tasks run on" in migration.log()
        assert migration.dump.wait(30) == 1
        assert state_of(hosts, migration.task.pid) == "S"


def test_a_stock_source_is_told_to_end_where_another_restored_task_lives(hosts: Testbed) -> None:
    with stock(hosts, with_child=True) as migration:
        child = child_of(migration)
        hosts.dst.run(["kill", "-KILL", str(child)])
        assert migration.daemon.wait(60) == LOST
        assert f"the restored task {child} was killed by SIGKILL with" in migration.log()
        assert "another restored task lives, so the source is told to end" in migration.log()
        assert migration.dump.wait(30) == 0
        eventually(lambda: state_of(hosts, migration.task.pid) in ("", "Z"), "the source task is gone")
        hosts.dst.run(["kill", "-HUP", str(migration.task.pid)])
        told = hosts.dst.root / FILE.lstrip("/")
        eventually(lambda: told.exists() and "unmapped" in told.read_text(), "it runs")


# ---- the source's side ----


def test_pages_of_a_killed_source_task_come_from_its_dump(hosts: Testbed) -> None:
    options = ("--mib", "48", "--threads", "2", "--ops", "all")
    with lazy_migration(hosts, options, PUSH, push=True) as migration:
        migration.until_share(0.1)
        hosts.src.run(["kill", "-KILL", str(migration.task.pid)])
        assert migration.daemon.wait(60) == 0, migration.daemon_log()
        stats = migration.stats()
        assert "it can't push, as the source's task is gone" in migration.daemon_log()
        assert not stats["lost_pages"] and stats["push_streams"] == 0
        verdict = migration.task.verify(hosts.dst)
        assert verdict["errors"] == 0 and verdict["children_bad"] == 0
        assert migration.op("state")["state"] == "drained"


def test_a_second_daemon_is_refused_in_words_and_the_first_one_goes_on(hosts: Testbed) -> None:
    with lazy_migration(hosts, ("--mib", "48"), PUSH, push=True) as migration:
        migration.until_share(0.1)
        second = Path(hosts.dst.root / DIRECTORY.lstrip("/") / "second")
        shutil.copytree(hosts.dst.root / IMAGES.lstrip("/"), second, ignore=shutil.ignore_patterns("*.socket"))
        command = ["criu-lazy", "lazy-pages", "--push", "--page-server", "--address", hosts.src.address]
        command += ["--port", str(PORT), "-D", f"{DIRECTORY}/second", "-v2"]
        daemon = hosts.dst.popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        assert daemon.wait(20) == 1  # before there is any restore
        assert daemon.stderr is not None
        said = daemon.stderr.read()
        assert "page server: it refuses: it serves another lazy-pages daemon" in said
        migration.complete()
