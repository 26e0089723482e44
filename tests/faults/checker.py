"""The promises as rules: each is a linear scan that gives its violations, as lines of text."""

from collections import Counter
from collections.abc import Iterable, Iterator

from gtask import protocol
from tests.faults import plan
from tests.faults.history import Elected, Emptied, End, Event, Followed, Lost, Pushed, PutOff, Takeover

MARGIN = 0.3  # seconds that a takeover may take beyond the flag's remaining life
RESPONSIVE = 0.1  # a machine that stalls for longer says nothing about how fast a takeover is


def deposed_is_silent(events: Iterable[Event]) -> Iterator[str]:
    """No message of a deposed generator comes after its successor's first one, nor after the server was emptied."""
    deposed: set[str] = set()
    latest = None
    for event in events:
        match event:
            case Emptied() if latest is not None:
                deposed.add(latest)
                latest = None
            case Pushed(number, author):
                if author in deposed:
                    yield f"message {number} is of {author}, after its successor {latest} had begun"
                if latest not in (None, author):
                    deposed.add(str(latest))
                latest = author


def only_the_holder_pushes(events: Iterable[Event]) -> Iterator[str]:
    """No message comes while no task holds the flag, be it that another program does."""
    held = False
    for event in events:
        match event:
            case Elected():
                held = True
            case Lost() | Emptied():
                held = False
            case Pushed(number, author) if not held:
                yield f"message {number} of {author} came while no task held the flag"


def numbers_are_whole(events: Iterable[Event]) -> Iterator[str]:
    """The numbers are 1, 2, 3, … over every takeover, without a gap and without a repeat."""
    expected = 1
    for event in events:
        match event:
            case Emptied():
                expected = 1
            case Pushed(number, author):
                if number != expected:
                    yield f"message {number} of {author} came where {expected} was due"
                expected = number + 1


def nothing_is_lost(events: Iterable[Event], end: End) -> Iterator[str]:
    """Each accepted message is handled, in `errors`, waiting or in flight; and the server's sums say the same. Of what
    was accepted before the server was emptied nothing can be said."""
    accepted = _accepted(_since_emptied(list(events)))
    found = {*end.handled, *end.errors, *end.waiting, *end.in_flight}
    yield from (f"message {message} is lost" for message in accepted if message not in found)
    accounted = end.processed + len(end.waiting) + len(end.in_flight)
    if accounted != len(accepted):
        yield (
            f"{len(accepted)} were accepted, but {end.processed} were acknowledged, {len(end.waiting)} wait and "
            f"{len(end.in_flight)} are in flight"
        )


def nothing_is_invented(events: Iterable[Event], end: End) -> Iterator[str]:
    """Nothing is handled, failed, waiting or in flight that was never pushed."""
    accepted = set(_accepted(events))
    for where in ("handled", "errors", "waiting", "in_flight"):
        for message in dict.fromkeys(getattr(end, where)):
            if message not in accepted:
                yield f"message {message} ({where}) was never pushed"


def follow_ups_are_whole(events: Iterable[Event], end: End) -> Iterator[str]:
    """Of each message that was handled all follow-ups have come, and that once; of one that has failed, or that nobody
    knows, none has."""
    since = _since_emptied(list(events))
    came = Counter(event.message for event in since if isinstance(event, Followed))
    unfinished = {*end.errors, *end.waiting, *end.in_flight}
    due = {
        Pushed(event.number, plan.name(event.author, which))
        for event in since
        if isinstance(event, Pushed) and event not in unfinished
        for which in range(plan.follow_ups(event.number))
    }
    yield from (f"follow-up {message} came {times} times" for message, times in came.items() if times > 1)
    yield from (f"follow-up {message} came of no message that was handled" for message in came if message not in due)
    yield from (f"follow-up {message} did not come" for message in due if message not in came)


def attempts_are_counted(events: Iterable[Event], end: End) -> Iterator[str]:
    """Whenever a message is put off, one attempt more was made at it, and as many have failed as before, or one more;
    never more than may be made again. Only what has used these up, or was not to come again, has failed."""
    known: dict[Pushed, tuple[int, int]] = {}
    for event in _since_emptied(list(events)):
        if isinstance(event, PutOff):
            attempts, failures = known.get(event.message, (0, 0))
            if event.attempts != attempts + 1 or event.failures - failures not in (0, 1):
                yield (
                    f"message {event.message} was put off after {event.attempts} attempts, {event.failures} of them "
                    f"failed; the time before, after {attempts} and {failures}"
                )
            if event.failures > plan.RETRIES:
                yield f"message {event.message} comes again after {event.failures} failures"
            known[event.message] = event.attempts, event.failures
    for message in end.errors:
        if message not in end.for_good and known.get(message, (0, 0))[1] < plan.RETRIES:
            yield f"message {message} is in errors after {known.get(message, (0, 0))[1]} failures"


def _accepted(events: Iterable[Event]) -> list[Pushed]:
    """Messages of the generator, and those that have followed from them."""
    return [
        event.message if isinstance(event, Followed) else event
        for event in events
        if isinstance(event, Pushed | Followed)
    ]


def _since_emptied(events: list[Event]) -> list[Event]:
    emptied = [at for at, event in enumerate(events) if isinstance(event, Emptied)]
    return events[emptied[-1] + 1 :] if emptied else events


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
