"""The task, as /proc tells of its processes: what the source's checks look at. Read once, before they run.

A process that ends meanwhile is left out.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from criu_lazy_ext.system.processes import tree

_HEAD = re.compile(rb"([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ (\S+) (\d+) *(.*)")
_KIB = re.compile(rb"^(Size|Rss|Pss|Swap|Anonymous|Shared_Hugetlb|Private_Hugetlb): +(\d+) kB$", re.MULTILINE)
DELETED = " (deleted)"
SHARED_ANONYMOUS = ("/dev/zero", "/memfd:", "/SYSV")
TOLD_BYTES = 8 << 20  # of memory that is not lazy; less is not worth a word
NOT_LAZY = {
    "shared": "shared anonymous or memfd",
    "locked": "locked (mlock)",
    "huge": "huge pages (hugetlb)",
    "copied": "written to private mappings of files",
}
O_ACCMODE, O_WRONLY, O_RDWR, O_APPEND = 3, 1, 2, 0o2000


@dataclass(frozen=True)
class Mapping:
    """A part of an address space."""

    start: int
    end: int
    perms: str
    device: str  # major:minor, hexadecimal
    inode: int
    path: str  # "" if anonymous
    kib: dict[str, int]
    flags: frozenset[str]  # two letters each, as in smaps' VmFlags

    @property
    def is_shared(self) -> bool:
        return self.perms[3] == "s"

    def bytes_of(self, *names: str) -> int:
        return sum(self.kib.get(name, 0) for name in names) << 10


@dataclass(frozen=True)
class Descriptor:
    """An open one."""

    process: int
    number: int
    target: str  # as the link in /proc says

    @property
    def link(self) -> Path:
        return Path(f"/proc/{self.process}/fd/{self.number}")

    @property
    def which(self) -> str:
        """As "stdout of process 12", for a message."""
        names = ("stdin", "stdout", "stderr")
        name = names[self.number] if self.number < len(names) else f"descriptor {self.number}"
        return f"{name} of process {self.process}"

    def info(self) -> dict[str, str]:
        """/proc/PID/fdinfo/N: {} if it is closed."""
        with contextlib.suppress(OSError):
            text = Path(f"/proc/{self.process}/fdinfo/{self.number}").read_text(errors="replace")
            return {name: value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}
        return {}

    @cached_property
    def flags(self) -> int | None:
        """As open() got them; None if it is closed."""
        flags = self.info().get("flags")
        return int(flags, 8) if flags is not None else None


@dataclass
class Process:
    """One of the task's."""

    pid: int
    inner_pid: int
    name: str = ""
    state: str = ""
    parent: int = 0
    session: int = 0
    began: int = 0  # in clock ticks since boot
    tracer: int = 0
    ids: tuple[int, ...] = ()  # real, effective and saved user ids, then group ids
    threads: list[int] = field(default_factory=list)
    mappings: list[Mapping] = field(default_factory=list)
    descriptors: list[Descriptor] = field(default_factory=list)

    @classmethod
    def look(cls, pid: int, inner_pid: int) -> Process:
        """Raises OSError if it has ended."""
        directory = Path(f"/proc/{pid}")
        head, _, rest = (directory / "stat").read_text(errors="replace").rpartition(")")
        fields = rest.split()
        parent, session, began = (int(fields[index]) for index in (1, 3, 19))
        process = cls(pid, inner_pid, head.partition("(")[2], fields[0], parent, session, began)
        for line in (directory / "status").read_text(errors="replace").splitlines():
            if line.startswith("TracerPid:"):
                process.tracer = int(line.split()[1])
            elif line.startswith(("Uid:", "Gid:")):
                process.ids += tuple(map(int, line.split()[1:4]))
        process.threads = [int(thread.name) for thread in (directory / "task").iterdir()]
        if process.state in "ZX":
            return process
        process.mappings = list(parse_mappings((directory / "smaps").read_bytes()))
        for entry in (directory / "fd").iterdir():
            with contextlib.suppress(OSError):  # closed meanwhile
                process.descriptors.append(Descriptor(pid, int(entry.name), str(entry.readlink())))
        return process


def parse_mappings(smaps: bytes) -> Iterator[Mapping]:
    """What /proc/PID/smaps says."""
    parts = smaps.split(b"\nVmFlags:")
    for index, part in enumerate(parts[:-1]):
        head = _HEAD.search(part)  # of all but the first, behind the flags of the mapping before
        if head is None:
            continue
        start, end, perms, device, inode, path = (item.decode(errors="surrogateescape") for item in head.groups())
        kib = {name.decode(): int(value) for name, value in _KIB.findall(part, head.end())}
        flags = parts[index + 1].partition(b"\n")[0].decode().split()
        yield Mapping(int(start, 16), int(end, 16), perms, device, int(inode), path, kib, frozenset(flags))


@dataclass
class Task:
    """All of it, the root first."""

    pid: int
    processes: list[Process]

    @classmethod
    def look(cls, pid: int) -> Task:
        """Raises OSError if the root has ended."""
        processes = [Process.look(pid, 0)]
        for inner, process in tree(pid).items():
            if process == pid:
                processes[0].inner_pid = inner
                continue
            with contextlib.suppress(OSError):  # it has ended
                processes.append(Process.look(process, inner))
        return cls(pid, processes)

    @cached_property
    def pids(self) -> set[int]:
        return {process.pid for process in self.processes}

    def descriptors(self) -> Iterator[Descriptor]:
        for process in self.processes:
            yield from process.descriptors

    @property
    def directory(self) -> Path:
        """What /proc tells of the root: of another thread, if its first one has ended."""
        root = self.processes[0]
        thread = root.threads[-1] if root.state in "ZX" and root.threads else root.pid
        return Path(f"/proc/{root.pid}/task/{thread}")

    def has_own(self, namespace: str) -> bool:
        """Whether the root lives in another namespace (as "ipc") than this program."""
        own = Path(f"/proc/self/ns/{namespace}").readlink()
        return (self.directory / f"ns/{namespace}").readlink() != own


def not_lazy_bytes(task: Task) -> dict[str, int]:
    """What can't follow lazily, by why."""
    found = dict.fromkeys(NOT_LAZY, 0)
    for process in task.processes:
        for mapping in process.mappings:
            if mapping.flags & {"ht"}:
                found["huge"] += mapping.bytes_of("Shared_Hugetlb", "Private_Hugetlb")
            elif mapping.is_shared and mapping.path.startswith(SHARED_ANONYMOUS):
                found["shared"] += mapping.bytes_of("Pss")  # each of those that share it has its part
            elif mapping.inode and not mapping.is_shared:
                found["copied"] += mapping.bytes_of("Anonymous", "Swap")
            elif "lo" in mapping.flags and not mapping.is_shared:
                found["locked"] += mapping.bytes_of("Rss")
    return found
