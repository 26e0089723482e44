"""The crawler: each page of a site once, though three tasks are killed, and it says when it is done."""

import random
from collections import Counter

from tests.recipes.recipe import needs
from tests.servers import OTHER_SERVER
from tests.support.web import Handler, serve
from tests.tasks import wait_until

PAGES = 2000


class Site(Handler):
    """Page n links to 2n + 1 and 2n + 2, so that all can be found, and to others: itself, the first one, elsewhere."""

    fetched: Counter[int]

    def do_GET(self) -> None:
        number = int(self.path.strip("/") or 0)
        self.fetched[number] += 1
        chance = random.Random(number)
        children = [n for n in (2 * number + 1, 2 * number + 2) if n < PAGES]
        paths = [f"/{n}" for n in [*children, *chance.sample(range(1, PAGES), 5)]]
        others = ["/", self.path, f"{paths[-1]}#part", "http://192.0.2.1/", "mailto:nobody"]
        self.answer(200, "".join(f'<p><a class="x" href="{path}">a link</a>' for path in paths + others))


@OTHER_SERVER
@needs("requests")
def test_two_thousand_pages_and_three_kills(redis, cook) -> None:
    Site.fetched = Counter()
    with serve(Site) as url:
        recipe = cook("crawler", {"CRAWLER_START": url})
        for share, victim in ((1, recipe.handler), (2, recipe.generator), (3, recipe.handler)):
            wait_until(lambda: redis.hlen("pages") >= PAGES * share // 5, f"{share} of 5 parts are fetched")  # noqa: B023
            recipe.kill(victim())
        wait_until(lambda: f"done: {PAGES} pages" in recipe.said.read_text(), "it says that it is done")
    assert redis.hgetall("pages") == {url.encode() + b"%d" % n: b"200" for n in range(1, PAGES)} | {
        url.encode(): b"200"
    }
    assert recipe.generated == 1, "the first page; the others are follow-ups"
    assert sorted(Site.fetched) == list(range(PAGES))
    again = Site.fetched.total() - PAGES
    assert again <= 3 * 30, "only what a killed task had in hand is fetched again"
    assert not redis.exists(recipe.key("messages"), recipe.key("errors"), recipe.key("messages:later"))
    recipe.end()
