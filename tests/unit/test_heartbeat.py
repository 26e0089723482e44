"""One step of the heartbeat: what is told, and when the next one is due."""

from time import monotonic
from types import SimpleNamespace
from typing import Any, cast

import gevent

from gtask.election import Term
from gtask.heartbeat import Beaten, Heartbeat
from gtask.outage import Line
from gtask.store import Member

TERM = Term(Member(1, "{}"), number=1)
WAIT = 100.0  # seconds until the next beat, as the election says


def test_what_redis_said_is_told_before_anything_else_that_may_wait_for_it_and_makes_the_next_beat_no_later() -> None:
    said: list[Beaten] = []
    told_before: list[list[Beaten]] = []
    took: list[float] = []  # about 0.2 s: the event loop's clock stands still between its turns
    parts: Any = SimpleNamespace(step=lambda: WAIT, term=TERM, dead=[], round_trip=0.0)

    def beside(store: object) -> None:
        told_before.append(list(said))
        began = monotonic()
        gevent.sleep(0.2)
        took.append(monotonic() - began)

    heartbeat = Heartbeat(Line(parts), cast(Any, None), parts, 1.0, said.append, beside)
    wait = heartbeat.step()
    assert wait <= WAIT - took[0]
    assert told_before == [[Beaten(TERM, [])]] == [said]
