"""The errors that end a program, each with its exit code and one line for the user.

GtaskError
 ├─ UsageError        64  bad option, setting, module or function
 │   └─ OthersKeys    64  the demo and one's own functions must not share keys
 ├─ Unavailable       69  no working directory, no room for files
 │   └─ Unreachable   69  no Redis at start, or one that is too old
 ├─ UserCodeError     70  the user's generate can never work
 ├─ WrongType         70  a key of ours holds another program's data
 ├─ Rejected          70  Redis will never take this call; who made it can often go on without it
 └─ Refused           77  Redis wants (other) credentials, or forbids our commands

Trouble (with Forbidden, Full and Unanswered) and NotMember end no program. They are news from Redis with which the
caller deals. CommandFailed is the failure of a message.
"""

EXIT_OK = 0
EXIT_NO_GENERATOR = 1  # gtask status: nobody holds the flag
EXIT_FAULT = 1  # gtask check: generate does not go on where it stopped
EXIT_USAGE = 64
EXIT_UNAVAILABLE = 69
EXIT_SOFTWARE = 70
EXIT_OUTPUT = 74
EXIT_STUCK = 75  # when the grace was over generate had not ended, or users' code held the event loop
EXIT_BUSY = 75  # gtask rewind: somebody generates; the same number, because both say: not now
EXIT_REFUSED = 77
EXIT_READER_GONE = 141
# 128 + the signal's number: ended by a second INT or TERM before the end was graceful.
EXIT_SIGNAL_BASE = 128


class GtaskError(Exception):
    """An error that ends the program, with one line on stderr and a named exit code."""

    code = EXIT_SOFTWARE


class UsageError(GtaskError):
    """Raised when an option, a setting or a module:function cannot be used."""

    code = EXIT_USAGE


class OthersKeys(UsageError):
    """Raised when the demo would share keys with somebody's own functions, or they with the demo's."""


class Unwritable(GtaskError):
    """A text that was asked for cannot be written."""

    code = EXIT_OUTPUT


class Unavailable(GtaskError):
    """Raised when something on which the program stands is missing at the start."""

    code = EXIT_UNAVAILABLE


class Unreachable(Unavailable):
    """Raised when Redis does not answer at the start, or is older than what gtask needs."""


class UserCodeError(GtaskError):
    """Raised at the start when the user's generate can never work; what it raises later ends its term, not the task."""


class WrongType(GtaskError):
    """Raised when a key of ours holds a value of another type, or a setting makes a script fail."""


class Rejected(GtaskError):
    """Raised when Redis will never take a call, however often it is repeated: a message is larger than it permits."""


class Refused(GtaskError):
    """Raised when Redis wants other credentials or does not permit a command."""

    code = EXIT_REFUSED


class Trouble(Exception):
    """Raised when Redis does not answer, or cannot do it just now. Whoever asked tries again later (see outage.py)."""


class Forbidden(Trouble):
    """Raised when Redis does not permit a command. A task waits for this too, because rights can come back."""


class Full(Trouble):
    """Raised when Redis has no room (maxmemory) for what a call would store. A script has changed nothing then."""


class Unanswered(Trouble):
    """Raised when a call was sent and no answer came. It may have happened, and what it would have brought is lost."""


class CommandFailed(Exception):
    """Raised when a command could not be started, ran too long, or ended with another exit code than 0. Its text is all
    that a record needs to say."""


class NotMember(Exception):
    """Raised when Redis does not know this task (any more): it was taken for dead, or Redis is a new one."""
