"""How much room a control group leaves: memory and processes, over all of its ancestors, cgroup v1 and v2."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

UNLIMITED = 1 << 60  # v1's "no limit" is a little below 2**63


@dataclass(frozen=True)
class Room:
    """`left` of something; `where` says of what, for a message."""

    left: int
    where: str


@dataclass(frozen=True)
class Hierarchy:
    """Where the groups of a controller are mounted: `version` 1 or 2; `root`: which group the mount shows."""

    mount: Path
    root: str
    version: int

    def directory(self, group: str) -> Path | None:
        """The directory of `group`, or of its nearest ancestor that is there; None if this mount doesn't show it."""
        below = Path(group).relative_to(self.root) if Path(group).is_relative_to(self.root) else None
        if below is None or ".." in below.parts:
            return None
        found = self.mount / below
        while not found.is_dir() and found != self.mount:
            found = found.parent
        return found

    def chain(self, group: str) -> Iterator[Path]:
        """The group's directory and its ancestors', as far as the mount shows them."""
        directory = self.directory(group)
        while directory is not None:
            yield directory
            directory = directory.parent if directory != self.mount else None


def groups_of(pid: int | str = "self") -> dict[str, str]:
    """The process's group in each hierarchy: by the controllers' names, "" for v2."""
    lines = Path(f"/proc/{pid}/cgroup").read_text(errors="replace").splitlines()
    return {controllers: group for _, controllers, group in (line.split(":", 2) for line in lines)}


def has_both_versions(pid: int) -> bool:
    """Whether the process is in hierarchies of v1 and in one of v2."""
    groups = groups_of(pid)
    return len(groups) > 1 and bool(groups.get(""))


def group_for(controller: str, groups: dict[str, str]) -> str | None:
    """The group that limits `controller`, of what `groups_of` gave."""
    for controllers, group in groups.items():
        if controller in controllers.split(","):
            return group
    return groups.get("")


def hierarchy(controller: str) -> Hierarchy | None:
    """The mounted hierarchy with `controller`; v2's is taken if no v1 hierarchy has it."""
    unified = None
    for line in Path("/proc/self/mountinfo").read_text(errors="replace").splitlines():
        before, _, after = line.partition(" - ")
        fields, (kind, _, options) = before.split(), after.split(" ", 2)
        if kind == "cgroup" and controller in options.split(","):
            return Hierarchy(Path(fields[4]), fields[3], 1)
        if kind == "cgroup2":
            unified = Hierarchy(Path(fields[4]), fields[3], 2)
    return unified


def _number(path: Path) -> int | None:
    """A limit or a count; None: no limit, or no such file (as in a root group)."""
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() and int(text) < UNLIMITED else None


def _cache_bytes(directory: Path, version: int) -> int:
    """Of what a group uses: what the kernel takes back when there is no more room."""
    wanted = ("inactive_file", "active_file") if version == 2 else ("total_inactive_file", "total_active_file")
    try:
        lines = [line.split() for line in (directory / "memory.stat").read_text().splitlines()]
    except OSError:
        return 0
    return sum(int(value) for name, value in lines if name in wanted)


def memory_left(directory: Path, version: int, swap_bytes: int) -> Room | None:
    """Bytes that a group still may use, without its ancestors; None: no limit. `swap_bytes`: free on this host."""
    if version == 2:
        limit, used = _number(directory / "memory.max"), _number(directory / "memory.current")
        swap_limit, swap_used = _number(directory / "memory.swap.max"), _number(directory / "memory.swap.current")
        if swap_limit is not None:
            swap_bytes = min(swap_bytes, max(0, swap_limit - (swap_used or 0)))
    else:
        limit, used = _number(directory / "memory.limit_in_bytes"), _number(directory / "memory.usage_in_bytes")
    if limit is None or used is None:
        return None
    left = limit - used + _cache_bytes(directory, version) + swap_bytes
    if version == 1:
        both = _number(directory / "memory.memsw.limit_in_bytes")
        both_used = _number(directory / "memory.memsw.usage_in_bytes")
        if both is not None and both_used is not None:
            left = min(left, both - both_used + _cache_bytes(directory, version))
    return Room(max(0, left), f"cgroup {directory}, which is limited to {limit / 1e6:.0f} MB")


def processes_left(directory: Path) -> Room | None:
    """How many more processes and threads a group may have, its ancestors left aside; None: it has no limit."""
    limit, used = _number(directory / "pids.max"), _number(directory / "pids.current")
    if limit is None or used is None:
        return None
    return Room(max(0, limit - used), f"cgroup {directory}, which is limited to {limit}")


@dataclass(frozen=True)
class Freezer:
    """A group by which a process can be frozen, as this host shows it."""

    directory: Path
    version: int

    @classmethod
    def all_of(cls, groups: dict[str, str]) -> list[Freezer]:
        """Those of a process, of what `groups_of` gave: v1's and v2's, as far as they are mounted."""
        found = []
        for shown in dict.fromkeys((hierarchy("freezer"), hierarchy(""))):
            if shown is not None:
                group = groups.get("") if shown.version == 2 else group_for("freezer", groups)
                if group is not None and (directory := shown.directory(group)) is not None:
                    found.append(cls(directory, shown.version))
        return found

    def freezes(self) -> bool:
        """Whether what is in the group is frozen, or is being frozen, by it or by one above it."""
        with contextlib.suppress(OSError):
            if self.version == 1:
                return (self.directory / "freezer.state").read_text().strip() != "THAWED"
            return (self.directory / "cgroup.freeze").read_text().strip() == "1" or self.has_frozen()
        return False

    def has_frozen(self) -> bool:
        """Whether all that is in the group is frozen."""
        with contextlib.suppress(OSError):
            if self.version == 1:
                return (self.directory / "freezer.state").read_text().strip() == "FROZEN"
            return "frozen 1" in (self.directory / "cgroup.events").read_text()
        return False
