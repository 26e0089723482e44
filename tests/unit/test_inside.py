"""What users' functions can ask: `gtask.current()`."""

import asyncio
import subprocess
import sys
from contextvars import copy_context

import pytest

import gtask
from gtask.inside import Current, enter


def test_elsewhere_one_clear_error() -> None:
    with pytest.raises(RuntimeError, match="only in generate and handle, while gtask runs them"):
        copy_context().run(gtask.current)


def test_each_function_knows_its_own() -> None:
    def in_generate() -> None:
        enter(Current(task_id=lambda: 7, term=3))
        assert (gtask.current().task_id, gtask.current().term) == (7, 3)
        with pytest.raises(RuntimeError, match="attempt is known in handle only"):
            _ = gtask.current().attempt

    def in_handle() -> None:
        enter(Current(task_id=lambda: 8, attempt=lambda: 2))
        assert (gtask.current().task_id, gtask.current().attempt) == (8, 2)
        with pytest.raises(RuntimeError, match="term is known in generate only"):
            _ = gtask.current().term

    copy_context().run(in_generate)
    copy_context().run(in_handle)


def test_a_coroutine_and_a_copied_context_know_it_too() -> None:
    async def attempt() -> int:
        return gtask.current().attempt

    context = copy_context()
    context.run(enter, Current(task_id=lambda: 8, attempt=lambda: 2))
    assert context.run(asyncio.run, attempt()) == 2
    assert context.copy().run(lambda: gtask.current().task_id) == 8


def test_what_users_import_brings_neither_gevent_nor_redis() -> None:
    program = (
        "import gtask, sys; from gtask import Config, Reject, Retry, TimedOut, current; "
        "print(sorted({'gevent', 'redis'} & sys.modules.keys())); from gtask import run; print(gtask.run is run)"
    )
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "[]\nTrue\n"


def test_every_public_name_is_there_and_no_other() -> None:
    assert all(getattr(gtask, name) for name in gtask.__all__)
    with pytest.raises(AttributeError, match="module 'gtask' has no attribute 'retry'"):
        _ = gtask.retry  # type: ignore[attr-defined]
