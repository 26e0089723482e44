"""Messages of any bytes, many at once, fast and slow: what comes in comes out, and nobody is held up."""

import json
import re
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from statistics import median

import pytest

from tests.servers import ONE_SERVER, OTHER_SERVER
from tests.tasks import wait_until

ODD = [
    b"",
    b"\xff\xfe no UTF-8 \x80",
    b"two\r\nlines\n",
    b"zero \x00 byte",
    "ein Grüßchen 🎉".encode(),
    b'{"message": "looks like a record"}',
    b"0123456789" * 200_000,
    b"\xc3(" * 1000,
]


def hold_flag(redis) -> None:
    """Another program generates, so that tasks handle."""
    redis.set("generatorIsActive", 1, ex=600)


def test_messages_of_any_bytes_go_through_queue_handler_and_errors_unharmed(server, redis, start, tmp_path) -> None:
    (tmp_path / "odd").mkdir()
    for number, message in enumerate(ODD):
        (tmp_path / "odd" / str(number)).write_bytes(message)
    (tmp_path / "job.py").write_text(
        "from pathlib import Path\n"
        "def generate(last):\n"
        "    for number in range(len(list(Path('odd').iterdir()))):\n"
        "        data = Path('odd', str(number)).read_bytes()\n"
        "        yield data if number % 2 else data.decode('utf-8', 'surrogateescape')\n"
        "handled = 0\n"
        "def handle(message):\n"
        "    global handled\n"
        "    Path(f'handled {handled}').write_bytes(message.encode('utf-8', 'surrogateescape'))\n"
        "    handled += 1\n"
        "    raise ValueError('all fail')\n"
    )
    options = ["--redis", server.url, "--generate", "job:generate", "--handle", "job:handle", "--interval", "0"]
    options += ["--heartbeat", "5"]  # nobody else takes the flag, and nobody has to
    generator = start(*options)
    wait_until(lambda: generator.total("generated") == len(ODD))
    assert redis.lrange("messages", 0, -1) == ODD
    assert redis.hget("generator", "last") == ODD[-1]
    handler = start(*options, "--concurrency", "1")
    wait_until(lambda: handler.total("processed", "errors") == len(ODD))
    assert [(tmp_path / f"handled {number}").read_bytes() for number in range(len(ODD))] == ODD
    for task in (generator, handler):
        task.send(signal.SIGTERM)
        assert task.wait() == 0
    out = subprocess.run(
        [sys.executable, "-m", "gtask", "getErrors", "--redis", server.url],
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
        check=True,
        capture_output=True,
    ).stdout
    records = [json.loads(line) for line in out.splitlines()]
    assert [record["message"].encode("utf-8", "surrogateescape") for record in records] == ODD
    assert all(re.fullmatch(r"ValueError: all fail \(job\.py:\d+ handle\)", record["error"]) for record in records)


@ONE_SERVER
def test_one_s_own_job_goes_as_fast_as_it_is_handled_unless_it_is_told_otherwise(
    redis, server, start, tmp_path
) -> None:
    """1,000 messages wait at most, for nobody handles; when some are taken, as many follow."""
    (tmp_path / "job.py").write_text(BUSY)
    with server.monitor() as monitor:
        start("--redis", server.url, "--generate", "job:endless", "--wait", "60", "--heartbeat", "3")
        wait_until(lambda: redis.llen("messages") == 1000)
        wait_until(lambda: monitor.of("SET", "generatorIsActive", "1", "EX", "6"), "a heartbeat later")
    assert redis.llen("messages") == 1000
    redis.ltrim("messages", 300, -1)
    wait_until(lambda: redis.lindex("messages", -1) == b"1300", "as many as were taken")
    assert redis.llen("messages") == 1000


@ONE_SERVER
@pytest.mark.parametrize("interval", ["0", "1"])
def test_the_generator_pauses_while_the_backlog_is_full(server, redis, start, interval: str) -> None:
    # A flag of six seconds outlives a pause. Without it the task would handle one of the messages.
    task = start("--redis", server.url, "--interval", interval, "--max-backlog", "10", "--heartbeat", "3")
    for taken in (0, 3, 10):
        redis.lpop("messages", taken)
        wait_until(lambda: redis.llen("messages") == 10, "it fills up")
        with server.monitor() as monitor:
            wait_until(lambda: len(monitor.of("SET", "generatorIsActive", "1", "EX")) >= 1, "a heartbeat")
            assert not monitor.of("RPUSH"), "it went on"
        assert redis.llen("messages") == 10
    assert task.process.poll() is None
    assert redis.lrange("messages", 0, -1) == [str(number).encode() for number in range(14, 24)]


@ONE_SERVER
def test_a_message_drawn_before_a_pause_for_the_backlog_is_not_lost(server, redis, start) -> None:
    options = ["--redis", server.url, "--interval", "0", "--max-backlog", "50", "--handle", "builtins:len"]
    with server.monitor() as monitor:
        for _ in range(2):
            start(*options)
        wait_until(lambda: sum(len(e.words) - 2 for e in monitor.of("RPUSH", "messages")) > 5000, "5000 messages")
        pushed = [int(m) for e in monitor.of("RPUSH", "messages") for m in e.words[2:]]
    assert pushed == list(range(1, len(pushed) + 1))


COUNTING = """
import gevent
from pathlib import Path
now = 0
def handle(message):
    global now
    now += 1
    with open("most", "a") as most:
        most.write(f"{now}\\n")
    while not Path("go").exists():
        gevent.sleep(0.01)
    now -= 1
"""


def started(folder: Path) -> list[int]:
    """How many were at work at each start of a message."""
    return [int(line) for line in (folder / "most").read_text().split()] if (folder / "most").exists() else []


@OTHER_SERVER
@pytest.mark.parametrize("concurrency", ["1", "7"])
def test_as_many_messages_as_were_allowed_are_handled_at_once(server, redis, start, tmp_path, concurrency) -> None:
    (tmp_path / "job.py").write_text(COUNTING)
    hold_flag(redis)
    redis.rpush("messages", *range(50))
    with server.monitor() as monitor:
        task = start("--redis", server.url, "--handle", "job:handle", "--concurrency", concurrency)
        wait_until(lambda: len(started(tmp_path)) == int(concurrency), "all are at work")
        beats = len(monitor.of("SET", "generatorIsActive", "1", "NX"))
        wait_until(lambda: len(monitor.of("SET", "generatorIsActive", "1", "NX")) >= beats + 2, "two heartbeats")
        assert not monitor.of("LPUSH"), "it had taken more, and gave them back"
    assert redis.llen("messages") == 50 - int(concurrency), "a task holds no more than it can start"
    (tmp_path / "go").touch()
    wait_until(lambda: task.total("processed") == 50)
    assert max(started(tmp_path)) == int(concurrency)


@ONE_SERVER
def test_a_task_that_has_become_slow_gives_back_what_it_cannot_start(server, redis, start, tmp_path) -> None:
    (tmp_path / "job.py").write_text(COUNTING.replace("    now += 1", "    if message == 'fast': return\n    now += 1"))
    hold_flag(redis)
    redis.rpush("messages", *["fast"] * 10_000, *range(1000))
    start("--redis", server.url, "--handle", "job:handle", "--concurrency", "3")
    wait_until(lambda: redis.llen("messages") == 997, "all but the three at work are in the queue again")
    assert redis.lrange("messages", 0, -1) == [str(number).encode() for number in range(3, 1000)]


@pytest.mark.parametrize(
    ("raised", "reason"),
    [
        ("SystemExit('enough')", "SystemExit: enough"),
        ("gevent.Timeout(3)", "gevent.timeout.Timeout: 3 seconds"),
        ("gevent.GreenletExit()", "greenlet.GreenletExit"),
        ("KeyboardInterrupt()", "KeyboardInterrupt"),
        ("ValueError('one\\ntwo')", "ValueError: one\ntwo"),
    ],
)
@ONE_SERVER
def test_whatever_a_handler_raises_is_the_failure_of_its_message(
    server, redis, start, tmp_path, raised: str, reason: str
) -> None:
    (tmp_path / "job.py").write_text(f"import gevent\ndef handle(message):\n    if message == 'bad': raise {raised}\n")
    hold_flag(redis)
    redis.rpush("messages", "bad", "bad", "good", "good", "good")
    task = start("--redis", server.url, "--handle", "job:handle", "--concurrency", "2")
    wait_until(lambda: task.total("processed") == 5, "it goes on after a failure")
    assert task.total("processed", "errors") == 2
    records = [json.loads(entry) for entry in redis.lrange("errors", 0, -1)]
    assert [(r["message"], r["error"], r["taskId"]) for r in records] == [
        ("bad", f"{reason} (job.py:3 handle)", task.task_id)
    ] * 2
    assert "Traceback" not in task.stderr


# As long as this function of C sleeps, nothing else of Python runs, neither a greenlet nor a thread, as with a long
# computation; but it leaves the processor to others.
BUSY = """
import ctypes
busy = ctypes.PyDLL(None).usleep
def heavy(last):
    number = int(last or 0)
    while True:
        busy(20_000)
        yield str(number := number + 1)
def quick(last):
    number = int(last or 0)
    while True:
        busy(50)
        yield str(number := number + 1)
def endless(last):
    number = int(last or 0)
    while True:
        yield str(number := number + 1)
def handle(message):
    busy(20_000)
"""


@ONE_SERVER
@pytest.mark.parametrize(("generate", "interval"), [("heavy", "0"), ("heavy", "10"), ("quick", "0")], ids=str)
def test_a_busy_generate_does_not_starve_the_heartbeat(server, redis, start, tmp_path, generate, interval) -> None:
    (tmp_path / "job.py").write_text(BUSY)
    with server.monitor() as monitor:
        start("--redis", server.url, "--generate", f"job:{generate}", "--interval", interval, "--max-backlog", "200000",
              "--heartbeat", "2")  # fmt: skip
        wait_until(lambda: len(monitor.of("SET", "generatorIsActive")) >= 5, "five heartbeats")
        beats = [e.at for e in monitor.of("SET", "generatorIsActive")]
        numbers = [int(m) for e in monitor.of("RPUSH", "messages") for m in e.words[2:]]
    assert median(b - a for a, b in pairwise(beats)) < 1.5 * 2, "after 1.5 T the thread that stands in would beat"
    assert len(monitor.of("SET", "generatorIsActive", "1", "NX")) == 1, "it was elected anew"
    assert len(numbers) > 50 and numbers == list(range(1, len(numbers) + 1))


@ONE_SERVER
def test_a_busy_handler_does_not_starve_the_heartbeat(server, redis, start, tmp_path) -> None:
    (tmp_path / "job.py").write_text(BUSY)
    hold_flag(redis)
    redis.rpush("messages", *["m"] * 5000)
    with server.monitor() as monitor:
        task = start("--redis", server.url, "--handle", "job:handle", "--heartbeat", "2")
        wait_until(lambda: len(monitor.of("SET", "generatorIsActive")) >= 5, "five heartbeats")
        beats = [e.at for e in monitor.of("SET", "generatorIsActive")]
    assert median(b - a for a, b in pairwise(beats)) < 1.5 * 2, "after 1.5 T the thread that stands in would beat"
    assert redis.llen("messages") > 0, "it had nothing to do, so this test has shown nothing"
    wait_until(lambda: task.total("processed") > 50)


@ONE_SERVER
@pytest.mark.parametrize("interval", ["0", "10"])
def test_a_message_is_pushed_at_once_however_long_the_next_one_takes(server, redis, start, tmp_path, interval) -> None:
    (tmp_path / "job.py").write_text(
        "import time\n"
        "def generate(last):\n"
        "    for message in 'abc':\n"
        "        yield message\n"
        "        time.sleep(0.3)\n"
        "    time.sleep(3600)\n"
    )
    task = start("--redis", server.url, "--generate", "job:generate", "--interval", interval, "--heartbeat", "5")
    wait_until(lambda: redis.lrange("messages", 0, -1) == [b"a", b"b", b"c"])
    task.send(signal.SIGTERM)
    assert task.wait() == 0, "the end does not wait for generate"


@OTHER_SERVER
def test_after_a_takeover_generate_gets_the_last_message_byte_for_byte(server, redis, start, tmp_path) -> None:
    (tmp_path / "job.py").write_text(
        "from pathlib import Path\n"
        "def generate(last):\n"
        "    if last is None:\n"
        "        yield b'first'\n"
        "        yield b'\\xff last'\n"
        "    else:\n"
        "        Path('last').write_bytes(last.encode('utf-8', 'surrogateescape'))\n"
    )
    options = ["--redis", server.url, "--generate", "job:generate", "--interval", "0", "--heartbeat", "5"]
    first = start(*options)
    wait_until(lambda: redis.llen("messages") == 2)
    first.send(signal.SIGTERM)
    assert first.wait() == 0
    start(*options)
    assert wait_until(lambda: (tmp_path / "last").exists() and (tmp_path / "last").read_bytes()) == b"\xff last"


@ONE_SERVER
def test_the_demo_works(server, redis, start) -> None:
    start("--redis", server.url, "--interval", "1")
    wait_until(lambda: redis.exists("messages"))
    handler = start("--redis", server.url, "--concurrency", "200")
    wait_until(lambda: handler.total("processed") > 300)
    assert 0.05 < handler.total("processed", "errors") / handler.total("processed") < 0.30, "about 15 of 100"


@ONE_SERVER
def test_what_redis_gave_a_task_that_was_stopped_while_it_waited_is_handled_when_it_goes_on(
    server, redis, start
) -> None:
    """The time for the answer is over by then; the answer is there all the same."""
    hold_flag(redis)
    task = start("--redis", server.url, "--wait", "0.5")
    wait_until(lambda: redis.info("clients")["blocked_clients"], "BLPOP waits")
    task.send(signal.SIGSTOP)
    for number in range(20):  # until one comes while its BLPOP still waits in Redis
        redis.rpush("messages", number)
    time.sleep(0.5 + 2 + 0.5)  # no event can tell that a stopped process's time is over
    task.send(signal.SIGCONT)
    # An empty list is not enough: what has just been taken and not begun goes back at the end of the task.
    wait_until(lambda: task.total("processed") == 20, "all handled")
    task.send(signal.SIGTERM)
    assert task.wait() == 0
    assert task.total("processed") == 20, task.stderr
