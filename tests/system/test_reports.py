"""What a task writes for its monitor, byte for byte, and that this holds up nobody."""

import fcntl
import json
import os
import pty
import re
import select
import signal
import time
from itertools import pairwise

import pytest

from tests.servers import ONE_SERVER, OTHER_SERVER
from tests.tasks import PATIENCE, wait_until

# The four reports to the letter.
LINES = re.compile(
    rb'\{"msg": "createdTaskId", "taskId": [1-9]\d*\}\r\n'
    rb'|\{"msg": "switchedToGenerator Mode"\}\r\n'
    rb'|\{"msg": "generated", "total": \d+\}\r\n'
    rb'|\{"msg": "processed", "total": \d+, "errors": \d+\}\r\n'
)


def totals(task, msg: str) -> list[tuple[float, int]]:
    """When each report of one kind came, and its total."""
    reports = zip(task.times, task.reports(), strict=False)
    return [(at, report["total"]) for at, report in reports if report["msg"] == msg]


@OTHER_SERVER
def test_every_byte_on_stdout_is_a_report_of_the_specification(server, redis, start, tmp_path) -> None:
    (tmp_path / "job.py").write_text(
        "def handle(message):\n    if int(message) % 3 == 0: raise ValueError('each third')\n"
    )
    options = ["--redis", server.url, "--interval", "5", "--heartbeat", "3"]  # a pause does not cost the flag
    generator = start(*options)
    wait_until(generator.is_generator)
    handler = start(*options, "--handle", "job:handle")
    wait_until(lambda: handler.total("processed") > 30)
    generator.send(signal.SIGKILL)
    wait_until(handler.is_generator)
    wait_until(lambda: handler.total("generated") > 10)
    handler.send(signal.SIGTERM)
    assert handler.wait() == 0
    assert all(LINES.fullmatch(line) for line in handler.lines), handler.lines
    kinds = [report["msg"] for report in handler.reports()]
    switch = kinds.index("switchedToGenerator Mode")
    assert kinds[0] == "createdTaskId"
    assert set(kinds[1:switch]) == {"processed"}, "its totals as a handler come before the change"
    assert "generated" in kinds[switch:]
    last_processed = handler.reports("processed")[-1]
    assert last_processed["errors"] == len([None for i in range(1, last_processed["total"] + 1) if i % 3 == 0])
    assert redis.llen("errors") == last_processed["errors"]
    for msg in ("processed", "generated"):
        numbers = [total for _, total in totals(handler, msg)]
        assert numbers == sorted(numbers), "totals only grow"


@pytest.mark.serial
@ONE_SERVER
@pytest.mark.parametrize("role", ["handler", "generator"])
def test_totals_come_at_most_each_500_ms_and_once_more_at_the_end(server, redis, start, tmp_path, role: str) -> None:
    (tmp_path / "job.py").write_text("def handle(message): pass\n")
    msg = "processed" if role == "handler" else "generated"
    if role == "handler":
        redis.set("generatorIsActive", 1)
    task = start("--redis", server.url, "--interval", "7", "--handle", "job:handle", "--heartbeat", "5")

    fed = 0

    def enough() -> bool:
        nonlocal fed
        if role == "handler":
            redis.rpush("messages", "m")
            fed += 1
        return len(totals(task, msg)) >= 5

    wait_until(enough)
    task.send(signal.SIGTERM)
    assert task.wait() == 0
    *regular, (_, last) = totals(task, msg)
    assert all(after - before > 0.4 for (before, _), (after, _) in pairwise(regular))
    assert regular[-1][0] - regular[0][0] < 0.75 * len(regular) + 1, "far too seldom"
    assert last == (fed - redis.llen("messages") if role == "handler" else redis.llen("messages"))


@ONE_SERVER
def test_totals_that_have_not_changed_are_not_sent(server, redis, start) -> None:
    redis.set("generatorIsActive", 1)
    with server.monitor() as monitor:
        task = start("--redis", server.url, "--handle", "builtins:len")
        redis.rpush("messages", "a", "b")
        wait_until(lambda: task.total("processed") == 2)
        count = len(monitor.of("SET", "generatorIsActive"))
        wait_until(lambda: len(monitor.of("SET", "generatorIsActive")) >= count + 3, "three heartbeats")
    task.send(signal.SIGTERM)
    assert task.wait() == 0
    assert [report["total"] for report in task.reports("processed")] in ([2], [1, 2])


# -- what the user's code prints


@ONE_SERVER
def test_what_the_user_s_code_prints_goes_to_stderr_at_once(server, redis, start, tmp_path) -> None:
    (tmp_path / "job.py").write_text(
        "import os, sys\n"
        "print('while imported')\n"
        "def handle(message):\n"
        "    print('printed', message)\n"
        "    os.write(1, b'written\\n')\n"
        "    sys.stdout.write('without an end')\n"
        "def generate(last):\n"
        "    print('generating')\n"
        "    yield 'm'\n"
    )
    options = ["--redis", server.url, "--handle", "job:handle", "--generate", "job:generate", "--interval", "0"]
    options += ["--heartbeat", "5"]  # nobody else takes the flag, and nobody has to
    env = {"PYTHONUNBUFFERED": ""}  # where it is set nothing is ever kept in a buffer
    generator = start(*options, env=env)
    wait_until(lambda: "generating\n" in generator.stderr)
    handler = start(*options, env=env)
    wait_until(lambda: handler.total("processed") == 1)
    wait_until(lambda: "printed m\n" in handler.stderr, "a line that is not kept in a buffer")
    for task in (handler, generator):
        task.send(signal.SIGTERM)
        assert task.wait() == 0
        assert all(LINES.fullmatch(line) for line in task.lines), task.lines
    for word in ("while imported", "printed m", "written", "without an end"):
        assert word in handler.stderr


@OTHER_SERVER
def test_what_child_processes_of_the_user_s_code_print_goes_to_stderr(server, redis, start, tmp_path) -> None:
    (tmp_path / "job.py").write_text(
        "import os, subprocess\n"
        "def handle(message):\n"
        "    subprocess.run(['echo', 'by a child'], check=True)\n"
        "    os.system('echo by a shell')\n"
    )
    redis.set("generatorIsActive", 1)
    redis.rpush("messages", "m")
    task = start("--redis", server.url, "--handle", "job:handle")
    wait_until(lambda: task.total("processed") == 1)
    task.send(signal.SIGTERM)
    assert task.wait() == 0
    assert all(LINES.fullmatch(line) for line in task.lines), task.lines
    assert "by a child\n" in task.stderr and "by a shell\n" in task.stderr


@ONE_SERVER
def test_on_a_terminal_nothing_is_on_stdout_and_people_read_log_lines(server, redis, start) -> None:
    ours, theirs = pty.openpty()
    redis.rpush("messages", "a")
    task = start("--redis", server.url, "--interval", "5", stdout=theirs)
    os.close(theirs)
    try:
        wait_until(lambda: redis.llen("messages") > 50)
        wait_until(lambda: "task 1 is the generator" in task.stderr)
        assert "task 1 has joined" in task.stderr
        task.send(signal.SIGTERM)
        assert task.wait() == 0
        assert "createdTaskId" not in task.stderr
        if select.select([ours], [], [], 0)[0]:
            with pytest.raises(OSError, match="Input/output"):  # how Linux says that the other side is closed
                os.read(ours, 1)
    finally:
        os.close(ours)


@ONE_SERVER
def test_on_a_terminal_totals_are_logged_each_10_s(server, redis, start) -> None:
    ours, theirs = pty.openpty()
    task = start("--redis", server.url, "--interval", "50", "--heartbeat", "5", stdout=theirs)
    os.close(theirs)
    try:
        wait_until(lambda: re.search(r"task 1 generated [1-9]\d*, processed 0, errors 0", task.stderr), "the totals")
    finally:
        os.close(ours)


# -- a reader that stands still, or is gone


@pytest.mark.serial
@ONE_SERVER
def test_a_pipe_that_is_full_for_long_holds_up_neither_heartbeat_nor_generation(server, redis, start) -> None:
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    os.write(writing, b"x" * 4096)
    with server.monitor() as monitor:
        task = start("--redis", server.url, "--interval", "20", "--heartbeat", "2", stdout=writing)
        os.close(writing)
        wait_until(lambda: monitor.of("RPUSH", "messages"), "it generates")
        time.sleep(8)
        redis.echo("now")
        [now] = [e.at for e in monitor.of("ECHO", "now")]
        renewals = [e.at for e in monitor.of("SET", "generatorIsActive")]
        pushes = [e.at for e in monitor.of("RPUSH", "messages") if e.at <= now]
    assert len(renewals) >= 3
    assert max(b - a for a, b in pairwise([*renewals, max(now, renewals[-1])])) < 3.4, "the flag lives 4 s"
    assert max(b - a for a, b in pairwise([*pushes, now])) < 3
    with open(reading, "rb") as reader:
        assert reader.read(4096) == b"x" * 4096
        assert LINES.fullmatch(reader.readline())
        assert LINES.fullmatch(reader.readline())
        total = json.loads(reader.readline())["total"]
        assert total <= len(pushes) + 100
        wait_until(lambda: redis.llen("messages") > total + 3)
        task.send(signal.SIGTERM)
        rest = reader.read().splitlines(keepends=True)
    assert task.wait() == 0
    assert all(LINES.fullmatch(line) for line in rest)
    assert f'"total": {redis.llen("messages")}' in rest[-1].decode()


@ONE_SERVER
def test_a_task_ends_although_its_pipe_is_full(server, redis, start) -> None:
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    os.write(writing, b"x" * 4096)
    task = start("--redis", server.url, "--interval", "20", stdout=writing)
    os.close(writing)
    wait_until(lambda: redis.llen("messages") > 3)
    task.send(signal.SIGTERM)
    assert task.process.wait(PATIENCE) == 0
    assert not redis.exists("generatorIsActive")
    os.close(reading)


@OTHER_SERVER
@pytest.mark.parametrize("interval", ["5", "60000"])
def test_a_task_whose_reader_is_gone_ends_gracefully(server, redis, start, interval: str) -> None:
    reading, writing = os.pipe()
    task = start("--redis", server.url, "--interval", interval, stdout=writing)
    os.close(writing)
    with open(reading, "rb") as reader:
        assert b"createdTaskId" in reader.readline()
        assert b"switchedToGenerator" in reader.readline()
        assert b"generated" in reader.readline()
        assert task.process.poll() is None
    assert task.wait() == 141
    assert not redis.exists("generatorIsActive", "generatorId", "tasks")
    [line] = task.stderr.splitlines()
    assert "nobody reads the reports any more" in line


@ONE_SERVER
def test_a_task_that_cannot_write_its_reports_ends_gracefully_and_says_why(server, redis, start) -> None:
    with open("/dev/full", "wb") as full:
        task = start("--redis", server.url, "--interval", "5", stdout=full)
    assert task.wait() == 74
    assert not redis.exists("generatorIsActive", "generatorId", "tasks")
    [line] = task.stderr.splitlines()
    assert "cannot write the reports: No space left on device" in line
