"""Follow-ups and retries under SIGKILLs. Every few milliseconds somebody looks at the sum of all messages: it holds."""

import random
import signal
from collections import Counter, defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from gtask.status import Status
from gtask.store import Store
from tests.servers import ONE_SERVER, OTHER_SERVER, Server
from tests.tasks import TaskProcess, wait_until

KILLS = 20
HEARTBEAT = 0.5
JOBS = """
import os, time
from gtask import current

log = os.open("log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def root(last):
    if last is None:
        yield "1"

def node(message):
    \"\"\"Of a tree in which the children of n are 2n and 2n + 1.\"\"\"
    time.sleep(0.005)
    os.write(log, f"{message}\\n".encode())
    for child in (2 * int(message), 2 * int(message) + 1):
        if child <= 20_000:
            yield str(child)

def some_equal(last):
    \"\"\"Each tenth message is one of 250 that come four times.\"\"\"
    for number in range(int(last or 0) + 1, 10_001):
        yield f"equal {number // 10 % 250}" if number % 10 == 0 else f"{number}", str(number)

def third_time(message):
    time.sleep(0.002)
    attempt = current().attempt
    os.write(log, f"{attempt} {message}\\n".encode())
    if attempt < 3:
        raise ConnectionError(f"attempt {attempt}")

def numbers(last):
    return map(str, range(int(last or 0) + 1, 1_000_000))

def calls_service(message):
    time.sleep(0.02)
    if os.path.exists("away"):
        raise ConnectionError("the service is away")
"""


class Fleet:
    """Tasks with one job, and whoever looks at them."""

    def __init__(
        self, server: Server, start: Callable[..., TaskProcess], folder: Path, generate: str, handle: str, *options: str
    ) -> None:
        (folder / "jobs.py").write_text(JOBS)
        self._begin = lambda: start(
            "--redis", server.url, "--generate", f"jobs:{generate}", "--handle", f"jobs:{handle}",
            "--delivery", "at-least-once", "--heartbeat", str(HEARTBEAT), "--wait", "1", *options,
        )  # fmt: skip
        self.tasks = [self._begin() for _ in range(4)]
        self.store = Store(server.url, "")
        self.looks = 0
        self.killed: Counter[str] = Counter()

    def look(self) -> Status:
        """What `gtask status` would show. Not one message is missing or too many."""
        seen = self.store.snapshot()
        self.looks += 1
        assert seen.unaccounted == 0, f"look {self.looks}: {seen}"
        return seen

    def look_until(self, condition: Callable[[Status], bool], what: str, timeout: float = 60) -> Status:
        """The first look at which the condition is true."""
        return wait_until(lambda: condition(seen := self.look()) and seen, what, timeout=timeout, pause=0.01)

    def kill(self, chance: random.Random) -> None:
        """SIGKILLs a task that is a member, and starts another one instead."""
        seen = self.look_until(lambda seen: bool(seen.generator and seen.tasks), "a generator")
        members = {member.pid for member in seen.tasks}
        victim = chance.choice([task for task in self.tasks if task.pid in members])
        generator = next((m.pid for m in seen.tasks if seen.generator and m.task_id == seen.generator.task_id), None)
        victim.send(signal.SIGKILL)
        self.killed["generator" if victim.pid == generator else "handler"] += 1
        self.tasks[self.tasks.index(victim)] = self._begin()

    def kill_on_the_way(self, done: Callable[[Status], int], total: int) -> Status:
        """KILLS SIGKILLs while `done` rises to `total`. Returns the look at which it is there."""
        chance = random.Random(12)
        for number in range(1, KILLS + 1):
            enough = number * total // (KILLS + 1)
            self.look_until(partial(_has, done, enough), f"{enough} done")
            self.kill(chance)
        end = self.look_until(partial(_has, done, total), "the end of the work", timeout=120)
        print(f"\n{dict(self.killed)} killed, {end.redelivered} redelivered; the sum held at {self.looks:,} looks")
        return end

    def end(self) -> None:
        for task in self.tasks:
            assert task.task_id
            task.send(signal.SIGTERM)
        assert [task.wait() for task in self.tasks] == [0] * len(self.tasks)


def _has(done: Callable[[Status], int], enough: int, seen: Status) -> bool:
    return done(seen) >= enough


@ONE_SERVER
@pytest.mark.faults
@pytest.mark.timeout(400)
def test_a_tree_grows_from_one_root_though_twenty_tasks_are_killed(server, redis, start, tmp_path) -> None:
    """A crash gives the acknowledgement of a node and its children, or neither. So no child comes twice either."""
    nodes = 20_000
    fleet = Fleet(server, start, tmp_path, "root", "node")
    end = fleet.kill_on_the_way(lambda seen: seen.processed, nodes)
    assert (end.generated, end.followups, end.processed, end.failed) == (1, nodes - 1, nodes, 0)
    assert (end.messages, end.inflight, end.later, end.errors) == (0, 0, 0, 0)
    assert {int(line) for line in (tmp_path / "log").read_text().split()} == set(range(1, nodes + 1))
    fleet.end()
    assert fleet.look().processed == nodes


@OTHER_SERVER
@pytest.mark.faults
@pytest.mark.timeout(400)
def test_messages_that_succeed_at_the_third_time_do_so_though_twenty_tasks_are_killed(
    server, redis, start, tmp_path
) -> None:
    """An attempt that a SIGKILL has ended is made again under its number: it is no retry."""
    messages, unique, copies = 10_000, 9_000, 1_000
    fleet = Fleet(server, start, tmp_path, "some_equal", "third_time", "--retries", "3", "--backoff", "50ms..400ms")
    attempts = 3 * messages
    end = fleet.kill_on_the_way(lambda seen: seen.postponed + seen.processed, attempts - 2 * copies)
    end = fleet.look_until(lambda seen: seen.processed == messages, "the end of the work")
    assert (end.generated, end.failed, end.errors) == (messages, 0, 0)
    assert (end.messages, end.inflight, end.later) == (0, 0, 0)
    assert end.postponed >= 2 * (unique + copies // 4), "four equal ones share their attempts, or not, as it happens"
    assert not redis.exists("messages:attempts")
    made: dict[str, list[int]] = defaultdict(list)
    for line in (tmp_path / "log").read_text().splitlines():
        attempt, _, message = line.partition(" ")
        made[message].append(int(attempt))
    alone = {message: numbers for message, numbers in made.items() if "equal" not in message}
    assert len(alone) == unique
    assert not {m: n for m, n in alone.items() if n != sorted(n) or set(n) != {1, 2, 3}}, "1, 2, 3, in this order"
    again = sum(len(numbers) - 3 for numbers in alone.values())
    print(f"{again} attempts were made again after a SIGKILL; {end.postponed:,} times a message was put off")
    assert again <= end.redelivered
    fleet.end()


@ONE_SERVER
@pytest.mark.faults
@pytest.mark.timeout(200)
def test_while_a_service_is_away_the_generator_is_held_by_what_waits_to_be_retried(
    server, redis, start, tmp_path
) -> None:
    """At a tenth of the pace of a minute with the usual `--backoff 1s..60s`, and as if all had failed often before."""
    bound, in_hand, seconds = (
        500,
        3 * 2 * 5,
        6,
    )  # three handlers, two workers, what each may start within 50 ms and more
    fleet = Fleet(
        server, start, tmp_path, "numbers", "calls_service",
        "--retries", "1000", "--backoff", "6s..6s", "--max-backlog", str(bound), "--concurrency", "2",
    )  # fmt: skip
    before = fleet.look_until(lambda seen: seen.processed > 300, "the fleet to work")
    (tmp_path / "away").touch()
    began, most = redis.time()[0], 0

    def away_for_long_enough(seen: Status) -> bool:
        nonlocal most
        most = max(most, seen.messages + seen.later)
        return redis.time()[0] - began > seconds

    seen = fleet.look_until(away_for_long_enough, "a minute, at a tenth of its pace")
    print(f"\n{seen.postponed} times put off; at most {most} waited or came later (bound: {bound})")
    assert seen.later and bound <= most <= bound + in_hand, "what was in hand comes back to a full backlog"
    assert seen.processed < before.processed + bound, "nothing was handled meanwhile"
    (tmp_path / "away").unlink()
    after = fleet.look_until(lambda now: now.processed > seen.processed + 2 * bound, "the fleet to work again")
    assert after.errors == 0
    for task in fleet.tasks:
        assert task.task_id
    redis.set("generatorIsActive", 1, ex=600)
    fleet.look_until(lambda now: now.processed == now.generated, "all that was put off", timeout=90)
    fleet.end()
