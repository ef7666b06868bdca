"""`criu-lazy agent`: the destination's half of a migration, run by `criu-lazy migrate` over ssh.

It speaks channel.py's messages on its standard input and output: requests {"id", "op", ...}, each answered by
{"id", "ok": true, ...} or {"id", "ok": false, "error": one line}; and events {"event": ...} at any time.

It keeps one promise: until the restored task has been let run (the source said "go"), the end of its input, or any
failure, leaves nothing behind: daemon, restore and half-restored tasks are killed, files removed. After that it stays,
connected or not, until the daemon has every page, and leaves the outcome in outcome.json.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import stat
import sys
from pathlib import Path
from typing import Any

from criu_lazy_ext import __version__, criu
from criu_lazy_ext.channel import Channel, ChannelError, Message
from criu_lazy_ext.errors import CriuLazyError

GATE_SCRIPT = """#!/bin/sh
# criu restore runs this when everything is restored and nothing runs yet; its failure kills what was restored.
[ "$CRTOOLS_SCRIPT_ACTION" = post-restore ] || exit 0
cd "$(dirname "$0")" && echo ask > gate.ask && answer=$(timeout {timeout} head -n 1 gate.answer) && [ "$answer" = go ]
"""


class AgentError(CriuLazyError):
    """A request can't be carried out; the message goes to the source."""


class Agent:
    """One migration's destination. `run` serves requests until the end."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.directory: Path | None = None
        self.pids: list[int] = []
        self.daemon: asyncio.subprocess.Process | None = None
        self.restore: asyncio.subprocess.Process | None = None
        self.running = False  # the restored task was let run
        self.kept = False
        self.background: set[asyncio.Task[None]] = set()
        self.gate: asyncio.Future[bool] | None = None

    # ---- requests ----

    async def hello(self, request: Message) -> Message:
        """Who is here."""
        version = await asyncio.to_thread(criu.version)
        return {"version": __version__, "criu": list(version), "hostname": os.uname().nodename, "pid": os.getpid()}

    async def prepare(self, request: Message) -> Message:
        """Check this host and make the migration's directory: {"directory", "pids", "bytes_needed"}."""
        checked = await asyncio.to_thread(lambda: criu.requirements(source=False, destination=True))
        problems = [f"{item.name}: {item.problem}" for item in checked if item.problem]
        self.pids = [int(pid) for pid in request["pids"]]
        taken = [pid for pid in self.pids if Path(f"/proc/{pid}").exists()]
        if taken:
            problems.append(f"pids {taken} are taken by other processes")
        directory = Path(request["directory"])
        if directory.exists():
            problems.append(f"{directory} exists already")
        if problems:
            raise AgentError("; ".join(problems))
        try:
            (directory / "images").mkdir(parents=True, mode=0o700)
            (directory / "work").mkdir(mode=0o700)
        except OSError as error:
            raise AgentError(f"{directory}: {error.strerror}") from error
        self.directory = directory
        return {"free_bytes": shutil.disk_usage(directory).free}

    async def write(self, request: Message, payload: bytes) -> Message:
        """Append the payload to an image file: {"name"}; its first piece comes with {"first": true}."""
        name = str(request["name"])
        if "/" in name or name in ("", ".", "..") or self.directory is None:
            raise AgentError(f"not the name of an image: {name!r}")
        try:
            with (self.directory / "images" / name).open("wb" if request.get("first") else "ab") as file:
                file.write(payload)
        except OSError as error:
            raise AgentError(f"{self.directory / 'images' / name}: {error.strerror}") from error
        return {}

    async def hook(self, request: Message) -> Message:
        """Run a command: {"run", "env", "timeout"}."""
        await run_hook(str(request["run"]), request["env"], float(request["timeout"]))
        return {}

    async def start_daemon(self, request: Message) -> Message:
        """Start lazy-pages: {"daemon": "criu-lazy"|"stock", "address", "port"}; answered when it is ready."""
        images, work = self.images(), self.work()
        ready_read, ready_write = os.pipe()
        stats_read, stats_write = os.pipe()
        command = ["criu"] if request["daemon"] == "stock" else [sys.executable, "-m", "criu_lazy_ext.cli"]
        command += ["lazy-pages", "-D", str(images), "-W", str(work), "-o", "lazy-pages.log", "-v3"]
        command += ["--status-fd", str(ready_write), "--page-server"]
        command += ["--address", str(request["address"]), "--port", str(request["port"])]
        if request["daemon"] != "stock":
            command += ["--stats-fd", str(stats_write)]
        try:
            self.daemon = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.DEVNULL, stdout=2, pass_fds=(ready_write, stats_write),
                start_new_session=True,
            )
        finally:
            os.close(ready_write)
            os.close(stats_write)
        self.spawn(self.forward_stats(stats_read))
        self.spawn(self.watch_daemon())
        ready = await asyncio.wait_for(read_all(ready_read), 30)
        if ready != b"\0":
            raise AgentError(f"lazy-pages did not start: {criu.last_error(work / 'lazy-pages.log')}")
        return {"pid": self.daemon.pid}

    async def start_restore(self, request: Message) -> Message:
        """Restore: {"options", "timeout"}; sends the event "ask" when the task may run, waits for op "go"."""
        images, work = self.images(), self.work()
        for name in ("gate.ask", "gate.answer"):
            os.mkfifo(work / name, 0o600)
        script = work / "gate.sh"
        script.write_text(GATE_SCRIPT.format(timeout=int(float(request["timeout"])) + 1))
        script.chmod(stat.S_IRWXU)
        # Both ends are held here, so that neither the script nor this process ever blocks in open().
        ask = os.open(work / "gate.ask", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        answer = os.open(work / "gate.answer", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        asked = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(ask, asked.set)
        self.gate = loop.create_future()
        command = ["criu", "restore", "-d", "--lazy-pages", "-D", str(images), "-W", str(work), "-o", "restore.log"]
        command += ["-v2", "--pidfile", "restored.pid", "--action-script", str(script), *request["options"]]
        try:
            self.restore = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.DEVNULL, stdout=2, start_new_session=True
            )
            ended = asyncio.ensure_future(self.restore.wait())
            waiting = asyncio.ensure_future(asked.wait())
            either: set[asyncio.Future[Any]] = {ended, waiting}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED, timeout=request["timeout"])
            waiting.cancel()
            if not asked.is_set():
                raise self.restore_failed(work)
            loop.remove_reader(ask)
            await self.channel.send({"event": "ask"})
            either = {ended, self.gate}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not self.gate.done():
                raise self.restore_failed(work)
            self.running = True
            os.write(answer, b"go\n")
            if await ended != 0:
                self.running = False
                raise self.restore_failed(work)
        finally:
            loop.remove_reader(ask)
            os.close(ask)
            os.close(answer)
        return {}

    def restore_failed(self, work: Path) -> AgentError:
        status = self.restore.returncode if self.restore else None
        how = "did not get ready in time" if status is None else describe_status(status)
        return AgentError(f"criu restore {how}: {criu.last_error(work / 'restore.log')}")

    async def go(self, request: Message) -> Message:
        """The restored task may run."""
        if self.gate is None or self.gate.done():
            raise AgentError("no restore waits for a go")
        self.gate.set_result(True)
        return {}

    async def finish(self, request: Message) -> Message:
        """The migration is over: remove its files, unless {"keep": true}."""
        self.kept = bool(request.get("keep"))
        if self.directory and not self.kept:
            shutil.rmtree(self.directory, ignore_errors=True)
        return {}

    # ---- what goes on beside ----

    def images(self) -> Path:
        if self.directory is None:
            raise AgentError("prepare comes first")
        return self.directory / "images"

    def work(self) -> Path:
        return self.images().parent / "work"

    def spawn(self, coroutine: Any) -> None:
        task = asyncio.ensure_future(coroutine)
        self.background.add(task)
        task.add_done_callback(self.background.discard)

    async def forward_stats(self, fd: int) -> None:
        reader = await pipe_reader(fd)
        with contextlib.suppress(ChannelError):
            while line := await reader.readline():
                await self.channel.send({"event": "stats", "stats": json.loads(line)})

    async def watch_daemon(self) -> None:
        assert self.daemon is not None
        status = await self.daemon.wait()
        message = {"event": "daemon", "status": status}
        if status != 0:
            log = self.work() / "lazy-pages.log"
            message["error"] = f"lazy-pages {describe_status(status)}: {criu.last_error(log)}"
        if self.directory and self.directory.exists():
            (self.directory / "outcome.json").write_text(json.dumps(message) + "\n")
        with contextlib.suppress(ChannelError):
            await self.channel.send(message)

    async def undo(self) -> None:
        """Nothing was let run: kill what was made here, remove the files."""
        restoring = self.restore is not None
        for process in (self.restore, self.daemon):
            if process and process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        # These pids were free before the restore: whoever has them now was half restored.
        for pid in self.pids if restoring else []:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self.directory and not self.kept:
            shutil.rmtree(self.directory, ignore_errors=True)

    async def answer(self, request: Message, payload: bytes) -> None:
        operations = {
            "hello": self.hello, "prepare": self.prepare, "hook": self.hook, "daemon": self.start_daemon,
            "restore": self.start_restore, "go": self.go, "finish": self.finish,
        }  # fmt: skip
        reply: Message = {"id": request.get("id"), "ok": True}
        try:
            operation = request.get("op")
            if operation == "write":
                reply |= await self.write(request, payload)
            elif operation in operations:
                reply |= await operations[operation](request)
            else:
                raise AgentError(f"unknown operation {operation!r}: are both hosts' criu-lazy of the same version?")
        except (TimeoutError, CriuLazyError, OSError, KeyError, ValueError) as error:
            reply = {"id": request.get("id"), "ok": False, "error": describe_error(error)}
        with contextlib.suppress(ChannelError):
            await self.channel.send(reply)

    async def run(self) -> int:
        """Serve until the source closes the channel; then undo, or see the transfer through."""
        with contextlib.suppress(ChannelError):
            while True:
                request, payload = await self.channel.receive()
                if request.get("op") == "write":
                    await self.answer(request, payload)  # in order
                else:
                    self.spawn(self.answer(request, payload))
        if self.gate is not None and not self.gate.done():
            self.gate.cancel()
        if not self.running:
            await self.undo()
            return 1
        if self.daemon:
            await self.daemon.wait()
        await asyncio.gather(*self.background, return_exceptions=True)
        return 0


def describe_error(error: Exception) -> str:
    """One line for the other side."""
    return str(error) if isinstance(error, CriuLazyError | OSError) else f"{type(error).__name__}: {error}"


def describe_status(status: int) -> str:
    """An exit status as asyncio gives it, in words."""
    if status < 0:
        return f"was killed by {signal.Signals(-status).name}"
    return f"ended with status {status}"


async def run_hook(command: str, environment: dict[str, str], timeout: float) -> None:
    """Run a hook here. Raises AgentError with what it printed last."""
    process = await asyncio.create_subprocess_exec(
        "/bin/sh", "-c", command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT, env={**os.environ, **environment}, start_new_session=True,
    )  # fmt: skip
    try:
        output, _ = await asyncio.wait_for(process.communicate(), timeout)
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        raise AgentError(f"hook {command!r} took longer than {timeout:g} s") from None
    if process.returncode:
        lines = output.decode(errors="replace").strip().splitlines()
        raise AgentError(f"hook {command!r} {describe_status(process.returncode)}: {lines[-1] if lines else ''}")


async def pipe_reader(fd: int) -> asyncio.StreamReader:
    """A stream on a pipe's reading end, which it owns."""
    reader = asyncio.StreamReader(limit=1 << 20)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(fd, "rb", 0))
    return reader


async def read_all(fd: int) -> bytes:
    """All that comes from a pipe's reading end, which it owns, until its end."""
    return await (await pipe_reader(fd)).read()


async def _serve() -> int:
    loop = asyncio.get_running_loop()
    reader = await pipe_reader(os.dup(0))
    # Whatever else prints must not come between messages.
    out = os.fdopen(os.dup(1), "wb", 0)
    os.dup2(2, 1)
    transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, out)
    channel = Channel(reader, asyncio.StreamWriter(transport, protocol, None, loop))
    for number in (signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)  # a lost ssh is noticed by the end of input
    return await Agent(channel).run()


def main(argv: list[str]) -> int:
    """Run by `criu-lazy migrate`; takes no arguments."""
    if argv:
        raise AgentError("the agent takes no arguments; it is run by criu-lazy migrate")
    return asyncio.run(_serve())
