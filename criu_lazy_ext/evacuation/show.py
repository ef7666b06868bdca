"""What an evacuation shows while it runs, on stderr, and the report at its end."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TextIO

from criu_lazy_ext.evacuation.record import GONE, MOVING, STAYED, WAITING, Item, Record
from criu_lazy_ext.evacuation.schedule import Phase
from criu_lazy_ext.migration.display import Display, is_terminal, stamped, write_line
from criu_lazy_ext.migration.state import State

if TYPE_CHECKING:
    from criu_lazy_ext.evacuation.evacuation import Evacuation, Mover
    from criu_lazy_ext.migration.figures import Figures

REFRESH_S = 0.25
ROWS, WIDE = 20, 110


class Show:
    """Lines, one after the other."""

    def __init__(self, stream: TextIO, *, quiet: bool = False) -> None:
        self.stream = stream
        self.quiet = quiet
        self.start = time.monotonic()
        self._told: dict[str, set[str]] = {}  # of each item, by clauses

    def line(self, text: str, level: str) -> None:
        """Something of the whole evacuation."""
        self.write(f"[{time.monotonic() - self.start:7.3f}] {'warning: ' if level == 'warning' else ''}{text}")

    def step(self, name: str, text: str, level: str, figures: Figures) -> None:
        """Something of one migration."""
        self.line(f"{name}: {text}", level)
        self.note(name, text)

    def end_of(self, name: str, text: str, message: str, level: str) -> None:
        """A try to move this item has ended so: of the `message`, what no line has told of it before."""
        self.line(": ".join(filter(None, (name, text, self.untold(name, message)))), level)
        self.note(name, message)

    def note(self, name: str, text: str) -> None:
        """It was told of that item."""
        told = self._told.setdefault(name, set())
        for clause in () if self.quiet else text.split("; "):
            words = clause.split(": ")  # who or what a message is of stands before it
            told.update(": ".join(words[n:]) for n in range(len(words)))

    def untold(self, name: str, message: str) -> str:
        """The clauses of it that no line has told."""
        told = self._told.get(name, set())
        return "; ".join(one for one in message.split("; ") if not told & {one, one.partition(": ")[2]})

    def write(self, text: str) -> None:
        if not self.quiet:
            write_line(self.stream, text)

    def refresh(self, evacuation: Evacuation) -> None:
        """Time has passed."""

    def end(self) -> None:
        """Nothing more comes."""


class JsonLines(Show):
    """For programs: an object a line."""

    def line(self, text: str, level: str) -> None:
        self.write(json.dumps(stamped(level, text)))

    def step(self, name: str, text: str, level: str, figures: Figures) -> None:
        told = {"item": name, "migration": figures.migration, "phase": figures.state.value}
        self.write(json.dumps(stamped(level, text) | told))

    def note(self, name: str, text: str) -> None:
        """A program gets each message whole."""


class Table(Show):
    """On a terminal, by rich: warnings go up, below them a table of what is under way."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        from rich.live import Live

        from criu_lazy_ext.migration.terminal_panel import Terminal

        self._console = Terminal(file=stream, highlight=False)
        self._live = Live(
            console=self._console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
        )
        self._steps: dict[str, str] = {}
        self._shown = 0.0

    def write(self, text: str) -> None:
        from rich.text import Text

        with contextlib.suppress(OSError, ValueError):
            self._console.print(Text(text, style="yellow" if "] warning: " in text else ""), soft_wrap=True)

    def step(self, name: str, text: str, level: str, figures: Figures) -> None:
        self._steps[name] = text
        if level != "info":
            super().step(name, text, level, figures)

    def refresh(self, evacuation: Evacuation) -> None:
        if time.monotonic() - self._shown < REFRESH_S:
            return
        self._shown = time.monotonic()
        with contextlib.suppress(OSError, ValueError):
            self._live.start()
            self._live.update(table(evacuation, self._steps, self._console.width), refresh=True)

    def end(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._live.stop()


def table(evacuation: Evacuation, steps: dict[str, str], width: int) -> Any:
    """What is under way, and how many wait and are over."""
    from rich import box
    from rich.table import Table as RichTable

    items = evacuation.order
    under_way = [item for item in items if item.state == MOVING]
    made = RichTable(box=box.SIMPLE, title=headline(evacuation), title_justify="left", title_style="bold")
    made.expand = width >= WIDE  # there is room for each one's step
    for name in ("task", "to", "state", "memory", "MB/s", "downtime"):
        made.add_column(name, no_wrap=name not in ("task", "state"), overflow="ellipsis")
    if made.expand:
        made.add_column("", no_wrap=True, overflow="ellipsis", ratio=1)  # the rest
    for item in under_way[:ROWS]:
        mover = evacuation.movers.get(item.name)
        figures = mover.progress.figures if mover else None
        downtime = figures.downtime_so_far_s if figures else None
        step = [steps.get(item.name, "")] if made.expand else []
        made.add_row(
            item.name, item.place, state_of(mover) if mover else "being settled",
            (figures.memory_as_text() if figures else "") or f"{item.memory / 1e6:.0f} MB",
            f"{figures.rate / 1e6:.0f}" if figures and figures.rate else "",
            "" if downtime is None else f"{downtime * 1e3:.0f} ms", *step,
        )  # fmt: skip
    return made


def state_of(mover: Mover) -> str:
    """In a word or two."""
    if mover.member.phase in (Phase.PREPARED, Phase.READY):
        return "waits"
    figures = mover.progress.figures
    if figures.state is State.PRE_COPY:
        return f"pre-copy {figures.rounds + 1}, {figures.round_read:.0%}"
    return str(figures.state.value)


def headline(evacuation: Evacuation) -> str:
    """The whole in a line."""
    items = evacuation.record.items
    count = Counter(item.state for item in items)
    moved, waiting = count[State.COMMITTED.value], count[WAITING]
    stay = sum(item.is_over for item in items) - moved
    movers = evacuation.movers
    came = sum(each.total_bytes - each.missing_bytes for each in (mover.progress.figures for mover in movers.values()))
    left = max(0, sum(item.memory for item in items if not item.is_over) - came)
    rate = sum(mover.progress.figures.rate for mover in evacuation.movers.values())
    waiting += sum(mover.member.phase <= Phase.PREPARED for mover in evacuation.movers.values())
    words = [f"{moved} of {len(items)} moved, {len(items) - moved - stay - waiting} under way, {waiting} wait"]
    words += [f"{stay} stay or are undecided"] if stay else []
    words += [f"{left / 1e6:.0f} MB left"] + ([f"{rate / 1e6:.0f} MB/s"] if rate else [])
    words += [f"{time.monotonic() - evacuation.start:.0f} s"]
    return ", ".join([*words, evacuation.stopped] if evacuation.stopped else words)


class ItemDisplay(Display):
    """One migration's progress, as a part of the whole."""

    def __init__(self, show: Show, name: str) -> None:
        self._show = show
        self._name = name

    def line(self, figures: Figures, text: str, level: str, *, asked: bool = False) -> None:
        self._show.step(self._name, text, level, figures)


def choose(log_format: str, *, quiet: bool) -> Show:
    """What fits stderr."""
    if log_format == "json":
        return JsonLines(sys.stderr, quiet=quiet)
    if not quiet and is_terminal(sys.stderr):
        with contextlib.suppress(ImportError):  # without rich: lines
            return Table(sys.stderr)
    return Show(sys.stderr, quiet=quiet)


def report_text(record: Record, untold: Callable[[str, str], str]) -> str:
    """What became of each, and of all; for people. `untold`: of an item's message, what they have not read yet. What
    waits for their decision is told whole: they read this last."""
    width = max((len(item.name) for item in record.items), default=0)
    waits = (State.UNDECIDED.value, MOVING)
    lines = [
        line_of(item, item.message if item.state in waits else untold(item.name, item.message), width)
        for item in record.items
    ]
    count = Counter(item.state for item in record.items)
    moved = [item for item in record.items if item.has_moved]
    total = f"{len(moved)} of {len(record.items)} moved, {sum(item.memory for item in moved) / 1e6:.0f} MB"
    total += f" in {record.seconds:.1f} s" if record.seconds else ""  # it is on record at a driver's end
    others = [
        f"{count[state]} {state}" for state in (GONE, *STAYED, State.UNDECIDED.value, WAITING, MOVING) if count[state]
    ]
    return "\n".join([*lines, "; ".join([total, *others])])


def line_of(item: Item, message: str, width: int) -> str:
    """One item."""
    words = f"{item.name:<{width}}  {item.state}"
    if item.has_moved:
        words += f" at {item.place}"
        if item.downtime_s is not None:
            words += f": downtime {item.downtime_s * 1e3:.0f} ms"
        if item.fault_wait_us:
            words += f", faults p99 {item.fault_wait_us['p99'] / 1e3:.2f} ms"
        if message:
            words += f" ({message})"
        return "\n".join([words, *(f"{'':<{width}}    warning: {warning}" for warning in item.warnings)])
    return f"{words}: {message}" if message else words


def as_json(record: Record) -> dict[str, Any]:
    """For programs."""
    return {"plan": record.plan, "seconds": round(record.seconds, 3), "items": [vars(item) for item in record.items]}
