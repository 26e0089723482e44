"""getErrors and retryErrors on long lists, on a full Redis, and before a person's eyes."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from gtask.exceptions import Unanswered
from gtask.failed import get_errors, retry_errors
from gtask.store import Store
from gtask.text import failure_record
from tests.servers import ONE_SERVER, OTHER_SERVER, Server
from tests.system.terminal import Terminal
from tests.tasks import wait_until

RARE = 100


def fill(redis, count: int) -> None:
    """Failures of which one in a hundred is rare."""
    for first in range(0, count, 1000):
        redis.rpush("errors", *(
            failure_record(f"m{n}", "rare" if n % RARE == 0 else "boom", 7)
            for n in range(first, min(first + 1000, count))
        ))  # fmt: skip


@pytest.fixture
def store(server: Server):
    store = Store(server.url, "")
    yield store
    store.close()


@pytest.mark.serial
def test_an_entry_costs_the_same_in_a_list_ten_times_as_long(redis, store: Store) -> None:
    """In the server's own time for the scripts."""

    def cost(count: int) -> float:
        redis.flushall()
        fill(redis, count)
        redis.config_resetstat()
        assert retry_errors(store, "rare") == count // RARE
        assert redis.llen("errors") == count - count // RARE
        return redis.info("commandstats")["cmdstat_evalsha"]["usec"] / count

    def grows() -> float:
        few, many = cost(5_000), cost(50_000)
        print(f"\n{few:.2f} us an entry of 5,000, {many:.2f} us an entry of 50,000")
        return many / few

    assert any(grows() < 2 for _ in range(3))  # once is enough: what disturbs makes it larger


@ONE_SERVER
def test_what_was_not_chosen_stays_in_its_order_and_a_rerun_reaches_all(redis, store: Store) -> None:
    fill(redis, 3000)
    before = redis.lrange("errors", 0, -1)
    assert retry_errors(store, "rare") == 30
    assert redis.lrange("errors", 0, -1) == [entry for entry in before if b'"rare"' not in entry]
    assert not redis.exists("errors:reader")


class Slow(Store):
    """Takes its time between two steps: the right has nearly expired, once wholly."""

    def __init__(self, url: str) -> None:
        super().__init__(url, "")
        self.lives: list[int] = []

    def resolve(self, token: str, seconds: int, fates: Sequence[tuple[str, str]]) -> tuple[int, int] | None:
        if len(self.lives) == 1:
            self.unlock_errors(token)
        answer = super().resolve(token, seconds, fates)
        with self._asking("_commands") as commands:
            self.lives.append(commands.pttl(self.keys.reader))
            commands.pexpire(self.keys.reader, 1000)
        return answer


def test_each_step_renews_the_right_and_one_that_expired_is_not_another_one_s(redis, server: Server) -> None:
    fill(redis, 2000)
    store = Slow(server.url)
    assert retry_errors(store, None) == 2000
    store.close()
    assert len(store.lives) >= 4 and min(store.lives) > 1000, "what was left before is less"


def test_both_work_on_a_full_redis(redis, store: Store, tmp_path: Path) -> None:
    fill(redis, 1200)
    redis.config_set("maxmemory", "1")
    try:
        assert retry_errors(store, "rare") == 12
        with open(tmp_path / "out", "wb") as out:
            get_errors(store, out.fileno(), keep=False, width=None)
    finally:
        redis.config_set("maxmemory", "0")
    assert len((tmp_path / "out").read_bytes().splitlines()) == 1200 - 12
    assert redis.llen("messages") == 12
    assert not redis.exists("errors", "errors:reader")


@pytest.fixture
def small_answers(redis) -> Iterator[None]:
    """Redis closes a connection whose answer is larger than this, and has no memory of it."""
    before = redis.config_get("client-output-buffer-limit")["client-output-buffer-limit"]
    redis.config_set("client-output-buffer-limit", "normal 1000000 0 0")
    yield
    redis.config_set("client-output-buffer-limit", before)


@pytest.mark.usefixtures("small_answers")
def test_answers_that_redis_throws_away_are_asked_for_in_smaller_pieces(redis, store: Store, tmp_path: Path) -> None:
    large = [failure_record(f"{n}" + "x" * 600_000, "boom", 7) for n in range(4)]
    redis.rpush("errors", *large)
    with open(tmp_path / "out", "wb") as out:
        get_errors(store, out.fileno(), keep=True, width=None)
        get_errors(store, out.fileno(), keep=False, width=None, limit=2)
    assert len((tmp_path / "out").read_bytes().splitlines()) == 4 + 2
    assert retry_errors(store, None) == 2
    assert [redis.lindex("messages", n)[:2] for n in range(2)] == [b"2x", b"3x"]
    redis.rpush("errors", failure_record("x" * 1_200_000, "boom", 7))
    with pytest.raises(Unanswered):
        retry_errors(store, None)
    assert redis.llen("errors") == 1


@OTHER_SERVER
def test_a_person_sees_how_far_it_is(redis, server: Server) -> None:
    fill(redis, 100_000)
    with Terminal([sys.executable, "-m", "gtask", "retryErrors", "--redis", server.url]) as terminal:
        terminal.wait_for(lambda text: " of 100,000" in text)
        terminal.wait_for(lambda text: "100,000 messages are back in the queue" in text, within=120)
        assert " of 100,000" not in terminal.text, "the bar is gone"
    wait_until(lambda: redis.llen("messages") == 100_000)
