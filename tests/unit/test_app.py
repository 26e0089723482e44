"""The monitor's loop without a terminal and without tasks."""

import os
import signal
from typing import Any

import gevent

from gmonitor.app import QUEUE, App
from gmonitor.config import Config
from gmonitor.display import Live
from gmonitor.events import Failed, Noted, Signalled
from gmonitor.terminal import Screen, Writer
from gmonitor.watchdog import Guard


class HungUp(Screen):
    """A terminal that is gone."""

    def enter(self) -> bool:
        raise OSError(5, "Input/output error")


def test_a_loop_that_cannot_show_the_screen_does_not_wait_for_itself_though_its_queue_is_full() -> None:
    read, write = os.pipe()
    app = App(Config(), Guard(0, write, "run"), {})
    app._display = Live(HungUp(Writer(write), None, "utf-8", lambda message: None), app._fleet, print, app._lost)
    for number in range(QUEUE):
        app._post(Noted(str(number)))
    events: list[Any] = []
    with gevent.Timeout(30):
        app._step(0.0, Signalled(signal.SIGCONT))
        while not any(isinstance(event, Failed) for event in events):
            events.append(app._queue.get()[1])
    assert len(events) == QUEUE + 1
    os.close(read)
    os.close(write)
