"""The nemesis: injects faults one after the other, and between them lets the fleet work, or does not."""

import json
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import redis

from tests.commands import CommandProxy
from tests.faults.history import Takeover
from tests.servers import Clock, Server
from tests.tasks import TaskProcess, wait_until

Fault = Callable[["Nemesis", redis.Redis, random.Random], None]

RECOVERY = 60.0  # seconds within which messages flow again after any fault
MOST = 300  # messages that flow before the next fault
WORK = 10.0  # seconds after which it comes in any case: how many a busy machine lets flow is not promised


def write_jobs(folder: Path) -> None:
    """The users' code, where the tasks find it."""
    for name in ("jobs.py", "plan.py"):
        shutil.copy(Path(__file__).with_name(name), folder)


class Nemesis:
    """Injects faults into a fleet. `tasks` are its living tasks; `begin` starts another one; they work in `folder`.
    `clock` is the server's, if it has one of its own. `retries`: the fleet tries failed messages again."""

    def __init__(
        self,
        server: Server,
        proxy: CommandProxy,
        begin: Callable[[], TaskProcess],
        *,
        heartbeat: float,
        folder: Path,
        clock: Clock | None = None,
        retries: bool = False,
    ) -> None:
        self.server, self.proxy, self.begin, self.clock = server, proxy, begin, clock
        self.heartbeat, self.folder, self.retries = heartbeat, folder, retries
        self.tasks = [begin() for _ in range(4)]
        self.fired: Counter[str] = Counter()
        self.takeovers: list[Takeover] = []
        self.recoveries: list[tuple[float, str]] = []  # seconds, and after which fault

    def inject(self, kind: str, fault: Fault, chance: random.Random) -> None:
        """One fault of this kind; counted only when it is proven. Every other one comes while the one before is still
        felt; else the fleet works for a while first."""
        self.supervise()
        with self.server.client() as client:
            fault(self, client, chance)
        self.fired[kind] += 1
        if chance.random() < 0.5:
            self.recoveries.append((self.let_work(kind, chance.randrange(1, MOST)), kind))

    def summary(self, seed: int) -> str:
        """How many of each kind have fired, and what repeats them."""
        kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(self.fired.items()))
        return f"GTASK_FAULTS_SEED={seed}: {self.fired.total()} faults of {len(self.fired)} kinds: {kinds}"

    def evidence(self) -> str:
        """What the tasks have said last, and what the server knows of the generator."""
        said = [f"task {task.pid} ({task.process.poll()}): {task.stderr[-1000:]}" for task in self.tasks]
        with self.server.client() as client:
            known = {name: value[:100] for name, value in client.hgetall("generator").items()}
            flag, owner = client.pttl("generatorIsActive"), client.get("generatorId")
            waiting = client.llen("messages")
        return "\n".join([*said, f"{known}, flag {flag} ms, owner {owner}, {waiting} messages wait"])

    def let_work(self, after: str, messages: int) -> float:
        """Waits until the fleet has generated so many more messages, or for WORK. The first of them must come within
        RECOVERY. Returns the seconds until that one."""
        with self.server.client() as client:

            def generated() -> int:
                self.supervise()
                return int(client.hget("generator", "generated") or 0)

            before, began = generated(), time.monotonic()
            wait_until(lambda: generated() != before, f"a message after {after}", timeout=RECOVERY)
            recovery = time.monotonic() - began
            enough = began + recovery + WORK
            wait_until(lambda: generated() >= before + messages or time.monotonic() > enough, timeout=RECOVERY)
            return recovery

    def supervise(self) -> None:
        """Starts a task again that found no server at its start (69); none ends by itself for any other reason."""
        for task in self.tasks[:]:
            if (code := task.process.poll()) is not None:
                assert code == 69, f"a task ended by itself with {code}: {task.stderr}"
                self.replace(task)

    def all_well(self, client: redis.Redis) -> None:
        """Waits until a task holds the flag and every task beats."""

        def beating() -> bool:
            self.supervise()
            now = client.time()[0]
            ids = [str(t.reports("createdTaskId")[-1]["taskId"]) for t in self.tasks if t.reports("createdTaskId")]
            beats = [client.zscore("tasks", task_id) or 0 for task_id in ids]
            return len(ids) == len(self.tasks) and now - min(beats) < 1.5 * self.heartbeat

        wait_until(lambda: beating() and client.exists("generatorId"), "all to be well", timeout=RECOVERY)

    def generator(self, client: redis.Redis) -> TaskProcess:
        """The task that generates; waits until there is one."""

        def found() -> TaskProcess | None:
            self.supervise()
            member = client.hget("tasks:members", client.get("generatorId") or "")
            pid = json.loads(member)["pid"] if member else None
            return next((task for task in self.tasks if task.pid == pid), None)

        return wait_until(found, "a generator", timeout=RECOVERY)

    def handler(self, client: redis.Redis, chance: random.Random) -> TaskProcess:
        generator = self.generator(client)
        return chance.choice([task for task in self.tasks if task is not generator])

    def replace(self, task: TaskProcess) -> None:
        self.tasks[self.tasks.index(task)] = self.begin()
