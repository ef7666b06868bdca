"""The protocol as a model (model/migration.pml): every order of steps and deaths, by spin's exhaustive search."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from paths import MODEL

pytestmark = pytest.mark.skipif(shutil.which("spin") is None, reason="spin isn't there (make test installs it)")
FAULTS = int(os.environ.get("CRIU_LAZY_MODEL_FAULTS", "2"))  # 3: two minutes and 1 GB

# What each order of steps that we had, or could have had, does wrong: with a single fault.
FAULTY = {
    "OLD_CHECK_BEFORE_AWAIT": "two_run",
    "OLD_FULL_DISK_IS_UNDECIDED": "untrue_word",
    "OLD_DEATH_IS_DRAINED": "lost_by_us",
    "OLD_STATUS_BY_ABSENCE": "untrue_status",
    "NO_DURABLE_ALLOWED": "untrue_status",
    "NO_FENCE": "two_run",
    "NO_LOOK": "untrue_word",
    "NO_COMMITTING": "untrue_status",
}
# These hurt several properties: which one first is the search's choice.
FAULTY_IN_SEVERAL_WAYS = ("NO_BYTE_AHEAD", "LATE_BYTE", "KILLS_WHAT_IS_STOPPED")


def search(directory: Path, faults: int, *defines: str) -> str:
    """What the verifier prints."""
    macros = [f"-D{define}" for define in (f"FAULTS={faults}", *defines)]
    subprocess.run(["spin", "-a", *macros, str(MODEL)], cwd=directory, check=True, capture_output=True)
    # Unoptimised: the compiler would be at it for longer than that saves.
    subprocess.run(["cc", "-DSAFETY", "-DMEMLIM=6000", "-o", "pan", "pan.c"], cwd=directory, check=True)
    return subprocess.run(["./pan", "-n", "-m100000"], cwd=directory, check=True, capture_output=True, text=True).stdout


def violated(said: str) -> str:
    """The property that does not hold, or ""."""
    found = re.search(r"pan:1: (?:assertion violated +!\((\w+)\)|(.*?) \(at depth)", said)
    return (found[1] or found[2]) if found else ""


def test_no_order_of_steps_and_deaths_loses_a_task_or_lies(tmp_path: Path) -> None:
    said = search(tmp_path, FAULTS)
    assert violated(said) == ""
    assert "errors: 0" in said and "Search not completed" not in said and "max search depth too small" not in said
    states = re.search(r"(\d+) states, stored", said)
    assert states is not None and int(states[1]) > 100_000, "it got to the interesting parts"


@pytest.mark.parametrize("order", FAULTY)
def test_a_faulty_order_of_steps_is_found(tmp_path: Path, order: str) -> None:
    assert violated(search(tmp_path, 1, order)) == FAULTY[order]


def test_a_fence_that_is_put_up_twice_is_found(tmp_path: Path) -> None:
    assert violated(search(tmp_path, 2, "OLD_SECOND_FENCE")) == "two_run"


@pytest.mark.parametrize("order", FAULTY_IN_SEVERAL_WAYS)
def test_an_order_of_steps_that_is_faulty_in_several_ways_is_found(tmp_path: Path, order: str) -> None:
    assert violated(search(tmp_path, 2, order)) in ("lost_by_us", "untrue_status", "no_way_out")
