"""At-most-once delivery under fire. While no task dies, a message is lost only with the answer that held it. All others
are handled, have failed or wait, and that once. So are those that follow from them."""

import json
import os
import random
import signal
from functools import partial
from pathlib import Path

import pytest

from tests.commands import FAULTS, CommandProxy, words_of
from tests.faults import ONCE, checker, history
from tests.faults.kinds import KINDS
from tests.faults.kinds_commands import AT_MOST_ONCE, FETCHING, befall
from tests.faults.nemesis import Fault, Nemesis, write_jobs
from tests.servers import ONE_NEW_SERVER
from tests.tasks import TaskProcess, wait_until

SEED = int(os.environ.get("GTASK_FAULTS_SEED", "1"))

NOBODY_DIES: dict[str, Fault] = {
    name: KINDS[name]
    for name in (
        "stop_task", "stop_for_long", "delete_flag", "foreign_flag", "pause_clients", "flush_scripts",
        "handle_fails", "handle_blocks", "handle_forks", "handle_leaks_a_timeout", "handle_shouts",
        "generate_fails", "generate_blocks", "generate_forks", "generate_leaks_a_timeout", "generate_shouts",
    )
} | {
    # A request for messages that arrives when its sender has given up takes some away, and nobody sees which.
    fault: partial(befall, fault=fault, commands=AT_MOST_ONCE | (FETCHING if fault != "stall_both_ways" else {}))
    for fault in FAULTS
}  # fmt: skip


@ONCE
@ONE_NEW_SERVER
@pytest.mark.faults
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [SEED])
def test_a_message_is_lost_only_with_the_answer_that_held_it(new_server, start, tmp_path: Path, seed: int) -> None:
    write_jobs(tmp_path)
    server, started = new_server(*history.OPTIONS), []
    with CommandProxy(server.socket) as proxy:

        def begin() -> TaskProcess:
            started.append(start(
                "--redis", proxy.url, "--generate", "jobs:generate", "--handle", "jobs:handle_by_plan",
                "--interval", "5", "--max-backlog", "0", "--heartbeat", "0.5", "--wait", "1",
            ))  # fmt: skip
            return started[-1]

        nemesis, chance = Nemesis(server, proxy, begin, heartbeat=0.5, folder=tmp_path), random.Random(seed)
        named = os.environ.get("GTASK_FAULTS_KINDS", "")
        chosen = [kind for kind in NOBODY_DIES if not named or kind in named.split(",")]
        order = chosen * int(os.environ.get("GTASK_FAULTS_ROUNDS", "2"))
        chance.shuffle(order)
        nemesis.let_work("the start", 1)
        for kind in order:
            nemesis.inject(kind, NOBODY_DIES[kind], chance)
        with server.client() as redis:
            nemesis.all_well(redis)  # a task that has just begun would end at once
            redis.set("generatorIsActive", 1, ex=600)  # of another program: no more messages
            wait_until(lambda: not redis.exists("generatorId"), "the generator to give way")
            for task in nemesis.tasks:
                task.send(signal.SIGTERM)
            assert [task.wait() for task in nemesis.tasks] == [0] * len(nemesis.tasks)
            end = _end(tmp_path, redis, proxy)
    events = history.read(server.folder)
    violations = [
        *checker.deposed_is_silent(events), *checker.only_the_holder_pushes(events),
        *checker.numbers_are_whole(events),
        *checker.nothing_is_lost(events, end), *checker.nothing_is_invented(events, end),
        *checker.follow_ups_are_whole(events, end),
        *(v for task in started for v in checker.reports_are_whole(task.lines)),
    ]  # fmt: skip
    hits = sorted(f"{command} {count} x {fault}" for (fault, command), count in proxy.hits.items())
    print(f"commands: {dict(proxy.seen)}; hit: {', '.join(hits)}")
    print(nemesis.summary(seed))
    assert not violations, "\n".join(violations[:50])


def _end(folder: Path, redis, proxy: CommandProxy) -> history.End:
    """Nothing counts what was handled but the job's own log, so a message that was handled twice breaks the sum. Those
    in answers that did not arrive are in flight for ever; one that was handled all the same breaks it, too."""
    handled = [line for file in folder.glob("handled.*") for line in file.read_text().splitlines()]
    errors = [json.loads(entry)["message"] for entry in redis.lrange("errors", 0, -1)]
    waiting = [message.decode() for message in redis.lrange("messages", 0, -1)]
    lost: list[str] = []
    for command, frame in proxy.withheld:
        if command in FETCHING:
            lost += [word.decode() for word in words_of(frame)[command == "BLPOP" :]]  # whose first word is the key
    print(f"\n{len(handled)} handled, {len(errors)} in errors, {len(waiting)} wait, {len(lost)} lost with answers")
    return history.End(
        handled=tuple(map(history.pushed, handled)), errors=tuple(map(history.pushed, errors)),
        waiting=tuple(map(history.pushed, waiting)), in_flight=tuple(map(history.pushed, lost)),
        processed=len(handled) + len(errors),
    )  # fmt: skip
