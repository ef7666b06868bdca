"""What is seen of other processes in /proc."""

from __future__ import annotations

import json
import subprocess
import sys
import time

from lazy_source import eventually

from criu_lazy_ext.system.processes import status, threads_at_page_starts

# An agent is processes of one command line, each below the one before.
AGENT = """
import json, os
from criu_lazy_ext.system.processes import others_with
if os.fork():
    os.wait()
else:
    print(json.dumps([others_with("agent"), [os.getpid(), os.getppid()]]))
"""


def test_an_agent_sees_other_agents_and_not_itself() -> None:
    before = time.time()
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", "agent"]) as other:
        try:
            told = subprocess.run([sys.executable, "-c", AGENT, "agent"], stdout=-1, text=True, check=True).stdout
        finally:
            other.kill()
    others, own = json.loads(told)
    assert before - 0.1 < others[str(other.pid)] < time.time() + 0.1
    assert not set(map(str, own)) & set(others)


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
