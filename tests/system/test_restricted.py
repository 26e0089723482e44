"""Servers that forget scripts, lack commands or are full: tasks do without, or one line says what is needed."""

import json
import signal
import threading
from collections.abc import Callable

import pytest
import redis

from tests.servers import ONE_NEW_SERVER, ONE_SERVER, OTHER_NEW_SERVER, Server
from tests.tasks import wait_until

NewServer = Callable[..., Server]
COMMANDS = pytest.mark.parametrize("command", ["getErrors", "retryErrors", "status"])


@ONE_SERVER
def test_another_program_s_script_flush_at_any_moment_harms_nobody(server: Server, start) -> None:
    tasks = [start("--redis", server.url, "--interval", "1", "--heartbeat", "3") for _ in range(2)]
    enough = threading.Event()

    def flush() -> None:
        with server.client() as client:
            while not enough.wait(0.001):
                client.script_flush()

    flushing = threading.Thread(target=flush)
    flushing.start()
    try:
        wait_until(lambda: sum(task.total("generated") for task in tasks) > 200, "they generate")
        wait_until(lambda: sum(task.total("processed") for task in tasks) > 5, "they handle")
    finally:
        enough.set()
        flushing.join()
    for task in tasks:
        task.send(signal.SIGTERM)
    assert [task.wait() for task in tasks] == [0, 0]
    assert "WARNING" not in tasks[0].stderr + tasks[1].stderr


def without(*commands: str) -> list[str]:
    """redis.conf settings of a server that does not know these commands."""
    return [word for name in commands for word in ("rename-command", f"{name} {name.lower()}-of-old")]


@OTHER_NEW_SERVER
def test_what_only_accelerates_is_done_without(new_server: NewServer, start) -> None:
    """No INFO, no CLIENT, no notices, no digests of scripts: a fleet works, hands over and ends all the same."""
    server = new_server(*without("INFO", "CLIENT", "SUBSCRIBE", "PUBLISH", "EVALSHA", "MULTI", "COMMAND"))
    options = ("--redis", server.url, "--interval", "20", "--wait", "1", "--heartbeat", "2",
               "--delivery", "at-least-once")  # fmt: skip
    first = start(*options)
    wait_until(first.is_generator, "the first task generates")
    second = start(*options)
    wait_until(lambda: second.total("processed") > 3, "the second one handles")
    first.send(signal.SIGTERM)
    wait_until(second.is_generator, "the second one generates")
    status = start("status", "--redis", server.url)
    assert (status.wait(), status.stderr) == (0, "")
    second.send(signal.SIGTERM)
    assert (first.wait(), second.wait()) == (0, 0)
    assert "WARNING" not in first.stderr + second.stderr
    assert "Traceback" not in first.stderr + second.stderr


def test_what_a_task_needs_is_named_when_the_server_lacks_it(new_server: NewServer, start) -> None:
    server = new_server(*without("HGET", "BLPOP", "MULTI"))
    task = start("--redis", server.url)
    assert task.wait() == 77
    [line] = task.stderr.splitlines()
    assert "lacks BLPOP, HGET (renamed or disabled)" in line
    assert task.lines == []


@COMMANDS
@ONE_NEW_SERVER
def test_what_a_command_needs_is_named_when_the_server_lacks_it(new_server: NewServer, start, command: str) -> None:
    server = new_server(*without("EVAL", "EVALSHA", "SET", "LLEN"))
    task = start(command, "--redis", server.url)
    assert task.wait() == 77
    [line] = task.stderr.splitlines()
    assert "refuses: " in line and "unknown" in line.lower()


@ONE_NEW_SERVER
def test_the_password_of_a_renamed_auth_is_not_repeated(new_server: NewServer, start) -> None:
    server = new_server(*without("AUTH"))
    task = start("--redis", f"redis://:s3cret@127.0.0.1:{server.port}/0")
    assert task.wait() == 77
    [line] = task.stderr.splitlines()
    assert "refuses: unknown command" in line and "AUTH" in line
    assert "s3cret" not in line


@ONE_NEW_SERVER
def test_a_server_without_a_place_for_us_is_said_so(new_server: NewServer, start) -> None:
    server = new_server("maxclients", "1")
    with server.client() as client:
        client.ping()
        for url in (server.url, server.tcp_url):
            task = start("--redis", url)
            assert task.wait() == 69
            [line] = task.stderr.splitlines()
            assert "takes no more connections" in line and "maxclients" in line


@COMMANDS
@ONE_NEW_SERVER
def test_a_server_that_is_loading_is_said_so(new_server: NewServer, start, command: str) -> None:
    server = new_server()
    with server.client() as client:
        client.mset({f"key{i}": i for i in range(20_000)})
        client.save()
    server.kill()
    server.options = ("key-load-delay", "5000", "loading-process-events-interval-bytes", "1024")  # microseconds a key
    server.launch()
    wait_until(server.socket.exists, "it listens")
    task = start(command, "--redis", server.url)
    assert task.wait() == 69
    [line] = task.stderr.splitlines()
    assert "still loading its data; try again when it has finished" in line


@OTHER_NEW_SERVER
def test_status_looks_at_a_full_redis(new_server: NewServer, start) -> None:
    """The generator keeps its flag for two heartbeats in which it cannot push."""
    server = new_server()
    task = start("--redis", server.url, "--interval", "20", "--heartbeat", "60")
    wait_until(task.is_generator, "a generator")
    with server.client() as client:
        client.config_set("maxmemory", "1")
        with pytest.raises(redis.OutOfMemoryError):
            client.set("key", "value")
    status = start("status", "--json", "--redis", server.url)
    assert (status.wait(), status.stderr) == (0, "")
    assert json.loads(status.lines[0])["generator"]["taskId"] == task.task_id


@OTHER_NEW_SERVER
def test_a_task_that_starts_on_a_full_redis_handles_what_fills_it_and_what_comes_back(
    new_server, start, tmp_path
) -> None:
    """Also what comes back after it has waited in vain, because that wait is what a full Redis refuses."""
    (tmp_path / "jobs.py").write_text("def handle(message):\n    pass\n")
    server = new_server()
    with server.client() as client:
        client.rpush("messages", "a", "b")
        client.set("generatorIsActive", 1, ex=600)
        client.config_set("maxmemory", "1")
        task = start("--redis", server.url, "--handle", "jobs:handle", "--delivery", "at-least-once", "--retries", "1")
        wait_until(lambda: task.total("processed") == 2, "they are handled")
        wait_until(lambda: client.info("commandstats").get("cmdstat_blmove", {}).get("rejected_calls"), "it waits")
        client.config_set("maxmemory", "0")
        client.rpush("errors", "c")
        client.config_set("maxmemory", "1")
        assert start("retryErrors", "--redis", server.url).wait() == 0
        wait_until(lambda: client.hget("totals", "processed") == b"3", "what came back is handled")
        task.send(signal.SIGTERM)
        assert task.wait() == 0
        assert "maxmemory" not in task.stderr


@pytest.mark.parametrize("arguments", [["getErrors"], ["retryErrors"], ["retryErrors", "--match", "entry"]])
def test_failed_messages_are_taken_out_of_a_full_redis(new_server: NewServer, start, arguments: list[str]) -> None:
    """They are what fills it, perhaps: so it makes room before it takes any."""
    server = new_server()
    entries = [f"entry {i}".encode() for i in range(1200)]
    with server.client() as client:
        client.rpush("errors", *entries)
        client.config_set("maxmemory", "1")
        with pytest.raises(redis.OutOfMemoryError):
            client.set("key", "value")
        command = start(*arguments, "--redis", server.url)
        assert (command.wait(), command.stderr) == (0, "")
        assert client.llen("errors") == 0
        if arguments == ["getErrors"]:
            assert [json.loads(line)["message"].encode() for line in command.lines] == entries
        else:
            assert client.lrange("messages", 0, -1) == entries
