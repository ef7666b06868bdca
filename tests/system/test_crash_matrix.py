"""A random part of the crash matrix (crash_matrix.py), another one at each run; whole by `make crash-matrix`.

CRIU_LAZY_SEED, which pytest's header tells, repeats one.
"""

from __future__ import annotations

import os
import random
import time

import pytest
from crash_cells import FAULTS, all_cells
from crash_matrix import run_all

SECONDS = 100.0
AT_LEAST = 10  # cells, however slow the machine is
TESTBEDS = 2


def test_every_fault_stands_for_cells_in_every_state() -> None:
    cells = all_cells()
    assert len(cells) == len(set(cells)) == len(FAULTS) * 9 * 2


def test_no_fault_loses_a_task_or_makes_the_last_word_untrue() -> None:
    if os.geteuid() != 0:
        pytest.skip("the testbed needs root")
    seed = os.environ["CRIU_LAZY_SEED"]
    cells = all_cells()
    random.Random(seed).shuffle(cells)
    rows = run_all(cells[: len(cells) // 3], TESTBEDS, until=time.monotonic() + SECONDS, at_least=AT_LEAST)
    assert len(rows) >= AT_LEAST
    wrong = {str(row.cell): row.wrong for row in rows if row.wrong}
    assert not wrong, f"CRIU_LAZY_SEED={seed}"
