"""What becomes of the messages of the fleet that makes use of follow-ups and retries: its job does what stands here,
and the checker knows it. A message's number decides."""

RETRIES = 6  # --retries: more than the failures that are planned and those that are ordered come to
FOLLOW_UPS = 2


def follow_ups(number: int) -> int:
    """How many messages follow from this one."""
    return FOLLOW_UPS if number % 5 == 0 else 0


def failures(number: int) -> int:
    """How many attempts fail before one succeeds."""
    return 2 if number % 7 == 1 else 0


def asks_again(number: int) -> bool:
    """Its first attempt asks for another one, which is no failure."""
    return number % 11 == 2


def is_rejected(number: int) -> bool:
    """It goes to `errors` at once."""
    return number % 97 == 3


def name(author: str, which: int) -> str:
    """Of the author of a follow-up: of whose message it is, and which."""
    return f"{author}+{which}"


def is_follow_up(author: str) -> bool:
    return "+" in author
