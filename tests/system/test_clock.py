"""What a server's clock that is set while everything runs must not do."""

import signal
import time

from tests.servers import ONE_NEW_SERVER, Clock
from tests.tasks import wait_until

GATE = """
import gevent, pathlib
def handle(message):
    pathlib.Path("started").touch()
    while not pathlib.Path("go").exists():
        gevent.sleep(0.01)
"""
FAILS_ONCE = """
import pathlib
def handle(message):
    tries = pathlib.Path("tries")
    tries.write_text((tries.read_text() if tries.exists() else "") + ".")
    if tries.read_text() == ".":
        raise ValueError
"""


@Clock.NEEDED
@ONE_NEW_SERVER  # libfaketime and Debian's redis-server with its jemalloc do not bear each other
def test_a_clock_that_steps_back_by_ten_minutes_delays_neither_a_replacement_nor_a_recovery(
    new_server, start, tmp_path
) -> None:
    (tmp_path / "job.py").write_text(GATE)
    clock = Clock(tmp_path)
    server = new_server(clock=clock)
    # Any of them can generate or hold the message: on a busy machine they may change places, and their ids.
    options = ["--redis", server.url, "--heartbeat", "0.5", "--interval", "60000", "--delivery", "at-least-once",
               "--handle", "job:handle"]  # fmt: skip
    generator = start(*options)
    wait_until(generator.is_generator)
    with server.client() as redis:
        holder = start(*options)
        redis.rpush("messages", "held")
        wait_until((tmp_path / "started").exists)
        before = redis.time()[0]
        survivor = start(*options)
        assert survivor.task_id
        for task in (generator, holder):
            task.send(signal.SIGKILL)
        clock.set(-600)
        began = time.monotonic()
        wait_until(survivor.is_generator, "another one generates")
        wait_until(lambda: redis.hkeys("tasks:members") == [b"%d" % survivor.task_id], "the dead are reaped")
        assert redis.time()[0] < before, "the clock did not step, so this test has shown nothing"
        print(f"all is well after {time.monotonic() - began:.1f} s")
        assert set(redis.keys("inflight:*")) <= {b"inflight:%d" % survivor.task_id}


@Clock.NEEDED
@ONE_NEW_SERVER
def test_a_message_that_is_to_come_again_does_so_in_time_though_the_clock_steps_back(
    new_server, start, tmp_path
) -> None:
    (tmp_path / "job.py").write_text(FAILS_ONCE)
    clock = Clock(tmp_path)
    server = new_server(clock=clock)
    with server.client() as redis:
        redis.set("generatorIsActive", 1, ex=600)
        redis.rpush("messages", "m")
        start("--redis", server.url, "--heartbeat", "0.5", "--delivery", "at-least-once", "--handle", "job:handle",
              "--retries", "1", "--backoff", "8s..8s")  # fmt: skip
        wait_until(lambda: redis.exists("messages:later"))
        before = redis.time()[0]
        clock.set(-600)
        wait_until(lambda: redis.hget("totals", "processed") == b"1", "it comes again")
        assert redis.time()[0] < before, "the clock did not step, so this test has shown nothing"
        assert (tmp_path / "tries").read_text() == ".."
