"""What the user's generate, its source and the way to Redis can do to a term; none of it may end the tasks, and none of
it may go unsaid."""

import json
import re
import signal
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from tests.proxy import Proxy
from tests.servers import ONE_NEW_SERVER, ONE_SERVER
from tests.tasks import CommandLines, TaskProcess, wait_until

AT_ONCE = ("--heartbeat", "0.5", "--handle", "builtins:len", "--wait", "1")
QUICKLY = (*AT_ONCE, "--interval", "0")
# For tests that would take a term for a failed one if it ended because of a late heartbeat: the flag lives for 4 s.
STEADILY = ("--heartbeat", "2", *QUICKLY[2:])


def generated(redis) -> int:
    return int(redis.hget("generator", "generated") or 0)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], None]:
    """Writes the user's module `jobs`."""

    def write(text: str) -> None:
        (tmp_path / "jobs.py").write_text(text)

    return write


@pytest.fixture
def run(server, start) -> Callable[..., TaskProcess]:
    """Starts a task with `jobs:generate`, and nothing that takes long."""

    def run(*options: str, pace: tuple[str, ...] = QUICKLY) -> TaskProcess:
        return start("--redis", server.url, "--generate", "jobs:generate", *pace, *options)

    return run


# -- a source that is away

SOURCE = """
import gevent, socket

def generate(last):
    number = int(last or 0)
    with open("source"):
        pass
    while True:
        number += 1
        yield str(number)
        gevent.sleep(0.01)
        if number % 20 == 0:
            with open("source"):
                pass
"""


@ONE_SERVER
def test_a_fleet_outlives_a_source_that_is_away_for_3_s(server, redis, run, write, tmp_path) -> None:
    write(SOURCE)
    source = tmp_path / "source"
    source.touch()
    with server.monitor() as monitor:
        tasks = [run(pace=STEADILY) for _ in range(3)]
        wait_until(lambda: generated(redis) > 20, "it generates")
        source.unlink()
        wait_until(lambda: redis.hget("generator", "error"), "the failure")
        count = generated(redis)
        wait_until(lambda: int(redis.hget("generator", "failures") or 0) >= 3, "at 0, 1 and 3 s, less the jitter")
        assert generated(redis) == count
        source.touch()
        wait_until(lambda: generated(redis) > count + 20, "it generates again")
        assert redis.hmget("generator", "error", "retry_at", "failures", "failed") == [None] * 4
        numbers = [int(m) for e in monitor.of("RPUSH", "messages") for m in e.words[2:]]
        begun = [e.at for e in monitor.of("HINCRBY", "generator", "term")]
        failed = [e.at for e in monitor.of("HINCRBY", "generator", "failures")]
    assert numbers == list(range(1, len(numbers) + 1))
    pauses = [next(at for at in begun if at > failure) - failure for failure in failed]
    shares = [pause / min(60, 2**number) for number, pause in enumerate(pauses)]
    assert min(shares) > 0.74, "1, 2, 4, … s, less the jitter"
    assert min(shares) < 1.3, "somebody tries again when the pause is over; what disturbs makes it later"
    assert all(task.process.poll() is None for task in tasks)
    lines = [line for task in tasks for line in task.stderr.splitlines()]
    said = [line for line in lines if "term" in line]
    assert len(said) == len(failed) and lines == said, "one line a failure, and nothing else"
    for line in said:
        assert re.search(
            r"WARNING term \d+ failed: jobs:generate raised FileNotFoundError: .*'source' "
            r"\(jobs\.py:(6|13) generate\); generating is tried again in \d\.\d s$",
            line,
        )
    for task in tasks:
        task.send(signal.SIGTERM)
    assert [task.wait() for task in tasks] == [0, 0, 0]


@ONE_SERVER
def test_the_task_that_failed_handles_on_and_leaves_the_next_term_to_another_one(redis, run, write, tmp_path) -> None:
    """Its own machine may be what is wrong. Alone it tries again."""
    write(
        "import os, time\n"
        "def generate(last):\n"
        "    with open('terms', 'a') as file: print(os.getpid(), time.monotonic(), file=file)\n"
        "    raise OSError('bad machine')\n"
        "    yield\n"
    )
    redis.set("generatorIsActive", 1, ex=600)
    pace = ("--heartbeat", "4", *QUICKLY[2:])  # who has failed waits so much longer: a machine may be late by as much
    second, first = run(pace=pace), run(pace=pace)
    wait_until(lambda: first.task_id and second.task_id)
    second.send(signal.SIGSTOP)  # to start it later would take longer than the pause, on a busy machine
    redis.delete("generatorIsActive")
    wait_until(lambda: redis.hget("generator", "failures") == b"2", "alone it tries again")
    second.send(signal.SIGCONT)
    wait_until(lambda: redis.hget("generator", "failures") == b"4", "two more terms")
    terms = [line.split() for line in (tmp_path / "terms").read_text().splitlines()]
    assert [int(pid) for pid, _ in terms[:4]] == [first.pid, first.pid, second.pid, first.pid]
    assert float(terms[1][1]) - float(terms[0][1]) >= 0.75 + 4, "the fleet's pause, and a heartbeat longer"
    redis.rpush("messages", *range(100))
    wait_until(lambda: first.total("processed") + second.total("processed") == 100, "both handle")


@ONE_SERVER
def test_the_traceback_is_there_at_debug(redis, run, write) -> None:
    write("def generate(last):\n    raise OSError('why')\n    yield\n")
    task = run("--log-level", "DEBUG")
    wait_until(lambda: "Traceback" in task.stderr)
    assert 'jobs.py", line 2, in generate' in wait_until(lambda: "why" in task.stderr and task.stderr)


@ONE_SERVER
def test_status_shows_the_error_its_place_and_when_it_is_tried_again(server, redis, run, write, tmp_path) -> None:
    write("def generate(last):\n    raise OSError('the\\x1b[2J\\nsource')\n    yield\n")
    redis.hset("generator", "failures", 6)  # so the next pause is long enough to look at
    with CommandLines() as gtask:
        gtask.run("status", "--redis", server.url)  # from here on one takes no time to start
        run()
        wait_until(lambda: redis.hget("generator", "failures") == b"7")
        as_json = gtask.run("status", "--redis", server.url, "--json").stdout
        to_read = gtask.run("status", "--redis", server.url).stdout
    failure = json.loads(as_json)["failure"]
    assert failure["failures"] == 7
    assert (
        failure["error"].startswith("jobs:generate raised OSError: the") and "(jobs.py:2 generate)" in failure["error"]
    )
    assert "\x1b" not in failure["error"] and "\n" not in failure["error"]
    assert 0 < failure["retryIn"] <= 60
    assert re.search(
        r"^failed +7 times in a row, tried again in \d+\.\d s: jobs:generate raised OSError.*$", to_read, re.M
    )


# -- how a generate is ended

SLOW_FINALLY = """
import pathlib, socket, time

def ask(text):
    with socket.socket(socket.AF_UNIX) as link:
        link.connect(SOCKET)
        link.sendall(text.encode() + b"\\r\\n")
        return link.recv(100)

def generate(last):
    try:
        yield "one"
        while True:
            time.sleep(60)
    finally:
        pathlib.Path("begun").touch()
        ask("BLPOP nothing 7")
        pathlib.Path("owner").write_bytes(ask("GET generatorId"))
"""


@ONE_SERVER
def test_a_finally_that_takes_its_time_is_over_before_the_flag_is_given_up(server, redis, run, write, tmp_path) -> None:
    write(SLOW_FINALLY.replace("SOCKET", repr(str(server.socket))))
    pace = ("--heartbeat", "3", *QUICKLY[2:])  # without heartbeats the flag would live for less than `finally` takes
    first = run("--grace", "40", pace=pace)
    wait_until(first.is_generator)
    second = run(pace=pace)
    wait_until(lambda: generated(redis) == 1 and second.task_id)
    first.send(signal.SIGTERM)
    assert first.wait() == 0
    assert (tmp_path / "owner").read_bytes().splitlines()[1] == str(first.task_id).encode(), "nobody else generated yet"
    wait_until(second.is_generator)
    assert first.stderr == ""


@ONE_SERVER
def test_who_is_still_closing_its_old_generate_does_not_stand_again(server, redis, run, write, tmp_path) -> None:
    write(
        "import gevent, os\n"
        "def say(what):\n"
        "    with open('said', 'a') as file: print(what, file=file)\n"
        "def generate(last):\n"
        "    say('begun')\n"
        "    try:\n"
        "        while True:\n"
        "            yield 'more'\n"
        "            gevent.sleep(0.02)\n"
        "    finally:\n"
        "        while not os.path.exists('go'): gevent.sleep(0.02)\n"
        "        say('ended')\n"
    )
    task = run("--grace", "60")  # so long its generate may take to end
    wait_until(lambda: generated(redis) > 2)
    redis.set("generatorIsActive", 1, px=100)
    wait_until(lambda: not task.is_generator() or task.total("processed"), "it has lost the flag")
    with server.monitor() as monitor:
        wait_until(lambda: len(monitor.of("EVALSHA")) > 8, "heartbeats")
        assert not monitor.of("SET", "generatorIsActive"), "it stands, although its generate still lives"
    (tmp_path / "go").touch()
    wait_until(lambda: (tmp_path / "said").read_text().split()[:3] == ["begun", "ended", "begun"], "it stands again")


STUBBORN = """
import gevent

def say(what):
    with open("said", "a") as file: print(what, file=file)

def yields_on(last):
    number = int(last or 0)
    while True:
        try:
            number += 1
            yield str(number)
            say(number)
            gevent.sleep(0.01)
        except BaseException:
            say("caught")

def never_ends(last):
    yield "one"
    while True:
        try:
            gevent.sleep(60)
        except BaseException:
            say("caught")
"""


@ONE_SERVER
def test_a_generate_that_catches_everything_goes_on_for_no_second_message(
    server, redis, start, write, tmp_path
) -> None:
    write(STUBBORN)
    task = start("--redis", server.url, "--generate", "jobs:yields_on", *STEADILY)
    wait_until(lambda: generated(redis) > 5)
    redis.set("generatorIsActive", 1, ex=600)
    line = wait_until(lambda: "while it was ended" in task.stderr and task.stderr)
    assert re.search(
        r"WARNING while it was ended, jobs:yields_on raised RuntimeError: generator ignored GeneratorExit "
        r"\(jobs\.py:12 yields_on\)$", line, re.M,
    )  # fmt: skip
    said = (tmp_path / "said").read_text()
    redis.rpush("messages", "handled")
    wait_until(lambda: task.total("processed"), "it handles")
    assert (tmp_path / "said").read_text() == said, "it runs no more"
    redis.delete("generatorIsActive")
    before = generated(redis)
    wait_until(lambda: generated(redis) > before + 5, "it generates again")
    task.send(signal.SIGTERM)
    assert task.wait() == 0
    assert len(task.stderr.splitlines()) == 2, "one line for each term that it would not end"


@ONE_SERVER
@pytest.mark.parametrize("by", ["the loss of the flag", "TERM"])
def test_a_generate_that_never_ends_ends_its_task_with_75_and_a_line(server, redis, start, write, by: str) -> None:
    write(STUBBORN)
    task = start("--redis", server.url, "--generate", "jobs:never_ends", *QUICKLY, "--grace", "1")
    wait_until(lambda: generated(redis) == 1)
    wait_until(lambda: not redis.exists("messages") or task.total("generated"))
    if by == "TERM":
        task.send(signal.SIGTERM)
    else:
        redis.set("generatorIsActive", 1, ex=600)
    assert task.wait() == 75
    [line] = task.stderr.splitlines()
    said = r"ERROR jobs:never_ends was told to end and is still there after 1 s \(jobs\.py:\d+ never_ends\); so this"
    assert re.search(said, line)
    assert not redis.exists("generatorId", "tasks"), "the end was graceful for all others"


# -- what stands after a yield

MARKS = """
import pathlib, time

def slow(last):
    for number in range(int(last or 0) + 1, 100_000):
        yield str(number)
        time.sleep(0.002)
        with open("marks", "a") as file: print(number, file=file)

def quick(last):
    for number in range(int(last or 0) + 1, 1_000_000):
        yield str(number)
        MARKS.append(number)

def later():
    while True:
        time.sleep(0.05)
        pathlib.Path("count").write_text(str(len(MARKS)))

MARKS = []
import gevent
gevent.spawn(later)
"""


@ONE_NEW_SERVER
def test_what_follows_a_yield_runs_only_when_its_message_was_accepted(new_server, start, write, tmp_path) -> None:
    server = new_server()
    write(MARKS)
    task = start("--redis", server.url, "--generate", "jobs:slow", *QUICKLY)
    marks = tmp_path / "marks"
    wait_until(lambda: marks.exists() and len(marks.read_text().split()) > 50)
    server.pause()
    time.sleep(0.5)  # time for many more rows
    task.send(signal.SIGKILL)
    task.wait()
    server.go_on()
    with server.client() as client:
        last = int(client.hget("generator", "last"))
    assert int(marks.read_text().split()[-1]) <= last


@ONE_NEW_SERVER
def test_a_quick_generate_is_at_most_a_thousand_messages_ahead(new_server, start, write, tmp_path) -> None:
    server = new_server()
    write(MARKS)
    task = start("--redis", server.url, "--generate", "jobs:quick", *QUICKLY, "--max-backlog", "0")
    count = tmp_path / "count"
    wait_until(lambda: count.exists() and int(count.read_text() or 0) > 5_000)
    server.pause()
    time.sleep(0.5)  # time for many more rows
    marked = wait_until(lambda: int(count.read_text() or 0))  # it may be written just now
    task.send(signal.SIGKILL)
    task.wait()
    server.go_on()
    with server.client() as client:
        assert marked - int(client.hget("generator", "last")) <= 1000


# -- an interval over several terms


@pytest.mark.serial
@ONE_SERVER
def test_an_interval_holds_from_message_to_message_whoever_generates(server, redis, start, write) -> None:
    write("from itertools import count\ndef generate(last):\n    return map(str, count(int(last or 0) + 1))\n")
    with server.monitor() as monitor:
        options = ("--redis", server.url, "--generate", "jobs:generate", *AT_ONCE, "--interval", "1500")
        tasks = [start(*options) for _ in range(3)]
        wait_until(lambda: generated(redis) == 1)
        for number in (signal.SIGTERM, signal.SIGKILL):
            generator = wait_until(lambda: next((task for task in tasks if task.is_generator()), None))
            generator.send(number)
            generator.wait()
            tasks.remove(generator)
        wait_until(lambda: len(monitor.of("RPUSH", "messages")) >= 3)
        times = [e.at for e in monitor.of("RPUSH", "messages")]
    assert all(b - a > 1.48 for a, b in pairwise(times)), times


@pytest.mark.serial
@ONE_SERVER
def test_what_a_new_generator_asks_first_is_part_of_the_interval(server, redis, start, write) -> None:
    """Each of its questions takes 0.8 s, and they are over before the next message is due."""
    write("from itertools import count\ndef generate(last):\n    return map(str, count(int(last or 0) + 1))\n")
    options = ("--generate", "jobs:generate", "--handle", "builtins:len", "--heartbeat", "2", "--interval", "3000")

    def once() -> float:
        with server.monitor() as monitor, Proxy(server.socket) as proxy:
            first = start("--redis", server.url, *options)
            wait_until(lambda: monitor.of("RPUSH", "messages"))
            heir = start("--redis", proxy.url, *options)
            wait_until(lambda: heir.task_id)
            proxy.delay = 0.4
            before = len(monitor.of("RPUSH", "messages"))
            before = wait_until(lambda: (now := len(monitor.of("RPUSH", "messages"))) > before and now)
            first.send(signal.SIGTERM)
            wait_until(lambda: len(monitor.of("RPUSH", "messages")) > before)
            times = [e.at for e in monitor.of("RPUSH", "messages")]
            proxy.delay = 0
            heir.send(signal.SIGTERM)
            assert [first.wait(), heir.wait()] == [0, 0]
        gap = times[before] - times[before - 1]
        assert gap > 2.98
        return gap

    # The answer that elects and the push are on their way for 0.4 s each.
    assert any(once() < 4.4 for _ in range(3)), "once is enough: what disturbs makes it larger"


# -- when nothing can be pushed


@ONE_NEW_SERVER
def test_pushes_that_are_refused_while_heartbeats_succeed_end_the_term(new_server, start, write, tmp_path) -> None:
    write(
        "def generate(last):\n"
        "    with open('terms', 'a') as file: print('term', file=file)\n"
        "    number = int(last or 0)\n"
        "    while True:\n"
        "        number += 1\n"
        "        yield str(number)\n"
    )
    server = new_server()
    options = ("--redis", server.url, "--generate", "jobs:generate", *STEADILY, "--max-backlog", "50")
    with server.client() as client, server.monitor() as monitor:
        tasks = [start(*options) for _ in range(2)]
        wait_until(lambda: generated(client) > 100)
        client.execute_command("ACL SETUSER", "default", "-rpush")
        wait_until(lambda: int(client.hget("generator", "failures") or 0) >= 2, "two terms in a row")
        assert client.hget("generator", "error").startswith(b"cannot push: ")
        terms = (tmp_path / "terms").read_text().count("term")
        assert 2 <= terms <= int(client.hget("generator", "failures")) + 1, "each of them has failed"
        client.execute_command("ACL SETUSER", "default", "+rpush")
        count = generated(client)
        wait_until(lambda: generated(client) > count + 100, "it goes on")
        numbers = [int(m) for e in monitor.of("RPUSH", "messages") for m in e.words[2:]]
    assert numbers == list(range(1, len(numbers) + 1))
    assert all(task.process.poll() is None for task in tasks)


@pytest.mark.serial
@ONE_SERVER
def test_terms_that_lose_the_flag_before_their_first_message_wait_too(server, redis, run, write, tmp_path) -> None:
    """As where Redis evicts the key that says whose the flag is."""
    write(
        "import gevent\n"
        "def generate(last):\n"
        "    with open('terms', 'a') as file: print('term', file=file)\n"
        "    gevent.sleep(0.05)\n"
        "    yield 'never'\n"
    )
    tasks = [run() for _ in range(2)]
    terms, errors, end = tmp_path / "terms", set(), None
    while end is None or time.monotonic() < end:
        redis.delete("generatorId", "generatorIsActive")
        errors.add(redis.hget("generator", "error"))
        if end is None and terms.exists():
            end = time.monotonic() + 3
        time.sleep(0.005)
    assert not redis.exists("messages")
    assert 2 <= terms.read_text().count("term") <= 4
    assert errors - {None} == {b"the flag was lost before the first message was pushed"}
    wait_until(lambda: generated(redis), "and generates when that is over")
    assert all(task.process.poll() is None for task in tasks)


# -- messages that are too large


@ONE_NEW_SERVER
@pytest.mark.parametrize("rights", ["+config", "-config"])
def test_a_message_above_the_server_s_limit_ends_the_term_in_one_line(new_server, start, write, rights: str) -> None:
    """Where the server does not say how much it takes, it refuses, or just hangs up."""
    # The good one comes at the very first start only: a second term may begin before all is looked at.
    write("def generate(last):\n    if not last: yield 'good'\n    yield 'x' * 3_000_000\n")
    server = new_server("proto-max-bulk-len", "1mb")
    with server.client() as client:
        client.execute_command("ACL SETUSER", "default", rights)
        task = start("--redis", server.tcp_url, "--generate", "jobs:generate", *QUICKLY)
        error = wait_until(lambda: client.hget("generator", "error")).decode()
        if rights == "+config":
            assert error == (
                "jobs:generate yielded a message that Redis does not take: it has 3,000,000 bytes, "
                "and this Redis takes 1,048,576 (proto-max-bulk-len) (jobs.py:3 generate)"
            )
        else:
            assert re.match("jobs:generate yielded what Redis does not take: |cannot push: ", error), error
        assert generated(client) == 1
        client.rpush("messages", "handled")
        wait_until(lambda: task.total("processed") == 2, "it handles on")
    assert task.process.poll() is None


@ONE_SERVER
def test_a_timeout_that_generate_has_left_behind_ends_its_term(server, redis, start, write) -> None:
    """It is thrown into the greenlet that draws, which by then waits for the interval."""
    write("import gevent\ndef generate(last):\n    gevent.Timeout(0.2).start()\n    yield 'one'\n    yield 'two'\n")
    task = start("--redis", server.url, "--generate", "jobs:generate", *AT_ONCE, "--interval", "60000")
    error = wait_until(lambda: redis.hget("generator", "error"))
    assert error == b"jobs:generate has left a gevent.timeout.Timeout: 0.2 seconds behind"
    wait_until(lambda: task.total("processed") == 1, "it handles")
    assert "Traceback" not in task.stderr
