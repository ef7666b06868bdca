"""A container's files: over by rsync while it runs, and what has changed meanwhile once it is frozen."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shlex
import time
from collections.abc import Iterable
from pathlib import Path

from criu_lazy_ext.engines.engine import Tree
from criu_lazy_ext.errors import CriuLazyError
from criu_lazy_ext.remote.shared_ssh import SharedSsh
from criu_lazy_ext.system.processes import tree

VANISHED = 24  # rsync's status when files went while it looked: they are not there to be sent
# Nanoseconds of modification times count: a change in the second of the first pass is one.
RSYNC = ("rsync", "-aHAXSx", "--numeric-ids", "--delete", "--modify-window=-1", "--mkpath", "--stats")
# Which of the source's files one of overlayfs was before it was changed; and which overlayfs it was.
FOREIGN = ("--filter=-x trusted.overlay.origin", "--filter=-x trusted.overlay.uuid")
_SENT = re.compile(r"^Total bytes sent: (\d+)$", re.MULTILINE)


class FilesError(CriuLazyError):
    """The files can't be sent."""


def mapped_shared(pid: int) -> set[Path]:
    """Files that a process of the task writes by memory, as the task names them: their times may tell nothing of it."""
    found = set()
    for process in tree(pid).values():
        with contextlib.suppress(OSError):  # it has ended
            for line in Path(f"/proc/{process}/maps").read_text(errors="surrogateescape").splitlines():
                fields = line.split(maxsplit=5)
                if len(fields) == 6 and fields[1][1] == "w" and fields[1][3] == "s" and fields[5].startswith("/"):
                    found.add(Path(fields[5]))
    return found


class ContainerFiles:
    """One container's files."""

    def __init__(self, trees: list[Tree], pid: int, ssh: SharedSsh) -> None:
        self.trees = trees
        self.pid = pid
        self._ssh = ssh

    async def send(self, *, frozen: bool = False) -> tuple[int, float]:
        """Make the files there as they are here: bytes sent, seconds. `frozen`: the task is. Raises FilesError."""
        began = time.monotonic()
        if not frozen:
            # What is mapped must fault at its next write for its time to change.
            syncing = await asyncio.create_subprocess_exec("sync", "-f", *(str(tree_.here) for tree_ in self.trees))
            await syncing.wait()
        alone = 0 if frozen else 1  # the very first opens the connection
        sent = sum([await self._rsync(tree_) for tree_ in self.trees[:alone]])
        sent += sum(await asyncio.gather(*map(self._rsync, self.trees[alone:])))
        if frozen:
            mapped = await asyncio.to_thread(mapped_shared, self.pid)
            sent += sum(await asyncio.gather(*(self._rsync(*found) for found in self._named_here(mapped))))
        return sent, time.monotonic() - began

    def _named_here(self, mapped: Iterable[Path]) -> list[tuple[Tree, list[str]]]:
        """Of the mapped files, those below one of the trees."""
        found: dict[Tree, list[str]] = {}
        for path in mapped:
            with contextlib.suppress(OSError):
                there = Path(f"/proc/{self.pid}/root{path}").stat()
                for tree_ in self.trees:
                    named = _same_file(tree_.here, path, (there.st_dev, there.st_ino))
                    if tree_.changes and (tree_.here / path.relative_to("/")).is_file():
                        named = str(path.relative_to("/"))  # overlayfs gives it a number of its own
                    if named is not None:
                        found.setdefault(tree_, []).append(named)
        return list(found.items())

    async def _rsync(self, tree_: Tree, only: list[str] | None = None) -> int:
        """Bytes sent. `only`: these files, whatever their times say."""
        command = [*RSYNC, *(f"--exclude=/{path}" for path in tree_.without), *(FOREIGN if tree_.changes else ())]
        if only is not None:
            command = [word for word in command if word != "--delete"] + ["--ignore-times", "--files-from=-", "--from0"]
        command += ["-e", shlex.join(self._ssh.command), f"{tree_.here}/", f"{self._ssh.host}:{tree_.there}/"]
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "LC_ALL": "C"}, start_new_session=True,
        )  # fmt: skip
        try:
            output, errors = await process.communicate("\0".join(only or []).encode(errors="surrogateescape"))
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, 9)
        if process.returncode not in (0, VANISHED):
            lines = errors.decode(errors="replace").strip().splitlines()
            raise FilesError(f"{tree_.here}: rsync ended with status {process.returncode}: {lines[0] if lines else ''}")
        sent = _SENT.search(output.decode(errors="replace").replace(",", ""))
        return int(sent[1]) if sent else 0


def _same_file(top: Path, inside: Path, identity: tuple[int, int]) -> str | None:
    """The path below `top` of the file that the container calls `inside`; None if it isn't there.

    A mount in the container may cut the path's beginning off: its ends are tried.
    """
    parts = inside.parts[1:]
    for first in range(len(parts)):
        below = Path(*parts[first:])
        with contextlib.suppress(OSError):
            found = (top / below).stat()
            if (found.st_dev, found.st_ino) == identity:
                return str(below)
    return None
