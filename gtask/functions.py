"""The user's two functions: found by `module:function`, and checked before the task joins.

What can never work is refused here, in one line that names the user's file: a task that took the flag, or messages, and
only then found out would take them from tasks that work.
"""

import importlib
import inspect
import linecache
import re
import sys
from collections.abc import Callable, Iterable
from contextvars import Context, copy_context
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from gevent import getcurrent

from gtask.aio import called, is_async_generator_function, is_coroutine_function
from gtask.bridge import Stream, plain, plain_generator
from gtask.exceptions import GtaskError, UsageError, UserCodeError
from gtask.inside import hand_on
from gtask.items import Generate, Item
from gtask.places import in_brackets, place_of, place_of_function
from gtask.stdio import working_directory
from gtask.text import one_line, printable


@dataclass(frozen=True)
class Handle:
    """The user's function, to be called as `handle.new_context().run(handle.function, message)`.

    So each message starts from the context variables that the module's import has left behind. A worker's greenlet has
    only one context of its own. There a message would find what an earlier one has set, such as the customer for log
    lines. The workers' loop makes this call itself, because a function in between would cost more than the copy does.

    `end` is called when the task's end has begun. When it returns, at the deadline on the monotonic clock or soon after
    it, nothing runs any more that the function has started outside of this process. `kill` has the same done at once,
    and may be called from any thread, because `end` cannot go on while something holds the event loop.
    """

    function: Callable[[str], object]
    new_context: Callable[[], Context]
    end: Callable[[float], None] = lambda deadline: None
    kill: Callable[[], None] = lambda: None


def load_generate(spec: str) -> Generate:
    """The function that yields messages. Raises UsageError when there is none, UserCodeError when it cannot work."""
    return _with_context(find_generate(spec))


def find_generate(spec: str) -> Generate:
    """The same for a caller that has a context for it, such as `gtask check`."""
    return _source(_find("--generate", spec), f"--generate {spec}")


def load_handle(spec: str) -> Handle:
    """The function that handles one message. Raises UsageError when there is none, or one that cannot work."""
    return accept_handle(_find("--handle", spec), f"--handle {spec}")


def accept_generate(function: Any) -> Generate:
    """The function as a term calls it. Raises UserCodeError when it cannot work."""
    return _with_context(_source(function, "generate"))


def accept_handle(function: Any, name: str = "handle") -> Handle:
    """The function as the workers call it. Raises UsageError when it cannot work; `name`: how its user calls it."""
    _check(name, function, "message", UsageError)
    if is_coroutine_function(function):
        function = plain(function)
    elif is_async_generator_function(function):
        function = plain_generator(function)
    return Handle(function, copy_context().copy)


# -- finding


def _find(option: str, spec: str) -> Any:
    """What `module:name` names; the module is looked for in the current directory too."""
    module_name, _, name = spec.partition(":")
    here = working_directory()
    if str(here) not in sys.path:
        sys.path.insert(0, str(here))
    if "/" in module_name or module_name.startswith("."):
        raise UsageError(f"{option} {spec}: a module is named as in an import, not by its path; {_as_module(spec)}")
    try:
        module = importlib.import_module(module_name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit and gevent.Timeout are no less an error of the user's module
        raise UsageError(f"{option} {spec}: cannot import {module_name}: {_why(error, spec)}") from None
    if hasattr(module, name):
        return getattr(module, name)
    raise UsageError(f"{option} {spec}: {_file(module)} has no function {name}{_hint(module, name, here)}")


def _why(error: BaseException, spec: str) -> str:
    """An import's error in one line: what it is, where the user's code raised it, and what may help."""
    module_name = spec.partition(":")[0]
    text = one_line(error)
    if isinstance(error, SyntaxError):
        return f"{text} ({error.filename}:{error.lineno})"
    if isinstance(error, ModuleNotFoundError) and f"{module_name}.".startswith(f"{error.name}."):
        if module_name.endswith(".py"):
            return f"{text}; {_as_module(spec)}"
        top = module_name.partition(".")[0]
        if Path("src", top).is_dir() or Path("src", f"{top}.py").exists():
            return f"{text}; it is in src: set PYTHONPATH=src, or install your project (pip install -e .)"
        here = printable(str(working_directory()))
        return f"{text}; Python looks in {here}, in PYTHONPATH, and among what is installed"
    text += in_brackets(place_of(error))
    # Python may have found another module than its user expects, for instance a redis.py beside the user's code.
    other: object = None
    if isinstance(error, AttributeError):
        other = error.obj
    elif isinstance(error, ImportError):
        other = sys.modules.get((error.name or "").partition(".")[0])
    return f"{text}; {other.__name__} is {_file(other)}" if isinstance(other, ModuleType) else text


def _as_module(spec: str) -> str:
    """How to write the path `src/app/jobs.py:handle`."""
    path, _, name = spec.partition(":")
    parts = [part for part in path.removesuffix(".py").split("/") if part not in ("", ".", "..")]
    if parts[:1] == ["src"]:
        return f"write {'.'.join(parts[1:])}:{name}, with PYTHONPATH=src"
    return f"write {'.'.join(parts)}:{name}"


def _file(module: ModuleType) -> str:
    return getattr(module, "__file__", None) or f"{module.__name__}, which is part of Python,"


def _hint(module: ModuleType, name: str, here: Path) -> str:
    """Why a function may be missing: it is a method, or Python has found another module than its user meant."""
    owner, dot, method = name.rpartition(".")
    if dot:
        return (f"; for a method of a class {owner} write {method} = {owner}().{method} into the module, "
                f"and give {module.__name__}:{method}")  # fmt: skip
    path = here.joinpath(*module.__name__.split("."))
    for own in (path.with_suffix(".py"), path / "__init__.py"):
        if own.exists() and str(own) != getattr(module, "__file__", None):
            return f"; {own} is not used, because another module of that name was there first: rename it"
    return ""


# -- calling


def _source(function: Any, name: str) -> Generate:
    """The function, once it is checked; as a plain one, if it is async."""
    _check(name, function, "last", UserCodeError)
    if is_coroutine_function(function):
        raise UserCodeError(f"{name}: it is async and has no yield, so it is no source of messages{_in(function)}")
    return partial(Stream, function) if is_async_generator_function(function) else function


def _with_context(function: Generate) -> Generate:
    """The same function, but each term starts from the context variables that the module's import has left behind.

    The code of a generator function runs later, whenever a message is drawn. So the whole greenlet gets that context.
    """
    fresh = copy_context().copy

    def generate(last: str | None) -> Iterable[Item]:
        context = fresh()
        hand_on(context)
        getcurrent().gr_context = context
        return function(last)

    return generate


# -- checking


def _check(name: str, function: Any, argument: str, refusal: type[GtaskError]) -> None:
    """Raises `refusal` for what would fail, or do nothing, at each call."""
    if not callable(function):
        raise refusal(f"{name}: it is no function, but of type {type(function).__name__}{_assigned(name)}")
    try:
        # Not what a decorator says that it wraps: the decorator may well pass further arguments on.
        signature = inspect.signature(function, follow_wrapped=False)
    except (ValueError, TypeError):  # written in C; its parameters are not known
        return
    try:
        signature.bind(None)
    except TypeError as error:
        raise refusal(f"{name}: it is called with one argument, {argument}, and that does not fit: "
                      f"{error}{_in(function)}") from None  # fmt: skip


def _in(function: Any) -> str:
    """Where the function is defined, as ` (jobs.py:7 handle)`; "" where that is not known."""
    for runs in called(function):
        code = getattr(runs, "__code__", None) or getattr(getattr(runs, "__init__", None), "__code__", None)
        if code is not None:
            return in_brackets(place_of_function(code))
    return ""


def _assigned(name: str) -> str:
    """Where the module of `--handle module:name` gives that name its value, as ` (jobs.py:7)`; without the line where
    that cannot be seen."""
    module_name, _, variable = name.rpartition(" ")[2].partition(":")
    if module_name not in sys.modules:
        return ""
    file = _file(sys.modules[module_name])
    lines = enumerate(linecache.getlines(file), 1)
    return next((f" ({file}:{n})" for n, line in lines if re.match(rf"{variable}\b", line)), f" ({file})")
