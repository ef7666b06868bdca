"""The benchmark: which cases are meant, how figures become a table, and one real comparison."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from criu_lazy_ext.bench import main
from criu_lazy_ext.bench.cases import ALL, DEFAULT, QUICK, select
from criu_lazy_ext.bench.measure import Run
from criu_lazy_ext.bench.table import as_markdown, as_text, rows, summarise
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
        stall_p50_ms=0.5,
        stall_p99_ms=2.0,
        stall_max_ms=5.0,
        touch_mb_per_s=100.0,
        cpu_s_per_gb=1.0,
        requests=None if daemon == "stock" else 1000,
        dump_s=0.1,
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


@pytest.mark.parametrize("patterns", ["2g/idle", "1g/idle,1g/rnadom-2", ""])
def test_a_pattern_that_means_no_case_is_refused(patterns: str) -> None:
    with pytest.raises(UsageError, match="is no case"):
        select(patterns)


@pytest.mark.parametrize("wrong", [["--repeats", "0"], ["--window", "0"], ["--mib", "1"], ["--json", "/no/such/dir/f"]])
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


def test_a_case_whose_runs_all_failed_with_one_daemon_is_still_shown() -> None:
    table = rows(summarise([a_run("ours", 1, 120.0, 1.0)], {"1g": 120.0}))
    assert table[1][2:] == ["-"] * (len(table[0]) - 2)


def test_both_daemons_are_measured_on_the_same_link(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if os.geteuid() != 0:
        pytest.skip("the benchmark's testbed needs root")
    out = tmp_path / "bench.json"
    arguments = ["--cases", "1g/random-2", "--repeats", "1", "--mib", "32", "--window", "2", "--json", str(out)]
    assert main(arguments) == 0
    measured = json.loads(out.read_text())
    assert measured["failures"] == []
    assert [run["daemon"] for run in measured["runs"]] == ["stock", "ours"]
    for run in measured["runs"]:
        assert run["mb_per_s"] > 0 and run["stalls"] > 0 and run["cpu_s_per_gb"] > 0
    assert measured["plain_tcp_mb_per_s"]["1g"] > 0
    assert "1g/random-2 32 MiB" in capsys.readouterr().out
