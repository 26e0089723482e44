"""Watches the event loop, which users' code may hold, because it computes or waits in C. No greenlet runs then.

A native thread does what must be done all the same. It waits for nothing but the clock and signals, so it is always
there to say who holds the loop, and to end the process when its time is over. Whatever has to be said to Redis
meanwhile it leaves to another thread (stand_in.py). Only C code that keeps Python's lock (the GIL) stops both.
"""

import errno
import os
import select
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import FrameType

from gevent import get_hub
from gevent.monkey import get_original

from gtask import forks, log, signals, strays
from gtask.exceptions import EXIT_SIGNAL_BASE, EXIT_SOFTWARE, EXIT_STUCK
from gtask.places import where_in
from gtask.protocol import SAME_WISH
from gtask.stand_in import StandIn
from gtask.standstill import Running

LATE = 0.1  # seconds: when the loop has not turned for so long, something holds it
TOLD_AFTER = 2.0  # seconds until the log says who holds it, and again each time that this has doubled
TOLD_AGAIN = 10.0  # seconds without such a line after the loop has turned again
OVER = 0.5  # seconds: a loop that is held for so long when the grace is over may not turn any more before the end
FORCE = 1.0  # seconds for which the loop has to be held after the grace until the process ends by force
LAST_WORDS = 0.5  # seconds for the last log lines before such an end

_start_thread = get_original("_thread", "start_new_thread")


class LoopWatch:
    """The thread that watches the event loop. It is also the one place to which signals come."""

    def __init__(self, heartbeat: float, grace: float) -> None:
        """`heartbeat` (T) and `grace`, which a graceful end may take, in seconds."""
        self._heartbeat = heartbeat
        self._grace = grace
        self._main = get_original("_thread", "get_ident")()
        self._loop = get_hub().loop
        self._clock = Running()  # of all times here: who stood still with the whole process has held nothing
        self._asked: float | None = None  # when the loop was asked for a sign of life; None: it has given it
        self._ask_at = 0.0
        self._tell_at = TOLD_AFTER
        self._told: float | None = None  # for how long the loop had been held when that was last said
        self._quiet_until = 0.0
        self._signalled: float | None = None  # when the first signal came
        self._stuck: float | None = None  # when the loop was first seen to be held after the grace
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
        self._pipe = os.fstat(self._read)
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
        # Users' code may have closed the pipe, which the thread finds out. No signal may go to what has its number now.
        with suppress(OSError):
            if self._is_pipe(self._write):
                signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)  # users' asyncio may have taken it away

    def ending(self) -> None:
        """The end was asked for."""
        self._ending = self._ending or self._clock.now()

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

    def _is_pipe(self, fd: int) -> bool:
        """Raises OSError when it is closed."""
        return os.path.samestat(os.fstat(fd), self._pipe)  # both ends have the same

    # -- in the thread

    def _watch(self) -> None:
        try:
            poll = get_original("select", "poll")()
            poll.register(self._read, select.POLLIN)
            wait = 0.0
            while True:
                wait = self._turn(poll.poll, wait)
        except BaseException as error:
            if isinstance(error, OSError) and error.errno == errno.EBADF:
                strays.say_closed(error)
                if self._over:  # the main thread has met it too, and the event loop is broken
                    return
            else:
                log.say(f"the watch over the event loop has failed: {error!r}; ending")
            self._ask_to_end(EXIT_SOFTWARE)

    def _turn(self, poll: Callable[[float], Sequence[object]], wait: float) -> float:
        """Waits for signals, for so many seconds at most, and looks. Returns the seconds until the next look."""
        signalled = poll(1000 * self._clock.wait(wait))
        now = self._clock.look()
        for _ in signalled:
            # Users' code may have closed the pipe. Its number is then free, or that of another file, such as the
            # connection over which the messages in hand are given back; what comes there is not for us.
            numbers = os.read(self._read, 64) if self._is_pipe(self._read) else b""
            if not numbers:  # the same for its other end
                raise OSError(errno.EBADF, os.strerror(errno.EBADF))
            for number in numbers:
                self._signal(number)
        return self._look(now)

    def _signal(self, number: int) -> None:
        """The first signal begins the graceful end. A later one ends the process at once."""
        if number not in signals.ENDING:
            return
        if self._end is None:
            os._exit(EXIT_SIGNAL_BASE + number)
        if self._signalled is None:
            self._signalled = self._clock.now()
            self.ending()
            self._start_no_more()
            self._ask_to_end()
        elif self._clock.now() - self._signalled >= SAME_WISH:
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
        if self._ending is not None:
            self._ending = min(self._ending, now)  # it was asked for before the clock knew that all had stood still
        asked = self._asked
        if asked is not None:
            self._held(now - asked, now)
            return LATE
        if self._told is not None:
            log.say(f"the event loop runs again, after {self._told:.0f} s or more")
            self._told, self._quiet_until = None, now + TOLD_AGAIN
        self._tell_at = TOLD_AFTER
        self._stuck = None
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
            log.say(f"nothing else has run here for {held:.1f} s: {where_in(holder)}")
        ending = self._ending is not None
        left = 0.0 if self._ending is None else self._ending + self._grace - now
        if self._stand_in is not None:
            self._stand_in.late(held, holder, ending=ending, over=ending and left <= 0 and held >= OVER)
        if not ending or left > 0:
            return
        # A loop that turns again ends its task in order: whoever held it until now has nothing to do with that.
        if self._stuck is None:
            self._stuck = now
        if now - self._stuck >= FORCE:
            log.say(f"ended by force, because --grace {self._grace:g} is over and nothing else could run here: "
                    f"{where_in(holder)}")  # fmt: skip
            log.flush(LAST_WORDS)
            os._exit(EXIT_STUCK)


def _comes_by_pipe(number: int, frame: FrameType | None) -> None:
    """The handler of our signals. Python writes a signal into the pipe only when it has one; it need not do anything.

    A child that users' code has forked inherits the handler and has no task that could end, so it ends itself.
    """
    if forks.happened:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
