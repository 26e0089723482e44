"""The picture: fleet + size -> lines of text with a style. Pure; columns are data."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import wcwidth

from gmonitor.fleet import Entry, Fleet, Rates, Task
from gtask.protocol import Totals

SMALLEST = (40, 8)
ROOMY = 14  # rows from which on the picture has a title and empty lines
STAMPED = 60  # columns from which on log lines say when
GAP = 2  # cells between two columns

Style = Literal["", "title", "heading", "generator", "ended", "sum", "event", "output", "keys"]
MARKS: dict[Style, str] = {"generator": "▶", "ended": "×", "": " "}  # seen without colours, too


@dataclass(frozen=True)
class Line:
    """One line of the screen, never wider than it."""

    text: str
    style: Style = ""


@dataclass(frozen=True)
class Column:
    """A column: its heading, a task's text in it, the sum below. Where there is no room, priority 1 is dropped last."""

    heading: str
    priority: int
    cell: Callable[[Task], str]
    sum: Callable[[Totals | Rates], float] | None = None
    least: int = 0  # cells, so that the table does not jump when the first text comes


def _generator(task: Task) -> str:
    if task.generates:
        return "yes"
    return "was" if task.was_generator and not task.alive else ""


COLUMNS = (
    Column("pid", 6, lambda task: str(task.pid)),
    Column("taskId", 1, lambda task: "" if task.task_id is None else str(task.task_id)),
    Column("killed?", 7, lambda task: "" if task.alive else "yes"),
    Column("generator?", 2, _generator),
    Column("generated", 5, lambda task: str(task.generated), lambda totals: totals.generated),
    Column("processed", 3, lambda task: str(task.processed), lambda totals: totals.processed),
    Column("errors", 4, lambda task: str(task.errors), lambda totals: totals.errors),
    Column("ended", 8, lambda task: task.ending, least=len("signal 15")),
)


def render(fleet: Fleet, width: int, height: int, keys: str, place: str = "") -> list[Line]:
    """The whole screen: exactly `height` lines, or one line of explanation where it is too small."""
    if width < SMALLEST[0] or height < SMALLEST[1]:
        hint = f"too small: {width}x{height}, needs {SMALLEST[0]}x{SMALLEST[1]}"
        return [Line(cut(hint, width))] if height else []
    roomy = height >= ROOMY
    blank = [Line("")] if roomy else []
    fixed = 4 + 4 * len(blank)  # heading, two lines of sums, keys; title and three empty lines
    space = height - fixed
    log_least = 1 if not roomy else max(3, height // 5)
    heading, rows, sums = _table(fleet, max(space - log_least, 1), width)
    title = f" gmonitor  {fleet.alive} of {len(fleet.tasks)} tasks alive  {place}".rstrip()
    lines = [Line(cut(title, width), "title"), *blank] if roomy else []
    lines += [heading, *rows, *blank, *sums, *blank]
    lines += _log(fleet, space - len(rows), width)
    lines += [Line("")] * (height - 1 - len(lines))
    return [*lines, Line(cut(f" {keys}", width), "keys")]


def _log(fleet: Fleet, room: int, width: int) -> list[Line]:
    """The last entries. Where rows would stay empty, entries that are too long for one go on in the next, the newest
    ones first: why a task has ended is often longer than a row."""
    entries = fleet.latest(room)
    spare = room - len(entries)
    lines: list[Line] = []
    for entry in reversed(entries):
        parts = _wrapped(entry, width, 1 + spare)
        spare -= len(parts) - 1
        lines[:0] = [Line(cut(part, width), entry.source) for part in parts]
    return lines


def _wrapped(entry: Entry, width: int, most: int) -> list[str]:
    """The entry in at most so many rows."""
    stamp = f" {entry.stamp} " if width >= STAMPED else " "
    text = stamp + entry.text
    if most == 1 or cut(text, width) == text:
        return [text]
    indent = " " * (len(stamp) if width >= STAMPED else 3)
    return wcwidth.wrap(text, width, subsequent_indent=indent, max_lines=most, placeholder="…",
                        break_on_hyphens=False, drop_whitespace=False)  # fmt: skip


def cut(text: str, width: int) -> str:
    """The text in at most `width` cells, its loss marked with an ellipsis.

    wcwidth measures whole strings, as terminals do it: characters that combine take other room together than alone.
    For the same reason the shortened text is measured again: the ellipsis may combine with what is before it.
    """
    if text.isascii() and len(text) <= width:  # nearly every line, and measuring is expensive
        return text
    kept, room = text, width
    while room and wcwidth.width(kept) > width:
        room -= 1
        kept = wcwidth.clip(text, 0, room, fillchar="") + "…"
    return kept


def _table(fleet: Fleet, room: int, width: int) -> tuple[Line, list[Line], list[Line]]:
    """The heading; a line for each task, or as many as there is room for; totals and rates."""
    shown = _chosen(fleet, room)
    totals, rates = fleet.totals, fleet.rates
    texts = {
        column: [
            column.heading,
            *(column.cell(task) for task in shown),
            *((f"{column.sum(totals)}", f"{column.sum(rates):.1f}") if column.sum else ("", "")),
        ]
        for column in COLUMNS
    }
    sizes = {column: max(column.least, *map(len, cells)) for column, cells in texts.items()}
    columns = _fitting(sizes, width - 1)
    lines = [
        "".join(texts[column][number].rjust(size + GAP) for column, size in columns.items())
        for number in range(len(shown) + 3)
    ]
    heading, *body = lines
    styles = [_style_of(task) for task in shown]
    rows = [Line(MARKS[style] + text, style) for style, text in zip(styles, body, strict=False)]
    missing = len(fleet.tasks) - len(shown)
    if missing:
        ended = len(fleet.tasks) - fleet.alive - styles.count("ended")
        rows.append(Line(cut(f"  … {missing} more" + (f", {ended} of them ended" if ended else ""), width)))
    total, rate = (
        Line(label + text[len(label) - 1 :], "sum")  # the first columns have no sum, so there the label has room
        for label, text in zip(("  total", "  per second"), body[-2:], strict=True)
    )
    return Line(" " + heading, "heading"), rows, [total, rate]


def _chosen(fleet: Fleet, room: int) -> list[Task]:
    """The tasks that get a line, in the order of their start: the generator first of all, then the living."""
    tasks = list(fleet.tasks.values())
    if len(tasks) <= room:
        return tasks
    order = sorted(tasks, key=lambda task: (not task.generates, not task.alive))
    kept = {task.pid for task in order[: max(room - 1, 1)]}  # the last line is needed to say how many more there are
    return [task for task in tasks if task.pid in kept]


def _fitting(sizes: dict[Column, int], width: int) -> dict[Column, int]:
    """The columns for which there is room, the most important ones first."""
    kept = set()
    for column in sorted(sizes, key=lambda column: column.priority):
        if sizes[column] + GAP <= width:
            kept.add(column)
            width -= sizes[column] + GAP
    return {column: size for column, size in sizes.items() if column in kept}


def _style_of(task: Task) -> Style:
    if task.generates:
        return "generator"
    return "" if task.alive else "ended"
