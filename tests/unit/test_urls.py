"""What of a Redis URL may be shown, and what is said about one that cannot be used."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gtask.urls import check, masked


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
        ("redis://[::1]:6379/0", "redis://[::1]:6379/0"),
        ("redis://[::1]", "redis://[::1]"),
        ("unix:///run/redis.sock?db=3", "unix:///run/redis.sock"),
        ("rediss://user:secret@host:6380/1", "rediss://***@host:6380/1"),
        ("redis://:secret@[::1]:6379/0", "redis://***@[::1]:6379/0"),
        ("redis://:sec@ret@host/0", "redis://***@host/0"),
        ("redis://:sec/ret@host/0", "redis://***@host/0"),
        ("redis://:sec#ret@host/0", "redis://***@host/0"),
        ("redis://:sec?ret@host/0", "redis://***@host/0"),
        ("redis://host/0?password=secret", "redis://host/0"),
        ("redis://host/0?password=sec@ret", "redis://***"),
        ("redis://:secret", "redis://:***"),
        ("redis://host:secret/0", "redis://host:***"),
        ("redis://***@host:secret", "redis://***@host:***"),
        ("http://:secret@host", "http://***@host"),
        ("redis:/:secret@host", "***@host"),
        (":secret@host", "***@host"),
        ("--reddis=redis://:secret@host", "--reddis=redis://***@host"),
        ("--interval", "--interval"),
    ],
)
def test_user_password_and_query_are_never_shown(url: str, shown: str) -> None:
    assert masked(url) == shown
    assert masked(shown) == shown


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.sampled_from(["", "user"]))
def test_whatever_a_password_is_made_of_nothing_of_it_is_shown(password: str, user: str) -> None:
    alone = masked("redis://:x@host:1234/5")
    assert masked(f"redis://{user}:{password}@host:1234/5") in (alone, "redis://***")


@pytest.mark.parametrize(
    "url",
    ["redis://h", "redis://:p%2F%40w@h:1/2", "rediss://u:p@[::1]:1/2?ssl_ca_certs=f", "unix:///s", "unix://u:p@/s"],
)
def test_a_url_that_can_be_used_is_given_back(url: str) -> None:
    assert check(url) == url


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://h", "must begin with redis://, rediss:// or unix://"),
        ("redis:/h", "must begin with redis://, rediss:// or unix://"),
        ("redis://:se/cret@h/0", "%2F"),
        ("redis://:12#cret@h/0", "%23"),
        ("redis://:12?cret@h/0", "%3F"),
        ("redis://:12/cret@h/0", "%2F"),
        ("redis://:secret", "the port must be a number"),
        ("redis://h:99999", "the port must be a number"),
        ("redis://[secret", "not a URL"),
        ("redis://h/secret", "the database after the last / must be a number"),
        ("unix://", "the path of a socket"),
        ("unix://secret/s", "third slash"),
        ("unix://u:se/cret@/s", "third slash"),
    ],
)
def test_what_is_wrong_is_said_without_repeating_it(url: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        check(url)
    assert "cret" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
