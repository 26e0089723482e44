"""Bytes from a pipe -> lines of a bounded length -> the few reports that still matter."""

from collections.abc import Iterable

from gtask.protocol import Generated, Output, Processed, Report, decode

LIMIT = 4096  # bytes of one line; a report has less than 100
OUTPUTS = 20  # lines of output kept from one piece of reading; a flood must not fill the memory


class Lines:
    """Cuts what was read into lines; what goes beyond `limit` in a line is dropped, never stored."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that `data` completes, without their ends."""
        first, *others = data.split(b"\n")
        lines = []
        self._add(first)
        for part in others:
            lines.append(self._rest)
            self._rest = b""
            self._add(part)
        return lines

    def close(self) -> list[bytes]:
        """What was left without a line end."""
        rest, self._rest = self._rest, b""
        return [rest] if rest else []

    def _add(self, part: bytes) -> None:
        self._rest += part[: self._limit - len(self._rest)]


def condense(lines: Iterable[bytes]) -> list[Report | Output]:
    """The reports in these lines, in order, without totals that the next line makes old."""
    kept: list[Report | Output] = []
    outputs = 0
    for line in lines:
        report = decode(line)
        if report is None:
            continue
        if kept and type(report) is type(kept[-1]) and isinstance(report, Generated | Processed):
            kept[-1] = report  # totals are absolute: only the last one counts
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
