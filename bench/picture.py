"""A picture of a transfer: how much of the task's memory had arrived when, with stock criu's daemon and with ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 720, 300
LEFT, RIGHT, TOP, BOTTOM = 64, 20, 40, 44
COLOURS = {"ours": "#1b6ac9", "stock": "#c4532b", "link": "#8a8f98"}
NAMES = {"ours": "criu-lazy", "stock": "criu lazy-pages", "link": "the link, at its rate"}
Curve = Sequence[tuple[float, int]]


def svg(title: str, curves: Mapping[str, Curve], link_bytes_per_s: float) -> str:
    """`curves`: a key of COLOURS -> (seconds since the resume, bytes that had come by then), both growing.

    The dashed line is what the link can carry, at `link_bytes_per_s`.
    """
    last_s = max(curve[-1][0] for curve in curves.values())
    full = max(curve[-1][1] for curve in curves.values())
    link = [(0.0, 0), (full / link_bytes_per_s, full)]

    def points(curve: Curve) -> str:
        across, up = (WIDTH - LEFT - RIGHT) / last_s, (HEIGHT - TOP - BOTTOM) / full
        return " ".join(f"{LEFT + at * across:.1f},{HEIGHT - BOTTOM - size * up:.1f}" for at, size in curve)

    lines = [f'<polyline points="{points(link)}" stroke="{COLOURS["link"]}" stroke-dasharray="6 4"/>']
    lines += [f'<polyline points="{points(curve)}" stroke="{COLOURS[name]}"/>' for name, curve in curves.items()]
    texts = [_text(LEFT, 22, title, "start", "#444")]
    texts += [_text(LEFT - 8, TOP + 5, f"{full / 1e6:.0f} MB", "end", "#444")]
    texts += [_text(LEFT - 8, HEIGHT - BOTTOM + 5, "0", "end", "#444")]
    texts += [_text(WIDTH - RIGHT, HEIGHT - 14, f"{last_s:.1f} s after the resume", "end", "#444")]
    for number, (name, curve) in enumerate([("link", link), *curves.items()]):  # below: the curves end at the top
        said = f"{NAMES[name]}: {curve[-1][1] / 1e6:.0f} MB after {curve[-1][0]:.1f} s"
        texts.append(_text(WIDTH - RIGHT - 8, HEIGHT - BOTTOM - 14 - 20 * number, said, "end", COLOURS[name]))
    frame = f'<path d="M{LEFT} {TOP}V{HEIGHT - BOTTOM}H{WIDTH - RIGHT}" stroke="#444"/>'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif"'
    head += ' font-size="13">'
    background = f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>'
    drawn = f'<g fill="none" stroke-width="2">{frame}{"".join(lines)}</g>'
    return f"{head}{background}{drawn}{''.join(texts)}</svg>\n"


def _text(x: float, y: float, words: str, anchor: str, colour: str) -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" fill="{colour}">{escape(words)}</text>'
