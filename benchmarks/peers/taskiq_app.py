"""taskiq: a list queue (the fastest of its Redis brokers), no result backend, one worker, 100 jobs at once."""

import asyncio
import os

from taskiq_redis import ListQueueBroker

from benchmarks.stopwatch import lap

broker = ListQueueBroker(os.environ["BENCH_URL"])


@broker.task(task_name="job")
async def job(message: str) -> None:
    """Does nothing."""
    lap()


async def fill_queue(count: int) -> None:
    """Queues the jobs."""
    await broker.startup()
    for number in range(count):
        await job.kiq(f"message-{number:08d}")
    await broker.shutdown()


def fill(count: int) -> None:
    """Queues the jobs."""
    asyncio.run(fill_queue(count))
