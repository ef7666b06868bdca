"""The same as the page, as far as it goes in text: a screen for a terminal, of one run or of each of two."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from criu_lazy_ext.run_report.run import Run, Span
from criu_lazy_ext.run_report.words import began, figures, marks, pages_of, seconds, warnings, what_it_was

Rows = list[tuple[str, str]]


def text(runs: Sequence[Run]) -> str:
    """All of it, lines."""
    return "\n".join("\n".join(lines(run)) + "\n" for run in runs)


def lines(run: Run) -> Iterator[str]:
    """Of one run."""
    yield run.title
    yield f"{run.outcome}, {began(run)}"
    yield from what_it_was(run)
    yield from (f"warning: {words}" for words in warnings(run))
    yield from rows("Time line", time_line(run))
    yield from rows("Figures", [(name, value) for name, value in figures(run) if value != "-"] + link(run))
    for title, shares in (("How the pages came", run.how_pages_came()), ("What made them come", run.who_asked())):
        yield from rows(title, list(zip((share.name for share in shares), pages_of(shares), strict=True)))


def rows(title: str, told: Rows) -> Iterator[str]:
    """A table, if there is anything in it."""
    width = max((len(name) for name, _ in told), default=0)
    yield from ["", title] if told else []
    yield from (f"  {name:<{width}}  {value}" for name, value in told)


def time_line(run: Run) -> Rows:
    """What was done where, one after the other, and how long it took."""
    told = [("source", run.source_line()), ("sent", run.transfer_line()), ("destination", run.destination_line())]
    return [(name, steps(spans)) for name, spans in (*told, ("downtime", run.downtime_parts())) if spans]


def steps(spans: Sequence[Span]) -> str:
    return " | ".join(f"{span.name} {seconds(span.seconds)}" for span in spans)


def link(run: Run) -> Rows:
    """What it can give, beside the bandwidth that was used."""
    return [("the link", "; ".join(words for _, words in marks(run)))] if marks(run) else []
