"""What tasks ask of Redis. Each script says in its first comment whether it may be called again after a lost reply."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from random import random
from typing import Any

from redis.exceptions import ResponseError

from gtask import forms
from gtask.exceptions import Forbidden, Full, NotMember, OthersKeys, Rejected, Trouble
from gtask.store import scripts
from gtask.store.answers import NOTHING_CAME, Beat, Came, Claimed, Member, Postponed, Reaped, Settled, Suspects
from gtask.store.server import REPLY_BYTES, Server
from gtask.text import printable, to_bytes

ALWAYS_ACCEPTED = 1 << 20  # bytes: proto-max-bulk-len cannot be less
DEFAULT_LARGEST = 512 << 20
DEATHS_OF_POISON = 3  # a message that was alone with this many dead tasks goes to `errors`
FORGOTTEN_AFTER = 5  # heartbeats: as long as a task that is silent counts as alive (lua/constants.lua)
LATEST_BLMOVE = 3600  # seconds: a BLMOVE of which no answer came is not served later than this


class TaskCalls(Server):
    """Each method is one attempt."""

    # -- membership and election

    def next_id(self) -> int:
        """INCR taskId, or a script where a full Redis refuses that (number.lua). A lost reply costs a number, nothing
        else."""
        try:
            with self._asking("_commands") as commands:  # .incr() would send INCRBY; the source's command is INCR
                answer = commands.execute_command("INCR", self.keys.task_id)
        except Full:
            answer = self._run(scripts.NUMBER, (self.keys.task_id, self.keys.members))
        with self.understanding():
            return forms.task_id(str(answer))

    def beat(self, member: Member, *, term: int = 0, want: bool = False, join: bool = False) -> Beat:
        """One heartbeat (beat.lua). `term` is 0 for a handler; `want`: take the flag when it is free. Raises
        NotMember, unless it is to `join`, and OthersKeys."""
        k = self.keys
        answer = self._run(
            scripts.BEAT, (k.flag, k.owner, k.generator, k.tasks, k.members, k.resumed, k.reaped, k.messages, k.later),
            member.task_id, member.record, term, round(2 * self._heartbeat), self._heartbeat, int(want), int(join),
            client="_heart",
        )  # fmt: skip
        if answer[0] == -2:
            raise OthersKeys(
                f"these keys in Redis at {self.address} belong to {printable(answer[1])}; the demo and one's own "
                "functions do not share messages: choose other keys with --namespace NAME"
            )
        if answer[0] < 0:
            raise NotMember
        role, term, remaining, dead, time, *rest = answer
        before, since, last = rest if role == 2 else (None, None, [None])
        since = None if since is None else since / 1000
        with self.understanding():
            term = forms.whole(str(term))
            dead = [forms.task_id(i) for i in dead]
        endless = remaining == -1  # PTTL's answer for a key that never expires
        large = last == 0
        return Beat(role == 1, role == 2, term, remaining / 1000, endless, dead, time / 1000, before, since,
                    None if large else last[0], large)  # fmt: skip

    def tell_longest(self, member: Member, longest: tuple[str, float] | None) -> None:
        """Says for `gtask status` at which message this task has been for longest, and for how many seconds; None: no
        message takes long any more. It has to be said again with each heartbeat, or is forgotten with the task."""
        key = self.keys.longest(member.task_id)
        with self._asking("_heart") as heart:
            if longest is None:
                heart.execute_command("DEL", key)
            else:
                life = round(1000 * FORGOTTEN_AFTER * self._heartbeat)
                heart.execute_command("SET", key, forms.written_longest(*longest), "PX", life)

    def release(self, member: Member, term: int) -> bool:
        """Gives the flag up and tells the others. False when it was not this task's any more."""
        return bool(self._release(member, term))

    def release_failed(self, member: Member, term: int, error: str) -> float:
        """The same after a term that failed: keeps the error. Returns for how many seconds nobody is elected now; 0
        when another term has begun already."""
        return self._release(member, term, to_bytes(error), random()) / 1000  # noqa: S311

    def _release(self, member: Member, term: int, *failure: Any) -> int:
        k = self.keys
        keys = (k.flag, k.owner, k.generator, k.members)
        args = (member.task_id, member.record, term, k.channel, *failure)
        return int(self._run(scripts.RELEASE, keys, *args, client="_heart"))

    def notices(self) -> Iterator[None]:
        """One item each time the flag is given up by its owner. Blocks; own connection. Raises Trouble."""
        with self._asking("_listener") as listener, listener.pubsub() as pubsub:
            pubsub.subscribe(self.keys.channel)
            answered = True
            while True:
                message = pubsub.get_message(timeout=self._keep)
                if message is not None:
                    answered = True
                    if message["type"] == "message":
                        yield
                elif answered:
                    pubsub.ping()  # a connection that is only listened at would be forgotten by middle boxes
                    answered = False
                else:
                    raise Trouble("no answer on the connection for notices")

    # -- generation

    def position(self, member: Member, term: int) -> tuple[bool, str | None]:
        """Where the generator goes on (position.lua): whether it is still this task, and the position."""
        k = self.keys
        keys = (k.flag, k.owner, k.generator, k.members)
        answer = self._run(scripts.POSITION, keys, member.task_id, member.record, term)
        return (True, answer[0] if answer else None) if isinstance(answer, list) else (False, None)

    def push(
        self,
        member: Member,
        term: int,
        step: int,
        messages: Sequence[bytes],
        *,
        position: bytes | None = None,
        ended: bool = False,
    ) -> int | None:
        """The push of this number within the term, from 1 on. `position`: where to go on after it, when that is not the
        last of the messages; `ended`: there is nothing more to push. The `backlog`, or None: deposed."""
        k = self.keys
        what = ("ended",) if ended else ("messages",) if position is None else ("position", position)
        keys = (k.flag, k.owner, k.generator, k.messages, k.members, k.later)
        length = self._run(scripts.PUSH, keys, member.task_id, member.record, term, step, *what, *messages)
        return None if length < 0 else int(length)

    def check_size(self, message: bytes) -> None:
        """Raises Rejected when Redis does not take a message of this size (proto-max-bulk-len, 512 MB by default)."""
        with self._asking("_commands") as commands:
            try:
                limit = int(commands.config_get("proto-max-bulk-len").get("proto-max-bulk-len", DEFAULT_LARGEST))
            except ResponseError:  # managed servers do not show their settings
                limit = DEFAULT_LARGEST
        if len(message) > limit:
            raise Rejected(f"it has {len(message):,} bytes, and this Redis takes {limit:,} (proto-max-bulk-len)")

    def backlog(self) -> int:
        """How many messages wait, or wait to come again. What comes between the two questions is counted twice."""
        with self._asking("_commands") as commands:
            return int(commands.zcard(self.keys.later)) + int(commands.llen(self.keys.messages))

    # -- handling

    def blpop(self) -> str | None:
        """BLPOP messages <wait>: one message, or None after `wait` seconds."""
        reply = self._block("BLPOP", self.keys.messages, _plain(self._wait))
        return None if reply is None else str(reply[1])

    def pop(self, want: int, reply_bytes: int = REPLY_BYTES) -> list[str]:
        """Up to `want` messages at once, and no more after `reply_bytes`, without waiting (pop.lua)."""
        return list(self._run(scripts.POP, (self.keys.messages, self.keys.apart), want, reply_bytes))

    def blmove(self, task_id: int) -> bool:
        """Waits up to `wait` seconds for a message and moves it to the task's in-flight list, where the
        next claim finds it, also when this reply is lost. True when there was one."""
        inflight = self.keys.inflight(task_id)
        return self._block("BLMOVE", self.keys.messages, inflight, "LEFT", "RIGHT", _plain(self._wait)) is not None

    def unblock(self) -> None:
        """Ends a `blpop` or `blmove` that waits now; nothing is lost by it. Without the right to, it ends by itself."""
        if self._blocking_id is not None:
            with suppress(Forbidden), self._asking("_commands") as commands:
                commands.execute_command("CLIENT", "UNBLOCK", self._blocking_id)

    def claim(
        self,
        member: Member,
        seq: int,
        want: int,
        settled: Settled,
        came: Came = NOTHING_CAME,
        *,
        reply_bytes: int = REPLY_BYTES,
        turn: bool = False,
    ) -> Claimed:
        """Acknowledges and claims in one step (claim.lua). `turn`: to suspects, which are all that is wanted now.

        Raises NotMember; and Full, having done nothing, when there is no room for follow-ups.
        """
        k = self.keys
        what = "all" if settled.all else "some" if settled.stay is None else "near"
        stay = settled.stay or ()
        answer = self._run(
            scripts.CLAIM,
            (k.messages, k.inflight(member.task_id), k.members, k.claims, k.errors, k.totals, k.suspects, k.apart,
             k.long(member.task_id), k.later, k.attempts),
            member.task_id, member.record, seq, want, reply_bytes, int(turn), int(settled.away), what,
            len(came.failed), len(came.followups), len(came.later),
            *map(to_bytes, came.failed), *came.followups, *_words(came.later),
            len(stay), *map(to_bytes, stay), *map(to_bytes, settled.finished),
        )  # fmt: skip
        if answer is None:
            raise NotMember
        state, *messages = answer
        if not isinstance(state, list):
            return Claimed(Suspects(state), messages, {})
        said = zip(state[1::2], state[2::2], strict=True)
        return Claimed(Suspects(state[0]), messages, {messages[n - 1]: forms.tried(known) for n, known in said})

    def settle(self, member: Member, seq: int, came: Came) -> None:
        """Stores what came of handled messages (settle.lua). Raises NotMember; and Full, having done nothing, when
        there is no room for follow-ups."""
        k = self.keys
        answer = self._run(
            scripts.SETTLE, (k.members, k.claims, k.errors, k.messages, k.totals), member.task_id, member.record, seq,
            len(came.failed), *map(to_bytes, came.failed), *came.followups,
        )  # fmt: skip
        if answer is None:
            raise NotMember

    def give_back(
        self,
        member: Member,
        seq: int,
        *,
        leave: bool,
        astray: bool = False,
        unstarted: int = 0,
        messages: Sequence[str] = (),
    ) -> None:
        """Returns messages to the head of the queue; with `leave`, all of them and the membership.

        `astray`: a BLMOVE of this task may still be served, so others are to look at its list for a while.
        `unstarted`: how many at the tail of the in-flight list; `messages`: those of at-most-once delivery.
        Raises NotMember.
        """
        k = self.keys
        answer = self._run(
            scripts.GIVEBACK,
            (k.messages, k.inflight(member.task_id), k.tasks, k.members, k.claims, k.reaped, k.long(member.task_id)),
            member.task_id, member.record, seq, int(leave), int(astray), unstarted,
            *map(to_bytes, messages),
        )  # fmt: skip
        if answer is None:
            raise NotMember

    # -- recovery

    def first_held(self, task_id: int) -> str:
        """The first message in the hands of a task, "" when there is none."""
        with self._asking("_commands") as commands:
            return str(commands.lindex(self.keys.inflight(task_id), 0) or "")

    def reap(self, task_id: int, sha1: str = "", record: str = "") -> Reaped:
        """Takes back what a dead task held (reap.lua). `record`: the failure record of the message with that SHA-1,
        after an answer that asks for one; an empty one stores the message as it is."""
        k = self.keys
        answer = self._run(
            scripts.REAP,
            (k.messages, k.inflight(task_id), k.tasks, k.members, k.claims, k.errors, k.totals, k.suspects,
             k.reaped, k.long(task_id), k.attempts),
            task_id, DEATHS_OF_POISON, sha1, record, LATEST_BLMOVE,
        )  # fmt: skip
        match answer:
            case [-1, _]:
                return Reaped(alive=True)
            case [-2, size, wanted]:
                return Reaped(poison=wanted, poison_bytes=size)
            case [moved, poisoned]:
                return Reaped(moved=moved, poisoned=poisoned)
        raise AssertionError(answer)


def _words(later: Sequence[Postponed]) -> Iterator[bytes | int]:
    for one in later:
        yield from (to_bytes(one.message), one.milliseconds, one.attempts, one.failures)


def _plain(seconds: float) -> str:
    """5 rather than 5.0: the source's BLPOP to the letter."""
    return str(int(seconds)) if seconds == int(seconds) else str(seconds)
