"""Fixtures of the tests of whole programs."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.fleets import Run
from tests.system.terminal import kill_all


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """A folder for the fake tasks of one gmonitor; none of them survives the test."""
    run = Run(tmp_path)
    yield run
    kill_all(run.left)
