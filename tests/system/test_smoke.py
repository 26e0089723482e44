"""One look at the whole: two tasks, one generates, the other handles."""

import signal

from tests.tasks import wait_until


def test_one_task_generates_and_the_other_handles(server, redis, start) -> None:
    first = start("--redis", server.url, "--interval", "20")
    wait_until(first.is_generator, "the first task generates")
    second = start("--redis", server.url)
    wait_until(lambda: second.total("processed") >= 3, "the second task handles")
    for task in (first, second):
        task.send(signal.SIGTERM)
    assert [task.wait() for task in (first, second)] == [0, 0]
    assert redis.get("generatorIsActive") is None
