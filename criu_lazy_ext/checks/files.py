"""The task's files: what criu restore opens again at the destination, by its name."""

from __future__ import annotations

import contextlib
import hashlib
import re
import shlex
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from criu_lazy_ext.checks.check import Found, Verdict, check, fail
from criu_lazy_ext.checks.leaving import Leaving
from criu_lazy_ext.checks.needs import Arrival, FileFact, boot_id
from criu_lazy_ext.checks.task import DELETED, O_ACCMODE, O_APPEND, O_WRONLY, Mapping, Process, Task
from criu_lazy_ext.sizes import parse_size

COPIED = "have hooks copy them, as criu-lazy init writes them"
COPIED_FROZEN = "copy data when the task is frozen: hooks.after_dump, with rsync"
# File systems that several hosts may have mounted.
SHARED_KINDS = (
    *("9p", "afs", "beegfs", "ceph", "cifs", "fuse.ceph", "fuse.glusterfs", "fuse.sshfs", "gfs2", "glusterfs", "gpfs"),
    *("lustre", "nfs", "nfs4", "ocfs2", "orangefs", "smb3", "virtiofs"),
)
# What the kernel makes up by itself: nothing in them is compared.
KERNEL_KINDS = (
    "bpf",
    "cgroup",
    "cgroup2",
    "debugfs",
    "devpts",
    "mqueue",
    "nsfs",
    "proc",
    "securityfs",
    "sysfs",
    "tracefs",
)
NO_FILES = (
    "/dev/zero",
    "/memfd:",
    "/SYSV",
    "/anon_hugepage",
    "/[aio]",
    "/dev/shm/memfd:",
    "/secretmem",
    "/drm ",
    "/i915",
)
GHOST_LIMIT_BYTES = 1 << 20  # criu's default
MOST_COMPARED = 4096
SAMPLE_BYTES = 64 << 10
SHOWN = 5


class Mounts:
    """The mount points that a process sees: which file system a path is on."""

    def __init__(self, pid: int | str = "self") -> None:
        self._kinds: dict[str, str] = {}
        try:
            text = Path(f"/proc/{pid}/mountinfo").read_text(errors="surrogateescape")
        except OSError:  # its first thread has ended
            text = Path("/proc/self/mountinfo").read_text(errors="surrogateescape")
        for line in text.splitlines():
            before, _, after = line.partition(" - ")
            point = before.split()[4].encode(errors="surrogateescape").decode("unicode_escape", "surrogateescape")
            self._kinds[point.rstrip("/")] = after.split()[0]  # a later one hides an earlier one

    def kind_of(self, path: str) -> str:
        """As "ext4"."""
        while path and path not in self._kinds:
            path = path.rpartition("/")[0]
        return self._kinds.get(path, "")


def sample(path: str | Path, size: int) -> str:
    """Tells two files of one size apart that differ at their begin, middle or end; "" if it can't be read."""
    digest = hashlib.blake2b(digest_size=16)
    try:
        with Path(path).open("rb", buffering=0) as file:
            for offset in sorted({0, max(0, size // 2 - SAMPLE_BYTES // 2), max(0, size - SAMPLE_BYTES)}):
                file.seek(offset)
                digest.update(file.read(SAMPLE_BYTES))
    except OSError:
        return ""
    return digest.hexdigest()


# ---- what the source tells ----


class _Collector:
    def __init__(self, task: Task) -> None:
        self.mounts = Mounts(task.pid)
        self.facts: dict[str, FileFact] = {}

    def add(self, path: str, link: Path, use: str, *, compares: bool = True) -> None:
        """`link`: where the file itself is reached; `compares`: whether criu does, and its content counts."""
        kind = self.mounts.kind_of(path)
        known = self.facts.get(path)
        if kind in KERNEL_KINDS or (known is not None and (known.use == "shared" or use != "shared")):
            return
        with contextlib.suppress(OSError):  # closed, or ended meanwhile
            found = link.stat()
            is_file = stat.S_ISREG(found.st_mode)
            size = found.st_size if is_file and compares else -1
            digest = sample(link, size) if size > 0 and use != "shared" and len(self.facts) < MOST_COMPARED else ""
            identity = (found.st_dev, found.st_ino)
            self.facts[path] = FileFact(path, use, found.st_mode, size, 0, *identity, kind, digest)


def collect(task: Task, sockets: Iterable[str] = ()) -> list[FileFact]:
    """All files that the task has mapped or open, its programs and directories; those of its unix `sockets`' names."""
    collector = _Collector(task)
    seen: set[tuple[str, int, bool]] = set()
    for process in task.processes:
        directory = Path(f"/proc/{process.pid}")
        for name in ("exe", "cwd", "root"):
            with contextlib.suppress(OSError):
                path = str((directory / name).readlink())
                if not path.endswith(DELETED) and path != "/":
                    collector.add(path, directory / name, name)
        for mapping in process.mappings:
            if is_file_mapping(mapping) and not mapping.path.endswith(DELETED):
                key = (mapping.path, mapping.inode, mapping.is_shared and "w" in mapping.perms)
                if key not in seen:
                    seen.add(key)
                    link = directory / f"map_files/{mapping.start:x}-{mapping.end:x}"
                    collector.add(mapping.path, link, "shared" if key[2] else "mapped")
        for descriptor in process.descriptors:
            if descriptor.target.startswith("/") and not descriptor.target.endswith(DELETED):
                flags = descriptor.flags
                is_log = flags is not None and flags & O_ACCMODE == O_WRONLY and bool(flags & O_APPEND)
                collector.add(descriptor.target, descriptor.link, "open", compares=not is_log)
    for path in {str(Path(name).parent) for name in sockets if name.startswith("/")} - {"/"}:
        collector.add(path, Path(f"/proc/{task.pid}/root{path}"), "socket")
    return list(collector.facts.values())


def is_file_mapping(mapping: Mapping) -> bool:
    """Whether a file of a file system is behind it."""
    return mapping.path.startswith("/") and not mapping.path.startswith(NO_FILES)


# ---- at the destination ----


def _differences(arrival: Arrival) -> Iterator[tuple[str, str, FileFact]]:
    """What is wrong ("missing", "stale", "differs"), how, and with which file."""
    mounts = Mounts()
    same_kernel = arrival.boot_id == boot_id()
    for fact in map(FileFact.from_list, arrival.files):
        try:
            found = Path(fact.path).stat()
        except OSError:
            yield "missing", "is not there", fact
            continue
        is_same = (found.st_dev, found.st_ino) == (fact.device, fact.inode) and same_kernel
        on_shared = fact.kind in SHARED_KINDS and mounts.kind_of(fact.path) in SHARED_KINDS
        if is_same or (on_shared and found.st_ino == fact.inode):
            continue
        if stat.S_IFMT(found.st_mode) != stat.S_IFMT(fact.mode):
            yield "differs", "is of another type", fact
        elif fact.size >= 0 and found.st_size != fact.size:
            yield "differs", f"has {found.st_size} bytes there, {fact.size} here", fact
        elif fact.size >= 0 and found.st_mode != fact.mode:
            yield "differs", f"has mode {found.st_mode & 0o7777:o} there, {fact.mode & 0o7777:o} here", fact
        elif fact.use == "shared":
            yield "stale", "is shared memory", fact
        elif fact.digest and sample(fact.path, fact.size) != fact.digest:
            yield "differs", "has the same size, and another content there", fact


def _told(arrival: Arrival, wanted: str, text: str, of_data: str = "") -> Iterator[Found]:
    """One finding for all files of a kind, without those that a hook names. Other hooks may bring them, too. `of_data`:
    the way out if none of them is of a program, instead of the check's."""
    named = tuple(_paths_in(arrival.hooks))
    found = [
        (how, fact) for kind, how, fact in _differences(arrival) if kind == wanted and not _is_in(fact.path, named)
    ]
    if not found:
        return
    files = ", ".join(f"{fact.path} ({how})" if wanted == "differs" else fact.path for how, fact in found[:SHOWN])
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    verdict = Verdict.WARN if arrival.hooks else Verdict.FAIL
    way_out = "" if any(_is_program(fact) for _, fact in found) else of_data
    if arrival.hooks:
        way_out = "no hook names it: unless one brings it, it goes wrong"
    yield Found(verdict, text.format(files + more), way_out, tuple(fact.path for _, fact in found))


def _paths_in(hooks: str) -> Iterator[str]:
    """What they name, as far as that can be told: in quotes or not, after a host's name or an option's."""
    for line in hooks.splitlines():
        try:
            words = shlex.split(line)
        except ValueError:  # a quotation mark that is alone, as in a comment
            words = line.split()
        for word in words:
            yield from re.findall(r"/[^\"':;]+", word)


def _is_program(fact: FileFact) -> bool:
    """Or a library: a package may bring it."""
    is_executable = stat.S_ISREG(fact.mode) and fact.mode & 0o111
    return fact.use == "exe" or bool(is_executable) or bool(re.search(r"\.so(\.|$)", Path(fact.path).name))


def _is_in(path: str, directories: Iterable[str]) -> bool:
    return any(path == directory or path.startswith(directory.rstrip("/") + "/") for directory in directories)


@check(
    "missing-files",
    why="criu restore opens each by its name.",
    way_out=f"{COPIED}; or, of programs and libraries, install the same packages there",
)
def missing_files(arrival: Arrival) -> Iterator[Found]:
    """files and directories that the task has open or mapped, its programs and current directories, by their names"""
    yield from _told(arrival, "missing", "not there: {}", COPIED)


@check(
    "differing-files",
    why="criu compares size and mode only: a library of another build with the same size restores into a crash, a data "
    "file into wrong data. What is opened write-only to append (a log) may differ.",
    way_out=f"{COPIED_FROZEN}; of programs and libraries, install the same packages there",
)
def differing_files(arrival: Arrival) -> Iterator[Found]:
    """the same files' type, size and mode, and samples of their content"""
    yield from _told(arrival, "differs", "not the same there: {}", COPIED_FROZEN)


@check(
    "shared-files",
    why="What a task writes into a shared mapping is in the file, and criu takes no copy of it: a file of the same "
    "size at the destination has other content, and the task is wrong there without a word.",
    way_out="keep the file on storage that both hosts mount (NFS, Ceph, ...), or copy it when the task is frozen: "
    "hooks.after_dump: [{run: [rsync, -a, FILE, 'HOST:FILE']}]",
)
def shared_files(arrival: Arrival) -> Iterator[Found]:
    """files mapped MAP_SHARED and writable (as in /dev/shm and /tmp) on a file system that only this host has"""
    yield from _told(arrival, "stale", "mapped shared, and on a file system of this host alone: {}")


# ---- at the source ----


@check(
    "deleted-files",
    why="The content of a deleted file that is open or mapped goes into the images, up to criu's ghost limit of 1 MiB; "
    "one that still has another name can't go at all. Packages that were upgraded leave such libraries.",
    way_out="restart the task if a package was upgraded",
)
def deleted_files(leaving: Leaving) -> Iterator[Found]:
    """deleted files that are open or mapped, their sizes and link counts"""
    limit = parse_size(leaving.dump_value("ghost-limit") or "") or GHOST_LIMIT_BYTES
    too_large: dict[str, int] = {}
    linked: list[str] = []
    for path, link in _deleted(leaving.task.processes if leaving.task else []):
        with contextlib.suppress(OSError):
            found = link.stat()
            if not stat.S_ISREG(found.st_mode):
                continue
            if found.st_nlink:
                linked.append(path)
            elif found.st_blocks * 512 > limit:
                too_large[path] = found.st_blocks * 512
    if too_large:
        files = ", ".join(f"{path} ({size / 1e6:.1f} MB)" for path, size in list(too_large.items())[:SHOWN])
        needed = -(-max(too_large.values()) >> 20)
        way_out = f"criu.dump_options: [--ghost-limit, {needed + 1}M]; or restart the task if a package was upgraded"
        yield fail(f"deleted, still in use, and above criu's ghost limit of {limit >> 10} KiB: {files}", way_out)
    if linked and not (leaving.profile and leaving.profile.criu.link_remap):
        way_out = "criu.link_remap: true helps where both hosts mount that file system; else have the task reopen it"
        yield fail(
            f"the name by which it was opened is gone, another one is left: {', '.join(linked[:SHOWN])}", way_out
        )


def _deleted(processes: Iterable[Process]) -> Iterator[tuple[str, Path]]:
    """Names (without the kernel's mark) of deleted files, and where each can still be reached."""
    seen: set[str] = set()
    for process in processes:
        maps = Path(f"/proc/{process.pid}/map_files")
        named = [(item.path, maps / f"{item.start:x}-{item.end:x}") for item in process.mappings]
        named += [(item.target, item.link) for item in process.descriptors]
        for path, link in named:
            if path.endswith(DELETED) and path not in seen and not path.startswith((*NO_FILES, "/dev/pts/")):
                seen.add(path)
                if path.startswith("/"):
                    yield path.removesuffix(DELETED), link


@check(
    "file-locks",
    why="criu dumps a task that holds locks only when told to: another process may wait for them.",
    way_out="criu.file_locks: true",
)
def file_locks(leaving: Leaving) -> Iterator[Found]:
    """flock(), fcntl() locks and leases that the task holds"""
    if leaving.task is None or "--file-locks" in leaving.dump_flags():
        return
    for descriptor in leaving.task.descriptors():
        is_file = descriptor.target.startswith("/") and not descriptor.target.startswith(("/dev/", "/proc/", "/sys/"))
        if is_file and "lock" in descriptor.info():
            yield fail(f"process {descriptor.process} holds a lock on {descriptor.target.removesuffix(DELETED)}")
            return
