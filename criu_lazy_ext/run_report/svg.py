"""Charts as inline SVG: no script, no font of its own; colours are classes, which the page's style sheet gives."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from criu_lazy_ext.run_report.run import Series, Share, Span
from criu_lazy_ext.run_report.words import seconds_as_text

LEFT, RIGHT, TOP, BOTTOM = 90, 14, 10, 26  # around a chart's area, where scales are written
ROW = 24
MAP_ROW, MAP_LEVELS = 4, 8  # of the arrival map: height; shades besides nothing
MANY = 8  # faults of a mark there
LETTER = 6.4  # about the width of one


@dataclass(frozen=True)
class Axis:
    """From 0 to `most`, over `length` units of the picture."""

    most: float
    length: float

    def __call__(self, value: float) -> float:
        return value / self.most * self.length if self.most else 0.0

    def ticks(self, wanted: int) -> list[float]:
        """Round values, about so many."""
        step = nice(self.most / wanted)
        return [step * n for n in range(int(self.most / step + 1e-9) + 1)] if step else [0.0]


def nice(value: float) -> float:
    """The least of 1, 2, 5 times a power of ten that is not below `value`."""
    if value <= 0:
        return 0.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(power * factor for factor in (1, 2, 5, 10) if value <= power * factor * (1 + 1e-9))


def picture(width: float, height: float, parts: Iterable[str], label: str) -> str:
    """The whole of it. `label`: for who can't see it."""
    inside = "\n".join(parts)
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{escape(label, quote=True)}">'
        f"\n{inside}\n</svg>"
    )


def text(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def bar(x: float, y: float, width: float, height: float, kind: str, title: str) -> str:
    return (
        f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{max(width, 0.8):.1f}" height="{height:.1f}" rx="2">'
        f"<title>{escape(title)}</title></rect>"
    )


def time_scale(axis: Axis, top: float, bottom: float) -> list[str]:
    """Seconds, with lines up to `top`."""
    parts = []
    for tick in axis.ticks(8):
        x = LEFT + axis(tick)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top:.1f}" y2="{bottom:.1f}"/>')
        parts.append(text(x, bottom + 16, f"{tick:g} s", "scale", "middle"))
    return parts


def time_lines(rows: Sequence[tuple[str, list[Span]]], width: float, total_s: float) -> str:
    """Spans, a row for each list of them."""
    axis = Axis(total_s, width - LEFT - RIGHT)
    bottom = TOP + ROW * len(rows)
    parts = time_scale(axis, TOP, bottom)
    for number, (name, spans) in enumerate(rows):
        y = TOP + ROW * number + 2
        parts.append(text(LEFT - 8, y + 14, name, "scale", "end"))
        for span in spans:
            long = axis(span.seconds)
            parts.append(bar(LEFT + axis(span.begin), y, long, ROW - 5, span.kind, described(span)))
            if long > LETTER * len(span.name) + 8:
                parts.append(text(LEFT + axis(span.begin) + 5, y + 14, span.name, "on"))
    return picture(width, bottom + BOTTOM, parts, "time line")


def legend(kinds: Sequence[tuple[str, str]]) -> str:
    """What colours mean: (kind, words)."""
    words = "".join(f'<span><i class="{kind}"></i>{escape(name)}</span>' for kind, name in kinds)
    return f'<p class="legend">{words}</p>'


def described(span: Span) -> str:
    return f"{span.name}: {seconds_as_text(span.seconds)}, from {span.begin:.3f} s to {span.end:.3f} s"


@dataclass(frozen=True)
class OverTime:
    """A chart of a value over time. `most_s`, `most`: the ends of its scales; `unit`: the value's, its size and name;
    `shade`: from when to when the task was frozen."""

    width: float
    most_s: float
    most: float
    unit: tuple[float, str]
    shade: tuple[float, float] | None = None
    height: float = 150.0

    def draw(self, areas: Sequence[tuple[str, Series]], marks: Sequence[tuple[float, str]] = ()) -> str:
        """`areas`: each with its kind; `marks`: values to be compared with. "" if there is nothing to draw."""
        if not any(series for _, series in areas):
            return ""
        size, name = self.unit
        x, y = Axis(self.most_s, self.width - LEFT - RIGHT), Axis(self.most or 1.0, self.height - TOP - BOTTOM)
        bottom = self.height - BOTTOM
        parts = time_scale(x, TOP, bottom)
        for tick in y.ticks(5):
            parts.append(self._across(bottom - y(tick), "grid"))
            parts.append(text(LEFT - 8, bottom - y(tick) + 4, f"{tick / size:g} {name}", "scale", "end"))
        if self.shade is not None:
            since, until = self.shade
            parts.append(bar(LEFT + x(since), TOP, x(until - since), bottom - TOP, "shade", "the task is frozen"))
        for kind, series in areas:
            points = " ".join(f"{LEFT + x(at):.1f},{bottom - y(value):.1f}" for at, value in series)
            if series:
                begin, end = (f"{LEFT + x(series[n][0]):.1f},{bottom}" for n in (0, -1))
                parts.append(f'<polygon class="area {kind}" points="{begin} {points} {end}"/>')
                parts.append(f'<polyline class="line {kind}" points="{points}"/>')
        for value, words in marks:
            at = bottom - y(value)
            parts.append(self._across(at, "mark"))
            parts.append(text(LEFT + 5, at - 4 if at > TOP + 14 else at + 13, words, "note"))
        return picture(self.width, self.height, parts, f"{name} over time")

    def _across(self, y: float, kind: str) -> str:
        return f'<line class="{kind}" x1="{LEFT}" x2="{self.width - RIGHT:.0f}" y1="{y:.1f}" y2="{y:.1f}"/>'


def arrival_map(
    arrivals: Sequence[tuple[float, bytes]], demands: Sequence[tuple[float, float, bytes]], end: float, axis: Axis,
    total_bytes: int,
) -> str:  # fmt: skip
    """Address by time, until `end`: the more of a part of memory has come, the darker. `demands`: where faults asked
    for pages. "" if nothing is known."""
    if not arrivals:
        return ""
    rows = len(arrivals[0][1])
    bottom = TOP + MAP_ROW * rows
    parts = time_scale(axis, TOP, bottom)
    levels: dict[int, list[str]] = {}
    ends = [*(at for at, _ in arrivals[1:]), end]
    for row in range(rows):
        steps = [MAP_LEVELS - -(-each[row] * MAP_LEVELS // 255) for _, each in arrivals]
        begin = 0
        for n, level in enumerate(steps):
            if n + 1 < len(steps) and steps[n + 1] == level:
                continue
            left, right = LEFT + axis(arrivals[begin][0]), LEFT + axis(ends[n])
            path = f"M{left:.1f} {TOP + MAP_ROW * row}H{right:.1f}v{MAP_ROW}H{left:.1f}z"
            levels.setdefault(level, []).append(path)
            begin = n + 1
    for level, paths in sorted(levels.items()):
        opacity = f"{0.06 + 0.94 * level / MAP_LEVELS:.2f}"
        parts.append(f'<path class="follows" fill-opacity="{opacity}" d="{"".join(paths)}"/>')
    asked: dict[str, list[str]] = {}
    for since, until, counts in demands:
        for row, count in enumerate(counts):
            if count:
                left, long = LEFT + axis(since), max(2.0, axis(until - since))
                path = f"M{left:.1f} {TOP + MAP_ROW * row + 1}h{long:.1f}v{MAP_ROW - 2}H{left:.1f}z"
                asked.setdefault("1" if count >= MANY else "0.6", []).append(path)
    for opacity, paths in sorted(asked.items()):
        parts.append(f'<path class="demand" fill-opacity="{opacity}" d="{"".join(paths)}"/>')
    for share in (0.0, 0.5, 1.0):
        y = TOP + MAP_ROW * rows * share
        parts.append(text(LEFT - 8, y + 4 + 4 * (1 - 2 * share), f"{share * total_bytes / 1e6:.0f} MB", "scale", "end"))
    return picture(axis.length + LEFT + RIGHT, bottom + BOTTOM, parts, "arrival of pages by address and time")


def by_part(parts: Sequence[Sequence[tuple[str, float]]], axis: Axis, total_bytes: int) -> str:
    """A column for each part of memory, by address, made of shares of their kinds. "" if nothing is known."""
    if not parts:
        return ""
    height, wide = 110.0, axis.length / len(parts)
    drawn = []
    for number, shares in enumerate(parts):
        y = TOP + height
        for kind, share in shares:
            if share > 0:
                y -= share * height
                left = LEFT + number * wide
                drawn.append(bar(left, y, wide - 1, share * height, kind, f"{share:.1%}"))
    for share in (0.0, 0.5, 1.0):
        anchor = ("start", "middle", "end")[int(2 * share)]
        words = f"{share * total_bytes / 1e6:.0f} MB"
        drawn.append(text(LEFT + share * axis.length, TOP + height + 16, words, "scale", anchor))
    return picture(axis.length + LEFT + RIGHT, TOP + height + BOTTOM, drawn, "how each part of memory came")


def histogram(counts: Sequence[tuple[str, int]], width: float) -> str:
    """A row for each count, its bar's length by the count."""
    left = 110
    axis = Axis(max(count for _, count in counts), width - left - 80)
    parts = []
    for number, (name, count) in enumerate(counts):
        y = 4 + 20 * number
        parts.append(text(left - 8, y + 13, name, "scale", "end"))
        if count:
            parts.append(bar(left, y, axis(count), 16, "demand", f"{name}: {count}"))
        parts.append(text(left + axis(count) + 6, y + 13, f"{count:,}".replace(",", " "), "note"))
    return picture(width, 8 + 20 * len(counts), parts, "histogram")


def stacked(shares: Sequence[Share | Span], width: float, values: Sequence[float], words: Sequence[str]) -> str:
    """One bar made of parts as long as their `values`; below it what each is, with `words`."""
    axis = Axis(sum(values), width)
    parts, x = [], 0.0
    for share, value, told in zip(shares, values, words, strict=True):
        parts.append(bar(x, 2, axis(value) - 1, 22, share.kind, f"{share.name}: {told}"))
        x += axis(value)
    for number, (share, told) in enumerate(zip(shares, words, strict=True)):
        y = 36 + 20 * number
        parts.append(f'<rect class="{share.kind}" x="0" y="{y}" width="12" height="12" rx="2"/>')
        parts.append(text(20, y + 11, f"{share.name}: {told}", "note"))
    return picture(width, 40 + 20 * len(shares), parts, "shares")
