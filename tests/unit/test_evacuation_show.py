"""What an evacuation shows: each reason once for each item."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from criu_lazy_ext.evacuation.record import Item, Record
from criu_lazy_ext.evacuation.show import JsonLines, Show, line_of, report_text
from criu_lazy_ext.migration.figures import Figures

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
