"""Processes as /proc tells of them. A pid alone may name another process later; with its start time it doesn't."""

from __future__ import annotations

from pathlib import Path


def start_time(pid: int) -> int | None:
    """When the process began, in clock ticks since boot; None if there is none, or it is a zombie."""
    fields = _stat(pid)
    return None if fields is None or fields[0] in "ZX" else int(fields[19])


def is_alive(pid: int) -> bool:
    """Whether the process exists and isn't a zombie."""
    return start_time(pid) is not None


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the third one (the state) on."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
