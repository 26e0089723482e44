"""Servers that forget scripts, lack commands or are full: tasks do without, or one line says what is needed."""

import signal
import threading

from tests.servers import Server
from tests.tasks import wait_until


def test_another_program_s_script_flush_at_any_moment_harms_nobody(server: Server, redis, start) -> None:
    tasks = [start("--redis", server.url, "--interval", "1", "--heartbeat", "0.5") for _ in range(2)]
    enough = threading.Event()

    def flush() -> None:
        with server.client() as client:
            while not enough.is_set():
                client.script_flush()

    flushing = threading.Thread(target=flush)
    flushing.start()
    try:
        wait_until(lambda: sum(task.total("generated") for task in tasks) > 500, "they generate")
        wait_until(lambda: sum(task.total("processed") for task in tasks) > 5, "they handle")
    finally:
        enough.set()
        flushing.join()
    for task in tasks:
        task.send(signal.SIGTERM)
    assert [task.wait() for task in tasks] == [0, 0]
    assert "WARNING" not in tasks[0].stderr + tasks[1].stderr
