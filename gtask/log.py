"""gtask's log lines and last words. They hold up nobody, and what users' code does to `logging` does not silence them.

A native thread writes the lines to stderr. If greenlets wrote them, a pipe that nobody empties would stop all
greenlets, the heartbeat included; and a thread can write while something holds the event loop. Only the logger `gtask`
is set up here, because the root logger belongs to the user's code.
"""

import logging
import os
import select
from contextlib import suppress
from typing import Any

from gevent.monkey import get_original

from gtask.standstill import within

FORMAT = "%(asctime)s %(levelname)s %(message)s"
TIME_FORMAT = "%Y-%m-%d %H:%M:%S"
LAST_WORDS = 1.0  # seconds that a process which ends waits for a reader of stderr
KEPT = 1000  # lines, or pieces of several, that wait while nobody reads; what comes on top is dropped, and counted


class Lines:
    """Lines on their way to a file descriptor. Any thread may add one, and none has to wait."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._waiting: Any = get_original("queue", "SimpleQueue")()
        self._dropped = 0
        self._process = 0  # the process whose thread writes; 0: there is no thread yet

    @property
    def crowded(self) -> bool:
        """Whether so many lines wait that soon some will have to be dropped."""
        return bool(self._waiting.qsize() >= KEPT // 2)

    def put(self, line: str) -> None:
        """Has the line written soon, or counts it as dropped while too many wait."""
        self.put_bytes(line.encode("utf-8", "backslashreplace") + b"\n")

    def put_bytes(self, data: bytes, count: int = 1) -> None:
        """The same for `count` lines together, as they are."""
        if not self._process:
            self._process = os.getpid()
            get_original("_thread", "start_new_thread")(self._write_on, ())
        if self._process != os.getpid():  # users' code has forked, and the thread is only in the parent
            self._write(data)
        elif self._waiting.qsize() >= KEPT:
            self._dropped += count
        else:
            self._put_dropped()
            self._waiting.put(data)

    def flush(self, seconds: float) -> None:
        """Waits until all is written, or `seconds` are over. No greenlet runs meanwhile."""
        if self._process == os.getpid():
            self._put_dropped()
            written = get_original("_thread", "allocate_lock")()
            written.acquire()
            self._waiting.put(written)
            within(seconds, lambda step: written.acquire(timeout=step))

    def _put_dropped(self) -> None:
        if self._dropped:
            count, self._dropped = self._dropped, 0
            self._waiting.put(b"gtask: %d log lines were dropped here, because nobody read them\n" % count)

    def _write_on(self) -> None:
        while True:
            item = self._waiting.get()
            if isinstance(item, bytes):
                self._write(item)
            else:
                item.release()

    def _write(self, data: bytes) -> None:
        with suppress(OSError):  # the reader is gone, so the line has no use any more
            while data:
                try:
                    data = data[os.write(self._fd, data) :]
                except BlockingIOError:  # another program that shares this stderr has made it non-blocking
                    poll = get_original("select", "poll")()
                    poll.register(self._fd, select.POLLOUT)
                    poll.poll()


class _Handler(logging.Handler):
    """Gives records to `Lines`. It takes no lock, so that a native thread never waits here for a greenlet."""

    def handle(self, record: logging.LogRecord) -> bool:
        """Formats and passes on."""
        if passed := self.filter(record):
            self.emit(record)
        return bool(passed)

    def emit(self, record: logging.LogRecord) -> None:
        """Formats and passes on."""
        try:
            _stderr.put(self.format(record))
        except Exception:  # logging itself says which call cannot be formatted, as it does for every handler
            self.handleError(record)


_stderr = Lines(2)
_ours = _Handler()
_ours.setFormatter(logging.Formatter(FORMAT, TIME_FORMAT))
_logger = logging.getLogger("gtask")


def set_up(level: str | int) -> None:
    """Makes the logger `gtask` speak, from this level on."""
    _logger.setLevel(level)
    _logger.handlers = [_ours]
    _logger.propagate = False


def keep_speaking() -> None:
    """Makes the logger speak again after users' code has configured logging. By default that disables other loggers.

    Where such a configuration names the logger `gtask`, it is respected. The root logger gets a handler if it has none,
    so that the lines of users' code are seen too.
    """
    if _logger.disabled or not (_logger.handlers or _logger.propagate):
        _logger.disabled = False
        set_up(_logger.level)
        for name, logger in list(logging.root.manager.loggerDict.items()):
            if name.startswith("gtask.") and isinstance(logger, logging.Logger):
                logger.disabled = False
    if not logging.root.handlers:
        logging.root.addHandler(_ours)


def say(text: str) -> None:
    """Says why the program ends. The line does not pass through `logging`, so nothing done to that can silence it."""
    _stderr.put(f"gtask: {text}")


def pass_on(lines: bytes, count: int) -> None:
    """Writes so many whole lines, as they are, among our own."""
    _stderr.put_bytes(lines, count)


def is_crowded() -> bool:
    """Whether so many lines wait that soon some will have to be dropped. Whoever can wait should do so."""
    return _stderr.crowded


def flush(seconds: float = LAST_WORDS) -> None:
    """Waits until all lines are written, or `seconds` are over."""
    _stderr.flush(seconds)
