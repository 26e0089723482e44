"""The scripts beat, push and release on a real server: at most one generator, and each message once."""

import json
import threading
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any

import pytest

from gtask.config import DEMO
from gtask.exceptions import Full, NotMember, OthersKeys, Trouble
from gtask.store import Beat, Came, Member, Reaped, Settled, Store, scripts
from gtask.store.scripts import Script
from tests.servers import Server
from tests.tasks import PATIENCE, wait_until

T = 10  # seconds: the usual heartbeat here, so that no flag ends before the test is over


class Fleet:
    """Members that speak to one server through stores of their own, as processes do."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.stores: list[Store] = []

    def join(
        self, record: str | None = None, *, heartbeat: float = T, namespace: str = "", generate: str = "jobs:generate"
    ) -> "Candidate":
        store = Store(self.server.url, namespace, heartbeat=heartbeat)
        self.stores.append(store)
        member = Member(store.next_id(), record or json.dumps({"nonce": len(self.stores), "generate": generate}))
        store.beat(member, join=True)
        return Candidate(store, member)


class Candidate:
    """One of them; `term` is what it believes."""

    def __init__(self, store: Store, member: Member) -> None:
        self.store = store
        self.member = member
        self.term = 0

    def beat(self) -> Beat:
        answer = self.store.beat(self.member, term=self.term, want=True)
        self.term = answer.term if answer.elected or answer.renewed else 0
        return answer

    def position(self) -> tuple[bool, str | None]:
        return self.store.position(self.member, self.term)

    def push(self, before: int, *messages: bytes, term: int | None = None, **how: Any) -> int | None:
        """`before`: how many pushes of this term came before."""
        return self.store.push(self.member, term or self.term, before + 1, messages, **how)

    def release(self) -> bool:
        return self.store.release(self.member, self.term)

    def release_failed(self, error: str) -> float:
        return self.store.release_failed(self.member, self.term, error)


@pytest.fixture
def fleet(server: Server) -> Iterator[Fleet]:
    made = Fleet(server)
    yield made
    for store in made.stores:
        store.close()


def expire(redis) -> None:
    """The flag's life is over, as it is at any death of its owner."""
    redis.delete("generatorIsActive", "generatorId")


# -- to the letter


@pytest.mark.parametrize(("heartbeat", "life"), [(0.5, "1"), (1, "2"), (1.5, "3")])
def test_the_commands_are_those_of_the_specification_to_the_letter(server, fleet, heartbeat, life) -> None:
    with server.monitor() as monitor:
        task = fleet.join(heartbeat=heartbeat)
        task.beat()
        task.beat()
        task.push(0, b"first", b"second")
        fleet.join(heartbeat=heartbeat).beat()
        wait_until(lambda: len(monitor.of("SET", "generatorIsActive")) == 3)
        assert [e.words for e in monitor.of("INCR")] == [("INCR", "taskId")] * 2
        assert [e.words[1:] for e in monitor.of("SET", "generatorIsActive")] == [
            ("generatorIsActive", "1", "NX", "EX", life),
            ("generatorIsActive", "1", "EX", life),
            ("generatorIsActive", "1", "NX", "EX", life),
        ]
        assert [e.words[1:] for e in monitor.of("RPUSH")] == [("messages", "first", "second")]


@pytest.mark.parametrize(("wait", "spelt"), [(5, "5"), (0.5, "0.5")])
def test_a_message_is_waited_for_with_blpop(server, redis, wait, spelt) -> None:
    redis.rpush("messages", "m")
    store = Store(server.url, "", wait=wait)
    with server.monitor() as monitor:
        assert store.blpop() == "m"
        wait_until(lambda: monitor.of("BLPOP", "messages", spelt), "BLPOP")
    store.close()


@pytest.mark.parametrize("namespace", ["shop", "{orders}"])
def test_every_key_of_a_namespace_carries_it(redis, fleet, namespace) -> None:
    task = fleet.join(namespace=namespace)
    task.beat()
    task.push(0, b"m", b"n")
    assert task.store.pop(1) == ["m"]
    task.store.settle(task.member, 1, Came(failed=["record"]))
    task.store.claim(task.member, 2, 1, Settled())
    assert task.store.lock_errors("token", 5)
    assert task.store.entries(0, 9) == ["record"]
    keys = redis.keys("*")
    assert len(keys) >= 9
    assert all(key.startswith(f"{namespace}:".encode()) for key in keys), keys
    assert redis.type(f"{namespace}:inflight:1") == b"list"


# -- one generator


def test_the_first_is_elected_and_the_others_learn_how_long_the_flag_lives(redis, fleet) -> None:
    first, second = fleet.join(), fleet.join()
    assert first.beat().elected
    assert first.beat().renewed
    answer = second.beat()
    assert not answer.elected and not answer.renewed
    assert 1000 * (answer.time + answer.remaining) == pytest.approx(end_of(redis, "generatorIsActive"), abs=20)


def test_one_that_does_not_stand_takes_no_flag(redis, fleet) -> None:
    task = fleet.join()
    assert not task.store.beat(task.member, want=False).elected
    assert not redis.exists("generatorIsActive")


def test_the_flag_lives_twice_the_heartbeat_and_its_owner_no_longer(redis, fleet) -> None:
    task = fleet.join(heartbeat=7.5)
    for _ in range(2):
        beaten = 1000 * task.beat().time
        assert end_of(redis, "generatorIsActive") - beaten == pytest.approx(15_000, abs=20)
        assert end_of(redis, "generatorIsActive") - end_of(redis, "generatorId") == 5
    assert redis.get("generatorIsActive") == b"1"
    assert redis.get("generatorId") == b"1"


def test_the_next_generator_goes_on_where_the_one_before_left_off(redis, fleet) -> None:
    first, second = fleet.join(), fleet.join()
    answer = first.beat()
    assert (answer.last, answer.large, first.position()) == (None, False, (True, None))
    first.push(0, b"1", b"2")
    first.push(1, b"\xff 3")
    expire(redis)
    answer = second.beat()
    assert answer.elected and answer.term > first.term
    assert (answer.last, answer.large) == ("\udcff 3", False)
    assert second.position() == (True, "\udcff 3")
    assert first.position() == (False, None)
    assert redis.hget("generator", "last") == b"\xff 3"


def test_a_large_position_is_not_for_the_heartbeat(redis, fleet) -> None:
    """The flag could not be renewed while it travels over a thin link."""
    redis.hset("generator", mapping={"generated": 1, "last": b"x" * 4097})
    task = fleet.join()
    answer = task.beat()
    assert answer.elected and (answer.last, answer.large) == (None, True)
    assert task.position() == (True, "x" * 4097)


def test_a_reply_that_was_lost_to_the_winner_costs_it_nothing(fleet) -> None:
    winner, other = fleet.join(), fleet.join()
    lost = winner.store.beat(winner.member, want=True)
    again = winner.beat()
    assert again.elected and again.term > lost.term
    assert not other.beat().elected
    assert winner.push(0, b"1", term=lost.term) is None, "a push of the term whose reply was lost"
    assert winner.push(0, b"1") == 1


def test_a_task_that_redis_does_not_know_is_told_so(fleet) -> None:
    task = fleet.join()
    with pytest.raises(NotMember):
        task.store.beat(Member(task.member.task_id, "a process before"), want=True)
    with pytest.raises(NotMember):
        task.store.beat(Member(99, task.member.record), want=True)


def test_many_that_ask_at_once_elect_one(redis, fleet) -> None:
    tasks = [fleet.join() for _ in range(8)]
    for _ in range(20):
        expire(redis)
        gate = threading.Barrier(len(tasks))
        elected: list[Candidate] = []

        def ask(task: Candidate, gate=gate, elected=elected) -> None:
            gate.wait()
            if task.beat().elected:
                elected.append(task)

        threads = [threading.Thread(target=ask, args=(task,)) for task in tasks]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(elected) == 1


# -- the fence


def depose_by_expiry(redis, old: Candidate, new: Candidate) -> None:
    expire(redis)
    assert new.beat().elected


def depose_by_own_new_term(redis, old: Candidate, new: Candidate) -> None:
    assert old.store.beat(old.member, term=0, want=True).elected


def depose_by_expiry_alone(redis, old: Candidate, new: Candidate) -> None:
    expire(redis)


@pytest.mark.parametrize("depose", [depose_by_expiry, depose_by_own_new_term, depose_by_expiry_alone])
def test_a_push_of_an_older_term_is_refused(redis, fleet, depose: Callable) -> None:
    old, new = fleet.join(), fleet.join()
    old.beat()
    assert old.push(0, b"1") == 1
    depose(redis, old, new)
    flag = redis.get("generatorId")
    assert old.push(1, b"late") is None
    assert not old.release()
    assert redis.lrange("messages", 0, -1) == [b"1"]
    assert redis.hget("generator", "last") == b"1"
    assert redis.get("generatorId") == flag, "a late release gave up another term's flag"


def test_a_deposed_generator_does_not_renew_its_successor_s_flag(redis, fleet) -> None:
    old, new = fleet.join(), fleet.join(heartbeat=5)
    old.beat()
    expire(redis)
    new.beat()
    answer = old.beat()
    assert not answer.renewed and not answer.elected
    assert redis.pttl("generatorIsActive") > 9000
    assert redis.get("generatorId") == b"2"


def test_a_repeated_push_changes_nothing(redis, fleet) -> None:
    task = fleet.join()
    task.beat()
    assert task.push(0, b"a", b"b") == 2
    assert task.push(0, b"a", b"b") == 2
    assert task.push(1, b"c") == 3
    assert task.push(1, b"c") == 3
    assert redis.lrange("messages", 0, -1) == [b"a", b"b", b"c"]
    assert redis.hmget("generator", "term", "generated", "last") == [b"1", b"3", b"c"]


def test_a_position_beside_the_messages_is_where_generation_goes_on(redis, fleet) -> None:
    first, second = fleet.join(), fleet.join()
    first.beat()
    assert first.push(0, b"a", b"b", position=b"row 2") == 2
    assert redis.hmget("generator", "generated", "last", "step") == [b"2", b"row 2", b"1"]
    pushed_at = redis.hget("generator", "pushed_at")
    assert first.push(1, position=b"row \xff") == 2
    assert redis.hmget("generator", "generated", "last", "pushed_at") == [b"2", b"row \xff", pushed_at]
    assert redis.lrange("messages", 0, -1) == [b"a", b"b"]
    first.release()
    assert second.beat().last == "row \udcff"
    assert second.push(0, b"c") == 3
    assert redis.hget("generator", "last") == b"c", "a plain message is its own position"


def test_a_late_push_of_a_position_does_not_set_it_back(redis, fleet) -> None:
    task = fleet.join()
    task.beat()
    assert task.push(0, position=b"1") == 0
    assert task.push(0, position=b"1") == 0, "a repeat"
    assert task.push(1, position=b"2") == 0
    assert task.push(0, position=b"1") is None
    assert task.push(3, position=b"4") is None
    assert redis.hget("generator", "last") == b"2"


def test_that_generate_has_ended_is_kept_until_the_next_election(redis, fleet) -> None:
    first, second = fleet.join(), fleet.join()
    first.beat()
    first.push(0, b"1")
    assert first.push(1, ended=True) == 1
    assert redis.hmget("generator", "generated", "last", "ended") == [b"1", b"1", b"1"]
    first.release()
    assert second.beat().elected
    assert not redis.hexists("generator", "ended")


def test_a_push_that_leaves_a_gap_is_refused(redis, fleet) -> None:
    task = fleet.join()
    task.beat()
    assert task.push(5, b"sixth") is None
    assert redis.llen("messages") == 0


def test_thousands_of_messages_in_one_push_keep_their_order(redis, fleet) -> None:
    task = fleet.join()
    task.beat()
    messages = [b"%d" % i for i in range(2500)]
    assert task.push(0, *messages) == 2500
    assert redis.lrange("messages", 0, -1) == messages


def test_release_gives_the_flag_up_at_once_and_tells_the_others(redis, fleet) -> None:
    owner, other = fleet.join(), fleet.join()
    heard = threading.Event()

    def listen() -> None:
        try:
            for _ in other.store.notices():
                heard.set()
                return
        except Trouble:
            pass

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    wait_until(lambda: redis.pubsub_numsub("generatorIsActive")[0][1] == 1, "the listener")
    owner.beat()
    assert owner.release()
    assert heard.wait(PATIENCE)
    listener.join(PATIENCE)
    assert not redis.exists("generatorIsActive", "generatorId")
    assert not owner.release(), "a repeat changes nothing"
    assert other.beat().elected


# -- terms that failed


def retry_at(redis) -> float:
    """Seconds until the flag is granted again, by Redis's clock."""
    seconds, micro = redis.time()
    return int(redis.hget("generator", "retry_at")) / 1000 - seconds - micro / 1e6


def test_after_a_failed_term_nobody_is_elected_before_the_fleet_s_pause_is_over(redis, fleet: Fleet) -> None:
    owner, other = fleet.join(), fleet.join()
    owner.beat()
    pause = owner.release_failed("jobs:generate raised \udc80")
    assert 0.75 <= pause <= 1
    assert not redis.exists("generatorIsActive", "generatorId")
    assert redis.hget("generator", "error") == b"jobs:generate raised \x80"
    answers = [owner.beat(), other.beat()]
    assert not any(answer.elected for answer in answers)
    assert all(answer.remaining <= pause for answer in answers), "the next beat comes when it is over"
    over = [answer.time + answer.remaining for answer in answers]
    assert over == pytest.approx([int(redis.hget("generator", "retry_at")) / 1000] * 2, abs=0.01)
    wait_until(lambda: retry_at(redis) < 0)
    assert other.beat().elected


def test_each_failure_in_a_row_doubles_the_pause_up_to_a_minute_and_the_first_push_ends_that(
    redis, fleet: Fleet
) -> None:
    pauses = []
    for _ in range(9):
        task = fleet.join()
        wait_until(lambda task=task: task.beat().elected)
        pauses.append(task.release_failed("again"))
        redis.hdel("generator", "retry_at")  # as if it were over
    longest = (1, 2, 4, 8, 16, 32, 60, 60, 60)
    assert all(0.75 * most <= pause <= most for pause, most in zip(pauses, longest, strict=True)), pauses
    assert len({pause / most for pause, most in zip(pauses, longest, strict=True)}) > 5, "jitter"
    task = fleet.join()
    task.beat()
    assert task.push(0, b"1") == 1
    assert not redis.hmget("generator", "failures")[0]
    assert task.release_failed("not again, but anew") <= 1


def test_a_repeated_failure_counts_once(redis, fleet: Fleet) -> None:
    task = fleet.join()
    task.beat()
    assert task.release_failed("lost reply") > 0
    before = redis.hgetall("generator")
    assert task.release_failed("lost reply") == 0
    assert redis.hgetall("generator") == before


def test_a_failure_of_a_term_that_has_lost_the_flag_is_kept_until_the_next_term_has_begun(redis, fleet: Fleet) -> None:
    first, second = fleet.join(), fleet.join()
    first.beat()
    expire(redis)
    assert first.release_failed("the flag had expired before") > 0
    redis.hdel("generator", "retry_at")
    second.beat()
    expire(redis)
    third = fleet.join()
    third.beat()
    assert second.release_failed("too late") == 0
    assert redis.hget("generator", "error") == b"the flag had expired before"
    assert third.beat().renewed, "the flag of the third is not touched"


@pytest.mark.parametrize("seconds", [30, 60, 3600])
def test_a_clock_that_was_set_back_does_not_make_the_pause_longer(redis, fleet: Fleet, seconds: int) -> None:
    task = fleet.join()
    task.beat()
    task.release_failed("before the clock was set back")
    redis.hincrby("generator", "retry_at", 1000 * seconds)
    assert task.beat().elected


def test_who_is_elected_learns_when_the_last_push_was(redis, fleet: Fleet) -> None:
    first, second = fleet.join(), fleet.join()
    assert first.beat().since_push is None
    before = milliseconds(redis)
    first.push(0, b"1")
    after = milliseconds(redis)
    first.release()
    answer = second.beat()
    assert answer.since_push is not None
    assert before - 20 <= 1000 * (answer.time - answer.since_push) <= after + 20


def test_a_failure_is_kept_by_a_redis_that_is_full(redis, fleet: Fleet) -> None:
    task = fleet.join()
    task.beat()
    redis.config_set("maxmemory", "1")
    try:
        assert task.release_failed("OOM") > 0
        assert not task.beat().elected
    finally:
        redis.config_set("maxmemory", "0")


def test_a_full_redis_learns_that_nothing_more_comes_and_where_to_go_on(redis, fleet: Fleet) -> None:
    """If it refused that, term after term would fail though nobody has anything to push."""
    task = fleet.join()
    task.beat()
    redis.config_set("maxmemory", "1")
    try:
        with pytest.raises(Full, match=r"is full \(maxmemory\)"):
            task.push(0, b"1")
        assert task.push(0, position=b"7") == 0
        assert task.push(1, ended=True) == 0
    finally:
        redis.config_set("maxmemory", "0")
    assert redis.hmget("generator", "step", "last", "ended", "generated") == [b"2", b"7", b"1", None]


# -- beside other programs that know nothing of owners


def test_another_program_s_flag_is_respected(redis, fleet) -> None:
    task = fleet.join()
    redis.set("generatorIsActive", 1, ex=100)
    assert not task.beat().elected
    assert 2 * T < redis.ttl("generatorIsActive") <= 100
    redis.delete("generatorIsActive")
    assert task.beat().elected


@pytest.mark.parametrize("life", [T, 2 * T, 100, None])
def test_a_flag_that_another_program_has_set_makes_its_owner_step_aside(redis, fleet, life) -> None:
    task = fleet.join()
    task.beat()
    task.push(0, b"ours")
    redis.set("generatorIsActive", 1, ex=life)
    before = redis.pttl("generatorIsActive")
    assert task.push(1, b"not ours any more") is None
    assert not task.release()
    answer = task.beat()
    assert not answer.renewed and not answer.elected
    assert redis.lrange("messages", 0, -1) == [b"ours"]
    assert redis.exists("generatorIsActive")
    assert redis.pttl("generatorIsActive") <= before, "the foreign flag was renewed"


def test_the_same_life_set_by_another_program_is_seen_even_within_the_same_millisecond(redis, fleet) -> None:
    at_once, until = 0, monotonic() + PATIENCE
    while at_once <= 10:
        assert monotonic() < until, "it was never quick enough to show anything"
        redis.flushall()
        task = fleet.join()
        task.beat()
        ours = milliseconds(redis)
        redis.set("generatorIsActive", 1, ex=2 * T)
        at_once += milliseconds(redis) - ours <= 1
        assert task.push(0, b"not ours any more") is None


def end_of(redis, key: str) -> int:
    """When it expires, by the server's clock, in milliseconds."""
    return redis.execute_command("PEXPIRETIME", key)


def milliseconds(redis) -> int:
    seconds, micros = redis.time()
    return 1000 * seconds + micros // 1000


# Each command in a script takes some milliseconds: a machine that is short of time. The clock goes on meanwhile.
HICCUPS = """
local real = redis
local redis = setmetatable({call = function(...)
  for _ = 1, 1500000 do end
  return real.call(...)
end}, {__index = real})
"""


# The first look at the owner's life is followed by one such hiccup.
ONE_HICCUP = """
local real, hiccup = redis, true
local redis = setmetatable({call = function(...)
  local answer, name, key = real.call(...), ...
  if hiccup and name == 'PTTL' and key == 'generatorId' then
    hiccup = false
    for _ = 1, 1500000 do end
  end
  return answer
end}, {__index = real})
"""


def test_a_hiccup_within_a_push_hides_no_flag_of_another_program(redis, fleet, monkeypatch) -> None:
    task = fleet.join()
    monkeypatch.setattr(scripts, "PUSH", Script(ONE_HICCUP + scripts.PUSH.text))
    task.beat()
    redis.set("generatorIsActive", 1, ex=2 * T)
    assert task.push(0, b"not ours any more") is None


def test_hiccups_within_the_scripts_depose_nobody(redis, fleet, monkeypatch) -> None:
    for name in ("BEAT", "PUSH", "RELEASE"):
        monkeypatch.setattr(scripts, name, Script(HICCUPS + getattr(scripts, name).text))
    task = fleet.join(heartbeat=60)
    assert task.beat().elected
    for number in range(3):
        assert task.beat().renewed
        assert task.push(number, b"%d" % number)
    redis.set("generatorIsActive", 1, ex=120)
    assert task.push(3, b"not ours any more") is None, "another program's SET is seen all the same"
    redis.delete("generatorIsActive")
    assert task.beat().elected
    assert task.release()


def test_a_generator_whose_flag_somebody_deleted_takes_it_again_at_once(redis, fleet) -> None:
    task = fleet.join()
    task.beat()
    task.push(0, b"1")
    redis.delete("generatorIsActive")
    assert task.push(1, b"without a flag") is None
    assert task.beat().elected
    assert task.push(0, b"2") == 2


# -- clocks, and keys that somebody has deleted


def heard_of(redis) -> dict[bytes, float]:
    return dict(redis.zrange("tasks", 0, -1, withscores=True))


def now(redis) -> float:
    seconds, micros = redis.time()
    return seconds + micros / 1e6


def test_whoever_was_heard_of_in_the_future_was_heard_of_now(redis, fleet) -> None:
    task, other = fleet.join(), fleet.join()
    redis.zadd("tasks", {other.member.task_id: now(redis) + 60})  # then the clock stepped back
    before = now(redis)
    task.beat()
    assert before <= heard_of(redis)[b"2"] == heard_of(redis)[b"1"] <= now(redis)


def test_a_clock_that_steps_back_does_not_lengthen_the_time_in_which_nobody_is_called_dead(redis, fleet) -> None:
    task, other = fleet.join(), fleet.join()
    for of in (task, other):
        redis.zadd("tasks", {of.member.task_id: 1})
    task.beat()
    assert 0 < redis.pttl("tasks:resumed") <= 3000 * T
    redis.pexpire("tasks:resumed", 3000 * T + 60_000)
    task.beat()
    assert 0 < redis.pttl("tasks:resumed") <= 3000 * T


@pytest.mark.parametrize("heartbeat", [5, 10, 50])
def test_a_clock_that_steps_back_does_not_lengthen_the_life_of_a_flag_of_ours(redis, fleet, heartbeat) -> None:
    generator, handler = fleet.join(heartbeat=heartbeat), fleet.join()
    generator.beat()
    for key in ("generatorIsActive", "generatorId"):
        assert redis.pexpireat(key, redis.execute_command("PEXPIRETIME", key) + 60_000)
    before = milliseconds(redis)
    assert generator.push(0, b"1") == 1, "it is still the generator's"
    life = 2000 * heartbeat
    assert 0 < 1000 * handler.beat().remaining <= life
    assert end_of(redis, "generatorIsActive") >= before + life - 20, "nor does it shorten it"
    assert redis.pttl("generatorId") <= life
    assert generator.push(1, b"2") == 2
    assert generator.beat().renewed


def test_a_long_life_that_another_program_gave_its_flag_is_left_alone(redis, fleet) -> None:
    generator, handler = fleet.join(), fleet.join()
    generator.beat()
    redis.set("generatorIsActive", 1, ex=60)
    handler.beat()
    generator.beat()
    assert handler.beat().remaining > 2 * T


def test_members_that_the_index_has_lost_are_found_again(redis, fleet) -> None:
    task, other = fleet.join(), fleet.join()
    redis.zrem("tasks", other.member.task_id)
    task.beat()
    assert set(heard_of(redis)) == {b"1", b"2"}
    redis.delete("tasks")
    task.beat()
    assert set(heard_of(redis)) == {b"1", b"2"}
    redis.zadd("tasks", {other.member.task_id: 1})
    redis.delete("tasks:resumed")
    assert task.beat().dead == [2]


def test_a_number_that_another_task_has_or_had_is_given_to_nobody_else(redis, fleet) -> None:
    task, dead = fleet.join('{"heartbeat": 1, "wait": 5}'), fleet.join('{"heartbeat": 1, "wait": 5, "nonce": 2}')
    for record in ("{}", dead.member.record):
        with pytest.raises(NotMember):
            task.store.beat(Member(task.member.task_id, record), join=True)
    redis.zadd("tasks", {dead.member.task_id: 1})
    assert task.store.reap(dead.member.task_id) == Reaped()
    for record in ("{}", dead.member.record):
        with pytest.raises(NotMember):
            task.store.beat(Member(dead.member.task_id, record), join=True)


# -- a Redis that begins anew


def test_ids_and_terms_that_an_emptied_redis_gives_out_again_are_not_taken_for_the_old_ones(redis, fleet) -> None:
    old = fleet.join('{"nonce": "old process"}')
    old.beat()
    redis.flushall()
    new = fleet.join('{"nonce": "new process"}')
    new.beat()
    assert (new.member.task_id, new.term) == (old.member.task_id, old.term), "the same id, term and count"
    assert old.push(0, b"of the time before") is None
    assert not old.release()
    with pytest.raises(NotMember):
        old.beat()
    assert redis.get("generatorId") == b"1"
    assert new.push(0, b"1") == 1
    assert redis.lrange("messages", 0, -1) == [b"1"]


# -- whose keys these are


@pytest.mark.parametrize(("first", "second"), [(DEMO, "jobs:generate"), ("jobs:generate", DEMO)])
def test_the_demo_and_one_s_own_functions_do_not_share_keys(redis, fleet: Fleet, first: str, second: str) -> None:
    fleet.join(generate=first).beat()
    with pytest.raises(OthersKeys, match=f"{first}.*--namespace"):
        fleet.join(generate=second)
    assert redis.hlen("tasks:members") == redis.zcard("tasks") == 1, "who may not join leaves nothing behind"
    fleet.join(generate=second, namespace="other").beat()


def test_who_joined_before_it_was_known_whose_the_keys_are_ends_with_its_next_heartbeat(fleet: Fleet) -> None:
    demo, own = fleet.join(generate=DEMO), fleet.join(generate="jobs:generate")
    assert own.beat().elected
    with pytest.raises(OthersKeys):
        demo.beat()


def test_a_renamed_function_goes_on_and_learns_whose_work_it_continues(fleet: Fleet) -> None:
    old = fleet.join(generate="jobs:generate")
    assert old.beat().before is None
    old.release()
    assert fleet.join(generate="jobs:orders").beat().before == "jobs:generate"


@pytest.mark.parametrize("generate", [DEMO, "jobs:generate"])
def test_keys_without_a_mark_are_anybody_s(redis, fleet: Fleet, generate: str) -> None:
    redis.hset("generator", mapping={"generated": 64, "last": "64"})
    redis.rpush("messages", "of another program")
    task = fleet.join(generate=generate)
    task.beat()
    assert task.position() == (True, "64")
