"""The alert rules and the dashboard, with a real Prometheus, of real migrations."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lazy_source import eventually
from migrating import BASE, UNDECIDED, Migration, Worker, assert_moved, kill, running
from paths import CONFIGS, SUPPORT
from prometheus import program, prometheus

RULES = CONFIGS / "prometheus/alerts.yaml"
DASHBOARD = json.loads((CONFIGS / "prometheus/dashboard.json").read_text())
VARIABLES = {"$instance": ".*", "$__rate_interval": "5s"}
# What a migration that goes as it should leaves empty.
EMPTY = {"Alerts"}


def promtool(*words: str | Path) -> str:
    done = subprocess.run([program("promtool"), *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def queries() -> Iterator[tuple[str, str]]:
    """The dashboard's: the panel's title, and the expression."""
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            expression = target["expr"]
            for name, value in VARIABLES.items():
                expression = expression.replace(name, value)
            assert "$" not in expression
            yield panel["title"], expression


def test_the_rules_are_right_and_each_fires_when_it_should(tmp_path: Path) -> None:
    wanted = set(re.findall(r"alert: (\w+)", RULES.read_text()))
    assert f"{len(wanted)} rules found" in promtool("check", "rules", "--lint-fatal", RULES)
    cases = (SUPPORT / "alerts_test.yaml").read_text()
    assert wanted == set(re.findall(r"CriuLazy\w+", cases)), "each is tried"
    (tmp_path / "cases.yaml").write_text(cases.replace("RULES", str(RULES)))
    assert "SUCCESS" in promtool("test", "rules", tmp_path / "cases.yaml")


def test_panels_do_not_lie_over_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken and place["x"] + place["w"] <= 24, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_every_query_of_the_dashboard_is_answered_in_a_migration_and_after_it(worker: Worker, tmp_path: Path) -> None:
    src, dst = worker.testbed.src, worker.testbed.dst
    seen: dict[tuple[str, str], list[dict[str, Any]]] = {}

    def ask() -> set[str]:
        """Panels whose queries are not answered yet."""
        for each in queries():
            seen[each] = seen.get(each) or prometheus_there.query(each[1])
        return {title for (title, _), found in seen.items() if not found}

    with prometheus(tmp_path, src, RULES, {src.address: src, dst.service_address: dst}) as prometheus_there:
        migration = running(worker)
        eventually(lambda: ask() == {"Last runs", *EMPTY}, "all is answered while memory follows", 60)
        roles = {found["metric"]["role"] for found in prometheus_there.query("criu_lazy_migration_missing_bytes > 0")}
        assert roles == {"source", "destination"}
        worker.testbed.link.set(rate_mbit=1000, rtt_ms=0.2)
        assert_moved(worker, migration)
        eventually(lambda: ask() == EMPTY, "and after it")
        assert not prometheus_there.alerts()


def test_one_that_stopped_and_one_that_was_rolled_back_are_alerts(worker: Worker, tmp_path: Path) -> None:
    src = worker.testbed.src
    with prometheus(tmp_path, src, RULES, {src.address: src}) as prometheus_there:
        rolled_back = Migration(worker.testbed, BASE + "hooks: {before_restore: [{run: 'false'}]}\n")
        rolled_back.end()
        eventually(lambda: prometheus_there.alerts() == {"CriuLazyDidNotMove"}, "the one is told")
        migration = running(worker)
        kill(src, "criu-lazy migrate")
        migration.end()
        eventually(lambda: "CriuLazyNeedsDecision" in prometheus_there.alerts(), "the other is told")
        assert migration.decide("--status").returncode == UNDECIDED
        kill(worker.testbed.dst, "patterned_task")
        assert migration.decide("--abort", "--force").returncode == 0
        eventually(lambda: prometheus_there.alerts() == {"CriuLazyDidNotMove"}, "it is settled")
