"""A fleet under fire: faults in an order that a seed (GTASK_FAULTS_SEED) repeats, then quiet, then the checker."""

import json
import os
import random
import re
from collections import Counter
from pathlib import Path

import pytest

from tests.commands import CommandProxy
from tests.faults import ONCE, checker, history, plan
from tests.faults.kinds import KINDS, OUTCOMES
from tests.faults.nemesis import Nemesis, write_jobs
from tests.servers import ONE_NEW_SERVER, Clock, Server, holds_messages
from tests.tasks import TaskProcess, wait_until

SEED = int(os.environ.get("GTASK_FAULTS_SEED", "1"))
ALL = KINDS | OUTCOMES
CHOSEN = [kind for kind in os.environ.get("GTASK_FAULTS_KINDS", "").split(",") if kind] or list(ALL)
ROUNDS = int(os.environ.get("GTASK_FAULTS_ROUNDS", "2"))
KILLS = 3  # generators that are killed in each round besides: each is one more takeover to judge
HEARTBEAT = 0.5
RETRIES = ("--retries", str(plan.RETRIES), "--backoff", "50ms..1s", "--timeout", "2")
SIMPLE = ("--generate", "jobs:generate", "--handle", "jobs:handle", "--max-backlog", "0")
BY_PLAN = ("--generate", "jobs:generate", "--handle", "jobs:handle_by_plan", *RETRIES)
ASYNC = ("--generate", "jobs:generate_async", "--handle", "jobs:handle_async", *RETRIES)
# Of what code of one's own may do: no time-out of gevent's and no fork belongs into asyncio's thread.
NOT_ASYNC = {f"{function}_{what}" for function in ("generate", "handle")
             for what in ("forks", "leaks_a_timeout", "never_returns")}  # fmt: skip
FOR_GOOD = re.compile("gtask.Reject: |killed the ")  # failures of messages that are not tried again
# One of each room, and of those the quick ones.
SHORT = [
    "kill_generator", "kill_handler", "stop_task", "delete_flag", "foreign_flag", "client_kill", "restart_server",
    "restart_emptied", "pause_clients", "fill_memory", "cut_links", "drop_request", "drop_reply", "generate_fails",
    "handle_exits", "kill_generator",
]  # fmt: skip


@ONCE
@ONE_NEW_SERVER
@pytest.mark.faults
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [SEED, SEED + 1])
def test_the_promises_hold_under_fire(new_server, start, tmp_path, seed: int) -> None:
    more = ["kill_generator"] * KILLS if "kill_generator" in CHOSEN else []
    kinds = [kind for kind in CHOSEN if kind in KINDS] + more
    under_fire(new_server, start, tmp_path, kinds * ROUNDS, seed, SIMPLE)


@ONCE
@ONE_NEW_SERVER
@pytest.mark.faults
@pytest.mark.timeout(900)
@pytest.mark.parametrize("job", [pytest.param(BY_PLAN, id="greenlets"), pytest.param(ASYNC, id="coroutines")])
def test_follow_ups_and_retries_keep_their_promises_under_fire(new_server, start, tmp_path, job) -> None:
    """Each kind of fault once, and twice those that only such fleets know. A time-out ends what never returns."""
    unfit = NOT_ASYNC if job is ASYNC else {"handle_never_returns"}
    kinds = [kind for kind in CHOSEN if kind not in unfit]
    more = [kind for kind in kinds if kind in OUTCOMES]
    under_fire(new_server, start, tmp_path, kinds + more, SEED, job)


@ONCE
@ONE_NEW_SERVER
@pytest.mark.timeout(300)
def test_the_promises_hold_under_a_short_fire(new_server, start, tmp_path) -> None:
    under_fire(new_server, start, tmp_path, SHORT, SEED, SIMPLE)


def under_fire(new_server, start, folder: Path, kinds: list[str], seed: int, job: tuple[str, ...]) -> None:
    """These kinds of faults in an order by chance, then quiet, then the checker. `job`: SIMPLE, BY_PLAN or ASYNC."""
    write_jobs(folder)
    clock = Clock(folder) if Clock.LIBRARIES else None
    server, started = new_server(*history.OPTIONS, clock=clock), []
    with CommandProxy(server.socket) as proxy:

        def begin() -> TaskProcess:
            started.append(start(
                "--redis", proxy.url, "--interval", "5", "--delivery", "at-least-once",
                "--heartbeat", str(HEARTBEAT), "--wait", "1", *job,
            ))  # fmt: skip
            return started[-1]

        nemesis = Nemesis(server, proxy, begin, heartbeat=HEARTBEAT, folder=folder, clock=clock,
                          retries=job is not SIMPLE)  # fmt: skip
        chance = random.Random(seed)
        order = kinds[:]
        chance.shuffle(order)
        try:
            nemesis.let_work("the start", 1)
            for kind in order:
                nemesis.inject(kind, ALL[kind], chance)
            end = quiet(server, folder)
            events = history.read(server.folder)
            violations = broken_promises(events, end, started, nemesis)
            if job is not SIMPLE:
                violations += [*checker.follow_ups_are_whole(events, end), *checker.attempts_are_counted(events, end)]
                print(what_came(events, end))
        except AssertionError:
            print(nemesis.evidence())
            raise
        finally:
            hits = sorted(f"{command} {count} x {fault}" for (fault, command), count in proxy.hits.items())
            print(f"commands: {dict(proxy.seen)}; hit: {', '.join(hits)}")
            print(nemesis.summary(seed))
        assert not violations, "\n".join(violations[:50])


def quiet(server: Server, folder: Path) -> history.End:
    """Lets nobody generate, waits until all is handled, and says where everything is."""
    with server.client() as redis:
        redis.set("generatorIsActive", 1, ex=600)  # of another program
        wait_until(lambda: not redis.exists("generatorId"), "the generator to give way")

        wait_until(lambda: not holds_messages(redis), "quiet", timeout=90)
        handled = [line for file in folder.glob("handled.*") for line in file.read_text().splitlines()]
        records = [json.loads(entry) for entry in redis.lrange("errors", 0, -1)]
        return history.End(
            handled=tuple(map(history.pushed, handled)),
            errors=tuple(history.pushed(record["message"]) for record in records),
            for_good=frozenset(history.pushed(r["message"]) for r in records if FOR_GOOD.match(r["error"])),
            waiting=(), in_flight=(), processed=int(redis.hget("totals", "processed") or 0),
        )  # fmt: skip


def what_came(events: list[history.Event], end: history.End) -> str:
    kinds = Counter(type(event).__name__ for event in events)
    failed = sum(event.failures > 0 for event in events if isinstance(event, history.PutOff))
    return (f"{kinds['Followed']} follow-ups; messages were put off {kinds['PutOff']} times, {failed} of these after a "
            f"failure; {len(end.errors)} in errors, {len(end.for_good)} of these rejected or poison")  # fmt: skip


def broken_promises(
    events: list[history.Event], end: history.End, started: list[TaskProcess], nemesis: Nemesis
) -> list[str]:
    terms = sum(isinstance(event, history.Elected) for event in events)
    messages = sum(isinstance(event, history.Pushed) for event in events)
    judged = checker.judged(nemesis.takeovers)
    beyond = max((takeover.took - takeover.flag_life for takeover in judged), default=0.0)
    slowest, after = max(nemesis.recoveries, default=(0.0, "none"))
    print(f"{messages} messages, {terms} terms; {len(judged)} of {len(nemesis.takeovers)} takeovers judged, at most "
          f"{beyond:.2f} s beyond the flag's life; the slowest recovery {slowest:.1f} s, after {after}")  # fmt: skip
    return [
        *checker.deposed_is_silent(events), *checker.only_the_holder_pushes(events),
        *checker.numbers_are_whole(events),
        *checker.nothing_is_lost(events, end), *checker.nothing_is_invented(events, end),
        *(violation for task in started for violation in checker.reports_are_whole(task.lines)),
        *checker.takeovers_are_fast(nemesis.takeovers),
    ]  # fmt: skip
