"""A schedule over a hundred takeovers in simulated time: the real generate and the real scripts, on a real server.

Time is given: waiting moves it on. Each generator reads it from a clock that is off by up to three seconds, dies when
its time has come, before or after a push, and tries to push once more when its successor is there.
"""

import json
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from itertools import pairwise
from random import Random

import pytest

from gtask.cron.crontab import Crontab, read
from gtask.cron.message import parse
from gtask.cron.position import read as read_position
from gtask.cron.source import source
from gtask.items import encoded
from gtask.store import Member, Store
from tests.servers import Server
from tests.support.servers import binaries

OFF = 3.0  # seconds
ENTRIES = {
    "berlin": 'cron = "*/20 0-4 * * *"\nmissed = "all"\nwithin = "10d"\ntimezone = "Europe/Berlin"',
    "new-york": 'cron = "15 1,2,3 * * *"\nmissed = "all"\nwithin = "10d"\ntimezone = "America/New_York"',
    "sydney": 'cron = "30 * * * *"\nmissed = "latest"\ntimezone = "Australia/Sydney"',
    "utc": 'every = "47m"\nmissed = "latest"',
}
ADDED = {"added": 'cron = "30 2 * * *"\nmissed = "all"\nwithin = "10d"\ntimezone = "Europe/Berlin"'}
# Within these all three clocks are changed.
SPRING, AUTUMN = ("2026-03-05T00:00", "2026-04-08T00:00"), ("2026-10-01T00:00", "2026-11-04T00:00")


def seconds(text: str) -> int:
    return int(datetime.fromisoformat(text + "+00:00").timestamp())


def table(entries: dict[str, str]) -> Crontab:
    return read("\n".join(f"[{name}]\n{fields}" for name, fields in entries.items()))


class Dies(Exception):
    """The generator's time has come."""


class World:
    """Time, and one generator after the other."""

    def __init__(self, server: Server, begin: int, random: Random) -> None:
        self.now = float(begin)
        self.random = random
        self._server = server
        self._stores: list[Store] = []
        self._late: Callable[[], int | None] = lambda: None  # the last generator's next push
        self.refused = 0  # of these

    def term(self, crontab: Crontab, until: float, off: float, *, early: bool) -> None:
        """One generator lives until then, or, if it may die `early`, perhaps only until shortly before."""
        store, member, term, last = self._elect()
        # The one before wakes, and pushes what it had drawn.
        assert self._late() is None, "a generator that was replaced has pushed"
        self.refused += 1
        before_push = early and self.random.random() < 0.5

        def wait(length: float) -> None:
            self.now += max(length, 0.001)
            if self.now >= until:
                raise Dies

        def push(step: int, batch: list[bytes], position: bytes | None) -> int | None:
            return store.push(member, term, step, batch, position=position)

        messages = source(crontab, lambda: self.now + off, wait, lambda: None)(last)
        try:
            for step, item in enumerate(messages, 1):
                message, position = encoded(item)
                drawn = partial(push, step, [] if message is None else [message], position)
                self._late = drawn
                self.now += self.random.random() / 100
                if before_push and self.now >= until - 3600 and self.random.random() < 0.1:
                    raise Dies
                assert drawn() is not None
                self._late = partial(push, step + 1, [b"late"], b"late")
        except Dies:
            pass

    def _elect(self) -> tuple[Store, Member, int, str | None]:
        store = Store(self._server.url, "", heartbeat=1000)
        self._stores.append(store)
        with self._server.client() as redis:  # the flag's life is over
            redis.delete("generatorIsActive", "generatorId")
        member = Member(store.next_id(), json.dumps({"nonce": len(self._stores), "generate": "gtask.cron:generate"}))
        store.beat(member, join=True)
        beat = store.beat(member, want=True)
        assert beat.elected
        return store, member, beat.term, beat.last

    def close(self) -> None:
        for store in self._stores:
            store.close()


@pytest.fixture
def pushed(server: Server, redis, monkeypatch) -> Iterator[Callable[..., tuple[list[tuple[int, str]], int, int]]]:
    worlds: list[World] = []
    monkeypatch.setattr("gtask.cron.source.LOOK", 600.0)  # otherwise it would look at the time each second, for months

    def run(span: tuple[str, str], seed: int) -> tuple[list[tuple[int, str]], int, int]:
        """All that was pushed in fifty terms, when `added` came to be known, and up to when all was due."""
        begin, end = map(seconds, span)
        random = Random(seed)
        world = World(server, begin, random)
        worlds.append(world)
        deaths = sorted(random.uniform(begin + 3600, end - 3600) for _ in range(49))
        known = begin
        for number, death in enumerate([*deaths, end]):
            entries = dict(ENTRIES)
            if number >= 15:
                entries |= ADDED
            if number >= 35:
                del entries["utc"]
            off = random.uniform(-OFF, OFF) if number < 49 else 0.0
            if number == 15:
                known = int(world.now + off)
            world.term(table(entries), death, off, early=number < 49)
            world.now = max(world.now, death)
            if random.random() < 0.5 and number < 48:  # nobody is there for a while
                world.now += random.uniform(0, 3 * 3600)
        assert world.refused == 50
        messages = [message.decode() for message in redis.lrange("messages", 0, -1)]
        assert "late" not in messages
        return [(int(tick.timestamp()), name) for name, tick in map(parse, messages)], known, end

    yield run
    for world in worlds:
        world.close()


@pytest.mark.parametrize(
    ("running_server", "span", "seed"),
    [("valkey", SPRING, 1), (min(binaries()), AUTUMN, 2)],
    ids=["spring", "autumn"],
    indirect=["running_server"],
)
def test_fifty_takeovers_over_a_change_of_daylight_saving(redis, pushed, span, seed) -> None:
    ticks, known, end = pushed(span, seed)
    assert all(one < other for one, other in pairwise(ticks)), "one total order, and no repeat"
    begin = seconds(span[0])

    def due(name: str, after: int) -> list[int]:
        entry = table(ENTRIES | ADDED).entries[name]
        found = []
        for tick in entry.schedule.after(after):
            if tick > end - 1:
                break
            found.append(tick)
        return found

    got = {name: [at for at, of in ticks if of == name] for name in ENTRIES | ADDED}
    assert got["berlin"] == due("berlin", begin)
    assert got["new-york"] == due("new-york", begin)
    assert got["added"] == due("added", known)
    for name in ("sydney", "utc"):
        assert set(got[name]) <= set(due(name, begin))
    assert got["sydney"][-1] == due("sydney", begin)[-1]
    assert len(got["sydney"]) > 0.9 * len(due("sydney", begin))
    assert len(got["utc"]) > 0.4 * len(due("utc", begin)), "it was removed on the way"
    counts = read_position(redis.hget("generator", "last").decode()).counts
    assert counts.fired == len(ticks) == int(redis.hget("generator", "generated"))
    assert counts.skipped == 0
    assert counts.coalesced >= len(due("sydney", begin)) - len(got["sydney"])
