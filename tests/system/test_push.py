"""`gtask push`: messages by hand, all in one step, counted apart."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.commands import Ambush, CommandProxy
from tests.servers import ONE_NEW_SERVER, ONE_SERVER, OTHER_SERVER
from tests.support.processes import environment
from tests.tasks import PATIENCE, wait_until

Gtask = Callable[..., tuple[int, str, str]]


@pytest.fixture
def gtask(server, tmp_path: Path) -> Gtask:
    """Runs a command of gtask: exit code, stdout, stderr."""

    def gtask(*arguments: str | bytes, stdin: bytes = b"", url: str = server.url) -> tuple[int, str, str]:
        command = [sys.executable, "-m", "gtask", *arguments]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment({"GTASK_REDIS": url}), capture_output=True, input=stdin,
            timeout=PATIENCE, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    return gtask


def test_messages_go_to_the_tail_in_their_order_and_are_counted(redis, gtask: Gtask) -> None:
    redis.rpush("messages", "before")
    assert gtask("push", "b", "a", b"\xff \xc3\xa4", "status") == (0, "4 pushed, 5 wait\n", "")
    assert redis.lrange("messages", 0, -1) == [b"before", b"b", b"a", b"\xff \xc3\xa4", b"status"]
    assert redis.hgetall("totals") == {b"pushed": b"4"}
    assert redis.exists("generator") == 0, "whose the keys are is for generators to say"
    redis.lpop("messages")
    _, text, _ = gtask("status")
    assert "           4  pushed by hand (gtask push)\n" in text
    assert "the sum holds: generated + retried + pushed by hand = waiting + in flight + processed\n" in text
    assert json.loads(gtask("status", "--json")[1])["pushed"] == 4


@ONE_SERVER
def test_status_says_nothing_of_pushing_where_nobody_did(gtask: Gtask) -> None:
    assert "by hand" not in gtask("status")[1]


@ONE_SERVER
def test_a_message_may_look_like_an_option(redis, gtask: Gtask) -> None:
    assert gtask("push", "--namespace", "n", "--", "--redis", "-", "")[:2] == (0, "3 pushed, 3 wait\n")
    assert redis.lrange("n:messages", 0, -1) == [b"--redis", b"-", b""]


@ONE_SERVER
def test_stdin_brings_one_message_a_line(redis, gtask: Gtask) -> None:
    assert gtask("push", "-", stdin=b"one\n\n two \r\n\xff\nlast") == (0, "4 pushed, 4 wait\n", "")
    assert redis.lrange("messages", 0, -1) == [b"one", b" two \r", b"\xff", b"last"]
    assert gtask("push", "-") == (0, "0 pushed, 4 wait\n", "")


@OTHER_SERVER
def test_a_hundred_thousand_are_one_step(redis, gtask: Gtask) -> None:
    numbers = [b"%d" % number for number in range(100_000)]
    assert gtask("push", "-", stdin=b"\n".join(numbers))[0] == 0
    assert redis.lrange("messages", 0, -1) == numbers
    assert redis.info("commandstats")["cmdstat_eval"]["calls"] == 1
    assert gtask("push", "-", stdin=b"\n".join([*numbers, b"more"])) == (
        64, "", "gtask: push: 100,001 messages are too many for one step, which takes 100,000\n"
    )  # fmt: skip
    assert redis.llen("messages") == 100_000


@ONE_SERVER
def test_they_are_handled_and_the_sum_holds(server, redis, start, tmp_path, gtask: Gtask) -> None:
    (tmp_path / "jobs.py").write_text("def generate(last): return ()\ndef handle(message): 1 / int(message)\n")
    options = ("--generate", "jobs:generate", "--handle", "jobs:handle", "--delivery", "at-least-once")
    tasks = [start("--redis", server.url, *options) for _ in range(2)]
    assert all(task.task_id for task in tasks)
    gtask("push", "1", "0", "2")
    wait_until(lambda: redis.hget("totals", "processed") == b"3")
    seen = json.loads(gtask("status", "--json")[1])
    assert (seen["pushed"], seen["processed"], seen["failed"], seen["generated"]) == (3, 3, 1, 0)


@ONE_SERVER
def test_where_another_program_keeps_something_else_nothing_is_pushed(redis, gtask: Gtask) -> None:
    redis.set("messages", "text")
    code, _, error = gtask("push", "a")
    assert (code, error.count("\n")) == (70, 1)
    assert "messages" in error
    assert not redis.exists("totals")
    redis.delete("messages")
    redis.set("totals", "text")
    assert gtask("push", "a")[0] == 70
    assert not redis.exists("messages")


@ONE_NEW_SERVER
def test_a_full_redis_takes_all_or_none(new_server, gtask: Gtask) -> None:
    full = new_server()
    with full.client() as client:
        client.rpush("ballast", *["x" * 1000] * 1500)
        client.config_set("maxmemory", 1_000_000)
        code, out, error = gtask("push", "a", "b", url=full.url)
        assert (code, out) == (69, "")
        assert error.startswith(f"gtask: Redis at {full.url} is full (maxmemory), and nothing was changed; ")
        assert error.count("\n") == 1
        assert client.keys() == [b"ballast"]


@ONE_SERVER
def test_a_lost_answer_is_said_and_nothing_is_pushed_twice(server, redis, gtask: Gtask) -> None:
    with CommandProxy(server.socket) as proxy:
        proxy.lay(Ambush("put", "reset_amid_reply"))
        code, out, error = gtask("push", "a", "b", url=proxy.url)
    assert (code, out) == (69, "")
    assert error.startswith(f"gtask: no answer from Redis at {proxy.url}: ")
    assert error.endswith("; all of the messages were pushed, or none (gtask status shows how many ever were)\n")
    assert redis.lrange("messages", 0, -1) == [b"a", b"b"]


@ONE_SERVER
@pytest.mark.parametrize("arguments", [("push",), ("push", "-x")])
def test_a_push_without_a_message_is_bad_usage(gtask: Gtask, arguments: tuple[str, ...]) -> None:
    assert gtask(*arguments)[0] == 64
