"""Faults: each is injected on purpose, and proves that it happened (or raises)."""

import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import redis

from tests.commands import CommandProxy
from tests.faults.history import Takeover
from tests.servers import Server
from tests.tasks import TaskProcess, wait_until

Fault = Callable[["Nemesis", redis.Redis, random.Random], None]


class Nemesis:
    """Injects faults into a fleet. `tasks` are its living tasks; `begin` starts another one; they work in `folder`."""

    def __init__(
        self, server: Server, proxy: CommandProxy, begin: Callable[[], TaskProcess], heartbeat: float, folder: Path
    ) -> None:
        self._server, self.proxy, self._begin, self.heartbeat, self.folder = server, proxy, begin, heartbeat, folder
        self.tasks = [begin() for _ in range(4)]
        self.fired: Counter[str] = Counter()
        self.takeovers: list[Takeover] = []

    def inject(self, kind: str, fault: Fault, chance: random.Random) -> None:
        """One fault of this kind; counted only when it is proven."""
        with self._server.client() as client:
            if kind in ("kill_generator", "stop_task", "kill_handler"):
                self.all_well(client)
            fault(self, client, chance)
        self.fired[kind] += 1

    def all_well(self, client: redis.Redis) -> None:
        """Waits until a task holds the flag and every task beats: how fast a takeover is, is promised for a SIGKILL by
        itself. A task that found no server when it started (69) is started again, as a supervisor does."""

        def beating() -> bool:
            for task in self.tasks[:]:
                if (code := task.process.poll()) is not None:
                    assert code == 69, f"a task ended by itself with {code}: {task.stderr}"
                    self.replace(task)
            seconds, microseconds = client.time()
            now = seconds + microseconds / 1e6
            ids = [str(t.reports("createdTaskId")[-1]["taskId"]) for t in self.tasks if t.reports("createdTaskId")]
            beats = [client.zscore("tasks", task_id) or 0 for task_id in ids]
            return len(ids) == len(self.tasks) and now - min(beats) < 1.5 * self.heartbeat

        wait_until(lambda: beating() and client.exists("generatorId"), "all to be well", timeout=60)

    def generator(self, client: redis.Redis) -> TaskProcess:
        """The task that generates; waits until there is one."""

        def found() -> TaskProcess | None:
            owner = client.get("generatorId")
            ids = {t.reports("createdTaskId")[-1]["taskId"]: t for t in self.tasks if t.reports("createdTaskId")}
            return ids.get(int(owner)) if owner else None

        return wait_until(found, "a generator", timeout=60)

    def handler(self, client: redis.Redis, chance: random.Random) -> TaskProcess:
        generator = self.generator(client)
        return chance.choice([task for task in self.tasks if task is not generator])

    def replace(self, task: TaskProcess) -> None:
        self.tasks[self.tasks.index(task)] = self._begin()

    def kill_generator(self, client: redis.Redis, chance: random.Random) -> None:
        victim = self.generator(client)
        term = client.hget("generator", "term")
        victim.process.kill()
        assert victim.process.wait() == -signal.SIGKILL
        began = last = time.monotonic()
        life, stalled = max(client.pttl("generatorIsActive"), 0) / 1000, 0.0
        while client.hget("generator", "term") == term:
            time.sleep(0.005)
            now = time.monotonic()
            stalled, last = max(stalled, now - last - 0.005), now
            assert now - began < 60, "nobody takes over"
        self.takeovers.append(Takeover(life, time.monotonic() - began, stalled))
        self.replace(victim)

    def kill_handler(self, client: redis.Redis, chance: random.Random) -> None:
        victim = self.handler(client, chance)
        victim.process.kill()
        assert victim.process.wait() == -signal.SIGKILL
        self.replace(victim)

    def stop_task(self, client: redis.Redis, chance: random.Random) -> None:
        victim = chance.choice([self.generator(client), self.handler(client, chance)])
        victim.send(signal.SIGSTOP)
        state = Path(f"/proc/{victim.pid}/stat")
        wait_until(lambda: state.read_text().rpartition(")")[2].split()[0] == "T", "stopped")
        time.sleep(chance.uniform(0.3, 6) * self.heartbeat)
        victim.send(signal.SIGCONT)

    def client_kill(self, client: redis.Redis, chance: random.Random) -> None:
        assert wait_until(lambda: client.client_kill_filter(_type="normal", skipme=True), "clients to kill")

    def delete_flag(self, client: redis.Redis, chance: random.Random) -> None:
        self.generator(client)
        assert wait_until(lambda: client.delete("generatorIsActive"), "a flag to delete")

    def foreign_flag(self, client: redis.Redis, chance: random.Random) -> None:
        self.generator(client)
        assert client.set("generatorIsActive", 1, ex=2)
        wait_until(lambda: not client.exists("generatorId"), "the generator to give way")

    def restart_server(self, client: redis.Redis, chance: random.Random) -> None:
        before = client.info("server")["run_id"]
        self._server.kill()
        self._server.start()
        with self._server.client() as again:
            assert again.info("server")["run_id"] != before

    def pause_clients(self, client: redis.Redis, chance: random.Random) -> None:
        assert client.execute_command("CLIENT", "PAUSE", chance.randrange(300, 1500), "ALL")
        assert self._waited(client.ping) > 0.1

    def busy_script(self, client: redis.Redis, chance: random.Random) -> None:
        loop = "local t = redis.call('TIME'); local e = t[1] + t[2]/1e6 + ARGV[1]\n"
        loop += "repeat t = redis.call('TIME') until t[1] + t[2]/1e6 > e; return 1"
        assert self._waited(lambda: client.eval(loop, 0, chance.uniform(0.5, 1.5))) > 0.4

    def flush_scripts(self, client: redis.Redis, chance: random.Random) -> None:
        client.script_flush()
        # A task may load its script again at once, so what proves the flush is a script that only we know.
        known = client.script_load("return 'nemesis'")
        client.script_flush()
        assert client.script_exists(known) == [False]

    def cut_links(self, client: redis.Redis, chance: random.Random) -> None:
        before = self.proxy.accepted
        self.proxy.cut()
        wait_until(lambda: self.proxy.accepted > before, "a task to connect again")

    def stall_links(self, client: redis.Redis, chance: random.Random) -> None:
        self.proxy.stalled = True
        try:
            time.sleep(0.1)
            before = self.proxy.carried
            time.sleep(chance.uniform(0.3, 3))
            assert self.proxy.carried == before
        finally:
            self.proxy.stalled = False

    @staticmethod
    def _waited(call: Callable[[], object]) -> float:
        began = time.monotonic()
        with suppress(redis.TimeoutError):
            call()
        return time.monotonic() - began


KINDS: dict[str, Fault] = {
    name: getattr(Nemesis, name)
    for name in (
        "kill_generator", "kill_handler", "stop_task", "client_kill", "delete_flag", "foreign_flag", "restart_server",
        "pause_clients", "busy_script", "flush_scripts", "cut_links", "stall_links",
    )
}  # fmt: skip
