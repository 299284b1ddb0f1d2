"""The picture of a run: throughput and latency over time, with the faults marked. Plain SVG, written by hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape
from typing import Any

from chaos.struck import Struck

WIDTH, LEFT, RIGHT, TOP = 1200, 60, 20, 40
PANEL, GAP = 200, 40
LINE = 15
COLOURS = {"sent": "#b0b0b0", "outcomes": "#1f6fb4", "p50_ms": "#2a9d5c", "p99_ms": "#d1495b"}
BAND = "#f4a261"
LATENCY_MS = (1.0, 100_000.0)


def picture(title: str, series: dict[str, list[Any]], struck: Sequence[Struck]) -> str:
    """The SVG."""
    seconds = max(1, len(series["sent"]))
    most: float = max([10, *series["sent"], *series["outcomes"]])
    plot = WIDTH - LEFT - RIGHT

    def x(second: float) -> float:
        return LEFT + plot * min(second, seconds) / seconds

    def rate(value: float) -> float:
        return TOP + PANEL * (1 - value / most)

    def latency(value: float) -> float:
        low, high = map(math.log10, LATENCY_MS)
        share = (math.log10(min(max(value, LATENCY_MS[0]), LATENCY_MS[1])) - low) / (high - low)
        return TOP + PANEL + GAP + PANEL * (1 - share)

    bottom = TOP + 2 * PANEL + GAP
    legend = _legend(struck, bottom + 45)
    parts = [
        _text(LEFT, 22, title, size=15),
        *_bands(struck, x, bottom),
        *(_grid(rate(most * share), f"{most * share:.0f}/s") for share in (0, 0.5, 1)),
        *(_grid(latency(10**power), f"{10**power:g} ms") for power in range(6)),
        *(_text(x(second), bottom + 16, f"{second} s", anchor="middle") for second in _ticks(seconds)),
        _line("sent", series["sent"], x, rate),
        _line("outcomes", series["outcomes"], x, rate),
        _line("p50_ms", series["p50_ms"], x, latency),
        _line("p99_ms", series["p99_ms"], x, latency),
        *(
            _text(LEFT + 140 * place, bottom + 34, name.replace("_ms", " of outcomes"), colour=colour)
            for place, (name, colour) in enumerate(COLOURS.items())
        ),
        *legend,
    ]
    height = bottom + 45 + LINE * (len(struck) + 1)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'font-family="sans-serif"><rect width="100%" height="100%" fill="white"/>'
    )
    return "\n".join([head, *parts, "</svg>"]) + "\n"


def _bands(struck: Sequence[Struck], x: Callable[[float], float], bottom: float) -> list[str]:
    """From each fault's beginning to its healing, and a thin line where the fleet had recovered."""
    bands = []
    for number, one in enumerate(struck, 1):
        left, width = x(one.at_s), max(2.0, x(one.healed_s) - x(one.at_s))
        bands.append(
            f'<rect x="{left:.1f}" y="{TOP}" width="{width:.1f}" height="{bottom - TOP}" fill="{BAND}" opacity="0.25"/>'
        )
        if one.recovered_s is not None:
            at = x(one.recovered_s)
            bands.append(f'<path d="M{at:.1f} {TOP}V{bottom}" stroke="#2a9d5c" stroke-dasharray="2 3"/>')
        bands.append(_text(left, TOP - 4, str(number), size=10))
    return bands


def _legend(struck: Sequence[Struck], top: float) -> list[str]:
    lines = []
    for number, one in enumerate(struck, 1):
        told = f"recovered in {one.recovery_ms / 1000:.1f} s" if one.recovery_ms is not None else "not recovered"
        text = f"{number}. {one.at_s:.0f} s {one.kind}: {one.what} — {told}"
        lines.append(_text(LEFT, top + LINE * number, text))
    return lines


def _line(name: str, values: Sequence[float | None], x: Callable[[float], float], y: Callable[[float], float]) -> str:
    """One line; it is broken where there is no value."""
    path, drawing = [], False
    for second, value in enumerate(values):
        if value is None:
            drawing = False
            continue
        path.append(f"{'L' if drawing else 'M'}{x(second + 0.5):.1f} {y(value):.1f}")
        drawing = True
    return f'<path d="{"".join(path)}" fill="none" stroke="{COLOURS[name]}" stroke-width="1.5"/>'


def _grid(y: float, text: str) -> str:
    line = f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#e0e0e0"/>'
    return line + _text(LEFT - 6, y + 4, text, anchor="end", size=10)


def _ticks(seconds: int) -> range:
    return range(
        0, seconds + 1, next(step for step in (5, 10, 20, 30, 60, 120, 300, 600, 3_600) if seconds / step < 25)
    )


def _text(x: float, y: float, text: str, *, anchor: str = "start", size: int = 12, colour: str = "#333333") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{colour}" text-anchor="{anchor}">{escape(text)}</text>'
    )
