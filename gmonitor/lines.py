"""Bytes from a pipe -> lines of a bounded length -> the few reports that still matter, and readable text."""

import re
from collections.abc import Iterable

from gtask.protocol import Generated, Output, Processed, Report, decode
from gtask.text import printable

LIMIT = 4096  # bytes of one line; a report has less than 100
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


class Lines:
    """Cuts what was read into lines as a terminal would show them: after a carriage return the line begins anew.

    What goes beyond `limit` in a line is dropped, never stored.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._line = b""  # the one that has begun
        self._returned = False  # it ended with a carriage return, so what comes next overwrites it
        self._waits = False  # it had begun already when `unfinished` was last called
        self._given = b""  # what `unfinished` has given of it

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that `data` completes, without their ends."""
        first, *others = data.split(b"\n")
        lines = []
        self._add(first)
        for part in others:
            lines.append(self._take())
            self._add(part)
        return lines

    def unfinished(self) -> bytes:
        """The line that has begun, if it had begun at the last call too and has changed since it was given; or empty.
        To be called once a second."""
        waits, self._waits = self._waits, bool(self._line)
        if not waits or self._line == self._given:
            return b""
        self._given = self._line
        return self._line

    def close(self) -> list[bytes]:
        """What was left without a line end."""
        rest = self._take()
        return [rest] if rest else []

    def _add(self, part: bytes) -> None:
        text = part.rstrip(b"\r")
        if text:
            begin = text.rfind(b"\r") + 1
            if begin or self._returned:
                self._line = b""
            self._line += text[begin : begin + self._limit - len(self._line)]
        if part:
            self._returned = len(text) < len(part)

    def _take(self) -> bytes:
        line, self._line, self._given = self._line, b"", b""
        self._returned = self._waits = False
        return line


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
