"""The promises as rules: each is a linear scan that gives its violations, as lines of text."""

from collections import Counter
from collections.abc import Iterable, Iterator

from gtask import protocol
from tests.faults.history import End, Event, Pushed, Takeover

MARGIN = 0.3  # seconds that a takeover may take beyond the flag's remaining life
RESPONSIVE = 0.1  # a machine that stalls for longer says nothing about how fast a takeover is


def deposed_is_silent(events: Iterable[Event]) -> Iterator[str]:
    """No message of a deposed generator comes after its successor's first one."""
    deposed: set[str] = set()
    latest = None
    for event in events:
        if isinstance(event, Pushed):
            if event.author in deposed:
                yield f"message {event.number} is of {event.author}, after its successor {latest} had begun"
            if latest not in (None, event.author):
                deposed.add(str(latest))
            latest = event.author


def numbers_are_whole(events: Iterable[Event]) -> Iterator[str]:
    """The numbers are 1, 2, 3, … over every takeover, without a gap and without a repeat."""
    expected = 1
    for event in events:
        if isinstance(event, Pushed):
            if event.number != expected:
                yield f"message {event.number} of {event.author} came where {expected} was due"
            expected = event.number + 1


def nothing_is_lost(events: Iterable[Event], end: End) -> Iterator[str]:
    """Each accepted message is handled, in `errors`, waiting or in flight; and the server's sums say the same."""
    accepted = [event.number for event in events if isinstance(event, Pushed)]
    found = {*end.handled, *end.errors, *end.waiting, *end.in_flight}
    yield from (f"message {number} is lost" for number in accepted if number not in found)
    accounted = end.processed + len(end.waiting) + len(end.in_flight)
    if accounted != len(accepted):
        yield (
            f"{len(accepted)} were accepted, but {end.processed} were acknowledged, {len(end.waiting)} wait and "
            f"{len(end.in_flight)} are in flight"
        )


def nothing_is_invented(events: Iterable[Event], end: End) -> Iterator[str]:
    """Nothing is handled, failed, waiting or in flight that was never pushed."""
    accepted = {event.number for event in events if isinstance(event, Pushed)}
    for where in ("handled", "errors", "waiting", "in_flight"):
        for number in Counter(getattr(end, where)):
            if number not in accepted:
                yield f"message {number} ({where}) was never pushed"


def reports_are_whole(lines: Iterable[bytes]) -> Iterator[str]:
    """Every line of a task's stdout is a whole report of a known form, and no total shrinks."""
    totals: Counter[str] = Counter()
    for line in lines:
        report = protocol.decode(line)
        if not line.endswith(b"\r\n") or report is None or isinstance(report, protocol.Output):
            yield f"no whole report: {line!r}"
            continue
        for name in ("total", "errors"):
            value = getattr(report, name, None)
            kind = f"{type(report).__name__}.{name}"
            if value is not None:
                if value < totals[kind]:
                    yield f"{kind} fell from {totals[kind]} to {value}"
                totals[kind] = value


def judged(takeovers: Iterable[Takeover]) -> list[Takeover]:
    """Those during which the machine was responsive."""
    return [takeover for takeover in takeovers if takeover.stalled <= RESPONSIVE]


def takeovers_are_fast(takeovers: Iterable[Takeover]) -> Iterator[str]:
    """After a SIGKILL another task generates within the flag's remaining life and MARGIN."""
    for takeover in judged(takeovers):
        if takeover.took > takeover.flag_life + MARGIN:
            yield f"a takeover took {takeover.took:.2f} s, and the flag had lived for {takeover.flag_life:.2f} s"
