"""What a task looks at before it starts: a server that is old enough, and one that evicts nothing."""

import re
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from tests.servers import ONE_SERVER, Server
from tests.tasks import TaskProcess, wait_until


class OldServer:
    """Answers every command: INFO as an old Redis does, an unknown one with an error."""

    def __init__(self, version: str) -> None:
        self._info = f"# Server\r\nredis_version:{version}\r\nredis_mode:standalone\r\n".encode()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = "redis://127.0.0.1:%d/0" % self._listener.getsockname()[1]  # noqa: UP031
        self.commands: list[bytes] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                with connection, connection.makefile("rb") as lines:
                    self._serve(connection, lines)

    def _serve(self, connection: socket.socket, lines) -> None:
        while first := lines.readline():
            words = [lines.read(int(lines.readline()[1:]) + 2)[:-2] for _ in range(int(first[1:]))]
            self.commands.append(words[0].upper())
            if words[0].upper() == b"INFO":
                reply = b"$%d\r\n%s\r\n" % (len(self._info), self._info)
            elif words[0].upper() in (b"CLIENT", b"SELECT"):
                reply = b"+OK\r\n"
            elif words[0].upper() == b"EXISTS":
                reply = b":0\r\n"
            else:
                reply = b"-ERR unknown command\r\n"
            connection.sendall(reply)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


@pytest.fixture
def old_server() -> Iterator[Callable[[str], OldServer]]:
    made: list[OldServer] = []

    def make(version: str) -> OldServer:
        made.append(OldServer(version))
        return made[-1]

    yield make
    for server in made:
        server.close()


@pytest.mark.parametrize(
    ("command", "version"),
    [
        ((), "6.0.16"),
        ((), "5.0.14"),
        ((), "2.8.24"),
        (("getErrors",), "6.0.16"),
        (("retryErrors",), "5.0.14"),
        (("status",), "2.8.24"),
    ],
)
def test_a_server_older_than_6_2_is_refused_in_one_line(start, old_server, command: tuple, version: str) -> None:
    server = old_server(version)
    task: TaskProcess = start(*command, "--redis", server.url)
    assert task.wait() == 69
    assert task.lines == []
    assert task.stderr == f"gtask: Redis at {server.url} is {version}; gtask needs 6.2 or newer\n"
    assert b"INCR" not in server.commands


def test_a_server_that_may_evict_messages_is_warned_of_in_one_line(new_server: Callable[..., Server], start) -> None:
    server = new_server("maxmemory-policy", "allkeys-lru")
    task = start("--redis", server.url)
    wait_until(task.is_generator, "the start all the same")
    lines = [line for line in task.stderr.splitlines() if "maxmemory" in line]
    assert len(lines) == 1
    assert re.search(r"WARNING .*maxmemory-policy allkeys-lru .*noeviction", lines[0])


@ONE_SERVER
def test_a_server_that_evicts_nothing_is_not_mentioned(server: Server, start) -> None:
    task = start("--redis", server.url)
    wait_until(task.is_generator, "the start")
    assert task.stderr == ""


@pytest.mark.parametrize("command", ["getErrors", "retryErrors", "status"])
def test_a_command_that_redis_does_not_permit_is_77_in_one_line(server: Server, redis, start, command: str) -> None:
    redis.rpush("errors", "an entry")
    redis.execute_command("ACL", "SETUSER", "worker", "reset", "on", ">secret", "~*", "+@all", "-@scripting", "-llen")
    task = start(command, "--redis", f"redis://worker:secret@127.0.0.1:{server.port}/0")
    assert task.wait() == 77
    [line] = task.stderr.splitlines()
    assert "refuses" in line and "no permissions" in line


@pytest.mark.parametrize("denied", ["@scripting", "eval"])
def test_a_user_who_may_not_run_scripts_is_refused_in_one_line(server: Server, redis, start, denied: str) -> None:
    redis.execute_command("ACL", "SETUSER", "worker", "reset", "on", ">secret", "~*", "&*", "+@all", f"-{denied}")
    task = start("--redis", f"redis://worker:secret@127.0.0.1:{server.port}/0")
    assert task.wait() == 77
    [line] = task.stderr.splitlines()
    assert "no permissions" in line and "a task needs scripts" in line
    assert "secret" not in line


def test_a_user_who_may_neither_publish_subscribe_nor_unblock_works_all_the_same(server: Server, redis, start) -> None:
    """Managed servers refuse some of these: they only make a handover and an end faster."""
    redis.execute_command("ACL", "SETUSER", "worker", "reset", "on", ">secret", "~*", "+@all",
                          "-publish", "-subscribe", "-client|unblock")  # fmt: skip
    url = f"redis://worker:secret@127.0.0.1:{server.port}/0"
    first = start("--redis", url, "--interval", "20", "--wait", "1", "--heartbeat", "2")
    wait_until(first.is_generator, "the first task generates")
    second = start("--redis", url, "--interval", "20", "--wait", "1", "--heartbeat", "2")
    wait_until(lambda: second.total("processed") > 3, "the second one handles")
    first.send(signal.SIGTERM)
    wait_until(second.is_generator, "the second one generates")
    second.send(signal.SIGTERM)
    assert (first.wait(), second.wait()) == (0, 0)
    assert "Traceback" not in first.stderr + second.stderr
