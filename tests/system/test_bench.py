"""The benchmark: real comparisons, made small."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import main
from bench.cases import SERVICES
from bench.handmade import ByHand, lazy_migrate_by_hand, migrated_memtask
from bench.services import measure_service
from bench.startup import measure_startup
from bench.table import SERVICE_COLUMNS, migration_medians, migration_rows, startup_line, startup_medians
from testbed import Testbed


def test_the_start_on_a_huge_tasks_images_stays_within_the_daemons_memory() -> None:
    if os.geteuid() != 0:
        pytest.skip("the testbed needs root")
    with Testbed.start(name="startup") as tb:
        started = measure_startup(tb)
    assert (started.pages, started.entries, started.vmas) == (5242880, 1000000, 60000)
    assert started.resident_bytes <= (64 << 20) + started.pages
    assert "20 GiB task (1,000,000 pagemap entries, 60,000 areas)" in startup_line(startup_medians([started]))


@pytest.fixture(scope="module")
def tb() -> Iterator[Testbed]:
    if os.geteuid() != 0:
        pytest.skip("the testbed needs root")
    with Testbed.start(name=f"measured-{os.getpid()}") as started:
        yield started


def test_behind_a_proxy_the_whole_way_counts(tb: Testbed) -> None:
    """The kernel's round trip ends at the proxy, on the daemon's own host."""
    tb.link.set(rtt_ms=20)
    try:
        with migrated_memtask(tb, "--mib", "16", "--mode", "idle") as task:
            done = lazy_migrate_by_hand(tb, task, ByHand(proxied=True))
            task.verify(tb.dst)
    finally:
        tb.link.set()
    assert done.engine["min_rtt_us"] >= 20000


def test_what_a_client_feels_of_a_whole_migration_is_measured(tb: Testbed) -> None:
    case = next(case for case in SERVICES if case.program == "redis")
    run = measure_service(tb, case, "default", 1, 16)
    assert run.checked == 16 * 1024 and run.before_per_s > 0
    assert 0 < run.gap_s < run.total_s and run.fault_max_ms is not None
    (entry,) = migration_medians([run])
    assert [row[1] for row in migration_rows([entry], SERVICE_COLUMNS)] == ["way", "default"]


def test_programs_are_migrated_under_load_and_all_their_records_checked(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("the benchmark's testbed needs root")
    out = tmp_path / "bench.json"
    arguments = ["--cases", "programs/redis,programs/sqlite", "--repeats", "1", "--mib", "16", "--json", str(out)]
    assert main(arguments) == 0
    measured = json.loads(out.read_text())
    assert measured["failures"] == []
    runs = [(run["case"], run["daemon"]) for run in measured["runs"]]
    assert runs == [(f"programs/{name}", daemon) for name in ("redis", "sqlite") for daemon in ("stock", "ours")]
    for run in measured["runs"]:
        assert run["checked"] == 16 * 1024
        assert run["mb_per_s"] > 0 and run["before_per_s"] > 0


def test_both_daemons_are_measured_on_the_same_link(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if os.geteuid() != 0:
        pytest.skip("the benchmark's testbed needs root")
    out = tmp_path / "bench.json"
    arguments = ["--cases", "1g/random-2", "--repeats", "1", "--mib", "32", "--window", "2", "--json", str(out)]
    assert main([*arguments, "--picture", str(tmp_path / "transfer.svg")]) == 0
    measured = json.loads(out.read_text())
    assert measured["failures"] == []
    assert [run["daemon"] for run in measured["runs"]] == ["stock", "ours"]
    for run in measured["runs"]:
        assert run["mb_per_s"] > 0 and run["stalls"] > 0 and run["cpu_s_per_gb"] > 0
        assert run["oracle_stall_s"] > 0
        assert run["source_cpu_s_per_gb"] > 0 and run["peak_mib"] > 1 and run["source_peak_mib"] > 1
    assert measured["plain_tcp_mb_per_s"]["1g"] > 0
    assert "1g/random-2 32 MiB" in capsys.readouterr().out
    drawn = (tmp_path / "transfer.svg").read_text()
    assert [drawn.count(name) for name in (">criu lazy-pages: ", ">criu-lazy: ", "<polyline")] == [1, 1, 3]


def test_a_source_that_pushes_by_tls_is_measured_beside_stocks(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("the benchmark's testbed needs root")
    out = tmp_path / "bench.json"
    arguments = ["--cases", "1g/compressible-idle", "--repeats", "1", "--mib", "32", "--json", str(out)]
    assert main([*arguments, "--push", "2", "--tls"]) == 0
    measured = json.loads(out.read_text())
    assert measured["failures"] == []
    assert measured["push_streams"] == 2 and measured["tls"]
    stock, ours = measured["runs"]
    # Ours has two processes there: criu dump, and the page server.
    assert ours["source_peak_mib"] > stock["source_peak_mib"] > 1
    assert ours["finished"] and ours["requests"] < 32 * 256


def test_whole_migrations_are_measured_with_and_without_rounds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if os.geteuid() != 0:
        pytest.skip("the benchmark's testbed needs root")
    out = tmp_path / "bench.json"
    arguments = ["--cases", "migrate/hot-256m,migrate/downtime-256m", "--repeats", "1"]
    assert main([*arguments, "--mib", "32", "--timeline", "--json", str(out)]) == 0
    measured = json.loads(out.read_text())
    assert measured["failures"] == []
    runs = {(run["case"], run["way"]): run for run in measured["runs"]}
    ways = [("migrate/downtime-256m", way) for way in ("lazy", "precopy")]
    assert list(runs) == [*ways, *(("migrate/hot-256m", way) for way in ("stock", "lazy", "precopy"))]
    for (_, way), run in runs.items():
        assert 0 < run["freeze_s"] < run["downtime_s"] < run["total_s"]
        assert (run["rounds"] > 0) == (way == "precopy") == (run["precopy_mb"] > 0)
        assert run["changed_mb"] > 32 or way == "precopy"
        lasted = {span["name"]: span for span in run["timeline"]}
        page_server = lasted["criu-lazy page-server"]
        assert page_server["host"] == "src" and page_server["start_s"] < 0 < page_server["end_s"]
        assert lasted["criu dump"]["start_s"] == 0
        # Ours is started before the freeze, and told later what to do.
        daemon = lasted["criu lazy-pages" if way == "stock" else "criu-lazy standby lazy-pages"]
        assert daemon["host"] == "dst" and (daemon["start_s"] > 0) == (way == "stock")
        assert lasted["criu restore"]["end_s"] <= run["total_s"]
        assert lasted["[dumping]"]["end_s"] == lasted["[serving]"]["start_s"]
    idle = runs["migrate/downtime-256m", "precopy"]
    assert idle["changed_mb"] < 4 and idle["sent_of_memory"] < 1.2
    printed = capsys.readouterr().out
    assert "migrate/hot-256m precopy, since criu dump began:" in printed
    assert "\nmigrate/downtime-256m " in printed
