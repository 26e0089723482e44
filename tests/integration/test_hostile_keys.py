"""Every key that gtask reads, with a value of every other type and with nonsense of the right one.

Whatever is called then works, or raises one line that names the key; and no message is lost.
"""

import json
import os
from collections.abc import Callable
from hashlib import sha1
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from gtask import failed
from gtask.exceptions import NotMember, WrongType
from gtask.recovery import recover
from gtask.store import Came, Keys, Member, Postponed, Settled, Store
from gtask.text import failure_record
from tests.servers import ONE_SERVER
from tests.support.servers import Server

TYPES = {
    "taskId": "string", "generatorIsActive": "string", "generatorId": "string", "generator": "hash", "messages": "list",
    "errors": "list", "tasks": "zset", "tasks:members": "hash", "tasks:claims": "hash", "tasks:reaped": "zset",
    "tasks:resumed": "string", "tasks:long:1": "hash", "tasks:longest:1": "string", "inflight:1": "list",
    "messages:suspects": "hash", "messages:apart": "list", "messages:later": "zset", "messages:attempts": "hash",
    "totals": "hash", "errors:reader": "string",
}  # fmt: skip
MAKE: dict[str, Callable[[Redis, str], object]] = {
    "string": lambda redis, key: redis.set(key, "text"),
    "list": lambda redis, key: redis.rpush(key, "text"),
    "hash": lambda redis, key: redis.hset(key, "text", "text"),
    "zset": lambda redis, key: redis.zadd(key, {"text": 1}),
    "set": lambda redis, key: redis.sadd(key, "text"),
    "stream": lambda redis, key: redis.xadd(key, {"text": "text"}),
}

LAST = str(2**63 - 1)
LARGE = b"x" * 2_000_000  # more than what gtask reads or sends at once
TEXTS = ["", "text", "-1", "1.5", "inf", "nan", LAST, "9" * 400, "007", "٧", "\x1b[2J", b"\xff", LARGE]
RECORDS = [*TEXTS, "{}", "[]", "null", "[" * 100_000, '{"heartbeat": "1", "wait": 1}', '{"heartbeat": 1, "wait": []}',
           '{"heartbeat": 1e999, "wait": 1e999}', '{"heartbeat": NaN, "wait": 1}', '{"heartbeat": -1, "wait": -1}',
           '{"heartbeat": 1, "wait": 1, "host": [], "pid": {}}', '{"heartbeat": 1, "wait": 1, "host": "\x1b[2J"}',
           '{"message": "m", "error": NaN, "taskId": 1, "at": ""}',
           '{"message": "m", "error": "", "taskId": [], "at": 1}',
           '{"message": "m", "error": %s, "taskId": 1, "at": ""}' % ("[" * 980 + "]" * 980)]  # fmt: skip
# Where nonsense may stand: the key, the command that writes it there ("?"), and what it may be.
PLACES = [
    *((key, ["SET", key, "?"], TEXTS) for key, kind in TYPES.items() if kind == "string"),
    *((key, ["LPUSH", key, "?"], RECORDS) for key, kind in TYPES.items() if kind == "list"),
    *((key, ["ZADD", key, score, "?"], TEXTS) for key in ("tasks", "tasks:reaped") for score in ("-inf", "1", "+inf")),
    *(("tasks", ["ZADD", "tasks", "?", task_id], ["-inf", "-1e300", "0", "1e300", "+inf"]) for task_id in "12"),
    *(("generator", ["HSET", "generator", field, "?"], TEXTS) for field in (
        "term", "step", "generated", "last", "pushed_at", "ended", "life", "generate", "failures", "failed", "retry_at",
        "error")),
    *(("totals", ["HSET", "totals", field, "?"], TEXTS) for field in (
        "processed", "errors", "redelivered", "retried", "followups", "pushed", "postponed", "purged")),
    *((key, ["HSET", key, "?", "1"], TEXTS) for key in ("tasks:members", "tasks:claims", "tasks:long:1")),
    *(("tasks:members", ["HSET", "tasks:members", task_id, "?"], RECORDS) for task_id in "127"),
    *(("tasks:claims", ["HSET", "tasks:claims", task_id, "?"], TEXTS) for task_id in "12"),
    ("tasks:long:1", ["HSET", "tasks:long:1", "msg-1", "?"], TEXTS),
    *(("messages:later", ["ZADD", "messages:later", score, "?"], TEXTS) for score in ("-inf", "1", "+inf")),
    ("messages:later", ["ZADD", "messages:later", "?", f"{1:016} msg-1"], ["-inf", "-1e300", "0", "1e300", "+inf"]),
    *(("messages:attempts", ["HSET", "messages:attempts", sha1(message).hexdigest(), "?"], TEXTS) for message in (
        b"msg-dead", b"msg-2", b"msg-again")),
    ("messages:suspects", ["HSET", "messages:suspects", sha1(b"msg-dead").hexdigest(), "?"], TEXTS),
]  # fmt: skip


class Life:
    """All that tasks and commands call."""

    def __init__(self, server: Server, out: Path) -> None:
        """Three messages wait, one is in hand, one comes again, one is with a dead task, one has failed, and a task
        generates."""
        self.url, self.out = server.url, out
        out.write_bytes(b"")
        self.taken: list[str] = []
        self.held: list[str] = []
        record = {"host": "h", "pid": 7, "heartbeat": 1, "wait": 1, "generate": "jobs:generate"}
        self.me, self.dead = (Member(n, json.dumps({**record, "nonce": n})) for n in (1, 2))
        self.new = Member(3, json.dumps({**record, "nonce": 3}))
        with server.client() as redis:
            store = Store(self.url, "", heartbeat=4)
            for member in (self.me, self.dead):
                store.next_id()
                store.beat(member, join=True)
            redis.rpush("messages", "msg-dead", "msg-again", "msg-1", "msg-2", "msg-3")
            store.claim(self.dead, 1, 1, Settled())
            store.claim(self.me, 1, 1, Settled())
            store.claim(self.me, 2, 1, Settled(all=True), Came(later=[Postponed("msg-again", 3600_000, 1, 1)]))
            redis.zadd("tasks", {"2": 1})
            redis.rpush("errors", failure_record("msg-failed", "ValueError: no", 2))
            self.term = store.beat(self.me, want=True).term
            store.push(self.me, self.term, 1, [b"msg-4"])
            store.close()

    def steps(self) -> dict[str, Callable[[Store], object]]:
        return {
            "connect": lambda store: (store.connect(), store.check_commands()),
            "id": lambda store: store.next_id(),
            "join": lambda store: store.beat(self.new, join=True),
            "look": self.look,
            "renew": lambda store: store.beat(self.me, term=self.term),
            "elect": self.elect,
            "position": lambda store: store.position(self.me, self.term),
            "push": lambda store: store.push(self.me, self.term, 1, [b"msg-5"]),
            "keep": lambda store: self.print(store, keep=True, width=None),
            "keep for people": lambda store: self.print(store, keep=True, width=80),
            "recover": lambda store: recover(store, 2),
            "claim": lambda store: self.held.extend(store.claim(self.me, 3, 2, Settled(stay=["msg-1"], away=True))[1]),
            "acknowledge": lambda store: store.claim(self.me, 4, 0, Settled(stay=self.held), Came(["msg-x"])),
            "follow up": lambda store: store.claim(self.me, 5, 0, Settled(stay=self.held), Came([], [b"msg-f"])),
            "put off": self.put_off,
            "settle": lambda store: store.settle(self.new, 1, Came(["msg-y"], [b"msg-z"])),
            "retry": lambda store: failed.retry_errors(store, None),
            "print": lambda store: self.print(store, keep=False, width=None),
            "give back": lambda store: store.give_back(self.me, 7, leave=False, unstarted=1),
            "end of term": lambda store: store.release_failed(self.me, self.term, "it raised"),
            "pop": lambda store: self.taken.extend(store.pop(2)),
            "pop all": lambda store: self.taken.extend(store.pop(100)),
            "leave": lambda store: store.give_back(self.me, 8, leave=True),
        }  # fmt: skip

    def put_off(self, store: Store) -> None:
        later = [Postponed(message, 0, 2, 2) for message in self.held[:1]]
        self.held.extend(store.claim(self.me, 6, 1, Settled(stay=self.held[1:]), Came(later=later)).messages)

    def elect(self, store: Store) -> None:
        self.term = store.beat(self.me, want=True).term

    def look(self, store: Store) -> None:
        seen = store.snapshot()
        json.loads(seen.as_json(), parse_constant=pytest.fail)
        assert "\x1b" not in seen.as_text(store.keys.flag)

    def print(self, store: Store, *, keep: bool, width: int | None) -> None:
        with open(os.devnull if keep else self.out, "ab") as file:
            failed.get_errors(store, file.fileno(), keep=keep, width=width)

    def run(self, key: str) -> list[str]:
        """Takes each step. Returns those that could not be taken."""
        names = []
        store = Store(self.url, "", heartbeat=4)
        for what, step in self.steps().items():
            try:
                step(store)
            except NotMember:
                pass
            except WrongType as error:
                said = str(error)
                if not said.startswith(f"{key} holds ") or not said.isprintable() or len(said) > 350:
                    raise
                names.append(what)
        store.close()
        return names

    def seen(self, redis: Redis, messages: list[bytes]) -> list[bytes]:
        """Which of these messages are where a message may be, or were taken out."""
        found: list[Any] = [" ".join(self.taken).encode("utf-8", "surrogateescape"), self.out.read_bytes()]
        keys: list[bytes] = redis.keys()  # type: ignore[assignment]
        with redis.pipeline(transaction=False) as types, redis.pipeline(transaction=False) as places:
            for key in keys:
                types.type(key)
            for key, kind in zip(keys, types.execute(), strict=True):
                match kind, key.partition(b":")[0]:
                    case b"list", _:
                        places.lrange(key, 0, -1)
                    case b"zset", b"messages":
                        places.zrange(key, 0, -1)
                    case b"hash", b"tasks":
                        places.hkeys(key)
            found += [text for texts in places.execute() for text in texts]
        everything = b" ".join(found)
        return [message for message in messages if message in everything]


@pytest.fixture
def life(server: Server, tmp_path: Path) -> Life:
    return Life(server, tmp_path / "out")


MESSAGES = [b"msg-1", b"msg-2", b"msg-3", b"msg-4", b"msg-dead", b"msg-failed", b"msg-again"]


def test_these_are_all_keys() -> None:
    keys = Keys("")
    names = {value for name, value in vars(keys).items() if not name.startswith("_")}
    assert {*names, keys.inflight(1), keys.long(1), keys.longest(1)} == set(TYPES)


def test_without_a_hostile_key_every_step_can_be_taken(redis: Redis, life: Life) -> None:
    assert life.run("nothing") == []
    messages = [*MESSAGES, b"msg-5", b"msg-x", b"msg-y", b"msg-z", b"msg-f"]
    assert life.seen(redis, messages) == messages


@pytest.mark.parametrize(("key", "kind"), [(key, kind) for key in TYPES for kind in MAKE if kind != TYPES[key]])
def test_a_key_of_another_type_is_named_and_costs_no_message(redis: Redis, life: Life, key: str, kind: str) -> None:
    redis.delete(key)
    MAKE[kind](redis, key)
    before = life.seen(redis, MESSAGES)
    ended = life.run(key)
    assert ended or key in ("generatorIsActive", "generatorId"), "to set a flag is to overwrite it"
    assert life.seen(redis, before) == before


@ONE_SERVER
@pytest.mark.parametrize(("key", "command", "values"), PLACES, ids=[" ".join(command) for _, command, _ in PLACES])
def test_nonsense_of_the_right_type_is_named_or_passed_over(
    redis: Redis, server: Server, tmp_path: Path, key: str, command: list[str], values: list[str | bytes]
) -> None:
    for value in values:
        redis.flushall()
        life = Life(server, tmp_path / "out")
        redis.execute_command(*(value if word == "?" else word for word in command))
        life.run(key)
        assert life.seen(redis, MESSAGES) == MESSAGES, value[:60]
