"""Lines that tasks wrote -> the few reports that still matter, and readable text."""

import re
from collections.abc import Iterable

from gtask.protocol import Generated, Output, Processed, Report, decode
from gtask.text import printable

OUTPUTS = 20  # lines of output that are kept from one read, so that a flood does not fill the memory
LONGEST = 500  # characters of a line that are shown; few terminals are wider

# What programs write to colour their text, to move the cursor or to set a title: a terminal shows nothing of it.
SEQUENCE = re.compile(
    r"""
      (?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]                               # CSI: colours, movements, erasures
    | (?:\x1b[]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)  # OSC (titles, links) and the like
    | \x1b[ -/]*[0-~]                                                # short ones, such as a choice of characters
    """,
    re.VERBOSE,
)


def readable(text: str) -> str:
    """A line as it can be shown anywhere: without colours and the like, in one short and harmless piece."""
    return printable(SEQUENCE.sub("", text)[:LONGEST]).rstrip()


def condense(lines: Iterable[bytes]) -> list[Report | Output]:
    """The reports in these lines, in order, without totals that the next line makes old."""
    kept: list[Report | Output] = []
    outputs = 0
    for line in lines:
        report = decode(line)
        if report is None:
            continue
        if kept and type(report) is type(kept[-1]) and isinstance(report, Generated | Processed):
            kept[-1] = report  # Totals are absolute, so only the last one counts.
            continue
        outputs += isinstance(report, Output)
        kept.append(report)
    if outputs <= OUTPUTS:
        return kept
    surplus = outputs - OUTPUTS
    bounded: list[Report | Output] = [Output(f"… {surplus} lines left out")]
    for report in kept:
        if surplus and isinstance(report, Output):
            surplus -= 1
        else:
            bounded.append(report)
    return bounded
