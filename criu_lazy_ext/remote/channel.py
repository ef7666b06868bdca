"""Messages between `criu-lazy migrate` and its agent on the other host, over a pair of byte streams.

A message: u32 big-endian length, that many bytes of JSON (an object), then, if the object has "payload": N, N raw
bytes. Either side may send at any time. Lengths are bounded: a peer can't make this side allocate more.

Silence is told from slowness by bytes: whatever came (`heard_bytes`) is life, and so is what the other side takes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

# What both halves of a migration say to each other, here and by the push protocol: raised when one of before could not
# follow. docs/versions.md has them all.
PROTOCOL = 1
MAX_JSON_BYTES = 1 << 20
MAX_PAYLOAD_BYTES = 1 << 20
AGENT_ENDED = "agent-ended"  # the event that the agent's keeper tells of
HELLO_WITHIN_S = 120.0  # the first words: Python starts on the other host, and a busy one takes its time

Message = dict[str, Any]


class ChannelError(Exception):
    """The other side closed the channel, takes nothing, or sent what is no message."""


class MessageTooLong(ValueError):
    """A message that the other side would refuse; nothing was sent."""


def as_bytes(message: Message, payload: bytes = b"") -> bytes:
    """Raises MessageTooLong."""
    if payload:
        message = {**message, "payload": len(payload)}
    text = json.dumps(message, separators=(",", ":")).encode()
    if len(text) > MAX_JSON_BYTES or len(payload) > MAX_PAYLOAD_BYTES:
        size = len(text) + len(payload)
        raise MessageTooLong(f"a message of {size} bytes is too long ({MAX_JSON_BYTES} at the most)")
    return len(text).to_bytes(4, "big") + text + payload


class Channel:
    """One end. `send` may be called from several tasks; `receive` from one."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.silence_s: float | None = None  # for so long the other side may take nothing of what is to be sent
        self.heard_bytes = 0
        self._reader = reader
        self._writer = writer
        self._sending = asyncio.Lock()

    async def send(self, message: Message, payload: bytes = b"") -> None:
        """Raises ChannelError if the other side is gone, or takes nothing; MessageTooLong."""
        data = as_bytes(message, payload)
        async with self._sending:
            try:
                self._writer.write(data)
                await self._drain()
            except (OSError, RuntimeError) as error:
                raise ChannelError(f"the connection is lost: {error}") from error

    async def _drain(self) -> None:
        """Until (most of) what was written is taken; as long as any of it is, there is no limit."""
        if not self._unsent() and not self._writer.is_closing():
            return
        draining = asyncio.ensure_future(self._writer.drain())
        try:
            left = self._unsent()
            while not (await asyncio.wait({draining}, timeout=self.silence_s))[0]:
                if self._unsent() >= left:
                    raise ChannelError(f"the other side took nothing for {self.silence_s:g} s")
                left = self._unsent()
            draining.result()
        finally:
            draining.cancel()
            with contextlib.suppress(asyncio.CancelledError, OSError, RuntimeError):
                await draining

    def _unsent(self) -> int:
        return self._writer.transport.get_write_buffer_size()

    async def receive(self, silence_s: float | None = None) -> tuple[Message, bytes]:
        """The next message, payload. Raises ChannelError at the end; TimeoutError if no byte came for `silence_s`."""
        try:
            length = int.from_bytes(await self._read(4, silence_s), "big")
            if length > MAX_JSON_BYTES:
                raise ChannelError("no message of the agent's protocol came (is something printed at login there?)")
            message = json.loads(await self._read(length, silence_s))
            size = message.get("payload", 0) if isinstance(message, dict) else None
            if not isinstance(size, int) or not 0 <= size <= MAX_PAYLOAD_BYTES:
                raise ChannelError("a malformed message came")
            return message, await self._read(size, silence_s)
        except TimeoutError:  # which is an OSError
            raise
        except OSError as error:
            raise ChannelError("the connection was closed") from error
        except (ValueError, RecursionError) as error:
            raise ChannelError("a malformed message came") from error

    async def _read(self, size: int, silence_s: float | None) -> bytes:
        found = bytearray()
        while len(found) < size:
            async with asyncio.timeout(silence_s):
                piece = await self._reader.read(size - len(found))
            if not piece:
                raise ChannelError("the connection was closed")
            self.heard_bytes += len(piece)
            found += piece
        return bytes(found)

    def close(self) -> None:
        """Close the sending side, once all is sent; the other one sees the end."""
        self._writer.close()

    def abort(self) -> None:
        """Close the sending side at once: whoever waits in `send` goes on."""
        with contextlib.suppress(AttributeError):  # asyncio's pipes don't expect it once they are closed
            self._writer.transport.abort()
