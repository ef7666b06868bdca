"""One ssh connection for all that runs ssh to the destination while the task is frozen: to open one takes 0.1 s or
more, which would be downtime."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
from pathlib import Path

from criu_lazy_ext.profile import Destination
from criu_lazy_ext.remote.hosts import ssh_command

KEPT_S = 30  # without anybody who uses it; should this process be killed, it goes then
SOCKETS = Path("/run/criu-lazy/ssh")  # short, as the names of sockets have to be


class SharedSsh:
    """By ssh's own multiplexing. The agent has another: what goes here may be much, and its words must not wait."""

    def __init__(self, destination: Destination, silence_s: float, migration: str) -> None:
        """`migration`: its id."""
        assert destination.ssh is not None
        self.host = destination.ssh
        self._migration = migration
        # %C: who names another host, port or user gets no connection to this one.
        self._path = ("-o", f"ControlPath={SOCKETS / migration}-%C")
        keeps = ("-o", "ControlMaster=auto", "-o", f"ControlPersist={KEPT_S}")
        self.command = [*ssh_command(destination, silence_s), *keeps, *self._path]

    @property
    def for_rsync(self) -> dict[str, str]:
        """The environment of an rsync that may go anywhere, by an own connection if not there."""
        return {"RSYNC_RSH": shlex.join(["ssh", "-o", "ControlMaster=no", *self._path])}

    def prepare(self) -> None:
        """For `command` to be run. Raises OSError."""
        SOCKETS.mkdir(mode=0o700, parents=True, exist_ok=True)

    async def open(self) -> None:
        """Have the connection; without it everybody opens an own one."""
        with contextlib.suppress(OSError):
            self.prepare()
            await self._run("-T", self.host, "true")

    async def close(self) -> None:
        """Let go of it."""
        if any(SOCKETS.glob(f"{self._migration}-*")):
            await self._run("-O", "exit", self.host)

    async def _run(self, *words: str) -> None:
        nothing = asyncio.subprocess.DEVNULL
        process = await asyncio.create_subprocess_exec(
            *self.command, *words, stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True
        )
        try:
            await process.wait()
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
