"""The benchmark: which cases are meant, how figures become a table, and what is kept of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import main, results
from bench.cases import ALL, DEFAULT, PROGRAMS, QUICK, select
from bench.handmade import Migration
from bench.measure import Run
from bench.programs import Timeline, figures
from bench.table import (
    PROGRAM_COLUMNS,
    as_markdown,
    as_text,
    rows,
    summarise,
)
from bench.timeline import command_name
from bench.workload import Database, Dictionary, Tally, record
from criu_lazy_ext.errors import UsageError


def a_run(daemon: str, repeat: int, mb_per_s: float, stall_s: float, finished: bool = True) -> Run:
    return Run(
        case="1g/random-2",
        daemon=daemon,
        repeat=repeat,
        mib=256,
        finished=finished,
        seconds=2.0,
        exit_s=2.5 if finished else None,
        mb_per_s=mb_per_s,
        stalls=100,
        stall_s=stall_s,
        oracle_stall_s=1.0,
        stall_of_oracle=stall_s if finished else None,
        stall_p50_ms=0.5,
        stall_p99_ms=2.0,
        stall_max_ms=5.0,
        touch_mb_per_s=100.0,
        cpu_s_per_gb=1.0,
        source_cpu_s_per_gb=0.5,
        peak_mib=40.0,
        source_peak_mib=20.0,
        requests=None if daemon == "stock" else 1000,
        dump_s=0.1,
        arrived=[(0.0, 0), (2.0, 2 << 27)],
        restore_s=0.02,
    )


def test_cases_are_chosen_by_name_and_by_pattern_in_the_tables_order() -> None:
    assert [case.name for case in select("unlimited/idle,1g-0.2ms/random-*")] == [
        "1g-0.2ms/random-2",
        "1g-0.2ms/random-8",
        "unlimited/idle",
    ]
    assert select("all") == list(ALL)
    assert len(select(DEFAULT)) == 8 and len(select(QUICK)) == 4
    assert [case.name for case in select("1g/compressible-*")] == ["1g/compressible-idle", "1g/compressible-random-2"]
    assert select("programs/*") == list(PROGRAMS)
    assert not {case.name for case in select(DEFAULT)} & {case.name for case in PROGRAMS}


@pytest.mark.parametrize("patterns", ["2g/idle", "1g/idle,1g/rnadom-2", ""])
def test_a_pattern_that_means_no_case_is_refused(patterns: str) -> None:
    with pytest.raises(UsageError, match="is no case"):
        select(patterns)


@pytest.mark.parametrize(
    "wrong", [["--repeats", "0"], ["--window", "0"], ["--mib", "1"], ["--json", "/no/such/dir/f"], ["--tls"]]
)
def test_wrong_options_are_refused_before_anything_is_started(wrong: list[str]) -> None:
    with pytest.raises(UsageError, match=wrong[0]):
        main(wrong)


def test_figures_are_medians_and_ratios_are_ours_to_stock() -> None:
    runs = [a_run("stock", 1, 20.0, 8.0), a_run("ours", 1, 110.0, 2.0)]
    runs += [a_run("stock", 2, 30.0, 9.0), a_run("ours", 2, 130.0, 1.0)]
    runs += [a_run("stock", 3, 25.0, 10.0, finished=False), a_run("ours", 3, 120.0, 3.0)]
    (case,) = summarise(runs, {"1g": 120.0})
    assert case["stock"]["mb_per_s"] == 25.0 and case["ours"]["mb_per_s"] == 120.0
    assert case["ours"]["of_plain_tcp"] == 1.0
    assert case["ratio"]["mb_per_s"] == pytest.approx(4.8)
    assert case["ratio"]["stall_s"] == pytest.approx(2 / 9)
    assert case["ours"]["finished"] and not case["stock"]["finished"]
    assert "requests" not in case["ratio"]


def test_the_table_marks_what_did_not_finish_and_shows_gaps_as_dashes() -> None:
    table = rows(summarise([a_run("stock", 1, 25.0, 9.0, finished=False), a_run("ours", 1, 120.0, 1.0)], {"1g": 120.0}))
    head, stock, ours, ratio = table
    assert stock[head.index("MB/s")] == "25.0*" and ours[head.index("MB/s")] == "120"
    assert stock[head.index("requests")] == "-" and ours[head.index("requests")] == "1000"
    assert ratio[head.index("MB/s")] == "x4.8"
    assert len({len(row) for row in table}) == 1
    assert "25.0*" in as_text(table)
    assert as_markdown(table).splitlines()[1].count("---") == len(head)


def test_the_results_file_keeps_the_newest_report_of_each_command_line(tmp_path: Path) -> None:
    file = tmp_path / "results.md"
    facts = {"cpus": 2, "processor": "A CPU", "date": "2026-11-28", "commit": "abc"}
    for argv, report in ((["--quick"], "first"), (["--push", "2"], "other"), (["--quick"], "second")):
        results.write_into(file, results.section(argv, facts, report))
    text = file.read_text()
    assert text.count("## ") == 2
    assert "first" not in text and "other" in text and "second" in text
    assert text.startswith("# Results of the benchmark\n") and "2026-11-28, commit abc, 2 CPUs (A CPU)." in text


def test_a_case_whose_runs_all_failed_with_one_daemon_is_still_shown() -> None:
    table = rows(summarise([a_run("ours", 1, 120.0, 1.0)], {"1g": 120.0}))
    assert table[1][2:] == ["-"] * (len(table[0]) - 2)


def test_a_programs_speed_is_compared_with_the_one_before_the_dump() -> None:
    # 100 a second up to 10.0; frozen; from 11.0 on 20 a second, from 13.0 on 90.
    samples = [(8.0, 0), (10.0, 200), (11.0, 200), (13.0, 240), (18.0, 690)]
    outcome = {"timeline": samples, "wrong": 0, "checked": 16384}
    done = Migration(resumed_at=11.0, transfer_seconds=2.0, exit_seconds=2.5, transfer_bytes=240_000_000)
    run = figures(PROGRAMS[0], "ours", 1, 16, done, outcome, paused=10.0, ended=16.0)
    assert run.before_per_s == pytest.approx(100)
    assert run.during_per_s == pytest.approx(20) and run.during_share == pytest.approx(0.2)
    assert run.back_s == pytest.approx(2.0, abs=0.06)
    assert run.lost_s == pytest.approx(5 - (40 + 270) / 100)
    assert run.mb_per_s == pytest.approx(120)
    assert run.windows_per_s[0] == pytest.approx(20) and run.windows_per_s[-1] == pytest.approx(90)
    (entry,) = summarise([run], {})
    head, _, ours, _ = rows([entry], PROGRAM_COLUMNS)
    assert ours[head.index("of before")] == "20%" and ours[head.index("MB/s")] == "120"


def test_a_program_that_does_not_come_back_in_time_is_not_said_to_be_back() -> None:
    timeline = Timeline([(0.0, 0), (10.0, 100)])
    assert timeline.back_at(2.0, 8.0, rate=10.1) is None
    assert timeline.back_at(2.0, 8.0, rate=9.9) == 2.0
    assert timeline.operations(-1.0) == 0 and timeline.operations(11.0) == 100


def test_programs_notice_a_wrong_record() -> None:
    for program in (Dictionary, Database):
        tally = Tally()
        running = program(100, tally)
        for _ in range(1000):
            running.step()
        running.check_all()
        assert (tally.operations, tally.checked, tally.wrong) == (1000, 100, 0)
        if isinstance(running, Dictionary):
            running._items[5].held = record(6, 0)
        else:
            running._db.execute("UPDATE item SET held = ? WHERE id = 5", (record(6, 0),))
        running.check_all()
        assert tally.wrong >= 1


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (["/usr/bin/python3", "-m", "criu_lazy_ext.cli", "page-server", "--hold"], "criu-lazy page-server"),
        (["/usr/bin/python3", "/usr/local/bin/criu-lazy", "agent"], "criu-lazy agent"),
        (["/usr/bin/python3", "-m", "criu_lazy_ext.cli", "standby", "lazy-pages"], "criu-lazy standby lazy-pages"),
        (["criu", "restore", "-d"], "criu restore"),
        (["python3"], "python3"),
        (["/usr/bin/ssh", "dst"], "ssh"),
    ],
)
def test_a_process_is_called_in_the_time_line_what_its_users_call_it(command: list[str], name: str) -> None:
    assert command_name(command) == name
