"""A memtask's lazy migration through `criu-lazy page-server`, the test's own from the resume on."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from lazy_source import PATIENCE_SECONDS, eventually

from bench.handmade import MemTask, start_memtask
from criu_lazy_ext.source import control_socket
from testbed import HostProcess, Testbed

DIRECTORY = "/var/tmp/lazy-migration"
IMAGES = f"{DIRECTORY}/images"
CONTROL = f"{DIRECTORY}/control"
READY = f"{DIRECTORY}/ready"
STORE = f"{DIRECTORY}/store"
DUMP_PORT, PORT = 27100, 27101


@dataclasses.dataclass
class LazyMigration:
    """A task that runs on tb.dst while its pages come; see `lazy_migration`."""

    tb: Testbed
    task: MemTask
    dump: HostProcess
    server: HostProcess
    daemon: HostProcess
    resumed: float
    stats_path: Path
    server_options: list[str]
    last_state: dict[str, Any] = dataclasses.field(default_factory=dict)  # the page server's, before the commit

    def op(self, op: str, *, force: bool = False, rate: int = 0) -> dict[str, Any]:
        """Ask the page server."""
        return ask(self.tb, op, force=force, rate=rate)

    def stats(self) -> dict[str, Any]:
        """The daemon's latest counters; {} before the first."""
        text = self.stats_path.read_text()
        lines = text[: text.rfind("\n") + 1].splitlines()  # the last one may be being written
        return dict(json.loads(lines[-1])) if lines else {}

    def until(self, condition: Callable[[dict[str, Any]], bool], what: str, seconds: float = 60) -> None:
        """Wait for counters of this kind; fails if the daemon ends first."""

        def holds() -> bool:
            assert self.daemon.poll() is None, f"the daemon ended before {what}: {self.daemon_log()}"
            stats = self.stats()
            return bool(stats) and condition(stats)

        eventually(holds, what, seconds)

    def until_share(self, share: float) -> None:
        """Wait until this share of the pages came."""
        self.until(lambda s: s["remaining_pages"] <= (1 - share) * s["total_pages"], f"{share:.0%} came")

    def daemon_log(self) -> str:
        return (self.tb.dst.root / IMAGES.lstrip("/") / "lazy-pages.log").read_text()[-4000:]

    def kill_server(self, *, guardian_too: bool = False) -> None:
        """SIGKILL the page server's own process; its guardian starts another, unless it goes, too."""
        killed = [pid for pid, is_guardian in servers(self.tb).items() if guardian_too or not is_guardian]
        self.tb.src.run(["kill", "-KILL", *map(str, killed)])
        eventually(lambda: not set(killed) & set(servers(self.tb)), "it is dead")

    def await_server(self) -> None:
        """Wait for the one that the guardian starts."""
        eventually(lambda: any(not is_guardian for is_guardian in servers(self.tb).values()), "another has started")
        eventually(lambda: _answers(self.tb), "it answers")

    def kill_daemon(self) -> None:
        """SIGKILL the lazy-pages daemon (its guardian lives)."""
        pid = self.daemon.inner_pid()
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        self.daemon.wait(30)

    def resume_daemon(self, *options: str) -> None:
        """Start another, which takes over from the killed one. What that counted is gone: see `until`."""
        self.stats_path.write_text("")
        self.daemon = _daemon(self.tb, "--resume", *options)

    def complete(self, timeout: float = 120, dump_status: int | None = 0) -> dict[str, Any]:
        """Wait for the last page, commit, check every page; returns the daemon's last counters.

        `dump_status`: how the dump ends; None: it has been killed.
        """
        assert self.daemon.wait(timeout) == 0, self.daemon_log()
        stats = self.stats()
        assert stats["state"] == "done"
        self.last_state = self.op("state")
        assert self.last_state["state"] == "drained"
        assert self.op("commit")["state"] == "committed"
        eventually(lambda: not servers(self.tb), "the page server has ended")
        assert self.dump.wait(60) == dump_status or dump_status is None
        verdict = self.task.verify(self.tb.dst)
        assert verdict["errors"] == 0 and verdict["children_bad"] == 0
        return stats


def ask(tb: Testbed, op: str, *, force: bool = False, rate: int = 0) -> dict[str, Any]:
    """Ask the page server on tb.src, without a program in between: on a slow machine that takes seconds."""
    return control_socket.request(tb.src.root / CONTROL.lstrip("/"), op, force, PATIENCE_SECONDS * 5, rate=rate)


def servers(tb: Testbed) -> dict[int, bool]:
    """Pids on tb.src of the page server and its guardian; which of them is the guardian."""
    listed = tb.src.run(["ps", "-eo", "pid=,comm=,args="]).stdout.splitlines()
    ours = [line.split(None, 2) for line in listed if f"--control {CONTROL}" in line and "--op" not in line]
    return {int(pid): comm == "criu-lazy-guard" for pid, comm, args in ours if not args.startswith(("sh ", "nsenter "))}


def _answers(tb: Testbed) -> bool:
    with contextlib.suppress(control_socket.ControlError):
        return bool(ask(tb, "state"))
    return False


def page_store(tb: Testbed, *options: str) -> HostProcess:
    """A store on tb.dst, connected to the page server that waits for its dump."""
    command = ["criu-lazy", "page-store", "--address", tb.src.address, "--port", str(PORT), "--directory", STORE]
    store = tb.dst.popen([*command, "-o", f"{DIRECTORY}/page-store.log", "-v4", *options])
    eventually(lambda: store.poll() is not None or ask(tb, "state")["store"] == "connected", "a store is connected")
    assert store.poll() is None
    return store


def _page_server(tb: Testbed, *options: str, before_dump: bool = False) -> HostProcess:
    # The pipe from the dump's --status-fd; the page server keeps both ends open, so there is no end of file.
    waits = ["--precopy", "--dump-status-fd", "8"] if before_dump else []
    command = ["sh", "-c", f'exec 8<>{READY}; exec "$@"', "sh"] if before_dump else []
    command += ["criu-lazy", "page-server", "--hold", "--control", CONTROL, "--address", tb.src.address]
    command += ["--plain", "--port", str(PORT), "-v3", "-o", f"{DIRECTORY}/page-server.log", *waits, *options]
    server = tb.src.popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def answers() -> bool:
        assert server.poll() is None, (tb.src.root / DIRECTORY.lstrip("/") / "page-server.log").read_text()
        return _answers(tb)

    eventually(answers, "the page server serves")
    return server


def _daemon(tb: Testbed, *options: str) -> HostProcess:
    # The shell keeps the descriptor: the file is the host's own.
    serve = f'exec 7>{DIRECTORY}/stats; exec criu-lazy lazy-pages --stats-fd 7 "$@"'
    command = ["sh", "-c", serve, "sh", "-D", IMAGES, "-o", "lazy-pages.log", "-v4", "--page-server"]
    command += ["--address", tb.src.address, "--port", str(PORT), *options]
    return tb.dst.popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _listens(tb: Testbed, port: int) -> bool:
    return f":{port:04X} 00000000:0000 0A" in tb.src.run(["cat", "/proc/net/tcp"]).stdout


def _dump(
    tb: Testbed,
    task: MemTask,
    server_options: Sequence[str],
    precopy: Callable[[], None] | None,
    stack: contextlib.ExitStack,
) -> tuple[HostProcess, HostProcess]:
    """A page server and `criu dump`, which serves; before that `precopy`, if there is one."""
    version = "1" if tb.src.criu.startswith("4.1") else "2"
    options = ["--upstream", f"127.0.0.1:{DUMP_PORT}", "--wire-version", version, *server_options]
    dump = ["criu", "dump", "--lazy-pages", "-o", "dump.log", "-t", str(task.pid), "-D", IMAGES]
    dump += ["--address", "127.0.0.1", "--port", str(DUMP_PORT)]
    if precopy:
        tb.src.run(["mkfifo", READY])
        server = _page_server(tb, *options, before_dump=True)
        stack.callback(_end, server)
        precopy()
        dump = ["sh", "-c", f'exec 9>{READY}; exec "$@"', "sh", *dump, "--status-fd", "9"]
    dumping = tb.src.popen(dump, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    stack.callback(_end, dumping)
    if precopy:
        eventually(lambda: ask(tb, "state")["state"] == "waiting", "the page server is connected to the dump")
    else:
        eventually(lambda: _listens(tb, DUMP_PORT), "the dump listens")
        server = _page_server(tb, *options)
    return server, dumping


@contextlib.contextmanager
def lazy_migration(
    tb: Testbed,
    task_options: Sequence[str],
    daemon_options: Sequence[str] = (),
    server_options: Sequence[str] = (),
    on_resume: Callable[[], None] | None = None,
    push: bool = False,
    precopy: Callable[[], None] | None = None,
    start: Callable[[Testbed], MemTask] | None = None,
) -> Iterator[LazyMigration]:
    """Dump a memtask, restore it; it runs, and the page server knows, when the context is entered.

    `start`: starts another task instead, which understands SIGTERM as memtask does.

    `push`: the page server can push. `precopy` is called with the task running and a page server (`ask` it) that
    waits for the dump.

    `on_resume` is called as soon as `criu restore` has returned.
    """
    for host in (tb.src, tb.dst):
        host.run(["sh", "-c", f"rm -rf {DIRECTORY} && mkdir -p {IMAGES} {STORE}"])
    task = start(tb) if start else start_memtask(tb, *task_options)
    time.sleep(0.3)
    with contextlib.ExitStack() as stack:
        stack.callback(task.kill, tb.dst)
        stack.callback(task.kill, tb.src)
        stack.callback(_end_servers, tb)
        both = [*server_options, *(("--tree", str(task.pid), "--images", IMAGES) if push else ())]
        server, dumping = _dump(tb, task, both, precopy, stack)
        here, there = (host.root / IMAGES.lstrip("/") for host in (tb.src, tb.dst))
        for image in here.iterdir():
            if image.suffix != ".log":
                shutil.copyfile(image, there / image.name)
        stats_path = tb.dst.root / DIRECTORY.lstrip("/") / "stats"
        daemon = _daemon(tb, *daemon_options)
        stack.callback(_end, daemon)
        eventually((there / "lazy-pages.socket").exists, "the daemon listens")
        restore = ["criu", "restore", "-d", "--lazy-pages", "-o", "restore.log", "-D", IMAGES]
        restored = tb.dst.run(restore, check=False)
        resumed = time.monotonic()
        logs = "".join((there / name).read_text()[-3000:] for name in ("restore.log", "lazy-pages.log"))
        assert restored.returncode == 0, logs
        if on_resume:
            on_resume()
        migration = LazyMigration(tb, task, dumping, server, daemon, resumed, stats_path, both)
        stack.callback(lambda: _end(migration.server))
        stack.callback(lambda: _end(migration.daemon))
        migration.op("running")
        yield migration


def _end_servers(tb: Testbed) -> None:
    """The guardian of a dump that wasn't committed too, which would start another page server in the next test."""

    def none_is_left() -> bool:
        left = servers(tb)
        if left:
            tb.src.run(["kill", "-KILL", *map(str, left)], check=False)
        return not left

    eventually(none_is_left, "no page server is left")


def _end(process: HostProcess) -> None:
    if process.poll() is None:
        process.kill_session()
    process.wait(30)
