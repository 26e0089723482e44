"""arq: 100 jobs at once, results not kept, short polls, no log lines for each job."""

import asyncio
import os

from arq import create_pool
from arq.connections import RedisSettings

from benchmarks.stopwatch import lap

SETTINGS = RedisSettings.from_dsn(os.environ["BENCH_URL"])
QUIET = {"version": 1}  # logging: not two lines for each job


async def job(context: dict[str, object], message: str) -> None:
    """Does nothing."""
    lap()


class WorkerSettings:
    """What `arq` runs."""

    functions = (job,)
    redis_settings = SETTINGS
    max_jobs = 100
    keep_result = 0
    poll_delay = 0.01
    queue_read_limit = 1000


async def fill_queue(count: int) -> None:
    """Queues the jobs."""
    pool = await create_pool(SETTINGS)
    for first in range(0, count, 100):
        numbers = range(first, first + 100)
        await asyncio.gather(*(pool.enqueue_job("job", f"message-{number:08d}") for number in numbers))


def fill(count: int) -> None:
    """Queues the jobs."""
    asyncio.run(fill_queue(count))
