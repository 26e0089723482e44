"""`gtask status`: what it says, what it exits with, and that it only reads."""

import json
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.servers import ONE_SERVER, OTHER_SERVER, Monitor, Server
from tests.support.processes import environment
from tests.tasks import PATIENCE, wait_until

JOBS = """
import os, time

def generate(last):
    return map(str, range(int(last or 0) + 1, 11))

def handle(message):
    if message in ("4", "7"):
        raise ValueError(message)
    while message == "10" and not os.path.exists("go"):
        time.sleep(0.01)
"""
FIELDS = {"generator", "tasks", "messages", "inflight", "errors", "generated", "processed", "failed", "redelivered"}
# Commands that change nothing; CLIENT and AUTH concern the connection alone.
READS = {"time", "get", "pttl", "hget", "hgetall", "hkeys", "hstrlen", "hvals", "zrange", "zcard", "llen", "info",
         "client", "exists", "ping", "eval", "evalsha"}  # fmt: skip

Status = Callable[..., tuple[int, str, str]]


@pytest.fixture
def status(server: Server, tmp_path: Path) -> Status:
    """Runs `gtask status`: exit code, stdout, stderr."""

    def status(*arguments: str, url: str = server.url) -> tuple[int, str, str]:
        done = subprocess.run(
            [sys.executable, "-m", "gtask", "status", "--redis", url, *arguments],
            cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=PATIENCE,
            check=False,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    return status


@pytest.fixture
def fleet(server: Server, redis, start, tmp_path: Path) -> list:
    """A generator that has pushed 10 messages, a handler that has handled 9 of them (two failed) and holds one, and
    one message that another program has pushed."""
    (tmp_path / "jobs.py").write_text(JOBS)
    options = ("--redis", server.url, "--generate", "jobs:generate", "--handle", "jobs:handle", "--interval", "0",
               "--delivery", "at-least-once", "--concurrency", "1")  # fmt: skip
    # With the usual heartbeat a busy machine might keep the generator from renewing its flag, and the handler from
    # telling that it lives.
    generator = start(*options, "--heartbeat", "5")
    wait_until(generator.is_generator, "the generator")
    handler = start(*options, "--heartbeat", "5")
    wait_until(lambda: redis.hget("totals", "processed") == b"9" and not redis.exists("messages"), "nine messages")
    redis.rpush("messages", "11")
    return [generator, handler]


def test_the_json_form_has_the_fields_of_the_specification_and_the_sum_holds(redis, status: Status, fleet) -> None:
    generator, handler = fleet
    code, out, err = status("--json")
    assert (code, err) == (0, "")
    assert out.endswith("\n") and out.count("\n") == 1
    seen = json.loads(out)
    assert seen.keys() >= FIELDS
    assert seen.keys() - FIELDS == {
        "later", "retried", "followups", "pushed", "purged", "postponed", "failure", "last", "ended", "schedule"
    }, "the sum needs the first five"  # fmt: skip
    assert seen["failure"] is None
    assert seen["schedule"] is None
    assert seen["generator"].keys() == {"taskId", "ttl"}
    assert seen["generator"]["taskId"] == generator.task_id
    assert 0 < seen["generator"]["ttl"] <= 10
    assert [task.keys() for task in seen["tasks"]] == [{"taskId", "host", "pid", "age", "inflight", "longest"}] * 2
    by_id = {task["taskId"]: task for task in seen["tasks"]}
    for task, inflight in ((generator, 0), (handler, 1)):
        one = by_id[task.task_id]
        assert (one["host"], one["pid"], one["inflight"]) == (socket.gethostname(), task.pid, inflight)
        assert 0 <= one["age"] < 5 * 5
    counts = {name: seen[name] for name in FIELDS - {"generator", "tasks"}}
    assert counts == {
        "messages": 1, "inflight": 1, "errors": 2, "generated": 10, "processed": 9, "failed": 2, "redelivered": 0,
    }  # fmt: skip
    assert seen["generated"] + 1 == seen["messages"] + seen["inflight"] + seen["processed"], "1: another program's"


@ONE_SERVER
def test_a_person_reads_the_same_and_what_cannot_be_known(redis, status: Status, fleet, tmp_path: Path) -> None:
    generator, handler = fleet
    code, out, err = status()
    assert (code, err) == (0, "")
    assert re.search(rf"^generator +task {generator.task_id}, its flag lives \d+\.\d s more$", out, re.M)
    for task, inflight in ((generator, 0), (handler, 1)):
        assert re.search(rf"^ +{task.task_id} +{task.pid} +\d+\.\d s +{inflight} +{socket.gethostname()}$", out, re.M)
    assert re.search(r"^ +10  generated$", out, re.M)
    assert "generated + retried + 1 = waiting + in flight + processed: what other programs pushed, less what" in out
    assert redis.lpop("messages") == b"11"
    assert "the sum holds: generated + retried = waiting + in flight + processed" in status()[1]


@OTHER_SERVER
def test_the_sum_holds_too_when_failed_messages_were_retried_and_the_dead_s_came_back(
    redis, status: Status, fleet
) -> None:
    redis.lpop("messages")
    seen = json.loads(status("--json")[1])
    fleet[1].kill()
    redis.zadd("tasks", {fleet[1].task_id: 1})  # its time is over
    wait_until(lambda: redis.llen("messages") == 1, "the dead one's message")
    redis.rpush("errors", "another program's")
    subprocess.run(
        [sys.executable, "-m", "gtask", "retryErrors", "--redis", f"unix://{redis.connection_pool.connection_kwargs['path']}"],
        check=True, capture_output=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    after = json.loads(status("--json")[1])
    assert [task["taskId"] for task in after["tasks"]] == [fleet[0].task_id], "the dead one is not shown"
    assert after["inflight"] == 0
    assert after["redelivered"] == 1
    assert after["errors"] == 0
    assert after["messages"] == 4
    assert after["generated"] + after["retried"] == after["messages"] + after["processed"]
    assert after["processed"] == seen["processed"]


@OTHER_SERVER
def test_nobody_generates_is_exit_1(status: Status) -> None:
    code, out, err = status("--json")
    assert (code, err) == (1, "")
    assert json.loads(out)["generator"] is None
    code, out, err = status()
    assert (code, err) == (1, "")
    assert "nobody holds the flag" in out


@ONE_SERVER
def test_another_program_that_holds_the_flag_has_no_id(redis, status: Status) -> None:
    redis.set("generatorIsActive", 1, ex=600)
    code, out, _ = status("--json")
    assert code == 0
    generator = json.loads(out)["generator"]
    assert generator["taskId"] is None
    assert 0 < generator["ttl"] <= 600
    redis.set("generatorId", 5, ex=600)  # of a gtask whose flag was overwritten
    assert json.loads(status("--json")[1])["generator"]["taskId"] is None
    assert "another program, its flag lives" in status()[1]
    redis.persist("generatorIsActive")
    code, out, _ = status("--json")
    assert (code, json.loads(out)["generator"]) == (1, {"taskId": None, "ttl": None})


@ONE_SERVER
def test_it_only_reads(server: Server, redis, status: Status, fleet) -> None:
    fleet[1].kill()
    fleet[0].kill()
    before = {key: redis.dump(key) for key in redis.keys("*") if redis.ttl(key) == -1}
    monitor = Monitor(server.socket)
    status("--json")
    status()
    redis.ping()
    wait_until(lambda: monitor.of("PING"), "the end of the history")
    monitor.close()
    commands = {executed.words[0].lower() for executed in monitor.history}
    assert "hgetall" in commands
    assert commands <= READS
    assert {key: redis.dump(key) for key in before} == before


@OTHER_SERVER
def test_it_looks_into_its_namespace_only(redis, status: Status) -> None:
    redis.set("other:generatorIsActive", 1, ex=600)
    redis.rpush("other:messages", "a", "b")
    assert status("--json")[0] == 1
    code, out, _ = status("--json", "--namespace", "other")
    assert (code, json.loads(out)["messages"]) == (0, 2)


@ONE_SERVER
def test_without_redis_it_is_one_line_and_69(tmp_path: Path, status: Status) -> None:
    code, out, err = status("--json", url=f"unix://{tmp_path}/nobody")
    assert (code, out) == (69, "")
    assert err.count("\n") == 1
    assert f"no Redis at unix://{tmp_path}/nobody" in err


@ONE_SERVER
@pytest.mark.parametrize("how", ["another program", "persist"])
def test_a_flag_that_never_expires_is_said_once_and_is_not_taken(server, redis, start, status, how) -> None:
    task = start("--redis", server.url, "--heartbeat", "0.5", "--namespace", "shop", "--interval", "60000")
    wait_until(task.is_generator)
    if how == "persist":
        wait_until(lambda: redis.persist("shop:generatorIsActive"), "the flag is there; a late heartbeat lets it end")
    else:
        redis.set("shop:generatorIsActive", 1)
    wait_until(lambda: "shop:generatorIsActive never expires" in task.stderr, "the warning")
    with server.monitor() as monitor:
        wait_until(lambda: len(monitor.of("SET", "shop:generatorIsActive")) >= 4, "it goes on asking")
    assert task.stderr.count("never expires") == 1
    assert "redis-cli DEL shop:generatorIsActive" in task.stderr
    assert redis.ttl("shop:generatorIsActive") == -1
    code, out, _ = status("--namespace", "shop")
    assert code == 1
    assert "another program, perhaps: its flag never expires" in out
    assert "redis-cli DEL shop:generatorIsActive" in out
    redis.delete("shop:generatorIsActive")
    wait_until(lambda: redis.get("shop:generatorId") == b"1", "it generates again")
    wait_until(lambda: status("--namespace", "shop")[0] == 0, "and is seen before a late heartbeat lets the flag end")


SLOW = """
import ctypes, pathlib, time

holding_the_gil = ctypes.PyDLL(None)

def handle(message):
    if message.startswith("waits"):
        while not pathlib.Path("go").exists():
            time.sleep(0.01)
    elif message.startswith("computes"):
        while not pathlib.Path("go").exists():
            holding_the_gil.usleep(5_000)  # which is for others as if it computed, and uses no core
"""


@ONE_SERVER
@pytest.mark.parametrize("message", ["waits \x1b[2J" + 100 * "x", "computes"])
def test_the_message_at_which_a_task_has_been_for_longest_is_shown_while_it_takes_long(
    redis, server, start, status: Status, tmp_path, message: str
) -> None:
    (tmp_path / "jobs.py").write_text(SLOW)
    redis.set("generatorIsActive", 1, ex=600)
    redis.rpush("messages", "quick", message)
    with server.monitor() as monitor:
        task = start("--redis", server.url, "--handle", "jobs:handle", "--heartbeat", "2", "--concurrency", "2")
        wait_until(lambda: redis.get(f"tasks:longest:{task.task_id}"), "what takes long")
        first = wait_until(lambda: monitor.of("SET", f"tasks:longest:{task.task_id}"))[0].at
        assert first - monitor.of("BLPOP", "messages")[0].at >= 6, "three heartbeats: until then beats are plain"
    redis.rpush("messages", "quick")
    [seen] = json.loads(status("--json")[1])["tasks"]
    began = message[:60] + ("…" if len(message) > 60 else "")
    assert seen["longest"]["message"] == began and seen["longest"]["seconds"] >= 6
    out = status()[1]
    assert re.search(rf"^ +has been at {re.escape(repr(began))} for \d+\.\d s$", out, flags=re.MULTILINE), out
    with server.monitor() as monitor:
        (tmp_path / "go").touch()
        wait_until(lambda: monitor.of("DEL", f"tasks:longest:{task.task_id}"), "the end of it, told with a heartbeat")
        wait_until(lambda: not redis.exists(f"tasks:longest:{task.task_id}"))
    [seen] = json.loads(status("--json")[1])["tasks"]
    assert seen["longest"] is None and "has been at" not in status()[1]


@OTHER_SERVER
def test_what_a_dead_task_was_at_is_forgotten_with_it(redis, server, start, tmp_path) -> None:
    (tmp_path / "jobs.py").write_text(SLOW)
    redis.set("generatorIsActive", 1, ex=600)
    redis.rpush("messages", "waits")
    task = start("--redis", server.url, "--handle", "jobs:handle", "--heartbeat", "1")
    key = f"tasks:longest:{task.task_id}"
    wait_until(lambda: redis.exists(key), "what takes long")
    assert 0 < redis.pttl(key) <= 5000
    task.kill()
    wait_until(lambda: not redis.exists(key), "five heartbeats")
