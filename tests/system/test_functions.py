"""What cannot be a generate or a handle is refused at the start, in one line that names the place."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import ONE_SERVER
from tests.tasks import CommandLines, wait_until

ROOT = Path(__file__).parent.parent.parent

JOBS = """
import functools

async def asynchronous(message):
    pass

class Called:
    async def __call__(self, message):
        pass

called = Called()
partly = functools.partial(asynchronous)

class Worker:
    def handle(self, message):
        pass

class Two:
    def __init__(self, message, customer):
        pass

def two(message, customer):
    pass

def none():
    pass

def only_by_name(*, message):
    pass

number = 7
"""

REFUSED = [
    ("two", "missing a required argument: 'customer' (jobs.py:22 two)"),
    ("none", "too many positional arguments (jobs.py:25 none)"),
    ("only_by_name", "too many positional arguments (jobs.py:28 only_by_name)"),
    ("Two", "missing a required argument: 'customer' (jobs.py:19 __init__)"),
    ("number", "no function, but of type int ({tmp_path}/jobs.py:31)"),
]


@ONE_SERVER
@pytest.mark.parametrize(
    ("option", "function", "said"),
    [
        *(("--handle", *case) for case in REFUSED),
        *(("--generate", *case) for case in REFUSED),
        (
            "--generate",
            "asynchronous",
            "is async and has no yield, so it is no source of messages (jobs.py:4 asynchronous)",
        ),
        ("--generate", "called", "is async and has no yield, so it is no source of messages (jobs.py:8 __call__)"),
        ("--generate", "partly", "is async and has no yield, so it is no source of messages (jobs.py:4 asynchronous)"),
    ],
)
def test_what_can_never_work_is_refused_before_anything_is_taken(
    server, redis, start, tmp_path, option: str, function: str, said: str
) -> None:
    (tmp_path / "jobs.py").write_text(JOBS)
    redis.rpush("messages", "m")
    task = start("--redis", server.url, option, f"jobs:{function}")
    assert task.wait() == (64 if option == "--handle" else 70)
    [line] = task.stderr.splitlines()
    assert line.startswith(f"gtask: {option} jobs:{function}: it ")
    assert said.format(tmp_path=tmp_path) in line
    assert redis.keys("*") == [b"messages"] and redis.llen("messages") == 1


WORKING = """
import functools, pathlib

def noted(message, extra="yes", *, colour=None):
    pathlib.Path(f"done {message}").touch()

def with_connection(function):
    @functools.wraps(function)
    def call(message):
        return function(message, "connection")
    return call

@with_connection
def decorated(message, connection):
    noted(message)

class Worker:
    def handle(self, message):
        noted(message)
    __call__ = handle

method = Worker().handle
called = Worker()
partly = functools.partial(noted, colour="red")
lambda_ = lambda *everything: noted(*everything)
created = type("Created", (), {"__init__": lambda self, message: noted(message)})
"""


@ONE_SERVER
@pytest.mark.parametrize("function", ["noted", "decorated", "method", "called", "partly", "lambda_", "created"])
def test_whatever_can_be_called_with_one_argument_works(server, redis, start, tmp_path, function: str) -> None:
    (tmp_path / "jobs.py").write_text(WORKING)
    redis.set("generatorIsActive", 1, ex=600)
    redis.rpush("messages", "m")
    task = start("--redis", server.url, "--handle", f"jobs:{function}")
    wait_until(lambda: task.total("processed") == 1)
    assert (tmp_path / "done m").exists()
    assert task.total("processed", "errors") == 0, redis.lrange("errors", 0, -1)


# -- modules that cannot be imported, or are not those that were meant


@pytest.fixture(scope="module")
def gtask() -> Iterator[CommandLines]:
    with CommandLines() as lines:
        yield lines


@pytest.mark.parametrize(
    ("files", "spec", "said"),
    [
        (
            {"jobs.py": "import os\ndef setting():\n    return os.environ['NO_SUCH_SETTING']\nURL = setting()\n"},
            "jobs:handle",
            ["KeyError: 'NO_SUCH_SETTING' (jobs.py:3 setting)"],
        ),
        (
            {"jobs.py": "import more\n", "more.py": "\nimport no_such_library\n"},
            "jobs:handle",
            ["ModuleNotFoundError: No module named 'no_such_library' (more.py:2 <module>)"],
        ),
        ({"jobs.py": "\ndef handle(message:\n"}, "jobs:handle", ["SyntaxError", "jobs.py:2)"]),
        ({"jobs.py": "import gevent\n\nraise gevent.Timeout(3)\n"}, "jobs:handle", ["3 seconds (jobs.py:3 <module>)"]),
        *(
            ({f"{name}.py": "def handle(message): pass\n"}, f"{name}:handle", [
                f"{name}", ".py has no function handle; {tmp_path}/" + name + ".py is not used", "rename it"])
            for name in ("redis", "queue", "email")
        ),
        (
            {"jobs.py": "import hypothesis\nhypothesis.given\n", "hypothesis.py": ""},
            "jobs:handle",
            ["AttributeError: ", "(jobs.py:2 <module>); hypothesis is {tmp_path}/hypothesis.py"],
        ),
        (
            {"jobs.py": "import tomllib.types\n", "tomllib.py": ""},
            "jobs:handle",
            ["(jobs.py:1 <module>); tomllib is {tmp_path}/tomllib.py"],
        ),
        ({"jobs.py": "handles = 1\n"}, "jobs:handle", ["{tmp_path}/jobs.py has no function handle"]),
        ({"jobs.py": ""}, "jobs.py:handle", ["write jobs:handle"]),
        ({"src/app/jobs.py": ""}, "src/app/jobs:handle", ["write app.jobs:handle, with PYTHONPATH=src"]),
        ({"src/app/jobs.py": ""}, "./src/app/jobs.py:handle", ["write app.jobs:handle, with PYTHONPATH=src"]),
        ({"app/jobs.py": ""}, "app/jobs.py:handle", ["write app.jobs:handle"]),
        ({"src/app/jobs.py": ""}, "app.jobs:handle", ["No module named 'app'; it is in src: set PYTHONPATH=src"]),
        (
            {"jobs.py": "class J:\n    def handle(self, message): pass\n"},
            "jobs:J.handle",
            ["has no function J.handle", "write handle = J().handle into the module, and give jobs:handle"],
        ),
    ],
)  # fmt: skip
def test_a_module_that_does_not_work_is_named_with_its_place_and_what_to_do(
    gtask, tmp_path, files: dict[str, str], spec: str, said: list[str]
) -> None:
    for name, source in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(source)
    done = gtask.run("--handle", spec, cwd=tmp_path)
    assert done.returncode == 64
    [line] = done.stderr.splitlines()
    assert line.startswith(f"gtask: --handle {spec}: ")
    for words in said:
        assert words.format(tmp_path=tmp_path) in line


@ONE_SERVER
def test_what_a_hint_says_works(server, redis, start, tmp_path) -> None:
    (tmp_path / "src" / "app").mkdir(parents=True)
    (tmp_path / "src" / "app" / "jobs.py").write_text("import pathlib\ndef handle(m): pathlib.Path(m).touch()\n")
    redis.set("generatorIsActive", 1, ex=600)
    redis.rpush("messages", "done")
    start("--redis", server.url, "--handle", "app.jobs:handle", env={"PYTHONPATH": f"src:{ROOT}"})
    wait_until((tmp_path / "done").exists)
