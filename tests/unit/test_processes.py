"""What is seen of other processes in /proc."""

from __future__ import annotations

import subprocess
import sys

from lazy_source import eventually

from criu_lazy_ext.system.processes import status, threads_at_page_starts


def test_a_thread_that_runs_tells_nothing_of_its_stack_pointer() -> None:
    """On a busy machine one that sleeps at a page's start is often seen on its way to sleep."""
    with subprocess.Popen([sys.executable, "-c", "print(flush=True)\nwhile True: pass"], stdout=-1) as busy:
        try:
            assert busy.stdout is not None
            busy.stdout.readline()
            assert threads_at_page_starts(busy.pid) == []
            assert threads_at_page_starts(busy.pid, [busy.pid]) == [busy.pid]
        finally:
            busy.kill()


def test_a_thread_that_sleeps_elsewhere_has_left_a_page_start() -> None:
    """One of 256 sleeps at a page's start by chance; not four in a row."""

    def has_left() -> bool:
        with subprocess.Popen(["sleep", "1000"]) as asleep:
            try:
                eventually(lambda: status(asleep.pid).state == "S", "it sleeps")
                return threads_at_page_starts(asleep.pid, [asleep.pid]) == []
            finally:
                asleep.kill()

    assert any(has_left() for _ in range(4))
