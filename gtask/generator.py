"""Generates: draws messages from the user's function and pushes them in batches that grow by themselves.

Two greenlets share a term's work. One draws, and may block in the user's code for as long as that likes; the
other pushes what has been drawn: each message at once when drawing is slow, many in one round trip when it is fast.
"""

from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from math import inf
from time import monotonic, perf_counter
from traceback import format_exception_only

import gevent
from gevent import GreenletExit
from gevent.event import Event

from gtask.breath import SLICE, breathe
from gtask.election import Term
from gtask.exceptions import Trouble, UserCodeError
from gtask.functions import Generate
from gtask.outage import Outage
from gtask.places import place_of
from gtask.report import Totals
from gtask.store import Store

BATCH = 1000  # messages in one push at most
BATCH_BYTES = 1 << 20  # and about this many bytes
QUICK = 0.0002  # seconds: a message that took longer to draw is pushed before the next one is drawn
LOOKS = (0.002, 0.1)  # seconds between looks at a backlog that is full: first, longest


class Generator:
    """Generates for one term; the next term gets a new one."""

    def __init__(
        self,
        generate: Generate,
        name: str,
        term: Term,
        *,
        store: Store,
        outage: Outage,
        totals: Totals,
        interval: float,
        max_backlog: int,
        expired: Event,
    ) -> None:
        """`name`: generate's, for errors. `interval`: seconds between messages. `max_backlog`: pause while so
        many wait, 0 = never. `expired`: when set, give up on Redis."""
        self._generate = generate
        self._name = name
        self._term = term
        self._store = store
        self._outage = outage
        self._totals = totals
        self._interval = interval
        self._max_backlog = max_backlog or inf
        self._expired = expired
        self._drawn: deque[bytes] = deque()
        self._drawn_bytes = 0
        self._allowance = inf if self._max_backlog == inf else 0  # messages that may still be drawn
        self._work = Event()  # for the pushing greenlet: something was drawn, or drawing has ended
        self._room = Event()  # for the drawing one: it may go on
        self._halt = Event()
        self._drawing = True
        self._deposed = False
        self._error: Exception | None = None

    def run(self) -> bool:
        """Generates until `stop` (True) or until Redis refuses a push: another one generates (False).

        Raises UserCodeError when generate raised or yielded what is no message.
        """
        push = gevent.spawn(self._guarded, self._push)
        draw = gevent.spawn(self._guarded, self._draw)
        self._halt.wait()
        draw.kill(timeout=1)  # it may be waiting in the user's code for what never comes
        self._drawing = False
        self._work.set()
        push.join()
        if self._error is not None:
            raise self._error
        return not self._deposed

    def stop(self) -> None:
        """The graceful end: what was drawn is still pushed."""
        self._halt.set()

    def abandon(self) -> None:
        """The term is over: what was drawn is forgotten, the next generator draws it again after `last`."""
        self._deposed = True
        self._halt.set()

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Trouble:
            self._halt.set()  # this process ends without Redis
        except Exception as error:
            self._error = error
            self._halt.set()

    # -- drawing

    def _draw(self) -> None:
        messages = self._iterator()
        due = yield_at = monotonic()
        while True:
            if self._allowance <= 0 or len(self._drawn) >= BATCH or self._drawn_bytes >= BATCH_BYTES:
                self._room.clear()
                self._work.set()
                self._room.wait()
                continue
            began = perf_counter()
            try:
                message = next(messages)
            except StopIteration:
                return
            except GreenletExit:  # the end of the term
                raise
            except BaseException as error:  # SystemExit and gevent.Timeout too
                raise self._blame(error) from error
            data = self._encoded(message)
            self._drawn.append(data)
            self._drawn_bytes += len(data)
            self._allowance -= 1
            self._work.set()
            if self._interval:
                due = max(due + self._interval, monotonic())
                if (early := due - monotonic()) > 0:
                    gevent.sleep(early)
                else:
                    breathe()
            elif (now := perf_counter()) - began > QUICK or now >= yield_at:
                breathe()
                yield_at = perf_counter() + SLICE

    def _iterator(self) -> Iterator[str | bytes]:
        try:
            return iter(self._generate(self._term.last))
        except GreenletExit:
            raise
        except BaseException as error:
            raise self._blame(error) from error

    def _encoded(self, message: str | bytes) -> bytes:
        if isinstance(message, bytes):
            return message
        if not isinstance(message, str):
            raise UserCodeError(f"{self._name} yielded {type(message).__name__}; a message is str or bytes")
        try:
            return message.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError as error:
            raise UserCodeError(f"{self._name} yielded a str that is no text: {error}") from error

    def _blame(self, error: BaseException) -> UserCodeError:
        what = " ".join(format_exception_only(error)[-1].split())
        return UserCodeError(f"{self._name} raised {what} ({place_of(error)})")

    # -- pushing

    def _push(self) -> None:
        pushed = self._term.generated
        self._allow(None)
        while not self._deposed:
            batch = self._batch()
            if not batch:
                if not self._drawing:
                    return
                self._work.clear()
                self._work.wait()
                continue
            push = partial(self._store.push, self._term.member, self._term.number, pushed, batch)
            length = self._outage.insist("generator", push, self._expired)
            if length is None:
                self.abandon()
                return
            pushed += len(batch)
            self._totals.generated += len(batch)
            self._allow(length)

    def _batch(self) -> list[bytes]:
        batch = list(self._drawn)  # never more than BATCH and about BATCH_BYTES: drawing sees to it
        self._drawn.clear()
        self._drawn_bytes = 0
        self._room.set()
        return batch

    def _allow(self, length: int | None) -> None:
        """Lets drawing go on as far as `--max-backlog` permits; looks again while it does not."""
        pause, longest = LOOKS
        while self._max_backlog < inf:
            if length is None:
                length = self._outage.insist("generator", self._store.backlog, self._expired)
            self._allowance = self._max_backlog - length - len(self._drawn)
            if self._allowance > 0 or self._drawn or self._halt.wait(pause):
                break
            pause, length = min(2 * pause, longest), None
        self._room.set()
