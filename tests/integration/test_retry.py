"""`gtask retryErrors` on real servers: each failed message goes back once, whatever its bytes and whoever dies."""

import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gtask.text import failure_record
from tests.servers import ONE_SERVER, OTHER_SERVER, Server
from tests.support.processes import environment
from tests.tasks import PATIENCE, wait_until

Retry = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def begin(server: Server, tmp_path: Path) -> Iterator[Retry]:
    """Starts `gtask retryErrors`."""
    started: list[subprocess.Popen[bytes]] = []

    def begin(*arguments: str | bytes) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "gtask", "retryErrors", "--redis", server.url, *arguments]
        process = subprocess.Popen(
            command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def result(process: "subprocess.Popen[bytes]") -> tuple[int, str, str]:
    out, err = process.communicate(timeout=PATIENCE)
    return process.returncode, out.decode(), err.decode()


def fill(redis, count: int) -> None:
    pipe = redis.pipeline()
    for n in range(count):
        pipe.rpush("errors", failure_record(f"m{n}", f"ValueError: reason {n % 7}", 3))
    pipe.execute()


def messages(redis) -> list[bytes]:
    return redis.lrange("messages", 0, -1)


def test_all_failures_go_to_the_tail_of_the_queue_in_their_order(redis, begin: Retry) -> None:
    redis.rpush("messages", "waits")
    fill(redis, 1234)
    assert result(begin()) == (0, "1,234 messages are back in the queue\n", "")
    assert messages(redis) == [b"waits", *(b"m%d" % n for n in range(1234))]
    assert redis.llen("errors") == 0
    assert redis.hget("totals", "retried") == b"1234"


@ONE_SERVER
def test_without_failures_it_says_so(redis, begin: Retry) -> None:
    assert result(begin()) == (0, "0 messages are back in the queue\n", "")


def test_only_those_whose_record_contains_the_text_go_back(redis, begin: Retry) -> None:
    fill(redis, 1500)
    assert result(begin("--match", "reason 3")) == (0, "214 messages are back in the queue\n", "")
    assert messages(redis) == [b"m%d" % n for n in range(1500) if n % 7 == 3]
    left = [json.loads(entry)["message"] for entry in redis.lrange("errors", 0, -1)]
    assert left == [f"m{n}" for n in range(1500) if n % 7 != 3]


@OTHER_SERVER
@pytest.mark.parametrize("text", ["заказ", '"id": 7', "C:\\new", "TimeoutError: длинно"])
def test_the_text_is_found_as_it_reads(redis, begin: Retry, text: str) -> None:
    """JSON has other letters for these."""
    record = failure_record('заказ {"id": 7} C:\\new', "TimeoutError: длинно", 3)
    assert "заказ" not in record
    redis.rpush("errors", record, failure_record("other", "no", 3))
    assert result(begin("--match", text)) == (0, "1 message is back in the queue\n", "")


@ONE_SERVER
def test_any_bytes_go_back_as_they_were(redis, begin: Retry) -> None:
    odd = [bytes(range(256)), b"", "кот\n".encode(), b"\xed\xa0\x80"]
    for message in odd:
        redis.rpush("errors", failure_record(message.decode("utf-8", "surrogateescape"), "no", 3))
    assert result(begin())[0] == 0
    assert messages(redis) == odd


def test_what_another_program_wrote_goes_back_as_it_is(redis, begin: Retry) -> None:
    foreign = [b"plain", b"\xff\xfe", b"", b"[1, 2]", b'{"other": 1}', b'{"message": 5}',
               b'{"message":"pay","to":"bob"}',
               b'{"message": "m", "error": "e", "taskId": 1, "at": "now", "more": 1}']  # fmt: skip
    redis.rpush("errors", *foreign)
    assert result(begin())[0] == 0
    assert messages(redis) == foreign


@OTHER_SERVER
def test_two_at_once_send_each_back_once(redis, begin: Retry) -> None:
    fill(redis, 20_000)
    counts = [int(result(process)[1].split()[0].replace(",", "")) for process in (begin(), begin())]
    assert sum(counts) == 20_000
    assert Counter(messages(redis)) == Counter(b"m%d" % n for n in range(20_000))
    assert redis.llen("errors") == 0


@ONE_SERVER
def test_killed_at_any_point_each_message_is_in_the_queue_or_in_errors_and_not_in_both(redis, begin: Retry) -> None:
    """The kills come when so many have gone back. A dead one's lock ends by itself, and until then a new one waits."""
    total = 15_000
    fill(redis, total)
    for at in (1, 3000, 9000):
        redis.delete("errors:reader")
        process = begin()
        wait_until(lambda at=at: redis.llen("messages") >= at, "some to go back")
        process.send_signal(signal.SIGKILL)
        process.wait(PATIENCE)
        # Its last command may be on its way yet; the server lets go of a client only when it has read everything.
        wait_until(lambda: len(redis.client_list()) == 1, "the server to see the client go")
        there = [json.loads(entry)["message"].encode() for entry in redis.lrange("errors", 0, -1)]
        assert Counter(messages(redis)) + Counter(there) == Counter(b"m%d" % n for n in range(total))
        assert int(redis.hget("totals", "retried")) == redis.llen("messages")
        assert redis.pttl("errors:reader") != -1, "it has a life, if it is there"
    redis.set("errors:reader", "of one that is dead", ex=600)
    process = begin()
    assert process.stderr is not None and b"waiting for it" in process.stderr.readline()
    redis.pexpire("errors:reader", 1)
    assert result(process)[0] == 0
    assert messages(redis) == [b"m%d" % n for n in range(total)]
    assert redis.llen("errors") == 0


@ONE_SERVER
def test_failures_that_come_meanwhile_wait_for_the_next_time(redis, begin: Retry) -> None:
    """A message that fails again at once must not go round for ever."""
    fill(redis, 2000)
    process = begin()
    moved = 0
    while process.poll() is None:  # a handler that fails with each
        if message := redis.lpop("messages"):
            redis.rpush("errors", failure_record(message.decode(), "again", 4))
            moved += 1
    assert result(process)[1] == "2,000 messages are back in the queue\n"
    assert redis.llen("messages") + redis.llen("errors") == 2000
