"""The restored tasks, as the agent knows them: which processes they are, and how those end."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

from criu_lazy_ext.destination.keeper import MOST_ENDED, become_reaper
from criu_lazy_ext.destination.workplace import Workplace
from criu_lazy_ext.system.awaited import pipe_reader
from criu_lazy_ext.system.processes import Process, below, describe_status, start_time

REAPED_WITHIN_S = 2.0


class RestoredTasks:
    """Known from when they wait at the gate."""

    def __init__(self, place: Workplace) -> None:
        self.place = place
        self.here: dict[int, int] = {}  # pids here, by their pids in the images
        self.waiting: list[Process] = []  # all of them, and the restore's own, at the gate
        self.reaped: dict[int, int] = {}  # by the keeper: exit statuses by pid
        self.reaped_more = asyncio.Event()

    def look(self, restore: int) -> None:
        """They are all below `restore`, and wait."""
        self.waiting = below(restore)
        self.here = {process.inner_pid: process.pid for process in self.waiting}

    def look_in_namespaces(self) -> None:
        """They are those of the migration that are in a pid namespace of their own, or, without one, have the dumped
        pids. What a pod has besides is older."""
        made = self.place.made
        since = [process for process in made.ours() if process.began >= made.restore_began]
        self.waiting = [process for process in since if process.inner_pid != process.pid]
        if not self.waiting:
            ids = made.restored_ids()
            self.waiting = [process for process in since if process.pid in ids]
        self.here = {process.inner_pid: process.pid for process in self.waiting}

    def missing(self) -> int:
        """The pid in the images of one that has ended while it waited; 0 if all are there."""
        return next((process.inner_pid for process in self._gone()), 0)

    def _gone(self) -> list[Process]:
        tasks = self.place.made.restored_ids()
        return [p for p in self.waiting if p.inner_pid in tasks and start_time(p.pid) != p.began]

    async def killed_unseen(self) -> list[dict[str, Any]]:
        """The restored tasks that a signal has killed, as the keeper knows: to criu's own daemon, who is gone misses
        nothing."""
        gone = self._gone()
        if gone:
            await self.status_of(gone[0].inner_pid)
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
                status = await self.status_of(int(task["pid"]))
                if status is not None:
                    task = task | {"how": f"exit {status}" if status >= 0 else describe_status(status)[len("was ") :]}
            refined.append(task)
        return refined

    async def status_of(self, image_pid: int) -> int | None:
        """The exit status of a restored task that has ended, if it was the keeper's to reap."""
        pid = self.here.get(image_pid, image_pid)
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
