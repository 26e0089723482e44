"""Draws docs/pictures/gmonitor.svg: what gmonitor really shows, a moment after its generator was ended with k.

    pip install '.[dev]' && python docs/pictures/gmonitor.py

It runs gmonitor on a pseudo-terminal (pyte keeps the screen), presses k when something has been generated, and lets
rich draw the screen as it then is.
"""

import io
import re
import sys
import time
from itertools import groupby
from pathlib import Path

import pyte
from rich.console import Console
from rich.style import Style
from rich.text import Text

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tests.system.terminal import Terminal  # noqa: E402

COLUMNS, ROWS = 84, 22
COMMAND = [sys.executable, "-m", "gmonitor", "-n", "5"]
RUN_ON = 4.0  # seconds that the next generator works before the picture is taken


def main(target: Path) -> None:
    """Runs gmonitor and writes the picture."""
    with Terminal(COMMAND, COLUMNS, ROWS) as terminal:
        terminal.wait_for(r"(?m)^\W*\d+ +\d+ +yes +([6-9]|\d\d) ")  # it has generated a few
        terminal.press("k")
        terminal.wait_for(r"\bwas\b")
        terminal.wait_for(r"(?m)^\W*\d+ +\d+ +yes +[1-9]\d* ")
        until = time.monotonic() + RUN_ON
        while time.monotonic() < until:
            terminal.read(0.1)
        picture = drawn(terminal.screen)
        terminal.press("q")
        terminal.wait()
    target.write_text(picture, "utf-8")


def drawn(screen: pyte.Screen) -> str:
    """The screen as SVG."""
    console = Console(
        record=True, width=screen.columns, height=screen.lines, file=io.StringIO(), color_system="truecolor"
    )
    for row in range(screen.lines):
        line = Text(no_wrap=True, end="")
        cells = [screen.buffer[row][column] for column in range(screen.columns)]
        # Word by word, so that each stands in its column whatever font draws it.
        for (style, _), word in groupby(cells, lambda cell: (style_of(cell), cell.data.isspace())):
            line.append("".join(cell.data for cell in word), style)
        console.print(line, soft_wrap=True)
    svg = console.export_svg(title="gmonitor", unique_id="gmonitor")
    svg = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)  # fonts from the network: any monospaced one will do
    return re.sub(r"\s+\n", "\n", svg)


def style_of(cell: pyte.screens.Char) -> Style:
    """The cell's colours and weight, in rich's words."""

    def colour(name: str) -> str | None:
        if name == "default":
            return None
        if re.fullmatch("[0-9a-f]{6}", name):
            return f"#{name}"
        return {"brown": "yellow", "brightbrown": "bright_yellow"}.get(name, name.replace("bright", "bright_"))

    return Style(
        color=colour(cell.fg), bgcolor=colour(cell.bg), bold=cell.bold, reverse=cell.reverse, underline=cell.underscore
    )


if __name__ == "__main__":
    main(Path(__file__).with_suffix(".svg"))
