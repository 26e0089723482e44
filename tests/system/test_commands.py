"""Commands: each runs behind a guard, in a session of its own, and nothing of it outlives its task."""

import json
import os
import re
import shlex
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from statistics import median

import pytest

from gtask.processes import table
from tests.servers import ONE_SERVER
from tests.tasks import TaskProcess, wait_until, waits

pytestmark = ONE_SERVER

ALIVE = "sh -c 'touch started; exec sleep 600'"
# It has children in its group and in sessions of their own, and one that has lost its parent in each way.
FAMILY = """sh -c 'trap "" TERM; sleep 600 & setsid sleep 600 & (sleep 600 &) ; setsid sh -c "sleep 600 & sleep 0.1";
            sleep 600 & touch started; wait'"""


class Job:
    """A task that handles commands at least once, and everything that it runs in them."""

    def __init__(
        self, server, redis, start, folder: Path, *arguments: str, delivery="at-least-once", **options
    ) -> None:
        redis.set("generatorIsActive", 1, ex=600)
        self.redis, self.folder, self.start = redis, folder, start
        self.arguments = ("--redis", server.url, "--delivery", delivery, *arguments)
        self.task = self.another(**options)

    def another(self, **options) -> TaskProcess:
        task = self.start(*self.arguments, module="tests.command_task", **options)
        assert task.task_id
        return task

    def push(self, command: str, name: str = "job", timeout: float = 0) -> None:
        self.redis.rpush("messages", f"{name} {timeout} {command}")

    def has(self, file: str) -> Path:
        """Waits until the command has made this file."""
        path = self.folder / file
        wait_until(path.exists, file)
        return path

    def errors(self, count: int = 1) -> list[str]:
        """The errors of the failed messages, once there are so many."""
        wait_until(lambda: self.redis.llen("errors") >= count, f"{count} failed messages")
        return [json.loads(entry)["error"] for entry in self.redis.lrange("errors", 0, -1)]

    def handled(self, count: int = 1) -> None:
        wait_until(lambda: self.processed >= count, f"{count} handled messages")

    def runs_too_long(self, command: str) -> str:
        """The error of this command, which makes the file `started` and is at work when its timeout is over. On a busy
        machine it takes long until it is."""
        for seconds in (2, 6, 18, 40):
            before = self.redis.llen("errors")
            self.push(command, timeout=seconds)
            error = self.errors(before + 1)[-1]
            if (self.folder / "started").exists():
                assert f"it ran for longer than {seconds} s" in error
                return error
        raise AssertionError("it did not even start")

    @property
    def processed(self) -> int:
        return int(self.redis.hget("totals", "processed") or 0)

    @property
    def processes(self) -> list[int]:
        """Those of all its commands, guards included, wherever they have gone."""
        return [pid for pid, environ in self.everybody.items() if "GTASK_MESSAGE" in environ]

    @property
    def peak_memory(self) -> int:
        """Of the task, in kB."""
        return int(re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{self.task.pid}/status").read_text())[1])  # type: ignore[index]

    @property
    def guards(self) -> list[int]:
        parents = {pid: parent for pid, (_, parent, _) in table().items()}
        return [pid for pid in self.processes if parents.get(pid) == self.task.pid]

    @property
    def everybody(self) -> dict[int, dict[str, str]]:
        """The processes of this test, each with the environment with which it was started."""
        found = {pid: environment(pid) for pid in table()}
        return {pid: environ for pid, environ in found.items() if environ.get("FOLDER_OF_TEST") == str(self.folder)}


def environment(pid: int) -> dict[str, str]:
    try:
        text = Path(f"/proc/{pid}/environ").read_text(errors="replace")
    except OSError:  # it is gone
        return {}
    return dict(pair.split("=", 1) for pair in text.split("\0") if "=" in pair)


@pytest.fixture
def job(server, redis, start, tmp_path):
    """A job, begun with further arguments of gtask."""
    jobs = []

    def begin(*arguments: str, env: dict[str, str] | None = None, **options) -> Job:
        marked = {**(env or {}), "FOLDER_OF_TEST": str(tmp_path)}
        jobs.append(Job(server, redis, start, tmp_path, *arguments, env=marked, **options))
        return jobs[-1]

    yield begin
    for each in jobs:
        for pid in each.everybody:
            with suppress(ProcessLookupError):  # it has ended since it was found
                os.kill(pid, signal.SIGKILL)


# Its end


def test_a_command_that_ends_with_0_has_handled_its_message(job) -> None:
    it = job(env={"GTASK_MONITORED": "1"}, stdin=subprocess.PIPE)
    it.push("sh -c 'cat; echo $GTASK_NAME $GTASK_TICK $GTASK_MONITORED. > found; echo $GTASK_MESSAGE >> found'")
    it.handled()
    name, message = it.has("found").read_text().splitlines()
    assert name == "job 2026-11-24T02:30:00+00:00 ."
    assert message.startswith("job 0 sh -c 'cat; echo")
    assert it.redis.llen("errors") == 0


def test_a_command_finds_all_signals_as_usual(job) -> None:
    it = job()
    it.push("sh -c 'grep ^Sig[BI] /proc/self/status > found'")
    it.handled()
    blocked, ignored = (int(line.split()[1], 16) for line in it.has("found").read_text().splitlines())
    assert blocked == 0
    assert not ignored & ((1 << 31) - 1), "the real-time signals 32 and 33 are libc's own"


ENDS = {
    "sh -c 'exit 3'": "exit code 3",
    "sh -c 'echo out; echo first >&2; echo last >&2; exit 3'": "exit code 3: last\nfirst\nlast",
    "sh -c 'printf no-end >&2; exit 255'": "exit code 255: no-end",
    "sh -c 'kill -SEGV $$'": "ended by signal 11 (SIGSEGV)",
    "sh -c 'kill -9 $$'": "ended by signal 9 (SIGKILL)",
    "no-such-program --now": "cannot start no-such-program: No such file or directory",
    "/etc/passwd": "cannot start /etc/passwd: Permission denied",
    "/": "cannot start /: Permission denied",
    "./text": "cannot start ./text: Exec format error",
}


def test_any_other_end_is_a_failure_and_its_record_says_which(job, tmp_path) -> None:
    (tmp_path / "text").write_text("a program that no kernel can read")
    (tmp_path / "text").chmod(0o755)
    it = job()
    for command in ENDS:
        it.push(command)
    it.errors(len(ENDS))
    records = [json.loads(entry) for entry in it.redis.lrange("errors", 0, -1)]
    assert {record["message"].removeprefix("job 0 "): record["error"] for record in records} == ENDS


def test_the_record_keeps_the_tail_of_a_long_stderr(job) -> None:
    it = job()
    it.push("sh -c 'seq 1 100000 >&2; head -c 100000 /dev/zero >&2; echo >&2; seq 1 30 >&2; exit 1'")
    [error] = it.errors()
    first, *tail = error.split("\n")
    assert first.endswith("exit code 1: 30")
    assert tail == [str(number) for number in range(11, 31)]


def test_what_runs_longer_than_its_timeout_gets_term_and_has_failed(job) -> None:
    it = job()
    error = it.runs_too_long("sh -c 'trap \"echo told >&2; exit 0\" TERM; touch started; sleep 600 & wait'")
    assert error.endswith(" s: told")
    assert not it.processes


def test_what_ignores_term_is_killed_with_all_that_it_has_started(job) -> None:
    it = job()
    assert it.runs_too_long(FAMILY).endswith(" s")
    assert not it.processes


@pytest.mark.parametrize("command", [ALIVE, FAMILY])
def test_the_time_limit_of_the_task_ends_a_command_too(job, command: str) -> None:
    for seconds in (2, 6, 18, 40):  # on a busy machine it takes long until the command is at work
        it = job("--timeout", str(seconds))
        before = it.redis.llen("errors")
        it.push(command)
        assert it.errors(before + 1)[-1].startswith(f"time-out: not handled within --timeout {seconds}")
        assert not it.processes
        if (it.folder / "started").exists():
            break
        it.task.kill()
    assert it.has("started")


def test_a_command_that_fails_is_tried_again(job) -> None:
    it = job("--retries", "1", "--backoff", "100ms")
    it.push("sh -c 'echo x >> runs; exit 7'")
    assert it.errors()[0].startswith("exit code 7")
    assert it.has("runs").read_text() == "x\nx\n"


def test_what_a_command_leaves_in_its_group_is_ended(job) -> None:
    it = job()
    it.push("sh -c '(sleep 600 &) ; sleep 600 & echo left'")
    it.handled()
    assert not it.processes


def test_what_a_command_leaves_in_its_group_may_end_by_itself(job) -> None:
    it = job()
    # What is left behind waits for the end of the command. It starts no process for that, because it has only a second.
    it.push("sh -c '(while kill -0 $$; do :; done; echo late >> late; echo more) 2>/dev/null &'")
    it.handled()
    assert (it.folder / "late").exists()
    wait_until(lambda: "job: more\n" in it.task.stderr)


def test_a_daemon_in_a_session_of_its_own_outlives_its_command(job) -> None:
    it = job()
    # The command ends when the daemon has left its group.
    it.push("""sh -c 'setsid sh -c "touch begun; exec sleep 600" & echo $! > daemon
            while [ ! -e begun ]; do sleep 0.01; done'""")
    it.handled()
    assert it.processes == [int(it.has("daemon").read_text())]


def test_orphans_that_end_while_the_command_runs_are_no_zombies(job) -> None:
    it = job()
    it.push("sh -c '(true &) ; (setsid true &) ; touch started; sleep 600'")
    it.has("started")
    [guard] = it.guards
    wait_until(lambda: len([pid for pid, (_, parent, _) in table().items() if parent == guard]) == 1, "sh alone")


# The end of its task


@pytest.mark.serial
@pytest.mark.parametrize("command", [ALIVE, FAMILY])
def test_a_second_after_its_task_was_killed_nothing_of_a_command_lives(job, command: str) -> None:
    it = job()
    it.push(command)
    it.has("started")
    wait_until(lambda: len(it.processes) >= 2, "the guard and its command")  # while one calls exec it shows nothing
    it.task.send(signal.SIGKILL)
    wait_until(lambda: not it.processes, "the end of all", timeout=1)


def test_a_kill_by_name_or_of_the_whole_group_reaches_no_guard(job) -> None:
    it = job()
    it.push(FAMILY)
    it.has("started")
    names = [Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0") for pid in it.guards]
    assert names == [b"guard of a command"]
    os.killpg(it.task.pid, signal.SIGKILL)
    wait_until(lambda: not it.processes, "the end of all")


def test_a_guard_that_is_killed_takes_the_group_with_it(job) -> None:
    it = job()
    it.push(ALIVE)
    it.has("started")
    [guard] = it.guards
    os.kill(guard, signal.SIGKILL)
    assert it.errors()[0].endswith("its guard was killed")
    wait_until(lambda: not it.processes)


def test_a_guard_that_was_stopped_goes_on_to_end_its_command(job) -> None:
    it = job()
    for seconds in (3, 9, 40):  # on a busy machine it takes long until the command is at work
        before = it.redis.llen("errors")
        it.push(FAMILY, timeout=seconds)
        wait_until(lambda: (it.folder / "started").exists() or it.redis.llen("errors") > before)  # noqa: B023
        guards = it.guards if it.redis.llen("errors") == before else []
        for guard in guards:
            os.kill(guard, signal.SIGSTOP)
        assert it.errors(before + 1)[-1].endswith(f"it ran for longer than {seconds} s")
        assert not it.processes
        if guards:
            return
    raise AssertionError("no guard could be stopped in time")


def test_a_guard_that_was_stopped_goes_on_when_its_task_is_killed(job) -> None:
    it = job()
    it.push(FAMILY)
    it.has("started")
    [guard] = it.guards
    os.kill(guard, signal.SIGSTOP)
    it.task.send(signal.SIGKILL)
    wait_until(lambda: not it.processes, "the end of all")


def test_a_guard_and_its_command_do_not_mind_the_signals_of_others(job) -> None:
    it = job("--grace", "60")
    it.push("sh -c 'touch started; while [ ! -e go ]; do sleep 0.01; done'")
    it.has("started")
    [guard] = it.guards
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(guard, number)
    os.killpg(it.task.pid, signal.SIGINT)  # as Ctrl-C at a terminal does
    wait_until(lambda: not waits(it.redis), "the task has begun to end")
    (it.folder / "go").touch()
    assert it.task.wait() == 0
    assert it.processed == 1
    assert it.redis.llen("errors") == 0


def test_within_the_grace_a_command_may_finish(job) -> None:
    it = job("--grace", "60")
    it.push("sh -c 'touch started; while [ ! -e go ]; do sleep 0.01; done'")
    it.has("started")
    it.task.send(signal.SIGTERM)
    wait_until(lambda: not waits(it.redis), "the task has begun to end")
    (it.folder / "go").touch()
    assert it.task.wait() == 0
    assert it.processed == 1


@pytest.mark.serial
def test_when_the_grace_is_over_the_command_ends_before_its_message_is_given_back(job, tmp_path) -> None:
    it = job("--grace", "5")
    # `wait` ends as soon as the signal comes. Half a second later it is killed.
    told = 'trap "echo told > told" TERM; touch started; while true; do date +%s.%N > alive; sleep 0.01 & wait; done'
    it.push(f"sh -c {shlex.quote(told)}")
    it.has("started")
    begun = time.monotonic()
    it.task.send(signal.SIGTERM)
    wait_until(lambda: it.redis.llen("messages"), "it is given back")
    given_back = time.time()
    assert not it.processes
    assert it.task.wait() == 0
    assert 4.9 < time.monotonic() - begun < 9.9, "the usual grace is 10 s"
    assert it.has("told")
    assert float((it.folder / "alive").read_text() or 0) < given_back
    assert it.redis.llen("errors") == 0
    assert it.processed == 0
    assert "1 message was not finished within --grace 5: now back in the queue" in it.task.stderr


@pytest.mark.parametrize(("command", "stopped"), [(ALIVE, False), (FAMILY, True)])
def test_the_command_ends_before_its_message_is_given_back_even_while_something_holds_the_event_loop(
    job, tmp_path, command: str, stopped: bool
) -> None:
    os.mkfifo(tmp_path / "pipe")
    it = job("--grace", "1")
    it.push(command)
    it.has("started")
    it.redis.rpush("messages", "hold")
    it.has("holding")
    for guard in it.guards if stopped else ():
        os.kill(guard, signal.SIGSTOP)
    it.task.send(signal.SIGTERM)
    wait_until(lambda: it.redis.lrange("messages", 0, -1)[-1:] == [b"hold"], "both are given back")
    assert not it.processes
    assert it.redis.llen("messages") == 2
    assert it.task.wait() == 75
    assert it.processed == it.redis.llen("errors") == 0


def test_a_command_that_ends_with_0_when_it_is_told_to_has_finished(job) -> None:
    it = job("--grace", "6")
    it.push("sh -c 'trap \"exit 0\" TERM; sleep 600 & touch started; wait'")
    it.has("started")
    it.task.send(signal.SIGTERM)
    assert it.task.wait() == 0
    assert it.processed == 1
    assert it.redis.llen("messages") == 0


def test_in_at_most_once_delivery_what_is_cut_off_is_in_errors(job) -> None:
    it = job("--grace", "1", delivery="at-most-once")
    it.push(ALIVE)
    it.has("started")
    it.task.send(signal.SIGTERM)
    assert it.task.wait() == 0
    assert it.errors() == ["not finished within --grace 1"]
    assert not it.processes


def test_a_forked_child_of_users_code_keeps_no_command_alive(job) -> None:
    it = job()
    it.push(ALIVE)
    it.has("started")
    it.redis.rpush("messages", "fork")
    it.has("forked")
    it.task.send(signal.SIGKILL)
    wait_until(lambda: not it.processes, "the end of all")


# Its output

SLOW_READER = {"OUTPUT_WAITS": "60"}  # seconds: on a busy machine nobody reads for more than the usual one


def test_each_line_of_its_output_has_the_entrys_name_in_front(job) -> None:
    it = job()
    it.push("sh -c 'echo one; echo two >&2; printf \"\\na\\rb\\n\\377\\nunfinished\"'", name="report")
    it.handled()
    expected = [b"one", b"two", b"", b"b", b"\xff", b"unfinished"]

    def lines() -> list[bytes]:
        return re.findall(rb"^report: (.*)\n", b"".join(it.task.errors.copy()), flags=re.MULTILINE)

    wait_until(lambda: len(lines()) >= len(expected), "all lines, in whichever order both pipes are read")
    assert sorted(lines()) == sorted(expected)


def test_a_line_without_an_end_is_kept_though_a_daemon_could_go_on_with_it(job) -> None:
    it = job()
    it.push("sh -c 'setsid sleep 600 & printf \"why I fail\" >&2; exit 3'")
    assert it.errors()[0].endswith("exit code 3: why I fail")
    wait_until(lambda: "job: why I fail\n" in it.task.stderr)


@pytest.mark.serial
def test_lines_of_many_commands_at_once_are_whole(job) -> None:
    it = job("--concurrency", "20", env=SLOW_READER)
    for number in range(20):
        it.push(f"seq -f 'x%.0f-{number}-y' 1 2000", name=f"n{number}")
    it.handled(20)
    assert it.redis.llen("errors") == 0
    wait_until(lambda: it.task.stderr.count("-y\n") == 40_000)
    lines = it.task.stderr.splitlines()
    for number in range(20):
        mine = [line for line in lines if line.startswith(f"n{number}: ")]
        assert mine == [f"n{number}: x{i}-{number}-y" for i in range(1, 2001)]


def test_no_line_is_lost_while_somebody_reads(job) -> None:
    reader, writer = os.pipe()
    it = job(stderr=writer, env=SLOW_READER)
    os.close(writer)
    it.push("seq 1 600000")
    with open(reader, "rb") as stderr:
        for number in range(1, 600_001):
            assert stderr.readline() == b"job: %d\n" % number
            if number % 300 == 0:
                time.sleep(0.001)  # it reads, but more slowly than the lines come


@pytest.mark.serial
@pytest.mark.parametrize(("endless", "read"), [("yes", True), ("sh -c 'yes >&2'", False), ("cat /dev/zero", True)])
def test_endless_output_holds_up_nothing_and_fills_no_memory(job, endless: str, read: bool) -> None:
    reader, writer = os.pipe()
    it = job("--heartbeat", "0.5", stderr=None if read else writer)
    for failed, seconds in enumerate((2, 6, 18)):  # on a busy machine it takes long until another one has begun
        it.push(endless, timeout=seconds)
        wait_until(lambda: len(it.processes) >= 2 or it.redis.llen("errors") > failed)  # noqa: B023
        beats: list[float] = []
        while it.redis.llen("errors") == failed:
            file = f"file {failed} {len(beats)}"
            it.push(f"touch '{file}'", name="other")
            it.has(file)
            beats.append(time.time() - it.redis.zrange("tasks", 0, -1, withscores=True)[0][1])
            time.sleep(0.05)
        if len(beats) >= 2:
            break
    assert len(beats) >= 2, "another command has begun and ended while it ran"
    assert median(beats) < 1, "seconds since the last heartbeat"
    assert it.errors()[-1].startswith(f"it ran for longer than {seconds} s")
    assert it.peak_memory < 200_000, "kB"
    assert max(map(len, b"".join(it.task.errors).splitlines()), default=0) < 17_000
    for fd in (reader, writer):
        os.close(fd)


def test_a_command_is_not_held_up_when_nobody_reads_its_output(job) -> None:
    reader, writer = os.pipe()
    it = job(stderr=writer)
    os.close(writer)
    it.push("sh -c 'seq 1 2000000; touch written'")
    it.has("written")
    it.handled()
    with open(reader, "rb") as stderr:
        assert b"job: 1000\n" in stderr  # it reads up to there
        it.push("sh -c 'while sleep 0.05; do echo again; done'")
        assert any(re.match(rb"gtask: \d+ log lines were dropped here", line) for line in stderr)
