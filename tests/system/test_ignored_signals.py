"""`make test &` in a script: SIGINT is ignored then, and whatever a test starts must not inherit that."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from paths import SUPPORT

from testbed import Testbed

SIGNALS = (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)


@pytest.fixture
def ignoring() -> Iterator[None]:
    """This process ignores them all."""
    before = [signal.signal(number, signal.SIG_IGN) for number in SIGNALS]
    yield
    for number, handler in zip(SIGNALS, before, strict=True):
        signal.signal(number, handler)


def ignored(status: str) -> set[signal.Signals]:
    """Those of SIGNALS that a /proc/PID/status says are ignored."""
    (line,) = [line for line in status.splitlines() if line.startswith("SigIgn:")]
    mask = int(line.split()[1], 16)
    return {number for number in SIGNALS if mask >> (number - 1) & 1}


def test_what_tests_start_hears_every_signal(ignoring: None) -> None:
    code = "import conftest, subprocess; conftest.let_children_hear_signals(); "
    code += "subprocess.run(['cat', '/proc/self/status'], check=True)"
    env = {**os.environ, "PYTHONPATH": ":".join(map(str, (SUPPORT, SUPPORT.parent)))}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert ignored(done.stdout) == set()


def test_what_runs_in_a_host_hears_every_signal(testbed: Testbed, ignoring: None) -> None:
    assert ignored(Path("/proc/self/status").read_text()) == set(SIGNALS)
    assert ignored(testbed.src.run(["cat", "/proc/self/status"]).stdout) == set()
