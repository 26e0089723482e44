"""One task. Greenlets and threads post events; one loop takes them, and it alone changes the role."""

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from errno import EBADF
from functools import partial
from time import monotonic

import gevent
from gevent.event import Event as Flag
from gevent.queue import SimpleQueue

from gtask import forks, strays
from gtask.at_least_once import AtLeastOnce
from gtask.at_most_once import AtMostOnce
from gtask.config import AT_LEAST_ONCE, AT_MOST_ONCE, Config
from gtask.election import Election, Term
from gtask.exceptions import (
    EXIT_OK,
    EXIT_OUTPUT,
    EXIT_READER_GONE,
    EXIT_SOFTWARE,
    EXIT_STUCK,
    GtaskError,
    Trouble,
    WrongType,
)
from gtask.functions import Handle
from gtask.generator import End, Generator
from gtask.hand import Hand
from gtask.handler import Handler
from gtask.heartbeat import Beaten, Heartbeat
from gtask.items import Generate
from gtask.log import say
from gtask.membership import Membership
from gtask.outage import Line, Outage
from gtask.outcome import Policy
from gtask.protocol import Totals
from gtask.recovery import Recovery
from gtask.report import Reporter, Writer
from gtask.server_clock import ServerClock
from gtask.stand_in import StandIn
from gtask.standstill import joined
from gtask.store import Member, Store, backoff
from gtask.supply import Supply
from gtask.watch import LoopWatch

log = logging.getLogger(__name__)

HANDS: dict[str, type[Hand]] = {AT_MOST_ONCE: AtMostOnce, AT_LEAST_ONCE: AtLeastOnce}
LONG = 3  # heartbeats: `gtask status` shows which message a task has been at for so long
LEAST_GRACE = 0.5  # seconds: with less, generate could not even be interrupted
JOIN = 0.2  # seconds for a term to say that its generate has not ended within the grace
BROKEN = "not finished: the event loop of its task broke"
LAST_CALL = 3.0  # seconds for storing what is finished, once the grace is over or the event loop is broken
LAST_REPORT = 1.0  # seconds: for a reader that reads
KEEP_AGAIN = 1.0  # seconds until a connection that was lost is tried again
TOTALS_LOG_INTERVAL = 10.0  # seconds between totals in the log of a task that speaks to people

NO_ROLE, HANDLER = "none yet", "handler"  # or a Term


@dataclass(frozen=True)
class Joined:
    """This task has a new id."""

    member: Member


@dataclass(frozen=True)
class TermEnded:
    """A term's generate has ended; or it still lives there, although it was told to end."""

    living: str = ""


class EndAsked:
    """The graceful end is to begin."""


class Ended:
    """It is done."""


Event = Joined | Beaten | TermEnded | EndAsked | Ended


class Task:
    """Starts these greenlets: its loop, heartbeat, notices, keep, recovery, workers, maintenance, time limit,
    a generator for each term, the writer of reports; and a native thread that stands in for them while the event loop
    is held."""

    def __init__(
        self,
        config: Config,
        make_store: Callable[[], Store],
        generate: Generate,
        handle: Handle,
        report_fd: int | None,
        watch: LoopWatch,
        server_clock: ServerClock | None = None,
    ) -> None:
        """`make_store`: one for the greenlets and one for the native thread. `report_fd`: where a monitor reads;
        None: a person watches, and gets log lines. `watch`: it has been started. `server_clock`: is told
        Redis' time. Starts and connects nothing."""
        self._config = config
        self._term_grace = max(config.grace, LEAST_GRACE)  # seconds that generate may take to end
        self._generate = generate
        self._report_fd = report_fd
        self._watch = watch
        self._events: SimpleQueue[Event] = SimpleQueue()
        # What the loop alone changes.
        self.role: Term | str = NO_ROLE
        self._generator: Generator | None = None
        self._generating: gevent.Greenlet | None = None  # the last term's
        self._over = False
        # What `end` changes, whoever calls it.
        self._ending = False
        self._code = EXIT_OK  # the first other one of all calls
        self._said = ""  # the last error of ours that was said
        # The parts.
        self._expired = Flag()  # the time for a graceful end is over
        self._too_late = f"not finished within --grace {config.grace:g}"
        self._totals = Totals()
        self._reporter = Reporter(self._totals)
        self._writer = Writer(self._reporter, report_fd, self._cannot_report) if report_fd is not None else None
        self._writing: gevent.Greenlet | None = None
        store = self._store = make_store()
        line = self._line = Line(store, Outage(store.address, backoff), "task", self._expired)
        self._membership = Membership(store, config.heartbeat, config.wait, config.generate)
        self._membership.on_join = lambda member: self._events.put(Joined(member))
        self._election = Election(store, self._membership, config.heartbeat, config.generate, server_clock=server_clock)
        self._recovery = Recovery(line.of("recovery"))
        self._supply = Supply(HANDS[config.delivery], line.of("handler"), self._membership, self._recovery)
        self._handler = Handler(
            handle, self._supply, self._totals, concurrency=config.concurrency,
            policy=Policy(config.retries, config.backoff), timeout=config.timeout,
            long=LONG * config.heartbeat,
        )  # fmt: skip
        self.heartbeat = Heartbeat(
            line.of("heartbeat"), self._membership, self._election, config.heartbeat, self._events.put,
            beside=self._handler.tell_longest,
        )  # fmt: skip
        self._beating: gevent.Greenlet | None = None
        self._stand_in = StandIn(
            make_store, self._membership, self._election, self._handler, heartbeat=config.heartbeat, why=self._too_late
        )

    def run(self) -> int:
        """Works until `end`, then ends gracefully. Returns the exit code."""
        self._writing = self._spawn("writer", self._writer.run if self._writer else self._log_totals)
        self._beating = self._spawn("heartbeat", self.heartbeat.run)
        self._spawn("notices", self.heartbeat.listen)
        self._spawn("keep", self._keep)
        self._spawn("recovery", self._recovery.run)
        self._spawn("maintenance", self._handler.maintain)
        for number in range(self._config.concurrency):
            self._spawn(f"worker {number}", partial(self._handler.work, number))
        if self._config.timeout:
            self._spawn("time limit", self._handler.time_limit.run)
        self._watch.attend(self._stand_in, self._handler.start_no_more, self.end)
        strays.mute_signal_handlers()
        forks.arm(self._leave_to_parent)
        looping = gevent.spawn(self._loop)
        while not looping.ready():
            # The main greenlet does nothing but wait, because it is the one into which gevent throws what is raised by
            # a signal's handler and by sys.exit in any greenlet, and that may come at any moment.
            try:
                looping.join()
            except BaseException as error:
                if strays.broke_the_loop(error):
                    self._watch.stop()
                    strays.say_closed(error)
                    self._stand_in.leave_at_once(LAST_CALL, BROKEN)
                    return EXIT_SOFTWARE
                log.error("%s; ending", strays.thrown_into_main(error))
                self.end(EXIT_SOFTWARE)
        return self._code

    def end(self, code: int = EXIT_OK) -> None:
        """Begins the graceful end; a further call can only say that something went wrong. It waits for nothing, so the
        hub may call it."""
        self._code = self._code or code
        if not self._ending:
            self._ending = True
            self._handler.start_no_more()
            self._watch.ending()
            self._events.put(EndAsked())

    def _leave_to_parent(self) -> None:
        """Runs in a child that users' code has forked (forks.py)."""
        self._store.abandon()
        self._stand_in.abandon()
        self._watch.abandon()
        self._handler.forked()
        if self._generator is not None:
            self._generator.forked()

    # -- the loop

    def _loop(self) -> None:
        while not self._over:
            self._guard("task", self.step)

    def step(self) -> None:
        """Takes the next event, and starts or stops what follows from it."""
        match self._events.get():
            case Joined(member):
                self._supply.renew()
                self._reporter.created(member.task_id)
                self._tell("has joined")
            case Beaten(term, dead):
                self._watch.beaten()
                self._recovery.look_after(*dead)
                if not self._ending and self.role is not (term or HANDLER):
                    self._become(term)
            case TermEnded(""):
                self._election.stand_again()
                self.heartbeat.hurry()  # ask at once what this task is now
            case TermEnded(living):
                log.error("%s was told to end and is still there after %g s (%s); so this task ends, and others "
                          "generate", self._config.generate, self._term_grace, living)  # fmt: skip
                self.end(EXIT_STUCK)
            case EndAsked():
                self._spawn("end", self._end)
            case Ended():
                self._over = True

    def _become(self, term: Term | None) -> None:
        """The generator in this term, or a handler."""
        self.role = term or HANDLER
        if self._generator is not None:
            self._generator.abandon()
            self._generator = None
        if term is None:
            self._tell("handles")
            self._reporter.handling()
            self._handler.resume()
            return
        self._tell("is the generator")
        self._reporter.generating()
        self._spawn("stop taking", self._supply.stop_taking)
        config = self._config
        self._generator = Generator(
            self._generate, config.generate, term,
            line=self._line.of("generator"), totals=self._totals, interval=config.interval / 1000,
            max_backlog=config.max_backlog, patience=2 * config.heartbeat,
            beats_since=lambda: self._election.beats_since, grace=self._term_grace,
        )  # fmt: skip
        self._generating = self._spawn("generator", partial(self._generate_on, self._generator, term))

    # -- a term

    def _generate_on(self, generator: Generator, term: Term) -> None:
        """One term, to its end."""
        end = generator.run()
        if end.error:
            self._term_failed(term, end)
        elif end.refused:
            self._election.refused(term)
        self._events.put(TermEnded(end.living))

    def _term_failed(self, term: Term, end: End) -> None:
        """An error of the user's, or of the way to Redis, ends the term and not the task: its handlers work on."""
        pause = self._line.of("release").retry(partial(self._election.failed, term, end.error))
        again = f"generating is tried again in {pause:.1f} s" if pause else "another task generates"
        log.warning("term %d failed: %s; %s", term.number, end.error, again)
        log.debug("the traceback", exc_info=end.cause)

    # -- the end

    def _end(self) -> None:
        try:
            longest = self._config.grace + LAST_CALL
            if not joined(self._spawn("finish", self._finish), longest):
                log.warning("Redis has not answered; ending %g s after this was asked for, without having told it all "
                            "that is finished", longest)  # fmt: skip
            if self._writer is not None and self._writing is not None:
                self._writer.stop()
                joined(self._writing, LAST_REPORT)
        finally:
            self._events.put(Ended())

    def _finish(self) -> None:
        # One deadline for all. The flag first: while this task finishes what it has in hand, another one can
        # generate. The membership last: it protects what is in hand. The heartbeat goes on until then, and is over
        # before: one that came after the membership's end would find that this task is no member.
        grace = self._config.grace
        deadline = monotonic() + grace
        timer = gevent.spawn_later(grace, self._expired.set)
        self._membership.close()
        self._election.close()
        if self._generator is not None:
            self._generator.stop()
        if self._generating is not None:
            joined(self._generating, self._term_grace + JOIN)
        with suppress(Trouble, WrongType):  # Redis is away, or holds another program's data; the flag expires by itself
            self._line.of("release").retry(self._election.resign)
        if unfinished := self._handler.finish(deadline):
            what = "message was" if unfinished == 1 else "messages were"
            where = "back in the queue" if self._supply.hand.kept_in_redis else "in errors"
            log.warning("%d %s not finished within --grace %g: now %s", unfinished, what, grace, where)
        self.heartbeat.stop()
        if self._beating is not None:
            self._beating.join(timeout=max(0.0, deadline - monotonic()))
            self._beating.kill()  # it waits for a Redis that is away
        self._handler.leave(self._too_late)
        timer.kill()
        self._tell(f"has ended: {self._totals}")

    # -- beside them

    def _keep(self) -> None:
        """Keeps the connection for commands in use while there are none."""
        while True:
            wait = KEEP_AGAIN
            with suppress(Trouble):  # whoever needs the connection next opens it anew
                wait = self._store.keep()
            gevent.sleep(wait)

    def _log_totals(self) -> None:
        told = replace(self._totals)
        while True:
            gevent.sleep(TOTALS_LOG_INTERVAL)
            if self._totals != told:
                told = replace(self._totals)
                self._tell(str(told))

    def _tell(self, what: str) -> None:
        level = logging.INFO if self._report_fd is None else logging.DEBUG  # a monitor has its reports
        log.log(level, "task %d %s", self._membership.member.task_id, what)

    def _cannot_report(self, error: OSError) -> None:
        if isinstance(error, BrokenPipeError):
            say("nobody reads the reports any more; ending")
            self.end(EXIT_READER_GONE)
        elif error.errno == EBADF:
            strays.say_closed(error)
            self.end(EXIT_SOFTWARE)
        else:
            say(f"cannot write the reports: {error.strerror}; ending")
            self.end(EXIT_OUTPUT)

    def _spawn(self, name: str, work: Callable[[], None]) -> gevent.Greenlet:
        """Starts a greenlet whose failure ends the task: none dies unseen."""
        greenlet = gevent.spawn(self._guard, name, work)
        greenlet.name = name
        return greenlet

    def _guard(self, name: str, work: Callable[[], None]) -> None:
        try:
            work()
        except Trouble:
            log.debug("%s ended without Redis", name)
        except GtaskError as error:
            if str(error) != self._said:  # several greenlets meet the same key
                self._said = str(error)
                say(self._said)
            self.end(error.code)
        except Exception:
            log.exception("a bug in gtask (%s)", name)
            self.end(EXIT_SOFTWARE)
        except BaseException as error:  # gevent.Timeout, GreenletExit: thrown in by the user's code
            if not self._ending:
                log.error("%s was thrown into gtask's own greenlet (%s); ending", type(error).__name__, name)
                self.end(EXIT_SOFTWARE)
