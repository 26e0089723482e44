"""Numbers that no clock can count and no Python reads: one clear line, never a traceback."""

import pytest

from gmonitor.config import Config as MonitorConfig
from gtask.config import Config, value_of, whole
from gtask.exceptions import UsageError


@pytest.mark.parametrize("value", ["9" * 5000, "1e308", "1e300", "inf"])
@pytest.mark.parametrize("option", ["--interval", "--heartbeat", "--wait", "--grace"])
def test_a_time_that_is_too_long_is_named(option: str, value: str) -> None:
    with pytest.raises(UsageError, match=option):
        Config.load({option: value}, {})


def test_a_whole_number_of_5000_digits_is_named() -> None:
    with pytest.raises(UsageError, match="--limit"):
        value_of("--limit", whole(1), "9" * 5000)
    with pytest.raises(UsageError, match="--tasks"):
        MonitorConfig.load({"--tasks": "9" * 5000}, {})
