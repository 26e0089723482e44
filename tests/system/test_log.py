"""What gtask says on stderr: whatever users' code does to logging, and whether anybody reads it or not."""

import fcntl
import os
import re
import signal
import threading

import pytest

from tests.servers import ONE_SERVER
from tests.tasks import PATIENCE, wait_until

pytestmark = ONE_SERVER

SILENCING = {  # the ways to configure logging from a program; the first two disable all loggers that exist by then
    "dictConfig": "import logging.config\nlogging.config.dictConfig({'version': 1})",
    "fileConfig": (
        "import configparser, logging.config\n"
        "settings = configparser.ConfigParser()\n"
        "settings.read_string('[loggers]\\nkeys=root\\n[handlers]\\nkeys=\\n[formatters]\\nkeys=\\n"
        "[logger_root]\\nhandlers=\\n')\n"
        "logging.config.fileConfig(settings)"
    ),
    "basicConfig": "import logging\nlogging.basicConfig(level='CRITICAL', force=True)",
}


@pytest.fixture
def handler(server, redis, start):
    """Starts a task that handles only, because another program holds the flag."""
    redis.set("generatorIsActive", 1, ex=600)
    # It has a generate of its own, so that nothing is said of the demo's.
    return lambda *arguments, handle="job:handle", **options: start(
        "--redis", server.url, "--generate", "builtins:iter", "--handle", handle, *arguments, **options
    )


@pytest.mark.parametrize("way", SILENCING)
def test_a_module_that_configures_logging_does_not_silence_gtask(handler, tmp_path, way: str) -> None:
    (tmp_path / "job.py").write_text(SILENCING[way] + "\ndef handle(message): pass\n")
    task = handler("--log-level", "debug")
    wait_until(lambda: "DEBUG task 1 has joined" in task.stderr)
    assert task.stderr.count("has joined") == 1, "once, not by the root's handler too"


def test_a_handle_that_configures_logging_does_not_silence_gtask_for_long(handler, redis, tmp_path) -> None:
    (tmp_path / "job.py").write_text(
        "import logging.config\n"
        "def handle(message):\n"
        "    if message == 'fail': 1 / 0\n"
        "    logging.config.dictConfig({'version': 1})\n"
    )
    task = handler("--heartbeat", "0.5", "--log-level", "debug")
    redis.rpush("messages", "silence")
    wait_until(lambda: task.total("processed") == 1)

    def heard() -> bool:
        redis.rpush("messages", "fail")
        return "ZeroDivisionError" in task.stderr

    wait_until(heard)


def test_last_words_need_no_logging(handler, redis, tmp_path) -> None:
    (tmp_path / "job.py").write_text(
        "import logging\n"
        "def handle(message):\n"
        "    logging.disable()\n"
        "    logging.getLogger().handlers.clear()\n"
        "    logging.getLogger('gtask').handlers.clear()\n"
    )
    task = handler("--wait", "0.2")
    redis.rpush("messages", "silence")
    wait_until(lambda: task.total("processed") == 1)
    redis.set("messages", "of another program")
    assert task.wait() == 70
    [line] = task.stderr.splitlines()
    assert line.startswith("gtask: messages holds a string, where gtask has a list. ")


def test_the_root_logger_is_the_user_s(handler, redis, tmp_path) -> None:
    logs = "logging.getLogger('library').info('a detail')\n    logging.getLogger('library').warning('a warning')"
    (tmp_path / "plain.py").write_text(f"import logging\ndef handle(message):\n    {logs}\n")
    (tmp_path / "job.py").write_text(
        "import logging\nlogging.basicConfig(level='INFO', format='mine: %(message)s')\nfrom plain import handle\n"
    )
    redis.rpush("messages", "m")
    task = handler()
    wait_until(lambda: "a warning" in task.stderr)
    assert task.stderr.splitlines() == ["mine: a detail", "mine: a warning"]
    task.kill()
    redis.rpush("messages", "m")
    task = handler("--log-level", "debug", handle="plain:handle")
    wait_until(lambda: "a warning" in task.stderr)
    assert "a detail" not in task.stderr, "a library's details are nobody's business who has not asked for them"
    assert re.search(r"^\d{4}-\d\d-\d\d [\d:]{8} WARNING a warning$", task.stderr, re.M), "in our format"


def test_what_a_configuration_says_about_gtask_by_name_holds(handler, tmp_path) -> None:
    (tmp_path / "job.py").write_text(
        "import logging.config\n"
        "logging.config.dictConfig({\n"
        "    'version': 1,\n"
        "    'formatters': {'theirs': {'format': 'theirs: %(name)s %(message)s'}},\n"
        "    'handlers': {'theirs': {'class': 'logging.StreamHandler', 'formatter': 'theirs'}},\n"
        "    'loggers': {'gtask': {'handlers': ['theirs'], 'level': 'DEBUG'}},\n"
        "})\n"
        "def handle(message): pass\n"
    )
    task = handler("--log-level", "error", "--heartbeat", "0.5")
    wait_until(lambda: "theirs: gtask.task task 1 has joined\n" in task.stderr)
    assert task.stderr.count("has joined") == 1


# -- a reader that stands still


def full_pipe() -> tuple[int, int]:
    """A pipe into which nothing more goes: its ends for reading and writing."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    os.write(writing, b"x" * 4096)
    return reading, writing


def test_a_stderr_that_nobody_reads_holds_up_nothing_and_says_what_was_dropped(handler, redis, tmp_path) -> None:
    (tmp_path / "job.py").write_text("def handle(message): raise ValueError(message)\n")
    count = 3000
    redis.rpush("messages", *range(count))
    reading, writing = full_pipe()
    task = handler("--log-level", "debug", stderr=writing)
    os.close(writing)
    wait_until(lambda: task.total("processed") == count, "each failure is a line on stderr")
    read: list[bytes] = []
    reader = open(reading, "rb")  # noqa: SIM115 - if the test fails, a file that is being read cannot be closed
    assert reader.read(4096) == b"x" * 4096
    thread = threading.Thread(target=lambda: read.extend(reader), daemon=True)
    thread.start()

    def is_told() -> bool:
        """The first line for which there is room again is behind the one that tells of those that were dropped."""
        nonlocal count
        redis.rpush("messages", "one that may be heard")
        count += 1
        wait_until(lambda: task.total("processed") == count)
        return any(b"dropped here" in line for line in list(read))

    wait_until(is_told)
    task.send(signal.SIGTERM)
    assert task.wait() == 0
    thread.join()
    reader.close()
    text = b"".join(read).decode()
    dropped = [int(number) for number in re.findall(r"^gtask: (\d+) log lines were dropped here", text, re.M)]
    assert len(dropped) == 1 and dropped[0] > 1500
    said = len(re.findall(r"DEBUG message failed$", text, re.M))
    others = len(re.findall(r"DEBUG task 1 |INFO \d+ messages? failed", text))
    assert count <= said + others + dropped[0] <= count + 10
    assert text.endswith(f"processed {count}, errors {count}\n"), "what comes later is not dropped"


def test_a_task_ends_although_nobody_reads_its_stderr(handler, redis, tmp_path) -> None:
    (tmp_path / "job.py").write_text("def handle(message): raise ValueError(message)\n")
    reading, writing = full_pipe()
    task = handler("--log-level", "debug", stderr=writing)
    os.close(writing)
    redis.rpush("messages", "m")
    wait_until(lambda: task.total("processed") == 1)
    task.send(signal.SIGTERM)
    assert task.process.wait(PATIENCE) == 0
    os.close(reading)
