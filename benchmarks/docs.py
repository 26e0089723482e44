"""`python -m benchmarks docs`: writes what the runs in a folder printed into docs/, between markers; draws the plots.

A marker is `<!-- COMMAND TABLE -->`; what stands between it and `<!-- end -->` is replaced.
"""

import json
import re
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import plot
from benchmarks.machine import Failed
from benchmarks.report import Table
from tests.support.processes import ROOT

DOCS = ROOT / "docs"
RUNS = DOCS / "benchmarks"  # the runs behind the pages, and the plots
PAGES = ("benchmarks.md", "scaling.md")


def main(folder: Path | None) -> None:
    """Updates the pages."""
    runs = {path.stem: json.loads(path.read_text()) for path in sorted((folder or RUNS).glob("*.json"))}
    for page in PAGES:
        path = DOCS / page
        text = re.sub(
            r"<!-- (\w+) (\S+) -->\n.*?<!-- end -->",
            lambda found: f"<!-- {found[1]} {found[2]} -->\n{_block(runs, found[1], found[2])}\n<!-- end -->",
            path.read_text(),
            flags=re.DOTALL,
        )
        path.write_text(text)
        print(f"{page} is up to date")
    if "throughput" in runs:
        (RUNS / "throughput.svg").write_text(_throughput(runs["throughput"]["data"]["backlog-pinned"]))
    if "failover" in runs:
        (RUNS / "failover.svg").write_text(_failover(runs["failover"]["data"]))


def _block(runs: dict[str, Any], command: str, key: str) -> str:
    run = runs.get(command)
    if run is None:
        raise Failed(f"no run of {command}")
    if key == "about":
        return (
            "\n".join(f"- {name}: {value}" for name, value in run["about"].items()) + f"\n- took {run['seconds']:.0f} s"
        )
    table = next((Table(**table) for table in run["tables"] if table["key"] == key), None)
    return table.markdown() if table else "(not measured in this run)"


def _throughput(data: dict[str, list[float]]) -> str:
    rows = []
    for name, rates in data.items():
        kind = "limit" if name.startswith("bare") else "ours" if name.startswith("gtask") else "other"
        rows.append((name, median(rates), kind))
    rows.sort(key=lambda row: -row[1])
    return plot.bars("One process, no-op handler, pinned to the server's core", "messages/s", rows)


def _failover(data: dict[str, dict[str, list[list[float]]]]) -> str:
    rows = []
    for how, title in (("killed", "SIGKILL"), ("ended", "clean end")):
        for name, ends in data.items():
            kind = "ours" if name.startswith("gtask") else "other"
            rows.append((f"{name.split(',')[0]}: {title}", [1000 * total for total, _ in ends[how]], kind))
    return plot.dots("From the end of the generator to the next item", "ms, a dot each, median at the right", rows)
