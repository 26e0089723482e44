"""What comes of a handled message: follow-up messages, and that it comes again later."""

import json
from collections.abc import Callable, Iterator

import pytest

from gtask.at_least_once import AtLeastOnce
from gtask.at_most_once import AtMostOnce
from gtask.calls import ONE_CALL
from gtask.exceptions import Full, Trouble, WrongType
from gtask.hand import Hand
from gtask.outcome import NEVER, Later, Outcome, Tried
from tests.hands import Hands, texts
from tests.integration.test_delivery import LOSSES, Lossy, failed
from tests.servers import Server

KINDS = pytest.mark.parametrize("kind", [AtMostOnce, AtLeastOnce])


@pytest.fixture
def hands(server: Server) -> Iterator[Callable[..., Hands]]:
    made: list[Hands] = []

    def make(kind: type[Hand] = AtLeastOnce, **how: int) -> Hands:
        made.append(Hands(server, kind, Lossy, **how))
        return made[-1]

    yield make
    for one in made:
        one.store.close()


def brings(*messages: str | bytes) -> Outcome:
    return Outcome(followups=tuple(m.encode() if isinstance(m, str) else m for m in messages))


def again(after: float = 1000, *, failed: bool = True) -> Outcome:
    return Outcome("no", later=Later(after, failed))


def later(redis) -> list[tuple[str, float]]:
    """What is to come again: messages, and in how many seconds, the first one first."""
    now = redis.time()[0]
    items = redis.zrange("messages:later", 0, -1, withscores=True)
    return [(item.decode().split(" ", 1)[1], at - now) for item, at in items]


def attempts(redis) -> list[bytes]:
    return sorted(redis.hvals("messages:attempts"))


def totals(redis) -> dict[str, int]:
    return {name.decode(): int(value) for name, value in redis.hgetall("totals").items()}


def come_due(redis) -> None:
    for item in redis.zrange("messages:later", 0, -1):
        redis.zadd("messages:later", {item: 1 + float(item.split()[0]) / 1000})


# -- follow-ups


@KINDS
@pytest.mark.parametrize("lose", ["", *LOSSES])
def test_follow_ups_come_to_the_tail_of_the_queue_once(redis, hands, kind: type[Hand], lose: str) -> None:
    redis.rpush("messages", *"abcd")
    task = hands(kind)
    task.take(3)
    task.finish("a", outcome=brings("a1", "a2"))
    task.finish("b")
    task.finish("c", outcome=brings(b"\xff"))
    task.store.method, task.store.lose = ("claim" if kind is AtLeastOnce else "settle") if lose else "", lose
    task.take(0)
    assert redis.lrange("messages", 0, -1) == [b"d", b"a1", b"a2", b"\xff"]
    assert totals(redis) == {"followups": 3} | ({"processed": 3} if kind is AtLeastOnce else {})
    assert not task.hand.owes
    task.leave()


def test_follow_ups_and_the_acknowledgement_of_their_parent_are_one_step(redis, hands) -> None:
    redis.rpush("messages", *"ab")
    task, other = hands(), hands()
    task.take(1)
    task.finish("a", outcome=brings("a1"))
    task.die(redis)
    assert texts(redis, "messages") == ["a", "b"], "neither of both"
    assert other.take(1) == ["a"]
    other.finish("a", outcome=brings("a1"))
    other.take(0)
    other.die(redis)
    assert texts(redis, "messages") == ["b", "a1"], "both"


def test_what_is_finished_beside_what_is_still_in_hand_sends_its_follow_ups_too(redis, hands) -> None:
    redis.rpush("messages", *"abcd")
    task = hands()
    task.take(4)
    task.finish("b", outcome=brings("b1"))
    task.finish("c", outcome=again())
    task.take(0)
    assert texts(redis, f"inflight:{task.id}") == ["a", "d"]
    assert texts(redis, "messages") == ["b1"]
    assert [message for message, _ in later(redis)] == ["c"]
    assert totals(redis) == {"processed": 1, "followups": 1, "postponed": 1}


@KINDS
def test_one_call_tells_about_a_megabyte_and_all_is_told_at_the_end(redis, hands, kind: type[Hand]) -> None:
    redis.rpush("messages", *"abcde")
    task = hands(kind)
    task.take(5)
    for message in task.started[:]:
        task.finish(message, outcome=brings("x" * (ONE_CALL // 2 - 100)))
    task.take(0)
    assert redis.llen("messages") == 2
    assert task.hand.owes
    task.take(0)
    assert redis.llen("messages") == 4
    task.leave()
    assert redis.llen("messages") == 5
    assert redis.keys("inflight:*") == []
    assert totals(redis)["followups"] == 5


@KINDS
def test_a_message_may_have_a_thousand_follow_ups_and_many_small_ones_are_parted_too(redis, hands, kind) -> None:
    redis.rpush("messages", *map(str, range(40)))
    task = hands(kind)
    task.take(40)
    for message in task.started[:]:
        task.finish(message, outcome=brings(*[""] * 1000))
    task.take(0)
    assert 16000 <= redis.llen("messages") <= 17000
    task.leave()
    assert redis.llen("messages") == 40000


# -- later


@pytest.mark.parametrize("lose", ["", *LOSSES])
def test_what_is_to_come_again_waits_and_counts_neither_as_processed_nor_as_failed(redis, hands, lose: str) -> None:
    redis.rpush("messages", *"abc")
    task = hands()
    task.take(2)
    task.finish("a", outcome=again(30))
    task.finish("b")
    task.store.method, task.store.lose = "claim" if lose else "", lose
    assert task.take(1) == ["c"]
    [(message, seconds)] = later(redis)
    assert message == "a"
    assert seconds == pytest.approx(30, abs=10)
    assert attempts(redis) == [b"1 1"]
    assert totals(redis) == {"processed": 1, "postponed": 1}
    assert texts(redis, f"inflight:{task.id}") == ["c"]


def test_equal_messages_stay_apart_and_share_their_attempts(redis, hands) -> None:
    redis.rpush("messages", *"aaa")
    task = hands()
    task.take(3)
    for seconds in (30, 20, 20):
        task.finish("a", outcome=again(seconds))
    task.take(0)
    assert [message for message, _ in later(redis)] == ["a", "a", "a"]
    assert attempts(redis) == [b"1 1"], "each says what it knew when it was taken"
    redis.hdel("totals", "postponed")  # somebody deletes the totals: none is taken for another all the same
    redis.rpush("messages", "a")
    task.take(1)
    task.finish("a", outcome=again(20))
    task.take(0)
    assert [round(seconds, -1) for _, seconds in later(redis)] == [20, 20, 20, 30]


def test_equal_messages_of_which_one_has_failed_for_good_are_tried_again_all_the_same(redis, hands) -> None:
    """While one is in hand there is always another one in hand, too."""
    retries, messages = 3, 40
    redis.rpush("messages", *["a"] * messages)
    task, made = hands(), 0
    task.take(4)
    while task.started:
        used_up = task.hand.tried("a").failures >= retries
        task.finish("a", fail=used_up, outcome=again(0))
        task.take(1)
        made += 1
    assert totals(redis) == {"processed": messages, "errors": messages, "postponed": made - messages}
    assert made > 0.8 * (retries + 1) * messages, "as many attempts as different ones would have had, or nearly so"


def test_a_clock_that_steps_back_does_not_make_anything_wait_longer(redis, hands) -> None:
    names = [str(n) for n in range(150)]
    redis.rpush("messages", *names, "now")
    task = hands()
    task.take(151)
    task.finish(*names, outcome=again(1000))
    task.finish("now", outcome=again(0.01))
    task.take(0)
    for item, at in redis.zrange("messages:later", 0, -1, withscores=True):
        redis.zadd("messages:later", {item: at + 3600})
    redis.zadd("tasks", {task.id: redis.time()[0] + 3601})  # its last beat, after which the clock stepped back
    task.store.beat(task.membership.member)
    assert [message for message, _ in later(redis)] == names
    assert all(seconds == pytest.approx(1000, abs=30) for _, seconds in later(redis))
    assert texts(redis, "messages") == ["now"]


def test_what_is_due_comes_to_the_head_of_the_queue_in_the_order_of_its_time(redis, hands) -> None:
    redis.rpush("messages", *"abcdef")
    task = hands()
    task.take(5)
    for message, seconds in zip("abcde", (30, 10, 1000, 20, 20), strict=True):
        task.finish(message, outcome=again(seconds))
    task.take(0)
    for item, at in redis.zrange("messages:later", 0, -1, withscores=True):
        redis.zadd("messages:later", {item: at - 500})
    assert task.take(2) == ["b", "d"]
    assert texts(redis, "messages") == ["e", "a", "f"]
    assert [message for message, _ in later(redis)] == ["c"]


def test_a_hundred_come_back_in_one_call_of_a_claim_or_a_heartbeat(redis, hands) -> None:
    redis.rpush("messages", *map(str, range(250)))
    task = hands()
    names = task.take(250)
    task.finish(*names, outcome=again())
    task.take(0)
    come_due(redis)
    task.store.beat(task.membership.member)
    assert texts(redis, "messages") == names[:100]
    assert task.take(0) == []
    assert texts(redis, "messages") == names[100:200] + names[:100]
    task.store.beat(task.membership.member)
    assert texts(redis, "messages") == names[200:] + names[100:200] + names[:100]
    assert not redis.exists("messages:later")


def test_large_ones_come_back_a_few_at_a_time(redis, hands) -> None:
    redis.rpush("messages", *(str(n) + "x" * 400_000 for n in range(9)))
    task = hands()
    for _ in range(9):
        [message] = task.take(1)
        task.finish(message, outcome=again())
    task.take(0)
    come_due(redis)
    task.store.beat(task.membership.member)
    assert 1 <= redis.llen("messages") <= 4
    assert redis.lindex("messages", 0).startswith(b"0x")


def test_a_message_with_a_wait_of_zero_comes_again_at_once_and_its_attempts_with_it(redis, hands) -> None:
    redis.rpush("messages", *"ab")
    task = hands()
    task.take(1)
    task.finish("a", outcome=again(0))
    assert task.take(1) == ["a"]
    assert task.hand.tried("a") == Tried(1, 1)


def test_whoever_gets_a_message_learns_how_often_it_was_tried(redis, hands) -> None:
    redis.rpush("messages", *"ab")
    one, two = hands(), hands()
    for n, fails in enumerate((True, False, True)):
        task = (one, two)[n % 2]
        assert sorted(task.take(2)) == ["a", "b"]
        assert task.hand.tried("a") == Tried(n, min(n, 1))
        assert task.hand.tried("b") == NEVER
        task.finish("a", outcome=again(0, failed=fails))
        task.take(0)
        task.give_back()
    task = two
    assert task.take(2) == ["b", "a"]
    assert task.hand.tried("a") == Tried(3, 2)
    task.finish("b")
    task.take(0)
    task.die(redis)
    assert task.take(1) == ["a"]
    assert task.hand.tried("a") == Tried(3, 2), "a death is no attempt"
    task.finish("a")
    task.take(0)
    assert task.hand.tried("a") == NEVER
    assert not redis.exists("messages:attempts")
    assert totals(redis) == {"processed": 2, "postponed": 3, "redelivered": 1}


def test_a_repeated_claim_says_the_same_of_attempts(redis, hands) -> None:
    redis.rpush("messages", *"ab")
    task = hands()
    task.take(1)
    task.finish("a", outcome=again(0))
    task.store.method, task.store.lose = "claim", "reply"
    assert task.take(2) == ["a", "b"]
    assert task.hand.tried("a") == Tried(1, 1)
    assert task.hand.tried("b") == NEVER


@pytest.mark.parametrize("end", ["handled", "failed", "poison", "retried"])
def test_a_message_that_is_finished_for_good_is_forgotten(redis, hands, end: str) -> None:
    redis.rpush("messages", *"ab")
    task = hands()
    task.take(2)
    task.finish("a", outcome=again())
    task.finish("b", outcome=again(0))
    task.take(1)
    match end:
        case "poison":
            for _ in range(3):
                task.die(redis)
                task.take(1)
            assert failed(redis) == ["b"]
        case "retried":  # while its equal waits to come again, whose attempts it would share
            redis.rpush("errors", "b")
            assert redis.hlen("messages:attempts") == 2
            task.store.lock_errors("me", 5)
            task.store.resolve("me", 5, [("b", "=")])
        case _:
            task.finish("b", fail=end == "failed")
            task.take(0)
            assert failed(redis) == ["b"] * (end == "failed")
    assert attempts(redis) == [b"1 1"], "of the other one"


def test_attempts_are_kept_a_day_longer_than_the_longest_wait(redis, hands) -> None:
    redis.rpush("messages", *"abcd")
    task = hands()
    for seconds, life in ((10, 86400 + 10), (3600, 86400 + 3600), (20, 86400 + 3600), (10**9, 86400 + 10**9)):
        [message] = task.take(1)
        task.finish(message, outcome=again(seconds))
        task.take(0)
        assert redis.ttl("messages:attempts") == pytest.approx(life, abs=30)


def test_the_backlog_is_what_waits_and_what_is_to_come_again(redis, hands) -> None:
    redis.rpush("messages", *"abc")
    task = hands()
    task.take(2)
    task.finish("a", "b", outcome=again())
    task.take(0)
    term = task.store.beat(task.membership.member, want=True).term
    assert task.store.backlog() == 3
    assert task.store.push(task.membership.member, term, 1, [b"d"]) == 4
    assert task.store.push(task.membership.member, term, 1, [b"d"]) == 4, "a repeat says it too"
    assert task.store.push(task.membership.member, term, 2, [], position=b"p") == 4


def test_status_shows_what_comes_again_and_what_handlers_sent_and_the_sum_holds(redis, hands) -> None:
    redis.hset("generator", "generated", 3)
    redis.rpush("messages", *"abc")
    task = hands()
    seen = task.store.snapshot()
    assert (seen.later, seen.followups, seen.postponed, seen.unaccounted) == (0, 0, 0, 0)
    assert "sent by handlers" not in seen.as_text("flag") and "later" not in seen.as_text("flag")
    task.take(2)
    task.finish("a", outcome=again())
    task.finish("b", outcome=brings("b1", "b2"))
    task.take(1)
    seen = task.store.snapshot()
    assert (seen.later, seen.followups, seen.postponed, seen.unaccounted) == (1, 2, 1, 0)
    shown = json.loads(seen.as_json())
    assert (shown["later"], shown["followups"], shown["postponed"]) == (1, 2, 1)
    text = seen.as_text("flag")
    assert "the sum holds: generated + retried + sent by handlers = waiting + in flight + later + processed" in text
    for line in (
        "1  come again later",
        "2  sent by handlers",
        "1  times that a message was put off, to come again later",
    ):
        assert f" {line}\n" in text


# -- a full Redis


@pytest.fixture
def full(redis) -> Iterator[Callable[[], None]]:
    yield lambda: redis.config_set("maxmemory", "1")
    redis.config_set("maxmemory", "0")


def everything(redis) -> dict[bytes, bytes]:
    return {key: redis.dump(key) for key in redis.keys("*")}


def test_a_full_redis_refuses_follow_ups_before_anything_is_changed(redis, hands, full) -> None:
    redis.rpush("messages", *"abc")
    redis.hset("totals", "purged", 1)
    task = hands(attempts=1)
    task.take(2)
    task.finish("a", outcome=brings("a1"))
    task.finish("b", fail=True)
    before = everything(redis)
    task.hand._hold_back = lambda growing: False
    full()
    with pytest.raises(Full):
        task.hand.take(1, task.line)
    assert everything(redis) == before


def test_in_a_full_redis_all_else_goes_on_and_follow_ups_come_later(redis, hands, full) -> None:
    redis.rpush("messages", *"abcdefg")
    task = hands()
    task.hand._clock = lambda: 1000.0  # it stands still
    task.take(4)
    task.finish("a", outcome=brings("a1"))
    task.finish("b")
    task.finish("c", fail=True)
    full()
    assert task.take(2) == ["e", "f"]
    assert texts(redis, f"inflight:{task.id}") == ["a", "d", "e", "f"]
    assert failed(redis) == ["c"]
    assert totals(redis) == {"processed": 2, "errors": 1}
    assert not task.hand.owes
    assert task.hand.next_look == 1
    task.finish("d", outcome=brings("d1"))
    task.finish("e")
    task.give_back()
    assert texts(redis, f"inflight:{task.id}") == ["a", "d", "e"]
    task.take(0)
    assert texts(redis, f"inflight:{task.id}") == ["a", "d"]
    redis.config_set("maxmemory", "0")
    task.hand._room_at = 0.0  # the second until it is asked again is over
    assert task.hand.owes
    task.take(0)
    assert not redis.exists(f"inflight:{task.id}")
    assert texts(redis, "messages") == ["f", "g", "a1", "d1"]


def test_a_full_redis_takes_what_comes_again_like_a_failure_however_much_it_is(redis, hands, full) -> None:
    """Its message only moves. If it had to wait for room, and all were such ones, nobody would ever make any."""
    large = [f"{n}" + "x" * 600_000 for n in range(3)]
    redis.rpush("messages", *large, *"abcde")
    task = hands(attempts=1)
    task.take(5)
    full()
    task.finish(*large, outcome=again())
    task.finish("a", outcome=brings("a1"))
    assert task.take(1) == ["c"], "nor does it hold back what has no room"
    while task.hand.owes:
        task.take(0)
    assert [message for message, _ in later(redis)] == large
    assert attempts(redis) == [b"1 1"] * 3
    assert totals(redis) == {"postponed": 3}
    task.finish("b", "c", outcome=again(0))
    assert sorted(task.take(2)) == ["b", "c"], "it comes again, too"
    assert task.hand.tried("b") == Tried(1, 1)


def test_a_task_that_leaves_a_full_redis_gives_back_whose_follow_ups_had_no_room(redis, hands, full) -> None:
    redis.rpush("messages", *"abc")
    task = hands()
    task.take(2)
    task.finish("a", outcome=brings("a1"))
    task.finish("b")
    full()
    task.leave()
    assert texts(redis, "messages") == ["a", "c"], "neither the acknowledgement nor the follow-up"
    assert redis.keys("inflight:*") == []


def test_not_more_is_held_back_than_one_call_can_tell(redis, hands, full) -> None:
    redis.rpush("messages", *"abcd")
    task = hands(attempts=3)
    task.take(3)
    task.finish("a", outcome=brings("x" * 600_000))
    full()
    task.take(0)
    task.finish("b", outcome=brings("x" * 600_000))
    task.finish("c")
    with pytest.raises(Full):
        task.hand.take(1, task.line)
    redis.config_set("maxmemory", "0")
    task.take(0)
    task.give_back()
    task.take(0)
    assert sorted(map(len, texts(redis, "messages"))) == [1, 600_000, 600_000]
    assert totals(redis) == {"processed": 3, "followups": 2}


def test_a_call_that_may_still_arrive_stays_as_it_is_though_redis_is_full(redis, hands, full) -> None:
    redis.rpush("messages", *"abc")
    task = hands(attempts=1)
    task.take(2)
    task.finish("a", outcome=brings("a1"))
    task.finish("b")
    task.store.method, task.store.lose = "claim", "answer"
    for error in (Trouble, Full, Full):
        with pytest.raises(error):
            task.hand.take(1, task.line)
        full()
    redis.config_set("maxmemory", "0")
    task.take(0)
    task.give_back()
    assert texts(redis, "messages") == ["c", "a1"]
    assert totals(redis) == {"processed": 2, "followups": 1}


def test_at_most_once_failures_are_stored_and_messages_taken_though_follow_ups_have_no_room(redis, hands, full) -> None:
    redis.rpush("messages", *"abcd")
    task = hands(AtMostOnce)
    task.take(2)
    task.finish("a", outcome=brings("a1"))
    task.finish("b", fail=True)
    full()
    assert task.take(2) == ["c", "d"]
    assert failed(redis) == ["b"]
    assert task.hand.owes
    redis.config_set("maxmemory", "0")
    task.finish("c", "d")
    task.leave()
    assert texts(redis, "messages") == ["a1"]


def test_at_most_once_only_follow_ups_are_lost_when_a_task_must_leave_a_full_redis(redis, hands, full) -> None:
    redis.rpush("messages", *"abcd")
    task = hands(AtMostOnce)
    task.take(3)
    task.finish("a", outcome=brings("a1"))
    task.finish("b", fail=True)
    full()
    with pytest.raises(Full):
        task.leave()
    assert failed(redis) == ["b"]
    assert texts(redis, "messages") == ["c", "d"]


def test_what_a_full_redis_takes_is_told_in_one_attempt(redis, hands, full) -> None:
    """A native thread that leaves for a task which is held up has no more than one."""
    redis.rpush("messages", *"abc")
    task = hands(attempts=1)
    task.take(2)
    task.finish("a", outcome=brings("a1"))
    task.finish("b")
    full()
    task.leave()
    assert texts(redis, "messages") == ["a", "c"]
    assert totals(redis) == {"processed": 1}


def test_at_most_once_follow_ups_are_not_lost_with_a_membership(redis, hands) -> None:
    redis.rpush("messages", *"ab")
    task = hands(AtMostOnce)
    task.take(2)
    task.finish("a", outcome=brings("a1"))
    redis.delete("tasks", "tasks:members")
    task.take(0)
    assert texts(redis, "messages") == ["a1"]
    assert totals(redis) == {"followups": 1}


# -- what another program left in these keys


def test_a_message_without_an_ordinal_comes_as_it_is(redis, hands) -> None:
    redis.zadd("messages:later", {"": 1, "12 apples": 2, "\n\0": 3, "0000000000000001 \0a": 4})
    assert hands().take(9) == ["", "12 apples", "\n\0", "\0a"]


@pytest.mark.parametrize("key", ["messages:later", "messages:attempts", "totals", "messages"])
def test_a_claim_that_cannot_store_what_came_acknowledges_nothing(redis, hands, key: str) -> None:
    redis.rpush("messages", "a")
    task = hands()
    task.take(1)
    task.finish("a", outcome=Outcome("no", later=Later(5), followups=(b"a1",)))
    redis.delete(key)
    redis.set(key, "another program's")
    with pytest.raises(WrongType, match=f"{key} holds a string"):
        task.take(0)
    assert texts(redis, f"inflight:{task.id}") == ["a"]
    assert key == "totals" or not redis.exists("totals"), "nothing is counted either"


def test_nonsense_of_attempts_counts_as_none(redis, hands) -> None:
    redis.rpush("messages", "a")
    task = hands()
    task.take(1)
    task.finish("a", outcome=again(0))
    task.take(0)
    for nonsense in ("", "text", "-1 1", "1.5 1", "9" * 400 + " 1", "1 1 1"):
        redis.hset("messages:attempts", redis.hkeys("messages:attempts")[0], nonsense)
        assert task.take(1) == ["a"]
        assert task.hand.tried("a") == NEVER
        task.finish("a", outcome=again(0))
        task.take(0)
    assert attempts(redis) == [b"1 1"]
