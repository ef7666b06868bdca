"""What asyncio waits for: the ends of processes, and what comes through pipes.

In a module of its own, as loading asyncio takes longer than all else that the daemons at both ends need.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Mapping, Sequence
from typing import BinaryIO

from criu_lazy_ext.system.processes import start_time


async def pipe_reader(fd: int) -> asyncio.StreamReader:
    """A stream on a pipe's reading end, which it owns."""
    reader = asyncio.StreamReader(limit=1 << 20)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(fd, "rb", 0))
    return reader


async def read_all(fd: int) -> bytes:
    """All that comes from a pipe's reading end, which it owns, until its end."""
    return await (await pipe_reader(fd)).read()


async def await_end(pid: int, began: int) -> None:
    """Wait until the process that began then has ended; it need not be a child."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if start_time(pid) == began:
            loop.add_reader(fd, _tell, ended)
            await ended
    finally:
        loop.remove_reader(fd)
        os.close(fd)


def _tell(ended: asyncio.Future[None]) -> None:
    if not ended.done():
        ended.set_result(None)


class Child:
    """A child process, in a session of its own, which goes on if this process ends.

    (asyncio's own subprocesses don't: the end of the event loop kills them.)
    """

    def __init__(
        self, argv: Sequence[str], output: BinaryIO, pass_fds: Sequence[int] = (), more: Mapping[str, str] | None = None
    ) -> None:
        """Its stdout and stderr go to `output`; `more` is added to its environment. Raises OSError."""
        self._process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, pass_fds=pass_fds, start_new_session=True,
            env={**os.environ, **(more or {})},
        )  # fmt: skip
        self.pid = self._process.pid
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[int] = self._loop.create_future()
        self._pidfd = os.pidfd_open(self.pid)
        self._loop.add_reader(self._pidfd, self._reap)

    @property
    def returncode(self) -> int | None:
        """Its exit status (negative: the signal that killed it); None while it runs."""
        return self._ended.result() if self._ended.done() else None

    async def wait(self) -> int:
        """Wait for its end; returns what `returncode` will be."""
        return await asyncio.shield(self._ended)

    def _reap(self) -> None:
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._ended.set_result(self._process.wait())
