"""A task that moves between a testbed's hosts, the migrations that move it, and what runs of them."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import itertools
import json
import os
import pty
import re
import signal
import struct
import termios
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lazy_source import TASK_C, eventually

from testbed import Host, Testbed
from testbed.errors import TestbedError

COMMITTED, FAILED, USAGE, ROLLED_BACK, UNDECIDED = 0, 1, 2, 3, 4
_numbers = itertools.count(1)


@dataclasses.dataclass(frozen=True)
class Process:
    """One process of a host, by the host's own pids."""

    pid: int
    parent: int
    name: str
    command: str


def processes(host: Host) -> list[Process]:
    """All of a host's, the oldest first. (Their pids tell no order: a server that forks for each client uses all of
    them up in a minute.)"""
    found = []
    for directory in (host.root / "proc").iterdir():
        if not directory.name.isdigit():
            continue
        with contextlib.suppress(OSError, ValueError, IndexError):  # it has ended
            command = (directory / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            name, _, rest = (directory / "stat").read_text().partition("(")[2].rpartition(")")
            values = rest.split()
            process = Process(int(directory.name), int(values[1]), name, command)
            found.append((int(values[19]), process.pid, process))
    return [process for _, _, process in sorted(found, key=lambda entry: entry[:2])]


def pids_of(host: Host, *words: str) -> list[int]:
    """Every process with all of `words` in its command line, the oldest first: the keeper and then the agent, the page
    server and then its guardian."""
    return [process.pid for process in processes(host) if all(word in process.command for word in words)]


def kill(host: Host, *words: str) -> None:
    """SIGKILL exactly these, which must be there."""
    kill_pids(host, *eventually(lambda: pids_of(host, *words), f"{words} runs"))


def kill_pids(host: Host, *pids: int) -> None:
    """SIGKILL all of these at once: stopped first, none can act on another's death before its own. Of several, some may
    have ended by themselves."""
    assert pids
    if len(pids) == 1:
        host.run(["kill", "-KILL", str(*pids)])
        return
    parents = []
    for pid in pids:
        with contextlib.suppress(TestbedError, OSError):
            parents.append(parent_of(host.outer_pid(pid)))
    host.run(["sh", "-c", 'kill -STOP "$@"; kill -KILL "$@"; :', "kill", *map(str, pids)])
    for parent in filter(None, parents):
        eventually(lambda parent=parent: go_on(parent), "nsenter has ended, too")


def kill_agent(host: Host) -> None:
    """The newest; the keeper, which is its parent, stays."""
    kill_pids(host, pids_of(host, "python", "criu-lazy agent")[-1])


def parent_of(pid: int) -> int:
    """The nsenter that waits for it, or 0. It stops itself when it sees its child stopped."""
    parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return parent if parent and Path(f"/proc/{parent}/comm").read_text() == "nsenter\n" else 0


def go_on(pid: int) -> bool:
    """Whether it has ended; if it stands still, it goes on."""
    with contextlib.suppress(OSError):
        os.kill(pid, signal.SIGCONT)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    return True


def ours(host: Host) -> list[Process]:
    """What of a migration runs there."""
    words = (
        "criu dump",
        "criu restore",
        "lazy-pages",
        "page-server",
        "page-store",
        "criu-lazy agent",
        "criu-lazy migrate",
        "pausing_migrate",
        "gate.sh",
    )
    return [process for process in processes(host) if any(word in process.command for word in words)]


def kill_ours(host: Host) -> None:
    """SIGKILL what of a migration runs there, if anything does."""
    left = [str(process.pid) for process in ours(host)]
    if left:
        host.run(["kill", "-9", *left], check=False)


class Worker:
    """The task that moves: it keeps a pattern in its memory, and checks it whenever it is asked."""

    def __init__(self, testbed: Testbed, megabytes: int, *options: str) -> None:
        self.testbed = testbed
        self.directory = f"/srv/worker{next(_numbers)}"
        for host in (testbed.src, testbed.dst):
            host.run(["mkdir", "-p", self.directory])
        start = 'cd "$1" && shift && exec /usr/local/bin/patterned_task "$@"'
        self.pid = testbed.src.start(["sh", "-c", start, "sh", self.directory, str(megabytes), *options])
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

    def is_gone_from(self, host: Host) -> None:
        """Who is being killed executes nothing any more, and is there until its memory is freed."""
        eventually(lambda: not self.is_on(host), "it is gone")

    def end(self) -> None:
        for host in (self.testbed.src, self.testbed.dst):
            host.run(["pkill", "-9", "-x", "patterned_task"], check=False)


class Terminal:
    """What a program sees as one, and what it wrote on it."""

    def __init__(self) -> None:
        self._master, self.slave = pty.openpty()
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 120, 0, 0))
        self._written: list[bytes] = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # nobody has the other end any more
            while data := os.read(self._master, 4096):
                self._written.append(data)
        os.close(self._master)

    def text(self) -> str:
        """All of it, without what moves the cursor or gives colours."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", b"".join(self._written).decode(errors="replace"))


class Run:
    """A command of criu-lazy's on its own, with `--json`."""

    process: Any
    path: str  # of what it was given

    def __init__(self) -> None:
        self.status = -1
        self.stderr = ""
        self.report: dict[str, Any] = {}
        RUNS.append(self)

    def end(self, seconds: float = 60) -> int:
        """Its exit status; `report` and `stderr` are there then."""
        stdout, stderr = self.process.communicate(timeout=seconds)
        self.stderr = stderr or ""
        self.status = self.process.returncode
        with contextlib.suppress(ValueError):
            self.report = json.loads(stdout)
        return int(self.status)

    def told(self) -> str:
        """On stderr, so far."""
        if self.process.stderr is not None and not self.process.stderr.closed:
            os.set_blocking(self.process.stderr.fileno(), False)
            with contextlib.suppress(BlockingIOError):
                while more := os.read(self.process.stderr.fileno(), 1 << 16):
                    self.stderr += more.decode()
        return f"{self.stderr}status: {self.process.poll()}"


RUNS: list[Run] = []  # of the test that runs


class Migration(Run):
    """One run of `criu-lazy migrate`, on src unless said otherwise."""

    def __init__(
        self,
        testbed: Testbed,
        profile: str,
        *options: str,
        source: Host | None = None,
        environment: dict[str, str] | None = None,
        terminal: Terminal | None = None,
        program: str = "criu-lazy",
    ) -> None:
        super().__init__()
        self.testbed = testbed
        self.source = source or testbed.src
        self.name = f"m{next(_numbers)}"
        self.path = f"/root/{self.name}.yaml"
        self.source.write(self.path, profile)
        command = [program, "migrate", self.path, "--json", *options]
        errors = terminal.slave if terminal else -1
        self.process = self.source.popen(command, environment, stdout=-1, stderr=errors, text=True)
        if terminal:
            os.close(terminal.slave)

    def journal(self) -> dict[str, Any]:
        path = self.source.root / f"var/lib/criu-lazy/{self.name}/journal.json"
        return dict(json.loads(path.read_text())) if path.exists() else {}

    def is_in(self, *states: str) -> bool:
        return self.journal().get("state") in states

    def decide(self, *options: str) -> Any:
        return self.source.run(["criu-lazy", "migrate", self.path, *options], check=False)


BASE = "task: {pidfile: /run/worker.pid}\ndestination: {ssh: dst}\ntimeouts: {silence: 3}\nstrategy: lazy\n"


def compile_task(testbed: Testbed) -> None:
    for host in (testbed.src, testbed.dst):
        host.write("/tmp/patterned_task.c", TASK_C.read_text())
        host.run(["cc", "-O1", "-o", "/usr/local/bin/patterned_task", "/tmp/patterned_task.c"])


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
    left = testbed.dst.run(["sh", "-c", "ls -d /var/lib/criu-lazy*/* 2>/dev/null"], check=False).stdout.split()
    left = [path for path in left if not path.endswith((".failed", ".runs"))]
    assert not left, "the destination's files are gone, but for a failure's logs and what it did as a source"
    assert testbed.src.run(["sh", "-c", "ls -d /var/lib/criu-lazy/*/images"], check=False).stdout == ""


def assert_stayed(worker: Worker, migration: Migration, *says: str) -> None:
    """Rolled back: the source task runs on, nothing is left at the destination, and one line tells why."""
    testbed = worker.testbed
    assert migration.end() == ROLLED_BACK, (migration.stderr, migration.report)
    message = migration.report["message"]
    assert migration.report["outcome"] == "rolled-back"
    assert "\n" not in message
    for word in (*says, "the source task runs on"):
        assert word in message, message
    assert worker.answers(testbed.src) == "right\n"
    assert_clean(testbed)
    assert not worker.is_on(testbed.dst)


HOLD = "hooks: {before_restore: [{run: 'touch /run/held; while test -e /run/held; do sleep 0.05; done'}]}\n"
# Run by criu itself at one of its stages.
HOLD_SCRIPT = '#!/bin/sh\n[ "$CRTOOLS_SCRIPT_ACTION" != "$(cat /srv/hold-at)" ] || { touch /run/held; sleep SECS; }\n'


def held(
    testbed: Testbed, profile: str, *, at: str = "", host: Host | None = None, seconds: int = 2,
    environment: dict[str, str] | None = None,
) -> Migration:  # fmt: skip
    """A migration that waits before the restore, or where criu comes to the stage `at` on `host`."""
    host = host or testbed.src
    host.run(["rm", "-f", "/run/held"])
    if at:
        host.write("/srv/hold.sh", HOLD_SCRIPT.replace("SECS", str(seconds)))
        host.write("/srv/hold-at", at)
        host.run(["chmod", "+x", "/srv/hold.sh"])
    migration = Migration(testbed, profile, environment=environment)
    eventually(lambda: (host.root / "run/held").exists() or migration.process.poll() is not None, "it is held")
    if migration.process.poll() is not None:
        migration.end()
    assert migration.status == -1, migration.stderr
    return migration


HOLD_DUMP = "criu: {dump_options: [--action-script, /srv/hold.sh]}\n"
HOLD_RESTORE = "criu: {restore_options: [--action-script, /srv/hold.sh]}\n"


def running(worker: Worker, profile: str = BASE, **options: Any) -> Migration:
    """A migration whose restored task runs, most of its memory being on its way."""
    worker.testbed.link.set(rate_mbit=6, rtt_ms=0.2)
    migration = Migration(worker.testbed, profile, **options)
    eventually(lambda: migration.is_in("running") or migration.process.poll() is not None, "the restored task runs")
    return migration


def interrupt(migration: Migration) -> None:
    """By two signals: once the task runs there, the first ends nothing."""
    migration.process.send_signal(signal.SIGINT)
    migration.process.send_signal(signal.SIGTERM)


def stopped(worker: Worker, stop: Callable[[Migration], object], restored_lives: bool = True) -> Migration:
    migration = running(worker)
    stop(migration)
    assert migration.end() == UNDECIDED, migration.stderr
    assert "is frozen, with all of its memory; criu dump" in migration.report["message"]
    assert worker.is_on(worker.testbed.src)
    assert worker.is_on(worker.testbed.dst) or not restored_lives
    return migration


def kill_all_that_serve(testbed: Testbed) -> None:
    kill_pids(testbed.src, *pids_of(testbed.src, "page-server"), *pids_of(testbed.src, "criu dump"))


def daemons(host: Host) -> set[int]:
    """Our daemons' own processes, not those that they forked: children of the agent."""
    agent = str(pids_of(host, "python", "criu-lazy agent")[-1])
    return set(map(int, host.run(["pgrep", "-P", agent, "-f", "lazy-pages"], check=False).stdout.split()))


def ask_to_abort(migration: Migration) -> Any:
    """The operator asks the page server itself."""
    command = ["criu-lazy", "page-server", "--control", str(migration.journal()["control"]), "--op", "abort"]
    return migration.testbed.src.run(command, check=False)
