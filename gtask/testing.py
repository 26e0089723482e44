"""For the tests of those who use gtask: what their functions do, without Redis and without gevent.

    from gtask.testing import check, draw, handle_one

    def test_goes_on_where_it_stopped():
        assert check(jobs.generate) == []

`gtask check` is the same from the command line. The pytest fixture `gtask_server` is in pytest_plugin.py.
"""

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextvars import copy_context
from types import GeneratorType
from typing import NamedTuple

from gtask.aio import in_own_loop
from gtask.inside import Current, enter
from gtask.items import NoMessage, UsersGenerate, check_result, drained, encoded, is_no_stream
from gtask.text import printable, shortened, to_text

CUTS = (1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 198)  # messages after which `check` lets another generator go on
SHOWN = 60  # characters of a message


class Drawn(NamedTuple):
    """What generate yielded: a message as `handle` gets it (None: a position alone), and the position after it, as the
    next `generate` gets it."""

    message: str | None
    position: str


def draw(
    generate: UsersGenerate, last: str | None = None, limit: int = 100, *, timeout: float | None = None
) -> list[Drawn]:
    """The first `limit` messages and positions of a term that goes on after `last`; generate is then closed.

    `timeout`: seconds to wait for each of them, for a generate that waits when it has nothing more; what there is by
    then is the answer. Such a generate is drawn from in a thread, and left there if it still waits.

    Raises what generate raises, and TypeError for what is no message.
    """
    if timeout is None:
        return list(_draw(generate, last, limit))
    found: queue.Queue[Drawn | BaseException | None] = queue.Queue()

    def work() -> None:
        try:
            for drawn in _draw(generate, last, limit):
                found.put(drawn)
            found.put(None)
        except BaseException as error:  # of the user's, for the caller
            found.put(error)

    threading.Thread(target=work, daemon=True).start()
    result: list[Drawn] = []
    while True:
        try:
            drawn = found.get(timeout=timeout)
        except queue.Empty:
            return result
        if drawn is None:
            return result
        if isinstance(drawn, BaseException):
            raise drawn
        result.append(drawn)


def _draw(generate: UsersGenerate, last: str | None, limit: int) -> Iterator[Drawn]:
    context = copy_context()
    context.run(enter, Current(task_id=lambda: 1, term=1))
    messages = context.run(in_own_loop(generate), last)
    if is_no_stream(messages):
        raise TypeError(f"generate returned {_shown(messages)}; it must yield messages, or return a list of them")
    try:
        iterator = context.run(iter, messages)
        for _ in range(limit):
            try:
                item = context.run(next, iterator)
            except StopIteration:
                return
            try:
                message, position = encoded(item)
            except NoMessage as error:
                raise TypeError(f"generate yielded {error}") from None
            text = None if message is None else to_text(message)
            yield Drawn(text, text or "" if position is None else to_text(position))
    finally:
        close: Callable[[], object] = getattr(messages, "close", lambda: None)
        context.run(close)


def handle_one(handle: Callable[[str], object], message: str | bytes, *, attempt: int = 1) -> list[str]:
    """Handles one message as a task does: as text, and in a copy of the context, where `gtask.current()` says that this
    is so many an `attempt`. Returns the messages that `handle` has yielded, as the `handle` of a task gets them.

    Raises what `handle` raises; a task would put the message into `errors` then, or have it again later. Raises
    ValueError for yielded messages that a task would not take.
    """
    text = message if isinstance(message, str) else to_text(message)
    context = copy_context()
    context.run(enter, Current(task_id=lambda: 1, attempt=lambda: attempt))
    result = context.run(in_own_loop(handle), text)
    if isinstance(result, GeneratorType):
        return [to_text(followup) for followup in context.run(drained, result)]
    check_result(result)
    return []


def check(generate: UsersGenerate, messages: int = 200, *, timeout: float = 5.0) -> list[str]:
    """What is wrong with how generate goes on after `last`, a line each; nothing is the right answer.

    Draws so many messages, and again, and then starts generate anew at many places, as after a failover. It skips
    nothing, repeats nothing and keeps its order only if each new start yields exactly what is left. `timeout`: seconds
    to wait for a message. Raises what `draw` raises.
    """
    whole = draw(generate, None, messages, timeout=timeout)
    if not whole:
        return ["it yields nothing after None, the very first start, so there is nothing to check"]
    if difference := _difference(whole, draw(generate, None, len(whole), timeout=timeout)):
        return [f"it is not repeatable: started twice at the very beginning, {difference}"]
    found: dict[str, str] = {}
    for cut in (cut for cut in CUTS if cut < len(whole)):
        last = whole[cut - 1].position
        rest = draw(generate, last, len(whole) - cut, timeout=timeout)
        if rest != whole[cut:]:
            kind, text = _diagnosis(whole, cut, rest)
            found.setdefault(kind, f"it {kind}: started after {_shown(last)}, {text}")
    return list(found.values())


def _diagnosis(whole: Sequence[Drawn], cut: int, rest: Sequence[Drawn]) -> tuple[str, str]:
    """How what a new generator yields (`rest`) differs from what is left (`whole` from `cut` on): in one word, and
    where."""
    left = whole[cut:]
    if not rest:
        return "skips", f"it yields nothing, and not {_shown(left[0])}"
    if rest[0] == whole[0] != left[0] and list(rest[:cut]) == list(whole[: len(rest[:cut])]) and cut > 1:
        return "ignores last", f"it begins with {_shown(rest[0])}, the very first one"
    number = next((i for i, (a, b) in enumerate(zip(rest, left, strict=False)) if a != b), min(len(rest), len(left)))
    got = rest[number] if number < len(rest) else None
    wanted = left[number] if number < len(left) else None
    if got is None:
        return "skips", f"{_shown(wanted)} is missing"
    text = f"message {number + 1} is {_shown(got)}, and not {_shown(wanted)}"
    if got in whole[: cut + number]:
        return "repeats", text
    if got in left and wanted in rest[number:]:
        return "reorders", text
    return ("skips", text) if got in left else ("is not repeatable", text)


def _difference(one: Sequence[Drawn], other: Sequence[Drawn]) -> str:
    for number, (a, b) in enumerate(zip(one, other, strict=False), 1):
        if a != b:
            return f"message {number} was {_shown(a)}, and then {_shown(b)}"
    return "" if len(one) == len(other) else f"it yielded {len(one)} messages, and then {len(other)}"


def _shown(value: object) -> str:
    if isinstance(value, Drawn):
        message = "a position alone" if value.message is None else repr(value.message)
        beside = "" if value.position == value.message else f" at {printable(value.position)!r}"
        return shortened(message, SHOWN) + shortened(beside, SHOWN)
    return "None" if value is None else shortened(repr(value), SHOWN)
