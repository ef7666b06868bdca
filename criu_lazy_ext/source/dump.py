"""The source's half of a migration: the task, the lazy dump, and the page server that stands before it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from criu_lazy_ext.criu.contrary import said_in_files
from criu_lazy_ext.criu.explain import PASSING, cause, cause_in_log
from criu_lazy_ext.engines.engine import Engine
from criu_lazy_ext.errors import CriuLazyError
from criu_lazy_ext.profile import Precopy, Profile, Task
from criu_lazy_ext.source import control_socket
from criu_lazy_ext.source.task import Identity, criu_that_traces, identity
from criu_lazy_ext.system.awaited import Child, await_end, read_all
from criu_lazy_ext.system.files import write_key
from criu_lazy_ext.system.migration_id import VARIABLE
from criu_lazy_ext.system.processes import (
    describe_status,
    is_alive,
    send_signal,
    start_time,
    threads_at_page_starts,
    tree,
    why_no_task,
)

FIND_TIMEOUT_S = 30.0
PREPARE_WITHIN_S = 60.0  # Python starts
PAIR_TIMEOUT_S = 5.0
END_TIMEOUT_S = 30.0
RESTARTED_WITHIN_S, ABORT_RETRY_S = 15.0, 0.2
ANSWER_WITHIN_S = 5.0
PAGE_STARTS_WAIT_S, PAGE_STARTS_POLL_S = 0.25, 0.01
TRIES, TRY_AGAIN_S = 8, 0.05  # of a dump that met a process or a connection which came or went
PUSH_STREAMS = 2


class SourceError(CriuLazyError):
    """The task can't be found, dumped, or served."""


def find_task(task: Task | None) -> int:
    """The pid that the profile means. Raises SourceError."""
    assert task is not None
    if task.pid is not None:
        text, where = str(task.pid), "task.pid"
    elif task.pidfile is not None:
        where = str(task.pidfile)
        try:
            text = task.pidfile.read_text()
        except OSError as error:
            raise SourceError(f"task.pidfile: {where}: {error.strerror}; does the task run?") from error
    else:
        where = f"task.command: {task.command!r}"
        command = ["/bin/sh", "-c", str(task.command)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=FIND_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise SourceError(f"{where} took longer than {FIND_TIMEOUT_S:g} s") from None
        if done.returncode:
            said = f": {done.stderr.strip()}" if done.stderr.strip() else ""
            raise SourceError(f"{where} ended with status {done.returncode}{said}; it is to print the task's pid")
        text = done.stdout
    words = text.split()
    if len(words) != 1 or not words[0].isdigit():
        raise SourceError(f"{where}: expected one pid (of the task's root), found {text.strip()!r}")
    pid = int(words[0])
    if problem := why_no_task(pid):
        raise SourceError(f"{where}: {problem}")
    if task.program is not None and (program := program_of(pid)) != task.program:
        raise SourceError(f"{where}: process {pid} is {program!r}, and not {task.program!r} (task.program)")
    return pid


def program_of(pid: int) -> str:
    """The name of the process; "" if it has ended."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    return ""


def memory_of_tree(pid: int) -> int:
    """Bytes of anonymous memory that the task and its children have, present or swapped out."""
    total = 0
    for process in tree(pid).values():
        with contextlib.suppress(OSError):  # it has ended
            for line in Path(f"/proc/{process}/status").read_text(errors="replace").splitlines():
                if line.startswith(("RssAnon:", "VmSwap:")):
                    total += int(line.split()[1]) << 10
    return total


async def await_lazy_stacks(pid: int) -> str:
    """Wait a moment until no thread's stack pointer is a multiple of the page size; "", or what follows if one's stays.

    CRIU (4.1, 4.2: is_stack() in mem.c) takes all pages of such a thread's task for its stack's, and makes none lazy. A
    thread that sleeps in one place is at a page's start one time in 256, one that works soon leaves it.
    """
    deadline = time.monotonic() + PAGE_STARTS_WAIT_S
    threads: list[int] = []
    while threads := threads_at_page_starts(pid, threads):
        if time.monotonic() > deadline:
            which = f"thread {threads[0]}" + (f" and {len(threads) - 1} more" if len(threads) > 1 else "")
            return (
                f"the stack pointer of {which} is a multiple of the page size: criu takes all memory of its task for "
                "stack, which goes into the images, not lazily; another start of the task may do better"
            )
        await asyncio.sleep(PAGE_STARTS_POLL_S)
    return ""


def daemon_options(profile: Profile) -> list[str]:
    """How the destination's daemon is to ask for pages; criu's own knows none of these."""
    if profile.daemon == "stock":
        return []
    seconds = profile.timeouts.reconnect  # 0: without limit
    options = ["--reconnect-seconds", str(max(1, round(seconds))) if seconds else "none"]
    return options if profile.page_source == "stock" else [*options, f"--push={PUSH_STREAMS}"]


def connected_pair() -> tuple[socket.socket, socket.socket]:
    """Both ends of a TCP connection, as criu's --ps-socket takes one; nobody else has either. Raises SourceError."""
    with socket.create_server(("127.0.0.1", 0), backlog=1) as listener:
        listener.settimeout(PAIR_TIMEOUT_S)
        try:
            ours = socket.create_connection(listener.getsockname(), PAIR_TIMEOUT_S)
            while True:
                theirs, address = listener.accept()
                if address == ours.getsockname():
                    break
                theirs.close()  # a stranger was quicker
        except OSError as error:
            raise SourceError(f"no connection on 127.0.0.1 for criu dump: {error.strerror or error}") from error
    for end in (ours, theirs):
        end.settimeout(None)
    return ours, theirs


class LazyDump:
    """`criu dump --lazy-pages`, frozen tasks and all, and our page server before it. With an `engine`, its own
    checkpoint command starts criu."""

    def __init__(
        self, profile: Profile, pid: int, directory: Path, engine: Engine | None = None, *, migration: str
    ) -> None:
        """`migration`: its id."""
        self.migration = migration
        self.profile = profile
        self.pid = pid
        self.engine = engine
        self.images = directory / "images"
        self.work = directory
        self.control = directory / control_socket.CONTROL_SOCKET
        self.log = directory / "page-server.log"
        self.began = 0.0  # the dump that was started last
        self.process: Child | None = None  # criu dump, or the engine's command
        self.criu: Identity | None = None  # criu dump, once it serves
        self.page_server: Child | None = None
        self.port = 0
        # Of this migration alone; "" without encryption: criu's own daemon can't speak with such a key.
        self.key = os.urandom(32).hex() if profile.encrypts() else ""
        self.resume_command: list[str] = []  # a page server that goes on where this one was, should it be killed
        self._dump_end: socket.socket | None = None  # of its connection to the page server, until the dump has it
        self._status = -1  # the writing end of the dump's status pipe, until the dump has it
        self._lifeline = -1  # when this end is closed, by us or by our death, the page server rolls back

    async def prepare(self, address: str, wire_version: int, rounds: Precopy | None) -> None:
        """Start the page server on `address`, to wait for the dump, and before it for `rounds`; nothing is frozen.

        Raises SourceError.
        """
        upstream, self._dump_end = connected_pair()
        status_read, self._status = os.pipe()
        lifeline_read, self._lifeline = os.pipe()
        ready_read, ready_write = os.pipe()
        given = {"--dump-status-fd": status_read, "--lifeline": lifeline_read, "--status-fd": ready_write}
        given["--upstream-fd"] = upstream.detach()
        common = ["page-server", "--hold", "--control", str(self.control), "--address", address]
        common += ["--images", str(self.images), "--wire-version", str(wire_version), "--fence", str(self.pid)]
        if self.profile.page_source == "criu-lazy":
            common += ["--tree", str(self.pid), "--rate", str(self.profile.source.rate)]
        if self.key:
            common += ["--tls-psk", str(write_key(self.work, self.key))]
        else:
            common.append("--plain")
        self.resume_command = ["criu-lazy", *common, "--resume"]  # --port is known when it serves
        command = [sys.executable, "-m", "criu_lazy_ext.cli", *common, "-vv"]
        command += ["--port", str(self.profile.source.port), "--log-file", str(self.log)]
        if rounds is not None:
            command.append("--precopy")
            if rounds.bandwidth:
                command += ["--precopy-rate", str(rounds.bandwidth)]
        for option, fd in given.items():
            command += [option, str(fd)]
        try:
            with self.log.open("ab") as log:
                self.page_server = Child(command, log, tuple(given.values()), {VARIABLE: self.migration})
        finally:
            for fd in given.values():
                os.close(fd)
        try:
            ready = await asyncio.wait_for(read_all(ready_read), PREPARE_WITHIN_S)
        except TimeoutError:
            raise SourceError(f"the page server did not get ready within {PREPARE_WITHIN_S:g} s") from None
        if ready != b"\0":
            raise SourceError(f"the page server did not start: {self._last_words()}")

    async def start(self) -> None:
        """Freeze and dump; returns when the pages can be asked for. Raises SourceError, and then see `roll_back`."""
        served = asyncio.ensure_future(self._served())
        served.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody may ask, if none starts
        try:
            for last in (*[False] * (TRIES - 1), True):
                process = self.process = self._spawn()
                ended = asyncio.ensure_future(process.wait())
                await asyncio.wait({served, ended}, return_when=asyncio.FIRST_COMPLETED)
                ended.cancel()
                if served.done() or last or not self._may_try_again():
                    break
                await asyncio.sleep(TRY_AGAIN_S)
        finally:
            self._close_dumps_ends()  # so the page server hears of it
        try:
            state = await served
        except TimeoutError:
            raise SourceError(f"criu dump was not ready within {self.profile.timeouts.dump:g} s") from None
        except control_socket.ControlError as error:
            with contextlib.suppress(TimeoutError):
                status = await asyncio.wait_for(process.wait(), 1)
                raise SourceError(self._why_failed(status)) from error
            if self.page_server is not None and self.page_server.returncode is not None:
                raise SourceError(
                    f"the page server {describe_status(self.page_server.returncode)}: {self._last_words()}"
                ) from error
            raise SourceError(f"criu dump was not ready within {self.profile.timeouts.dump:g} s") from error
        if self.engine is not None and self.engine.detaches and (status := await process.wait()):
            raise SourceError(self._why_failed(status))
        self.port = int(state["port"])
        self.resume_command += ["--port", str(self.port)]
        self.criu = criu_that_traces(self.pid) if self.engine else identity(process.pid)

    def _spawn(self) -> Child:
        """Start criu dump. The page server hears of its end when this process, too, has closed the dump's ends."""
        assert self._dump_end is not None
        given = {"ps-socket": self._dump_end.fileno(), "status-fd": self._status}
        command, environment = self._command(given)
        self.began = time.monotonic()
        with (self.work / "dump.out").open("wb") as output:
            return Child(command, output, tuple(given.values()), environment)

    async def _served(self) -> control_socket.Answer:
        """The page server's word that the dump serves. Raises TimeoutError, ControlError."""
        async with asyncio.timeout(self.profile.timeouts.dump):
            return await self.ask("served", timeout=self.profile.timeouts.dump)

    def _may_try_again(self) -> bool:
        """Whether the dump failed of what passes by itself, and nothing is left of it: the task runs."""
        if self.engine is not None:
            return False
        with contextlib.suppress(OSError):
            lines = (self.work / "dump.log").read_text(errors="replace").splitlines()
            if PASSING.search(cause(lines)):
                for image in self.images.iterdir():
                    image.unlink()
                return True
        return False

    def _command(self, descriptors: dict[str, int]) -> tuple[list[str], dict[str, str]]:
        """What dumps, and what is added to its environment."""
        if self.engine is not None:
            command = self.engine.checkpoint(self.work, self.profile.criu, descriptors)
            return command.argv, command.environment
        argv = ["criu", "dump", "-t", str(self.pid), "-D", str(self.images), "-W", str(self.work), "-o", "dump.log"]
        argv += ["-v2", "--lazy-pages", *self.profile.criu.options(), *self.profile.criu.dump_options]
        for name, fd in descriptors.items():
            argv += [f"--{name}", str(fd)]
        return argv, {}

    def _why_failed(self, status: int) -> str:
        log = self.work / "dump.log"
        said = said_in_files(self.profile.criu.dump_options)
        if self.engine is None:
            return f"criu dump {describe_status(status)}: {cause_in_log(log)}{said}"
        reason = cause_in_log(log) if log.exists() else self.engine.failure(self.work)
        return f"the engine's checkpoint {describe_status(status)}: {reason}{said}"

    @property
    def pid_of_criu(self) -> int:
        """0 before it was started."""
        if self.criu is not None:
            return self.criu[0]
        return self.process.pid if self.process is not None else 0

    def lives(self) -> bool:
        """Whether criu dump does; once it was reaped, its pid may be another's."""
        if self.engine is not None and self.criu is not None:
            return start_time(self.criu[0]) == self.criu[1]
        return self.process is not None and self.process.returncode is None and is_alive(self.process.pid)

    def has_succeeded(self) -> bool:
        """Whether criu dump ended as one that did all it was to do. Of an engine's that isn't known."""
        return self.engine is None and self.process is not None and self.process.returncode == 0

    async def wait(self) -> int:
        """Until nothing of the dump is left. The exit status; of an engine's command, should criu outlive it, that."""
        assert self.process is not None
        status = await self.process.wait()
        if self.engine is not None and self.criu is not None:
            await await_end(*self.criu)
        return status

    async def kill(self) -> None:
        """Kill criu dump; the tasks that it holds are let go. Wait for its end."""
        assert self.process is not None
        if self.criu is not None:
            send_signal(*self.criu, signal.SIGKILL)
        elif self.process.returncode is None:
            os.kill(self.process.pid, signal.SIGKILL)
        await self.wait()

    async def ask(
        self, op: str, force: bool = False, timeout: float | None = 60.0, rate: int = 0
    ) -> control_socket.Answer:
        """The page server's control socket. Raises ControlError."""
        return await asyncio.to_thread(control_socket.request, self.control, op, force, timeout, rate=rate)

    async def roll_back(self, force: bool) -> None:
        """Make the dump give up, so that the task runs on. Raises SourceError if it doesn't.

        `force`: also after the page server was told that the restored task runs.
        """
        self._close_dumps_ends()
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1
        if force and not await self._force_abort():
            raise SourceError("no page server is there that could have criu dump give up")
        try:
            await asyncio.wait_for(self._end(), END_TIMEOUT_S)
        except TimeoutError:
            if not self.lives() and self.page_server is not None:
                # It hangs, and holds nothing: not yet, or not any more.
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.page_server.pid, signal.SIGKILL)
                await self.page_server.wait()
                return
            raise SourceError(f"criu dump (pid {self.pid_of_criu}) does not end") from None

    async def _force_abort(self) -> bool:
        """Until a page server hears it: this one, or another that its guardian starts. False: none does, for long."""
        if self.process is None:
            return True
        deadline = time.monotonic() + RESTARTED_WITHIN_S
        while time.monotonic() < deadline:
            try:
                await self.ask("abort", force=True)
            except control_socket.Refused:  # it is over already
                return True
            except control_socket.ControlError:
                if not self.lives() and not await self.has_page_server():
                    return True
                await asyncio.sleep(ABORT_RETRY_S)
            else:
                return True
        return not self.lives()

    async def has_page_server(self) -> bool:
        """Whether one is there, or a guardian that starts another."""
        for is_there in (control_socket.listener_pid, control_socket.is_guarded):
            if await asyncio.to_thread(is_there, self.control):
                return True
        return False

    async def is_served_alone(self) -> bool:
        """Whether the page server goes on without criu dump, which is dead; it is waited for until it knows."""
        while True:
            try:
                answer = await self.ask("state", timeout=ANSWER_WITHIN_S)
            except control_socket.ControlError:
                if not await self.has_page_server():
                    return False
            else:
                if answer["without_dump"]:
                    return True
            await asyncio.sleep(ABORT_RETRY_S)

    async def _end(self) -> None:
        if self.process is not None:
            await self.wait()
        if self.page_server is not None:
            await self.page_server.wait()

    def _close_dumps_ends(self) -> None:
        """What only the dump is to have."""
        if self._dump_end is not None:
            self._dump_end.close()
            self._dump_end = None
        if self._status >= 0:
            os.close(self._status)
            self._status = -1

    def _last_words(self) -> str:
        try:
            lines = self.log.read_text(errors="replace").strip().splitlines()
        except OSError as error:
            return f"{self.log}: {error.strerror}"
        return lines[-1].removeprefix(f"[{self.migration}] ") if lines else f"nothing in {self.log}"
