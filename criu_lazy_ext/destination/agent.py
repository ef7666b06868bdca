"""`criu-lazy agent`: the destination's half of a migration, run by `criu-lazy migrate` over ssh.

It speaks channel.py's messages on its standard input and output: requests {"id", "op", ...}, each answered by
{"id", "ok": true, ...} or {"id", "ok": false, "error": one line}; and events {"event": ...} at any time.

It keeps one promise: until the restored task has been let run (the source said "go"), the end of its input, or any
failure, leaves nothing behind: daemon, restore and half-restored tasks are killed, files removed. After that it stays,
connected or not, until the daemon has every page; it then leaves nothing but, if that failed, its files with the
outcome in outcome.json.

It is three processes: the one that was started, which does nothing, and may be killed by whoever started it; its child,
the keeper (keeper.py), which keeps the promise should the agent be killed; and the keeper's child, the agent.
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
import time
from asyncio.subprocess import Process
from collections.abc import Awaitable, Coroutine
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from criu_lazy_ext import __version__
from criu_lazy_ext.criu import program as criu
from criu_lazy_ext.criu.contrary import said_in_files
from criu_lazy_ext.destination.keeper import MOST_ENDED, Keeper, become_reaper
from criu_lazy_ext.destination.succession import Succession
from criu_lazy_ext.destination.undo import AgentError, Made, describe_status, run_hook
from criu_lazy_ext.errors import CriuLazyError
from criu_lazy_ext.migration import preflight
from criu_lazy_ext.remote.channel import Channel, ChannelError, Message, MessageTooLong
from criu_lazy_ext.system.processes import Process as Restored
from criu_lazy_ext.system.processes import below, is_alive, start_time

REACH_WITHIN_S = 5.0
KEY_FILE = "page-server.key"
CRIU_LAZY = (sys.executable, "-m", "criu_lazy_ext.cli")

STORED_WITHIN_S = 30.0
HELLO_WITHIN_S = 60.0
REAPED_WITHIN_S = 2.0
PAGE_WITHIN_S = 10.0  # before "go": a page that is asked for comes, or the path between the hosts is broken
DAEMON_LOST_TASKS = 4  # the daemon's exit status
MAX_TOLD_SUCCESSORS = 20
# Of the daemon's counters, what a report sums up.
COUNTED = ("received_bytes", "demand_faults", "merged_faults", "same_pages")

GATE_SCRIPT = """#!/bin/sh
# criu restore runs this when everything is restored and nothing runs yet; its failure kills what was restored.
[ "$CRTOOLS_SCRIPT_ACTION" = post-restore ] || exit 0
cd "$(dirname "$0")" &&
exec timeout {timeout} sh -c 'echo ask > gate.ask && read answer < gate.answer && [ "$answer" = go ]'
"""


@dataclass
class Daemon:
    """A process of lazy-pages, and our ends of its pipes."""

    process: Process
    ready: int
    stats: int
    options: list[str]  # which name its own ends


class Agent:
    """One migration's destination. `run` serves requests until the end; `keeper` is a pipe to the keeper,
    whose pid is `keeper_pid`."""

    def __init__(self, channel: Channel, keeper: int, keeper_pid: int) -> None:
        self.channel = channel
        self.keeper = keeper
        self.keeper_pid = keeper_pid
        self.made = Made()
        self.silence_s = HELLO_WITHIN_S  # for so long the source may say nothing
        self.standby: Daemon | None = None  # it waits for its command line
        self.daemon: Process | None = None
        self.stats: dict[str, Any] = {}  # the daemon's latest counters
        self.forwarding: asyncio.Task[None] | None = None  # of its counters
        self.outcome: Message | None = None  # the event of the daemon's end
        self.restore: Process | None = None
        self.page_store: Process | None = None
        self.connected = True
        self.reaped: dict[int, int] = {}  # by the keeper: exit statuses by pid
        self.reaped_more = asyncio.Event()
        self.restored: dict[int, int] = {}  # pids here of the tasks restored, by their pids in the images
        self.waiting: list[Restored] = []  # all of them, and the restore's own, at the gate
        self.background: set[asyncio.Task[None]] = set()
        self.gate: asyncio.Future[bool] | None = None
        self.starving = asyncio.get_running_loop().create_future()  # why no page comes
        self.received = (0, 0.0)  # bytes of pages, and when they were more for the last time

    def tell_keeper(self) -> None:
        """What there is to undo has changed."""
        with contextlib.suppress(OSError):
            os.write(self.keeper, json.dumps(asdict(self.made)).encode() + b"\n")

    def touch(self) -> None:
        """From now on there is something that the hooks of a roll back may have to undo."""
        if not self.made.touched:
            self.made.touched = True
            self.tell_keeper()

    # ---- requests ----

    async def hello(self, request: Message) -> Message:
        """Who is here: {"silence_s": the source pings more often than that}."""
        self.silence_s = self.channel.silence_s = float(request["silence_s"])
        version = await asyncio.to_thread(criu.version)
        peer = os.environ.get("SSH_CONNECTION", "127.0.0.1").split()[0]
        return {"version": __version__, "criu": list(version), "hostname": os.uname().nodename, "peer": peer}

    async def ping(self, request: Message) -> Message:
        """The source is there."""
        return {}

    async def prepare(self, request: Message) -> Message:
        """Check this host, make the migration's directory, and have a daemon load what it needs: {"directory", "needs",
        "keep", "undo_hooks", "store", "daemon": "criu-lazy"|"stock"}.

        `store`: the directory for the pages that come before the dump, or "".
        """
        checked = await asyncio.to_thread(lambda: criu.requirements(source=False, destination=True))
        problems = [f"{item.name}: {item.problem}" for item in checked if item.problem]
        problems += await asyncio.to_thread(preflight.lacking, request["needs"])
        directory = Path(request["directory"])
        store = str(request.get("store", ""))
        problems += [f"{path} exists already" for path in (directory, store) if path and Path(path).exists()]
        if problems:
            raise AgentError("; ".join(problems))
        keep, hooks, ids = bool(request["keep"]), request["undo_hooks"], str(request["needs"]["ids"])
        self.made = Made(str(directory), self.keeper_pid, ids, store, keep_files=keep, undo_hooks=hooks)
        self.tell_keeper()
        try:
            (directory / "images").mkdir(parents=True, mode=0o700)
            (directory / "work").mkdir(mode=0o700)
            if store:
                Path(store).mkdir(parents=True, mode=0o700)
        except OSError as error:
            raise AgentError(f"{error.filename}: {error.strerror}") from error
        if request["daemon"] == "criu-lazy":
            command = [*CRIU_LAZY, "standby", "lazy-pages"]
            self.standby = await self.start_lazy_pages(command, True, asyncio.subprocess.PIPE)
        return {"free_bytes": shutil.disk_usage(store or directory).free}

    async def reach(self, request: Message) -> Message:
        """Whether this host can connect to the source, and gets what it sends: {"address", "port", "bytes"}."""
        address, port, wanted = str(request["address"]), int(request["port"]), int(request.get("bytes", 0))
        try:
            reader, writer = await asyncio.wait_for(asyncio.open_connection(address, port), REACH_WITHIN_S)
        except (OSError, TimeoutError) as error:
            reason = getattr(error, "strerror", None) or f"no answer in {REACH_WITHIN_S:g} s"
            raise AgentError(
                f"can't connect to the source at {address} port {port}: {reason}; see source.address"
            ) from error
        received = 0
        try:
            while received < wanted:
                piece = await asyncio.wait_for(reader.read(1 << 16), REACH_WITHIN_S)
                if not piece:
                    raise AgentError(f"the source at {address} port {port} hung up after {received} of {wanted} bytes")
                received += len(piece)
        except TimeoutError:
            raise AgentError(
                f"the path from the source's {address} passes small packets, but not bulk data: {received} of {wanted} "
                "bytes came (an MTU that is too large for it? a firewall that drops by length?)"
            ) from None
        finally:
            writer.close()
        return {}

    async def write(self, request: Message, payload: bytes) -> Message:
        """Append the payload's parts to image files: {"parts": [[name, bytes, whether they are its first], ...]}."""
        self.touch()
        at = 0
        for name, size, first in request["parts"]:
            if "/" in name or name in ("", ".", ".."):
                raise AgentError(f"not the name of an image: {name!r}")
            path = self.images() / name
            try:
                with path.open("wb" if first else "ab") as file:
                    file.write(payload[at : at + size])
            except OSError as error:
                raise AgentError(f"{path}: {error.strerror}") from error
            at += size
        return {}

    async def hook(self, request: Message) -> Message:
        """Run a command: {"run", "env", "timeout"}."""
        self.touch()
        await run_hook(request["run"], request["env"], float(request["timeout"]))
        return {}

    async def start_page_store(self, request: Message) -> Message:
        """Start page-store, to keep pages that come before the dump: {"address", "port", "key"}.

        Answered when the page server has agreed.
        """
        work = self.work()
        ready_read, ready_write = os.pipe()
        command = [*CRIU_LAZY, "page-store", "--directory", self.made.store]
        command += ["--address", str(request["address"]), "--port", str(request["port"])]
        command += ["--status-fd", str(ready_write), "-o", str(work / "page-store.log"), "-v"]
        if request["key"]:
            command += ["--tls-psk", str(key_file(work, str(request["key"])))]
        try:
            with (work / "page-store.out").open("wb") as output:
                self.page_store = await asyncio.create_subprocess_exec(
                    *command, stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output,
                    pass_fds=(ready_write,), start_new_session=True,
                )  # fmt: skip
        finally:
            os.close(ready_write)
        self.made.page_store = self.page_store.pid
        self.tell_keeper()
        ready = await asyncio.wait_for(read_all(ready_read), 30)
        if ready != b"\0":
            raise self.page_store_failed(await self.page_store.wait())
        return {}

    async def page_stored(self, request: Message) -> Message:
        """Wait until page-store is done, and has everything."""
        if self.page_store is None:
            raise AgentError("no page-store was started")
        status = await asyncio.wait_for(self.page_store.wait(), STORED_WITHIN_S)
        self.made.page_store = 0
        self.tell_keeper()
        if status:
            raise self.page_store_failed(status)
        return {}

    async def drop_page_store(self, request: Message) -> Message:
        """Give up what page-store has; tells why it had ended by itself, if it had: {"why"}."""
        why = ""
        if self.page_store is not None:
            with contextlib.suppress(TimeoutError):
                why = str(self.page_store_failed(await asyncio.wait_for(self.page_store.wait(), 1)))
            if self.page_store.returncode is None:
                await asyncio.to_thread(self.made.kill_group, self.page_store.pid)
        if self.made.store:
            shutil.rmtree(self.made.store, ignore_errors=True)
        self.made.page_store, self.made.store = 0, ""
        self.tell_keeper()
        return {"why": why}

    def page_store_failed(self, status: int) -> AgentError:
        try:
            said = (self.work() / "page-store.out").read_text(errors="replace").strip().splitlines()
        except OSError:
            said = []
        last = said[-1].removeprefix("criu-lazy page-store: error: ") if said else ""
        return AgentError(f"page-store {describe_status(status)}{f': {last}' if last else ''}")

    async def start_daemon(self, request: Message) -> Message:
        """Start lazy-pages: {"daemon": "criu-lazy"|"stock", "options", "address", "port", "key",
        "precopied"}.

        `key`: hexadecimal, for TLS with the page server, or "". `precopied`: it has what page-store kept. Answered
        when it is ready.
        """
        images, work = self.images(), self.work()
        stock = request["daemon"] == "stock"
        command = ["criu"] if stock else list(CRIU_LAZY)
        command += ["lazy-pages", "-D", str(images), "-W", str(work), "-o", "lazy-pages.log", "-v3", "--page-server"]
        command += ["--address", str(request["address"]), "--port", str(request["port"]), *request["options"]]
        if request["key"]:
            command += ["--tls-psk", str(key_file(work, str(request["key"])))]
        self.made.successor = None if stock else [*command, "--resume"]
        store = ["--precopied", self.made.store] if request.get("precopied") else []
        daemon, ready = await self.launch_daemon([*command, *store], stats=not stock)
        self.spawn(self.watch_daemon(daemon))
        if not await ready:
            raise AgentError(f"lazy-pages did not start: {criu.last_error(work / 'lazy-pages.log')}")
        return {"pid": daemon.pid}

    async def start_lazy_pages(self, command: list[str], stats: bool, stdin: int) -> Daemon:
        """Start `command` with its pipes; `stats`: it is ours, and tells its counters."""
        ready_read, ready_write = os.pipe()
        stats_read, stats_write = os.pipe()
        options = ["--status-fd", str(ready_write), *(("--stats-fd", str(stats_write)) if stats else ())]
        if stdin == asyncio.subprocess.DEVNULL:  # else it is told later
            command = [*command, *options]
        try:
            process = await asyncio.create_subprocess_exec(
                *command, stdin=stdin, stdout=2, pass_fds=(ready_write, stats_write), start_new_session=True
            )
        finally:
            os.close(ready_write)
            os.close(stats_write)
        self.made.daemon = process.pid
        self.tell_keeper()
        return Daemon(process, ready_read, stats_read, options)

    async def launch_daemon(self, command: list[str], stats: bool) -> tuple[Process, Awaitable[bool]]:
        """Run lazy-pages, in the process that waits for that if there is one. Its process; whether it gets ready."""
        daemon, self.standby = self.standby, None
        if daemon is not None and daemon.process.returncode is None and daemon.process.stdin is not None:
            words = command[command.index("lazy-pages") + 1 :]
            daemon.process.stdin.write(json.dumps([*words, *daemon.options]).encode() + b"\n")
            daemon.process.stdin.close()
        else:
            daemon = await self.start_lazy_pages(command, stats, asyncio.subprocess.DEVNULL)
        self.daemon = daemon.process
        self.forwarding = self.spawn(self.forward_stats(daemon.stats))

        async def is_ready() -> bool:
            return await asyncio.wait_for(read_all(daemon.ready), 30) == b"\0"

        return self.daemon, is_ready()

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
        self.made.restore_began = int(time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK"))
        command = ["criu", "restore", "-d", "--lazy-pages", "-D", str(images), "-W", str(work), "-o", "restore.log"]
        command += ["-v2", "--pidfile", "restored.pid", "--action-script", str(script), *request["options"]]
        try:
            self.restore = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.DEVNULL, stdout=2, start_new_session=True
            )
            self.made.restore = self.restore.pid
            self.tell_keeper()
            ended = asyncio.ensure_future(self.restore.wait())
            waiting = asyncio.ensure_future(asked.wait())
            either: set[asyncio.Future[Any]] = {ended, waiting, self.starving}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED, timeout=request["timeout"])
            waiting.cancel()
            if not asked.is_set():
                raise await self.restore_failed(work)
            loop.remove_reader(ask)
            await self.pass_gate(answer, ended, work)
        finally:
            loop.remove_reader(ask)
            os.close(ask)
            os.close(answer)
        return {}

    async def pass_gate(self, answer: int, ended: asyncio.Future[int], work: Path) -> None:
        """Everything is restored, nothing runs: ask, wait for "go", pass it on, and wait for the end of the restore."""
        assert self.restore is not None and self.gate is not None
        self.waiting = below(self.restore.pid)
        self.restored = {process.inner_pid: process.pid for process in self.waiting}
        await self.channel.send({"event": "ask"})
        either: set[asyncio.Future[Any]] = {ended, self.gate}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not self.gate.done():
            raise await self.restore_failed(work)
        self.made.running = True
        self.tell_keeper()
        os.write(answer, b"go\n")
        if self.daemon is not None:
            protect(self.daemon.pid)
        status = await ended
        if status < 0:
            # The restored tasks are its ptracees by now: its death lets them go.
            raise AgentError(f"criu restore {describe_status(status)} while it let the restored task run")
        if status > 0:
            raise await self.restore_failed(work)

    async def restore_failed(self, work: Path) -> AgentError:
        """Nothing of it is left when the source hears of it: the source task may run on."""
        status = self.restore.returncode if self.restore else None
        daemon = self.why_daemon_failed(work)  # later it fails as the restore has
        await asyncio.to_thread(self.made.kill_restored)
        self.made.running = False
        self.tell_keeper()
        if status is None and self.starving.done():
            return AgentError(str(self.starving.result()))
        how = "did not get ready in time" if status is None else describe_status(status)
        return AgentError(f"criu restore {how}: {criu.last_error(work / 'restore.log')}{daemon}{said_in_files()}")

    def why_daemon_failed(self, work: Path) -> str:
        """What a daemon that has failed already said last, as the end of a sentence; "" if none has."""
        status = self.daemon.returncode if self.daemon is not None else None
        if not status:
            return ""
        return f"; lazy-pages {describe_status(status)}: {criu.last_error(work / 'lazy-pages.log')}"

    async def go(self, request: Message) -> Message:
        """The restored task may run."""
        if self.gate is None or self.gate.done():
            raise AgentError("no restore waits for a go")
        if missing := self.who_is_missing():
            raise AgentError(f"{missing} has ended; nothing was let run")
        self.gate.set_result(True)
        return {}

    def who_is_missing(self) -> str:
        """Of those without whom the restored task would be none; "" if all are there."""
        if self.daemon is None or self.daemon.returncode is not None or not is_alive(self.daemon.pid):
            return "lazy-pages"
        tasks = self.made.restored_ids()
        for process in self.waiting:
            if process.inner_pid in tasks and start_time(process.pid) != process.began:
                return f"the waiting process {process.inner_pid}"
        return ""

    async def finish(self, request: Message) -> Message:
        """The migration is over: remove its files, unless they are to be kept."""
        self.made.remove_files()
        return {}

    # ---- what goes on beside ----

    def images(self) -> Path:
        if not self.made.directory:
            raise AgentError("prepare comes first")
        return Path(self.made.directory) / "images"

    def work(self) -> Path:
        return self.images().parent / "work"

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(coroutine)
        self.background.add(task)
        task.add_done_callback(self.background.discard)
        return task

    async def forward_stats(self, fd: int) -> None:
        reader, before = await pipe_reader(fd), self.stats
        while line := await reader.readline():
            if not line.endswith(b"\n"):
                return  # it was killed
            self.stats = add_stats(before, json.loads(line))
            self.look_for_pages()
            if self.connected:
                with contextlib.suppress(ChannelError, MessageTooLong):
                    await self.channel.send({"event": "stats", "stats": self.stats})

    def look_for_pages(self) -> None:
        """While it is restored: whether what is asked for comes."""
        now, received = time.monotonic(), int(self.stats["received_bytes"])
        faults = int(self.stats.get("waiting_faults", 0))
        if received != self.received[0] or not faults or not self.made.restore:
            self.received = (received, now)
        elif now - self.received[1] > PAGE_WITHIN_S and not self.starving.done():
            self.starving.set_result(
                f"{faults} page faults wait, and no page came from the page server in {PAGE_WITHIN_S:g} s ({received} "
                "bytes before): does the path between the hosts pass bulk data?"
            )

    async def watch_daemon(self, daemon: Process) -> None:
        """Tell of its end. One that is killed while the restored task runs is succeeded by another."""
        succession, why = Succession(), ""
        told = 0
        while True:
            status = await daemon.wait()
            delay = succession.delay(status, self.work()) if self.made.running and self.made.successor else None
            if delay is None:
                break
            why = f"lazy-pages {describe_status(status)}"
            if (told := told + 1) <= MAX_TOLD_SUCCESSORS:
                with contextlib.suppress(ChannelError):
                    await self.channel.send({"event": "daemon-succeeded", "why": why})
            await asyncio.sleep(delay)
            try:
                daemon, ready = await self.launch_daemon(self.made.successor or [], stats=True)
            except OSError as error:
                why += f" (no other could be started: {error.strerror})"
                break
            protect(daemon.pid)
            with contextlib.suppress(TimeoutError):
                await ready
        self.outcome = await self.daemon_outcome(status, why)
        self.made.daemon = 0
        self.tell_keeper()
        if self.outcome["status"] != 0 or self.outcome.get("by_itself"):
            self.made.write_outcome(self.outcome)
        with contextlib.suppress(ChannelError):
            await self.channel.send(self.outcome)

    async def daemon_outcome(self, status: int, why: str) -> Message:
        """The event of its end. `why`: what became of the one before it."""
        message: Message = {"event": "daemon", "status": status}
        if status == 0 and self.made.running and self.made.successor is None and (killed := await self.killed_unseen()):
            which = " and ".join(f"the restored task {task['pid']} was {task['how']}" for task in killed[:3])
            error = f"{which} while criu's own lazy-pages served it, which can't tell what was missing"
            facts = {"ended": killed, "lost_pages": None, "error": f"{error}; the source still has it"}
            return message | {"status": DAEMON_LOST_TASKS} | facts
        if status == DAEMON_LOST_TASKS and self.forwarding is not None:
            await asyncio.wait({self.forwarding}, timeout=REAPED_WITHIN_S)  # its last words
        ended = self.stats.get("ended") or []
        if ended:
            message |= {"ended": await self.refine(ended), "lost_pages": self.stats.get("lost_pages", 0)}
        if status == DAEMON_LOST_TASKS and ended:
            lost = [task for task in message["ended"] if not task["how"].startswith("exit ") and task["missing_pages"]]
            if not lost:
                return message | {"status": 0, "by_itself": True}
            return message | {"error": " and ".join(map(describe_loss, lost[:3])) + "; the source still has them"}
        if status != 0:
            how = f"lazy-pages {describe_status(status)}"
            if why:
                how = f"{why}, and its successor {describe_status(status)}"
            message["error"] = f"{how}: {criu.last_error(self.work() / 'lazy-pages.log')}"
        return message

    async def killed_unseen(self) -> list[dict[str, Any]]:
        """The restored tasks that a signal has killed, as the keeper knows: to criu's own daemon, who is gone misses
        nothing."""
        tasks = self.made.restored_ids()
        gone = [p for p in self.waiting if p.inner_pid in tasks and start_time(p.pid) != p.began]
        if gone:
            await self.status_of_restored(gone[0].inner_pid)
        return [
            {"pid": process.inner_pid, "how": describe_status(status)[len("was ") :], "missing_pages": None}
            for process in gone
            if (status := self.reaped.get(process.pid, 0)) < 0
        ]

    async def refine(self, ended: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """What the daemon says of tasks that ended, and how they did where the keeper has reaped them and it hasn't."""
        refined = []
        for task in ended:
            if task["how"] == "unknown":
                status = await self.status_of_restored(int(task["pid"]))
                if status is not None:
                    task = task | {"how": f"exit {status}" if status >= 0 else describe_status(status)[len("was ") :]}
            refined.append(task)
        return refined

    async def status_of_restored(self, image_pid: int) -> int | None:
        """The exit status of a restored task that has ended, if it was the keeper's to reap."""
        pid = self.restored.get(image_pid, image_pid)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REAPED_WITHIN_S):
                while pid not in self.reaped:
                    self.reaped_more.clear()
                    await self.reaped_more.wait()
        return self.reaped.get(pid)

    async def hear_keeper(self, reports: int) -> None:
        """What it reaps. Should it be killed, the restored tasks are to stay below this process."""
        reader = await pipe_reader(reports)
        while (line := await reader.readline()).endswith(b"\n"):
            report = json.loads(line)
            self.reaped[report["pid"]] = report["status"]
            if len(self.reaped) > MOST_ENDED:
                del self.reaped[next(iter(self.reaped))]
            self.reaped_more.set()
        become_reaper()

    async def answer(self, request: Message, payload: bytes) -> None:
        operations = {
            "hello": self.hello, "ping": self.ping, "reach": self.reach, "prepare": self.prepare, "hook": self.hook,
            "page-store": self.start_page_store, "page-stored": self.page_stored,
            "drop-page-store": self.drop_page_store, "daemon": self.start_daemon, "restore": self.start_restore,
            "go": self.go, "finish": self.finish,
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
        except (Exception, SystemExit) as error:  # whatever it is, the source must not wait for an answer
            may_run = request.get("op") in ("restore", "go") and self.made.running
            reply = {"id": request.get("id"), "ok": False, "error": describe_error(error), "may_run": may_run}
        with contextlib.suppress(ChannelError):
            await self.channel.send(reply)

    async def run(self) -> int:
        """Serve until the source closes the channel or falls silent; then undo, or see the transfer through."""
        with contextlib.suppress(ChannelError, TimeoutError):
            while True:
                request, payload = await self.channel.receive(self.silence_s)
                if request.get("op") == "write":
                    await self.answer(request, payload)  # in order
                else:
                    self.spawn(self.answer(request, payload))
        self.connected = False
        self.channel.abort()
        if self.made.running:
            await asyncio.gather(*self.background, return_exceptions=True)
        if self.made.running:
            if self.daemon is not None and self.daemon.returncode == 0:
                self.made.remove_files()
            return 0
        for task in self.background:
            task.cancel()
        await asyncio.gather(*self.background, return_exceptions=True)
        await asyncio.to_thread(self.made.undo)
        self.made = Made()
        self.tell_keeper()
        return 1


def add_stats(before: dict[str, Any], stats: dict[str, Any]) -> dict[str, Any]:
    """A daemon's counters, with those of the killed ones `before` it."""
    if not before:
        return stats
    waits = zip(before["fault_wait_us"], stats["fault_wait_us"], strict=True)
    longest = max(before["fault_wait_max_us"], stats["fault_wait_max_us"])
    counted = {name: before[name] + stats[name] for name in COUNTED}
    if "lost_pages" in stats:
        counted["lost_pages"] = before.get("lost_pages", 0) + stats["lost_pages"]
        counted["ended"] = [*before.get("ended", []), *stats.get("ended", [])]
    return stats | counted | {"fault_wait_us": [sum(pair) for pair in waits], "fault_wait_max_us": longest}


def key_file(directory: Path, key: str) -> Path:
    """The file in `directory` with the migration's key, made when it is needed first. Raises OSError."""
    path = directory / KEY_FILE
    return path if path.exists() else write_key(directory, key)


def write_key(directory: Path, key: str) -> Path:
    """A file in `directory` with a secret that only its owner reads. Raises OSError."""
    path = directory / KEY_FILE
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as file:
        file.write(key + "\n")
    return path


def describe_error(error: BaseException) -> str:
    """One line for the other side."""
    text = str(error) if isinstance(error, CriuLazyError | OSError) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())


def describe_loss(task: dict[str, Any]) -> str:
    """A restored task that ended too early, as the daemon's counters have it."""
    how = "ended, nobody knows how," if task["how"] == "unknown" else f"was {task['how']}"
    return f"the restored task {task['pid']} {how} with {task['missing_pages']} pages missing"


def protect(pid: int) -> None:
    """Ask the OOM killer to spare a process that is the only copy's way here; that may not be allowed."""
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/oom_score_adj").write_text("-1000")


async def pipe_reader(fd: int) -> asyncio.StreamReader:
    """A stream on a pipe's reading end, which it owns."""
    reader = asyncio.StreamReader(limit=1 << 20)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(fd, "rb", 0))
    return reader


async def read_all(fd: int) -> bytes:
    """All that comes from a pipe's reading end, which it owns, until its end."""
    return await (await pipe_reader(fd)).read()


async def _serve(keeper: int, keeper_pid: int, reports: int) -> int:
    loop = asyncio.get_running_loop()
    reader = await pipe_reader(os.dup(0))
    # Whatever else prints must not come between messages.
    out = os.fdopen(os.dup(1), "wb", 0)
    os.dup2(2, 1)
    transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, out)
    channel = Channel(reader, asyncio.StreamWriter(transport, protocol, None, loop))
    agent = Agent(channel, keeper, keeper_pid)
    hearing = asyncio.ensure_future(agent.hear_keeper(reports))
    try:
        return await agent.run()
    finally:
        hearing.cancel()


def _close_terminal() -> None:
    """The source is to see the agent's end: nobody else has its input and output open."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1):
        os.dup2(nothing, fd)
    os.close(nothing)


def _keep(agent_ended: int) -> int:
    """The keeper, and the agent below it."""
    become_reaper()
    keeper = os.getpid()
    facts_read, facts_write = os.pipe()
    reports_read, reports_write = os.pipe()
    agent = os.fork()
    if agent == 0:
        for fd in (facts_read, reports_write, agent_ended):
            os.close(fd)
        return asyncio.run(_serve(facts_write, keeper, reports_read))
    os.close(facts_write)
    os.close(reports_read)
    _close_terminal()
    Keeper(agent, facts_read, reports_write).run(agent_ended)
    return 0


def main(argv: list[str]) -> int:
    """Run by `criu-lazy migrate`; takes no arguments."""
    if argv:
        raise AgentError("the agent takes no arguments; it is run by criu-lazy migrate")
    for number in (signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)  # a lost ssh is noticed by the end of input
    status_read, status_write = os.pipe()
    if os.fork() == 0:
        os.close(status_read)
        return _keep(status_write)
    os.close(status_write)
    _close_terminal()
    status = os.read(status_read, 1)
    return status[0] if status else 128 + signal.SIGKILL  # the keeper was killed
