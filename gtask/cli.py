"""The command line of gtask: usage text -> Config -> what to run -> exit code."""

import os
import signal
import sys
import time
from collections.abc import Callable
from math import inf
from types import FrameType
from typing import Any

from gtask import failed, log, signals, testing
from gtask.config import CRON, Config, read, value_of, whole
from gtask.cron import position
from gtask.exceptions import (
    EXIT_BUSY,
    EXIT_FAULT,
    EXIT_NO_GENERATOR,
    EXIT_OK,
    EXIT_OUTPUT,
    EXIT_READER_GONE,
    EXIT_REFUSED,
    EXIT_SIGNAL_BASE,
    EXIT_SOFTWARE,
    EXIT_UNAVAILABLE,
    Forbidden,
    Full,
    Trouble,
    Unanswered,
    UsageError,
)
from gtask.functions import find_generate, load_generate, load_handle
from gtask.patch import ensure_standard_files
from gtask.places import in_brackets, place_of
from gtask.program import one_line_for_errors, run_task
from gtask.server_clock import ServerClock
from gtask.stdio import write_all
from gtask.store import Store
from gtask.text import one_line, printable, to_bytes

MOST_PUSHED = 100_000  # messages: Redis does nothing else while it takes them

USAGE = f"""gtask: identical processes on one Redis; one generates messages, the others
handle them.

Usage:
  gtask [options]
  gtask getErrors [--keep] [--limit N] [options]
  gtask retryErrors [--match TEXT] [options]
  gtask push [options] [--] MESSAGE...
  gtask status [--json] [options]
  gtask rewind [--to POSITION | --purge] [options]
  gtask check [options]
  gtask cron FILE [--next N] [--from TIME] [options]

Commands:
  (none)               run a task
  getErrors            print all failed messages and remove them
  retryErrors          put failed messages back into the queue
  push                 put messages at the tail of the queue, all or
                       none; - reads them from stdin, one a line
  status               show generator, tasks and totals; exit 1 when nobody
                       generates
  check                draw 200 messages from --generate, start it anew in
                       between, compare; exit 1 at a fault
  cron                 check a schedule, and print when its entries are due
                       next; needs no Redis
  rewind               forget where generation stands, so that it begins anew;
                       refused while somebody generates

Options:
{Config.describe()}
  --keep               getErrors: print them, and remove none
  --limit N            getErrors: only the oldest N
  --match TEXT         retryErrors: only those whose record contains TEXT
  --json               status: as JSON, for programs
  --to POSITION        rewind: the next generator goes on after this position,
                       or message
  --purge              rewind: delete the messages that wait or have failed, too
  --next N             cron: how many ticks (default: 10)
  --from TIME          cron: those after this time (default: now), such as
                       2026-03-29T00:00+01:00
  -h, --help           show this
  --version            show the version

Options with a value, except those of single commands, can be set in the
environment: --max-backlog as GTASK_MAX_BACKLOG.
"""


def run(argv: list[str]) -> int:
    """Runs one command and returns its exit code. Errors become one line on stderr."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # our starter may have blocked TERM, which is inherited
    closed = ensure_standard_files()
    return one_line_for_errors(lambda: _run(argv, stdout_closed=1 in closed))


def _run(argv: list[str], *, stdout_closed: bool) -> int:
    arguments = read("gtask", USAGE, argv)
    config = Config.load(arguments, os.environ)
    log.set_up(config.log_level)
    command = next((name for name in COMMANDS if arguments[name]), "")
    if not command:
        return run_schedule(config) if config.cron else run_job(config)
    if stdout_closed:
        print("gtask: cannot write: stdout is closed", file=sys.stderr)
        return EXIT_OUTPUT
    return COMMANDS[command](config, arguments)


def run_job(config: Config) -> int:
    """A task with the functions of `--generate` and `--handle`."""
    return run_task(config, lambda: (load_generate(config.generate), load_handle(config.handle)))


def run_schedule(config: Config) -> int:
    """A task of `--cron`."""
    from gtask.scheduled import load_schedule  # noqa: PLC0415 - it needs a library that others need not have

    clock = ServerClock()
    return run_task(config, lambda: load_schedule(config, clock.now), clock)


def get_errors(config: Config, arguments: dict[str, Any]) -> int:
    """`gtask getErrors`."""
    limit = inf if arguments["--limit"] is None else value_of("--limit", whole(1), arguments["--limit"])

    def work(store: Store) -> int:
        width = (os.get_terminal_size(1).columns or 80) if os.isatty(1) else None  # 0: a terminal that does not know
        try:
            failed.get_errors(store, 1, keep=arguments["--keep"], limit=limit, width=width)
        except BrokenPipeError:
            return EXIT_READER_GONE
        except OSError as error:
            print(f"gtask: cannot write: {error.strerror}; what was not printed is still in Redis", file=sys.stderr)
            return EXIT_OUTPUT
        return EXIT_OK

    return with_redis(config, work)


def retry_errors(config: Config, arguments: dict[str, Any]) -> int:
    """`gtask retryErrors`."""

    def work(store: Store) -> int:
        count = failed.retry_errors(store, arguments["--match"])
        return show(f"{count:,} {'message is' if count == 1 else 'messages are'} back in the queue\n") or EXIT_OK

    return with_redis(config, work)


def push(config: Config, arguments: dict[str, Any]) -> int:
    """`gtask push`."""
    messages = list(map(to_bytes, arguments["MESSAGE"]))
    if messages == [b"-"]:
        messages = [line for line in sys.stdin.buffer.read().split(b"\n") if line]
    if len(messages) > MOST_PUSHED:
        raise UsageError(f"push: {len(messages):,} messages are too many for one step, which takes {MOST_PUSHED:,}")

    def work(store: Store) -> int:
        try:
            waiting = store.put(messages)
        except Unanswered as trouble:
            print(f"gtask: no answer from Redis at {store.address}: {trouble}; all of the messages were pushed, or "
                  "none (gtask status shows how many ever were)", file=sys.stderr)  # fmt: skip
            return EXIT_UNAVAILABLE
        return show(f"{len(messages):,} pushed, {waiting:,} {'waits' if waiting == 1 else 'wait'}\n") or EXIT_OK

    return with_redis(config, work)


def show_status(config: Config, arguments: dict[str, Any]) -> int:
    """`gtask status`."""

    def work(store: Store) -> int:
        seen = store.snapshot()
        code = show(seen.as_json() + "\n" if arguments["--json"] else seen.as_text(store.keys.flag))
        return code or (EXIT_OK if seen.generates else EXIT_NO_GENERATOR)

    return with_redis(config, work)


def rewind(config: Config, arguments: dict[str, Any]) -> int:
    """`gtask rewind`."""
    to, purge = arguments["--to"], arguments["--purge"]

    def work(store: Store) -> int:
        unfit = "" if to is None or position.is_one(to) else CRON
        done = store.rewind(None if to is None else to_bytes(to), purge=purge, none_of=unfit)
        if done.misfit:
            raise UsageError(f"--to {to!r}: a schedule stands here, and goes on from NAME@TIME, such as "
                             "report@2026-11-24T02:30; gtask rewind without --to forgets it")  # fmt: skip
        if done.busy is not None:
            life = f"lives {done.busy:.1f} s more" if done.busy >= 0 else "never expires"
            print(f"gtask: somebody generates ({store.keys.flag} {life}); end all tasks first", file=sys.stderr)
            return EXIT_BUSY
        stood = "before the first message" if done.before is None else f"after {printable(done.before)}"
        goes_on = "begins anew" if to is None else f"goes on after {printable(to)}"
        later = f", {done.later:,} that were to come again" if done.later else ""
        deleted = f"; deleted: {done.waiting:,} waiting{later} and {done.failed:,} failed messages" if purge else ""
        return show(f"the next generator {goes_on}; it stood {stood}{deleted}\n") or EXIT_OK

    return with_redis(config, work)


def check(config: Config, arguments: dict[str, Any]) -> int:
    """`gtask check`."""
    if config.cron:
        raise UsageError(f"a schedule is checked by gtask cron {config.cron}")
    generate = find_generate(config.generate)
    try:
        faults = testing.check(generate)
    except Exception as error:
        log.say(f"{config.generate} raised {one_line(error)}{in_brackets(place_of(error))}")
        return EXIT_SOFTWARE
    lines = faults or ["no fault found: each new start goes on exactly where the one before was stopped"]
    return show("".join(f"{config.generate}: {line}\n" for line in lines)) or (EXIT_FAULT if faults else EXIT_OK)


def show_schedule(config: Config, arguments: dict[str, Any]) -> int:
    """`gtask cron`."""
    from gtask.cron.preview import after, preview  # noqa: PLC0415 - see above

    begin = time.time() if arguments["--from"] is None else value_of("--from", after, arguments["--from"])
    number = 10 if arguments["--next"] is None else value_of("--next", whole(1), arguments["--next"])
    return show(preview(arguments["FILE"], int(begin), number)) or EXIT_OK


COMMANDS: dict[str, Callable[[Config, dict[str, Any]], int]] = {
    "getErrors": get_errors,
    "retryErrors": retry_errors,
    "push": push,
    "status": show_status,
    "check": check,
    "cron": show_schedule,
    "rewind": rewind,
}


def show(text: str) -> int:
    """Writes to stdout; 0, or the exit code of what went wrong."""
    try:
        write_all(1, text.encode("utf-8", "backslashreplace"))
    except BrokenPipeError:
        return EXIT_READER_GONE
    except OSError as error:
        print(f"gtask: cannot write: {error.strerror}", file=sys.stderr)
        return EXIT_OUTPUT
    return 0


def with_redis(config: Config, work: Callable[[Store], int]) -> int:
    """The exit code of a command that asks Redis. If that is lost on the way, or refuses, one line says so."""
    end_at_once_at_signals()
    store = Store(config.redis, config.namespace)
    store.connect()
    try:
        return work(store)
    except Forbidden as trouble:
        log.say(f"Redis at {store.address} refuses: {trouble}")
        return EXIT_REFUSED
    except Full as full:
        log.say(f"{full}, and nothing was changed; run it again when there is room")
        return EXIT_UNAVAILABLE
    except Trouble as trouble:
        log.say(f"lost Redis at {store.address}: {trouble}; run it again, nothing is lost")
        return EXIT_UNAVAILABLE


def end_at_once_at_signals() -> None:
    """INT and TERM end a command where it stands: whatever was not finished is still in Redis."""

    def on_signal(number: int, frame: FrameType | None) -> None:
        os._exit(EXIT_SIGNAL_BASE + number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signals.own(number, on_signal)
