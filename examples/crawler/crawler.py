"""Crawls a site: handling a page yields the links that no other page has brought before.

`generate` gives the first page alone; all the others follow from it. The seen links are kept in a Redis hash, with the
page that has brought each. A set would lose pages: a task that dies after it has noted its links, and before it has
sent them, is followed by another one that handles the page again, and that one would find all of them seen already.
"""

import os
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from urllib.parse import urldefrag, urljoin

import redis
import requests

START = os.environ.get("CRAWLER_START", "http://127.0.0.1:8000/")


def generate(last: str | None) -> Iterator[str]:
    """Yields the first page, once."""
    if last is None:
        results().hsetnx("seen", START, "the start")
        yield START


def handle(url: str) -> Iterator[str]:
    """Fetches a page, yields its new links, keeps its status, and says so when it was the last one."""
    page = web().get(url)
    if page.status_code >= 500:
        page.raise_for_status()  # failed: it comes again, as --retries says
    yield from new(links(page), url)
    with results().pipeline() as pipeline:
        pipeline.hset("pages", url, page.status_code)
        pipeline.hlen("pages")
        pipeline.hlen("seen")
        _, pages, seen = pipeline.execute()
    # A page is noted as seen before the page that has brought it is kept, so equal counts mean that nothing is left.
    if pages == seen:
        print(f"done: {pages} pages")


def links(page: requests.Response) -> list[str]:
    """The pages of the same site that this one links to."""
    parser = Links()
    parser.feed(page.text)
    found = {urldefrag(urljoin(page.url, link)).url for link in parser.found}
    return sorted(link for link in found if link.startswith(START))


class Links(HTMLParser):
    """Collects what the links of a page point to."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.found += [value for name, value in attributes if name == "href" and value]


def new(found: list[str], url: str) -> list[str]:
    """Those that this page has brought: now, or when it was handled before its task died."""
    if not found:
        return []
    with results().pipeline(transaction=False) as pipeline:
        for link in found:
            pipeline.hsetnx("seen", link, url)
        pipeline.execute()
    brought_by = results().hmget("seen", found)
    return [link for link, page in zip(found, brought_by, strict=True) if page == url]


@cache
def results() -> redis.Redis:
    """This process's connections for results."""
    return redis.Redis.from_url(os.environ.get("GTASK_REDIS", "redis://127.0.0.1:6379/0"), decode_responses=True)


@cache
def web() -> requests.Session:
    """This process's connections to the site."""
    return requests.Session()
