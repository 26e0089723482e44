"""Redis URLs: what is wrong with one, and what of it may be shown. Pure, for both programs."""

import re
from urllib.parse import urlsplit

SCHEMES = ("redis", "rediss", "unix")
ESCAPE = "in user and password write / as %2F, # as %23, ? as %3F and @ as %40"


def check(url: str) -> str:
    """The URL. Raises ValueError with a reason that repeats nothing of it, since any part may be a password's."""
    if not url.startswith(tuple(f"{scheme}://" for scheme in SCHEMES)):
        raise ValueError("the URL must begin with redis://, rediss:// or unix://")
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError(f"not a URL; {ESCAPE}") from None
    if parts.scheme == "unix":
        if not parts.path:
            raise ValueError("a unix:// URL needs the path of a socket, such as unix:///run/redis.sock")
        if parts.netloc and "@" not in parts.netloc:
            raise ValueError(f"the path of a socket begins with a third slash: unix:///run/redis.sock; {ESCAPE}")
        return url
    if "@" in parts.path + parts.query + parts.fragment:  # the user part ended too early
        raise ValueError(ESCAPE)
    try:
        _ = parts.port
    except ValueError:
        raise ValueError(f"the port must be a number from 0 to 65535; {ESCAPE}") from None
    if parts.path.strip("/") and not parts.path.strip("/").isdigit():
        raise ValueError("the database after the last / must be a number")
    return url


def masked(url: str) -> str:
    """What may be shown of a URL, or of a word that was meant as one: neither user nor password nor query.

    A password may hold anything, so where a URL is malformed more is hidden than a parser would say.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        scheme, rest = "", url
    user, at, host = rest.rpartition("@")
    if re.search(r"\?\w+=", user):  # perhaps the @ is in the query, and what follows it is a password's end
        return f"{scheme}{separator}***"
    host = re.split(r"[?#]", host)[0]
    if separator and not host.startswith("/"):
        host = re.sub(r"^(\[[^]]*]|[^/:[]*):(?!\d+(/|$)).*", r"\1:***", host)  # what stands where the port should
    return f"{scheme}{separator}{'***@' if at else ''}{host}"
