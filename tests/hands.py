"""One task's hand for tests of both deliveries: what a handler does with it, without workers."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from gevent.event import Event

from gtask.exceptions import NotMember, Trouble
from gtask.hand import Hand
from gtask.membership import Membership
from gtask.outage import Line, Outage
from gtask.outcome import DONE, Outcome, failed
from gtask.recovery import recover
from gtask.store import Member, Store
from tests.servers import Server


def texts(redis, key: str) -> list[str]:
    """What a list in Redis holds."""
    return [item.decode() for item in redis.lrange(key, 0, -1)]


class Again(Outage):
    """Asks so many times."""

    def __init__(self, attempts: int) -> None:
        super().__init__("", lambda failures: 0)
        self._attempts = attempts

    def retry(self, who: str, attempt: Callable[[], Any], give_up: Event) -> Any:
        for _ in range(self._attempts - 1):
            with suppress(Trouble):
                return attempt()
        return attempt()


class Hands:
    """The present hand, and the messages that were taken from it: they count as started."""

    def __init__(self, server: Server, kind: type[Hand], store: type[Store] = Store, *, attempts: int = 2) -> None:
        """`attempts`: how often a call is made until Redis answers."""
        self.store = store(server.url, "", heartbeat=1000, wait=1)
        self.membership = Membership(self.store, 1000, 60, "jobs:generate")  # 60 s: longer than any test
        self.membership.first_join()
        self.hand = kind(self.membership.member)
        self.started: list[str] = []
        self.line = Line(self.store, Again(attempts))
        self.membership.on_join = self._renew

    @property
    def id(self) -> int:
        return self.membership.member.task_id

    def take(self, want: int) -> list[str]:
        self.do(lambda hand: hand.take(want, self.line))
        return self._start()

    def wait(self) -> list[str]:
        self.do(lambda hand: hand.wait(self.line))
        return self._start()

    def finish(self, *messages: str, fail: bool = False, outcome: Outcome = DONE) -> None:
        for message in messages:
            self.started.remove(message)
            self.hand.finished(message, failed(message, "no", self.id) if fail else outcome)

    def give_back(self, *messages: str) -> None:
        """All, or these, which are the last ones."""
        back = list(messages) or list(self.started)
        del self.started[len(self.started) - len(back) :]
        self.hand.ready.extend(back)
        self.do(lambda hand: hand.give_back(self.line))

    def leave(self) -> None:
        self.hand.ready.extend(self.started)
        self.do(lambda hand: hand.leave(self.line))

    def die(self, redis) -> None:
        redis.zadd("tasks", {self.id: 1})
        recover(self.store, self.id)

    def do(self, call: Callable[[Hand], None]) -> None:
        member = self.membership.member
        try:
            call(self.hand)
        except NotMember:
            self.membership.join(instead_of=member)
            call(self.hand)

    def _start(self) -> list[str]:
        got = list(self.hand.ready)
        self.hand.ready.clear()
        self.started += got
        return got

    def _renew(self, member: Member) -> None:
        before, self.hand = self.hand, self.hand.under(member)
        if before is not self.hand:
            self.started.clear()
