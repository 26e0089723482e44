"""Redis URLs: what is wrong with one, and which part of it may be shown."""

import re
from urllib.parse import urlsplit

SCHEMES = ("redis", "rediss", "unix")
ESCAPE = "in user and password write / as %2F, # as %23, ? as %3F and @ as %40"


def check(url: str) -> str:
    """Returns the URL. Raises ValueError with a reason that quotes nothing of it, for any part may be a password."""
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
    # A password with an unescaped / ? or # in it has ended the host too early.
    if "@" in parts.path + parts.query + parts.fragment:
        raise ValueError(ESCAPE)
    try:
        _ = parts.port
    except ValueError:
        raise ValueError(f"the port must be a number from 0 to 65535; {ESCAPE}") from None
    if parts.path.strip("/") and not parts.path.strip("/").isdigit():
        raise ValueError("the database after the last / must be a number")
    return url


def masked(url: str) -> str:
    """The URL, or a word that was meant as one, without user, password and query.

    A password may hold any character. So of a malformed URL more is hidden than a parser would take for a password.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        scheme, rest = "", url
    user, at, host = rest.rpartition("@")
    if re.search(r"\?\w+=", user):  # the @ may stand in the query, and a password's end behind it
        return f"{scheme}{separator}***"
    host = re.split(r"[?#]", host)[0]
    if separator and not host.startswith("/"):
        # What stands in the place of the port and is no number may be a password.
        host = re.sub(r"^(\[[^]]*]|[^/:[]*):(?!\d+(/|$)).*", r"\1:***", host)
    return f"{scheme}{separator}{'***@' if at else ''}{host}"
