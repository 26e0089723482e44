"""A schedule of one second over a minute in which its generator is killed ten times."""

import pytest

from tests.schedules import APPEND, POLL, drill, runner
from tests.servers import ONE_SERVER


@pytest.mark.faults
@pytest.mark.serial
@ONE_SERVER
@pytest.mark.parametrize("table", [POLL, APPEND], ids=["handle", "command"])
def test_each_second_of_a_minute_is_there_once_over_ten_sigkills(server, redis, start, tmp_path, table: str) -> None:
    drill(redis, runner(server, start, tmp_path), tmp_path, table, length=60, kills=10)
