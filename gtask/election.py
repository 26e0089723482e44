"""Who generates: asks with every heartbeat, and knows for which term this task was elected."""

import logging
from dataclasses import dataclass
from math import inf
from time import monotonic

from gevent.lock import RLock

from gtask.exceptions import NotMember, Trouble
from gtask.membership import Membership
from gtask.pace import Clock
from gtask.server_clock import ServerClock
from gtask.store import Beat, Member, Store

log = logging.getLogger(__name__)

# Seconds. Redis removes a key in the millisecond after its life, so who asks exactly at its end comes too early.
AFTER_EXPIRY = 0.002


@dataclass(frozen=True)
class Term:
    """One time of being generator. `last` is where the one before left off (`large`: Redis has to be asked for it),
    `pushed_at` when the last push was, on this task's monotonic clock (None: there was none)."""

    member: Member
    number: int
    pushed_at: float | None = None
    last: str | None = None
    large: bool = False


class Election:
    """Owner of the current term; None while this task is a handler."""

    def __init__(
        self,
        store: Store,
        membership: Membership,
        heartbeat: float,
        generate: str,
        clock: Clock = monotonic,
        server_clock: ServerClock | None = None,
    ) -> None:
        """`heartbeat`: T in seconds. `generate`: the function's name, for the log. `clock`: a monotonic one.
        `server_clock`: another one, which somebody reads."""
        self._store = store
        self._clock = clock
        self._membership = membership
        self.server_clock = server_clock or ServerClock(clock)  # is told Redis' time with each beat
        self._heartbeat = heartbeat
        self._generate = generate
        self.term: Term | None = None
        self._closed = False  # this task is ending
        self._generates = False  # a generate of this task may live, and there must be no second one
        self.beats_since = inf  # on the monotonic clock: since when every heartbeat was answered; inf: the last was not
        self._not_before = 0.0  # on the monotonic clock: after a term that failed others have the first chance
        self._asking = RLock()
        self._endless = 0  # beats in a row that found a flag without a life
        self.dead: list[int] = []  # tasks that looked dead at the last beat

    def step(self) -> float:
        """One heartbeat: renews or wants the flag. Returns the seconds until the next one.

        A task that Redis does not know any more joins anew. Raises Trouble; bears repeating.
        """
        with self._asking:
            began = self._clock()
            member = self._membership.member
            while (beat := self._beat(member)) is None:
                self.term = None
                try:
                    member = self._membership.join(instead_of=member)
                except NotMember:
                    return self._heartbeat  # this task is ending
            self.dead = beat.dead
            self._warn_of_an_endless_flag(beat.endless)
            if beat.elected:
                self._say_whose(beat.before)
                # Counted from now, and not from whenever its generator begins: what comes in between is part of the
                # interval. A clock of Redis that was set back may put the last push into the future.
                pushed_at = None if beat.since_push is None else self._clock() - max(0.0, beat.since_push)
                self.term = Term(member, beat.term, pushed_at, beat.last, beat.large)
                self._generates = True
            elif not beat.renewed:
                self.term = None
            now = self._clock()
            return seconds_to_next(beat, self._heartbeat, now - began, self._not_before - now)

    def _beat(self, member: Member) -> Beat | None:
        """None: Redis does not know this member."""
        began = self._clock()
        want = not (self._closed or self._generates) and began >= self._not_before
        try:
            beat = self._store.beat(member, term=self.term.number if self.term else 0, want=want)
        except Trouble:
            self.beats_since = inf
            raise
        except NotMember:
            return None
        self.server_clock.told(beat.time, began, self._clock())
        self.beats_since = min(self.beats_since, began)
        return beat

    def _warn_of_an_endless_flag(self, endless: bool) -> None:
        """Warns of a flag that never expires. It is not taken, for its owner may live, but somebody has to know. The
        warning comes once, at the second beat, because a program may set the flag and its life by two commands."""
        self._endless = self._endless + 1 if endless else 0
        if self._endless == 2:
            flag = self._store.keys.flag
            log.warning("%s never expires: another program has set it without EX, or has made it persist. No task will "
                        "generate; if no other program does, delete it: redis-cli DEL %s", flag, flag)  # fmt: skip

    def _say_whose(self, before: str | None) -> None:
        """Says when another function has generated before. That is no reason to refuse, but it may be a mistake."""
        if before not in (None, self._generate):
            log.warning("%s goes on where %s left off", self._generate, before)

    def stand_again(self) -> None:
        """The generate of the last term has ended, so this task may be elected."""
        self._generates = False

    def close(self) -> None:
        """No more terms are taken, because the task is ending."""
        self._closed = True

    def refused(self, term: Term) -> None:
        """Ends `term`, in which a push was refused, even if the next heartbeat would find that the flag is still this
        task's. A Redis that went back in time, after a restart or a failover, knows less than was pushed."""
        with self._asking:
            if self.term is term:
                self.term = None

    def failed(self, term: Term, error: str) -> float:
        """Gives the flag up because `term` could not generate, with the error for all to see. Returns for how many
        seconds the fleet elects nobody now (0: another term has begun already). This task stands back for a heartbeat
        longer, so that another one, whose machine may be better off, comes first. Raises Trouble; bears repeating."""
        with self._asking:
            seconds = self._store.release_failed(term.member, term.number, error)
            if self.term is term:
                self.term = None
            self._not_before = self._clock() + seconds + self._heartbeat
            return seconds

    def resign(self) -> None:
        """Gives the flag up after `close`, so that another task generates at once. Raises Trouble; bears repeating."""
        with self._asking:  # otherwise a heartbeat that is on its way could take the flag again
            if self.term is not None:
                self._store.release(self.term.member, self.term.number)
                self.term = None


def seconds_to_next(beat: Beat, heartbeat: float, took: float, held_back: float = -1) -> float:
    """Seconds until the next heartbeat, which follows T after this one began (it `took` seconds). A handler's
    comes when the flag can be taken, if that is sooner, or when this task has been `held_back` for long enough: the
    first to come then is the next generator, and a poll later would be a gap."""
    wait = max(beat.remaining, held_back)
    if beat.renewed or beat.elected or wait < 0:
        return max(0.0, heartbeat - took)
    return min(heartbeat, wait + AFTER_EXPIRY)
