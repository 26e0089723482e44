"""The generate of `--cron`: waits for the next tick, and yields it with the position after it."""

import logging
from collections.abc import Callable, Iterator

from gtask.cron import position as positions
from gtask.cron.agenda import Agenda, Dropped
from gtask.cron.crontab import Crontab
from gtask.cron.message import Tick
from gtask.cron.position import Position
from gtask.items import Generate, Item
from gtask.text import printable, shortened

log = logging.getLogger(__name__)

LOOK = 1.0  # seconds until Redis' time is looked at again, because it may be set meanwhile
TOLD_LATE = 1.0  # seconds: a message that is later says so in the log
SHOWN = 80  # characters of a position that is none
AHEAD = 60  # seconds: a position so far in the future shows that a clock was wrong


def source(
    crontab: Crontab, clock: Callable[[], float], wait: Callable[[float], object], pause: Callable[[], object]
) -> Generate:
    """The function that a term calls. `clock`: Redis' time, in seconds since 1970. `wait`: for so many seconds.
    `pause` lets others run while much is computed."""

    def generate(last: str | None) -> Iterator[Item]:
        agenda = _begin(crontab, last, int(clock()), pause)
        yield None, str(agenda.position)
        while True:
            now = clock()
            if dropped := agenda.drop(int(now)):
                yield None, str(agenda.position)
                for what in dropped:
                    _say_dropped(what)
                continue  # that may have taken long
            tick = agenda.next
            if tick is None or tick.at > now:
                wait(LOOK if tick is None else min(tick.at - now, LOOK))
                continue
            agenda.fire(tick)
            yield tick.message, str(agenda.position)
            _say_fired(tick, clock() - tick.at)

    return generate


def _begin(crontab: Crontab, last: str | None, now: int, pause: Callable[[], object]) -> Agenda:
    position: Position | None = None
    try:
        position = None if last is None else positions.read(last)
    except ValueError as error:
        log.warning("the position %s is none of a schedule (%s), so all entries begin now; gtask rewind --to NAME@TIME "
                    "sets another", printable(shortened(last or "", SHOWN)), error)  # fmt: skip
    if position is not None and (ahead := position.last.at - now) > AHEAD:
        log.warning("the last tick lies %d s ahead of Redis' clock, and nothing is due before; gtask rewind --to "
                    "NAME@TIME sets another position", ahead)  # fmt: skip
    agenda = Agenda(crontab, position, now, pause)
    for line in agenda.news:
        log.info("%s: it counts from %s", line, Tick(now, "").time.isoformat())
    return agenda


def _say_fired(tick: Tick, late: float) -> None:
    log.info("fired %s%s", tick.message, f", {late:.1f} s late" if late >= TOLD_LATE else "")


def _say_dropped(dropped: Dropped) -> None:
    number = f"{dropped.number:,}" if dropped.exact else f"more than {dropped.number:,}"
    ticks = "missed tick" if dropped.number == 1 else "missed ticks"
    what = "merged into the next one" if dropped.coalesced else "too old and skipped"
    log.warning("%s: %s %s up to %s: %s", dropped.name, number, ticks, dropped.last.time.isoformat(), what)
