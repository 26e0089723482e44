"""A web application whose workers do its periodic work: each of them brings a task, and one of these generates."""

import asyncio
import multiprocessing
import os
import signal
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from multiprocessing.process import BaseProcess

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

import ticks

GTASK = ("gtask", "--namespace", "webapp", "--generate", "ticks:generate", "--handle", "ticks:handle",
         "--delivery", "at-least-once")  # fmt: skip


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[None]:
    """What surrounds the life of one worker."""
    if master := multiprocessing.parent_process():  # None: uvicorn runs without --workers
        threading.Thread(target=end_with, args=[master], daemon=True).start()
    task = asyncio.create_task(keep_a_task())
    yield
    task.cancel()
    await asyncio.wait([task])


async def keep_a_task() -> None:
    """Runs one gtask for as long as this worker lives, and another one when it has died.

    The task's stdin is a pipe that ends when this worker does, however that happens. With GTASK_MONITORED=1 the task
    ends then, too.
    """
    while True:
        process = await asyncio.create_subprocess_exec(
            *GTASK, env={**os.environ, "GTASK_MONITORED": "1"},
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        assert process.stdin
        try:
            await process.wait()
        finally:  # cancelled: the worker ends, and its task finishes what it has in hand
            process.stdin.close()
            await process.wait()
        await asyncio.sleep(1)


def end_with(master: BaseProcess) -> None:
    """Ends this worker when uvicorn's master was killed; by themselves uvicorn's workers live on."""
    master.join()
    os.kill(os.getpid(), signal.SIGTERM)


async def page(_: Request) -> JSONResponse:
    """How many ticks were handled, whichever worker is asked."""
    return JSONResponse({"ticks": await asyncio.to_thread(ticks.count)})


app = Starlette(routes=[Route("/", page)], lifespan=lifespan)
