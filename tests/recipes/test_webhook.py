"""The webhook: each event arrives once by its key, though the receiver refuses, hangs, and three tasks are killed."""

import threading
from collections import Counter

from tests.recipes.recipe import needs
from tests.servers import ONE_SERVER
from tests.support.web import Handler, serve
from tests.tasks import wait_until

EVENTS = 3000


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
def test_three_thousand_events_and_three_kills(redis, cook) -> None:
    Receiver.received, Receiver.did, Receiver.over = {}, Counter(), threading.Event()
    sent = {redis.xadd("events", {"event": f'{{"n": {n}}}'}).decode(): f'{{"n": {n}}}' for n in range(EVENTS)}
    with serve(Receiver) as url:
        try:
            recipe = cook("webhook", {"WEBHOOK_URL": url})
            for share, victim in ((1, recipe.handler), (2, recipe.generator), (3, recipe.handler)):
                wait_until(lambda: len(Receiver.received) >= EVENTS * share // 5, f"{share} of 5 parts")  # noqa: B023
                recipe.kill(victim())
            wait_until(lambda: int(redis.hget(recipe.key("totals"), "processed") or 0) >= EVENTS, "all are handled")
            assert Receiver.received == sent
            assert Receiver.did["503"] >= EVENTS // 100
            assert Receiver.did["hang"] >= EVENTS // 1000
            assert redis.llen(recipe.key("errors")) == 0
            assert recipe.generated == EVENTS
            recipe.end()
        finally:
            Receiver.over.set()
