"""The lazy-pages daemon, as the agent runs it: from standby to its last word, and its successors."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from asyncio.subprocess import Process
from collections.abc import Awaitable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from criu_lazy_ext.criu.explain import cause_in_log
from criu_lazy_ext.destination.restored import REAPED_WITHIN_S, RestoredTasks
from criu_lazy_ext.destination.succession import EXIT_LOST, Succession
from criu_lazy_ext.destination.undo import AgentError
from criu_lazy_ext.destination.workplace import Workplace
from criu_lazy_ext.remote.channel import ChannelError, Message, MessageTooLong
from criu_lazy_ext.system.awaited import pipe_reader, read_all
from criu_lazy_ext.system.processes import CRIU_LAZY, describe_status, is_alive, protect_from_oom

PAGE_WITHIN_S = 10.0  # before "go": a page that is asked for comes, or the path between the hosts is broken
MAX_TOLD_SUCCESSORS = 20
# Of the daemon's counters, what a report sums up.
COUNTED = ("received_bytes", "demand_faults", "merged_faults", "same_pages")


@dataclass
class Started:
    """A process of lazy-pages, and our ends of its pipes."""

    process: Process
    ready: int
    stats: int
    options: list[str]  # which name its own ends


class Daemon:
    """Ours or criu's own. `start` is an operation of the agent."""

    def __init__(self, place: Workplace, tasks: RestoredTasks) -> None:
        self.place = place
        self.tasks = tasks
        self.standby: Started | None = None  # it waits for its command line
        self.process: Process | None = None
        self.stats: dict[str, Any] = {}  # its latest counters
        self.forwarding: asyncio.Task[None] | None = None  # of its counters
        self.outcome: Message | None = None  # the event of its end
        self.starving = asyncio.get_running_loop().create_future()  # why no page comes
        self.received = (0, 0.0)  # bytes of pages, and when they were more for the last time

    async def stand_by(self) -> None:
        """Have one of ours load what it needs, before its command line is known."""
        command = [*CRIU_LAZY, "standby", "lazy-pages"]
        self.standby = await self.start_lazy_pages(command, True, asyncio.subprocess.PIPE)

    @property
    def lives(self) -> bool:
        return self.process is not None and self.process.returncode is None and is_alive(self.process.pid)

    def protect(self) -> None:
        """From the OOM killer, once the restored task runs."""
        if self.process is not None:
            protect_from_oom(self.process.pid)

    async def start(self, request: Message) -> Message:
        """Start lazy-pages: {"daemon": "criu-lazy"|"stock", "options", "address", "port", "key",
        "precopied"}.

        `key`: hexadecimal, for TLS with the page server, or "". `precopied`: it has what page-store kept. Answered
        when it is ready.
        """
        images, work = self.place.images(), self.place.work()
        stock = request["daemon"] == "stock"
        command = ["criu"] if stock else list(CRIU_LAZY)
        command += ["lazy-pages", "-D", str(images), "-W", str(work), "-o", "lazy-pages.log", "-v3", "--page-server"]
        command += ["--address", str(request["address"]), "--port", str(request["port"]), *request["options"]]
        if request["key"]:
            command += ["--tls-psk", str(self.place.key_file(str(request["key"])))]
        self.place.made.successor = None if stock else [*command, "--resume"]
        store = ["--precopied", self.place.made.store] if request.get("precopied") else []
        daemon, ready = await self.launch([*command, *store], stats=not stock)
        self.place.spawn(self.watch(daemon))
        if not await ready:
            raise AgentError(f"lazy-pages did not start: {cause_in_log(work / 'lazy-pages.log')}")
        return {"pid": daemon.pid}

    async def start_lazy_pages(self, command: list[str], stats: bool, stdin: int) -> Started:
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
        self.place.made.daemon = process.pid
        self.place.tell_keeper()
        return Started(process, ready_read, stats_read, options)

    async def launch(self, command: list[str], stats: bool) -> tuple[Process, Awaitable[bool]]:
        """Run lazy-pages, in the process that waits for that if there is one. Its process; whether it gets ready."""
        daemon, self.standby = self.standby, None
        if daemon is not None and daemon.process.returncode is None and daemon.process.stdin is not None:
            words = command[command.index("lazy-pages") + 1 :]
            daemon.process.stdin.write(json.dumps([*words, *daemon.options]).encode() + b"\n")
            daemon.process.stdin.close()
        else:
            daemon = await self.start_lazy_pages(command, stats, asyncio.subprocess.DEVNULL)
        self.process = daemon.process
        self.forwarding = self.place.spawn(self.forward_stats(daemon.stats))

        async def is_ready() -> bool:
            return await asyncio.wait_for(read_all(daemon.ready), 30) == b"\0"

        return self.process, is_ready()

    def why_failed(self, work: Path) -> str:
        """What a daemon that has failed already said last, as the end of a sentence; "" if none has."""
        status = self.process.returncode if self.process is not None else None
        if not status:
            return ""
        return f"; lazy-pages {describe_status(status)}: {cause_in_log(work / 'lazy-pages.log')}"

    async def forward_stats(self, fd: int) -> None:
        reader, before = await pipe_reader(fd), self.stats
        while line := await reader.readline():
            if not line.endswith(b"\n"):
                return  # it was killed
            self.stats = add_stats(before, json.loads(line))
            self.look_for_pages()
            if self.place.live is not None:
                self.place.live.note_stats(self.stats)
            if self.place.connected:
                with contextlib.suppress(ChannelError, MessageTooLong):
                    await self.place.channel.send({"event": "stats", "stats": self.stats})

    def look_for_pages(self) -> None:
        """While it is restored: whether what is asked for comes."""
        now, received = time.monotonic(), int(self.stats["received_bytes"])
        faults = int(self.stats.get("waiting_faults", 0))
        if received != self.received[0] or not faults or not self.place.made.restore:
            self.received = (received, now)
        elif now - self.received[1] > PAGE_WITHIN_S and not self.starving.done():
            self.starving.set_result(
                f"{faults} page faults wait, and no page came from the page server in {PAGE_WITHIN_S:g} s ({received} "
                "bytes before): does the path between the hosts pass bulk data?"
            )

    async def watch(self, daemon: Process) -> None:
        """Tell of its end. One that is killed while the restored task runs is succeeded by another."""
        succession, why = Succession(), ""
        told = 0
        while True:
            status = await daemon.wait()
            succeeded = self.place.made.running and self.place.made.successor
            delay = succession.delay(status, self.place.work()) if succeeded else None
            if delay is None:
                break
            why = f"lazy-pages {describe_status(status)}"
            if (told := told + 1) <= MAX_TOLD_SUCCESSORS:
                self.place.events.tell(f"{why}; another goes on where it was", "warning")
                with contextlib.suppress(ChannelError):
                    await self.place.channel.send({"event": "daemon-succeeded", "why": why})
            await asyncio.sleep(delay)
            try:
                daemon, ready = await self.launch(self.place.made.successor or [], stats=True)
            except OSError as error:
                why += f" (no other could be started: {error.strerror})"
                break
            protect_from_oom(daemon.pid)
            with contextlib.suppress(TimeoutError):
                await ready
        self.outcome = await self.outcome_of(status, why)
        if self.outcome["status"] != 0 and self.place.made.running:
            self.place.made.leave_network()
        self.place.made.daemon = 0
        self.place.tell_keeper()
        problem = self.outcome.get("error")
        self.place.events.tell(problem or "lazy-pages has ended: every page arrived", "error" if problem else "info")
        if self.outcome["status"] != 0 or self.outcome.get("by_itself"):
            self.place.made.write_outcome(self.outcome)
        with contextlib.suppress(ChannelError):
            await self.place.channel.send(self.outcome)

    async def outcome_of(self, status: int, why: str) -> Message:
        """The event of its end. `why`: what became of the one before it."""
        message: Message = {"event": "daemon", "status": status}
        is_stock = self.place.made.successor is None
        if status == 0 and self.place.made.running and is_stock and (killed := await self.tasks.killed_unseen()):
            which = " and ".join(f"the restored task {task['pid']} was {task['how']}" for task in killed[:3])
            error = f"{which} while criu's own lazy-pages served it, which can't tell what was missing"
            facts = {"ended": killed, "lost_pages": None, "error": f"{error}; the source still has it"}
            return message | {"status": EXIT_LOST} | facts
        if status == EXIT_LOST and self.forwarding is not None:
            await asyncio.wait({self.forwarding}, timeout=REAPED_WITHIN_S)  # its last words
        ended = self.stats.get("ended") or []
        if ended:
            message |= {"ended": await self.tasks.refine(ended), "lost_pages": self.stats.get("lost_pages", 0)}
        if status == EXIT_LOST and ended:
            lost = [task for task in message["ended"] if not task["how"].startswith("exit ") and task["missing_pages"]]
            if not lost:
                return message | {"status": 0, "by_itself": True}
            return message | {"error": " and ".join(map(describe_loss, lost[:3])) + "; the source still has them"}
        if status != 0:
            how = f"lazy-pages {describe_status(status)}"
            if why:
                how = f"{why}, and its successor {describe_status(status)}"
            message["error"] = f"{how}: {cause_in_log(self.place.work() / 'lazy-pages.log')}"
        return message


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


def describe_loss(task: dict[str, Any]) -> str:
    """A restored task that ended too early, as the daemon's counters have it."""
    how = "ended, nobody knows how," if task["how"] == "unknown" else f"was {task['how']}"
    return f"the restored task {task['pid']} {how} with {task['missing_pages']} pages missing"
