"""All that can happen to two tasks, as far as the models know it: no rule is broken, and no check is there in vain.
The fault suite searches the whole model of the delivery, plain tox a quarter of it."""

import pytest

from tests.faults import model_delivery, model_election
from tests.faults.model_delivery import Delivery
from tests.faults.model_election import Election
from tests.faults.search import search


def test_whatever_happens_to_the_election_only_the_owner_pushes_and_each_number_once() -> None:
    result = search(Election(), model_election.State())
    print(f"\n{result.states:,} states")
    assert not result.broken, " / ".join([*result.way, result.broken])
    assert result.states > 50_000


@pytest.mark.parametrize(
    ("check", "broken"),
    [
        (model_election.OWNER, "another one|deposed"),
        (model_election.FOREIGN_WRITE, "another one|deposed"),
        (model_election.NUMBERS, "message 1 came after message 1"),
    ],
)
def test_each_check_of_the_election_is_needed(check: str, broken: str) -> None:
    result = search(Election(model_election.ALL_CHECKS - {check}), model_election.State())
    print("\n" + "\n".join([*result.way, result.broken]))
    assert any(words in result.broken for words in broken.split("|"))


@pytest.mark.parametrize("check", [model_election.OWNER, model_election.FOREIGN_WRITE])
def test_without_it_a_deposed_generator_pushes(check: str) -> None:
    result = search(Election(model_election.ALL_CHECKS - {check}, releases=False), model_election.State())
    print("\n" + "\n".join([*result.way, result.broken]))
    assert result.broken == "a deposed generator pushed after its successor's first message"


# Most states come of the second task's claims. Where it makes none, it still takes messages and is taken for dead.
CALLS = [(2, 0), pytest.param(model_delivery.CALLS, marks=pytest.mark.faults)]


@pytest.mark.parametrize("calls", CALLS)
def test_whatever_happens_to_a_delivery_each_message_is_in_one_place_until_it_was_handled(
    calls: tuple[int, int],
) -> None:
    result = search(Delivery(calls=calls), model_delivery.State())
    print(f"\n{result.states:,} states")
    assert not result.broken, " / ".join([*result.way, result.broken])
    assert result.states > (100_000 if calls == model_delivery.CALLS else 25_000)


@pytest.mark.parametrize("calls", CALLS)
@pytest.mark.parametrize(
    ("check", "broken"),
    [
        (model_delivery.MEMBER, "nobody has handled it"),
        (model_delivery.NUMBERS, "nobody has handled it"),
        (model_delivery.WATCH, "will never be found"),
    ],
)
def test_each_check_of_a_delivery_is_needed(check: str, broken: str, calls: tuple[int, int]) -> None:
    result = search(Delivery(model_delivery.ALL_CHECKS - {check}, calls=calls), model_delivery.State())
    print("\n" + "\n".join([*result.way, result.broken]))
    assert broken in result.broken
