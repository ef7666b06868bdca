"""Messages between `criu-lazy migrate` and its agent on the other host, over a pair of byte streams.

A message: u32 big-endian length, that many bytes of JSON (an object), then, if the object has "payload": N, N raw
bytes. Either side may send at any time. Lengths are bounded: a peer can't make this side allocate more.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

MAX_JSON_BYTES = 1 << 20
MAX_PAYLOAD_BYTES = 1 << 20

Message = dict[str, Any]


class ChannelError(Exception):
    """The other side closed the channel, or sent what is no message."""


class Channel:
    """One end. `send` may be called from several tasks; `receive` from one."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._sending = asyncio.Lock()

    async def send(self, message: Message, payload: bytes = b"") -> None:
        """Raises ChannelError if the other side is gone."""
        if payload:
            message = {**message, "payload": len(payload)}
        text = json.dumps(message).encode()
        async with self._sending:
            try:
                self._writer.write(len(text).to_bytes(4, "big") + text + payload)
                await self._writer.drain()
            except (OSError, RuntimeError) as error:
                raise ChannelError(f"the connection is lost: {error}") from error

    async def receive(self) -> tuple[Message, bytes]:
        """The next message and its payload. Raises ChannelError at the end."""
        try:
            length = int.from_bytes(await self._reader.readexactly(4), "big")
            if length > MAX_JSON_BYTES:
                raise ChannelError("no message of the agent's protocol came (is something printed at login there?)")
            message = json.loads(await self._reader.readexactly(length))
            size = message.get("payload", 0) if isinstance(message, dict) else None
            if not isinstance(size, int) or not 0 <= size <= MAX_PAYLOAD_BYTES:
                raise ChannelError("a malformed message came")
            return message, await self._reader.readexactly(size) if size else b""
        except (asyncio.IncompleteReadError, OSError) as error:
            raise ChannelError("the connection was closed") from error
        except ValueError as error:
            raise ChannelError("a malformed message came") from error

    def close(self) -> None:
        """Close the sending side; the other one sees the end."""
        self._writer.close()
