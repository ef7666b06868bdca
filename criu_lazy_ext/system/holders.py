"""Who else has something open: pipes, sockets."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from criu_lazy_ext.system.processes import descends


def holders(targets: Mapping[str, Path], root: int) -> dict[str, int]:
    """Of each target (as a link in /proc/PID/fd says: "pipe:[1]"), with such a link, a process that has it open; `root`
    and all below it, as they are at that moment, are left out."""
    found: dict[str, int] = {}
    for process in _processes() if targets else ():
        with contextlib.suppress(OSError):  # it has ended
            for entry in Path(f"/proc/{process}/fd").iterdir():
                with contextlib.suppress(OSError):  # closed meanwhile
                    target = str(entry.readlink())
                    if target in targets and not descends(process, root) and _is_one(target, entry, targets[target]):
                        found.setdefault(target, process)
        if len(found) == len(targets):
            break
    return found


def _is_one(target: str, link: Path, other: Path) -> bool:
    """A file's name may be another file's, too, in another mount namespace."""
    return not target.startswith("/") or link.samefile(other)


def _processes() -> Iterator[int]:
    return (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())


def name_of(pid: int) -> str:
    """As "1234 (sshd)"."""
    try:
        return f"{pid} ({Path(f'/proc/{pid}/comm').read_text(errors='replace').strip()})"
    except OSError:
        return str(pid)
