"""The source's half of a migration: the task, the lazy dump, and the page server that stands before it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path

from criu_lazy_ext import criu, relay_control
from criu_lazy_ext.agent import describe_status, read_all
from criu_lazy_ext.errors import CriuLazyError
from criu_lazy_ext.images import Images
from criu_lazy_ext.profile import Profile, Task


class SourceError(CriuLazyError):
    """The task can't be found, dumped, or served."""


def find_task(task: Task) -> int:
    """The pid that the profile means. Raises SourceError."""
    if task.pid is not None:
        text, where = str(task.pid), "task.pid"
    elif task.pidfile is not None:
        where = str(task.pidfile)
        try:
            text = task.pidfile.read_text()
        except OSError as error:
            raise SourceError(f"task.pidfile: {where}: {error.strerror}") from error
    else:
        where = f"task.command: {task.command!r}"
        done = subprocess.run(["/bin/sh", "-c", str(task.command)], capture_output=True, text=True, check=False)
        if done.returncode:
            raise SourceError(f"{where} ended with status {done.returncode}: {done.stderr.strip()}")
        text = done.stdout
    words = text.split()
    if len(words) != 1 or not words[0].isdigit():
        raise SourceError(f"{where}: expected one pid, found {text.strip()!r}")
    pid = int(words[0])
    if not Path(f"/proc/{pid}").exists():
        raise SourceError(f"{where}: no process has pid {pid}")
    return pid


def ids_of_tree(pid: int) -> list[int]:
    """All pids and tids of the task and its children; empty if it has a pid namespace of its own (they go along)."""
    try:
        if Path(f"/proc/{pid}/ns/pid").readlink() != Path("/proc/self/ns/pid").readlink():
            return []
        ids: list[int] = []
        todo = [pid]
        while todo:
            process = todo.pop()
            for thread in Path(f"/proc/{process}/task").iterdir():
                ids.append(int(thread.name))
                todo += map(int, (thread / "children").read_text().split())
    except OSError as error:
        raise SourceError(f"task {pid}: {error.strerror}; did it end?") from error
    return ids


def is_alive(pid: int) -> bool:
    """Whether the task exists and isn't a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


class PipeLimits:
    """The sysctls that a lazy dump needs, raised for the time of a migration."""

    WANTED = ((criu.PIPE_MAX_SIZE, criu.PIPE_MAX_SIZE_BYTES), (criu.PIPE_USER_PAGES_SOFT, 0))

    def __init__(self) -> None:
        self._before: dict[Path, int] = {}

    def raise_(self) -> None:
        """Set what is not enough yet. Raises SourceError."""
        for path, wanted in self.WANTED:
            try:
                found = int(path.read_text())
                if found < wanted or (wanted == 0 and found != 0):
                    path.write_text(str(wanted))
                    self._before[path] = found
            except OSError as error:
                raise SourceError(f"{path}: {error.strerror}; set it to {wanted} by sysctl") from error

    def restore(self) -> None:
        """Back to what it was."""
        for path, value in self._before.items():
            with contextlib.suppress(OSError):
                path.write_text(str(value))
        self._before.clear()


class LazyDump:
    """`criu dump --lazy-pages`, frozen tasks and all, and our page server before it."""

    def __init__(self, profile: Profile, pid: int, directory: Path) -> None:
        self.profile = profile
        self.pid = pid
        self.images = directory / "images"
        self.work = directory
        self.control = directory / "page-server.sock"
        self.process: asyncio.subprocess.Process | None = None
        self.relay: asyncio.subprocess.Process | None = None
        self.port = 0
        self._dump_port = 0

    async def start(self) -> None:
        """Freeze and dump; returns when its page server listens. Raises SourceError: the task runs on then."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._dump_port = probe.getsockname()[1]
        ready_read, ready_write = os.pipe()
        command = ["criu", "dump", "-t", str(self.pid), "-D", str(self.images), "-W", str(self.work), "-o", "dump.log"]
        command += ["-v2", "--lazy-pages", "--address", "127.0.0.1", "--port", str(self._dump_port)]
        command += ["--status-fd", str(ready_write), *self.profile.criu.options(), *self.profile.criu.dump_options]
        try:
            self.process = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.DEVNULL, stdout=2, pass_fds=(ready_write,), start_new_session=True
            )
        finally:
            os.close(ready_write)
        try:
            ready = await asyncio.wait_for(read_all(ready_read), self.profile.timeouts.dump)
        except TimeoutError:
            raise SourceError(f"criu dump was not ready within {self.profile.timeouts.dump:g} s") from None
        if ready != b"\0":
            status = await self.process.wait()
            log = self.work / "dump.log"
            raise SourceError(f"criu dump {describe_status(status)}: {criu.last_error(log)}")

    async def serve(self, wire_version: int) -> None:
        """Start the page server before the dump; sets `port`. Raises SourceError."""
        directory = os.open(self.images, os.O_RDONLY | os.O_DIRECTORY)
        try:
            pids = Images(directory, str(self.images)).pids()
        finally:
            os.close(directory)
        ready_read, ready_write = os.pipe()
        command = [sys.executable, "-m", "criu_lazy_ext.cli", "page-server", "--hold", "--control", str(self.control)]
        command += ["--upstream", f"127.0.0.1:{self._dump_port}", "--wire-version", str(wire_version)]
        command += ["--address", self.profile.source.address, "--port", str(self.profile.source.port)]
        command += ["--status-fd", str(ready_write), "-o", str(self.work / "page-server.log"), "-vv"]
        for pid in pids:
            command += ["--task", str(pid)]
        try:
            self.relay = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.DEVNULL, stdout=2, pass_fds=(ready_write,), start_new_session=True
            )
        finally:
            os.close(ready_write)
        if await asyncio.wait_for(read_all(ready_read), 30) != b"\0":
            raise SourceError(f"the page server did not start; see {self.work / 'page-server.log'}")
        self.port = int((await self.ask("state"))["port"])

    async def ask(self, op: str, force: bool = False) -> relay_control.Answer:
        """The page server's control socket. Raises ControlError."""
        return await asyncio.to_thread(relay_control.request, self.control, op, force)

    async def roll_back(self, force: bool) -> None:
        """Make the dump give up, so that the task runs on. Raises SourceError if it can't be told or doesn't."""
        if self.process is None or self.process.returncode is not None:
            return
        if self.relay is not None and self.relay.returncode is None:
            await self.ask("abort", force)
        elif self.relay is None:
            # A connection that ends within a header: the dump takes it for a failure.
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._dump_port), 5) as dump:
                dump.sendall(b"\0")
        # (A page server that died has a guardian that rolls back.)
        try:
            await asyncio.wait_for(self.process.wait(), 30)
        except TimeoutError:
            raise SourceError(f"criu dump (pid {self.process.pid}) does not end; the task is frozen") from None
