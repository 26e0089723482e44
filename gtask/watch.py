"""What keeps a task's promises while users' code holds its event loop, because it computes or waits in C.

No greenlet runs then. There is no heartbeat, TERM does not end the task, and the messages in hand wait although other
tasks are idle. Two native threads do what must be done all the same. The first one watches. It waits for nothing but
the clock and signals, so it is always there to say who holds the loop, and to end the process when its time is over.
The second one stands in for the greenlets and talks to Redis, over connections of its own. It may have to wait for
Redis, which is why the first one leaves this to it. Only C code that keeps Python's lock (the GIL) stops both.
"""

import errno
import logging
import os
import select
import signal
import sys
from collections.abc import Callable
from functools import partial
from time import monotonic
from types import FrameType
from typing import Any

from gevent import get_hub
from gevent.monkey import get_original

from gtask import forks, log, signals, strays
from gtask.election import Election
from gtask.exceptions import EXIT_SIGNAL_BASE, EXIT_SOFTWARE, EXIT_STUCK, GtaskError, NotMember, Trouble
from gtask.handler import Handler
from gtask.membership import Membership
from gtask.places import place_in
from gtask.protocol import SAME_WISH
from gtask.store import Store, backoff

logger = logging.getLogger(__name__)

LATE = 0.1  # seconds: when the loop has not turned for so long, something holds it
TOLD_AFTER = 2.0  # seconds until the log says who holds it, and again each time that this has doubled
TOLD_AGAIN = 10.0  # seconds without such a line after the loop has turned again
OVER = 0.5  # seconds: a loop that is held for so long when the grace is over may not turn any more before the end
FORCE = 1.0  # seconds after the grace until a process ends by force whose loop has been held for as long
LAST_WORDS = 0.5  # seconds for the last log lines before such an end
KEPT_FOR = 10  # heartbeats: a generate that holds the loop for longer loses the flag
# Heartbeats since the last one after which the thread sends one: while the loop is held, and while it turns.
BEAT_WHEN_HELD, BEAT_WHEN_LATE = 0.75, 1.5

_start_thread = get_original("_thread", "start_new_thread")


class StandIn:
    """Acts for the greenlets of a task, in a thread of its own. Where it fails, it leaves the matter to them."""

    def __init__(
        self,
        make_store: Callable[[], Store],
        membership: Membership,
        election: Election,
        handler: Handler,
        *,
        heartbeat: float,
        why: str,
    ) -> None:
        """`heartbeat`: T in seconds. `why`: the reason with which fails what is not finished in time and cannot be
        given back."""
        self._make_store = make_store
        self._membership = membership
        self._election = election
        self._handler = handler
        self._heartbeat = heartbeat
        self._why = why
        self._beaten = monotonic()
        self._failures = 0  # in a row
        self._again = 0.0  # when the thread acts again after a failure
        self._let_go = 0  # the number of the term whose flag is not kept any more; 0: none
        self._left = False
        self._busy = False
        self._store: Store | None = None
        self._jobs: Any = get_original("queue", "SimpleQueue")()

    def beaten(self) -> None:
        """A heartbeat has just been sent by the greenlet, or this thread tries to send one. What came of that does not
        matter here: a thread that began anew at once would double the attempts while Redis is away."""
        self._beaten = monotonic()

    @property
    def urgent(self) -> bool:
        """Whether messages would have to wait for a loop that is held."""
        return self._handler.supply.has_unstarted

    def abandon(self) -> None:
        """Closes the thread's sockets in a forked child, which has copies of them but not the thread."""
        if self._store is not None:
            self._store.abandon()

    def leave_at_once(self, seconds: float, why: str) -> None:
        """Stores what is finished and gives back what was not started, after the event loop has broken. `why`: the
        reason with which fails what cannot be given back.

        That happens in a thread and over connections made for this alone, because the standing-in thread may be in the
        middle of something. Returns when it is done, or after `seconds`.
        """
        left = get_original("_thread", "allocate_lock")()
        left.acquire()

        def leave() -> None:
            self._try(lambda: self._handler.leave_from_outside(self._make_store(), why))
            left.release()

        _start_thread(leave, ())
        left.acquire(timeout=seconds)

    def start(self) -> None:
        """Starts the thread."""
        _start_thread(self._run, ())

    def late(self, held: float, holder: FrameType | None, *, ending: bool, over: bool) -> None:
        """Makes the thread do what is due, unless it is doing so already.

        `held`: for how many seconds the loop has been held (0: it turns), and `holder`: by whom. `ending`: the end was
        asked for. `over`: the time for a graceful end is over.
        """
        now = monotonic()
        since = (now - self._beaten) / self._heartbeat
        if not self._busy and (over or now >= self._again) and (held or since >= BEAT_WHEN_LATE):
            self._busy = True
            self._jobs.put(partial(self._act, held, holder, ending, over))

    def _run(self) -> None:
        while True:
            self._failures = 0 if self._try(self._jobs.get()) else self._failures + 1
            self._again = monotonic() + backoff(self._failures) if self._failures else 0.0
            self._busy = False

    def _act(self, held: float, holder: FrameType | None, ending: bool, over: bool) -> None:
        store = self._store
        if store is None:
            store = self._store = self._make_store()
        if over:
            if not self._left:
                self._handler.leave_from_outside(store, self._why)
                self._left = True
            return
        self._beat(store, held, holder, ending)
        if held:
            self._handler.supply.give_back_from_outside(store)

    def _try(self, what: Callable[[], None]) -> bool:
        """Does it once, and says whether it could be done. The greenlets deal with what goes wrong here, as soon as
        they run again."""
        try:
            what()
        except (Trouble, NotMember, GtaskError) as error:
            logger.debug("while the event loop is held: %s", error)
        except Exception:  # the next attempt may succeed, and without this thread nobody would make one
            logger.exception("a bug in gtask (standing in for the event loop)")
        else:
            return True
        return False

    def _beat(self, store: Store, held: float, holder: FrameType | None, ending: bool) -> None:
        """Keeps the membership, and the flag too if it is generate that holds the loop.

        The flag is not kept for ever, because a generate that hangs would keep all other tasks from generating. It is
        not kept at all while a handler holds the loop: another task can generate meanwhile.
        """
        term = self._election.term
        keep = False
        if term is not None and term.number != self._let_go:
            keep = not ending and _draws(holder) and held < KEPT_FOR * self._heartbeat
            if ending:
                self._let_go = term.number
                store.release(term.member, term.number)
            elif _draws(holder) and not keep:
                self._let_go = term.number
                why = f"generate held the event loop for {held:.1f} s at {_where(holder)}"
                log.say(f"term {term.number} lost: {why}")
                store.release_failed(term.member, term.number, why)
        if self._membership.member.task_id and monotonic() - self._beaten >= BEAT_WHEN_HELD * self._heartbeat:
            self.beaten()
            asked = monotonic()
            beat = store.beat(self._membership.member, term=term.number if keep and term else 0)
            self._election.server_clock.told(beat.time, asked, monotonic())
            self._handler.tell_longest(store)


class LoopWatch:
    """The thread that watches the event loop. It is also the one place to which signals come."""

    def __init__(self, heartbeat: float, grace: float) -> None:
        """`heartbeat` (T) and `grace`, which a graceful end may take, in seconds."""
        self._heartbeat = heartbeat
        self._grace = grace
        self._main = get_original("_thread", "get_ident")()
        self._loop = get_hub().loop
        self._asked: float | None = None  # when the loop was asked for a sign of life; None: it has given it
        self._ask_at = 0.0
        self._tell_at = TOLD_AFTER
        self._told: float | None = None  # for how long the loop had been held when that was last said
        self._quiet_until = 0.0
        self._signalled: float | None = None  # when the first signal came
        self._ending: float | None = None  # when the end was asked for, by a signal or otherwise
        self._stand_in: StandIn | None = None
        self._start_no_more: Callable[[], None] = lambda: None
        self._end: Callable[[int], None] | None = None  # None: there is no task yet that would have to end
        self._over = False

    def start(self) -> None:
        """Begins to watch the event loop of the thread that calls this, the main one. Until `attend` is called a signal
        ends the process at once, because nothing is in its hands yet."""
        self._read, self._write = os.pipe()
        for fd in (self._read, self._write):
            os.set_blocking(fd, False)
        # Python tells of a signal in two ways. It writes the signal's number into a pipe at once, and it calls the
        # handler as soon as the main thread comes out of C code. That may be never, so we rely on the pipe.
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for number in signals.ENDING:
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup has it ignored
                signals.own(number, _comes_by_pipe)
        _start_thread(self._watch, ())

    def attend(self, stand_in: StandIn, start_no_more: Callable[[], None], end: Callable[[int], None]) -> None:
        """From now on there is a task. `end` is always called in the event loop, `start_no_more` from the thread."""
        self._start_no_more = start_no_more
        self._end = end
        self._stand_in = stand_in
        stand_in.start()

    def beaten(self) -> None:
        """The heartbeat's greenlet has just sent one, so the loop turns."""
        if self._stand_in is not None:
            self._stand_in.beaten()
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)  # users' asyncio may have taken it away

    def ending(self) -> None:
        """The end was asked for."""
        self._ending = self._ending or monotonic()

    def stop(self) -> None:
        """The loop is watched no more, because the process ends by itself from here on. A second signal still ends it
        at once."""
        self._over = True

    def abandon(self) -> None:
        """Cuts a forked child off from the pipe that tells its parent of signals."""
        signal.set_wakeup_fd(-1)
        close = get_original("os", "close")  # gevent's own would leave it to the loop, which is the parent's
        close(self._read)
        close(self._write)

    # -- in the thread

    def _watch(self) -> None:
        try:
            poll = get_original("select", "poll")()
            poll.register(self._read, select.POLLIN)
            wait = 0.0
            while True:
                for _ in poll.poll(1000 * wait):
                    for number in os.read(self._read, 64):
                        self._signal(number)
                wait = self._look(monotonic())
        except BaseException as error:
            # Users' code has closed our descriptor, and perhaps its number is by now that of another file.
            if isinstance(error, OSError) and error.errno in (errno.EBADF, errno.EAGAIN):
                strays.say_closed(error)  # the main thread will meet it too
                return
            log.say(f"the watch over the event loop has failed: {error!r}; ending")
            self._ask_to_end(EXIT_SOFTWARE)

    def _signal(self, number: int) -> None:
        """The first signal begins the graceful end. A later one ends the process at once."""
        if number not in signals.ENDING:
            return
        if self._end is None:
            os._exit(EXIT_SIGNAL_BASE + number)
        if self._signalled is None:
            self._signalled = monotonic()
            self.ending()
            self._start_no_more()
            self._ask_to_end()
        elif monotonic() - self._signalled >= SAME_WISH:
            os._exit(EXIT_SIGNAL_BASE + number)

    def _ask_to_end(self, *code: int) -> None:
        if self._end is None:
            log.flush(LAST_WORDS)
            os._exit(EXIT_SOFTWARE)
        self._loop.run_callback_threadsafe(self._end, *code)

    def _look(self, now: float) -> float:
        """Looks whether the loop has turned, and does what is due if not. Returns the seconds until the next look."""
        if self._over:
            return self._heartbeat
        asked = self._asked
        if asked is not None:
            self._held(now - asked, now)
            return LATE
        if self._told is not None:
            log.say(f"the event loop runs again, after {self._told:.0f} s or more")
            self._told, self._quiet_until = None, now + TOLD_AGAIN
        self._tell_at = TOLD_AFTER
        if self._stand_in is not None:
            self._stand_in.late(0.0, None, ending=self._ending is not None, over=False)
        if now < self._ask_at:
            return min(LATE, self._ask_at - now)
        self._asked = now
        self._loop.run_callback_threadsafe(self._answer)
        often = self._stand_in is not None and self._stand_in.urgent
        self._ask_at = now + (LATE if often else self._heartbeat / 2)
        return LATE

    def _answer(self) -> None:
        """The sign of life: this runs in the event loop."""
        self._asked = None

    def _held(self, held: float, now: float) -> None:
        if held < LATE:
            return
        holder = sys._current_frames().get(self._main)
        if held >= self._tell_at and now >= self._quiet_until:
            self._told, self._tell_at = held, 2 * held
            log.say(f"nothing else has run here for {held:.1f} s: {_where(holder)}")
        ending = self._ending is not None
        left = 0.0 if self._ending is None else self._ending + self._grace - now
        if self._stand_in is not None:
            self._stand_in.late(held, holder, ending=ending, over=ending and left <= 0 and held >= OVER)
        # A loop that was held for a moment only ends its task in order: whoever holds it now has nothing to do with it.
        if left < -FORCE and held >= FORCE:
            log.say(f"ended by force, because --grace {self._grace:g} is over and nothing else could run here: "
                    f"{_where(holder)}")  # fmt: skip
            log.flush(LAST_WORDS)
            os._exit(EXIT_STUCK)


def _comes_by_pipe(number: int, frame: FrameType | None) -> None:
    """The handler of our signals. Python writes a signal into the pipe only when it has one; it need not do anything.

    A child that users' code has forked inherits the handler and has no task that could end, so it ends itself.
    """
    if forks.happened:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


def _draws(frame: FrameType | None) -> bool:
    """Whether it is the users' generate that runs in this frame."""
    while frame is not None and frame.f_globals.get("__name__") != "gtask.generator":
        frame = frame.f_back
    return frame is not None


def _where(frame: FrameType | None) -> str:
    """The innermost place of users' code in what runs there, or else the innermost place of all."""
    if frame is None:
        return "an unknown place"
    return place_in(frame) or f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_name}"
