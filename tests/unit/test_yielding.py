"""A loop that computes lets sockets and timers have their turn."""

import socket
import time

import gevent
from gevent.socket import wait_read

from gtask.yielding import let_others_run


def test_each_breath_looks_at_the_sockets() -> None:
    ours, theirs = socket.socketpair()
    turns = 0

    def compute() -> None:
        nonlocal turns
        while True:
            turns += 1
            time.sleep(0.005)  # not gevent's: nobody else runs meanwhile
            let_others_run()

    with ours, theirs:
        computing = gevent.spawn(compute)
        gevent.sleep(0)
        before = turns
        for _ in range(5):
            theirs.send(b"x")
            wait_read(ours.fileno())
            assert ours.recv(1) == b"x"
        took = turns - before
        computing.kill()
    assert took <= 15, "sleep(0) takes some 50 turns for each"


def test_each_breath_looks_at_the_clock() -> None:
    turns = 0

    def compute() -> None:
        nonlocal turns
        while True:
            turns += 1
            time.sleep(0.005)
            let_others_run()

    computing = gevent.spawn(compute)
    gevent.sleep(0)
    before = turns
    for _ in range(5):
        gevent.sleep(0.001)
    took = turns - before
    computing.kill()
    assert took <= 15
