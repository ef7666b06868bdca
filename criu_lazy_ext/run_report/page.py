"""The page: one HTML file that needs nothing else, of one run or of two beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from criu_lazy_ext.run_report import svg
from criu_lazy_ext.run_report.run import Run, Share
from criu_lazy_ext.run_report.style import STYLE
from criu_lazy_ext.run_report.words import began, figures, marks, pages_of, seconds, warnings, what_it_was
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
    return head(run) + warnings_list(run) + times(run, scales) + memory(run, scales) + lines(run)


def head(run: Run) -> str:
    """What it was, and the figures that are asked for first."""
    tiles = "".join(f"<div><b>{escape(value)}</b><span>{escape(name)}</span></div>" for name, value in figures(run)[:6])
    said = "".join(f"<p>{escape(words)}</p>" for words in what_it_was(run))
    badge = f'<span class="badge {run.outcome}">{escape(run.outcome)}</span>'
    return (
        f"<header><h1>{escape(run.title)}</h1><p>{badge} {escape(began(run))}</p>{said}"
        f'<div class="tiles">{tiles}</div></header>\n'
    )


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
    heard_s, unheard = run.total_s, ""
    if run.heard_until_s is not None:
        heard_s = run.heard_until_s
        unheard = f"As of {seconds(heard_s)}: nothing was heard of {run.destination} later."
    arrived = svg.arrival_map(run.arrivals(), run.demands(), heard_s, axis, memory_bytes)
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
        section("How each part of it came, by address", how, svg.legend(PARTS) if how else "", note=unheard),
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
    return svg.stacked(shares, width, [share.pages for share in shares], pages_of(shares))


def warnings_list(run: Run) -> str:
    items = "".join(f"<li>{escape(words)}</li>" for words in warnings(run))
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
