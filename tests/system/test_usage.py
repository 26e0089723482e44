"""What a user gets wrong: one clear line on stderr, an exit code, and nothing on stdout."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.servers import ONE_SERVER
from tests.support.processes import environment
from tests.tasks import CommandLines, wait_until

MODULES = {
    "broken": "import no_such_library\n",
    "wrong": "def handle(message:\n",
    "noisy": "raise RuntimeError('first line\\nsecond line')\n",
    "leaves": "raise SystemExit('no licence')\n",
    "empty": "handle = 7\n",
}


@pytest.fixture(scope="module")
def gtask() -> Iterator[CommandLines]:
    with CommandLines() as lines:
        yield lines


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--intervall", "5"], "--intervall"),
        (["--what"], "--what"),
        (["getErrors", "everything"], "everything"),
        (["getError"], "getError"),
        (["--keep"], "--keep"),
        (["--interval"], "--interval"),
        (["--interval", "-1"], "--interval '-1': must be 0 or more"),
        (["--interval=-1"], "--interval '-1': must be 0 or more"),
        (["--interval", "soon"], "--interval 'soon': not a number"),
        (["--heartbeat", "0.3"], "--heartbeat '0.3': twice the heartbeat must be whole seconds, at least 1"),
        (["--heartbeat", "0"], "--heartbeat '0': twice the heartbeat must be whole seconds"),
        (["--heartbeat", "0.75"], "--heartbeat '0.75': twice the heartbeat must be whole seconds"),
        (["--heartbeat", "nan"], "--heartbeat 'nan': not a number"),
        (["--heartbeat", "-1"], "--heartbeat '-1': twice the heartbeat must be whole seconds"),
        (["--concurrency", "0"], "--concurrency '0': must be 1 or more"),
        (["--redis", "http://127.0.0.1"], "must begin with redis://, rediss:// or unix://"),
        (["getErrors", "--redis", "http://127.0.0.1"], "must begin with redis://, rediss:// or unix://"),
        (["--handle", "handle"], "--handle 'handle': must be module:function"),
        (["--handle", "no_such_module:f"], "cannot import no_such_module: ModuleNotFoundError"),
        (["--generate", "gtask.demo:nothing"], "gtask/demo.py has no function nothing"),
        (["--handle", "broken:handle"], "cannot import broken: ModuleNotFoundError: No module named 'no_such_library'"),
        (["--handle", "wrong:handle"], "cannot import wrong: SyntaxError: "),
        (["--generate", "noisy:generate"], "cannot import noisy: RuntimeError: first line second line"),
        (["--generate", "leaves:generate"], "cannot import leaves: SystemExit: no licence"),
        (["--handle", "empty:handle"], "empty:handle: it is no function, but of type int"),
        (["--retries", "3"], "--retries 3: at-most-once delivery takes a message out of Redis"),
    ],
)
def test_bad_usage_is_one_clear_line_and_64(gtask, tmp_path, arguments: list[str], said: str) -> None:
    for name, source in MODULES.items():
        (tmp_path / f"{name}.py").write_text(source)
    done = gtask.run(*arguments, cwd=tmp_path)
    assert done.returncode == 64
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith("gtask: ")
    assert said in line


def test_a_bad_setting_in_the_environment_is_named_as_it_is_spelt_there(start) -> None:
    task = start(env={"GTASK_MAX_BACKLOG": "many"})
    assert task.wait() == 64
    assert task.stderr == "gtask: GTASK_MAX_BACKLOG 'many': not a whole number\n"


@ONE_SERVER
def test_commands_beside_a_task_do_not_mind_settings_with_which_no_task_can_run(server, redis, gtask) -> None:
    """In a container the environment is the task's, and what is missing may stand on the task's command line."""
    env = {"GTASK_REDIS": server.url, "GTASK_RETRIES": "3", "GTASK_CRON": "crontab.toml", "GTASK_GENERATE": "a:b"}
    redis.rpush("errors", "failed")
    done = [gtask.run(*words.split(), env=env) for words in ("status", "getErrors --keep", "retryErrors", "")]
    assert [one.returncode for one in done] == [1, 0, 0, 64]
    assert [one.stderr for one in done] == ["", "", "", "gtask: --generate a:b and --cron crontab.toml: there can be "
                                                        "only one\n"]  # fmt: skip


def test_help_and_version_are_answered_on_stdout(start) -> None:
    for option, said in (("--help", rb"Usage:\n  gtask \[options\]\n"), ("--version", rb"^gtask \d+\.\d+\.\d+\n$")):
        task = start(option)
        assert task.wait() == 0
        assert re.search(said, b"".join(task.lines))
        assert task.stderr == ""


@ONE_SERVER
def test_the_command_line_beats_the_environment_and_that_beats_the_default(server, redis, start) -> None:
    env = {"GTASK_REDIS": server.url, "GTASK_NAMESPACE": "from environment", "GTASK_INTERVAL": "5"}
    first = start(env=env)
    wait_until(lambda: first.total("generated") > 5)
    assert redis.exists("from environment:messages")
    second = start("--namespace", "{from line}", env=env)
    wait_until(lambda: second.total("generated") > 5)
    assert redis.exists("{from line}:messages")
    assert not redis.exists("messages")


@ONE_SERVER
def test_the_log_level_says_how_much_is_logged(server, redis, start) -> None:
    quiet = start("--redis", server.url)
    assert quiet.task_id
    talkative = start("--redis", server.url, "--log-level", "debug")
    wait_until(lambda: "task 2 has joined" in talkative.stderr)
    assert quiet.stderr == ""


@ONE_SERVER
@pytest.mark.parametrize("safe_path", ["", "1"])  # 1: as with the console script, Python itself does not look there
def test_a_module_is_found_in_the_current_directory(server, redis, start, tmp_path, safe_path: str) -> None:
    (tmp_path / "mine.py").write_text("def generate(last):\n    yield 'from here'\n")
    env = {"PYTHONSAFEPATH": safe_path}
    start("--redis", server.url, "--generate", "mine:generate", env=env)
    wait_until(lambda: redis.lrange("messages", 0, -1) == [b"from here"])


# -- generate that breaks

BROKEN = """
import gevent
def number(last):
    yield from good(last)
    yield 7
def nothing(last):
    yield from good(last)
    yield None
def surrogate(last):
    yield from good(last)
    yield chr(0xd800)
def no_iterator(last):
    return 7
def raises(last):
    yield from good(last)
    raise ValueError("the source is gone\\nfor ever")
def at_once(last):
    raise OSError(2, "no file")
def times_out(last):
    yield from good(last)
    raise gevent.Timeout(3)
def leaves(last):
    yield from good(last)
    raise SystemExit(3)
def text(last):
    return "order 17"
def data(last):
    return b"order 17"
def mapping(last):
    return {"order": 17}
def none(last):
    pass
def good(last):  # at the very first start only, so that a second term adds nothing
    return [] if last else ["good"]
"""


@ONE_SERVER
@pytest.mark.parametrize(
    ("function", "said", "count"),
    [
        ("number", r"yielded int; a message is str or bytes \(job\.py:5 number\)", 1),
        ("nothing", "yielded NoneType; a message is str or bytes", 1),
        ("surrogate", r"yielded a str that is no text: .*surrogates not allowed \(job\.py:11 surrogate\)", 1),
        ("no_iterator", "TypeError", 0),
        ("text", "returned the str 'order 17'; it must yield messages", 0),
        ("data", "returned the bytes b'order 17'; it must yield messages", 0),
        ("mapping", r"returned the dict {'order': 17}; it must yield messages", 0),
        ("none", "returned None; it must yield messages", 0),
        ("raises", r"raised ValueError: the source is gone for ever \(.*job\.py:16 raises\)", 1),
        ("at_once", r"raised FileNotFoundError: \[Errno 2\] no file \(.*job\.py:18 at_once\)", 0),
        ("times_out", "raised gevent.timeout.Timeout: 3 seconds", 1),
        ("leaves", "raised SystemExit: 3", 1),
    ],
)
def test_a_generate_that_breaks_ends_its_term_in_one_line_with_its_name(
    server, redis, start, tmp_path, function: str, said: str, count: int
) -> None:
    (tmp_path / "job.py").write_text(BROKEN)
    task = start("--redis", server.url, "--generate", f"job:{function}", "--handle", "builtins:len", "--interval", "0")
    error = wait_until(lambda: redis.hget("generator", "error")).decode()
    assert error.startswith(f"job:{function} ") and re.search(said, error), error
    assert int(redis.hget("generator", "generated") or 0) == count, "what came before it is not lost"
    line = wait_until(lambda: "failed" in task.stderr and task.stderr.splitlines())[0]
    assert re.search(rf"WARNING term 1 failed: {re.escape(error)}; generating is tried again in (1\.0|0\.\d) s$", line)
    task.send(signal.SIGTERM)
    assert task.wait() == 0
    assert "Traceback" not in task.stderr
    assert not redis.exists("generatorIsActive"), "the flag is free for others"


@ONE_SERVER
def test_others_take_over_from_a_generate_that_breaks_and_its_task_handles_on(server, redis, start, tmp_path) -> None:
    (tmp_path / "job.py").write_text(
        "import pathlib\n"
        "def generate(last):\n"
        "    yield 'begun'\n"
        "    while not pathlib.Path('break').exists():\n"
        "        yield 'more'\n"
        "    raise RuntimeError('broken')\n"
        "def steady(last):\n"
        "    while True: yield 'steady'\n"
    )
    broken = start("--redis", server.url, "--generate", "job:generate", "--interval", "5", "--heartbeat", "5")
    wait_until(broken.is_generator)
    options = ("--generate", "job:steady", "--interval", "5", "--heartbeat", "5", "--handle", "builtins:len")
    good = start("--redis", server.url, *options)
    wait_until(lambda: good.total("processed") > 3)
    (tmp_path / "break").touch()
    wait_until(lambda: good.total("generated") > 3)
    wait_until(lambda: broken.total("processed") > 3, "it handles")
    for task in (good, broken):
        task.send(signal.SIGTERM)
        assert task.wait() == 0


@ONE_SERVER
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--handle", "job:handle"), ["WARNING job:handle handles what the demo generates", "; add --generate SPEC"]),
        (("--generate", "job:generate"), ["WARNING the demo handles what job:generate yields", "; add --handle SPEC"]),
        (("--generate", "job:generate", "--handle", "job:handle"), []),
        ((), []),
    ],
)
def test_a_job_of_which_one_half_is_the_demo_s_says_so_in_one_line(
    server, redis, start, tmp_path, options: tuple[str, ...], said: list[str]
) -> None:
    (tmp_path / "job.py").write_text("def generate(last): yield 'a'\ndef handle(message): pass\n")
    task = start("--redis", server.url, *options)
    wait_until(lambda: task.total("generated"))
    task.send(signal.SIGTERM)
    assert task.wait() == 0
    about = [line for line in task.stderr.splitlines() if "demo" in line]
    assert len(about) == bool(said)
    assert all(words in line for line in about for words in said)


@pytest.mark.parametrize("option", ["--help", "--version"])
@pytest.mark.parametrize("program", ["gtask", "gmonitor"])
def test_a_help_that_nobody_reads_or_that_cannot_be_written_is_no_traceback(program: str, option: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        for stdout, code, said in (
            (writer, 141, ""),
            (full, 74, f"{program}: cannot write: No space left on device\n"),
        ):
            command = [sys.executable, "-m", program, option]
            done = subprocess.run(
                command, env=environment(), stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=60, check=False
            )
            assert (done.returncode, done.stderr) == (code, said)
    finally:
        os.close(writer)
        os.close(full)
