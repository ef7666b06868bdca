"""A sample of a running task's pages."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from criu_lazy_ext.migration.dirty_sample import FEWEST_PAGES, SAMPLED_PAGES, DirtySample

# Fills its memory; then, for each number N read, writes the first N pages again.
TASK = """
import mmap, os, sys
memory = mmap.mmap(-1, int(sys.argv[1]) * 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
reserved = mmap.mmap(-1, 64 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
def write(pages, value):
    for page in range(pages):
        memory[page * 4096 : page * 4096 + 8] = value.to_bytes(8, "little")
write(int(sys.argv[1]), 1)
value = 1
print("ready", flush=True)
for line in sys.stdin:
    value += 1
    write(int(line), value)
    print("done", flush=True)
"""
PAGES = 16384


@pytest.fixture
def task() -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", TASK, str(PAGES)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        yield process
        process.kill()


def write(task: subprocess.Popen[str], pages: int) -> None:
    assert task.stdin is not None and task.stdout is not None
    task.stdin.write(f"{pages}\n")
    task.stdin.flush()
    assert task.stdout.readline() == "done\n"


def test_it_tells_what_has_changed(task: subprocess.Popen[str]) -> None:
    sample = DirtySample(task.pid)
    assert sample.size == SAMPLED_PAGES
    unchanged = sample.changed()
    assert unchanged is not None and unchanged < 0.05
    write(task, PAGES // 2)
    half = sample.changed()
    assert half is not None and 0.3 < half < 0.6
    write(task, PAGES)
    everything = sample.changed()
    assert everything is not None and everything > 0.7
    sample.close()
    assert sample.changed() is None


def test_memory_that_is_gone_has_changed(task: subprocess.Popen[str]) -> None:
    sample = DirtySample(task.pid)
    task.kill()
    task.wait()
    assert sample.changed() == 1.0
    sample.close()


def test_too_few_pages_tell_nothing() -> None:
    with subprocess.Popen(["sleep", "100"]) as process:
        try:
            sample = DirtySample(process.pid)
            assert sample.size < FEWEST_PAGES
            assert sample.changed() is None
            sample.close()
            assert DirtySample(1 << 30).changed() is None
        finally:
            process.kill()

