"""`gtask rewind` and `gtask check`, and how `status` tells where generation stands."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gtask.at_least_once import AtLeastOnce
from gtask.outcome import Later, Outcome
from tests.hands import Hands
from tests.servers import ONE_SERVER, OTHER_SERVER
from tests.support.processes import environment
from tests.tasks import wait_until

JOBS = """
def few(last):
    return map(str, range(int(last or 0) + 1, 11))

def skips(last):
    return map(str, range(int(last) + 2 if last else 1, 11))

def raises(last):
    yield "1"
    raise KeyError("no such row")

async def few_async(last):
    for message in few(last):
        await asyncio.sleep(0)
        yield message
    await asyncio.sleep(600)

async def skips_async(last):
    for message in skips(last):
        yield message

async def raises_async(last):
    yield "1"
    await asyncio.sleep(0)
    raise KeyError("no such row")

import asyncio
"""
OPTIONS = ("--generate", "jobs:few", "--handle", "builtins:len", "--heartbeat", "5", "--interval", "0", "--wait", "1")


@pytest.fixture
def command(server, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    (tmp_path / "jobs.py").write_text(JOBS)

    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "gtask", *arguments, "--redis", server.url],
            env=environment(), capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path,
        )  # fmt: skip

    return command


@pytest.fixture
def generated(server, redis, start, command) -> Callable[[], None]:
    """All of `few` is generated, and the task has ended."""

    def generated() -> None:
        task = start("--redis", server.url, *OPTIONS)
        wait_until(lambda: redis.hget("generator", "ended"), "its end")
        task.send(signal.SIGTERM)
        assert task.wait() == 0

    return generated


@ONE_SERVER
def test_that_generate_has_ended_is_said_once_and_by_status(server, redis, start, command) -> None:
    task = start("--redis", server.url, *OPTIONS)
    wait_until(lambda: redis.hget("generator", "ended"))
    wait_until(lambda: "has ended, after 10" in task.stderr)
    assert "ended      generate has nothing more to generate, after 10\n" in command("status").stdout
    shown = json.loads(command("status", "--json").stdout)
    assert (shown["ended"], shown["last"]) == (True, "10")
    task.send(signal.SIGTERM)
    assert task.wait() == 0
    assert task.stderr.count("has ended, after") == 1


@ONE_SERVER
def test_a_rewind_is_refused_while_somebody_generates(redis, command) -> None:
    redis.set("generatorIsActive", 1, ex=600)
    redis.hset("generator", "last", "5")
    done = command("rewind", "--to", "3")
    assert (done.returncode, done.stdout) == (75, "")
    assert done.stderr.startswith("gtask: somebody generates (generatorIsActive lives ")
    assert done.stderr.endswith(" s more); end all tasks first\n")
    assert redis.hget("generator", "last") == b"5"


@ONE_SERVER
def test_the_next_generator_goes_on_where_a_rewind_says(redis, command, generated) -> None:
    generated()
    done = command("rewind", "--to", "7")
    assert (done.returncode, done.stdout) == (0, "the next generator goes on after 7; it stood after 10\n")
    redis.delete("messages")
    generated()
    assert redis.lrange("messages", 0, -1) == [b"8", b"9", b"10"]


@OTHER_SERVER
def test_a_position_that_is_forgotten_is_the_very_first_start(redis, command, generated) -> None:
    generated()
    assert command("rewind").stdout == "the next generator begins anew; it stood after 10\n"
    generated()
    assert redis.lrange("messages", 0, -1) == [b"%d" % number for number in (*range(1, 11), *range(1, 11))]


def test_a_purge_deletes_what_waits_and_what_failed_and_the_sum_holds(redis, command, generated) -> None:
    generated()
    redis.rpush("errors", "one", "two")
    done = command("rewind", "--purge")
    assert done.stdout == (
        "the next generator begins anew; it stood after 10; deleted: 10 waiting and 2 failed messages\n"
    )
    assert not redis.exists("messages", "errors")
    status = command("status").stdout
    assert "the sum holds: generated + retried = waiting + in flight + processed + purged" in status
    assert "          10  purged (gtask rewind --purge)\n" in status
    generated()
    assert redis.llen("messages") == 10


@OTHER_SERVER
def test_a_purge_deletes_what_was_to_come_again_too(server, redis, command) -> None:
    redis.rpush("messages", *"abc")
    task = Hands(server, AtLeastOnce)
    task.take(2)
    task.finish("a", outcome=Outcome("no", later=Later(1000)))
    task.leave()
    done = command("rewind", "--purge")
    assert done.stdout.endswith("deleted: 2 waiting, 1 that were to come again and 0 failed messages\n")
    assert redis.keys("messages*") == []
    shown = json.loads(command("status", "--json").stdout)
    assert (shown["purged"], shown["later"], shown["postponed"]) == (3, 0, 1)
    task.store.close()


@OTHER_SERVER
def test_a_purge_forgets_the_deaths_too(server, redis, command) -> None:
    redis.rpush("messages", *"ab")
    task = Hands(server, AtLeastOnce)
    task.take(2)
    task.die(redis)
    assert redis.hlen("messages:suspects") == 2
    assert command("rewind", "--purge").returncode == 0
    assert redis.keys("messages*") == []
    task.store.close()


@OTHER_SERVER
def test_a_purge_of_the_demo_makes_room_for_ones_own_functions(redis, command, generated) -> None:
    redis.hset("generator", mapping={"generate": "gtask.demo:generate", "last": "64"})
    redis.rpush("messages", "64")
    assert command("rewind", "--purge").returncode == 0
    generated()
    assert redis.lindex("messages", 0) == b"1"


@OTHER_SERVER
def test_to_and_purge_exclude_each_other(command) -> None:
    done = command("rewind", "--to", "7", "--purge")
    assert (done.returncode, done.stdout) == (64, "")


@ONE_SERVER
@pytest.mark.parametrize(
    ("function", "code", "text"),
    [
        ("few", 0, "jobs:few: no fault found"),
        ("skips", 1, "jobs:skips: it skips: started after '1', message 1 is '3', and not '2'"),
        ("raises", 70, "jobs:raises raised KeyError: 'no such row' (jobs.py:10 raises)"),
        ("missing", 64, "has no function missing"),
        ("few_async", 0, "jobs:few_async: no fault found"),
        ("skips_async", 1, "jobs:skips_async: it skips: started after '1', message 1 is '3', and not '2'"),
        ("raises_async", 70, "jobs:raises_async raised KeyError: 'no such row' (jobs.py:25 raises_async)"),
    ],
)
def test_check_names_the_fault_and_its_exit_code_says_it(command, function: str, code: int, text: str) -> None:
    done = command("check", "--generate", f"jobs:{function}")
    assert done.returncode == code, done
    assert text in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
