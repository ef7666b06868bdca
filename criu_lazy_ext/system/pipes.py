"""Pipes, read by asyncio."""

from __future__ import annotations

import asyncio
import os


async def pipe_reader(fd: int) -> asyncio.StreamReader:
    """A stream on a pipe's reading end, which it owns."""
    reader = asyncio.StreamReader(limit=1 << 20)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(fd, "rb", 0))
    return reader


async def read_all(fd: int) -> bytes:
    """All that comes from a pipe's reading end, which it owns, until its end."""
    return await (await pipe_reader(fd)).read()
