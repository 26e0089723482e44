"""`gtask --cron FILE` and `gtask cron FILE`, as users start them."""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import pytest

from gtask.cron.message import parse
from gtask.cron.position import read
from tests.schedules import APPEND, HANDLE, NEVER, POLL, drill, handled, runner, seconds
from tests.servers import ONE_NEW_SERVER, ONE_SERVER, Clock, holds_messages
from tests.support.processes import environment
from tests.tasks import TaskProcess, wait_until


def gtask(*arguments: str, cwd: Path, env: dict[str, str] | None = None) -> tuple[int, str, str]:
    done = subprocess.run([sys.executable, "-m", "gtask", *arguments], cwd=cwd, env=environment(env),
                          capture_output=True, text=True, timeout=60, check=False)  # fmt: skip
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def run(server, start, tmp_path: Path) -> Callable[..., TaskProcess]:
    return runner(server, start, tmp_path)


# -- the file, without Redis


def test_the_next_ticks_of_all_entries_in_their_order(tmp_path: Path) -> None:
    (tmp_path / "crontab.toml").write_text('timezone = "Europe/Berlin"\n[report]\ncron = "30 2 * * *"\n'
                                           '[poll]\nevery = "12h"\ntimezone = "UTC"')  # fmt: skip
    code, out, err = gtask("cron", "crontab.toml", "--next", "4", "--from", "2026-03-28T02:00+01:00", cwd=tmp_path)
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "report@2026-03-28T01:30:00+00:00  Sat 2026-03-28 02:30:00 Europe/Berlin",
        "poll@2026-03-28T12:00:00+00:00    Sat 2026-03-28 12:00:00 UTC",
        "poll@2026-03-29T00:00:00+00:00    Sun 2026-03-29 00:00:00 UTC",
        "report@2026-03-29T01:00:00+00:00  Sun 2026-03-29 03:00:00 Europe/Berlin",
    ]
    code, out, err = gtask("cron", "crontab.toml", cwd=tmp_path, env={"GTASK_REDIS": "unix:///nowhere"})
    assert (code, err, len(out.splitlines())) == (0, "", 10)


@pytest.mark.parametrize(
    ("table", "arguments", "line"),
    [
        (NEVER, ["cron", "crontab.toml"], "crontab.toml: [a] cron '0 0 31 2 *': bad day-of-month"),
        (NEVER, ["--cron", "crontab.toml"], "crontab.toml: [a] cron '0 0 31 2 *': bad day-of-month"),
        (POLL, ["cron", "missing.toml"], "missing.toml: No such file or directory"),
        (POLL, ["cron", "crontab.toml", "--next", "0"], "--next '0': must be 1 or more"),
        (POLL, ["cron", "crontab.toml", "--from", "noon"],
         "--from 'noon': it is no time, such as 2026-11-24T02:30:00+00:00"),
        (POLL, ["--cron", "crontab.toml"],
         "--cron crontab.toml: [poll] has no command, so --handle module:function must say what handles it"),
        (POLL, ["--cron", "crontab.toml", "--generate", "a:b"],
         "--generate a:b and --cron crontab.toml: there can be only one"),
        (POLL, ["check", "--cron", "crontab.toml"], "a schedule is checked by gtask cron crontab.toml"),
        (POLL, ["--cron", "crontab.toml", "--handle", "nothing:here"],
         "--handle nothing:here: cannot import nothing: ModuleNotFoundError: No module named 'nothing'; "
         "Python looks in HERE, in PYTHONPATH, and among what is installed"),
    ],
)  # fmt: skip
def test_bad_usage_is_one_line_and_64(tmp_path: Path, table: str, arguments: list[str], line: str) -> None:
    (tmp_path / "crontab.toml").write_text(table)
    assert gtask(*arguments, cwd=tmp_path) == (64, "", f"gtask: {line.replace('HERE', str(tmp_path))}\n")


def test_without_the_library_one_line_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "crontab.toml").write_text(POLL)
    (tmp_path / "cronsim.py").write_text("raise ImportError")
    code, out, err = gtask(
        "cron", "crontab.toml", cwd=tmp_path, env={"PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[2]}"}
    )
    assert (code, out, err) == (64, "", "gtask: --cron needs the library cronsim: pip install 'gtask[cron]'\n")


# -- tasks


@ONE_SERVER
def test_the_environment_names_the_schedule_and_what_it_sets_can_be_set_otherwise(
    server, redis, start, tmp_path
) -> None:
    (tmp_path / "job.py").write_text(HANDLE)
    (tmp_path / "crontab.toml").write_text(POLL)
    env = {"GTASK_CRON": "crontab.toml", "GTASK_HANDLE": "job:handle", "GTASK_REDIS": server.url}
    tasks = [start("--heartbeat", "0.5", env=env) for _ in range(2)]
    wait_until(lambda: len(handled(tmp_path)) >= 2, "two ticks are handled")
    assert redis.hget("generator", "generate") == b"gtask.cron:generate"
    wait_until(lambda: int(redis.hget("totals", "processed") or 0) >= 1, "at-least-once, a handled one is acknowledged")
    for task in tasks:
        task.kill()
    redis.flushall()
    other = start("--delivery", "at-most-once", "--heartbeat", "0.5", env=env)
    wait_until(other.is_generator)
    start("--delivery", "at-most-once", "--heartbeat", "0.5", env=env)
    before = len(handled(tmp_path))
    wait_until(lambda: len(handled(tmp_path)) > before)
    assert not redis.exists("totals")


@ONE_SERVER
def test_the_demo_does_not_start_on_the_keys_of_a_schedule(server, redis, start, run) -> None:
    run(POLL)
    wait_until(lambda: redis.llen("messages"))
    demo = start("--redis", server.url)
    assert demo.wait() == 64
    assert "belong to gtask.cron:generate" in demo.stderr


@ONE_SERVER
def test_nothing_is_fired_for_the_time_before_the_first_start(redis, run) -> None:
    run('[a]\ncron = "* * * * *"\nmissed = "all"\n[b]\nevery = "1h"\n')
    last = wait_until(lambda: redis.hget("generator", "last"), "it is known since now").decode()
    assert last.startswith("@") and "known=a~" in last
    time.sleep(1)
    for message in redis.lrange("messages", 0, -1):
        assert parse(message.decode())[1] > read(last).last.time, "a minute may have begun meanwhile"


@ONE_SERVER
def test_what_came_due_between_two_generators_is_fired_by_the_next_one(redis, run, tmp_path) -> None:
    table = '[all]\nevery = "1s"\nmissed = "all"\n[newest]\nevery = "1s"\n'
    first = run(table, heartbeat=10)
    wait_until(lambda: redis.llen("messages") >= 2)
    first.send(signal.SIGTERM)
    assert first.wait() == 0
    time.sleep(3)  # what is measured is that ticks come due meanwhile
    before = redis.llen("messages")
    second = run(table, "--log-level", "INFO", heartbeat=10)
    wait_until(lambda: redis.llen("messages") >= before + 8)
    messages = [message.decode() for message in redis.lrange("messages", 0, -1)]
    got = seconds([message for message in messages if message.startswith("all@")])
    assert got == list(range(got[0], got[0] + len(got)))
    newest = seconds([message for message in messages if message.startswith("newest@")])
    assert newest == sorted(set(newest))
    assert len(newest) < len(got)
    wait_until(lambda: re.search(r"INFO fired all@[\dT:+-]+, \d+\.\d s late", second.stderr), "a line for each")
    merged = r"newest: \d+ missed ticks up to [\dT:+-]+: merged into the next one"
    wait_until(lambda: re.search(merged, second.stderr), "a line about those that were merged")


@ONE_SERVER
def test_status_says_what_became_of_the_ticks(server, redis, run, tmp_path) -> None:
    redis.hset(
        "generator", mapping={"generate": "gtask.cron:generate", "last": f"poll@{datetime.now(UTC).year - 1}-01-01"}
    )
    run('[poll]\nevery = "1h"\nmissed = "all"\nwithin = "3h"\n[other]\nevery = "1h"', heartbeat=30)
    wait_until(lambda: redis.llen("messages") == 4 or redis.llen("messages") == 5, "three hours, and the newest")
    code, out, _ = gtask("status", "--json", "--redis", server.url, cwd=tmp_path)
    ticks = json.loads(out)["schedule"]
    assert code == 0
    assert ticks["fired"] == redis.llen("messages")
    assert ticks["skipped"] > 8000
    assert ticks["coalesced"] > 8000
    _, out, _ = gtask("status", "--redis", server.url, cwd=tmp_path)
    merged, skipped = (f"{ticks[name]:,}" for name in ("coalesced", "skipped"))
    assert f"schedule   {ticks['fired']} ticks fired, {merged} merged into a later one, {skipped} skipped" in out


@ONE_SERVER
def test_a_position_that_is_none_of_a_schedule_is_said_once_and_it_begins_now(redis, run) -> None:
    redis.hset("generator", mapping={"generate": "jobs:generate", "last": "order 41\x1b"})
    first = run(POLL, heartbeat=10)
    wait_until(lambda: redis.llen("messages"))
    said = "the position order 41\\x1b is none of a schedule"
    wait_until(lambda: said in first.stderr, "a line about it")
    first.kill()
    assert first.stderr.count(said) == 1
    redis.delete("generatorIsActive", "generatorId")
    second = run(POLL, heartbeat=10)
    wait_until(second.is_generator)
    before = redis.llen("messages")
    wait_until(lambda: redis.llen("messages") > before)
    assert "none of a schedule" not in second.stderr


@ONE_SERVER
def test_a_position_of_many_entries_is_too_long_for_a_heartbeat_and_goes_on_all_the_same(redis, run) -> None:
    table = "".join(f'["an-entry-whose-name-is-long-{n}"]\nevery = "{n + 1}s"\nmissed = "all"\n' for n in range(150))
    first = run(table, heartbeat=10)
    wait_until(lambda: redis.llen("messages"))
    first.kill()
    assert redis.hstrlen("generator", "last") > 4096
    redis.delete("generatorIsActive", "generatorId")
    second = run(table, heartbeat=10)
    wait_until(second.is_generator)
    before = redis.llen("messages")
    wait_until(lambda: redis.llen("messages") > before)
    messages = [message.decode() for message in redis.lrange("messages", 0, -1)]
    assert messages == sorted(messages, key=lambda message: parse(message)[::-1])
    got = seconds([message for message in messages if message.startswith("an-entry-whose-name-is-long-0@")])
    assert got == list(range(got[0], got[0] + len(got)))


@ONE_SERVER
def test_a_rewind_to_what_is_no_tick_is_refused_where_a_schedule_stands(server, redis, tmp_path) -> None:
    def rewind(*arguments: str) -> tuple[int, str, str]:
        return gtask("rewind", *arguments, "--redis", server.url, cwd=tmp_path)

    stood = b"a@2026-11-24T02:30:00+00:00"
    redis.hset("generator", mapping={"generate": "gtask.cron:generate", "last": stood})
    code, out, err = rewind("--to", "xyz\x1b")
    assert (code, out) == (64, "")
    assert err.startswith("gtask: --to 'xyz\\x1b': a schedule stands here, and goes on from NAME@TIME")
    assert redis.hget("generator", "last") == stood
    assert rewind("--to", "@2026-11-24T02:00")[0] == 0
    assert rewind()[0] == 0
    assert rewind("--to", "xyz")[0] == 0, "nothing of the schedule stands here any more"


@ONE_SERVER
def test_after_a_rewind_ticks_are_fired_again(server, redis, run, tmp_path) -> None:
    table = '[a]\nevery = "1d"\nmissed = "all"\nwithin = "1000d"\n'
    first = run(table)
    wait_until(lambda: redis.hget("generator", "last"))
    first.send(signal.SIGTERM)
    first.wait()
    day = (datetime.now(UTC).timestamp() // 86_400 - 3) * 86_400
    to = f"a@{datetime.fromtimestamp(day, UTC):%Y-%m-%d}"
    code, out, _ = gtask("rewind", "--to", to, "--redis", server.url, cwd=tmp_path)
    assert code == 0 and f"goes on after {to}" in out
    run(table, heartbeat=10)
    wait_until(lambda: redis.llen("messages") >= 3)
    assert seconds([m.decode() for m in redis.lrange("messages", 0, 2)]) == [day + n * 86_400 for n in (1, 2, 3)]


@ONE_SERVER
def test_a_message_whose_entry_this_task_s_file_does_not_have_comes_again_and_has_not_failed(
    redis, run, tmp_path
) -> None:
    generator = run(POLL)
    wait_until(generator.is_generator)
    run(POLL)
    before = time.time()
    redis.rpush("messages", f"new-one@{datetime.now(UTC):%Y-%m-%dT%H:%M:%S}+00:00")
    wait_until(lambda: redis.zcard("messages:later") == 1, "it comes again")
    [(member, due)] = redis.zrange("messages:later", 0, -1, withscores=True)
    assert b"new-one@" in member
    assert before + 20 < due <= time.time() + 31
    assert not redis.exists("errors")


@ONE_SERVER
def test_commands_of_a_schedule_run_once_a_tick_and_know_it(redis, run, tmp_path) -> None:
    table = """[append]
every = "1s"
missed = "all"
command = "sh -c 'echo $GTASK_NAME $GTASK_TICK $GTASK_MESSAGE >> commands; echo said'"
"""
    tasks = [run(table, handle=None) for _ in range(2)]
    file = tmp_path / "commands"
    wait_until(lambda: file.exists() and len(file.read_text().splitlines()) >= 3, "three runs")
    for line in file.read_text().splitlines():
        name, tick, message = line.split()
        assert (name, message) == ("append", f"append@{tick}")
    wait_until(lambda: any("append" in line and "said" in line for task in tasks for line in task.stderr.splitlines()))
    assert not redis.exists("errors")


@Clock.NEEDED
@ONE_NEW_SERVER
def test_it_is_redis_time_that_counts(new_server, start, tmp_path) -> None:
    """Redis' clock is two hours ahead of this machine's."""
    (tmp_path / "crontab.toml").write_text(POLL)
    (tmp_path / "job.py").write_text(HANDLE)
    clock = Clock(tmp_path)
    clock.set(7200)
    server = new_server(clock=clock)
    start("--redis", server.url, "--cron", "crontab.toml", "--handle", "job:handle", "--heartbeat", "10")
    with server.client() as redis:
        wait_until(lambda: redis.llen("messages") >= 3)
        got = seconds([message.decode() for message in redis.lrange("messages", 0, -1)])
        now = redis.time()[0]
        assert now - time.time() > 7000, "the clock was not set, so this test has shown nothing"
        assert got == list(range(got[0], got[0] + len(got)))
        assert 0 <= now - got[-1] < 600, "by this machine's clock it would be two hours"


@pytest.mark.serial
@ONE_SERVER
def test_a_tick_is_there_once_and_in_time(redis, run) -> None:
    run(POLL, heartbeat=10)
    late = []
    for _ in range(5):
        before = redis.llen("messages")
        wait_until(lambda before=before: redis.llen("messages") > before)
        with redis.pipeline() as at_once:
            newest, at = at_once.lindex("messages", -1).time().execute()
        late.append(at[0] + at[1] / 1e6 - seconds([newest.decode()])[0])
    got = seconds([message.decode() for message in redis.lrange("messages", 0, -1)])
    assert got == list(range(got[0], got[0] + len(got)))
    print(f"late by {min(late[1:]):.3f} to {max(late[1:]):.3f} s")
    assert min(late) >= 0 and median(late[1:]) < 0.5


@ONE_SERVER
@pytest.mark.parametrize("table", [POLL, APPEND], ids=["handle", "command"])
def test_each_second_is_there_once_over_three_sigkills(redis, run, tmp_path, table: str) -> None:
    drill(redis, run, tmp_path, table, length=8, kills=3)


@Clock.NEEDED
@ONE_SERVER
@pytest.mark.serial
def test_machines_whose_clocks_are_off_and_are_set_shift_and_double_nothing(redis, run, tmp_path) -> None:
    """Three seconds behind and ahead, and then an hour; it is killed in between, so that each of them generates."""
    tasks, clocks = [], []
    for number, off in enumerate((-3, 3)):
        (folder := tmp_path / str(number)).mkdir()
        clocks.append(Clock(folder))
        clocks[-1].set(off)
        tasks.append(run(POLL, env=clocks[-1].environment))
        shown = subprocess.run([sys.executable, "-c", "import time; print(time.time())"], capture_output=True,
                               env=environment(clocks[-1].environment), check=True).stdout  # fmt: skip
        assert abs(float(shown) - time.time()) > 1, "the clock was not set, so this test would show nothing"

    def ticks() -> list[int]:
        return seconds([message.decode() for message in redis.lrange("messages", 0, -1)] + handled(tmp_path))

    def by_redis_clock() -> float:
        now = redis.time()
        return now[0] + now[1] / 1e6

    def in_time(number: int) -> None:
        for _ in range(number):
            before = len(set(ticks()))
            wait_until(lambda before=before: len(set(ticks())) > before, "the next tick")
            # By another clock it would be seconds off at every look. A busy machine is late at some.
            wait_until(lambda: -0.1 < by_redis_clock() - max(ticks()) < 0.9, "a tick that is due by Redis' clock")

    wait_until(lambda: len(ticks()) >= 1)
    in_time(1)
    for clock, off in zip(clocks, (3600, -3600), strict=True):
        clock.set(off)
    in_time(2)
    owner = int(wait_until(lambda: redis.get("generatorId"), "a generator"))
    wait_until(lambda: [task for task in tasks if task.task_id == owner], "its process")[0].send(signal.SIGKILL)
    wait_until(lambda: redis.get("generatorId") not in (None, b"%d" % owner), "the other one generates")
    before = len(set(ticks()))
    wait_until(lambda: len(set(ticks())) >= before + 2)
    in_time(1)
    redis.set("generatorIsActive", 1, ex=600)
    wait_until(lambda: not redis.exists("generatorId"), "the generator gives way")
    wait_until(lambda: not holds_messages(redis), "all is handled")
    got = sorted(set(seconds(handled(tmp_path))))
    assert got == list(range(got[0], got[0] + len(got)))
    assert redis.hget("generator", "generated") == str(len(got)).encode(), "none was pushed twice"
