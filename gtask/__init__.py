"""gtask: identical processes on one Redis; one elects itself generator, the others handle.

The names below are loaded when somebody asks for them: importing the package must import neither gevent nor redis,
since programs import it before they patch the standard library.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gtask.config import Config
    from gtask.inside import Reject, Retry, TimedOut, current
    from gtask.program import run

__version__ = "1.0.0"
__all__ = ["Config", "Reject", "Retry", "TimedOut", "current", "run"]

_HOMES = {
    "Config": "gtask.config", "run": "gtask.program",
    "Retry": "gtask.inside", "Reject": "gtask.inside", "TimedOut": "gtask.inside", "current": "gtask.inside",
}  # fmt: skip

if not TYPE_CHECKING:  # otherwise a type checker would take every name for one that is here

    def __getattr__(name: str) -> Any:
        if name in _HOMES:
            return getattr(import_module(_HOMES[name]), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
