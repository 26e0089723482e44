"""dramatiq: Redis broker, one process with its default of 8 threads, a large prefetch, no middleware that it can do
without."""

import os

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from benchmarks.stopwatch import lap

broker = RedisBroker(url=os.environ["BENCH_URL"])
dramatiq.set_broker(broker)


@dramatiq.actor
def job(message: str) -> None:
    """Does nothing."""
    lap()


def fill(count: int) -> None:
    """Queues the jobs."""
    for number in range(count):
        job.send(f"message-{number:08d}")
