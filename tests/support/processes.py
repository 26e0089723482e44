"""Processes of this checkout: the environment in which they start, and how one waits for what they do."""

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PATIENCE = 60.0  # seconds that a test waits for an event: with a load of 50 a task took more than 30 to start


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Ours with this checkout and `more`, without the settings that whoever runs this has for gtask, for gmonitor and
    for what Python keeps in a buffer."""
    own = ("GTASK_", "GMONITOR_", "PYTHONUNBUFFERED")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    return {**clean, "PYTHONPATH": str(ROOT), **(more or {})}


def wait_until(condition: Callable[..., Any], what: str = "", timeout: float = PATIENCE, pause: float = 0.01) -> Any:
    """The first true value of `condition`; fails when there is none in time."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout:g} s for {what or condition}")
        time.sleep(pause)
    return value
