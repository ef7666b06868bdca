"""The run file, and the page of it: bounded, and with the right figures."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from report_page import Page

from criu_lazy_ext.commands import report as command
from criu_lazy_ext.commands import status
from criu_lazy_ext.errors import CriuLazyError
from criu_lazy_ext.migration import run_file
from criu_lazy_ext.migration.figures import Figures
from criu_lazy_ext.migration.report import Report
from criu_lazy_ext.migration.run_file import COLUMNS, MAX_LINES, MAX_SAMPLES, Recorder
from criu_lazy_ext.run_report.page import page
from criu_lazy_ext.run_report.run import Run, octaves, rate
from criu_lazy_ext.run_report.svg import Axis, arrival_map, nice
from criu_lazy_ext.run_report.words import figures

STATS = dict.fromkeys(
    ("copied_pages", "zero_pages", "same_pages", "dropped_pages", "lost_pages", "demand_faults", "merged_faults"), 0
) | {"total_pages": 1000, "remaining_pages": 1000, "received_bytes": 0, "fault_wait_us": [0] * 64, "push_streams": 1}


def run_of(report: Report, recorder: Recorder | None = None, **stats: Any) -> Run:
    """One that was frozen from 1.0 to 1.25 s, if it was resumed."""
    seen = Figures()
    seen.frozen_at = seen.start + 1.0 if "dumping" in report.phases_s else None
    seen.downtime_s = 0.25 if "running" in report.phases_s else None
    seen.stats = STATS | stats
    return Run(json.loads(json.dumps((recorder or Recorder()).facts("m1", seen, report))))


def moved() -> Report:
    report = Report("committed", 7, "dst", downtime_s=0.25, freeze_s=0.1, transfer_s=2.0, total_s=4.0, lazy_pages=1000)
    report.phases_s = {"dumping": 0.99, "serving": 1.15, "restoring": 1.17, "allowed": 1.2, "running": 1.25}
    report.phases_s |= {"drained": 3.25, "committing": 3.3, "committed": 3.5}
    report.received_bytes = 4000
    return report


def test_however_long_it_takes_a_run_file_stays_small() -> None:
    recorder = Recorder()
    count = 50_000
    for n in range(count + 1):
        recorder.sample(n / 10, STATS | {"remaining_pages": count - n, "received_bytes": n, "missing_map": [255] * 64})
        recorder.line(n / 10, "info", f"line {n}")
    samples = run_of(moved(), recorder).facts["samples"]
    assert MAX_SAMPLES / 2 - 1 <= len(samples["at"]) <= MAX_SAMPLES
    assert {len(samples[name]) for name in ("at", *COLUMNS)} == {len(samples["at"])}
    assert samples["at"][0] == 0 and samples["remaining_pages"][-1] == 0, "the first and the last are there"
    steps = [later - earlier for earlier, later in zip(samples["at"], samples["at"][1:], strict=False)]
    assert max(steps[:-1]) < 2.5 * min(steps[:-1]), "those between are about as far from each other"
    assert len(recorder.lines) == MAX_LINES
    assert recorder.lines[0][2] == "line 0" and recorder.lines[-1][2] == f"line {count}"


def test_the_oldest_run_files_of_a_profile_go(tmp_path: Path) -> None:
    for n in range(run_file.KEPT + 3):
        run_file.save(tmp_path / "m1.runs" / f"2026-{n:02}.json", {"format": run_file.FORMAT, "n": n})
    kept = sorted(path.name for path in (tmp_path / "m1.runs").iterdir())
    assert len(kept) == run_file.KEPT and kept[0] == "2026-03.json"
    assert run_file.read(tmp_path / "m1.runs")["n"] == run_file.KEPT + 2, "of a directory, the newest"


@pytest.mark.parametrize("text", ["", "[]", '{"format": 0}', '{"format": 1}'])
def test_what_is_no_run_file_is_refused_in_a_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(CriuLazyError, match=str(path)):
        command.load(path)


def test_what_nobody_heard_of_is_not_told() -> None:
    """The agent was lost; the page server has seen all of it go."""
    recorder, report = Recorder(), moved()
    for n in range(5):
        recorder.sample(1.3 + n / 10, STATS | {"remaining_pages": 1000 - n, "received_bytes": 4096 * n})
    report.heard_until_s = 1.7
    for n in range(MAX_SAMPLES * 3):
        recorder.sent(1.8 + n / 1000, 4096 * (4 + n))
    run = run_of(report, recorder, remaining_pages=996, copied_pages=4, reconnects=1, fault_wait_sum_us=1e6)
    assert [share.name for share in run.how_pages_came()] == ["sent after it", "missing when it was last heard of"]
    assert run.missing()[-1] == (1.7, 996 * 4096)
    assert len(run.facts["sent"]["at"]) < MAX_SAMPLES
    assert max(value for at, value in run.bandwidth() if at > 2) > 3e6, "by what was sent"
    text = page([run])
    assert "nothing was heard of dst after 1.70 s: the figures of its memory and its faults end there; every" in text
    assert "<td>0 (until 1.70 s)</td>" in text
    assert ("all waits together, thread by thread", "1.00 s (until 1.70 s)") in figures(run)
    assert ("reconnects of the page connection", "1 (until 1.70 s)") in figures(run)
    report.fault_wait_us = {"p50": 1.0}
    assert "(until 1.70 s: nothing was heard of dst later)" in report.as_text()


def test_what_a_killed_task_lacked_stays_missing() -> None:
    recorder = Recorder()
    recorder.sample(1.0, STATS | {"remaining_pages": 400})
    recorder.sample(2.0, STATS | {"remaining_pages": 0, "lost_pages": 300})
    run = run_of(moved(), recorder)
    assert run.missing() == [(1.0, 400 * 4096), (2.0, 300 * 4096)]
    del run.facts["samples"]["lost_pages"]  # an older run file
    assert run.missing() == [(1.0, 400 * 4096), (2.0, 0)]


def test_what_a_killed_task_lacked_is_on_the_map_as_missing() -> None:
    recorder = Recorder()
    for at, left, lost in ((1.0, 204, 0), (2.0, 102, 0), (3.0, 0, 400)):
        recorder.sample(at, STATS | {"remaining_pages": left, "lost_pages": lost, "missing_map": [left, left]})
    run = run_of(moved(), recorder, demand_map=[0, 0], same_map=[0, 0], lost_pages=400)
    assert [at for at, _ in run.arrivals()] == [1.0, 2.0]
    assert run.by_part()[0][-1] == ("frozen", 0.4)


def test_a_report_has_a_line_for_each_of_several_things_that_it_says() -> None:
    report = Report("failed", 7, "dst", "source: a: b; dst: c, or d; or e; the source task runs on")
    lines = ["failed: task 7 -> dst", "    source: a: b", "    dst: c, or d; or e", "    the source task runs on"]
    assert report.as_text().splitlines()[:4] == lines
    assert report.in_a_line() == f"failed: task 7 -> dst: {report.message}"
    report.message = "the deadline has passed"
    report.precopy = {"rounds": [], "bytes": 0, "seconds": 0.0, "used": False}
    first, second, *_ = report.as_text().splitlines()
    assert first == "failed: task 7 -> dst: the deadline has passed"
    assert second == "  pre-copy  no round came to its end"


def test_status_tells_of_the_last_run_that_ended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def told() -> list[str]:
        assert status.main(["--directory", str(tmp_path)]) == 0
        return capsys.readouterr().out.splitlines()

    assert told() == ["no migration is on record here"]
    report = Report(run_file.UNDER_WAY, 7, "dst", total_s=3.0, downtime_s=0.25)
    facts = {"format": run_file.FORMAT, "began": 1000.0, "report": report.as_json()}
    settled = facts | {"settled": {"outcome": "committed", "at": 86400.0}}
    for name, each in (("m1.runs/20260102-1.json", settled), ("m2.runs/20260103-1.json", facts)):
        run_file.save(tmp_path / name, each)
    (tmp_path / "m1.runs/20260104-1.json").write_text("{}")  # of another version
    (last,) = told()[1:]
    assert re.fullmatch(rf"last: m1 committed 1970-.*, downtime 250 ms: criu-lazy report {tmp_path}/m1.runs", last)
    assert status.main(["--directory", str(tmp_path), "--json"]) == 0 and capsys.readouterr().out == "[]\n"


def test_waits_by_powers_of_two() -> None:
    histogram = [0] * 64
    histogram[0] = 1  # below 1 us: left of all that is drawn if nothing is there
    assert octaves(histogram) == [("< 1 us", 1)]
    histogram = [0] * 64
    histogram[37:41] = [1, 2, 3, 4]  # below 2^9.25 .. 2^10 us
    histogram[45] = 5
    assert octaves(histogram) == [("0.5-1 ms", 10), ("1-2 ms", 0), ("2-4 ms", 5)]
    histogram = [0] * 64
    histogram[36], histogram[63] = 1, 2
    assert octaves(histogram)[0] == ("256-512 us", 1) and octaves(histogram)[-1] == ("32-64 ms", 2)
    assert octaves([0] * 64) == []


def test_a_rate_is_that_of_each_step() -> None:
    assert rate([], []) == rate([1.0], [5]) == []
    assert rate([1.0, 2.0, 4.0], [0, 10, 10]) == [(1.0, 0), (1.0, 10), (2.0, 10), (2.0, 0), (4.0, 0), (4.0, 0.0)]
    # A successor daemon has counted less.
    assert min(value for _, value in rate([1.0, 2.0, 3.0], [10, 20, 5])) == 0


def test_time_lines_of_each_end() -> None:
    run = run_of(moved())
    assert [(s.name, s.begin, s.end) for s in run.source_line()] == [("runs", 0, 1.0), ("frozen", 1.0, 3.5)]
    there = [("restored", 1.17, 1.25), ("runs, memory follows", 1.25, 3.25), ("runs", 3.25, 4.0)]
    assert [(s.name, s.begin, s.end) for s in run.destination_line()] == there
    steps = [(step.name, round(step.seconds, 6)) for step in run.downtime_parts()]
    assert steps == [("criu dump", 0.1), ("images", 0.05), ("hooks, daemon", 0.02), ("restore", 0.03), ("go", 0.05)]
    back = Report("rolled-back", 7, "dst", total_s=2.0, phases_s={"dumping": 0.99, "rolled-back": 1.5})
    assert [(s.kind, s.begin, s.end) for s in run_of(back).source_line()] == [
        ("runs", 0, 1.0), ("frozen", 1.0, 1.5), ("runs", 1.5, 2.0)
    ]  # fmt: skip
    assert run_of(back).destination_line() == run_of(back).downtime_parts() == []
    early = run_of(Report("failed", 7, "dst", total_s=2.0, phases_s={"failed": 1.5}))
    assert [(s.kind, s.end) for s in early.source_line()] == [("runs", 2.0)]


def test_a_daemon_that_tells_nothing_makes_a_page_too() -> None:
    run = run_of(moved())
    run = Run(run.facts | {"stats": {}})
    assert [span.name for span in run.transfer_line()] == ["images", "pages"]
    assert Page(page([run])).pictures == ["time line", "shares"]


def test_how_the_pages_came() -> None:
    run = run_of(
        moved(), copied_pages=800, same_pages=500, zero_pages=150, dropped_pages=20, remaining_pages=30, demand_faults=9
    )
    assert [share.pages for share in run.how_pages_came()] == [500, 300, 150, 20, 30]
    assert [(share.name, share.pages) for share in run.who_asked()] == [
        ("asked for by a fault", 9), ("pushed unasked", 941)
    ]  # fmt: skip


def test_a_text_says_what_the_page_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = moved()
    report.fault_wait_us = {"p50": 400.0, "p99": 900.0, "max": 3500.0}
    report.warnings = ["the disk is full"]
    facts = run_of(report, copied_pages=800, same_pages=500, zero_pages=200, demand_faults=9).facts
    facts["link"] = {"limit": 0, "best": 118_000_000, "interface": 125_000_000}
    run_file.save(tmp_path / "a.json", facts)
    assert command.main([str(tmp_path / "a.json"), "--text"]) == 0
    told = capsys.readouterr().out
    words = Page(page([command.load(tmp_path / "a.json")])).words
    rows = [re.split(r"  +", line.strip()) for line in told.splitlines() if line.startswith("  ")]
    assert len(rows) >= 20 and len(told.splitlines()) < 40, "one screen"
    for name, value in (row for row in rows if row[0] not in ("source", "sent", "destination", "downtime")):
        assert all(part in words for part in (name, *value.split("; ")) if name != "the link"), (name, value)
    values = dict(rows)
    assert values["source"] == "runs 1.00 s | frozen 2.50 s" and values["the link"].endswith("125 MB/s")
    assert (values["p50 of a fault's wait"], values["longest wait"]) == ("0.40 ms", "3.50 ms")
    assert told.startswith("m1: task 7, ") and "committed, " in told and "\nwarning: the disk is full\n" in told
    both = [str(tmp_path / "a.json")] * 2
    assert command.main([*both, "--text", "-o", str(tmp_path / "a.txt")]) == 0
    assert (tmp_path / "a.txt").read_text() == f"{told}\n{told}"


def test_what_it_is_given_stays_text(tmp_path: Path) -> None:
    report = moved()
    report.warnings = ["<script>alert(1)</script> & more"]
    recorder = Recorder()
    recorder.line(1.0, "warning", "<b>")
    facts = run_of(report, recorder).facts | {"name": '"><i>'}
    run_file.save(tmp_path / "a.json", facts)
    assert command.main([str(tmp_path / "a.json"), str(tmp_path / "a.json"), "-o", str(tmp_path / "a.html")]) == 0
    words = Page((tmp_path / "a.html").read_text()).words
    assert words.count(report.warnings[0]) == 2 and '"><i>: task 7' in words


def test_an_end_that_migrate_has_not_seen_is_told_and_nothing_is_drawn_of_it(tmp_path: Path) -> None:
    report = Report(run_file.UNDER_WAY, 7, "dst", total_s=1.2, phases_s={"dumping": 0.99, "serving": 1.15})
    path = tmp_path / "m1.runs/1.json"
    run_file.save(path, run_of(report).facts)
    words = Page(page([command.load(path)])).words
    assert "1.20 s after the start: migrate had not ended then" in words and "under-way" in words
    run_file.settle(path, "rolled-back", "made by criu-lazy migrate --abort", "restoring")
    run = command.load(path)
    words = Page(page([run])).words
    assert "migrate had left it without an end, at restoring" in words and "rolled-back" in words
    assert [(span.kind, span.end) for span in run.source_line()] == [("runs", 1.0), ("frozen", 1.2)]
    run_file.settle(tmp_path / "m1.runs/none.json", "committed", "", "")
    assert [each.name for each in path.parent.iterdir()] == ["1.json"], "one that newer ones replaced stays away"


def test_what_a_client_saw_is_on_the_page(tmp_path: Path) -> None:
    facts = run_of(moved()).facts | {"began": 1_700_000_000.0}
    run_file.save(tmp_path / "a.json", facts)
    words = [str(tmp_path / "a.json"), "-o", str(tmp_path / "a.html"), "--answers", str(tmp_path / "ping")]
    at = [n / 20 for n in range(-40, 22)] + [1.3 + n / 20 for n in range(80)]
    lines = [f"[{1_700_000_000 + each:.6f}] 64 bytes from 10.0.0.1: icmp_seq=1 ttl=64 time=0.2 ms" for each in at]
    lines[62:62] = ["[1700000001.100000] no answer yet for icmp_seq=62", "PING service (10.0.0.1)"]
    (tmp_path / "ping").write_text("\n".join(lines))
    assert command.main(words) == 0
    seen = Page((tmp_path / "a.html").read_text())
    assert "without an answer: 250 ms, from 1.050 s to 1.300 s by the client's clock" in seen.words
    assert "there are 50 ms usually" in seen.words and "ms over time" in seen.pictures
    (tmp_path / "ping").write_text("\n".join(lines[:5]))
    with pytest.raises(CriuLazyError, match=r"ping: nothing of this migration is in it: it needs lines that"):
        command.main(words)
    with pytest.raises(SystemExit):
        command.main([*words, "--answers", "other"])


def test_without_a_browser_there_is_the_page_and_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_file.save(tmp_path / "a.json", run_of(moved()).facts)
    monkeypatch.setenv("PATH", str(tmp_path))
    words = [str(tmp_path / "a.json"), "-o", str(tmp_path / "a.html"), "--png", str(tmp_path / "a.png")]
    with pytest.raises(CriuLazyError, match=r"--png: no Chromium is here .*: apt install chromium-headless-shell, or "):
        command.main(words)
    assert capsys.readouterr().out == f"{tmp_path}/a.html\n" and (tmp_path / "a.html").exists()
    (tmp_path / "chromium-headless-shell").write_text("#!/bin/sh\necho something >&2\necho no display >&2\nexit 7\n")
    (tmp_path / "chromium-headless-shell").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    with pytest.raises(CriuLazyError, match=r"--png: .*/chromium-headless-shell ended with status 7: no display"):
        command.main(words)


def test_scales_are_round() -> None:
    assert [nice(value) for value in (0.3, 1, 1.2, 4.9, 7, 120)] == [0.5, 1, 2, 5, 10, 200]


def test_the_map_has_where_faults_asked_and_how_each_part_came() -> None:
    recorder = Recorder()
    counts = [[0, 0], [3, 0], [3, 0], [3, 300], [1, 0]]
    for n, value in enumerate((200, 100, 100, 51, 0)):
        left = {"remaining_pages": value, "missing_map": [value, 0], "demand_map": counts[n]}
        recorder.sample(1.0 + n, STATS | left)
    run = run_of(moved(), recorder, demand_map=[100, 0], same_map=[200, 500])
    # The last are a successor daemon's, which counts anew.
    assert run.demands() == [(1.0, 2.0, b"\x03\x00"), (3.0, 4.0, b"\x00\xff"), (4.0, 5.0, b"\x01\x00")]
    first, second = run.by_part()
    assert first == [("precopied", 0.4), ("demand", 0.2), ("follows", pytest.approx(0.4)), ("frozen", 0)]
    assert second == [("precopied", 1.0), ("demand", 0), ("follows", 0), ("frozen", 0)]
    shown = Page(page([run]))
    assert "how each part of memory came" in shown.pictures
    old = Run({**run.facts, "stats": STATS} | {"demands": []})
    assert old.demands() == old.by_part() == []


def test_the_arrival_map_fills() -> None:
    recorder = Recorder()
    for n, value in enumerate((255, 128, 1, 0)):
        left = {"remaining_pages": value, "missing_map": [value] * 32 + [0] * 32}
        recorder.sample(1.0 + n, STATS | left)
    run = run_of(moved(), recorder)
    assert [(at, each[0], each[63]) for at, each in run.arrivals()] == [
        (1.0, 255, 0), (2.0, 128, 0), (3.0, 1, 0), (4.0, 0, 0)
    ]  # fmt: skip
    picture = arrival_map(run.arrivals(), run.demands(), 4.0, Axis(4.0, 600), 1 << 20)
    # Nothing, about half, not quite all, all: four shades.
    assert re.findall(r'fill-opacity="([0-9.]+)"', picture) == ["0.06", "0.41", "0.88", "1.00"]
    assert run_of(moved()).arrivals() == [] and arrival_map([], [], 4.0, Axis(4.0, 600), 0) == ""
