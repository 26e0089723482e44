"""How a term ends whose pushes Redis refuses."""

from math import inf
from time import monotonic
from types import SimpleNamespace
from typing import cast

import pytest

from gtask.election import Term
from gtask.generator import End, Generator
from gtask.outage import Line
from gtask.report import Totals
from gtask.store import Member, Store

LOST = "the flag was lost before the first message was pushed"


def end_of_a_term_that_is_refused(beats_since: float) -> End:
    generator = Generator(
        lambda last: ["never"], "jobs:generate", Term(Member(1, "{}"), number=1),
        line=Line(cast(Store, SimpleNamespace(push=lambda *_, **__: None))), totals=Totals(),
        interval=0.0, max_backlog=0, patience=1.0, beats_since=lambda: beats_since, grace=1.0,
    )  # fmt: skip
    return generator.run()


def test_a_term_that_loses_the_flag_before_its_first_message_has_failed_where_redis_was_there_all_the_time() -> None:
    assert end_of_a_term_that_is_refused(monotonic()).error == LOST


@pytest.mark.parametrize("beats_since", [inf, monotonic() + 3600], ids=["is away", "was away"])
def test_it_has_not_failed_where_redis_was_away_so_that_the_fleet_makes_no_pause(beats_since: float) -> None:
    assert end_of_a_term_that_is_refused(beats_since) == End(refused=True)
