"""Bytes from a pipe -> lines of a bounded length."""

LIMIT = 4096  # bytes of one line; a report has less than 100


class Lines:
    """Cuts what was read into lines as a terminal would show them: after a carriage return the line begins anew.

    What goes beyond `limit` in a line is dropped, never stored.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._line = b""  # the one that has begun
        self._returned = False  # it ended with a carriage return, so what comes next overwrites it
        self._waits = False  # it had begun already when `unfinished` was last called
        self._given = b""  # what `unfinished` has given of it

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that `data` completes, without their ends."""
        first, *others = data.split(b"\n")
        lines = []
        self._add(first)
        for part in others:
            lines.append(self._take())
            self._add(part)
        return lines

    def unfinished(self) -> bytes:
        """The line that has begun, if it had begun at the last call too and has changed since it was given; or empty.
        To be called once a second."""
        waits, self._waits = self._waits, bool(self._line)
        if not waits or self._line == self._given:
            return b""
        self._given = self._line
        return self._line

    def close(self) -> list[bytes]:
        """What was left without a line end."""
        rest = self._take()
        return [rest] if rest else []

    def _add(self, part: bytes) -> None:
        text = part.rstrip(b"\r")
        if text:
            begin = text.rfind(b"\r") + 1
            if begin or self._returned:
                self._line = b""
            self._line += text[begin : begin + self._limit - len(self._line)]
        if part:
            self._returned = len(text) < len(part)

    def _take(self) -> bytes:
        line, self._line, self._given = self._line, b"", b""
        self._returned = self._waits = False
        return line
