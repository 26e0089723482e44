"""The webhook: each event arrives once by its key, though the receiver refuses, hangs, and three tasks are killed. The
fault suite sends the events that docs/recipes.md speaks of, plain tox a fifth of them."""

import threading
from collections import Counter

import pytest

from tests.recipes.recipe import needs
from tests.servers import ONE_SERVER
from tests.support.web import Handler, serve
from tests.tasks import wait_until


class Receiver(Handler):
    """Answers 503 to one request of a hundred, and hangs on one of a thousand, before or after the event is counted."""

    received: dict[str, str]  # by key
    did: Counter[str]
    lock = threading.Lock()
    over: threading.Event

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        event = self.rfile.read(length).decode()
        if len(event) < length:  # its sender was killed
            self.close_connection = True
            return
        with self.lock:
            self.did["requests"] += 1
            number = self.did["requests"]
            fault = "hang" if number % 1000 == 500 else "503" if number % 100 == 7 else ""
            self.did[fault] += 1
            if fault != "503":
                self.received.setdefault(self.headers["Idempotency-Key"], event)
        if fault == "hang":
            self.over.wait()
            self.close_connection = True
            return
        self.answer(503 if fault else 200)


@ONE_SERVER
@needs("requests")
@pytest.mark.parametrize("events", [600, pytest.param(3000, marks=pytest.mark.faults)])
def test_each_event_arrives_and_three_kills(redis, cook, events: int) -> None:
    Receiver.received, Receiver.did, Receiver.over = {}, Counter(), threading.Event()
    sent = {redis.xadd("events", {"event": f'{{"n": {n}}}'}).decode(): f'{{"n": {n}}}' for n in range(events)}
    with serve(Receiver) as url:
        try:
            recipe = cook("webhook", {"WEBHOOK_URL": url})
            for share, victim in ((1, recipe.handler), (2, recipe.generator), (3, recipe.handler)):
                wait_until(lambda: len(Receiver.received) >= events * share // 5, f"{share} of 5 parts")  # noqa: B023
                recipe.kill(victim())
            wait_until(lambda: int(redis.hget(recipe.key("totals"), "processed") or 0) >= events, "all are handled")
            assert Receiver.received == sent
            assert Receiver.did["503"] >= events // 100
            assert Receiver.did["hang"] >= max(1, events // 1000)
            assert redis.llen(recipe.key("errors")) == 0
            assert recipe.generated == events
            recipe.end()
        finally:
            Receiver.over.set()
