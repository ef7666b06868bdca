"""What Prometheus is told of the migrations that this host has on record, and of the last run of each profile.

Imported only where prometheus_client is wanted. Each scrape looks anew.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from criu_lazy_ext.migration import run_file
from criu_lazy_ext.migration.on_record import Listed, look

PREFIX = "criu_lazy_"
LABELS = ("migration", "role", "peer")
# Name, what it is, the counter of the daemon's, and by what that is divided.
GAUGES = (
    ("waiting_faults", "Threads of the restored task that wait for a page now", "waiting_faults", 1),
    ("oldest_wait_seconds", "How long the one waits that waits longest", "oldest_wait_us", 1e6),
    ("paused_seconds", "Since the page connection was lost; 0 while there is one", "paused_us", 1e6),
)
COUNTERS = (
    ("received_bytes", "Bytes that the destination received of the lazy memory, headers included", "received_bytes"),
    ("demand_faults", "Faults on pages that had to be fetched", "demand_faults"),
    ("merged_faults", "Faults on pages that were asked for already", "merged_faults"),
    ("reconnects", "Times that the page connection was made again", "reconnects"),
)
# Of the last run: name, what it is, key of the report.
RUN = (
    ("downtime_seconds", "Downtime", "downtime_s"),
    ("transfer_seconds", "From the resume until every page had arrived", "transfer_s"),
    ("duration_seconds", "From the start of migrate to its end", "total_s"),
    ("received_bytes", "Bytes received after the freeze", "received_bytes"),
)


class Migrations(Collector):
    """`directories`: where they are on record."""

    def __init__(self, directories: list[Path]) -> None:
        self._directories = directories

    def collect(self) -> Iterator[Metric]:
        """For prometheus_client's registry."""
        found: dict[tuple[str, str], Listed] = {}
        for directory in self._directories:
            for seen in look(directory):
                name = seen.name if (seen.name, seen.role) not in found else str(directory / seen.name)
                found[name, seen.role] = seen
        yield from states(found)
        yield from figures(found)
        yield from last_runs(self._directories)


def states(found: dict[tuple[str, str], Listed]) -> Iterator[Metric]:
    """How far each is, and whether somebody sees to it."""
    state = GaugeMetricFamily(f"{PREFIX}migration_state", "The state that it is in: 1", labels=(*LABELS, "state"))
    driven = GaugeMetricFamily(f"{PREFIX}migration_driven", "Whether a process of ours is at work on it", labels=LABELS)
    decision = GaugeMetricFamily(
        f"{PREFIX}migration_needs_decision", "Whether it waits for an operator's decision", labels=LABELS
    )
    for (name, role), seen in found.items():
        state.add_metric((name, role, seen.peer, seen.state), 1)
        driven.add_metric((name, role, seen.peer), bool(seen.driver))
        decision.add_metric((name, role, seen.peer), seen.needs_decision)
    yield from (state, driven, decision)


def figures(found: dict[tuple[str, str], Listed]) -> Iterator[Metric]:
    """Of those whose memory comes, or did: what was sent in rounds, and what the daemon counted last."""
    counted = {(name, role, seen.peer): seen for (name, role), seen in found.items() if seen.counters}

    def gauge(name: str, what: str, values: dict[tuple[str, str, str], float]) -> Metric:
        family = GaugeMetricFamily(f"{PREFIX}migration_{name}", what, labels=LABELS)
        for labels, value in values.items():
            family.add_metric(labels, value)
        return family

    precopied = CounterMetricFamily(f"{PREFIX}migration_precopied_bytes", "Bytes sent before the freeze", labels=LABELS)
    for (name, role), seen in found.items():
        if seen.precopied_bytes:
            precopied.add_metric((name, role, seen.peer), seen.precopied_bytes)
    yield precopied
    memory = {labels: float(seen.total_bytes) for labels, seen in counted.items()}
    yield gauge("memory_bytes", "Lazy memory", memory)
    missing = {labels: float(seen.missing_bytes) for labels, seen in counted.items()}
    yield gauge("missing_bytes", "Lazy memory that the destination lacks", missing)
    age = {labels: seen.seconds_old for labels, seen in counted.items()}
    yield gauge("figures_age_seconds", "How old these figures are", age)
    for name, what, key, unit in GAUGES:
        yield gauge(name, what, {labels: seen.counters.get(key, 0) / unit for labels, seen in counted.items()})
    for name, what, key in COUNTERS:
        counter = CounterMetricFamily(f"{PREFIX}migration_{name}", what, labels=LABELS)
        for labels, seen in counted.items():
            counter.add_metric(labels, seen.counters.get(key, 0))
        yield counter


def last_runs(directories: list[Path]) -> Iterator[Metric]:
    """The newest run file of each profile, of those whose source this host is, and whose migrate has ended."""
    reports: dict[str, tuple[float, str, dict[str, Any]]] = {}  # when and how each ended, at last
    for directory in directories:
        for path, files in run_file.of_all(directory):
            for each in files:
                with contextlib.suppress(run_file.RunFileError):  # of another version
                    facts = run_file.read(each)
                    if facts["report"]["outcome"] != run_file.UNDER_WAY:
                        reports[path.stem] = run_file.ended_at(facts), run_file.outcome(facts), facts["report"]
                        break
    outcome = GaugeMetricFamily(
        f"{PREFIX}last_run_outcome", "How it ended, by its migrate or what was decided later: 1",
        labels=("migration", "outcome"),
    )
    ended = GaugeMetricFamily(f"{PREFIX}last_run_end_timestamp_seconds", "When it ended", labels=("migration",))
    for name, (at, how, _) in reports.items():
        outcome.add_metric((name, how), 1)
        ended.add_metric((name,), at)
    yield from (outcome, ended)
    for name, what, key in RUN:
        family = GaugeMetricFamily(f"{PREFIX}last_run_{name}", f"{what}, of the last run", labels=("migration",))
        for migration, (_, _, report) in reports.items():
            if report[key] is not None:
                family.add_metric((migration,), report[key])
        yield family
