"""One task: starts the greenlets, changes the role, ends in order."""

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from time import monotonic

import gevent
from gevent.event import Event

from gtask import forks, signals, strays
from gtask.config import Config
from gtask.connections import backoff
from gtask.delivery import AtLeastOnce, AtMostOnce, Hand
from gtask.distance import Distance
from gtask.election import Election, Term
from gtask.exceptions import (
    EXIT_OK,
    EXIT_OUTPUT,
    EXIT_READER_GONE,
    EXIT_SOFTWARE,
    EXIT_STUCK,
    Forbidden,
    GtaskError,
    Trouble,
)
from gtask.functions import Handle
from gtask.generator import End, Generator
from gtask.handler import Handler
from gtask.items import Generate
from gtask.log import keep_speaking, say
from gtask.membership import Membership
from gtask.outage import Outage
from gtask.recovery import Recovery
from gtask.report import Reporter, Totals, Writer
from gtask.store import Member, Store
from gtask.supply import Supply
from gtask.watch import LoopWatch, StandIn

log = logging.getLogger(__name__)

DELIVERIES: dict[str, type[Hand]] = {"at-most-once": AtMostOnce, "at-least-once": AtLeastOnce}
JOIN = 0.2  # seconds for a term to say that its generate has not ended within the grace
LAST_CALL = 3.0  # seconds for storing what is finished when the event loop is broken
LAST_REPORT = 1.0  # seconds: for a reader that reads
RELISTEN = 1.0  # seconds until notices are listened for again
REASK = 60.0  # the same after this was refused
CHRONICLE = 10.0  # seconds between totals in the log of a task that speaks to people


class Task:
    """Owner of the role. It starts these greenlets: heartbeat, notices, recovery, workers, tend, a generator for
    each term, the writer of reports; and a native thread that stands in for them while the event loop is held."""

    def __init__(
        self,
        config: Config,
        make_store: Callable[[], Store],
        generate: Generate,
        handle: Handle,
        report_fd: int | None,
        watch: LoopWatch,
    ) -> None:
        """`make_store`: one for the greenlets and one for the native thread. `report_fd`: where a monitor reads;
        None: a person watches, and gets log lines. `watch`: it has been started."""
        self._config = config
        store = make_store()
        self._store = store
        self._generate = generate
        self._report_fd = report_fd
        self._totals = Totals()
        self._reporter = Reporter(self._totals)
        self._writer = Writer(self._reporter, report_fd, self._cannot_report) if report_fd is not None else None
        self._expired = Event()  # the time for a graceful end is over
        self._ended = Event()
        self._code = EXIT_OK
        self._outage = Outage(store.address, backoff)
        self._membership = Membership(store, config.heartbeat, config.wait, config.generate)
        self._election = Election(store, self._membership, config.heartbeat, config.generate)
        self._distance = Distance(config.heartbeat)
        self._recovery = Recovery(store, self._outage, self._expired)
        self._supply = Supply(
            DELIVERIES[config.delivery], store, self._membership, self._outage,
            expired=self._expired, recover=self._recovery.look_after,
        )  # fmt: skip
        self._handler = Handler(handle, self._supply, self._totals)
        self._watch = watch
        self._stand_in = StandIn(
            make_store, self._membership, self._election, self._handler, self._supply,
            heartbeat=config.heartbeat, grace=config.grace,
        )  # fmt: skip
        self._generator: Generator | None = None
        self._term: Term | None = None
        self._generating = gevent.spawn(lambda: None)  # the last term's greenlet; none yet
        self._wake = Event()  # the next heartbeat is due now
        self._beating = True

    def run(self) -> int:
        """Works until `end`, then ends gracefully. Returns the exit code."""
        self._membership.on_join.append(self._joined)
        writing = self._spawn("writer", self._writer.run if self._writer else self._chronicle)
        heartbeat = self._spawn("heartbeat", self._beat_on)
        self._spawn("notices", self._listen)
        self._spawn("keep", self._keep)
        self._spawn("recovery", self._recovery.run)
        self._spawn("tend", self._handler.tend)
        for number in range(self._config.concurrency):
            self._spawn(f"worker {number}", self._handler.work)
        self._watch.attend(self._stand_in, self._handler.start_no_more, self.end)
        strays.mute_signal_handlers()
        forks.arm(self._leave_to_parent)
        ending = self._spawn("end", partial(self._end_when_asked, heartbeat, writing))
        while not ending.ready():
            # The main greenlet does nothing but wait, because it is the one into which gevent throws what is raised by
            # a signal's handler and by sys.exit in any greenlet, and that may come at any moment.
            try:
                ending.join()
            except BaseException as error:
                if strays.broke_the_loop(error):
                    self._watch.stop()
                    strays.say_closed(error)
                    self._stand_in.leave_at_once(LAST_CALL)
                    return EXIT_SOFTWARE
                log.error("%s; ending", strays.thrown_into_main(error))
                self.end(EXIT_SOFTWARE)
        return self._code

    def end(self, code: int = EXIT_OK) -> None:
        """Begins the graceful end; only the first call counts."""
        if not self._ended.is_set():
            self._code = code
            self._handler.start_no_more()
            self._watch.ending()
            self._ended.set()

    def _leave_to_parent(self) -> None:
        """Runs in a child that users' code has forked (forks.py)."""
        self._store.abandon()
        self._stand_in.abandon()
        self._watch.abandon()
        self._handler.forked()
        if self._generator is not None:
            self._generator.forked()

    def _end_when_asked(self, heartbeat: gevent.Greenlet, writing: gevent.Greenlet) -> None:
        self._ended.wait()
        self._finish(heartbeat)
        if self._writer is not None:
            self._writer.stop()
            writing.join(timeout=LAST_REPORT)

    def _finish(self, heartbeat: gevent.Greenlet) -> None:
        # One deadline for all. The flag first: while this task finishes what it has in hand, another one can
        # generate. The membership last: it protects what is in hand. The heartbeat goes on until then, and is over
        # before: one that came after the membership's end would find that this task is no member.
        grace = self._config.grace
        deadline = monotonic() + grace
        timer = gevent.spawn_later(grace, self._expired.set)
        self._membership.close()
        self._election.standing = False
        if self._generator is not None:
            self._generator.stop()
        self._generating.join(timeout=grace + JOIN)
        with suppress(Trouble):  # Redis is away, and the flag expires by itself
            self._outage.insist("release", self._election.resign, self._expired)
        if unfinished := self._handler.finish(deadline):
            where = "back in the queue" if self._supply.hand.kept_in_redis else "in errors"
            log.warning("%d messages were not finished within --grace %g: they are %s", unfinished, grace, where)
        self._beating = False
        self._wake.set()
        heartbeat.join(timeout=max(0.0, deadline - monotonic()))
        heartbeat.kill()  # it waits for a Redis that is away
        self._handler.leave(grace)
        timer.kill()
        self._tell(f"has ended: {self._totals}")

    # -- heartbeat and role

    def _beat_on(self) -> None:
        self._outage.insist("start", self._membership.first_join, self._expired)
        while self._beating:
            pause = self._outage.insist("heartbeat", self._election.step, self._expired)
            self._watch.beaten()
            if advice := self._distance.advice(self._store.round_trip):
                log.warning("%s", advice)
            keep_speaking()  # what users' code has taken away since the last time
            signals.keep()
            self._follow()
            self._recovery.look_after(*self._election.dead)
            self._wake.wait(pause)
            self._wake.clear()

    def _follow(self) -> None:
        """Takes the role that the election says."""
        term = self._election.term
        if self._ended.is_set() or (term is self._term and (term is not None or not self._supply.paused.is_set())):
            return
        if self._generator is not None:
            self._generator.abandon()
            self._generator = None
        self._term = term
        if term is None:
            self._tell("handles")
            self._reporter.handling()
            self._handler.resume()
        else:
            self._tell("is the generator")
            self._reporter.generating()
            self._spawn("pause", self._supply.pause)
            config = self._config
            self._election.generating = True
            self._generator = Generator(
                self._generate, config.generate, term,
                store=self._store, outage=self._outage, totals=self._totals, interval=config.interval / 1000,
                max_backlog=config.max_backlog, patience=2 * config.heartbeat,
                beats_since=lambda: self._election.beats_since, grace=config.grace, expired=self._expired,
            )  # fmt: skip
            self._generating = self._spawn("generator", partial(self._generate_on, self._generator, term))

    def _generate_on(self, generator: Generator, term: Term) -> None:
        """One term, to its end. This task stands for election again only when its generate has ended."""
        end = generator.run()
        if end.error:
            self._term_failed(term, end)
        elif end.refused:
            self._election.refused(term)
        if end.living:
            log.error("%s was told to end and is still there after %g s (%s); so this task ends, and others generate",
                      self._config.generate, self._config.grace, end.living)  # fmt: skip
            self.end()
            self._code = self._code or EXIT_STUCK
            return
        self._election.generating = False
        self._wake.set()  # ask at once what this task is now

    def _term_failed(self, term: Term, end: End) -> None:
        """An error of the user's, or of the way to Redis, ends the term and not the task: its handlers work on."""
        failed = partial(self._election.failed, term, end.error)
        pause = self._outage.insist("release", failed, self._expired)
        again = f"generating is tried again in {pause:.1f} s" if pause else "another task generates"
        log.warning("term %d failed: %s; %s", term.number, end.error, again)
        log.debug("the traceback", exc_info=end.cause)

    def _joined(self, member: Member) -> None:
        self._supply.renew(member)
        self._reporter.created(member.task_id)
        self._tell("has joined")

    # -- beside them

    def _listen(self) -> None:
        """An accelerator: after a clean end of the generator the next heartbeat is due at once."""
        while True:
            pause = RELISTEN
            try:
                for _ in self._store.notices():
                    self._wake.set()
            except Forbidden:
                pause = REASK  # it works without, but rights can come back
            except Trouble:
                pass
            gevent.sleep(pause)

    def _keep(self) -> None:
        """Keeps the connection for commands in use while there are none."""
        while True:
            pause = RELISTEN
            with suppress(Trouble):  # whoever needs the connection next opens it anew
                pause = self._store.keep()
            gevent.sleep(pause)

    def _chronicle(self) -> None:
        told = replace(self._totals)
        while True:
            gevent.sleep(CHRONICLE)
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
        else:
            say(f"cannot write the reports: {error.strerror}; ending")
            self.end(EXIT_OUTPUT)

    def _spawn(self, name: str, work: Callable[[], None]) -> gevent.Greenlet:
        """Starts a greenlet whose failure ends the task: none dies unseen."""

        def guarded() -> None:
            try:
                work()
            except Trouble:
                log.debug("%s ended without Redis", name)
            except GtaskError as error:
                say(str(error))
                self.end(error.code)
            except Exception:
                log.exception("a bug in gtask (%s)", name)
                self.end(EXIT_SOFTWARE)
            except BaseException as error:  # gevent.Timeout, GreenletExit: thrown in by the user's code
                if not self._ended.is_set():
                    log.error("%s was thrown into gtask's own greenlet (%s); ending", type(error).__name__, name)
                    self.end(EXIT_SOFTWARE)

        greenlet = gevent.spawn(guarded)
        greenlet.name = name
        return greenlet
