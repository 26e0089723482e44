"""`gtask getErrors`: every failed message is printed or still in Redis, whatever happens on the way."""

import asyncio
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from fcntl import ioctl
from pathlib import Path
from typing import Any

import pytest

from gtask.failed import BATCH
from gtask.text import failure_record
from tests.proxy import Link, Proxy
from tests.servers import ONE_NEW_SERVER, ONE_SERVER, OTHER_SERVER, Server
from tests.tasks import PATIENCE, wait_until

NAMES = [
    b"another program's message",
    b"",
    b"\xff\xfe\x00 no UTF-8",
    b"two\r\nlines",
    "ein Grüßchen 🎉".encode(),
    b'{"a": 1}',
    b'["message"]',
    b'{"message": 7}',
    b"7",
    b"null",
    b"[" * 100_000,
    b'{"message": "not closed',
    b"x" * 2_000_000,
]


def text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def data(message: str) -> bytes:
    return message.encode("utf-8", "surrogateescape")


class Reader:
    """A `gtask getErrors` process."""

    def __init__(self, server: Server | Proxy, *arguments: str, stdout: int = subprocess.PIPE, **options) -> None:
        self.process: Any = subprocess.Popen(
            [sys.executable, "-m", "gtask", "getErrors", "--redis", server.url, *arguments],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "TZ": "UTC"},
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
            **options,
        )

    def finish(self) -> tuple[int, bytes, str]:
        """Exit code, output, stderr."""
        out, err = self.process.communicate(timeout=2 * PATIENCE)
        return self.process.returncode, out or b"", err.decode()

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        self.process.communicate()


@pytest.fixture
def read(server: Server) -> Iterator[Callable[..., Reader]]:
    """Starts readers; none survives the test."""
    started: list[Reader] = []

    def start(*arguments: str, **options) -> Reader:
        started.append(Reader(server, *arguments, **options))
        return started[-1]

    yield start
    for reader in started:
        reader.kill()


def fill(redis, count: int, prefix: str = "m") -> list[str]:
    """Puts `count` failures in; their messages."""
    messages = [f"{prefix}{i}" for i in range(count)]
    for start in range(0, count, 1000):
        redis.rpush("errors", *(failure_record(m, "boom", 7) for m in messages[start : start + 1000]))
    return messages


def printed(out: bytes) -> list[str]:
    """The messages of the whole lines."""
    return [json.loads(line)["message"] for line in out.split(b"\n")[:-1]]


def left(redis) -> list[str]:
    return [json.loads(entry)["message"] for entry in redis.lrange("errors", 0, -1)]


def test_all_failures_are_printed_as_json_lines_in_their_order_and_removed(redis, read) -> None:
    fill(redis, 1234)
    records = [json.loads(entry) for entry in redis.lrange("errors", 0, -1)]
    code, out, err = read().finish()
    assert (code, err) == (0, "")
    assert [json.loads(line) for line in out.splitlines()] == records
    assert set(records[0]) == {"message", "error", "taskId", "at"}
    assert redis.keys("errors*") == [], "neither entries nor the lock"


@OTHER_SERVER
def test_without_failures_nothing_is_printed(read) -> None:
    assert read().finish() == (0, b"", "")


@OTHER_SERVER
def test_any_bytes_of_other_programs_come_out_as_one_record_a_line(redis, read) -> None:
    redis.rpush("errors", *NAMES)
    code, out, err = read().finish()
    assert (code, err) == (0, "")
    lines = out.split(b"\n")
    assert len(lines) == len(NAMES) + 1 and lines[-1] == b""
    for line, name in zip(lines, NAMES, strict=False):
        record = json.loads(line)
        assert set(record) == {"message"} and data(record["message"]) == name
    assert redis.llen("errors") == 0


@ONE_SERVER
def test_any_bytes_inside_our_records_come_out_unharmed(redis, read) -> None:
    redis.rpush("errors", *(failure_record(text(name), "reason\r\n\udcff", 1) for name in NAMES))
    code, out, _ = read().finish()
    assert code == 0
    assert [data(message) for message in printed(out)] == NAMES


@OTHER_SERVER
def test_keep_only_looks(redis, read) -> None:
    messages = fill(redis, 3 * BATCH + 7)
    before = redis.lrange("errors", 0, -1)
    redis.set("errors:reader", "another reader at work", ex=600)
    code, out, err = read("--keep").finish()
    assert (code, err) == (0, "")
    assert printed(out) == messages
    assert redis.lrange("errors", 0, -1) == before


# -- on a terminal


def on_terminal(read: Callable[..., Reader], columns: int) -> tuple[int, list[str], str]:
    """Exit code, the lines on the screen of a terminal that is `columns` wide, stderr."""
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    screen = bytearray()

    def look() -> None:
        try:
            while chunk := os.read(ours, 65536):
                screen.extend(chunk)
        except OSError:  # the terminal's other side is closed
            pass

    watcher = threading.Thread(target=look)
    watcher.start()
    reader = read(stdout=theirs)
    os.close(theirs)
    code, _, err = reader.finish()
    watcher.join(PATIENCE)
    os.close(ours)
    return code, screen.decode().split("\r\n")[:-1], err


@ONE_SERVER
def test_a_person_at_a_terminal_sees_columns_and_no_control_characters(redis, read) -> None:
    redis.rpush("errors", json.dumps({"message": "order \x1b[31m17", "error": "ValueError: bad\nworse", "taskId": 42,
                                      "at": "2026-11-24T10:20:30.500+00:00"}))  # fmt: skip
    redis.rpush("errors", b"another \xff program's", failure_record("y" * 500, "z" * 500, 7))
    redis.rpush("errors", failure_record("m", "ValueError: bad", 7, attempts=3))
    code, lines, err = on_terminal(read, 100)
    assert (code, err) == (0, "")
    header, first, second, third, fourth = lines
    assert header.split() == ["at", "task", "message", "error"]
    for column, value in (("at", "2026-11-24 10:20:30"), ("task", "42"), ("message", r"order \x1b[31m17"),
                          ("error", r"ValueError: bad\nworse")):  # fmt: skip
        assert first[header.index(column) :].startswith(value)
    assert second[header.index("message") :] == r"another \udcff program's"
    assert len(third) == 100
    assert fourth[header.index("error") :] == "(3 attempts) ValueError: bad"
    assert redis.llen("errors") == 0


@ONE_SERVER
def test_a_person_is_told_that_there_are_none(redis, read) -> None:
    assert on_terminal(read, 80) == (0, ["no failed messages"], "")


@OTHER_SERVER
def test_on_a_terminal_that_does_not_know_its_width_the_failures_are_seen_too(redis, read) -> None:
    fill(redis, 1)
    _, lines, _ = on_terminal(read, 0)
    assert "m0" in lines[1]


@ONE_SERVER
def test_a_time_that_is_none_is_left_out(redis, read) -> None:
    times = ["0001-01-01T00:00:00+05:00", "9999-12-31T23:59:59-05:00", "soon", 7, None]
    redis.rpush("errors", *(json.dumps({"message": "m", "error": "m", "taskId": 1, "at": at}) for at in times))
    code, lines, err = on_terminal(read, 80)
    assert (code, err) == (0, "")
    assert [line.split()[-1] for line in lines[1:]] == ["m"] * len(times)


@ONE_SERVER
def test_a_limit_takes_only_the_oldest(redis, read) -> None:
    fill(redis, 1200)
    for limit, left in (("1", 1199), ("700", 499)):
        assert read("--limit", limit).finish()[1].count(b"\n") == int(limit)
        assert redis.llen("errors") == left
    assert json.loads(redis.lindex("errors", 0))["message"] == "m701"
    assert read("--limit", "0").finish()[0] == 64


# -- nothing is lost


@OTHER_SERVER
def test_two_at_once_print_each_failure_once(redis, read) -> None:
    messages = fill(redis, 20_000)
    first, second = read(), read()
    outputs: list[bytes] = []
    other = threading.Thread(target=lambda: outputs.append(second.finish()[1]))
    other.start()
    outputs.append(first.finish()[1])
    other.join(2 * PATIENCE)
    assert sorted(printed(outputs[0]) + printed(outputs[1])) == sorted(messages)
    assert redis.llen("errors") == 0


@OTHER_SERVER
def test_killed_at_any_point_every_failure_was_printed_or_is_still_there(redis, read) -> None:
    messages = fill(redis, 12_000)
    seen: list[str] = []
    for kills in range(4):
        reader = read()
        out = b""
        while out.count(b"\n") < 100 + 777 * kills:
            out += os.read(reader.process.stdout.fileno(), 8192)
        reader.process.kill()
        out += reader.finish()[1]
        here = printed(out)
        assert here, "it was killed before it printed anything"
        seen += here
        remain = left(redis)
        assert set(seen) | set(remain) == set(messages)
        assert len(set(seen) & set(remain)) <= BATCH, "more than the batch in hand is printed again"
        redis.delete("errors:reader")  # instead of waiting until the dead one's lock has expired
    seen += printed(read().finish()[1])
    assert set(seen) == set(messages)
    assert len(seen) - len(messages) <= 4 * BATCH


@ONE_SERVER
def test_the_right_of_a_killed_reader_passes_to_the_next_one(redis, read) -> None:
    fill(redis, 20_000)
    dead = read()
    wait_until(lambda: redis.exists("errors:reader"), "the first reader at work")
    dead.process.kill()
    dead.process.wait()
    assert 0 < redis.pttl("errors:reader") <= 5000
    redis.pexpire("errors:reader", 600_000)  # however long the next one takes to start
    heir = read()
    assert b"another getErrors or retryErrors is at work" in heir.process.stderr.readline()
    began = time.monotonic()
    redis.pexpire("errors:reader", 5000)
    assert heir.finish()[0] == 0
    assert time.monotonic() - began < 40
    assert redis.llen("errors") == 0


@ONE_SERVER
def test_a_reader_that_goes_away_ends_it_quietly_with_141(redis, read) -> None:
    messages = fill(redis, 20_000)
    lines = [len(json.dumps(json.loads(entry))) + 1 for entry in redis.lrange("errors", 0, -1)]
    reader = read()
    assert reader.process.stdout.read(1)
    reader.process.stdout.close()
    reader.process.stdout = None
    code, _, err = reader.finish()
    assert (code, err) == (141, "")
    remain = left(redis)
    assert messages[-len(remain) :] == remain
    written = sum(lines[: len(messages) - len(remain)])
    assert written <= 2 * 65536, "more was removed than can have been written into the pipe"
    assert not redis.exists("errors:reader")


@OTHER_SERVER
def test_a_full_disk_ends_it_with_one_line_and_74_and_nothing_is_removed(redis, read) -> None:
    messages = fill(redis, 10)
    with open("/dev/full", "wb") as full:
        code, _, err = read(stdout=full.fileno()).finish()
    assert code == 74
    assert re.fullmatch(r"gtask: cannot write: No space left on device; [^\n]*still in Redis\n", err)
    assert left(redis) == messages


@ONE_SERVER
def test_a_closed_stdout_is_no_place_to_print_to(redis, read) -> None:
    messages = fill(redis, 10)
    code, _, err = read(stdout=None, preexec_fn=lambda: os.close(1)).finish()
    assert (code, err) == (74, "gtask: cannot write: stdout is closed\n")
    assert left(redis) == messages


@OTHER_SERVER
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_at_once_and_quietly(redis, read, number: int) -> None:
    messages = fill(redis, 20_000)
    reader = read()
    first = os.read(reader.process.stdout.fileno(), 100)
    wait_until(lambda: redis.llen("errors") < len(messages), "a batch is taken")
    reader.process.send_signal(number)  # while the pipe is full
    reader.process.wait(PATIENCE)  # without reading what it writes
    code, out, err = reader.finish()
    assert (code, err) == (128 + number, "")
    assert set(printed(first + out)) | set(left(redis)) == set(messages)


@ONE_SERVER
def test_a_reader_that_another_one_has_taken_over_from_removes_nothing_more(redis, read) -> None:
    messages = fill(redis, 20_000)
    reader = read()
    first = os.read(reader.process.stdout.fileno(), 100)
    wait_until(lambda: redis.llen("errors") < len(messages), "a batch is taken")
    redis.set("errors:reader", "another one")  # as after a standstill of more than its life
    remain = left(redis)
    code, out, err = reader.finish()
    assert code == 69
    assert re.fullmatch(r"gtask: another getErrors has taken over[^\n]*run it again\n", err), err
    assert len(remain) - redis.llen("errors") <= BATCH, "it had asked for one batch at most before"
    assert set(printed(first + out)) | set(left(redis)) == set(messages)
    assert redis.get("errors:reader") == b"another one"


@ONE_NEW_SERVER
def test_redis_lost_on_the_way_is_one_line_and_69(new_server) -> None:
    server = new_server()
    with server.client() as client:
        fill(client, 20_000)
        reader = Reader(server)
        out = os.read(reader.process.stdout.fileno(), 100)
        server.kill()
        rest_code, out, err = reader.finish()
    assert rest_code == 69
    assert re.fullmatch(r"gtask: lost Redis at [^\n]*nothing is lost\n", err), err
    assert out


class Ending(Proxy):
    """It is gone amid the first large answer."""

    async def _write(self, link: Link, writer: asyncio.StreamWriter, data: bytes, request: bool) -> None:
        large = not request and len(data) > 10_000
        await super()._write(link, writer, data[: -1 if large else None], request)
        if large:
            self._server.close()
            self._cut()


@ONE_SERVER
def test_redis_lost_amid_an_answer_is_one_line_too(server, redis) -> None:
    """The answer may have been too large, but where there is no Redis any more nobody asks for less."""
    fill(redis, 2000)
    with Ending(server.socket) as proxy:
        code, _, err = Reader(proxy).finish()
    assert code == 69
    assert re.fullmatch(r"gtask: lost Redis at [^\n]*nothing is lost\n", err), err


# -- memory


def peak(reader: Reader) -> int:
    """The most memory that it ever had, in megabytes; reads its output meanwhile."""
    eater = threading.Thread(target=lambda: [None for _ in iter(lambda: reader.process.stdout.read(1 << 20), b"")])
    eater.start()
    most = 0
    while reader.process.poll() is None:
        try:
            status = Path(f"/proc/{reader.process.pid}/status").read_text()
        except OSError:
            break
        if found := re.search(r"VmHWM:\s+(\d+) kB", status):
            most = int(found[1]) // 1024
        time.sleep(0.01)
    eater.join(PATIENCE)
    return most


@pytest.mark.parametrize("keep", [(), ("--keep",)])
@ONE_SERVER
def test_a_long_list_is_read_in_bounded_memory(redis, read, keep: tuple[str, ...]) -> None:
    entry = failure_record("m" * 2000, "boom", 7)
    for _ in range(40):
        redis.rpush("errors", *[entry] * 1000)
    assert redis.llen("errors") * len(entry) > 80_000_000
    reader = read(*keep)
    most = peak(reader)
    assert reader.process.wait() == 0
    assert 10 < most < 90, "megabytes; all of it at once takes several hundred"
    assert redis.llen("errors") == (40_000 if keep else 0)


@ONE_SERVER
def test_large_entries_behind_many_small_ones_are_read_in_bounded_memory(redis, read) -> None:
    fill(redis, 3000)
    for _ in range(50):
        redis.rpush("errors", failure_record("x" * 2_000_000, "boom", 7))
    reader = read()
    most = peak(reader)
    assert reader.process.wait() == 0
    assert 10 < most < 150, "megabytes; all of it at once takes 100 several times over"
    assert redis.llen("errors") == 0
