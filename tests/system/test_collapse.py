"""Memory that was in huge pages is in huge pages again after its last page came, unless that is switched off."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator

import pytest
from paths import SUPPORT

from bench.handmade import ByHand, lazy_migrate_by_hand
from criu_lazy_ext.destination.collapse import _huge_page_bytes, _is_complete, _is_registered, _policy
from testbed import Testbed
from testbed.host import Host

TASK_C = SUPPORT / "huge_task.c"
HERE = "/tmp/huge"
MEGABYTES = int(os.environ.get("HUGE_TASK_MEGABYTES", "64"))  # more, to measure
DAEMON = "criu-lazy lazy-pages"


def in_huge_pages(host: Host, pid: int) -> float:
    """MiB of a task's memory."""
    rollup = (host.root / f"proc/{pid}/smaps_rollup").read_text()
    found = re.search(r"^AnonHugePages:\s*(\d+) kB", rollup, re.MULTILINE)
    assert found
    return int(found[1]) / 1024


def ask(host: Host) -> tuple[str, float, int]:
    """The task's verdict on its memory, ns per random access, its longest pause in us since it was last asked."""
    answer = host.root / f"{HERE[1:]}/answer"
    answer.unlink(missing_ok=True)
    (host.root / f"{HERE[1:]}/ask").touch()
    assert within(20, answer.exists), "the task doesn't answer"
    verdict, nanoseconds, pause = answer.read_text().split()
    return verdict, float(nanoseconds), int(pause)


def within(seconds: float, condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def daemons(host: Host) -> str:
    return host.run(["pgrep", "-f", DAEMON], check=False).stdout


@pytest.fixture
def huge_task(testbed: Testbed) -> Iterator[int]:
    """A task on src that has its memory in huge pages; its pid, there and later on dst."""
    if _policy() == "never":
        pytest.skip("this machine's policy gives no huge pages")
    testbed.link.set(rate_mbit=1000)
    program = f"{HERE}/huge_task"
    testbed.src.write(f"{HERE}/huge_task.c", TASK_C.read_text())
    testbed.src.run(["cc", "-O2", "-o", program, f"{HERE}/huge_task.c"])
    testbed.dst.write(program, (testbed.src.root / program[1:]).read_bytes(), mode=0o755)
    pid = testbed.src.start(["sh", "-c", f"cd {HERE} && exec ./huge_task {MEGABYTES}"])
    try:
        assert within(20, (testbed.src.root / f"{HERE[1:]}/info").exists)
        yield pid
    finally:
        for host in (testbed.src, testbed.dst):
            host.run(["pkill", "-KILL", "-x", "huge_task"], check=False)
            host.run(["rm", "-rf", HERE])
        testbed.link.set(rate_mbit=None)


def test_huge_pages_come_back_after_the_last_page(testbed: Testbed, huge_task: int) -> None:
    before = in_huge_pages(testbed.src, huge_task)
    if before < 0.9 * MEGABYTES:
        pytest.skip("this machine has no free huge pages")
    _, at_source, _ = ask(testbed.src)
    lazy_migrate_by_hand(testbed, huge_task)
    assert within(30, lambda: in_huge_pages(testbed.dst, huge_task) >= 0.9 * before)
    assert within(30, lambda: daemons(testbed.dst) == ""), "the process that gives them back doesn't end"
    verdict, restored, pause = ask(testbed.dst)
    assert verdict == "right"
    _, again, _ = ask(testbed.dst)
    print(f"ns per access: source {at_source}, after {restored}, again {again}; longest pause {pause} us")


def test_without_it_memory_stays_in_small_pages(testbed: Testbed, huge_task: int) -> None:
    lazy_migrate_by_hand(testbed, huge_task, ByHand(daemon_options=["--no-collapse"]))
    assert daemons(testbed.dst) == ""
    assert in_huge_pages(testbed.dst, huge_task) < 0.2 * MEGABYTES  # khugepaged joins a few in its own time
    verdict, nanoseconds, _ = ask(testbed.dst)
    assert verdict == "right"
    verdict, nanoseconds, pause = ask(testbed.dst)
    print(f"ns per access: {nanoseconds}; longest pause with nothing going on {pause} us")


def test_it_ends_when_the_task_does(testbed: Testbed, huge_task: int) -> None:
    lazy_migrate_by_hand(testbed, huge_task)
    testbed.dst.run(["kill", "-KILL", str(huge_task)])
    assert within(10, lambda: daemons(testbed.dst) == "")


def test_only_complete_ranges_of_the_tasks_own_memory_are_touched() -> None:
    import mmap

    size = _huge_page_bytes() or 2 << 20
    memory = mmap.mmap(-1, 2 * size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    shared = mmap.mmap(-1, 2 * size, mmap.MAP_SHARED | mmap.MAP_ANONYMOUS)
    import ctypes

    address, of_shared = (ctypes.addressof(ctypes.c_char.from_buffer(what)) for what in (memory, shared))
    fd = os.open("/proc/self/pagemap", os.O_RDONLY)
    try:
        memory[:size] = b"x" * size
        shared[:size] = b"x" * size
        assert _is_complete(fd, address, size)
        assert not _is_complete(fd, of_shared, size)
        memory.madvise(mmap.MADV_DONTNEED, mmap.PAGESIZE, mmap.PAGESIZE)
        assert _is_complete(fd, address, size) is False
    finally:
        os.close(fd)


def test_a_task_is_known_by_what_is_registered_in_its_memory() -> None:
    smaps = """\
00400000-00800000 rw-p 00000000 00:00 0
Size:               4096 kB
VmFlags: rd wr mr mw me ac sd
00800000-01000000 rw-p 00000000 00:00 0 [heap]
Size:               8192 kB
VmFlags: rd wr mr mw me ac um sd hg
"""
    assert _is_registered(smaps, [(0x00A00000, 0x00C00000)])
    assert not _is_registered(smaps, [(0x00400000, 0x00800000)])
    assert not _is_registered(smaps, [(0x01000000, 0x01200000)])
