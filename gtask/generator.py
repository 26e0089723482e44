"""Generates: draws messages from the user's function and pushes them in batches that grow by themselves.

Two greenlets share a term's work. One draws, and may block in the user's code for as long as that likes. The other one
pushes what has been drawn: each message at once when drawing is slow, many in one round trip when it is fast.

What the user's function does is bounded by its term. The greenlet that draws closes it before the flag is given up,
because there it may wait. What it breaks ends the term, and not the task.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from math import inf
from time import monotonic, perf_counter
from typing import TypeVar

import gevent
from gevent import GreenletExit, get_hub
from gevent.event import Event

from gtask import forks
from gtask.aio import QUICK
from gtask.bridge import Stream
from gtask.election import Term
from gtask.exceptions import Rejected, Trouble
from gtask.inside import Current, enter
from gtask.items import Generate, Item, NoMessage, encoded, is_no_stream
from gtask.outage import Line
from gtask.places import in_brackets, place_in, place_of, place_of_suspended
from gtask.protocol import Totals
from gtask.standstill import joined
from gtask.store import ALWAYS_ACCEPTED
from gtask.text import one_line, printable, shortened, to_bytes
from gtask.yielding import SLICE, let_others_run

log = logging.getLogger(__name__)

BATCH = 500  # messages in one push at most; as many may be drawn while it is on its way
BATCH_BYTES = 1 << 20  # about so many bytes in one push at most
LOOKS = (0.002, 0.1)  # seconds between looks at a backlog that is full: first, longest
LONGEST_ERROR = 400  # characters

T = TypeVar("T")

# Generators that catch even GeneratorExit and yield again. When Python frees such a one it runs its code once more,
# wherever that happens to be. What is held here is never freed, so it never runs again.
_UNENDING: list[object] = []


@dataclass(frozen=True)
class End:
    """How a term ended. All fields are empty when it was told to end, or when another task has the flag."""

    error: str = ""  # why the term could not generate, in one line
    cause: BaseException | None = None  # the error's traceback, for the log
    refused: bool = False  # Redis refused a push, because another task generates
    living: str = ""  # the place where generate still is, although it was told to end


class _Failed(Exception):
    """The term cannot go on; the text is for the user."""


class Generator:
    """Generates for one term; the next term gets a new one."""

    def __init__(
        self,
        generate: Generate,
        name: str,
        term: Term,
        *,
        line: Line,
        totals: Totals,
        interval: float,
        max_backlog: int,
        patience: float,
        beats_since: Callable[[], float],
        grace: float,
    ) -> None:
        """`name`: generate's, for errors. `interval`: seconds between messages. `max_backlog`: nothing is drawn while
        so many messages wait, 0: no bound. `patience`: for how many seconds pushes may fail while heartbeats succeed,
        and `beats_since`: since when they do (monotonic). `grace`: seconds that generate may take to
        end."""
        self._generate = generate
        self._name = name
        self._term = term
        self._line = line
        self._totals = totals
        self._interval = interval
        self._max_backlog = max_backlog or inf
        self._patience = patience
        self._beats_since = beats_since
        self._grace = grace
        self._drawn: deque[bytes | None] = deque()  # None: a position alone
        self._position: bytes | None = None  # after all that was drawn; None: the last message is the position
        self._in_flight = 0  # messages on their way to Redis
        self._free: float = 0  # messages that the backlog may still take, those in `_drawn` included
        self._most: float = 0  # messages that may be in `_drawn`; 0: nothing may be drawn now
        self._messages: Iterator[Item] | None = None
        self._work = Event()  # tells the pushing greenlet that something was drawn, or that drawing has ended
        self._room = Event()  # tells the drawing greenlet that it may go on
        # The drawing greenlet waits in code of ours, or it closes generate. Then it must not be interrupted.
        self._at_home = True
        self._halt = Event()  # the term is over, for whatever reason
        self._over = False  # the same, quicker to ask in a hot loop
        self._drawing = True
        self._ended = False  # generate has no more messages
        self._deposed = False
        self._refused = False
        self._steps = 0  # pushes in this term
        self._reached: str | bytes | None = term.last  # the position in Redis, as far as is known
        self._failing_since = inf  # on the monotonic clock: when pushes began to fail
        self._failure: BaseException | None = None

    def run(self) -> End:
        """Generates until `stop`, until another task generates, or until it fails."""
        began = monotonic()
        push = gevent.spawn(self._guarded, self._push)
        draw = gevent.spawn(self._draw_and_close)
        self._halt.wait()
        get_hub().loop.run_callback(self._interrupt, draw)
        living = "" if joined(draw, self._grace) else place_in(draw.gr_frame) or "in a library"
        self._drawing = False
        self._work.set()
        push.join()
        if isinstance(self._failure, _Failed):
            return End(error=str(self._failure), cause=self._failure.__cause__, living=living)
        if self._failure is not None:
            raise self._failure
        # Where a heartbeat failed meanwhile Redis was away, and that has cost the flag; generate is not to blame.
        if self._refused and not self._steps and self._beats_since() <= began:
            return End(error="the flag was lost before the first message was pushed", living=living)
        return End(refused=self._refused, living=living)

    def stop(self) -> None:
        """Ends the term gracefully: what was drawn is still pushed."""
        self._end()

    def abandon(self) -> None:
        """Ends the term that Redis has ended. What was drawn is forgotten; the next generator draws it again."""
        self._deposed = True
        self._end()

    def _end(self) -> None:
        self._over = True
        self._most = 0
        self._halt.set()
        self._room.set()

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Trouble:
            self._end()  # the process is ending, and has given up on Redis
        except Exception as error:
            self._fail(error)
        except BaseException as error:
            # A gevent.Timeout that generate has started and not cancelled is thrown wherever this greenlet is by then.
            failed = _Failed(f"{self._name} has left a {_in_one_line(error)} behind")
            failed.__cause__ = error
            self._fail(failed)

    def _fail(self, error: BaseException) -> None:
        self._failure = self._failure or error
        self._end()

    def _interrupt(self, draw: gevent.Greenlet) -> None:
        """Ends a generate that may wait for something that never comes. Once it has begun to end it is left alone. This
        runs in the hub, because from there an error can be thrown into a greenlet that waits."""
        if not self._at_home and not draw.dead:
            draw.throw(GreenletExit)

    # -- drawing

    def forked(self) -> None:
        """Makes a forked child end when it comes back from `generate`, instead of drawing on."""
        self._most = 0

    def _draw_and_close(self) -> None:
        self._guarded(self._draw)
        self._close()

    def _draw(self) -> None:
        try:
            self._messages = self._begin()
            self._draw_from(self._messages)
        except GreenletExit:
            if not self._over:
                raise
        except _Failed as failed:
            if not self._over:
                raise
            log.warning("while it was ended, %s", failed)

    def _begin(self) -> Iterator[Item]:
        last = self._term.last
        if self._term.large:
            mine, last = self._retry(partial(self._line.store.position, self._term.member, self._term.number))
            if not mine:
                self._refused = True
                self.abandon()
        if self._over:
            return iter(())
        enter(Current(task_id=lambda: self._term.member.task_id, term=self._term.number))
        self._at_home = False
        try:
            messages = self._generate(last)
            if isinstance(messages, Stream):
                messages.ahead = not self._interval
            if not is_no_stream(messages):
                return iter(messages)
        except BaseException as error:
            raise self._blame(error) from error
        raise _Failed(f"{self._name} returned {_shown(messages)}; it must yield messages, or return a list of them")

    def _draw_from(self, messages: Iterator[Item]) -> None:
        drawn, interval = self._drawn, self._interval
        size = 0  # bytes in `drawn`
        # At first nothing is drawn ahead: what follows the first `yield` runs only after its message was accepted. How
        # long the next one takes then shows whether generate is quick.
        quick, first = False, True
        due = monotonic()
        if self._term.pushed_at is not None:
            due = max(due, self._term.pushed_at + interval)  # whoever made the last push
        began = yield_at = perf_counter()
        while True:
            if not quick or len(drawn) >= self._most or size >= BATCH_BYTES:
                self._wait_for_room(quick, due)
                if self._over:
                    return  # so does a generate that caught its interruption and went on
                began = perf_counter()
            elif began >= yield_at:
                self._at_home = True
                let_others_run()
                self._at_home = False
                began = perf_counter()
                yield_at = began + SLICE
                continue
            try:
                message = next(messages)
            except BaseException as error:
                if forks.happened:
                    forks.end(error)
                if isinstance(error, StopIteration):
                    self._ended = True
                    self._work.set()
                    return
                raise self._blame(error) from error
            data = self._encoded(message, messages)
            drawn.append(data)
            if len(drawn) == 1:
                size = 0
                self._work.set()
            size += len(data or b"")
            now = perf_counter()
            quick, first = now - began <= QUICK and not interval and not first, False
            began = now
            if interval and data is not None:
                due = max(due + interval, monotonic())

    def _wait_for_room(self, quick: bool, due: float) -> None:
        """Waits until the next message may be drawn, or the term is over. Only a `quick` generate is drawn ahead of its
        pushes."""
        if forks.happened:
            forks.end()
        self._at_home = True
        while not self._over:
            if len(self._drawn) < self._most and (not self._drawn if quick else not (self._drawn or self._in_flight)):
                break
            self._room.clear()
            self._room.wait()
        if self._interval and (early := due - monotonic()) > 0:
            self._halt.wait(early)
        self._at_home = False

    def _encoded(self, item: Item, messages: Iterator[Item]) -> bytes | None:
        """The message, None for a position alone. It is to be added to what was drawn at once: its position is by then
        that of all that was drawn."""
        try:
            data, position = (to_bytes(item), None) if isinstance(item, str) else encoded(item)
            if data is not None and len(data) > ALWAYS_ACCEPTED:
                self._check_size("message", data)
            if position is not None and len(position) > ALWAYS_ACCEPTED:
                self._check_size("position", position)
        except UnicodeEncodeError as error:
            raise self._failed(f"yielded a str that is no text: {_in_one_line(error)}", messages) from error
        except NoMessage as error:
            raise self._failed(f"yielded {error}", messages) from error
        self._position = position
        return data

    def _check_size(self, what: str, data: bytes) -> None:
        self._at_home = True
        try:
            self._retry(partial(self._line.store.check_size, data))
        except Rejected as error:
            raise NoMessage(f"a {what} that Redis does not take: {error}") from error
        self._at_home = False

    def _close(self) -> None:
        """Closes generate, which runs what it has in `finally:`. Here that may wait. If it were left to garbage
        collection, it could run in the hub, where nothing can wait."""
        self._at_home = True
        messages, self._messages = self._messages, None
        close: Callable[[], object] = getattr(messages, "close", lambda: None)
        try:
            close()
        except BaseException as error:
            if suspended := place_of_suspended(messages):
                _UNENDING.append(messages)
            place = in_brackets(place_of(error) or suspended)
            log.warning("while it was ended, %s raised %s%s", self._name, _in_one_line(error), place)
            log.debug("the traceback", exc_info=error)

    def _blame(self, error: BaseException) -> _Failed | GreenletExit:
        """What an error of generate's means. SystemExit and gevent.Timeout are errors like any other."""
        if isinstance(error, GreenletExit) and self._halt.is_set():
            return error  # we have thrown it, because the term is over
        return _Failed(f"{self._name} raised {_in_one_line(error)}" + in_brackets(place_of(error)))

    def _failed(self, what: str, messages: Iterator[Item]) -> _Failed:
        return _Failed(f"{self._name} {what}" + in_brackets(place_of_suspended(messages)))

    # -- pushing

    def _push(self) -> None:
        self._allow(None)
        while not self._deposed:
            if self._drawn:
                self._push_drawn()
            elif self._ended:
                self._push_end()
            elif self._drawing:
                self._work.clear()
                self._work.wait()
            else:
                return

    def _push_drawn(self) -> None:
        count, position = len(self._drawn), self._position  # never more than BATCH and about BATCH_BYTES
        batch = [message for message in self._drawn if message is not None]
        self._drawn.clear()
        self._in_flight = count
        self._let_draw(self._free - count)
        length = self._push_step(batch, position=position)
        if length is not None:
            self._in_flight = 0
            self._totals.generated += len(batch)
            self._reached = batch[-1] if position is None else position
            self._allow(length)

    def _push_end(self) -> None:
        """Nothing more will come in this term: said once, and kept for `status`."""
        if self._push_step([], ended=True) is not None:
            self._ended = False
            reached = self._reached.decode("utf-8", "replace") if isinstance(self._reached, bytes) else self._reached
            where = "before its first message" if reached is None else f"after {_cut(reached)}"
            log.info("%s has ended, %s: there is nothing more to generate", self._name, where)

    def _push_step(self, batch: list[bytes], *, position: bytes | None = None, ended: bool = False) -> int | None:
        """The length of the queue; None when the term is over, because Redis has refused."""
        step = self._steps + 1
        member, term = self._term.member, self._term.number
        push = partial(self._line.store.push, member, term, step, batch, position=position, ended=ended)
        try:
            length = self._retry(push, pushing=True)
        except Rejected as error:
            raise _Failed(f"{self._name} yielded what Redis does not take: {error}") from error
        if length is None:
            self._refused = True
            self.abandon()
        else:
            self._steps = step
        return length

    def _allow(self, length: int | None) -> None:
        """Lets drawing go on as far as `--max-backlog` permits, and looks at the backlog again and again until it does.

        `length`: of the backlog after the last push; None: it is not known.
        """
        wait, longest = LOOKS
        self._free = inf
        while self._max_backlog < inf:
            if length is None:
                length = self._retry(self._line.store.backlog, pushing=True)
            self._free = self._max_backlog - length
            if self._free > len(self._drawn) or self._drawn or self._halt.wait(wait):
                break
            wait, length = min(2 * wait, longest), None
        self._let_draw(self._free)

    def _let_draw(self, free: float) -> None:
        self._free = free
        self._most = 0 if self._over else min(BATCH, free)
        self._room.set()

    def _retry(self, call: Callable[[], T], *, pushing: bool = False) -> T:
        """The call's result, as soon as Redis answers. While one of the greenlet that pushes fails nothing is drawn; it
        lets drawing go on when it has succeeded (`_let_draw`).

        When calls fail for long although the heartbeats of this task succeed, the term has failed: another task may be
        able to push.
        """

        def attempt() -> T:
            try:
                result = call()
            except Trouble as trouble:
                if pushing:
                    self._most = 0
                now = monotonic()
                self._failing_since = min(self._failing_since, now)
                if now - max(self._failing_since, self._beats_since()) >= self._patience:
                    raise _Failed(f"cannot push: {trouble}") from trouble
                raise
            self._failing_since = inf
            return result

        return self._line.retry(attempt)


def _in_one_line(error: BaseException) -> str:
    return _cut(one_line(error))


def _shown(value: object) -> str:
    return "None" if value is None else _cut(f"the {type(value).__name__} {value!r}")


def _cut(text: str) -> str:
    return shortened(printable(text), LONGEST_ERROR)
