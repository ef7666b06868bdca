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
from criu_lazy_ext.migration.figures import Figures, duration_as_text
from criu_lazy_ext.migration.state import State

STYLES = {"info": "", "warning": "yellow", "error": "red"}
# State -> what goes on in it.
WORDS = {
    State.PREFLIGHT: "the task runs, both hosts are being prepared",
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
    if figures.sends_files and not figures.ending:
        words = "the task runs, its files are copied"
    head = Text.assemble((title, "bold"), "  ", (words, "cyan"))
    head.append(f"  {figures.elapsed_s:.1f} s", style="dim")
    rows = Table.grid(padding=(0, 2))
    rows.add_column(style="dim", no_wrap=True)
    rows.add_column()  # where the terminal is narrow, this one is broken into lines
    if (share := progress_share(figures)) is not None:
        rows.add_row("", ProgressBar(total=1.0, completed=share, width=60, complete_style="cyan"))
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
        told = [figures.round_as_text()] if figures.state is State.PRE_COPY else []
        if figures.rounds:
            before = " before" if told else ""
            count = f"{figures.rounds} round{'s' if figures.rounds != 1 else ''}{before}"
            told.append(f"{figures.rounds_bytes / 1e6:.0f} MB sent in {count}")
        rows.append(("pre-copy", "; ".join(told)))
    if figures.state is State.PRE_COPY and figures.rate:
        rows.append(("link", link_as_text(figures)))
    if (downtime := figures.downtime_so_far_s) is not None:
        rows.append(("downtime", f"{downtime * 1e3:.0f} ms{'' if figures.downtime_s is not None else ' so far'}"))
    if figures.downtime_s is None or not figures.total_bytes:
        return rows
    missing = "" if figures.is_unheard else f", {figures.missing_bytes / 1e6:.0f} MB missing"
    left = "" if figures.seconds_left is None else f", about {duration_as_text(figures.seconds_left)} left"
    rows.append(("memory", f"{figures.memory_as_text()}{missing}{left}"))
    rows.append(("link", link_as_text(figures)))
    rows.append(("faults", faults_as_text(figures)))
    return rows


def faults_as_text(figures: Figures) -> str:
    """How many there are, how many wait, and how long they waited until now."""
    waiting = int(figures.stats.get("waiting_faults", 0))
    if figures.is_unheard:
        text = f"{waiting} waited for pages then"
    else:
        text = f"{figures.fault_rate:.0f}/s, {waiting} waiting now"
    waits = ", ".join(f"{name} {wait / 1e3:.2f}" for name, wait in figures.fault_waits_us().items())
    return f"{text}; waits {waits} ms" if waits else text


def link_as_text(figures: Figures) -> str:
    """The bandwidth that is used, beside what the link gives as far as that is known."""
    rate = f"{figures.rate / 1e6:.0f} MB/s"
    if figures.stats.get("paused_us") and not figures.is_unheard:
        return f"lost for {int(figures.stats['paused_us']) / 1e6:.0f} s; connecting again"
    if figures.silent_s:
        sends = "the page server could send nothing" if figures.is_unheard else "nothing has come"
        return f"{sends} for {figures.silent_s:.0f} s"
    if figures.limit:
        return f"{rate} of {figures.limit / 1e6:.0f} allowed"
    return f"{rate}, most so far {figures.best_rate / 1e6:.0f}" if figures.best_rate else rate
