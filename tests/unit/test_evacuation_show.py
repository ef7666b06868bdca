"""What an evacuation shows: each reason once for each item."""

from __future__ import annotations

import io
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from criu_lazy_ext.evacuation.record import MOVING, Item, Record
from criu_lazy_ext.evacuation.schedule import Phase
from criu_lazy_ext.evacuation.show import JsonLines, Show, line_of, report_text, table
from criu_lazy_ext.migration.figures import Figures
from criu_lazy_ext.migration.progress import Progress
from criu_lazy_ext.migration.state import State

REASON = "dst: criu restore failed: status 1"


@pytest.mark.parametrize("quiet", [False, True])
def test_of_a_message_what_was_not_told_before_is_told(quiet: bool) -> None:
    stream = io.StringIO()
    show = Show(stream, quiet=quiet)
    show.step("a", f"rolling back: {REASON}", "info", Figures())
    show.end_of("a", "dst", f"{REASON}; it runs on; next: other", "warning")
    show.end_of("b", "failed", REASON, "warning")
    item = Item("a", 1, 1, None, 0, [], state="failed", message=f"dst: {REASON}; it runs on; other: it is full")
    told = [line.partition("] ")[2] for line in stream.getvalue().splitlines()]
    lines = [f"a: rolling back: {REASON}", "warning: a: dst: it runs on; next: other", f"warning: b: failed: {REASON}"]
    assert told == ([] if quiet else lines)
    rest = item.message if quiet else "other: it is full"
    assert line_of(item, show.untold("a", item.message), 1) == f"a  failed: {rest}"


def test_what_waits_for_a_decision_is_told_whole_at_the_end(tmp_path: Path) -> None:
    items = [Item(name, 1, 1, None, 0, [], state=name, message=REASON) for name in ("undecided", "failed")]
    record = Record(tmp_path, str(tmp_path / "plan.yaml"), items)
    first, second, _ = report_text(record, lambda name, message: "").splitlines()
    assert first == f"undecided  undecided: {REASON}" and second == "failed     failed"


def test_programs_get_each_message_whole() -> None:
    stream = io.StringIO()
    show = JsonLines(stream)
    for _ in range(2):
        show.end_of("a", "failed", REASON, "warning")
    assert stream.getvalue().count(REASON) == 2


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_tells_how_far_a_round_is_in_whole_words(width: int) -> None:
    items = [Item(name, 1, 1, None, 9**9, [], state=MOVING, place="dst") for name in ("web", "orders")]
    progress = {item.name: Progress() for item in items}
    progress["web"].figures.state, progress["web"].figures.round_read = State.PRE_COPY, 0.4
    following = progress["orders"].figures
    following.state, following.stats = State.RUNNING, {"total_pages": 50000, "remaining_pages": 12500}
    movers = {
        name: SimpleNamespace(progress=each, member=SimpleNamespace(phase=Phase.ROUNDS))
        for name, each in progress.items()
    }
    record = SimpleNamespace(items=items)
    evacuation: Any = SimpleNamespace(order=items, record=record, movers=movers, start=time.monotonic(), stopped="")
    console = Console(file=io.StringIO(), width=width)
    with console.capture() as capture:
        console.print(table(evacuation, dict.fromkeys(progress, "strategy: pre-copy while the task runs"), width))
    told = capture.get()
    for words in ("pre-copy 1, 40%", "154/205 MB (75 %)", "downtime", "621 MB left"):
        assert words in told, told
    assert "MB/s, " not in told, "how much a round sends is not known"
    assert ("strategy: pre-copy" in told) == (width == 120)
