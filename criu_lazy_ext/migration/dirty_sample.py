"""How fast a running task changes its memory: a random sample of its pages, looked at from outside now and again."""

from __future__ import annotations

import contextlib
import os
import random
import re
import threading
from bisect import bisect_right
from itertools import accumulate
from pathlib import Path

from criu_lazy_ext.sizes import PAGE_BYTES
from criu_lazy_ext.system.processes import tree

SAMPLED_PAGES = 1024
FEWEST_PAGES = 256  # fewer tell nothing
TRIES = 16  # for each page: most of what is mapped may be empty
# What precopy_scan.c reads: private, readable, no file's.
_MAPPING = re.compile(r"([0-9a-f]+)-([0-9a-f]+) r..p \S+ \S+ 0 *(?:\[(?:heap|stack|anon:).*)?$", re.MULTILINE)
_PRESENT, _SWAPPED, _FILE = 1 << 63, 1 << 62, 1 << 61


class DirtySample:
    """Random pages of a task and all below it, as they were at the beginning. To be closed."""

    def __init__(self, tree_pid: int) -> None:
        """Look at them now. Whatever can't be read is left out."""
        self._lock = threading.Lock()  # it is closed while another thread looks
        self._memories: dict[int, int] = {}
        self._pages: list[tuple[int, int, bytes]] = []  # process, address, content
        ranges: list[tuple[int, int, int]] = []  # process, first and last address
        for pid in tree(tree_pid).values():
            with contextlib.suppress(OSError):  # it has ended
                maps = Path(f"/proc/{pid}/maps").read_text(errors="replace")
                self._memories[pid] = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
                ranges += [(pid, int(first, 16), int(end, 16)) for first, end in _MAPPING.findall(maps)]
        if ranges:
            self._choose(ranges)

    @property
    def size(self) -> int:
        """How many pages there are."""
        return len(self._pages)

    def changed(self) -> float | None:
        """Which share of them differs from what it was at the beginning; None if there are too few."""
        with self._lock:
            if self.size < FEWEST_PAGES:
                return None
            return sum(self._read(pid, address) != content for pid, address, content in self._pages) / self.size

    def close(self) -> None:
        """Let go of the task."""
        with self._lock:
            for fd in self._memories.values():
                os.close(fd)
            self._memories = {}
            self._pages = []

    def _choose(self, ranges: list[tuple[int, int, int]]) -> None:
        ends = list(accumulate((end - first) // PAGE_BYTES for _, first, end in ranges))
        pagemaps: dict[int, int] = {}
        try:
            for pid in self._memories:
                with contextlib.suppress(OSError):
                    pagemaps[pid] = os.open(f"/proc/{pid}/pagemap", os.O_RDONLY | os.O_CLOEXEC)
            for number in random.sample(range(ends[-1]), min(ends[-1], SAMPLED_PAGES * TRIES)):
                at = bisect_right(ends, number)
                pid, first, _ = ranges[at]
                page = first // PAGE_BYTES + number - (ends[at - 1] if at else 0)
                if pid in pagemaps and _is_anonymous(pagemaps[pid], page):
                    content = self._read(pid, page * PAGE_BYTES)
                    if content:
                        self._pages.append((pid, page * PAGE_BYTES, content))
                if self.size == SAMPLED_PAGES:
                    break
        finally:
            for fd in pagemaps.values():
                os.close(fd)

    def _read(self, pid: int, address: int) -> bytes:
        """A page's content; nothing if it isn't there any more."""
        try:
            return os.pread(self._memories[pid], PAGE_BYTES, address)
        except OSError:
            return b""


def _is_anonymous(pagemap: int, page: int) -> bool:
    try:
        entry = int.from_bytes(os.pread(pagemap, 8, page * 8), "little")
    except OSError:
        return False
    return bool(entry & (_PRESENT | _SWAPPED)) and not entry & _FILE
