"""The crawler: each page of a site once, though three tasks are killed, and it says when it is done. The fault suite
has the site that docs/recipes.md speaks of, plain tox one of a fifth of its size."""

import random
from collections import Counter

import pytest

from tests.recipes.recipe import needs
from tests.servers import OTHER_SERVER
from tests.support.web import Handler, serve
from tests.tasks import wait_until


class Site(Handler):
    """Page n links to 2n + 1 and 2n + 2, so that all can be found, and to others: itself, the first one, elsewhere."""

    pages: int
    fetched: Counter[int]

    def do_GET(self) -> None:
        number = int(self.path.strip("/") or 0)
        self.fetched[number] += 1
        chance = random.Random(number)
        children = [n for n in (2 * number + 1, 2 * number + 2) if n < self.pages]
        paths = [f"/{n}" for n in [*children, *chance.sample(range(1, self.pages), 5)]]
        others = ["/", self.path, f"{paths[-1]}#part", "http://192.0.2.1/", "mailto:nobody"]
        self.answer(200, "".join(f'<p><a class="x" href="{path}">a link</a>' for path in paths + others))


@OTHER_SERVER
@needs("requests")
@pytest.mark.parametrize("pages", [400, pytest.param(2000, marks=pytest.mark.faults)])
def test_each_page_once_and_three_kills(redis, cook, pages: int) -> None:
    Site.pages, Site.fetched = pages, Counter()
    with serve(Site) as url:
        recipe = cook("crawler", {"CRAWLER_START": url})
        for share, victim in ((1, recipe.handler), (2, recipe.generator), (3, recipe.handler)):
            wait_until(lambda: redis.hlen("pages") >= pages * share // 5, f"{share} of 5 parts are fetched")  # noqa: B023
            recipe.kill(victim())
        wait_until(lambda: f"done: {pages} pages" in recipe.said.read_text(), "it says that it is done")
    assert redis.hgetall("pages") == {url.encode() + b"%d" % n: b"200" for n in range(1, pages)} | {
        url.encode(): b"200"
    }
    assert recipe.generated == 1, "the first page; the others are follow-ups"
    assert sorted(Site.fetched) == list(range(pages))
    again = Site.fetched.total() - pages
    assert again <= 3 * 30, "only what a killed task had in hand is fetched again"
    assert not redis.exists(recipe.key("messages"), recipe.key("errors"), recipe.key("messages:later"))
    recipe.end()
