"""Plots as SVG, without any library: bars on a logarithmic axis, and dots on a linear one."""

from collections.abc import Sequence
from html import escape
from math import ceil, floor, log10

WIDTH, ROW, LABEL, RIGHT, TOP = 860, 26, 290, 90, 44
STYLE = """<style>
text { font: 13px sans-serif; fill: #24292f } .small { font-size: 11px; fill: #57606a } .title { font-weight: bold }
.grid { stroke: #d0d7de } .ours { fill: #1a7f37 } .limit { fill: #8c959f } .other { fill: #bf8700 }
</style>"""


def bars(title: str, unit: str, rows: Sequence[tuple[str, float, str]]) -> str:
    """`rows`: label, value, kind (ours, limit, other). The axis is logarithmic: the values differ by thousands."""
    low = floor(log10(min(value for _, value, _ in rows)))
    high = ceil(log10(max(value for _, value, _ in rows)))

    def x(value: float) -> float:
        return LABEL + (WIDTH - LABEL - RIGHT) * (log10(value) - low) / (high - low)

    height = TOP + ROW * len(rows) + 30
    parts = [_text(10, 20, f"{title} ({unit}, logarithmic)", "title")]
    for power in range(low, high + 1):
        parts += _grid(x(10.0**power), height, f"{10**power:,}")
    for number, (label, value, kind) in enumerate(rows):
        y = TOP + ROW * number
        parts.append(_text(LABEL - 8, y + 15, label, anchor="end"))
        parts.append(
            f'<rect x="{LABEL}" y="{y + 3}" width="{x(value) - LABEL:.1f}" height="{ROW - 8}" class="{kind}"/>'
        )
        parts.append(_text(x(value) + 5, y + 15, f"{value:,.0f}", "small"))
    return _svg(height, parts)


def dots(title: str, unit: str, rows: Sequence[tuple[str, Sequence[float], str]]) -> str:
    """`rows`: label, values, kind. One half-transparent dot for each value, a line at the median."""
    most = max(max(values) for _, values, _ in rows)
    step = 10 ** floor(log10(most))
    step = step / 2 if most / step < 4 else step
    end = step * ceil(most / step)

    def x(value: float) -> float:
        place: float = LABEL + (WIDTH - LABEL - RIGHT) * max(0.0, value) / end
        return place

    height = TOP + ROW * len(rows) + 30
    parts = [_text(10, 20, f"{title} ({unit})", "title")]
    for number in range(round(end / step) + 1):
        parts += _grid(x(number * step), height, f"{number * step:,g}")
    for number, (label, values, kind) in enumerate(rows):
        y = TOP + ROW * number + ROW / 2 - 1
        middle = sorted(values)[len(values) // 2]
        parts.append(_text(LABEL - 12, y + 4, label, anchor="end"))
        parts += [f'<circle cx="{x(v):.1f}" cy="{y:.1f}" r="4.5" opacity="0.35" class="{kind}"/>' for v in values]
        parts.append(f'<rect x="{x(middle) - 1:.1f}" y="{y - 10:.1f}" width="2.5" height="20" class="{kind}"/>')
        parts.append(_text(WIDTH - RIGHT + 12, y + 4, f"{middle:,.0f}", "small"))
    return _svg(height, parts)


def _grid(x: float, height: float, label: str) -> list[str]:
    line = f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 6}" y2="{height - 26}" class="grid"/>'
    return [line, _text(x, height - 10, label, "small", "middle")]


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(height: float, parts: list[str]) -> str:
    box = f'viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" height="{height:.0f}"'
    background = f'<rect width="{WIDTH}" height="{height:.0f}" fill="white"/>'
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" {box}>', STYLE, background, *parts, "</svg>\n"])
