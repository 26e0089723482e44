"""One term, with a Redis that refuses or does not answer."""

from math import inf
from time import monotonic
from types import SimpleNamespace
from typing import cast

import gevent
import pytest
from gevent.event import Event

from gtask.election import Term
from gtask.exceptions import Trouble
from gtask.generator import End, Generator
from gtask.outage import Line, Outage
from gtask.protocol import Totals
from gtask.store import Member, Store
from tests.support.processes import PATIENCE

LOST = "the flag was lost before the first message was pushed"


def generator(store: SimpleNamespace, *, large: bool = False, beats_since: float = 0.0) -> Generator:
    return Generator(
        lambda last: ["message"], "jobs:generate", Term(Member(1, "{}"), number=1, large=large),
        line=Line(cast(Store, store), Outage("here", lambda failures: 0.0)), totals=Totals(), interval=0.0,
        max_backlog=0, patience=1.0, beats_since=lambda: beats_since, grace=1.0,
    )  # fmt: skip


def end_of_a_term_that_is_refused(beats_since: float) -> End:
    return generator(SimpleNamespace(push=lambda *_, **__: None), beats_since=beats_since).run()


def test_a_term_that_loses_the_flag_before_its_first_message_has_failed_where_redis_was_there_all_the_time() -> None:
    assert end_of_a_term_that_is_refused(monotonic()).error == LOST


@pytest.mark.parametrize("beats_since", [inf, monotonic() + 3600], ids=["is away", "was away"])
def test_it_has_not_failed_where_redis_was_away_so_that_the_fleet_makes_no_pause(beats_since: float) -> None:
    assert end_of_a_term_that_is_refused(beats_since) == End(refused=True)


def test_a_term_whose_question_for_a_large_position_is_answered_only_the_second_time_generates() -> None:
    silent = [True, False]
    pushed = Event()

    def position(*_: object) -> tuple[bool, str]:
        if silent.pop(0):
            gevent.sleep(0.01)
            raise Trouble("no answer")
        return True, "x"

    def push(*_: object, **__: object) -> int:
        pushed.set()
        return 1

    generating = generator(SimpleNamespace(position=position, push=push), large=True)
    running = gevent.spawn(generating.run)
    assert pushed.wait(timeout=PATIENCE)
    generating.stop()
    assert running.get(timeout=PATIENCE) == End()
