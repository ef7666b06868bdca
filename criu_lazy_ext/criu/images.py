"""CRIU's images, as far as a lazy restore needs them: the process tree and each task's VMAs.

The messages are pycriu's, found at run time. Pagemap images are not read here but by the engine. Of pycriu
only the modules of these messages are imported: they load in half the time of all of it, and that time is
downtime.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import struct
import sys
from array import array
from dataclasses import dataclass
from ipaddress import ip_address
from socket import AF_INET
from typing import TYPE_CHECKING, Any

from criu_lazy_ext.errors import CriuLazyError

if TYPE_CHECKING:
    from collections.abc import Iterator

# An image file starts with the magic number of its kind, most kinds with one of the common ones before it;
# then come entries: u32 length, message. All little-endian.
_COMMON_MAGICS = (0x54564319, 0x55105940)
_MAGIC = {
    "inventory": 0x58313116,
    "pstree": 0x50273030,
    "mm": 0x57492820,
    "core": 0x55053847,
    "fdinfo": 0x56303138,
}
_ENTRIES = {"fdinfo": "file_entry"}  # the messages that aren't named after their module
_TASK_STOPPED = 3  # of a core image: its task_state
_SUPPORTED_VERSIONS = (1, 2)
# Of a VMA: its status (criu's), mmap(2)'s flags, and madvise(2)'s advice as bit numbers.
_ANONYMOUS_PRIVATE = 1 << 9
_GUARD = 1 << 16
_MAP_HUGETLB = 0x40000
_MADV_HUGEPAGE, _MADV_NOHUGEPAGE, _MADV_WIPEONFORK = 14, 15, 18


Endpoint = tuple[str, int]  # address (IPv4's also where the socket is IPv6's), port


class ImageError(CriuLazyError):
    """An image is missing, damaged, or not understood."""


class PycriuMissing(CriuLazyError):
    """pycriu, or the protobuf package it needs, is not there; the message says how to get it."""

    def __init__(self, reason: str, os_release: str) -> None:
        super().__init__(f"{reason} ({sys.executable}): {how_to_get_pycriu(os_release)}")


# Its package criu carries pycriu, of a version that is of no use.
DEBIAN_12 = (
    "Debian 12 has CRIU 3.17, which is too old: upgrade this host to Debian 13, or build and install CRIU 4.1 or later "
    "here, with its Python modules"
)


def how_to_get_pycriu(os_release: str) -> str:
    """One line of advice for the distribution that `os_release` (the text of /etc/os-release) names."""
    fields = dict(line.partition("=")[::2] for line in os_release.splitlines())
    names = f"{fields.get('ID', '')} {fields.get('ID_LIKE', '')}".replace('"', "").split()
    if "debian" in names:
        if fields.get("ID") == "debian" and fields.get("VERSION_ID", "").strip('"') == "12":
            return DEBIAN_12
        return "apt install python3-pycriu, and run criu-lazy with /usr/bin/python3"
    return "install your distribution's package of CRIU's Python modules (pycriu), for this Python"


def endpoint(address: str | bytes, port: int) -> Endpoint:
    """One end of a connection; `address`: as text, or as it goes over the network."""
    if isinstance(address, str):
        address = address.partition("%")[0]
    found = ip_address(address)
    return str(getattr(found, "ipv4_mapped", None) or found), port


@dataclass(frozen=True)
class Connection:
    """A TCP connection that was dumped with its state."""

    inode: int
    ends: frozenset[Endpoint]
    reuse_address: bool  # SO_REUSEADDR


class Images:
    """A directory of images.

    Paths are opened relative to the directory's descriptor, which is borrowed. Every method raises ImageError
    for a file it can't read.
    """

    def __init__(self, directory_fd: int, directory: str) -> None:
        """`directory` names it in messages. Raises PycriuMissing."""
        self._fd = directory_fd
        self._directory = directory
        self._pstree_entry = _message("pstree")
        self._mm_entry = _message("mm")
        self._inventory_entry = _message("inventory")

    def check_inventory(self) -> None:
        """Make sure that this is a complete dump of a version that is understood."""
        for entry in self._entries("inventory.img", "inventory", self._inventory_entry):
            version = entry.img_version
            if version not in _SUPPORTED_VERSIONS:
                raise ImageError(f"{self._path('inventory.img')}: image version {version} is not supported")
            return
        raise ImageError(f"{self._path('inventory.img')} is empty: the dump did not finish")

    def run_id(self) -> str:
        """What the dump calls itself; its table in the packet filter is named after it. "" if the dump doesn't tell."""
        for entry in self._entries("inventory.img", "inventory", self._inventory_entry):
            return str(entry.dump_criu_run_id)
        return ""

    def connections(self) -> Iterator[Connection]:
        """The TCP connections that were dumped. Raises PycriuMissing, too."""
        for entry in self._entries("files.img", "fdinfo", _message("fdinfo")):
            socket = entry.isk
            if entry.HasField("isk") and self._exists(f"tcp-stream-{socket.ino:x}.img"):
                ends = ((socket.src_addr, socket.src_port), (socket.dst_addr, socket.dst_port))
                words = 1 if socket.family == AF_INET else 4
                yield Connection(
                    socket.ino,
                    frozenset(endpoint(struct.pack(f"={words}I", *address[:words]), port) for address, port in ends),
                    bool(socket.opts.reuseaddr),
                )

    def pids(self) -> list[int]:
        """Pids of all tasks, dead ones included, the root task first: as in the dumpee's pid namespace."""
        pids = [entry.pid for entry in self._entries("pstree.img", "pstree", self._pstree_entry)]
        if not pids or min(pids) <= 0 or len(set(pids)) != len(pids):
            raise ImageError(f"{self._path('pstree.img')} is damaged: its pids are {pids[:8]}")
        return pids

    def stopped(self) -> list[int]:
        """Those of `pids` that a signal had stopped before the dump."""
        core = _message("core")
        return [
            pid
            for pid in self.pids()
            if self._exists(f"core-{pid}.img")
            for entry in self._entries(f"core-{pid}.img", "core", core)
            if entry.tc.task_state == _TASK_STOPPED
        ]

    def vmas(self, pid: int) -> array[int] | None:
        """The VMAs of a task as struct cl_vma (start, end, wiped_on_fork, start..., u64, sorted); None for a dead task.

        Tasks never share an address space: criu refuses to dump such ones. Guard regions (MADV_GUARD_INSTALL), which
        criu >= 4.2 lists after the VMAs that they lie in, are left out: no pages are dumped there, and criu restore
        itself puts them back.
        """
        name = f"mm-{pid}.img"
        if not self._exists(name):
            if self._exists(f"pagemap-{pid}.img"):
                raise ImageError(f"{self._path(name)} is missing, but the task has a pagemap")
            return None
        entries = list(self._entries(name, "mm", self._mm_entry))
        if len(entries) != 1:
            raise ImageError(f"{self._path(name)} is damaged: {len(entries)} entries instead of one")
        mapped = [vma for vma in entries[0].vmas if not vma.status & _GUARD]
        bounds = [bound for vma in mapped for bound in (vma.start, vma.end)]
        if bounds != sorted(bounds):
            at = next(i for i in range(1, len(bounds)) if bounds[i] < bounds[i - 1])
            raise ImageError(f"{self._path(name)} is damaged: the VMAs are not in order at 0x{bounds[at]:x}")
        wiped = (vma.madv >> _MADV_WIPEONFORK & 1 for vma in mapped)
        vmas = zip(bounds[::2], bounds[1::2], wiped, strict=True)
        return array("Q", [value for vma in vmas for value in vma])

    def thp_vmas(self, pid: int, *, only_advised: bool) -> list[tuple[int, int]]:
        """The task's VMAs (start, end) that may have transparent huge pages: anonymous, private, not advised against.

        `only_advised`: those with MADV_HUGEPAGE alone. Empty for a dead task.
        """
        name = f"mm-{pid}.img"
        if not self._exists(name):
            return []
        return [
            (vma.start, vma.end)
            for entry in self._entries(name, "mm", self._mm_entry)
            for vma in entry.vmas
            if vma.status & _ANONYMOUS_PRIVATE
            and not vma.flags & _MAP_HUGETLB
            and not vma.madv & 1 << _MADV_NOHUGEPAGE
            and (vma.madv & 1 << _MADV_HUGEPAGE or not only_advised)
        ]

    def _entries(self, name: str, kind: str, message: Any) -> Iterator[Any]:
        content = memoryview(self._read(name))
        position = 4
        if len(content) >= 8 and struct.unpack_from("<I", content)[0] in _COMMON_MAGICS:
            position = 8
        if len(content) < position or struct.unpack_from("<I", content, position - 4)[0] != _MAGIC[kind]:
            raise ImageError(f"{self._path(name)} is no {kind} image, or damaged")
        while position < len(content):
            start = position + 4
            length = struct.unpack_from("<I", content, position)[0] if start <= len(content) else 0
            if start + length > len(content):
                raise ImageError(f"{self._path(name)} is cut short at {len(content)} bytes")
            try:
                entry = message.FromString(bytes(content[start : start + length]))
            except Exception as error:  # protobuf's DecodeError, which isn't imported for this alone
                raise ImageError(f"{self._path(name)} is damaged: {error}") from error
            yield entry
            position = start + length

    def _read(self, name: str) -> bytes:
        try:
            fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._fd)
            with os.fdopen(fd, "rb") as file:
                return file.read()
        except OSError as error:
            raise ImageError(f"can't read {self._path(name)}: {error.strerror}") from error

    def _exists(self, name: str) -> bool:
        return os.access(name, os.F_OK, dir_fd=self._fd)

    def _path(self, name: str) -> str:
        return f"{self._directory}/{name}"


def load_messages() -> None:
    """Load the messages of pycriu that a daemon needs, which takes some time. Raises PycriuMissing."""
    for kind in ("inventory", "pstree", "mm"):
        _message(kind)


def load_source_messages() -> None:
    """Load what `Images.stopped` and `Images.connections` need. Raises PycriuMissing."""
    _message("core")
    _message("fdinfo")


def _message(kind: str) -> Any:
    """pycriu's class of the `kind` message; raises PycriuMissing."""
    try:
        spec = importlib.util.find_spec("pycriu")
        if spec is None or not spec.submodule_search_locations:
            raise PycriuMissing("pycriu is not there for this Python", _os_release())
        # pycriu puts this on the path itself once it is imported: its message modules import each other so.
        modules = f"{spec.submodule_search_locations[0]}/images"
        if modules not in sys.path:
            sys.path.append(modules)
        return getattr(importlib.import_module(f"{kind}_pb2"), _ENTRIES.get(kind, f"{kind}_entry"))
    except PycriuMissing:
        raise
    except Exception as error:  # a TypeError: protobuf's word for modules generated by a protoc too old for it
        raise PycriuMissing(f"pycriu can't be loaded: {error}", _os_release()) from error


def _os_release() -> str:
    try:
        with os.fdopen(os.open("/etc/os-release", os.O_RDONLY | os.O_CLOEXEC), encoding="utf-8") as file:
            return file.read()
    except OSError:
        return ""
