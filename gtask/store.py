"""Every Redis key and command, and the scripts in lua/; how they travel is in connections.py.

Each method is one attempt. It raises Trouble when Redis does not answer or cannot just now (ask again,
see outage.py), NotMember when Redis does not know the task, WrongType when a key holds something else.
Which calls may be repeated after a lost reply is said in the first comment of their script in lua/.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import IntEnum
from importlib import resources
from random import random
from typing import Any

from redis.exceptions import MovedError, NoPermissionError, RedisError, ResponseError

from gtask import forms
from gtask.causes import explained
from gtask.connections import Connections, Script
from gtask.exceptions import Forbidden, NotMember, OthersKeys, Refused, Rejected, Trouble, Unreachable, WrongType
from gtask.status import Status, status_of
from gtask.text import printable, to_bytes

OLDEST_SERVER = (6, 2)  # LMOVE, BLMOVE and LPOP with a count came with it
REPLY_BYTES = 1 << 20  # a batch ends after about this much
ALWAYS_ACCEPTED = 1 << 20  # bytes: proto-max-bulk-len cannot be less
DEFAULT_LARGEST = 512 << 20
REMOVE, STAY, RETRY_AS_IT_IS, RETRY = "-", "+", "=", ">"  # what becomes of a failed message (resolve.lua)
DEATHS_OF_POISON = 3  # a message that was alone with this many dead tasks goes to `errors`


class Keys:
    """Every key, with the namespace before it."""

    def __init__(self, namespace: str) -> None:
        prefix = f"{namespace}:" if namespace else ""
        # the source's
        self.task_id = prefix + "taskId"
        self.flag = prefix + "generatorIsActive"
        self.messages = prefix + "messages"
        self.errors = prefix + "errors"
        # ours
        self.owner = prefix + "generatorId"
        # hash: term, step, generated, last, pushed_at, ended; after failed terms: failures, failed, retry_at, error
        self.generator = prefix + "generator"
        self.tasks = prefix + "tasks"
        self.reaped = prefix + "tasks:reaped"  # sorted set: dead taskId -> the next look at its list (reap.lua)
        self.resumed = prefix + "tasks:resumed"  # while it lives, nobody is called dead (beat.lua)
        self.members = prefix + "tasks:members"  # hash: taskId -> JSON of host, pid, heartbeat, nonce
        self.claims = prefix + "tasks:claims"  # hash: taskId -> its last numbered call (claim.lua)
        self.suspects = prefix + "messages:suspects"  # hash: SHA-1 of a message -> stage, own deaths (reap.lua)
        self.apart = prefix + "messages:apart"  # list: suspects that wait for a task with empty hands (claim.lua)
        self.totals = prefix + "totals"
        self.reader = prefix + "errors:reader"  # lock of getErrors and retryErrors
        self._inflight = prefix + "inflight:"
        self._long = prefix + "tasks:long:"
        self.channel = self.flag  # pub/sub: the flag was given up

    def inflight(self, task_id: int | str) -> str:
        """The list of messages in the hands of a task."""
        return f"{self._inflight}{task_id}"

    def long(self, task_id: int | str) -> str:
        """A hash: those of them that take so long that the list is better off without them (call.lua)."""
        return f"{self._long}{task_id}"


@dataclass(frozen=True)
class Member:
    """This process as Redis knows it. `record` is unlike any other process's, so a task whose id was given
    out again by an emptied Redis notices it."""

    task_id: int
    record: str


@dataclass(frozen=True)
class Beat:
    """The answer to a heartbeat. `remaining`: seconds until the flag can be taken, as far as is known now (negative: it
    is free, or kept for ever). `since_push`: seconds since anybody's last push, None when there was none."""

    renewed: bool
    elected: bool
    term: int
    remaining: float
    endless: bool
    dead: list[int]
    before: str | None = None  # elected: the name of the `generate` of the last term, whoever's it was
    since_push: float | None = None
    last: str | None = None  # elected: the position, None at the very first start
    large: bool = False  # that is so large that `position` has to be asked for it


@dataclass(frozen=True)
class Settled:
    """What a claim tells of the messages that were handed out before."""

    all: bool = False  # they are finished
    stay: Sequence[str] | None = None  # of those in the list all are finished but these, in their order
    finished: Sequence[str] = ()  # these are finished, with `stay`: of the long-running ones
    failed: Sequence[str] = ()  # failure records of some of the finished
    away: bool = False  # those of the list that are not finished take long: out of the way with them (call.lua)


class Suspects(IntEnum):
    """What a claim says of messages that may have killed their holders."""

    NONE = 0
    WAIT = 1  # there are some, for a task with empty hands
    WAIT_FOR_US = 2  # this task will have some as soon as its hands are empty, and nothing else before
    IN_HAND = 3  # this task has some, and nothing else until they are finished


@dataclass(frozen=True)
class Reaped:
    """The answer to `reap`: what happened; or the task lives; or a poison's failure record is needed first."""

    moved: int = 0
    poisoned: int = 0
    alive: bool = False
    poison: str = ""  # its SHA-1
    poison_bytes: int = 0


@dataclass(frozen=True)
class Rewound:
    """The answer to `rewind`. `busy`: refused, because somebody's flag lives on for so many seconds (negative: for
    ever); else the position before (None: there was none), and how many messages were deleted."""

    busy: float | None
    before: str | None = None
    waiting: int = 0
    failed: int = 0


class Store(Connections):
    """What tasks and commands ask of Redis."""

    def __init__(self, url: str, namespace: str, *, heartbeat: float = 1, wait: float = 5) -> None:
        """Connects to nothing yet. `heartbeat` and `wait` in seconds. Raises UsageError for a bad URL."""
        super().__init__(url, heartbeat=heartbeat, wait=wait)
        self.keys = Keys(namespace)
        self._heartbeat = heartbeat

    # -- the server

    def connect(self) -> None:
        """Opens the command connection and looks at the server.

        Raises Unreachable (no server, or one older than 6.2), Refused (credentials, permissions) and UsageError (a
        database or a file that does not exist).
        """
        self.look_at_files()
        try:
            try:
                self._commands.exists(self.keys.task_id)
            except MovedError as error:
                self._follow(error, "_commands")
                self._commands.exists(self.keys.task_id)
        except NoPermissionError:
            return  # the first command shows what works
        except (RedisError, OSError) as error:
            raise explained(error, self.address) from None
        with suppress(Trouble):  # INFO is not permitted, or Redis is lost again
            self._check_version(str(self._info("server")["redis_version"]))

    def _check_version(self, version: str) -> None:
        if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_SERVER:
            raise Unreachable(f"Redis at {self.address} is {version}; gtask needs 6.2 or newer")

    def _info(self, section: str) -> dict[str, Any]:
        with self._asking("_commands") as commands:
            return dict(commands.info(section))

    def check_commands(self) -> None:
        """Raises Refused when this server lacks a command, or this user may not run scripts or read the queue."""
        what = "a task needs scripts, lists, hashes and sorted sets"
        try:
            if missing := self._missing_commands():
                raise Refused(f"Redis at {self.address} lacks {', '.join(missing)} (renamed or disabled); {what}")
            with self._asking("_commands") as commands:  # not by its digest: Redis may forget it at any time
                commands.eval(_POP.text, 2, self.keys.messages, self.keys.apart, 0, REPLY_BYTES)
        except Forbidden as error:
            raise Refused(f"Redis at {self.address} refuses: {error}; {what}") from None
        except Trouble:
            return  # lost again, or full: the task meets it too, and waits

    def _missing_commands(self) -> list[str]:
        with self._asking("_commands") as commands, suppress(ResponseError):  # COMMAND itself may be missing
            commands.connection.send_command("COMMAND", "INFO", *_NEEDED)
            answer = commands.connection.read_response()
            return [name for name, known in zip(_NEEDED, answer, strict=True) if not known]
        return []

    def eviction_policy(self) -> str:
        """The server's maxmemory-policy; what is not `noeviction` may evict messages. "" when unknown."""
        try:
            return str(self._info("memory").get("maxmemory_policy", ""))
        except Forbidden:
            return ""

    # -- what no gtask has written

    def blame(self, what: str) -> WrongType:
        """The same, and it names the key."""
        with suppress(RedisError, OSError):
            if culprit := forms.misfit(self._commands, self.keys):
                return WrongType(
                    f"{culprit}. Does another program use this key? Then choose others with --namespace NAME; if none "
                    "does, set it right or delete it"
                )
        return super().blame(what)

    @contextmanager
    def understanding(self) -> Iterator[None]:
        """Around what takes an answer apart. Raises WrongType where something has not the form that gtask gives it."""
        try:
            yield
        except ValueError as error:
            raise self.blame(f"Redis holds what no gtask has written: {printable(str(error)[:60])!r}") from error

    # -- membership and election

    def next_id(self) -> int:
        """INCR taskId. A lost reply costs a number, nothing else."""
        with self._asking("_commands") as commands:  # .incr() would send INCRBY; the source's command is INCR
            answer = commands.execute_command("INCR", self.keys.task_id)
        with self.understanding():
            return forms.task_id(str(answer))

    def beat(self, member: Member, *, term: int = 0, want: bool = False, join: bool = False) -> Beat:
        """One heartbeat (beat.lua). `term` is 0 for a handler; `want`: take the flag when it is free. Raises
        NotMember, unless it is to `join`, and OthersKeys."""
        k = self.keys
        answer = self._run(
            _BEAT, (k.flag, k.owner, k.generator, k.tasks, k.members, k.resumed, k.reaped), member.task_id,
            member.record, term, round(2 * self._heartbeat), self._heartbeat, int(want), int(join), client="_heart",
        )  # fmt: skip
        if answer[0] == -2:
            raise OthersKeys(
                f"these keys in Redis at {self.address} belong to {printable(answer[1])}; the demo and one's own "
                "functions do not share messages: choose other keys with --namespace NAME"
            )
        if answer[0] < 0:
            raise NotMember
        role, term, remaining, dead, *rest = answer
        before, since, last = rest if role == 2 else (None, None, [None])
        since = None if since is None else since / 1000
        with self.understanding():
            term = forms.whole(str(term))
            dead = [forms.task_id(i) for i in dead]
        endless = remaining == -1  # PTTL's answer for a key that never expires
        large = last == 0
        return Beat(role == 1, role == 2, term, remaining / 1000, endless, dead, before, since,
                    None if large else last[0], large)  # fmt: skip

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
        return int(self._run(_RELEASE, keys, member.task_id, member.record, term, k.channel, *failure, client="_heart"))

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
        answer = self._run(_POSITION, (k.flag, k.owner, k.generator, k.members), member.task_id, member.record, term)
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
        last of the messages; `ended`: there is nothing more to push. The length of `messages`, or None: deposed."""
        k = self.keys
        what = ("ended",) if ended else ("messages",) if position is None else ("position", position)
        keys = (k.flag, k.owner, k.generator, k.messages, k.members)
        length = self._run(_PUSH, keys, member.task_id, member.record, term, step, *what, *messages)
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
        """How many messages wait."""
        with self._asking("_commands") as commands:
            return int(commands.llen(self.keys.messages))

    # -- handling

    def blpop(self) -> str | None:
        """BLPOP messages <wait>: one message, or None after `wait` seconds."""
        reply = self._block("BLPOP", self.keys.messages, _plain(self._wait))
        return None if reply is None else str(reply[1])

    def pop(self, want: int, reply_bytes: int = REPLY_BYTES) -> list[str]:
        """Up to `want` messages at once, and no more after `reply_bytes`, without waiting (pop.lua)."""
        return list(self._run(_POP, (self.keys.messages, self.keys.apart), want, reply_bytes))

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
        *,
        reply_bytes: int = REPLY_BYTES,
        turn: bool = False,
    ) -> tuple[Suspects, list[str]]:
        """Acknowledges and claims in one step (claim.lua): what it says of suspects, and messages. Raises NotMember.

        `turn`: to suspects, which are all that is wanted now.
        """
        k = self.keys
        what = "all" if settled.all else "some" if settled.stay is None else "near"
        stay = settled.stay or ()
        answer = self._run(
            _CLAIM,
            (k.messages, k.inflight(member.task_id), k.members, k.claims, k.errors, k.totals, k.suspects, k.apart,
             k.long(member.task_id)),
            member.task_id, member.record, seq, want, reply_bytes, int(turn), int(settled.away), what,
            len(settled.failed), *map(to_bytes, settled.failed), len(stay), *map(to_bytes, stay),
            *map(to_bytes, settled.finished),
        )  # fmt: skip
        if answer is None:
            raise NotMember
        return Suspects(answer[0]), answer[1:]

    def fail(self, member: Member, seq: int, records: Sequence[str]) -> None:
        """Stores failure records (fail.lua). Raises NotMember."""
        k = self.keys
        keys = (k.members, k.claims, k.errors)
        if self._run(_FAIL, keys, member.task_id, member.record, seq, *map(to_bytes, records)) is None:
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
            _GIVEBACK,
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
            _REAP,
            (k.messages, k.inflight(task_id), k.tasks, k.members, k.claims, k.errors, k.totals, k.suspects,
             k.reaped, k.long(task_id)),
            task_id, DEATHS_OF_POISON, sha1, record,
        )  # fmt: skip
        match answer:
            case [-1, _]:
                return Reaped(alive=True)
            case [-2, size, wanted]:
                return Reaped(poison=wanted, poison_bytes=size)
            case [moved, poisoned]:
                return Reaped(moved=moved, poisoned=poisoned)
        raise AssertionError(answer)

    # -- failed messages

    def lock_errors(self, token: str, seconds: int) -> bool:
        """Takes or renews the right to take entries out of `errors` (lock.lua)."""
        answer = self._run(_LOCK, (self.keys.reader,), token, seconds)
        if answer < 0:
            raise WrongType(f"{self.keys.reader} holds what never expires, and no gtask has set; delete it")
        return bool(answer)

    def unlock_errors(self, token: str) -> None:
        """Gives that right up."""
        self._run(_LOCK, (self.keys.reader,), token, 0)

    def entries(self, start: int, count: int) -> list[str]:
        """Entries of `errors`, oldest first; up to `count` (fewer when they are large)."""
        return list(self._run(_READ, (self.keys.errors,), start, count, REPLY_BYTES))

    def errors_length(self) -> int:
        """How many entries `errors` has."""
        with self._asking("_commands") as commands:
            return int(commands.llen(self.keys.errors))

    def resolve(self, token: str, seconds: int, fates: Sequence[tuple[str, str]]) -> tuple[int, int] | None:
        """Deals with the first entries of `errors` (resolve.lua): each with REMOVE, STAY, RETRY_AS_IT_IS or RETRY and
        its message. How many it dealt with, and how many of these are not in `errors` any more; None when the right,
        which lives on for `seconds`, is another one's."""
        k = self.keys
        words: list[bytes] = []
        for entry, fate in fates:
            words += (hashlib.sha1(to_bytes(entry), usedforsecurity=False).hexdigest().encode(), to_bytes(fate))
        answer = self._run(_RESOLVE, (k.errors, k.reader, k.messages, k.totals), token, seconds, *words)
        return None if answer is None else (int(answer[0]), int(answer[1]))

    # -- where generation stands

    def rewind(self, position: bytes | None, *, purge: bool = False) -> Rewound:
        """Sets the position from which the next generator goes on, or forgets it; `purge`: and deletes what waits and
        what has failed (rewind.lua)."""
        k = self.keys
        what = ("purge",) if purge else ("forget",) if position is None else ("to", position)
        answer = self._run(_REWIND, (k.flag, k.generator, k.messages, k.apart, k.errors, k.totals), *what)
        return Rewound(busy=answer[0] / 1000) if len(answer) == 1 else Rewound(None, *answer)

    # -- looking

    def snapshot(self) -> Status:
        """What `gtask status` shows, all of one moment."""
        k = self.keys
        keys = (k.flag, k.owner, k.generator, k.tasks, k.members, k.reaped, k.totals, k.messages, k.apart, k.errors)
        ids: list[str] = []
        while True:
            answer = self._run(_STATUS, (*keys, *map(k.inflight, ids), *map(k.long, ids)), *ids)
            if len(answer) > 1:
                break
            [ids] = answer
            with self.understanding():
                for task_id in ids:
                    forms.task_id(task_id)
        with self.understanding():
            return status_of(answer)


def _script(name: str) -> Script:
    """The script, behind the preludes that its first line names."""
    folder = resources.files("gtask") / "lua"
    text = (folder / f"{name}.lua").read_text()
    needs = re.match(r"-- needs: (.+)\n", text)
    preludes = needs[1].split() if needs else []
    return Script("".join((folder / f"{prelude}.lua").read_text() for prelude in preludes) + text)


_BEAT, _PUSH, _RELEASE = _script("beat"), _script("push"), _script("release")
_POP, _CLAIM, _FAIL, _GIVEBACK = _script("pop"), _script("claim"), _script("fail"), _script("giveback")
_REAP, _READ, _LOCK, _RESOLVE = _script("reap"), _script("read"), _script("lock"), _script("resolve")
_POSITION, _STATUS, _REWIND = _script("position"), _script("status"), _script("rewind")

# What a task cannot do without: what it calls itself, and what its scripts call (by `pcall` what only accelerates).
_NEEDED = sorted({"EVAL", "INCR", "LLEN", "BLPOP"}.union(
    *(script.calls for script in (_BEAT, _POSITION, _PUSH, _RELEASE, _POP, _CLAIM, _FAIL, _GIVEBACK, _REAP))
))  # fmt: skip


def _plain(seconds: float) -> str:
    """5 rather than 5.0: the source's BLPOP to the letter."""
    return str(int(seconds)) if seconds == int(seconds) else str(seconds)
