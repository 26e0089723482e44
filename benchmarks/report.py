"""What a run prints and keeps: tables, bars with pass or miss, figures for the plots."""

import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any


def figure(number: float) -> str:
    """Three significant digits: more of them would say what the next run contradicts."""
    if number == 0:
        return "0"
    return f"{float(f'{number:.3g}'):,.10f}".rstrip("0").rstrip(".")


def middle(numbers: list[float]) -> str:
    """The median, with the smallest and the largest."""
    if len(numbers) == 1:
        return figure(numbers[0])
    return f"{figure(median(numbers))} ({figure(min(numbers))} … {figure(max(numbers))})"


@dataclass
class Table:
    """Cells are text: what is printed is what the documentation shows."""

    key: str
    title: str
    columns: list[str]
    rows: list[list[str]]
    note: str = ""

    def text(self) -> str:
        """For a terminal."""
        lines = [self.columns, *self.rows]
        widths = [max(len(line[column]) for line in lines) for column in range(len(self.columns))]
        body = []
        for first, *rest in lines:
            cells = [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
            body.append("  ".join([first.ljust(widths[0]), *cells]))
        return "\n".join(["", self.title, body[0], "-" * len(body[0]), *body[1:], *([self.note] if self.note else [])])

    def markdown(self) -> str:
        """For the documentation."""
        lines = [self.columns, ["---", *["---:"] * (len(self.columns) - 1)], *self.rows]
        body = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
        return "\n".join([f"**{self.title}**", "", *body, *(["", self.note] if self.note else [])])


@dataclass
class Report:
    """One run of one command."""

    command: str
    about: dict[str, str]
    tables: list[Table] = field(default_factory=list)
    bars: list[dict[str, Any]] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.about["date"] = time.strftime("%Y-%m-%d")
        self._began = time.monotonic()
        print(f"{self.command}: " + "; ".join(f"{name}: {value}" for name, value in self.about.items()), flush=True)

    def table(self, key: str, title: str, columns: list[str], rows: list[list[str]], note: str = "") -> None:
        """Keeps a table and prints it."""
        self.tables.append(Table(key, title, columns, rows, note))
        print(self.tables[-1].text(), flush=True)

    def bar(self, what: str, measured: float | None, limit: float, *, least: bool, unit: str = "") -> None:
        """A figure that was promised; None: not measured here."""
        met = measured is not None and (measured >= limit if least else measured <= limit)
        self.bars.append({"what": what, "measured": measured, "limit": limit, "least": least, "unit": unit, "met": met})

    def finish(self, folder: Path | None) -> None:
        """Prints the bars, and writes all of it into the folder if there is one."""
        self.seconds = time.monotonic() - self._began
        self.tables.append(bars(self.bars))
        print(self.tables[-1].text())
        print(f"\n{self.command} took {self.seconds:.0f} s")
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{self.command}.json").write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n")


def bars(kept: list[dict[str, Any]]) -> Table:
    """The bars as a table."""
    rows = []
    for bar in kept:
        limit = f"{'≥' if bar['least'] else '≤'} {figure(bar['limit'])}{bar['unit']}"
        if bar["measured"] is None:
            rows.append([bar["what"], limit, "–", "not measured"])
        else:
            measured = f"{figure(bar['measured'])}{bar['unit']}"
            rows.append([bar["what"], limit, measured, "met" if bar["met"] else "MISSED"])
    return Table("bars", "Bars", ["", "bar", "this run", ""], rows)
