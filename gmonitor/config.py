"""All settings of gmonitor and their defaults, in the three spellings that gtask.config describes."""

from dataclasses import dataclass

from gtask import urls
from gtask.config import Settings, not_negative, option, whole

SWITCH = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


def _switch(text: str) -> bool:
    if text.lower() not in SWITCH:
        raise ValueError("must be 1 or 0")
    return SWITCH[text.lower()]


def _file(text: str) -> str:
    if not text:
        raise ValueError("the name of a file is missing")
    return text


@dataclass(frozen=True)
class Config(Settings):
    """What a run of gmonitor needs to know; change a default here and nowhere else."""

    prefix = "GMONITOR_"

    tasks: int = option(5, whole(1), "N", "how many tasks to start", short="-n")
    redis: str | None = option(
        None,
        urls.check,
        "URL",
        "the Redis of the tasks, who get it as GTASK_REDIS; if none is named here or in their own settings, and none "
        "listens on 127.0.0.1:6379, gmonitor starts a Valkey of its own",
    )
    plain: bool = option(False, _switch, "", "event lines instead of the screen (also when stdout is no terminal)")
    log: str | None = option(None, _file, "FILE", "where the tasks' stderr goes, each line with its task's pid")
    # A little more than a task needs that ends by itself though Redis stands still: its own grace, and the last call.
    grace: float = option(15, not_negative, "SECONDS", "how long the tasks may take to end before they are killed")
    command: tuple[str, ...] = ("gtask",)  # what stands behind --
