"""Children that users' code forks: not one step of gtask runs in them, and no message is lost or handled twice."""

import signal
from collections import Counter
from pathlib import Path

import psutil
import pytest

from tests.servers import ONE_SERVER
from tests.tasks import wait_until

MESSAGES = 1000

# Each way of forking is a function; a child works for longer than the parent's heartbeat and its wait for messages.
JOB = """
import multiprocessing, os, signal, sys, time
from concurrent.futures import ProcessPoolExecutor
import gevent
from gevent import monkey

task = os.getpid()
fork = multiprocessing.get_context("fork")
log = os.open("log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
children = os.open("children", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def work():
    time.sleep(1.3)
    os.write(children, b"worked\\n")

def run_subprocess():
    import subprocess
    subprocess.run(["sleep", "1.3"], check=True)
    os.write(children, b"worked\\n")

def process(target=work):
    child = fork.Process(target=target)
    child.start()
    child.join()
    assert child.exitcode == 0, child.exitcode

def grandchild():
    process()

def returns():
    if child := os.fork():
        assert os.waitpid(child, 0)[1] == 0
    else:
        work()

def exits():
    if child := os.fork():
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
    else:
        work()
        sys.exit(5)

def raises():
    if child := os.fork():
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 70
    else:
        work()
        raise ValueError("in the child")

def executor():
    with ProcessPoolExecutor(2, mp_context=fork) as pool:
        pool.submit(work).result()

def on_pool_thread():
    # gevent's own fork and waitpid need the main thread
    def returns():
        if child := monkey.get_original("os", "fork")():
            assert monkey.get_original("os", "waitpid")(child, 0)[1] == 0
        else:
            work()
    gevent.get_hub().threadpool.apply(returns)

def spawned():
    gevent.spawn(returns).get()

def terminated():
    child = fork.Process(target=time.sleep, args=(60,))
    child.start()
    child.terminate()
    child.join()
    assert child.exitcode == -signal.SIGTERM, child.exitcode
    os.write(children, b"worked\\n")

def with_subprocess():
    process(run_subprocess)

def forks(message):
    if not int(message) % 250:
        getattr(sys.modules[__name__], os.environ["WAY"])()

def handle(message):
    forks(message)
    if not int(message) % 250 and os.getpid() != task:
        return  # the child that has come back
    os.write(log, f"{message} {os.getpid()}\\n".encode())

def generate(last):
    for number in range(int(last or 0) + 1, 1001):
        forks(str(number))
        yield str(number)

def only_logs(message):
    os.write(log, f"{message} {os.getpid()}\\n".encode())
"""
WAYS = [
    "process", "grandchild", "with_subprocess", "returns", "exits", "raises", "executor", "on_pool_thread", "spawned",
    "terminated",
]  # fmt: skip
# Each way with one kind of delivery, by turns; the fault suite has the other half.
WAYS_AND_DELIVERIES = [
    pytest.param(way, delivery, marks=pytest.mark.faults if (number + turn) % 2 else ())
    for number, way in enumerate(WAYS)
    for turn, delivery in enumerate(("at-most-once", "at-least-once"))
]


def lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


def descendants(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


@ONE_SERVER
@pytest.mark.parametrize(("way", "delivery"), WAYS_AND_DELIVERIES)
def test_a_handler_that_forks_loses_nothing_and_doubles_nothing(
    server, redis, start, tmp_path, way: str, delivery: str
) -> None:
    (tmp_path / "job.py").write_text(JOB)
    redis.set("generatorIsActive", 1, ex=600)
    options = [
        "--redis",
        server.url,
        "--handle",
        "job:handle",
        "--delivery",
        delivery,
        "--heartbeat",
        "1",
        "--wait",
        "1",
    ]
    tasks = [start(*options, env={"WAY": way}) for _ in range(2)]
    assert {task.task_id for task in tasks} == {1, 2}, "both are there before the work begins"
    pids = {str(task.pid) for task in tasks}
    redis.rpush("messages", *range(1, MESSAGES + 1))
    wait_until(lambda: len(lines(tmp_path / "log")) >= MESSAGES, "all messages")
    for task in tasks:
        assert not descendants(task.pid)
        task.send(signal.SIGTERM)
        assert task.wait() == 0, task.stderr
    handled = [line.split() for line in lines(tmp_path / "log")]
    assert Counter(message for message, _ in handled) == Counter(map(str, range(1, MESSAGES + 1)))
    assert {pid for _, pid in handled} <= pids, "a child went on as a worker"
    assert not redis.exists("errors"), redis.lrange("errors", 0, -1)
    assert lines(tmp_path / "children") == ["worked"] * (MESSAGES // 250)
    said = "".join(task.stderr for task in tasks)
    assert said.count("it ends here") == (MESSAGES // 250 if way in ("returns", "on_pool_thread", "spawned") else 0), (
        said
    )
    assert said.count("ends: ValueError: in the child (job.py:") == (MESSAGES // 250 if way == "raises" else 0), said
    expected = ("handle forked", "handles what the demo generates")
    assert not [line for line in said.splitlines() if not any(words in line for words in expected)], said
    assert int(redis.get("taskId")) == 2, "a copied heartbeat took an id"


# The heartbeat is long: on a busy machine the task may stand still, or an executor holds the loop until its processes
# have begun, for longer than a short term.
@ONE_SERVER
@pytest.mark.parametrize("way", ["process", "returns", "executor"])
def test_a_generate_that_forks_makes_no_gap_and_no_repeat(server, redis, start, tmp_path, way: str) -> None:
    (tmp_path / "job.py").write_text(JOB)
    options = ["--redis", server.url, "--generate", "job:generate", "--handle", "job:only_logs", "--interval", "0",
               "--heartbeat", "5"]  # fmt: skip
    generator = start(*options, env={"WAY": way})
    wait_until(generator.is_generator)
    wait_until(lambda: redis.hget("generator", "last") == str(MESSAGES).encode(), "all messages")
    assert redis.lrange("messages", 0, -1) == [str(number).encode() for number in range(1, MESSAGES + 1)]
    assert redis.hget("generator", "term") == b"1"
    assert lines(tmp_path / "children") == ["worked"] * (MESSAGES // 250)


@ONE_SERVER
def test_a_child_that_outlives_its_task_holds_no_connection_and_no_report_pipe(server, redis, start, tmp_path) -> None:
    (tmp_path / "job.py").write_text(
        "import os, time\n"
        "def handle(message):\n"
        "    if not os.fork():\n"
        "        os.setsid()\n"
        "        open('child', 'w').write(str(os.getpid()))\n"
        "        while not os.path.exists('go'): time.sleep(0.01)\n"
        "        os._exit(0)\n"
    )
    redis.set("generatorIsActive", 1, ex=600)
    task = start("--redis", server.url, "--handle", "job:handle", "--wait", "60")
    redis.rpush("messages", "forks")
    wait_until(lambda: (tmp_path / "child").exists() and (tmp_path / "child").read_text(), "the child")
    wait_until(lambda: any("b" in c["flags"] for c in redis.client_list()), "the task waits for a message")
    task.send(signal.SIGKILL)
    try:
        wait_until(lambda: redis.info("clients")["connected_clients"] == 1, "Redis has seen that the task is gone")
        assert psutil.pid_exists(int((tmp_path / "child").read_text()))
    finally:
        (tmp_path / "go").touch()
