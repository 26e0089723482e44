"""A task's parts in one process, against a real server, a step at a time; where time matters, the test says it."""

import json
from collections.abc import Callable, Iterator
from contextvars import copy_context
from types import SimpleNamespace
from typing import Any

import gevent
import pytest

from gtask.at_least_once import AtLeastOnce
from gtask.at_most_once import AtMostOnce
from gtask.config import Backoff, Config
from gtask.election import Election, Term
from gtask.functions import Handle
from gtask.generator import Generator
from gtask.hand import Hand
from gtask.handler import Handler
from gtask.heartbeat import Beaten, Heartbeat
from gtask.inside import Retry, current
from gtask.membership import Membership
from gtask.outage import Line
from gtask.outcome import NO_RETRIES, Policy
from gtask.protocol import Totals
from gtask.recovery import Recovery
from gtask.store import Store
from gtask.supply import Supply
from gtask.task import HANDLER, NO_ROLE, Task
from tests.hands import texts
from tests.servers import Server
from tests.support.processes import PATIENCE

T = 1000.0  # seconds: nobody dies by himself, and no flag expires

KINDS = pytest.mark.parametrize("kind", [AtMostOnce, AtLeastOnce])


class Clock:
    """Stands still until the test moves it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Parts:
    """All parts of a task, of which nothing runs."""

    def __init__(self, server: Server, kind: type[Hand] = AtLeastOnce, policy: Policy = NO_RETRIES) -> None:
        self.clock = Clock()
        self.store = Store(server.url, "", heartbeat=T, wait=0.1)
        self.line = Line(self.store)
        self.membership = Membership(self.store, T, 0.1, "jobs:generate")
        self.totals = Totals()
        self.recovery = Recovery(self.line)
        self.supply = Supply(kind, self.line, self.membership, self.recovery, self.clock)
        self.membership.on_join = lambda member: self.supply.renew()
        self.handled: list[str] = []
        self.while_handled: Callable[[str], None] = lambda message: None
        self.handler = Handler(Handle(self.handle, copy_context), self.supply, self.totals, policy=policy)
        self.election = Election(self.store, self.membership, T, "jobs:generate", self.clock)
        self.said: list[Beaten] = []
        self.heartbeat = Heartbeat(self.line, self.membership, self.election, T, self.said.append)
        self.heartbeat.join()
        self.handler.resume()

    @property
    def id(self) -> int:
        return self.membership.member.task_id

    def handle(self, message: str) -> Iterator[str] | None:
        self.handled.append(message)
        self.while_handled(message)
        if "fail" in message:
            raise ValueError(message)
        if "again" in message and current().attempt < 3:
            raise Retry(after=0)
        return (f"{message} {number}" for number in range(2)) if message == "tree" else None

    def beat(self) -> Term | None:
        self.heartbeat.step()
        return self.said[-1].term

    def fetch(self) -> list[str]:
        self.supply.fetch(self.totals.processed)
        return list(self.supply.hand.ready)


@pytest.fixture
def parts(server: Server) -> Iterator[Callable[..., Parts]]:
    made: list[Parts] = []

    def make(kind: type[Hand] = AtLeastOnce, policy: Policy = NO_RETRIES) -> Parts:
        made.append(Parts(server, kind, policy))
        return made[-1]

    yield make
    for one in made:
        one.store.close()


# -- the handler


@KINDS
def test_redis_learns_with_the_next_fetch_what_a_worker_has_handled(redis, parts, kind) -> None:
    redis.rpush("messages", "a", "fail", "c")
    task = parts(kind)
    while task.fetch() or (task.supply.wait(task.totals.processed), task.fetch())[1]:
        task.handler.work_off(task.supply.hand, 0)
    assert task.handled == ["a", "fail", "c"]
    assert str(task.totals) == "generated 0, processed 3, errors 1"
    assert [b'"message": "fail"' in entry for entry in redis.lrange("errors", 0, -1)] == [True]
    assert redis.keys("inflight:*") == redis.keys("messages") == []


@KINDS
def test_what_follows_from_a_message_is_stored_when_redis_learns_that_it_is_handled(redis, parts, kind) -> None:
    redis.rpush("messages", "tree")
    task = parts(kind)
    if not task.fetch():
        task.supply.wait(0)
    task.handler.work_off(task.supply.hand, 0)
    assert redis.llen("messages") == 0, "Redis has not been told"
    task.supply.tell()
    assert texts(redis, "messages") == ["tree 0", "tree 1"]
    assert str(task.totals) == "generated 0, processed 1, errors 0"


@pytest.mark.parametrize(
    ("message", "attempts", "totals"),
    [("again", 3, Totals(processed=1)), ("fail", 3, Totals(processed=1, errors=1))],
)
def test_an_attempt_after_which_its_message_comes_again_counts_in_no_total(
    redis, parts, message: str, attempts: int, totals: Totals
) -> None:
    redis.rpush("messages", message)
    task = parts(policy=Policy(retries=2, backoff=Backoff("0s..0s")))
    while len(task.handled) < attempts:
        assert task.totals == Totals()
        task.fetch()
        task.handler.work_off(task.supply.hand, 0)
    task.supply.tell()
    assert task.totals == totals
    assert [json.loads(entry)["attempts"] for entry in texts(redis, "errors")] == [3] * totals.errors
    assert redis.keys("messages*") == redis.keys("inflight:*") == []


def test_what_could_not_be_started_in_time_goes_back_to_the_head(redis, parts) -> None:
    redis.rpush("messages", *"abc")
    task = parts()
    assert task.fetch() == ["a"]
    task.handler.look_after()
    assert task.supply.hand.ready, "there is time yet"
    task.clock.now += 0.2
    task.handler.look_after()
    assert not task.supply.hand.ready
    assert texts(redis, "messages") == ["a", "b", "c"]


def test_a_worker_acknowledges_nothing_that_another_task_has_by_now(redis, parts) -> None:
    redis.rpush("messages", *"ab")
    task, other = parts(), parts()
    assert task.fetch() == ["a"]
    first, hand = task.id, task.supply.hand
    redis.zadd("tasks", {first: 1})
    other.recovery.look_after(first)
    other.recovery.step()
    assert other.fetch() == ["a"]
    task.handler.work_off(hand, 0)
    assert task.fetch() == ["b"], "as a new member"
    assert task.id > first and task.supply.hand is not hand and not hand.ready
    assert texts(redis, f"inflight:{other.id}") == ["a"]
    assert not redis.exists("totals") or redis.hget("totals", "processed") is None


def test_a_worker_starts_nothing_of_what_its_task_does_not_hold_any_more(redis, parts) -> None:
    redis.rpush("messages", "a")
    task, other = parts(), parts()
    assert task.fetch() == ["a"]
    hand = task.supply.hand
    redis.zadd("tasks", {task.id: 1})
    other.recovery.look_after(task.id)
    other.recovery.step()
    task.beat()  # which learns it
    task.handler.work_off(hand, 0)
    assert task.handled == []
    assert other.fetch() == ["a"]


def test_what_comes_to_the_list_of_a_former_id_is_the_queue_s_again(redis, parts) -> None:
    task, other = parts(), parts()
    first = task.id
    redis.zadd("tasks", {first: 1})
    other.store.reap(first)
    redis.rpush(f"inflight:{first}", "late")  # as a BLMOVE of its does that Redis serves only now
    task.supply.tell()
    task.recovery.step()
    assert texts(redis, "messages") == ["late"]


def test_at_most_once_a_new_member_says_what_the_old_one_had_to_say(redis, parts) -> None:
    redis.rpush("messages", "fail", "b")
    task = parts(AtMostOnce)
    task.supply.wait(0)
    task.handler.work_off(task.supply.hand, 0)
    redis.delete("tasks:members", "tasks")
    task.fetch()
    assert redis.llen("errors") == 1
    assert task.id == 2


@pytest.mark.parametrize("ending", ["held", "held and fail"])
def test_at_most_once_an_end_from_outside_and_then_in_order_leaves_one_record_of_what_was_not_finished(
    redis, parts, ending: str
) -> None:
    """The native thread ends the membership because the event loop is held. Then the loop turns, and the end goes
    on."""
    redis.rpush("messages", ending)
    task = parts(AtMostOnce)

    def end_from_outside(message: str) -> None:
        task.handler.leave_from_outside(task.store, "not finished")

    task.while_handled = end_from_outside
    if not task.fetch():
        task.supply.wait(0)
    task.membership.close()
    task.handler.work_off(task.supply.hand, 0)
    task.handler.leave("not finished")
    assert [json.loads(entry)["error"] for entry in redis.lrange("errors", 0, -1)] == ["not finished"]
    assert redis.get("taskId") == b"1", "it has not joined anew"
    assert not redis.exists("tasks:members")


@KINDS
def test_what_is_still_handled_when_its_task_leaves_fails_or_goes_back_once(redis, parts, kind) -> None:
    redis.rpush("messages", "held")
    task = parts(kind)

    def leave_twice(message: str) -> None:
        task.membership.close()
        task.handler.leave_from_outside(task.store, "not finished")
        task.handler.leave("not finished")

    task.while_handled = leave_twice
    if not task.fetch():
        task.supply.wait(0)
        task.fetch()
    task.handler.work_off(task.supply.hand, 0)
    assert redis.llen("errors") == (kind is AtMostOnce)
    assert redis.llen("messages") == (kind is AtLeastOnce)


def test_a_worker_that_waited_for_its_turn_takes_nothing_once_the_task_takes_none(redis, parts) -> None:
    """For it has become the generator, or is ending. And the call might last for long, as Redis may stand still."""
    redis.rpush("messages", "a")
    task = parts()
    with task.supply._turn:
        fetching = gevent.spawn(task.fetch)
        gevent.sleep(0)  # from here on it waits
        task.supply.stop_taking()
    assert fetching.get(timeout=PATIENCE) == []
    assert texts(redis, "messages") == ["a"]
    task.handler.resume()
    assert task.fetch() == ["a"]


# -- the heartbeat


def test_the_flag_goes_to_the_first_that_beats_and_to_the_next_when_it_is_free(redis, parts) -> None:
    one, two = parts(), parts()
    term = one.beat()
    assert term is not None and term.number == 1
    assert two.beat() is None
    assert one.beat() is term
    one.election.close()
    one.election.resign()
    assert one.beat() is None
    term = two.beat()
    assert term is not None and term.number == 2


def test_after_a_failed_term_others_have_the_first_chance(redis, parts) -> None:
    one = parts()
    term = one.beat()
    assert term is not None
    pause = one.election.failed(term, "no source")
    redis.hdel("generator", "retry_at")  # the fleet's pause is over
    assert one.beat() is None
    one.clock.now += pause + T - 1
    assert one.beat() is None
    one.clock.now += 2
    assert one.beat() is None, "its generate may still live"
    one.election.stand_again()
    term = one.beat()
    assert term is not None and term.number == 2


def test_a_task_that_redis_does_not_know_joins_anew_with_its_next_beat(redis, parts) -> None:
    task = parts()
    redis.flushall()
    redis.set("taskId", 41)
    task.beat()
    assert task.id == task.supply.hand.member.task_id == 42


# -- the generator


def test_a_term_pushes_all_that_generate_yields_and_ends_when_it_is_told_to(redis, parts) -> None:
    task = parts()
    term = task.beat()
    assert term is not None
    generator = Generator(
        lambda last: ["1", "2", "3"],
        "jobs:generate",
        term,
        line=task.line,
        totals=task.totals,
        interval=0,
        max_backlog=0,
        patience=T,
        beats_since=lambda: 0.0,
        grace=1,
    )
    running = gevent.spawn(generator.run)
    turn_until(lambda: redis.llen("messages") == 3)
    assert not running.ready()
    generator.stop()
    assert running.get(timeout=PATIENCE).error == ""
    assert redis.hget("generator", "last") == b"3"


def turn_until(condition: Callable[[], Any]) -> None:
    with gevent.Timeout(PATIENCE):
        while not condition():
            gevent.sleep(0.001)


# -- the loop


def test_each_event_is_a_step_of_the_loop_which_alone_changes_the_role(redis, server: Server) -> None:
    config = Config(redis=server.url, generate="jobs:generate", heartbeat=T, interval=0, max_backlog=0)
    watch: Any = SimpleNamespace(beaten=lambda: None, ending=lambda: None)
    task = Task(
        config,
        lambda: Store(server.url, "", heartbeat=T),
        lambda last: [str(int(last or 0) + 1)],
        Handle(lambda message: None, copy_context),
        None,
        watch,
    )
    assert not redis.exists("taskId"), "whoever is made only has not begun"
    task.heartbeat.join()
    task.step()
    assert task.role is NO_ROLE
    task.heartbeat.step()
    assert task.role is NO_ROLE, "the heartbeat only says what Redis has answered"
    task.step()
    first = task.role
    assert isinstance(first, Term) and first.number == 1
    turn_until(lambda: redis.llen("messages") == 1)
    redis.set("generatorIsActive", 1, ex=600)  # another program
    task.heartbeat.step()
    task.step()
    assert task.role is HANDLER
    task.step()  # its generate has ended
    redis.delete("generatorIsActive")
    task.heartbeat.step()
    task.step()
    assert isinstance(task.role, Term) and task.role.number == 2
    turn_until(lambda: texts(redis, "messages") == ["1", "2"])
    task.end()
    task.step()  # the end begins
    while redis.exists("tasks:members") or redis.exists("generatorIsActive"):
        gevent.sleep(0.001)
    assert texts(redis, "messages") == ["1", "2"]
