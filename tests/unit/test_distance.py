"""When a task says that its heartbeat does not suit the link to Redis (on a real link: system/test_links.py)."""

from gtask.distance import Distance


def told(heartbeat: float, *round_trips: float) -> list[str]:
    distance = Distance(heartbeat)
    return [advice for round_trip in round_trips if (advice := distance.advice(round_trip))]


def test_a_link_that_is_slow_for_the_heartbeat_is_told_once_with_what_was_measured() -> None:
    [line] = told(1, 0.7, 0.61, 0.65, 0.7, 0.8)
    assert "takes 0.61 s, too long for --heartbeat 1:" in line
    assert "--heartbeat 2.5 suits this link" in line


def test_a_link_that_is_near_enough_is_not_mentioned() -> None:
    assert told(1, *[0.5] * 10) == []
    assert told(3, *[0.7] * 10) == []


def test_a_slow_answer_now_and_then_says_nothing_about_the_link() -> None:
    assert told(1, *[5, 5, 0.01] * 5) == []


def test_a_link_that_was_quick_meanwhile_is_told_again() -> None:
    assert len(told(1, *[0.7] * 4, 0.1, *[0.7] * 4)) == 2
