"""The proxy that lays an ambush for a command: what its client and the server see of each fault."""

import socket
import time
from collections.abc import Iterator

import pytest
import redis as redis_py

from gtask.store import scripts
from tests.commands import Ambush, CommandProxy, frame_end, name_of, words_of


@pytest.fixture
def proxy(server) -> Iterator[CommandProxy]:
    with CommandProxy(server.socket) as proxy:
        yield proxy


class Client:
    """One that shows each byte."""

    def __init__(self, proxy: CommandProxy) -> None:
        self.socket = socket.create_connection(("127.0.0.1", proxy.port), timeout=5)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *error: object) -> None:
        self.socket.close()

    def send(self, *words: str) -> None:
        frame = f"*{len(words)}\r\n" + "".join(f"${len(word)}\r\n{word}\r\n" for word in words)
        self.socket.sendall(frame.encode())

    def reads(self, seconds: float = 5) -> bytes:
        self.socket.settimeout(seconds)
        return self.socket.recv(1000)


def laid(proxy: CommandProxy, command: str, fault: str, seconds: float = 0) -> Ambush:
    ambush = Ambush(command, fault, seconds)
    proxy.lay(ambush)
    return ambush


def test_only_the_chosen_command_is_hit_and_only_once(proxy, redis) -> None:
    with Client(proxy) as client:
        ambush = laid(proxy, "INCR", "drop_request")
        client.send("PING")
        assert client.reads() == b"+PONG\r\n"
        assert not ambush.happened.is_set()
        client.send("INCR", "n")
        with pytest.raises(TimeoutError):
            client.reads(0.2)
        assert ambush.happened.is_set()
        client.send("INCR", "n")
        assert client.reads() == b":1\r\n", "the server never saw the first one"
    assert proxy.hits == {("drop_request", "INCR"): 1}
    assert proxy.seen == {"PING": 1, "INCR": 2}


def test_a_dropped_reply_is_of_a_command_that_was_done(proxy, redis) -> None:
    with Client(proxy) as client:
        ambush = laid(proxy, "INCR", "drop_reply")
        client.send("INCR", "n")
        with pytest.raises(TimeoutError):
            client.reads(0.2)
        assert ambush.happened.is_set()
        client.send("INCR", "n")
        assert client.reads() == b":2\r\n"


def test_a_reset_comes_amid_the_reply(proxy, redis) -> None:
    redis.set("k", "x" * 94)
    with Client(proxy) as client:
        laid(proxy, "GET", "reset_amid_reply")
        client.send("GET", "k")
        assert client.reads() == b"$94\r\n" + b"x" * 45
        with pytest.raises(ConnectionResetError):
            client.reads()


def test_a_stalled_command_arrives_late_even_when_its_client_has_given_up(proxy, redis) -> None:
    with Client(proxy) as client:
        ambush = laid(proxy, "INCR", "stall_both_ways", seconds=0.5)
        client.send("INCR", "n")
        with pytest.raises(TimeoutError):
            client.reads(0.2)
        assert redis.get("n") is None
    assert ambush.happened.wait(5)
    deadline = time.monotonic() + 5
    while redis.get("n") is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert redis.get("n") == b"1"


def test_nothing_else_goes_over_a_stalled_connection(proxy, redis) -> None:
    with Client(proxy) as client, Client(proxy) as other:
        client.send("SUBSCRIBE", "c")
        client.reads()
        laid(proxy, "PING", "stall_both_ways", seconds=0.5)
        began = time.monotonic()
        client.send("PING")
        time.sleep(0.1)
        redis.publish("c", "told")
        other.send("PING")
        assert other.reads() == b"+PONG\r\n" and time.monotonic() - began < 0.4
        assert b"told" in client.reads() and time.monotonic() - began > 0.5


def test_a_delay_is_on_both_ways(proxy, redis) -> None:
    with Client(proxy) as client:
        laid(proxy, "INCR", "delay_command", seconds=0.3)
        began = time.monotonic()
        client.send("INCR", "n")
        time.sleep(0.2)
        assert redis.get("n") is None
        assert client.reads() == b":1\r\n"
        assert time.monotonic() - began > 0.6


def test_a_split_reply_comes_in_single_bytes(proxy, redis) -> None:
    def pieces() -> list[bytes]:
        redis.delete("n")
        with Client(proxy) as client:
            laid(proxy, "INCR", "split_to_bytes")
            client.send("INCR", "n")
            received = [client.reads()]
            while b"".join(received) != b":1\r\n":
                received.append(client.reads())
            return received

    # A client that a busy machine keeps from reading finds several at once.
    assert any(pieces() == [b":", b"1", b"\r", b"\n"] for _ in range(5))


def test_an_ambush_outlives_a_connection_that_was_lost_before_it_happened(proxy, redis) -> None:
    ambush = laid(proxy, "BLPOP", "drop_reply")
    with Client(proxy) as client:
        client.send("BLPOP", "q", "0")
        while not redis.info("clients")["blocked_clients"]:
            time.sleep(0.01)
        redis.client_kill_filter(_type="normal", skipme=True)
        assert client.reads() == b""
    with Client(proxy) as client:
        redis.rpush("q", "m")
        client.send("BLPOP", "q", "0")
        assert ambush.happened.wait(5)


def test_scripts_have_their_names(proxy, server) -> None:
    script = scripts.POP
    with redis_py.Redis(port=proxy.port, protocol=2) as client:
        client.eval(script.text, 2, "messages", "apart", 0, 1)
        client.evalsha(script.digest, 2, "messages", "apart", 0, 1)
    assert proxy.seen["pop"] == 2


@pytest.mark.parametrize(
    "frame",
    [
        b"+OK\r\n", b"-ERR no\r\n", b":12\r\n", b"$-1\r\n", b"$0\r\n\r\n", b"$4\r\na\r\nb\r\n", b"*-1\r\n", b"*0\r\n",
        b"*3\r\n$1\r\na\r\n*1\r\n:1\r\n$-1\r\n",
    ],
)  # fmt: skip
def test_the_borders_of_values_are_known(frame: bytes) -> None:
    assert frame_end(frame + b":1\r\n") == len(frame)
    assert [frame_end(frame[:length]) for length in range(len(frame))] == [None] * len(frame)


def test_words_are_taken_out_of_a_request() -> None:
    words = words_of(b"*3\r\n$4\r\nevAl\r\n$4\r\na\r\nb\r\n$0\r\n\r\n")
    assert words == [b"evAl", b"a\r\nb", b""]
    assert name_of(words) == "EVAL"
