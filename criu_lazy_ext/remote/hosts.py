"""The other host: the agent run there, over ssh or as a local child, and requests to it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

from criu_lazy_ext.engines.engine import ARCHIVE, RECORD
from criu_lazy_ext.errors import CriuLazyError
from criu_lazy_ext.profile import Destination
from criu_lazy_ext.remote.channel import (
    AGENT_ENDED,
    HELLO_WITHIN_S,
    MAX_PAYLOAD_BYTES,
    PROTOCOL,
    Channel,
    ChannelError,
    Message,
    MessageTooLong,
)

CONNECT_WITHIN_S = 20
END_WITHIN_S = 15.0
LAST_WORD_S = 2.0
CAUSE_WITHIN_S = 0.5  # the end of an agent that takes nothing any more
KEEPER_LOST = 254  # the exit status of an agent whose keeper was killed; ssh's own is 255
PINGS = 3  # in the time of silence that is allowed
BESIDE_IMAGES = ("descriptors.json", ARCHIVE, RECORD)  # what container engines leave there, for their restore
# Why nothing was ever heard of an agent, by the status of ssh, or of the shell there; they say more on stderr.
NEVER_THERE = {
    255: "ssh to it failed: it has to work as root without a prompt; try `ssh {host} true`",
    127: "{program} is not there: install criu-lazy there, or let destination.criu_lazy say where it is",
    126: "{program} (destination.criu_lazy) can't be executed there",
}
MAX_LINE_BYTES = 4096  # of what is said on stderr
MAX_PARTS = 256  # of files in one message
# Images are sent in pieces. Few bytes are under way at first, and remain so where answers take longer than QUICK_S: on
# a thin link everything else waits behind them, and each answer is a sign of life.
FIRST_WINDOW_BYTES, MAX_WINDOW_BYTES = 512 << 10, 32 << 20
MIN_PIECE_BYTES, PIECES_IN_WINDOW = 64 << 10, 8
QUICK_S, SLOW_S = 0.5, 2.0
RATE_PIECES, RATE_LONG_S = ((128 << 10, 1), (512 << 10, 2), (1 << 20, 8)), 0.1  # ever more, until it tells enough


class HostError(CriuLazyError):
    """The other host refused a request, failed at it, or is lost."""


class HostInDoubt(HostError):
    """What was asked for last may have been done there, or not: the restored task may run."""


class HostLost(HostInDoubt):
    """The connection to the other host's agent is gone: what it did last is not known."""


def agent_command(destination: Destination, silence_s: float) -> list[str]:
    """The command that runs the agent there; ssh ends when the other host was silent for about `silence_s`."""
    if destination.local:
        return [*destination.prefix, destination.criu_lazy, "agent"]
    assert destination.ssh is not None
    return [*ssh_command(destination, silence_s), "-T", destination.ssh, f"exec {destination.criu_lazy} agent"]


def ssh_command(destination: Destination, silence_s: float) -> list[str]:
    """ssh with the profile's options, before the host's name."""
    alive = ["-o", "BatchMode=yes", "-o", f"ConnectTimeout={CONNECT_WITHIN_S}", "-o", "ServerAliveCountMax=3"]
    alive += ["-o", f"ServerAliveInterval={max(1, round(silence_s / 3))}"]
    # The first value given counts: the profile's.
    return ["ssh", *destination.ssh_options, *alive]


class RemoteHost:
    """An agent, running. Events go to `on_event`, in the event loop."""

    def __init__(
        self, destination: Destination, process: asyncio.subprocess.Process, on_event: Callable[[Message], None]
    ) -> None:
        assert process.stdout is not None and process.stdin is not None
        self.name = destination.ssh or "local"
        self.program = destination.criu_lazy
        self.process = process
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._channel = Channel(process.stdout, process.stdin)
        self._on_event = on_event
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Message]] = {}
        self._last_said = ""
        self._hearer = asyncio.ensure_future(self._hear(process.stderr)) if process.stderr is not None else None
        self._receiver = asyncio.ensure_future(self._receive())
        self._pinger: asyncio.Task[None] | None = None

    @classmethod
    async def connect(
        cls, destination: Destination, silence_s: float, on_event: Callable[[Message], None]
    ) -> RemoteHost:
        """Start the agent; `hello` tells whether it is there. Raises HostError."""
        command = agent_command(destination, silence_s)
        try:
            # A session of its own: Ctrl-C in the terminal is this program's to handle.
            # A local agent outlives this program, and so has its stderr as its own.
            pipe, stderr = asyncio.subprocess.PIPE, None if destination.local else asyncio.subprocess.PIPE
            process = await asyncio.create_subprocess_exec(
                *command, stdin=pipe, stdout=pipe, stderr=stderr, start_new_session=True
            )
        except OSError as error:
            raise HostError(f"{command[0]}: {error.strerror}: is it installed here?") from error
        return cls(destination, process, on_event)

    async def hello(self, silence_s: float, migration: str = "") -> Message:
        """Who is there; from now on each side knows that it lost the other one after `silence_s`. `migration`: the
        id of that which it is for."""
        self._channel.silence_s = silence_s
        answer = await self.request(
            "hello", silence_s=silence_s, protocol=PROTOCOL, migration=migration, within=HELLO_WITHIN_S
        )
        self._pinger = asyncio.ensure_future(self._ping(silence_s))
        return answer

    async def _ping(self, silence_s: float) -> None:
        """Lose the agent if nothing comes from it. Its answers to our data are as good as one to a ping, which may have
        to wait behind them for long.

        (ssh's own keepalives see no agent that hangs, and there may be no ssh, or a shared one.)
        """
        ping: asyncio.Task[Message] | None = None
        heard, silent = -1, 0
        try:
            while silent < PINGS:
                if ping is None or ping.done():
                    ping = asyncio.ensure_future(self.request("ping", within=silence_s))
                    ping.add_done_callback(lambda task: task.cancelled() or task.exception())
                await asyncio.sleep(silence_s / PINGS)
                # Counted, not timed: should this process have been stopped, the other one gets its time.
                silent = silent + 1 if heard == self._channel.heard_bytes else 0
                heard = self._channel.heard_bytes
            self._lose(f"it said nothing for {silence_s:g} s")
        finally:
            if ping is not None:
                ping.cancel()

    def _lose(self, reason: str, undoes: bool = False) -> None:
        """The connection is of no use any more: tell everybody who waits. `undoes`: its keeper is there, whose end will
        be seen."""
        if self.lost.done():
            return
        self.lost.set_result(reason)
        self._channel.abort()
        if self.process.returncode is None and not undoes:
            self.process.kill()
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(HostLost(f"{self.name}: {reason}"))

    async def request(self, op: str, *, payload: bytes = b"", within: float | None = None, **fields: Any) -> Message:
        """Ask the agent to do `op`: its answer, `within` so many seconds, the sending included.

        Raises HostError (its words); HostInDoubt if there is no answer; HostLost.
        """
        number = next(self._ids)
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            if self.lost.done():
                raise ChannelError(self.lost.result())
            async with asyncio.timeout(within):
                await self._channel.send({"id": number, "op": op, **fields}, payload)
                reply = await answer
        except MessageTooLong as error:
            raise HostError(f"{self.name}: {op}: {error}") from error
        except ChannelError as error:
            if not self._channel.heard_bytes:  # it never was there: why, its end tells
                await asyncio.wait({self._receiver}, timeout=CAUSE_WITHIN_S)
            self._lose(str(error))
            raise HostLost(f"{self.name}: {self.lost.result()}") from error
        except TimeoutError:
            raise HostInDoubt(f"{self.name}: {op}: no answer within {within:g} s") from None
        finally:
            del self._waiting[number]
            if answer.done() and not answer.cancelled():
                answer.exception()  # nobody else looks at it when sending failed
        if not reply.get("ok"):
            kind = HostInDoubt if reply.get("may_run") else HostError
            raise kind(f"{self.name}: {reply.get('error')}")
        return reply

    async def clock_ahead(self) -> float:
        """Seconds by which its clock is ahead of this host's, at the least; below 0: behind. Raises HostError."""
        before = time.time()
        there = float((await self.request("ping"))["time"])
        return there - min(max(there, before), time.time())

    async def measure_rate(self) -> float:
        """Bytes a second, sent as images are; on a link of 1 Gbit/s it takes a tenth of a second. Raises HostError."""
        loop, rate = asyncio.get_running_loop(), 0.0
        for size, number in RATE_PIECES:
            began = loop.time()
            await asyncio.gather(*(self.request("ping", payload=os.urandom(size)) for _ in range(number)))
            took_s = loop.time() - began
            rate = size * number / took_s
            if took_s > RATE_LONG_S:
                break
        return rate

    async def send_files(self, directory: Path) -> int:
        """Send every image file of `directory`; returns the bytes sent. A task of a thousand processes has ten thousand
        files: small ones go together, and none is waited for alone."""
        total = 0
        sending = _Pieces()
        try:
            for parts, payload in pack_files(directory, lambda: sending.piece_bytes):
                # They are sent, and carried out, in order.
                await sending.add(self.request("write", payload=payload, parts=parts), len(payload))
                total += len(payload)
            await sending.end()
        finally:
            await sending.cancel()
        return total

    async def _hear(self, stderr: asyncio.StreamReader) -> None:
        """What ssh and the agent say for people: in a terminal it would stand anywhere."""
        pending = b""
        while piece := await stderr.read(MAX_LINE_BYTES):
            *lines, pending = (pending + piece).split(b"\n")
            if len(pending) >= MAX_LINE_BYTES:
                lines, pending = [*lines, pending], b""
            for line in filter(None, (each.decode(errors="replace").strip() for each in lines)):
                self._last_said = line
                self._on_event({"event": "said", "line": line})

    async def _receive(self) -> None:
        try:
            while True:
                message, _ = await self._channel.receive()
                waiting = self._waiting.get(message.get("id", 0))
                if waiting is not None and not waiting.done():
                    waiting.set_result(message)
                elif message.get("event") == AGENT_ENDED:
                    self._lose(f"the agent {message['how']}", undoes=True)
                elif "event" in message:
                    self._on_event(message)
        except ChannelError as error:
            reason = str(error)
        except Exception as error:  # a message that makes no sense must not end this unseen
            reason = f"what it said can't be used: {type(error).__name__}: {error}"
        with contextlib.suppress(TimeoutError):
            status = await asyncio.wait_for(self.process.wait(), LAST_WORD_S)
            if self._hearer is not None:
                await asyncio.wait({self._hearer}, timeout=LAST_WORD_S)
            if status and not self._channel.heard_bytes and status in NEVER_THERE:
                reason = NEVER_THERE[status].format(host=self.name, program=self.program)
                reason += f" ({self._last_said})" if self._last_said else ""
            elif status:
                reason += f" (ssh or the agent ended with status {status})"
        self._lose(reason)

    @property
    def has_undone(self) -> bool:
        """Whether it is known that all of the other half has ended, and what was not resumed was undone there first."""
        return self.process.returncode is not None and 0 <= self.process.returncode < KEEPER_LOST

    async def close(self, within: float = END_WITHIN_S) -> None:
        """Close the channel and wait, `within` so many seconds, for the agent's end: it undoes what was not resumed, or
        sees the transfer through."""
        if self._pinger is not None:
            self._pinger.cancel()
        self._channel.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.process.wait(), within)
        if self.process.returncode is None:
            self.process.kill()
            await self.process.wait()
        # Its end of the pipe may be open still: a local agent outlives the process that was killed.
        await asyncio.wait({self._receiver}, timeout=LAST_WORD_S)
        self._receiver.cancel()
        if self._hearer is not None:
            self._hearer.cancel()
        await asyncio.gather(self._receiver, *filter(None, [self._hearer]), return_exceptions=True)


def pack_files(
    directory: Path, piece_bytes: Callable[[], int] = lambda: MAX_PAYLOAD_BYTES
) -> Iterator[tuple[list[tuple[str, int, bool]], bytes]]:
    """The images in `directory` as messages: name, bytes, whether they are its first, of each part; and the parts.

    `piece_bytes`: how long a message's are to be together.
    """
    parts: list[tuple[str, int, bool]] = []
    payload, limit = bytearray(), piece_bytes()
    for path in sorted(directory.iterdir()):
        if path.is_symlink() or not path.is_file() or not (path.suffix == ".img" or path.name in BESIDE_IMAGES):
            continue
        first = True
        with path.open("rb") as file:
            while (piece := file.read(limit - len(payload))) or first:
                parts.append((path.name, len(piece), first))
                payload += piece
                first = False
                if len(payload) == limit or len(parts) == MAX_PARTS:
                    yield parts, bytes(payload)
                    parts, payload, limit = [], bytearray(), piece_bytes()
    if parts:
        yield parts, bytes(payload)


class _Pieces:
    """Requests under way, with so many bytes as get quick answers."""

    def __init__(self) -> None:
        self._under_way: dict[asyncio.Task[Message], tuple[float, int]] = {}  # when each began, its bytes
        self._bytes = 0
        self._window = FIRST_WINDOW_BYTES

    @property
    def piece_bytes(self) -> int:
        """How long a piece is to be."""
        return min(max(self._window // PIECES_IN_WINDOW, MIN_PIECE_BYTES), MAX_PAYLOAD_BYTES)

    async def add(self, request: Coroutine[Any, Any, Message], size: int) -> None:
        """Start one more, and wait until there is room for another. Raises what an earlier one raised."""
        loop = asyncio.get_running_loop()
        self._under_way[asyncio.ensure_future(request)] = loop.time(), size
        self._bytes += size
        while self._bytes + self.piece_bytes > self._window:
            done, _ = await asyncio.wait(self._under_way, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                began, size = self._under_way.pop(task)
                self._bytes -= size
                task.result()
                self._adapt(loop.time() - began, size)

    def _adapt(self, took_s: float, size: int) -> None:
        if took_s < QUICK_S:
            self._window = min(self._window + size, MAX_WINDOW_BYTES)
        elif took_s > SLOW_S:
            self._window = max(self._window - size, FIRST_WINDOW_BYTES)

    async def end(self) -> None:
        """Wait for all of them."""
        await asyncio.gather(*self._under_way)

    async def cancel(self) -> None:
        """Wait for none of them."""
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)
