"""Who else has something open: pipes, sockets."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Container, Iterator
from pathlib import Path


def holders(targets: Collection[str], besides: Container[int]) -> dict[str, int]:
    """Of each target (as a link in /proc/PID/fd says: "pipe:[1]") a process that has it open, `besides` left out."""
    found: dict[str, int] = {}
    for process in _processes() if targets else ():
        if process in besides:
            continue
        with contextlib.suppress(OSError):  # it has ended
            for entry in Path(f"/proc/{process}/fd").iterdir():
                with contextlib.suppress(OSError):  # closed meanwhile
                    target = str(entry.readlink())
                    if target in targets:
                        found.setdefault(target, process)
        if len(found) == len(targets):
            break
    return found


def _processes() -> Iterator[int]:
    return (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())


def name_of(pid: int) -> str:
    """As "1234 (sshd)"."""
    try:
        return f"{pid} ({Path(f'/proc/{pid}/comm').read_text(errors='replace').strip()})"
    except OSError:
        return str(pid)
