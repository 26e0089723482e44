"""The place in the user's code that an error line names."""

import importlib.util
import json
import os.path
import sys
import types
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from gtask.places import frames_of, place_in, place_of, place_of_function

JOBS = """
import json, sys

def handle(message):
    return inner(message)

def inner(message):
    return json.loads(message)

def here(message):
    return sys._getframe()
"""

Load = Callable[..., ModuleType]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Writes JOBS to a file below `tmp_path` and imports it; `on_path`: as a directory of sys.path."""

    def load(file: str, on_path: bool = True) -> ModuleType:
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(JOBS)
        if on_path:
            monkeypatch.syspath_prepend(tmp_path)
        spec = importlib.util.spec_from_file_location("jobs", path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


def raised(call: Callable[[str], object], argument: str = "no JSON") -> BaseException:
    with pytest.raises(json.JSONDecodeError) as caught:
        call(argument)
    trace = caught.value.__traceback__
    assert trace is not None
    return caught.value.with_traceback(trace.tb_next)  # without the frame of this test


def test_the_innermost_frame_of_the_user_s_own_code_is_named_and_not_the_library_s(load: Load) -> None:
    assert place_of(raised(load("app/jobs.py").handle)) == "app/jobs.py:8 inner"


def test_a_file_outside_sys_path_is_named_whole(load: Load, tmp_path: Path) -> None:
    assert place_of(raised(load("jobs.py", on_path=False).handle)) == f"{tmp_path}/jobs.py:8 inner"


def test_an_installed_application_s_own_frame_is_named_and_not_another_library_s(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gtask.places._LIBRARIES", (os.path.dirname(json.__path__[0]), str(tmp_path)))
    assert place_of(raised(load("site-packages/app/jobs.py").handle)) == "site-packages/app/jobs.py:8 inner"


def test_a_function_of_a_library_is_named_when_there_is_no_other(load: Load) -> None:
    assert place_of(raised(json.loads)).startswith("json/decoder.py:")


def test_an_error_that_was_never_raised_has_no_place() -> None:
    assert place_of(ValueError("never raised")) == ""


def test_a_running_frame_and_a_function_are_named_in_the_same_way(load: Load) -> None:
    jobs = load("jobs.py")
    assert place_in(jobs.here("")) == "jobs.py:11 here"
    assert place_of_function(jobs.handle.__code__) == "jobs.py:4 handle"
    assert place_in(sys._getframe()).endswith("a_running_frame_and_a_function_are_named_in_the_same_way")


# -- coroutines that wait


@types.coroutine
def waiting() -> Iterator[None]:
    yield


async def rows() -> AsyncIterator[str]:
    await waiting()
    yield "row"


async def through_rows() -> None:
    async for _ in rows():
        pass


async def through_a_coroutine() -> None:
    await through_rows()


def test_the_frames_of_a_coroutine_lead_to_what_it_waits_for_also_through_an_async_generator() -> None:
    coroutine = through_a_coroutine()
    coroutine.send(None)
    assert [frame.f_code.co_name for frame in frames_of(coroutine)] == [
        "through_a_coroutine", "through_rows", "rows", "waiting",
    ]  # fmt: skip
    coroutine.close()
    assert list(frames_of(coroutine)) == []


def test_a_frame_that_waits_for_code_elsewhere_is_where_that_code_is() -> None:
    coroutine = through_a_coroutine()
    coroutine.send(None)

    def waits() -> str:
        __elsewhere__ = lambda: frames_of(coroutine)  # noqa: E731, F841
        return place_in(sys._getframe())

    assert waits().endswith(" waiting")
    coroutine.close()
