"""huey: a blocking Redis queue, results not stored, one worker thread (greenlets and more threads were slower)."""

import os

from huey import RedisHuey

from benchmarks.stopwatch import lap

huey = RedisHuey("bench", url=os.environ["BENCH_URL"], results=False, blocking=True)


@huey.task()
def job(message: str) -> None:
    """Does nothing."""
    lap()


def fill(count: int) -> None:
    """Queues the jobs."""
    for number in range(count):
        job(f"message-{number:08d}")
