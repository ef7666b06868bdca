"""What a task takes and needs, as the source tells the destination, whose checks compare."""

from __future__ import annotations

import array
import base64
import contextlib
import json
import re
import zlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from criu_lazy_ext.system import cgroup
from criu_lazy_ext.system.processes import tree

# Seen with criu 4.2.1: a pipe for each 4 MiB of a task's lazy pages, and one for its others.
PIPE_BYTES = 4 << 20
PIPE_DESCRIPTORS = 2
OTHER_DESCRIPTORS = 30
# Memory that is shared on purpose, and that no file system keeps.
_SHARED = re.compile(
    rb"^[0-9a-f]+-[0-9a-f]+ ...s \S+ \S+ \d+ +/(?:dev/zero|SYSV|memfd:).*\n(?:[A-Z]\w*:.*\n)*?Pss: +(\d+) kB",
    re.MULTILINE,
)
MAX_UNPACKED_BYTES = 64 << 20


@dataclass
class Needs:
    """What a task and all below it will take."""

    processes: int = 0
    threads: int = 0
    ids: list[int] = field(default_factory=list)  # pids and tids that must be free; none: a pid namespace goes along
    memory: dict[str, int] = field(default_factory=dict)  # bytes, by the group that is charged; "": the agent's
    dump_descriptors: int = OTHER_DESCRIPTORS

    @property
    def memory_bytes(self) -> int:
        """Of all groups."""
        return sum(self.memory.values())


def boot_id() -> str:
    """What tells this boot of this kernel from any other."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def pid_namespace() -> str:
    """In which pid namespace of this kernel this program is."""
    return str(Path("/proc/self/ns/pid").readlink())


def pack_ids(ids: Iterable[int]) -> str:
    """Numbers as a short text: they may be a hundred thousand, of which most follow each other."""
    ordered = sorted(ids)
    steps = array.array("I", (after - before for before, after in zip([0, *ordered], ordered, strict=False)))
    return base64.b64encode(zlib.compress(steps.tobytes())).decode()


def unpack_ids(text: str) -> list[int]:
    """What `pack_ids` was given, in order. Raises ValueError."""
    try:
        steps = array.array("I", zlib.decompress(base64.b64decode(text)))
    except zlib.error as error:
        raise ValueError(str(error)) from error
    ids, last = [], 0
    for step in steps:
        ids.append(last := last + step)
    return ids


def measure(pid: int, charged: bool) -> Needs:
    """What the task and all below it take now. `charged`: criu is to restore it in the groups that it is in here.

    Forked processes may share pages; each will have its own after the restore. What is shared on purpose stays so.
    """
    needs = Needs()
    ours = cgroup.groups_of()
    own_pids = Path(f"/proc/{pid}/ns/pid").readlink() != Path("/proc/self/ns/pid").readlink()
    for process in tree(pid).values():
        with contextlib.suppress(OSError):  # it has ended
            facts = _status(process)
            anonymous = facts["RssAnon"] + facts["VmSwap"]
            groups = cgroup.groups_of(process)
            # criu restores in its own groups what was in those of the criu that dumped it.
            group = (cgroup.group_for("memory", groups) or "") if charged and groups != ours else ""
            total = anonymous + facts["VmPTE"] + (_shared_bytes(process) if facts["RssShmem"] else 0)
            needs.memory[group] = needs.memory.get(group, 0) + total
            threads = [int(thread.name) for thread in Path(f"/proc/{process}/task").iterdir()]
            needs.processes += 1
            needs.threads += len(threads)
            needs.ids += [] if own_pids else threads
            needs.dump_descriptors += PIPE_DESCRIPTORS * (-(-anonymous // PIPE_BYTES) + 1)
    return needs


def _status(pid: int) -> dict[str, int]:
    """Bytes, of /proc/PID/status; a zombie has none."""
    facts = dict.fromkeys(("RssAnon", "RssShmem", "VmSwap", "VmPTE"), 0)
    for line in Path(f"/proc/{pid}/status").read_text(errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name in facts:
            facts[name] = int(value.split()[0]) << 10
    return facts


def _shared_bytes(pid: int) -> int:
    """Its part of memory that it shares with others, and that no file system keeps."""
    return sum(int(kib) << 10 for kib in _SHARED.findall(Path(f"/proc/{pid}/smaps").read_bytes()))


class FileFact(NamedTuple):
    """A file of the task's, as it is at the source."""

    path: str
    use: str  # "exe", "cwd", "root", "mapped", "shared" (mapped, and written), "open"
    mode: int
    size: int  # -1: not compared
    unused: int  # 0; versions before compare content only where this isn't the time of change there
    device: int
    inode: int
    kind: str  # of file system
    digest: str  # of samples of its content; "": not looked at

    @classmethod
    def from_list(cls, fields: list[Any]) -> FileFact:
        """What a message has made of it. Raises TypeError."""
        return cls(*fields)


@dataclass(frozen=True)
class Arrival:
    """What the destination's checks look at. Without a task (`processes` 0), only the host."""

    processes: int = 0
    threads: int = 0
    ids: str = ""  # pack_ids()
    memory: dict[str, int] = field(default_factory=dict)
    store: str = ""  # the directory there for pages that come before the dump
    check_memory: bool = True
    restore_options: list[str] = field(default_factory=list)
    daemon_options: list[str] = field(default_factory=list)
    programs: list[str] = field(default_factory=list)  # of hooks there that are no shell's
    hooks: str = ""  # before the restore: their words
    boot_id: str = ""
    pid_namespace: str = ""
    files: list[list[Any]] = field(default_factory=list)  # FileFact
    sockets: list[list[Any]] = field(default_factory=list)  # family, kind, address, port, whether it is no connection
    unix_names: list[str] = field(default_factory=list)  # of its own
    unix_peers: list[str] = field(default_factory=list)  # of sockets of others that it sends to
    container: dict[str, Any] = field(default_factory=dict)  # preflight.container_there()
    directory: str = "/var/lib/criu-lazy"  # for the images
    image_bytes: int = 0
    profiles: list[str] = field(default_factory=list)  # of AppArmor, those that its processes have
    huge_bytes: int = 0  # of huge pages
    user_namespace: bool = False
    cpu: str = ""  # base64 of criu's cpuinfo.img; "": not known
    addresses: list[tuple[str, str]] = field(default_factory=list)  # that come along, each with its device

    def is_source(self) -> bool:
        """Whether the task has its pids on this very host, by whatever name."""
        return bool(self.ids) and (self.boot_id, self.pid_namespace) == (boot_id(), pid_namespace())

    def pack(self) -> str:
        """For a message."""
        return base64.b64encode(zlib.compress(json.dumps(asdict(self)).encode())).decode()

    @classmethod
    def unpack(cls, text: str) -> Arrival:
        """What `pack` made. Raises ValueError."""
        try:
            plain = zlib.decompressobj().decompress(base64.b64decode(text), MAX_UNPACKED_BYTES)
            return cls(**json.loads(plain))
        except (zlib.error, TypeError) as error:
            raise ValueError(f"not what a source needs: {error}") from error
