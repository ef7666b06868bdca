"""Runs to medians, medians to a table."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

from bench.evacuations import EvacuationRun
from bench.measure import Run
from bench.migrations import MigrateRun
from bench.programs import ProgramRun
from bench.services import ServiceRun
from bench.startup import Startup

AnyRun = Run | ProgramRun | MigrateRun | ServiceRun | EvacuationRun

# What of a run tells which one it is, or is no figure.
WHICH = {"case", "daemon", "way", "repeat", "mib"}
NO_FIGURES = WHICH | {"finished", "arrived", "checked", "windows_per_s", "stopped", "phases_s", "timeline", "strategy"}


@dataclass(frozen=True)
class Column:
    """`key` of a summary's figures, and how a value is shown."""

    title: str
    key: str
    show: Callable[[float], str]


def _digits(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


COLUMNS = (
    Column("MB/s", "mb_per_s", _digits),
    Column("of plain TCP", "of_plain_tcp", lambda share: f"{share:.0%}"),
    Column("touched MB/s", "touch_mb_per_s", _digits),
    Column("stall s", "stall_s", _digits),
    Column("oracle s", "oracle_stall_s", _digits),
    Column("p50 ms", "stall_p50_ms", _digits),
    Column("p99 ms", "stall_p99_ms", _digits),
    Column("max ms", "stall_max_ms", _digits),
    Column("CPU s/GB", "cpu_s_per_gb", _digits),
    Column("source's", "source_cpu_s_per_gb", _digits),
    Column("peak MiB", "peak_mib", lambda mib: f"{mib:.0f}"),
    Column("source's", "source_peak_mib", lambda mib: f"{mib:.0f}"),
    Column("requests", "requests", lambda count: f"{count:.0f}"),
    Column("restore s", "restore_s", _digits),
    Column("end s", "exit_s", _digits),
)
PROGRAM_COLUMNS = (
    Column("MB/s", "mb_per_s", _digits),
    Column("last page s", "seconds", _digits),
    Column("before /s", "before_per_s", lambda rate: f"{rate:.0f}"),
    Column("until last page /s", "during_per_s", lambda rate: f"{rate:.0f}"),
    Column("of before", "during_share", lambda share: f"{share:.0%}"),
    Column("lost s", "lost_s", _digits),
    Column("back s", "back_s", _digits),
    Column("CPU s/GB", "cpu_s_per_gb", _digits),
    Column("source's", "source_cpu_s_per_gb", _digits),
    Column("restore s", "restore_s", _digits),
    Column("end s", "exit_s", _digits),
)

MIGRATION_COLUMNS = (
    Column("total s", "total_s", _digits),
    Column("downtime ms", "downtime_s", lambda seconds: f"{seconds * 1e3:.0f}"),
    Column("criu dump ms", "freeze_s", lambda seconds: f"{seconds * 1e3:.0f}"),
    Column("ours ms", "ours_s", lambda seconds: f"{seconds * 1e3:.0f}"),
    Column("rounds", "rounds", lambda count: f"{count:.0f}"),
    Column("before MB", "precopy_mb", lambda mb: f"{mb:.0f}"),
    Column("after MB", "after_mb", _digits),
    Column("changed MB", "changed_mb", _digits),
    Column("after/changed", "after_of_changed", lambda share: f"{share:.3f}"),
    Column("sent/memory", "sent_of_memory", lambda share: f"{share:.3f}"),
    Column("last page s", "transfer_s", _digits),
    Column("back s", "back_s", _digits),
)

SERVICE_COLUMNS = (
    Column("before /s", "before_per_s", lambda rate: f"{rate:.0f}"),
    Column("lost s", "lost_s", _digits),
    Column("back s", "back_s", _digits),
    Column("gap ms", "gap_s", lambda seconds: f"{seconds * 1e3:.0f}"),
    Column("beyond downtime ms", "gap_beyond_s", lambda seconds: f"{seconds * 1e3:.0f}"),
    Column("downtime ms", "downtime_s", lambda seconds: f"{seconds * 1e3:.0f}"),
    Column("p50 ms", "fault_p50_ms", _digits),
    Column("p99 ms", "fault_p99_ms", _digits),
    Column("max ms", "fault_max_ms", _digits),
    Column("last page s", "transfer_s", _digits),
    Column("total s", "total_s", _digits),
)

EVACUATION_COLUMNS = (
    Column("tasks", "tasks", lambda count: f"{count:.0f}"),
    Column("total s", "seconds", _digits),
    Column("after first preflight s", "after_preflight_s", _digits),
    Column("link s", "link_s", _digits),
    Column("of link", "of_link", lambda share: f"{share:.2f}"),
    Column("downtime ms", "downtime_ms", lambda ms: f"{ms:.0f}"),
    Column("p99 ms", "fault_p99_ms", _digits),
    Column("max ms", "fault_max_ms", _digits),
)


def summarise(runs: Sequence[Run | ProgramRun], plain_tcp: dict[str, float]) -> list[dict[str, Any]]:
    """One entry a case: {"case", "mib", "stock": figures, "ours": figures, "ratio": figures}.

    Figures are medians over the repeats, with "finished" (all of them did) and "of_plain_tcp", for
    which `plain_tcp` gives MB/s by link name. Ratios are ours/stock. A daemon without a run has no figures.
    """
    cases = []
    for name in dict.fromkeys(run.case for run in runs):
        entry: dict[str, Any] = {"case": name}
        for daemon in ("stock", "ours"):
            own = [run for run in runs if run.case == name and run.daemon == daemon]
            entry["mib"] = next((run.mib for run in own), entry.get("mib"))
            entry[daemon] = _medians(own, plain_tcp.get(name.partition("/")[0]))
        stock, ours = entry["stock"], entry["ours"]
        entry["ratio"] = {
            key: ours[key] / stock[key] for key in _figures(runs) if ours.get(key) is not None and stock.get(key)
        }
        cases.append(entry)
    return cases


def _medians(runs: Sequence[Run | ProgramRun], plain_tcp: float | None) -> dict[str, Any]:
    if not runs:
        return {}
    medians = {"runs": len(runs), "finished": all(run.finished for run in runs), **_median_figures(runs)}
    medians["of_plain_tcp"] = medians["mb_per_s"] / plain_tcp if plain_tcp else None
    return medians


def migration_medians(runs: Sequence[MigrateRun | ServiceRun | EvacuationRun]) -> list[dict[str, Any]]:
    """One entry a case and way: {"case", "way", "mib", "runs", ...}, with the medians of figures."""
    entries = []
    for case, way in dict.fromkeys((run.case, run.way) for run in runs):
        own = [run for run in runs if (run.case, run.way) == (case, way)]
        entries.append({"case": case, "way": way, "mib": own[0].mib, "runs": len(own), **_median_figures(own)})
    return entries


def _figures(runs: Sequence[AnyRun]) -> list[str]:
    return [field.name for field in fields(runs[0]) if field.name not in NO_FIGURES]


def _median_figures(runs: Sequence[AnyRun]) -> dict[str, Any]:
    values = {key: [value for run in runs if (value := getattr(run, key)) is not None] for key in _figures(runs)}
    return {key: statistics.median(found) if found else None for key, found in values.items()}


def migration_rows(entries: Sequence[dict[str, Any]], columns: Sequence[Column] = MIGRATION_COLUMNS) -> list[list[str]]:
    """The cells of migration_medians, the head first."""
    table = [["case", "way", *(column.title for column in columns)]]
    for entry in entries:
        name = "" if entry["case"] in {row[0] for row in table} else entry["case"]
        table.append([name, entry["way"], *(_cell(column, entry[column.key]) for column in columns)])
    return table


def rows(cases: Sequence[dict[str, Any]], columns: Sequence[Column] = COLUMNS) -> list[list[str]]:
    """The table's cells, the head first; three rows a case."""
    table = [["case", "daemon", *(column.title for column in columns)]]
    for entry in cases:
        for daemon in ("stock", "ours"):
            figures = entry[daemon]
            mark = "" if figures.get("finished", True) else "*"
            cells = [_cell(column, figures.get(column.key)) for column in columns]
            cells[0] += mark
            name = f"{entry['case']} {entry['mib']} MiB" if daemon == "stock" else ""
            table.append([name, daemon, *cells])
        ratios = [entry["ratio"].get(column.key) for column in columns]
        table.append(["", "ours/stock", *("" if ratio is None else f"x{ratio:.3g}" for ratio in ratios)])
    return table


def _cell(column: Column, value: float | None) -> str:
    return "-" if value is None else column.show(value)


def as_text(table: Sequence[Sequence[str]]) -> str:
    """Aligned columns: text left, figures right."""
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    lines = []
    for row in table:
        left = [cell.ljust(width) for cell, width in zip(row[:2], widths, strict=False)]
        right = [cell.rjust(width) for cell, width in zip(row[2:], widths[2:], strict=True)]
        lines.append("  ".join(left + right).rstrip())
    return "\n".join(lines)


def as_markdown(table: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(row) + " |" for row in table]
    rule = "| --- | --- |" + " ---: |" * (len(table[0]) - 2)
    return "\n".join([lines[0], rule, *lines[1:]]).replace("*", "\\*")


def startup_medians(startups: Sequence[Startup]) -> dict[str, float]:
    """The figures of Startup; empty if there are none."""
    if not startups:
        return {}
    every = [startup.as_json() for startup in startups]
    return {key: statistics.median(one[key] for one in every) for key in every[0]}


def startup_line(figures: dict[str, float]) -> str:
    """What is printed of startup_medians."""
    return (
        f"Start on the images of a {figures['pages'] / 2**18:.0f} GiB task ({figures['entries']:,.0f} pagemap entries, "
        f"{figures['vmas']:,.0f} areas): criu restore can connect after {figures['listening_s']:.2f} s, everything is "
        f"loaded after {figures['ready_s']:.2f} s; {figures['resident_bytes'] / 2**20:.0f} MiB resident then "
        f"({figures['peak_bytes'] / 2**20:.0f} at the most), {figures['bound_bytes'] / 2**20:.0f} are allowed."
    )
