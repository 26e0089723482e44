"""What the errors of Redis, and of the network before it, mean, and what the user can do about them."""

from redis.exceptions import NoPermissionError, RedisError, ResponseError

from gtask.exceptions import GtaskError, Refused, Unreachable, UsageError

_UNKNOWN = ("unknown command", "unknown redis command")  # renamed or disabled, called by us or by a script of ours


def reason(error: BaseException) -> str:
    """The error's text in one line. What Redis quotes of an unknown command is left out: it may be a password."""
    text = " ".join(str(error).split()).partition(", with args beginning with")[0]
    return text.rstrip(".") or type(error).__name__


def is_unknown_command(error: BaseException) -> bool:
    """Whether the server does not know a command, because it was renamed or disabled."""
    return any(words in str(error).lower() for words in _UNKNOWN)


def lacks(error: ResponseError, command: str) -> bool:
    """Whether it is this very command that is unknown or not permitted."""
    return (isinstance(error, NoPermissionError) or is_unknown_command(error)) and command in str(error).lower()


# What a server, or TLS, says to a first call: the words by which it is recognised, the error with which the program
# ends, and what the user is told.
_CAUSES: tuple[tuple[tuple[str, ...], type[GtaskError], str], ...] = (
    (("without any password", "no password is set"), Refused,
     "Redis at {address} refuses: {text}; it wants no password, so take it out of the URL (redis://user:password@host)"),
    (("authentication required",), Refused,
     "Redis at {address} refuses: {text}; put user and password into GTASK_REDIS (redis://user:password@host)"),
    (("invalid username-password", "invalid password"), Refused,
     "Redis at {address} refuses: {text}; correct them in the URL (redis://user:password@host)"),
    (("no permissions", *_UNKNOWN), Refused, "Redis at {address} refuses: {text}; gtask needs this command"),
    (("db index", "select is not allowed"), UsageError,
     "Redis at {address} has no such database: {text}; the last / of the URL names it, and /0 is always there"),
    (("is loading",), Unreachable, "Redis at {address} is still loading its data; try again when it has finished"),
    (("max number of clients",), Unreachable,
     "Redis at {address} takes no more connections: {text}; end some clients or raise its maxclients"),
    (("certificate_verify_failed",), Unreachable,
     "the certificate of Redis at {address} is not accepted: {text}; ?ssl_ca_certs=FILE behind the URL names the CA "
     "that signed it, and the host must be one that it was made for"),
    (("wrong_version_number", "record layer failure"), Unreachable,
     "Redis at {address} speaks no TLS; write redis:// in the place of rediss://, or name its TLS port"),
    (("[ssl", "[x509"), Unreachable,
     "no TLS with Redis at {address}: {text}; are the files right that the URL names behind the ?"),
    (("closed by server", "connection reset"), Unreachable,
     "who listens at {address} ends the connection: {text}; if it speaks TLS, write rediss://"),
)  # fmt: skip


def explained(error: RedisError | OSError, address: str) -> GtaskError:
    """The error that ends a program which cannot begin with the Redis at `address`. It says what to do about it."""
    text = reason(error)
    for words, end, line in _CAUSES:
        if any(word in text.lower() for word in words):
            return end(line.format(address=address, text=text))
    if isinstance(error, ResponseError):
        return Unreachable(f"Redis at {address} answers: {text}")
    return Unreachable(f"no Redis at {address}: {text}; start one, or name another with --redis or GTASK_REDIS")
