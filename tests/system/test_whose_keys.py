"""The demo and one's own functions never share keys, as processes that users start."""

from tests.servers import ONE_SERVER
from tests.tasks import wait_until

JOB = "def generate(last):\n    yield f'order after {last}'\ndef handle(message): pass\n"
OWN = ["--generate", "job:generate", "--handle", "job:handle"]


@ONE_SERVER
def test_one_s_own_job_does_not_start_on_the_demo_s_keys(server, redis, start, tmp_path) -> None:
    (tmp_path / "job.py").write_text(JOB)
    demo = start("--redis", server.url)
    wait_until(lambda: redis.llen("messages"))
    demo.kill()
    own = start("--redis", server.url, *OWN)
    assert own.wait() == 64
    [line] = own.stderr.splitlines()
    assert "belong to gtask.demo:generate" in line and "--namespace NAME" in line
    assert redis.hget("generator", "generate") == b"gtask.demo:generate"
    start("--redis", server.url, *OWN, "--namespace", "orders")
    wait_until(lambda: redis.lrange("orders:messages", 0, -1) == [b"order after None"], "the job, with keys of its own")


@ONE_SERVER
def test_the_demo_does_not_start_on_the_keys_of_one_s_own_job(server, redis, start, tmp_path) -> None:
    (tmp_path / "job.py").write_text(JOB)
    start("--redis", server.url, *OWN)
    wait_until(lambda: redis.llen("messages"))
    demo = start("--redis", server.url)
    assert demo.wait() == 64
    assert "belong to job:generate" in demo.stderr


@ONE_SERVER
def test_a_renamed_function_goes_on_and_says_whose_work_it_continues(server, redis, start, tmp_path) -> None:
    (tmp_path / "job.py").write_text(JOB)
    (tmp_path / "orders.py").write_text(JOB)
    old = start("--redis", server.url, *OWN)
    wait_until(lambda: redis.llen("messages") == 1)
    new = start("--redis", server.url, "--generate", "orders:generate", "--handle", "orders:handle")
    assert new.task_id == 2
    old.kill()
    wait_until(lambda: "orders:generate goes on where job:generate left off" in new.stderr)
    wait_until(new.is_generator)
