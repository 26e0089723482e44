"""Delivers events to a webhook: what a server refuses for now comes again, and what hangs is given up and comes again.

A program of yours writes events with `XADD events * event '{"order": 17, "is": "paid"}'`. An entry's id is its position
in the stream and, as Idempotency-Key, what tells the receiver that an event has come before.
"""

import json
import os
import time
from collections.abc import Iterator
from functools import cache
from typing import Any

import redis
import requests

from gtask import Reject


def generate(last: str | None) -> Iterator[tuple[str, str]]:
    """Yields the entries of the stream, with their ids as positions."""
    after = f"({last}" if last else "-"
    while True:
        entries: Any = stream().xrange("events", min=after, count=500)
        for key, entry in entries:
            yield json.dumps({"key": key, "event": entry["event"]}), key
            after = f"({key}"
        if not entries:
            time.sleep(0.1)


def handle(message: str) -> None:
    """Delivers one event. To raise means that it comes again, as --retries says; Reject, that it never can succeed."""
    entry = json.loads(message)
    answer = receiver().post(
        os.environ["WEBHOOK_URL"],
        data=entry["event"].encode(),
        headers={"Content-Type": "application/json", "Idempotency-Key": entry["key"]},
    )
    if 400 <= answer.status_code < 500:
        raise Reject(f"the receiver answers {answer.status_code}: {answer.text[:200]}")
    answer.raise_for_status()


@cache
def stream() -> redis.Redis:
    """This process's connection to the events."""
    return redis.Redis.from_url(os.environ.get("GTASK_REDIS", "redis://127.0.0.1:6379/0"), decode_responses=True)


@cache
def receiver() -> requests.Session:
    """This process's connections to the webhook's receiver."""
    return requests.Session()
