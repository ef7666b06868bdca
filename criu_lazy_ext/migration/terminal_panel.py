"""Progress on a terminal, by rich: the lines of a migration, and below them a panel of its figures that changes."""

from __future__ import annotations

import contextlib
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from criu_lazy_ext.migration.display import Display
from criu_lazy_ext.migration.figures import Figures
from criu_lazy_ext.migration.state import State

STYLES = {"info": "", "warning": "yellow", "error": "red"}
# State -> what goes on in it.
WORDS = {
    State.PREFLIGHT: "the task runs, both hosts are prepared",
    State.PRE_COPY: "the task runs, its memory is copied",
    State.DUMPING: "the task is frozen and dumped; images go over",
    State.SERVING: "frozen; lazy-pages is started there",
    State.RESTORING: "frozen; being restored there",
    State.ALLOWED: "frozen; about to run there",
    State.RUNNING: "the task runs there, its memory follows",
    State.DRAINED: "every page has arrived",
    State.COMMITTING: "every page has arrived; the source task goes",
}


class Terminal(Console):
    """One that may go away: a migration goes on without it."""

    def on_broken_pipe(self) -> None:
        """rich (from 13.9 on) would end the process, with its standard output at /dev/null."""
        raise BrokenPipeError


class Panel(Display):
    """Lines go up, the panel stays at the bottom; it vanishes at the end."""

    def __init__(self, stream: TextIO, title: str) -> None:
        self._title = title
        self._console = Terminal(file=stream, highlight=False)
        self._live = Live(
            console=self._console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
        )
        self._ended = False

    def line(self, figures: Figures, text: str, level: str, *, asked: bool = False) -> None:
        text = f"warning: {text}" if level == "warning" else text
        with contextlib.suppress(OSError, ValueError):
            self._console.print(Text(f"[{figures.elapsed_s:7.3f}] {text}", style=STYLES[level]), soft_wrap=True)
        self.refresh(figures)

    def refresh(self, figures: Figures) -> None:
        if self._ended:
            return
        with contextlib.suppress(OSError, ValueError):
            self._live.start()
            self._live.update(panel(self._title, figures), refresh=True)

    def end(self) -> None:
        self._ended = True
        with contextlib.suppress(OSError, ValueError):
            self._live.stop()


def panel(title: str, figures: Figures) -> RenderableType:
    """What is known now."""
    words = WORDS.get(figures.state)
    words = (figures.ending or words) if words else figures.state.value
    head = Text.assemble((title, "bold"), "  ", (words, "cyan"))
    head.append(f"  {figures.elapsed_s:.1f} s", style="dim")
    rows = Table.grid(padding=(0, 2))
    rows.add_column(style="dim", no_wrap=True)
    rows.add_column(overflow="ellipsis", no_wrap=True)
    if (share := progress_share(figures)) is not None:
        rows.add_row("", ProgressBar(total=1.0, completed=share, width=60))
    for name, value in facts(figures):
        rows.add_row(name, value)
    return Group(head, rows)


def progress_share(figures: Figures) -> float | None:
    """Of memory that has come, or that a round has read; None if neither says anything now."""
    if figures.state is State.PRE_COPY:
        return figures.round_read
    if figures.downtime_s is not None and figures.total_bytes:
        return (figures.total_bytes - figures.missing_bytes) / figures.total_bytes
    return None


def facts(figures: Figures) -> list[tuple[str, str]]:
    """The panel's rows."""
    rows: list[tuple[str, str]] = []
    if figures.rounds or figures.state is State.PRE_COPY:
        under_way = f", {figures.round_read:.0%} read in the next" if figures.state is State.PRE_COPY else ""
        count = f"{figures.rounds} round{'s' if figures.rounds != 1 else ''} over"
        rows.append(("pre-copy", f"{count}, {figures.precopied_bytes / 1e6:.0f} MB{under_way}"))
    if (downtime := figures.downtime_so_far_s) is not None:
        rows.append(("downtime", f"{downtime * 1e3:.0f} ms{'' if figures.downtime_s is not None else ' so far'}"))
    if figures.downtime_s is None or not figures.total_bytes:
        return rows
    missing = f"{figures.missing_bytes / 1e6:.0f} MB missing"
    left = "" if figures.seconds_left is None else f", about {figures.seconds_left:.1f} s left"
    rows.append(("memory", f"{figures.memory_as_text()}, {missing}{left}"))
    rows.append(("link", link_as_text(figures)))
    waits = figures.fault_waits_us()
    told = ", ".join(f"{name} {wait / 1e3:.2f}" for name, wait in waits.items())
    waiting = int(figures.stats.get("waiting_faults", 0))
    rows.append(("faults", f"{figures.fault_rate:.0f}/s, {waiting} wait" + (f"; ms: {told}" if told else "")))
    return rows


def link_as_text(figures: Figures) -> str:
    """The bandwidth that is used, beside what the link gives as far as that is known."""
    rate = f"{figures.rate / 1e6:.0f} MB/s"
    if figures.stats.get("paused_us"):
        return f"lost for {int(figures.stats['paused_us']) / 1e6:.0f} s; connecting again"
    if figures.limit:
        return f"{rate} of {figures.limit / 1e6:.0f} allowed"
    return f"{rate}, most so far {figures.best_rate / 1e6:.0f}" if figures.best_rate else rate
