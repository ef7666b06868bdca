"""`criu-lazy metrics`: what is on record, as Prometheus reads it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from paths import CHECKOUT, CONFIGS
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from criu_lazy_ext.commands import metrics
from criu_lazy_ext.migration import run_file
from criu_lazy_ext.migration.metrics import Migrations
from criu_lazy_ext.migration.report import Report
from criu_lazy_ext.system.processes import start_time


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A migration arrives here, by two processes one of which is this; its page connection is lost. Another ended."""
    (tmp_path / "m1-7-8").mkdir()
    facts = {"processes": [[os.getpid(), start_time(os.getpid())]], "state": "running", "peer": "src", "rate": 5}
    counted = {"total_pages": 10, "remaining_pages": 4, "received_bytes": 7, "paused_us": 2_500_000, "at": 0.0}
    (tmp_path / "m1-7-8/live.json").write_text(json.dumps(facts | counted))
    (tmp_path / "m2.runs").mkdir()
    report = Report("rolled-back", 7, "dst", total_s=3.0)
    facts = {"format": run_file.FORMAT, "began": 1000.0, "report": report.as_json()}
    (tmp_path / "m2.runs/1.json").write_text(json.dumps(facts))
    facts["report"] |= {"outcome": run_file.UNDER_WAY}  # or its driver was killed
    (tmp_path / "m2.runs/2.json").write_text(json.dumps(facts))
    (tmp_path / "m3.runs").mkdir()  # has none
    return tmp_path


def check(told: str) -> None:
    samples = [sample for family in text_string_to_metric_families(told) for sample in family.samples]
    of = {sample.name.removeprefix("criu_lazy_"): sample for sample in samples}
    assert len(of) == len(samples)
    here = {"migration": "m1-7-8", "role": "destination", "peer": "src"}
    assert of["migration_state"].labels == here | {"state": "running"}
    assert of["migration_missing_bytes"].labels == here and of["migration_missing_bytes"].value == 4 * 4096
    assert of["migration_driven"].value == 1 and of["migration_needs_decision"].value == 0
    assert of["migration_paused_seconds"].value == 2.5 and of["migration_received_bytes_total"].value == 7
    assert of["last_run_outcome"].labels == {"migration": "m2", "outcome": "rolled-back"}
    assert of["last_run_end_timestamp_seconds"].value == 1003 and "last_run_downtime_seconds" not in of


def test_in_a_file_and_on_stdout(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert metrics.main(["--directory", str(directory)]) == 0
    check(capsys.readouterr().out)
    assert metrics.main(["--directory", str(directory), "--textfile", str(directory / "a.prom")]) == 0
    check((directory / "a.prom").read_text())
    with pytest.raises(metrics.MetricsError, match=r"/none: No such file or directory$"):
        metrics.main(["--textfile", str(directory / "none/a.prom")])


def test_what_was_decided_later_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "m.runs").mkdir()
    path = tmp_path / "m.runs/1.json"
    report = Report("undecided", 7, "dst", total_s=3.0)
    path.write_text(json.dumps({"format": run_file.FORMAT, "began": 1000.0, "report": report.as_json()}))
    run_file.settle(path, "committed", "made by criu-lazy migrate --commit", "undecided")
    metrics.main(["--directory", str(tmp_path)])
    told = capsys.readouterr().out
    assert 'criu_lazy_last_run_outcome{migration="m",outcome="committed"} 1.0' in told and "undecided" not in told


def test_the_page_has_each_metric(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    registry.register(Migrations([tmp_path]))
    told = re.findall(r"^# TYPE (\w+)", generate_latest(registry).decode(), re.MULTILINE)
    page = (CHECKOUT / "docs/metrics.md").read_text()
    rows = re.findall(r"^\| (`criu_lazy.*?) \|", page, re.MULTILINE)
    assert sorted(told) == sorted(name for row in rows for name in re.findall(r"`(criu_lazy_\w+)`", row))


def test_by_http(directory: Path) -> None:
    answer = None
    said = ""
    while answer is None:  # somebody may take the port that was free
        with socket.create_server(("127.0.0.1", 0)) as probe:
            listen = f"127.0.0.1:{probe.getsockname()[1]}"
        command = [sys.executable, "-m", "criu_lazy_ext.cli", "metrics", "--listen", listen]
        with subprocess.Popen([*command, "--directory", str(directory)], stderr=subprocess.PIPE, text=True) as serving:
            while answer is None and serving.poll() is None:
                with contextlib.suppress(OSError), urllib.request.urlopen(f"http://{listen}/metrics") as reader:
                    answer = reader.read().decode()
            assert serving.stderr is not None
            said = serving.stderr.readline()
            serving.terminate()
    check(answer)
    assert said == f"criu-lazy metrics: listening on http://{listen}/metrics\n"


@pytest.mark.parametrize("wrong", ["9470", ":9470", "host:", "host:0", "host:99999"])
def test_where_to_listen_is_said_in_full(wrong: str) -> None:
    with pytest.raises(SystemExit):
        metrics.main(["--listen", wrong])


def test_the_alerts_are_on_what_is_told(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rules = (CONFIGS / "prometheus/alerts.yaml").read_text()
    assert metrics.main(["--directory", str(directory)]) == 0
    told = set(re.findall(r"^(criu_lazy_\w+)\{", capsys.readouterr().out, re.MULTILINE))
    assert (wanted := set(re.findall(r"criu_lazy_\w+", rules))) and wanted <= told
