"""The page: one HTML file that needs nothing else, of one run or of two beside each other."""

from __future__ import annotations

import time
from collections.abc import Sequence
from html import escape

from criu_lazy_ext.run_report import svg
from criu_lazy_ext.run_report.run import Run, Share
from criu_lazy_ext.run_report.style import STYLE
from criu_lazy_ext.sizes import PAGE_BYTES

WIDTH = {1: 1000.0, 2: 620.0}  # of a picture, by the number of runs
LEGEND = (
    ("runs", "the task runs"),
    ("frozen", "frozen"),
    ("precopied", "pre-copy"),
    ("images", "images"),
    ("restoring", "restored"),
    ("follows", "runs, its memory follows"),
)
ARRIVED = (
    "Lazy memory from top to bottom, process after process, by address at the dump; over time. Full colour: it is "
    "there. What was copied before the freeze counts from when it was found unchanged. Marks: faults "
    "asked for pages of that part then."
)
PARTS = (
    ("precopied", "copied before the freeze, and unchanged"),
    ("demand", "asked for by a fault"),
    ("follows", "unasked: pushed, read ahead, zero, or not wanted any more"),
    ("frozen", "missing"),
)
MB, GB = (1e6, "MB/s"), (1e9, "GB/s")


def page(runs: Sequence[Run]) -> str:
    """The whole file."""
    title = " | ".join(run.title for run in runs)
    columns = "\n".join(f"<article>\n{article(run, Scales(runs))}\n</article>" for run in runs)
    compared = section("Compared", comparison(*runs)) if len(runs) == 2 else ""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n"
        f'<body>\n{compared}<main class="of-{len(runs)}">\n{columns}\n</main>\n'
        "<footer>Made by criu-lazy report. Times are seconds by the source's clock, from migrate's start.</footer>\n"
        "</body>\n</html>\n"
    )


class Scales:
    """What is common to the runs of a page, so that their charts can be compared."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self.width = WIDTH[len(runs)]
        self.seconds = max(run.total_s for run in runs)
        rates = [value for run in runs for _, value in (*run.round_bandwidth(), *run.bandwidth())]
        rates += [value for run in runs for value, _ in marks(run)]
        self.bandwidth = 1.2 * max([1.0, *rates])
        self.faults = 1.08 * max([1.0, *(value for run in runs for _, value in run.fault_rate())])
        gaps = [run.answers.longest for run in runs if run.answers is not None]
        self.gap = 1.08 * max([1e-3, *(end - begin for begin, end in gaps)])
        self.missing = max([1.0, *(value for run in runs for _, value in run.missing())])


def section(name: str, *parts: str, note: str = "") -> str:
    told = f'<p class="note">{escape(note)}</p>' if note else ""
    return f"<section>\n<h2>{escape(name)}</h2>\n{told}{''.join(parts)}\n</section>\n" if any(parts) else ""


def article(run: Run, scales: Scales) -> str:
    """One run."""
    return head(run) + warnings(run) + times(run, scales) + memory(run, scales) + lines(run)


def head(run: Run) -> str:
    """What it was, and the figures that are asked for first."""
    report = run.report
    tiles = "".join(f"<div><b>{escape(value)}</b><span>{escape(name)}</span></div>" for name, value in figures(run)[:6])
    message = f"<p>{escape(report['message'])}</p>" if report["message"] else ""
    if settled := run.settled:
        left = f"migrate had left it {'at its end' if run.ended else 'without an end'}, at {settled['left_in']}"
        message += f"<p>{escape(settled['outcome'])} at {moment(settled['at'])}: {escape(settled['how'])}; {left}</p>"
    strategy = f"<p>{escape(report['strategy'])}</p>" if report["strategy"] else ""
    badge = f'<span class="badge {run.outcome}">{escape(run.outcome)}</span>'
    return (
        f"<header><h1>{escape(run.title)}</h1><p>{badge}"
        f" {moment(run.facts['began'])}, criu-lazy {escape(str(run.facts['program']))}</p>{message}{strategy}"
        f'<div class="tiles">{tiles}</div></header>\n'
    )


def moment(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def figures(run: Run) -> list[tuple[str, str]]:
    """By name; "-" where it did not come so far."""
    report, stats = run.report, run.stats
    transfer, waits = report["transfer_s"], report["fault_wait_us"]
    rate = mb(report["received_bytes"] / transfer) + "/s" if transfer else "-"
    stall = stats["fault_wait_sum_us"] / 1e6 if "fault_wait_sum_us" in stats else None
    precopy = report["precopy"] or {"bytes": 0, "seconds": 0, "rounds": []}
    count = len(precopy["rounds"])
    until = "" if run.heard_until_s is None else f" (until {seconds(run.heard_until_s)})"
    return [
        ("downtime", seconds(report["downtime_s"])),
        ("total", seconds(report["total_s"])),
        ("transfer after the resume", seconds(transfer)),
        ("lazy memory", mb(report["lazy_pages"] * PAGE_BYTES)),
        ("bandwidth of that transfer", rate),
        ("p99 of a fault's wait", f"{waits['p99'] / 1e3:.2f} ms{until}" if waits else "-"),
        ("faults that waited", f"{report['demand_faults'] + report['merged_faults']}{until}"),
        ("longest wait", f"{waits['max'] / 1e3:.2f} ms{until}" if waits else "-"),
        ("all waits together, thread by thread", seconds(stall)),
        ("longest time without an answer to a client", seconds(run.answers.longest_s if run.answers else None)),
        ("received after the freeze", mb(report["received_bytes"])),
        ("pre-copy", f"{mb(precopy['bytes'])} in {count} round{'s' if count > 1 else ''}" if count else "-"),
        ("freeze by criu dump", seconds(report["freeze_s"])),
        ("images", mb(report["image_bytes"])),
        ("reconnects of the page connection", str(stats.get("reconnects", "-"))),
    ]


def seconds(value: float | None) -> str:
    return "-" if value is None else svg.seconds_as_text(value)


def mb(count: float) -> str:
    return f"{count / 1e6:.1f} MB" if count < 1e8 else f"{count / 1e6:.0f} MB"


def marks(run: Run) -> list[tuple[float, str]]:
    """What the link can give, as far as it is known."""
    link = run.facts["link"]
    if link["limit"]:
        return [(float(link["limit"]), f"source.rate: {mb(link['limit'])}/s")]
    best = [(float(link["best"]), f"most over half a second: {mb(link['best'])}/s")] if link["best"] else []
    interface = link["interface"]
    return [*best, (float(interface), f"the interface: {mb(interface)}/s")] if interface else best


def times(run: Run, scales: Scales) -> str:
    """All that is drawn over time."""
    rows = [("source", run.source_line()), ("sent", run.transfer_line()), ("destination", run.destination_line())]
    shade = None
    if run.frozen_s is not None:
        shade = (run.frozen_s, run.source_line()[1].end if run.resumed_s is None else run.resumed_s)
    width, most_s = scales.width, scales.seconds
    unit = GB if scales.bandwidth >= 2e9 else MB
    bandwidth = svg.OverTime(width, most_s, scales.bandwidth, unit, shade)
    missing = svg.OverTime(width, most_s, scales.missing, (1e6, "MB"), shade, 120)
    faults = svg.OverTime(width, most_s, scales.faults, (1, ""), shade, 120)
    sent = [("precopied", run.round_bandwidth()), ("follows", run.bandwidth())]
    steps = run.downtime_parts()
    took = [step.seconds for step in steps]
    axis = svg.Axis(most_s, width - svg.LEFT - svg.RIGHT)
    memory_bytes = run.report["lazy_pages"] * PAGE_BYTES
    arrived = svg.arrival_map(run.arrivals(), run.demands(), run.total_s, axis, memory_bytes)
    how = svg.by_part(run.by_part(), axis, memory_bytes)
    seen, said = "", ""
    if run.answers is not None:
        gaps = svg.OverTime(width, most_s, scales.gap, (1e-3, "ms"), shade, 120)
        seen = gaps.draw([("demand", run.answers.series(run.total_s))])
        begin, end = run.answers.longest
        said = f"The longest time without an answer: {seconds(end - begin)}, from {begin:.3f} s to {end:.3f} s by the "
        said += f"client's clock; between two of them there are {seconds(run.answers.usual_s)} usually (median)."
    stacked = svg.stacked(steps, width, took, [seconds(each) for each in took]) if steps else ""
    shaded = "Bytes that the destination received, headers included; the task was frozen where it is shaded."
    parts = [
        section("Time line", svg.time_lines(rows, width, most_s), svg.legend(LEGEND)),
        section("Time between two answers to a client", seen, note=said),
        section("Bandwidth", bandwidth.draw(sent, marks(run)), note=shaded),
        section("Memory that is missing at the destination", missing.draw([("frozen", run.missing())])),
        section("Which memory has come", arrived, note=ARRIVED),
        section("How each part of it came, by address", how, svg.legend(PARTS) if how else ""),
        section("Faults that wait for the network, per second", faults.draw([("demand", run.fault_rate())])),
        section("Downtime, step by step", stacked),
    ]
    return "".join(parts)


def memory(run: Run, scales: Scales) -> str:
    """What is drawn of pages and faults."""
    waits = run.waits()
    counts = svg.histogram(waits, scales.width) if waits else ""
    came = [pages(shares, scales.width) for shares in (run.how_pages_came(), run.who_asked())]
    note = "Faults that waited for their pages, by powers of two."
    return section("How long a fault waited", counts, note=note) + section("How the pages came", *came)


def pages(shares: list[Share], width: float) -> str:
    if not shares:
        return ""
    whole = sum(share.pages for share in shares)
    words = [f"{mb(share.pages * PAGE_BYTES)}, {share.pages} pages ({share.pages / whole:.1%})" for share in shares]
    return svg.stacked(shares, width, [share.pages for share in shares], words)


def warnings(run: Run) -> str:
    """Each says what can be done."""
    told = list(run.report["warnings"])
    ask = f"criu-lazy migrate --status {run.facts['name']}.yaml at the source"
    if not run.ended:
        at = f"{moment(run.facts['began'] + run.report['total_s'])}, {seconds(run.report['total_s'])} after the start"
        told.insert(0, f"what is here was seen until {at}: migrate had not ended then, or was killed; {ask} tells more")
    elif run.outcome == "undecided":
        told.insert(0, f"the migration waits for a decision: {ask}")
    if run.heard_until_s is not None:
        until = f"nothing was heard of {run.destination} after {svg.seconds_as_text(run.heard_until_s)}"
        came = run.transferred_s
        whole = f"; every page had arrived at {svg.seconds_as_text(came)}, as the page server was told" if came else ""
        told.insert(0, f"{until}: the figures of its memory and its faults end there{whole}")
    items = "".join(f"<li>{escape(words)}</li>" for words in [*told, *run.facts.get("now", [])])
    return section("Warnings", f'<ul class="warnings">{items}</ul>') if items else ""


def lines(run: Run) -> str:
    """What migrate printed, and the rest of the figures."""
    prefix = {"warning": "warning: "}
    told = "\n".join(f"[{at:7.3f}] {prefix.get(level, '')}{words}" for at, level, words in run.facts["lines"])
    rows = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in figures(run))
    return section("Figures", f"<table>{rows}</table>") + section("Progress", f"<pre>{escape(told)}</pre>")


def comparison(first: Run, second: Run) -> str:
    """The figures of both."""
    rows = [f"<tr><th></th><th>{escape(first.title)}</th><th>{escape(second.title)}</th></tr>"]
    rows += [
        f"<tr><th>{escape(name)}</th><td>{escape(one)}</td><td>{escape(other)}</td></tr>"
        for (name, one), (_, other) in zip(figures(first), figures(second), strict=True)
    ]
    return f"<table>{''.join(rows)}</table>"
