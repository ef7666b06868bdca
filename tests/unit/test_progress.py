"""Progress, and what /proc says: what others do to them ends no migration."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import pytest
from rich.console import Console

from criu_lazy_ext.migration import on_record
from criu_lazy_ext.migration.display import Display, JsonLines, Lines
from criu_lazy_ext.migration.figures import Figures, duration_as_text
from criu_lazy_ext.migration.progress import Progress
from criu_lazy_ext.migration.state import State
from criu_lazy_ext.migration.terminal_panel import Panel, panel
from criu_lazy_ext.system import live_state
from criu_lazy_ext.system.processes import start_time, tree


@pytest.mark.parametrize("make", [Lines, JsonLines, lambda stream: Panel(stream, "m1")])
def test_nobody_reads_the_progress_any_more(make: Callable[[TextIO], Display]) -> None:
    read, write = os.pipe()
    os.close(read)
    stream = os.fdopen(write, "w")
    progress = Progress(make(stream))
    progress.phase("preflight")
    progress.tell()
    progress.end()
    with contextlib.suppress(BrokenPipeError):
        stream.close()


def test_the_panel_tells_of_a_roll_back_until_the_task_runs_here() -> None:
    def shown() -> str:
        console = Console(file=io.StringIO(), width=120)
        with console.capture() as capture:
            console.print(panel("m1", figures))
        return capture.get()

    figures = Figures()
    figures.state, figures.frozen_at, figures.ending = State.SERVING, figures.start, "rolling back"
    assert "m1  rolling back  " in shown() and "so far" in shown()
    figures.state = State.ROLLED_BACK
    assert "m1  rolled-back  " in shown() and "downtime" not in shown()


def shown(figures: Figures, width: int = 120) -> str:
    """The panel, as lines."""
    console = Console(file=io.StringIO(), width=width)
    with console.capture() as capture:
        console.print(panel("m1", figures))
    return capture.get()


def test_a_round_tells_how_long_it_still_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    stream = io.StringIO()
    lines, figures = Lines(stream), Figures()
    figures.state, figures.round_began = State.PRE_COPY, 100.0
    lines.refresh(figures)
    assert "pre-copy  round 1, 0% read \n" in re.sub(" +\n", " \n", shown(figures))
    now, figures.round_read = 130.0, 0.2
    assert "pre-copy  round 1, 20% read, about 2 min 0 s left of it" in shown(figures)
    lines.refresh(figures)
    lines.refresh(figures)
    assert stream.getvalue() == "[ 30.000] pre-copy, round 1, 20% read, about 2 min 0 s left of it\n", "also in lines"
    figures.round_over(391_000_000, 8.0)
    assert "pre-copy  round 2, 0% read; 391 MB sent in 1 round before" in shown(figures)
    figures.state = State.DUMPING
    assert "pre-copy  391 MB sent in 1 round" in shown(figures)


class Clock:
    """What the time is."""

    now = 100.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("time.monotonic", lambda: made.now)
    return made


def running(clock: Clock) -> Figures:
    """Of a restored task, whose counters came a second ago for the first time."""
    figures = Figures()
    figures.state, figures.downtime_s = State.RUNNING, 0.1
    figures.take_stats(counters())
    clock.now += 1
    return figures


def test_the_panel_says_so_when_nothing_comes(clock: Clock) -> None:
    figures = running(clock)
    waiting = counters(remaining_pages=600, received_bytes=819200, waiting_faults=1)
    figures.take_stats(waiting)
    assert re.search(r"link +1 MB/s, most so far 1 ", shown(figures))
    clock.now = 106.0
    figures.take_stats(waiting)
    assert re.search(r"link +nothing has come for 5 s ", shown(figures))
    assert re.search(r"faults +0/s, 1 waiting now ", shown(figures))
    clock.now = 110.0
    figures.take_sent(819200)
    assert re.search(r"link +the page server could send nothing for 9 s ", shown(figures))
    assert "1 waited for pages then" in shown(figures) and "MB missing" not in shown(figures)
    clock.now = 111.0
    figures.take_sent(2_819_200)
    assert re.search(r"link +2 MB/s", shown(figures))


def test_a_narrow_terminal_keeps_the_names_of_the_figures() -> None:
    figures = Figures()
    figures.state, figures.downtime_s = State.RUNNING, 0.1
    figures.take_stats(counters(fault_wait_us=[9] * 80, fault_wait_max_us=10**6))
    told = shown(figures, 40)
    assert all(f"\n{name}  " in told for name in ("downtime", "memory  ", "link    ", "faults  ")) and "…" not in told


def test_durations_are_told_as_people_do() -> None:
    assert [duration_as_text(seconds) for seconds in (0.04, 59.9, 90, 3599.7, 5400)] == [
        "0.0 s", "59.9 s", "1 min 30 s", "1 h 0 min", "1 h 30 min"
    ]  # fmt: skip


def test_the_run_file_is_written_while_nothing_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("criu_lazy_ext.migration.progress.REFRESH_S", 0.01)
    monkeypatch.setattr("criu_lazy_ext.migration.progress.RUN_KEPT_EVERY_S", 0.05)
    written: list[None] = []

    def write() -> None:
        written.append(None)
        raise OSError("the disk is full")

    progress = Progress()
    progress.write_run = write
    with pytest.raises(TimeoutError):
        asyncio.run(asyncio.wait_for(progress.keep_fresh(), 0.5))
    assert 2 < len(written) < 12, "again and again, and not each time"


def counters(**changed: Any) -> dict[str, Any]:
    pages = {"total_pages": 1000, "remaining_pages": 1000, "received_bytes": 0}
    faults = {"demand_faults": 0, "merged_faults": 0, "fault_wait_us": [0] * 80, "fault_wait_max_us": 0}
    return pages | faults | changed


def test_the_figures_are_of_the_last_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    figures = Figures()
    figures.state = State.RUNNING
    figures.frozen_at = 100.0
    now = 100.25
    assert figures.downtime_so_far_s == 0.25
    figures.downtime_s = 0.3
    figures.take_stats(counters())
    assert figures.seconds_left is None and figures.rate == 0 and figures.fault_waits_us() == {}
    now = 101.25
    # Pages that shrink on the wire: what is left goes by pages.
    waits = [0] * 40 + [4] + [0] * 39
    changed = counters(remaining_pages=600, received_bytes=819200, demand_faults=4, fault_wait_us=waits)
    figures.take_stats(changed | {"fault_wait_max_us": 1000})
    assert figures.rate == figures.best_rate == 819200 and figures.seconds_left == 1.5 and figures.fault_rate == 4
    assert figures.fault_waits_us() == {"p50": 1000.0, "p99": 1000.0, "max": 1000.0}
    assert figures.as_text() == ("running, 2/4 MB (40 %), 1 MB/s, 4 faults/s, about 1.5 s left, downtime 300 ms")
    now = 104.0
    figures.take_stats(changed)
    assert figures.rate == 0 and figures.seconds_left is None and figures.best_rate == 819200


def test_figures_that_nobody_brings_any_more_are_not_told_as_of_now(clock: Clock) -> None:
    """The link was cut, and the page server, not the lost agent, had the last word."""
    figures = running(clock)
    figures.take_stats(counters(remaining_pages=600, received_bytes=819200))
    assert figures.rate == 819200 and figures.seconds_left == 1.5
    clock.now = 110.0
    assert figures.as_text() == "running, 2/4 MB (40 %), 0 MB/s, 0 faults/s, downtime 100 ms"
    figures.take_sent(900_000)
    clock.now = 111.0
    figures.take_sent(2_900_000)
    text = "2/4 MB (40 %) when it was last heard of, 10 s ago"
    assert figures.as_text() == f"running, {text}, 2 MB/s, 0 faults/s, downtime 100 ms"
    assert figures.seconds_left is None and figures.as_json()["heard_s"] == 1
    figures.state = State.DRAINED
    assert figures.memory_as_text() == "4/4 MB (100 %)"


def test_what_a_killed_task_lacked_stays_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another of its tasks may wait for more."""
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    figures = Figures()
    figures.state, figures.downtime_s = State.RUNNING, 0.1
    figures.take_stats(counters(remaining_pages=500))
    now = 101.0
    figures.take_stats(counters(remaining_pages=100, lost_pages=300))
    assert figures.memory_as_text() == "2/4 MB (60 %)" and figures.seconds_left == 0.25
    figures.take_stats(counters(remaining_pages=0, lost_pages=300))
    assert figures.memory_as_text() == "3/4 MB (70 %)" and figures.seconds_left is None


def test_a_processes_name_need_not_be_utf_8() -> None:
    script = "import sys; open('/proc/self/comm', 'wb').write(b'caf\\xc3'); print(flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", script], stdin=-1, stdout=-1) as named:
        assert named.stdout is not None
        named.stdout.readline()
        assert start_time(named.pid) is not None
        assert tree(named.pid) == {named.pid: named.pid}
        named.communicate()


def test_the_time_left_goes_by_pages_at_either_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of four pages of five the store has the content: few bytes come."""
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    live = live_state.LiveState(tmp_path)
    live.note(processes=[[os.getpid(), start_time(os.getpid())]], state="running", peer="src")
    for remaining, received in ((3000, 0), (2000, 200 * 4096)):
        now += 1.0
        live.note_stats({"total_pages": 4000, "remaining_pages": remaining, "received_bytes": received})
    listed = on_record.arriving(tmp_path, live_state.read(tmp_path))
    assert listed.rate == 200 * 4096 and listed.seconds_left == 2.0
