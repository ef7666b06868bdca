"""The other host: the agent run there, over ssh or as a local child, and requests to it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from criu_lazy_ext.channel import MAX_PAYLOAD_BYTES, Channel, ChannelError, Message
from criu_lazy_ext.errors import CriuLazyError
from criu_lazy_ext.profile import Destination

# A dead network is noticed in seconds, not when TCP gives up.
SSH_OPTIONS = ["-o", "BatchMode=yes", "-o", "ServerAliveInterval=3", "-o", "ServerAliveCountMax=3"]


class HostError(CriuLazyError):
    """The other host refused a request, failed at it, or is lost."""


class HostLost(HostError):
    """The connection to the other host's agent is gone: what it did last is not known."""


def agent_command(destination: Destination) -> list[str]:
    """The command that runs the agent there."""
    if destination.local:
        return [*destination.prefix, destination.criu_lazy, "agent"]
    assert destination.ssh is not None
    remote = f"exec {destination.criu_lazy} agent"
    return ["ssh", *SSH_OPTIONS, *destination.ssh_options, "-T", destination.ssh, remote]


class RemoteHost:
    """An agent, running. Events go to `on_event`, in the event loop."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, on_event: Callable[[Message], None]) -> None:
        assert process.stdout is not None and process.stdin is not None
        self.name = name
        self.process = process
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._channel = Channel(process.stdout, process.stdin)
        self._on_event = on_event
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Message]] = {}
        self._receiver = asyncio.ensure_future(self._receive())

    @classmethod
    async def connect(cls, destination: Destination, on_event: Callable[[Message], None]) -> RemoteHost:
        """Start the agent; `hello` tells whether it is there. Raises HostError."""
        command = agent_command(destination)
        try:
            # A session of its own: Ctrl-C in the terminal is this program's to handle.
            process = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, start_new_session=True
            )
        except OSError as error:
            raise HostError(f"{command[0]}: {error.strerror}") from error
        return cls(destination.ssh or "local", process, on_event)

    async def request(self, op: str, *, payload: bytes = b"", within: float | None = None, **fields: Any) -> Message:
        """Ask the agent to do `op`: its answer, `within` so many seconds. Raises HostError (its words), HostLost."""
        number = next(self._ids)
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            if self.lost.done():
                raise HostLost(f"{self.name}: {self.lost.result()}")
            await self._channel.send({"id": number, "op": op, **fields}, payload)
            reply = await asyncio.wait_for(answer, within)
        except ChannelError as error:
            raise HostLost(f"{self.name}: {error}") from error
        except TimeoutError:
            raise HostError(f"{self.name}: {op}: no answer within {within:g} s") from None
        finally:
            self._waiting.pop(number, None)
        if not reply.get("ok"):
            raise HostError(f"{self.name}: {reply.get('error')}")
        return reply

    async def send_files(self, directory: Path) -> int:
        """Send every image file of `directory`; returns the bytes sent."""
        total = 0
        for path in sorted(directory.iterdir()):
            if path.is_symlink() or not path.is_file() or path.suffix != ".img":
                continue
            first = True
            with path.open("rb") as file:
                while (piece := file.read(MAX_PAYLOAD_BYTES)) or first:
                    await self.request("write", payload=piece, name=path.name, first=first)
                    total += len(piece)
                    first = False
        return total

    async def _receive(self) -> None:
        reason = "the connection was closed"
        try:
            while True:
                message, _ = await self._channel.receive()
                waiting = self._waiting.get(message.get("id", 0))
                if waiting is not None and not waiting.done():
                    waiting.set_result(message)
                elif "event" in message:
                    self._on_event(message)
        except ChannelError as error:
            reason = str(error)
        with contextlib.suppress(TimeoutError):
            status = await asyncio.wait_for(self.process.wait(), 5)
            if status:
                reason += f" ({self.name}: ssh or the agent ended with status {status})"
        self.lost.set_result(reason)
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(HostLost(f"{self.name}: {reason}"))

    async def close(self) -> None:
        """Close the channel and wait for the agent's end: it undoes what was not let run, or sees it through."""
        self._channel.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.process.wait(), 15)
        if self.process.returncode is None:
            self.process.kill()
            await self.process.wait()
        await self._receiver
