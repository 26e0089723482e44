"""A proxy that knows where a command and its reply begin and end, so that a fault can befall a chosen one."""

import asyncio
import hashlib
import socket
import struct
import threading
from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gtask.store import scripts
from gtask.store.scripts import Script
from tests.proxy import CHUNK, Link, Proxy

SCRIPTS = {script.digest: name.lower() for name, script in vars(scripts).items() if isinstance(script, Script)}
RST = struct.pack("ii", 1, 0)  # SO_LINGER: on, for 0 seconds: closing resets
HALF_WAY = 0.02  # seconds for the first half of a reply to arrive before the connection is reset
SPLITTING = 0.3  # seconds that a command takes in single bytes


@dataclass
class Ambush:
    """What befalls the next call of a command; `happened` is set when it has."""

    command: str  # as `name_of` says
    fault: str  # one of FAULTS
    seconds: float = 0.0  # of a stall or a delay
    happened: threading.Event = field(default_factory=threading.Event)


FAULTS = (
    "drop_request",  # the server never sees it
    "drop_reply",  # the server has done it, and the client is not told
    "reset_amid_reply",  # half of the reply comes, and then a reset
    "stall_both_ways",  # nothing goes either way for a while, and then all that was on its way
    "delay_command",  # the request comes later, and the reply, too
    "split_to_bytes",  # both come in single bytes
)


def name_of(words: list[bytes]) -> str:
    """A script's name, whether it is called by its text or its digest; or else the command itself."""
    command = words[0].decode().upper()
    if command == "EVAL":
        return SCRIPTS.get(hashlib.sha1(words[1]).hexdigest(), command)
    if command == "EVALSHA":
        return SCRIPTS.get(words[1].decode(), command)
    return command


def frame_end(data: bytes, at: int = 0) -> int | None:
    """Where the RESP value that begins at `at` ends; None: it is not whole yet."""
    line_end = data.find(b"\r\n", at)
    if line_end < 0:
        return None
    kind, rest, after = data[at : at + 1], data[at + 1 : line_end], line_end + 2
    if kind in b"+-:":
        return after
    count = int(rest)
    if kind == b"$":
        end = after if count < 0 else after + count + 2
        return end if end <= len(data) else None
    assert kind == b"*", data[at:line_end]
    for _ in range(count):
        inner = frame_end(data, after)
        if inner is None:
            return None
        after = inner
    return after


def words_of(frame: bytes) -> list[bytes]:
    """The words of an array of bulk strings, as a request is one."""
    words, at = [], frame.index(b"\r\n") + 2
    while at < len(frame):
        line_end = frame.index(b"\r\n", at)
        end = line_end + 2 + int(frame[at + 1 : line_end])
        words.append(frame[line_end + 2 : end])
        at = end + 2
    return words


class CommandLink(Link):
    """One connection, and the requests on it that were not answered yet."""

    def __init__(self) -> None:
        super().__init__()
        self.unanswered: deque[Ambush | None] = deque()
        self.read = {True: b"", False: b""}  # the beginning of the next request, and of the next reply


class CommandProxy(Proxy):
    """A Proxy for one Ambush at a time. `seen` counts the commands that came; `hits` what befell which of them;
    `withheld` has the replies that did not arrive, or not as a whole."""

    def __init__(self, target: Path) -> None:
        super().__init__(target)
        self._ambush: Ambush | None = None
        self.seen: Counter[str] = Counter()
        self.hits: Counter[tuple[str, str]] = Counter()
        self.withheld: list[tuple[str, bytes]] = []  # of which command, and the reply

    def lay(self, ambush: Ambush) -> None:
        """Waits for the next call of its command."""
        self._ambush = ambush

    def lift(self) -> None:
        """Waits no more."""
        self._ambush = None

    def _link(self) -> Link:
        return CommandLink()

    async def _read(self, link: Any, reader: asyncio.StreamReader, request: bool) -> bytes:
        """One request or one reply."""
        data = link.read[request]
        while (end := frame_end(data) if data else None) is None:
            more = await reader.read(CHUNK)
            if not more:
                self._lost(link)
                return b""
            data += more
        link.read[request] = data[end:]
        return data[:end]

    async def _write(self, link: Any, writer: asyncio.StreamWriter, frame: bytes, request: bool) -> None:
        if request:
            await self._request(link, writer, frame)
        elif frame.startswith(b"*3\r\n$7\r\nmessage\r\n"):  # of a channel, and no reply
            writer.write(frame)
        else:
            await self._reply(link, writer, frame, link.unanswered.popleft() if link.unanswered else None)

    async def _request(self, link: CommandLink, writer: asyncio.StreamWriter, frame: bytes) -> None:
        name = name_of(words_of(frame))
        ambush: Any = None
        self.seen[name] += 1
        if self._ambush is not None and self._ambush.command == name:
            ambush, self._ambush = self._ambush, None
        match ambush and ambush.fault:
            case "drop_request":
                return self._happened(ambush)
            case "stall_both_ways":
                link.stalled = True
                await asyncio.sleep(ambush.seconds)
                link.stalled = False
                self._happened(ambush)
            case "delay_command":
                await asyncio.sleep(ambush.seconds)
                self._happened(ambush)
        link.unanswered.append(ambush)
        if ambush and ambush.fault == "split_to_bytes":
            await _in_bytes(writer, frame)
            return self._happened(ambush)
        writer.write(frame)
        return await writer.drain()

    async def _reply(self, link: CommandLink, writer: asyncio.StreamWriter, frame: bytes, ambush: Any) -> None:
        match ambush and ambush.fault:
            case "drop_reply":
                self.withheld.append((ambush.command, frame))
                return self._happened(ambush)
            case "reset_amid_reply":
                self.withheld.append((ambush.command, frame))
                writer.write(frame[: len(frame) // 2])
                await asyncio.sleep(HALF_WAY)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST)
                writer.transport.abort()
                self._happened(ambush)
                raise ConnectionResetError
            case "split_to_bytes":
                return await _in_bytes(writer, frame)
            case "delay_command":
                await asyncio.sleep(ambush.seconds)
        writer.write(frame)
        return await writer.drain()

    def _happened(self, ambush: Ambush) -> None:
        self.hits[ambush.fault, ambush.command] += 1
        ambush.happened.set()

    def _lost(self, link: CommandLink) -> None:
        """It is closed on one side. What has not happened by now is to happen to the next call."""
        for ambush in link.unanswered:
            if ambush is not None and not ambush.happened.is_set():
                self._ambush = ambush


async def _in_bytes(writer: asyncio.StreamWriter, frame: bytes) -> None:
    together = 1 + len(frame) // 300  # a pause is a millisecond at least
    for at in range(len(frame)):
        writer.write(frame[at : at + 1])
        await writer.drain()
        await asyncio.sleep(0 if at % together else SPLITTING * together / len(frame))
