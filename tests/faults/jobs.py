"""The users' code of the fleet under fire. It works, and misbehaves when a file orders it to: one call does, once.

An order is in `order.generate` or `order.handle`: the name of a function of ORDERS, and its arguments. The call that
takes it says in `done`, in JSON, what has happened to it, as soon as it has.
"""

import asyncio
import ctypes
import itertools
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import gevent
import plan  # type: ignore[import-not-found]  # it lies beside this file where this runs

import gtask

CHUNK = 1_000_000  # characters
LARGE = 5_000  # characters: beyond what a heartbeat brings along

calls = itertools.count(1)
padding: list[str] = []  # of the messages of this call of generate
log = os.open(f"handled.{os.getpid()}", os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def generate(last: str | None) -> Iterator[str]:
    author = f"{os.getpid()}.{next(calls)}"
    padding.clear()
    for number in itertools.count(int(last.split()[0]) + 1 if last else 1):
        if not obey("generate"):
            return
        yield f"{number} {author}{''.join(padding)}"


def handle(message: str) -> None:
    if obey("handle"):
        os.write(log, (message + "\n").encode())


def handle_by_plan(message: str) -> Iterator[str]:
    """Fails, asks for another attempt, is rejected and brings follow-ups as `plan` says; and obeys, too."""
    if not obey("handle"):
        return
    text, author, *_ = message.split()
    number, attempt = int(text), gtask.current().attempt
    if not plan.is_follow_up(author):
        if plan.asks_again(number) and attempt == 1:
            raise gtask.Retry("not yet", after=0.05)
        if plan.is_rejected(number):
            raise gtask.Reject("as planned")
        if attempt <= plan.failures(number):
            raise ConnectionError(f"attempt {attempt} fails, as planned")
        for which in range(plan.follow_ups(number)):
            yield f"{number} {plan.name(author, which)}"
    os.write(log, (message + "\n").encode())


async def generate_async(last: str | None) -> AsyncIterator[str]:
    for message in generate(last):
        yield message


async def handle_async(message: str) -> AsyncIterator[str]:
    """The same as handle_by_plan, in asyncio's loop; what hangs there hangs in its own way."""
    try:
        for item in handle_by_plan(message):
            yield item
    except Hang:
        try:
            await asyncio.sleep(3600)
        except BaseException as error:
            done(error=type(error).__name__)
            raise


def obey(function: str) -> bool:
    """Carries an order out, if there is one for this function. Whether to go on after that."""
    mine = f"taken.{os.getpid()}"
    try:
        os.rename(f"order.{function}", mine)
    except FileNotFoundError:
        return True
    order, *arguments = Path(mine).read_text().split()
    return ORDERS[order](*arguments) is not False


def done(**what: object) -> None:
    Path("done.new").write_text(json.dumps({"pid": os.getpid(), **what}))
    os.rename("done.new", "done")


def fail(reason: str) -> None:
    done()
    raise ValueError(reason)


def in_asyncio() -> bool:
    """Whether this runs in asyncio's loop, and so beside gevent's."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def block(seconds: str, lock: str) -> None:
    """Waits in C, and lets go of Python's lock (the GIL) meanwhile, or keeps it. The event loop must not turn."""
    library = ctypes.PyDLL(None) if lock == "keep" else ctypes.CDLL(None)
    turns: list[int] = []
    if in_asyncio():
        asyncio.get_running_loop().call_soon(turns.append, 1)
    else:
        gevent.spawn(turns.append, 1)
    began = time.monotonic()
    library.usleep(int(float(seconds) * 1e6))
    done(seconds=time.monotonic() - began, turns=len(turns))


def fork() -> bool:
    """The child returns, and does what follows in the parent's code."""
    child = os.fork()
    if child:
        done(child=child)
    return bool(child)


class Leaked(gevent.Timeout):
    """Nobody cancels it."""

    def _on_expiration(self, greenlet: gevent.Greenlet, error: BaseException) -> None:
        done()
        super()._on_expiration(greenlet, error)


def leak(seconds: str) -> None:
    Leaked(float(seconds)).start()


def leave(how: str, reason: str) -> None:
    done()
    if how == "abruptly":
        os._exit(3)
    sys.exit(reason)


def shout(size: str, end: str, stream: str) -> None:
    """Prints `size` characters, in lines or in one."""
    chunk = "x" * CHUNK if end == "none" else ("x" * 99 + "\n") * (CHUNK // 100)
    to = getattr(sys, stream)
    for _ in range(int(size) // CHUNK):
        to.write(chunk)
    to.flush()
    done()


def swell() -> None:
    """From now on this call of generate yields large messages."""
    padding.append(" " + "x" * LARGE)
    done()


def stay() -> None:
    """Does not return before it may. While it is here, there is a file `staying`."""
    Path("staying").touch()
    done()
    try:
        while not os.path.exists("go"):
            time.sleep(0.01)
    finally:
        os.unlink("staying")


class Hang(Exception):
    """Asks whoever runs in asyncio's loop to do so without stopping it."""


def hang() -> None:
    """Waits for what never comes."""
    if in_asyncio():
        raise Hang
    try:
        time.sleep(3600)
    except BaseException as error:
        done(error=type(error).__name__)
        raise


def ask_again() -> None:
    done()
    raise gtask.Retry("as ordered", after=0.1)


def reject(reason: str) -> None:
    done()
    raise gtask.Reject(reason)


ORDERS: dict[str, Callable[..., object]] = {
    "fail": fail, "block": block, "fork": fork, "leak": leak, "leave": leave, "shout": shout, "swell": swell,
    "stay": stay, "hang": hang, "ask_again": ask_again, "reject": reject,
}  # fmt: skip
