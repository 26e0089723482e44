"""The beat for Celery: each tick's task runs once by its id, though three processes are killed."""

from datetime import datetime, timedelta

from tests.recipes.recipe import needs
from tests.servers import OTHER_SERVER
from tests.tasks import wait_until

TICKS = 10  # of the entry that is due each second


def ticks(ids: list[bytes], name: str) -> list[datetime]:
    """Those of one entry, in order."""
    pairs = [task.decode().split("@") for task in ids]
    return sorted(datetime.fromisoformat(time) for entry, time in pairs if entry == name)


@OTHER_SERVER
@needs("celery", "cronsim")
def test_each_ticks_task_once_and_three_kills(redis, cook) -> None:
    recipe = cook("celerybeat")
    for count, victim in ((2, recipe.generator), (4, recipe.handler), (6, recipe.generator)):
        wait_until(lambda: len(ticks(redis.hkeys("ran"), "poll")) >= count, f"{count} ticks have run")  # noqa: B023
        recipe.kill(victim())
    wait_until(lambda: len(ticks(redis.hkeys("ran"), "poll")) >= TICKS, "all of these ticks have run")
    redis.set(recipe.key("generatorIsActive"), 1, ex=600)  # nobody fires any more
    wait_until(lambda: not redis.exists(recipe.key("generatorId")), "the generator gives way")
    wait_until(lambda: redis.hlen("ran") >= recipe.generated, "what was fired has run")
    for name, every in (("poll", 1), ("report", 2)):
        due = ticks(redis.hkeys("ran"), name)
        assert due == [due[0] + timedelta(seconds=every * n) for n in range(len(due))], "none is missing"
    assert redis.hlen("ran") == recipe.generated, "each was fired once"
    assert redis.llen(recipe.key("errors")) == 0
    recipe.end()
