"""A link between tasks and a server that a test can make slow, thin, forgetful or dead."""

import asyncio
import socket
import threading
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Self

CHUNK = 16 * 1024
BUFFER = 64 * 1024  # of the sockets: a thin link holds little


class Link:
    """One connection through the proxy."""

    def __init__(self) -> None:
        self.used = monotonic()  # when bytes last went either way
        self.forgotten = False  # what comes is swallowed, and neither side is told
        self.stalled = False  # everything waits


class Proxy:
    """Forwards TCP connections on `port` to a server's unix socket. Its settings may change at any time."""

    def __init__(self, target: Path) -> None:
        self._target = str(target)
        self.delay = 0.0  # seconds that each byte is on its way, in each direction
        self.rate = float("inf")  # bytes a second, in each direction of each connection
        self.forgets_after = float("inf")  # seconds of silence after which a connection is forgotten
        self.stalled = False  # everything waits
        self.carried = 0  # bytes that have arrived at the server
        self.accepted = 0  # connections so far
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        self.port = self._listener.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._links: list[tuple[Link, tuple[asyncio.StreamWriter, ...]]] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()
        return self

    def __exit__(self, *error: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def cut(self) -> None:
        """Closes every connection; both sides are told."""
        self._loop.call_soon_threadsafe(self._cut)

    def forget(self) -> None:
        """Forgets every connection; nobody is told."""
        for link, _ in list(self._links):
            link.forgotten = True

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, sock=self._listener, limit=BUFFER)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        link = self._link()
        try:
            far_reader, far_writer = await asyncio.open_unix_connection(self._target, limit=BUFFER)
        except (OSError, asyncio.CancelledError):
            writer.close()
            return
        self._links.append((link, (writer, far_writer)))
        with suppress(asyncio.CancelledError):
            await asyncio.gather(
                self._forward(link, reader, far_writer, request=True),
                self._forward(link, far_reader, writer, request=False),
            )

    def _link(self) -> Link:
        return Link()

    async def _read(self, link: Link, reader: asyncio.StreamReader, request: bool) -> bytes:
        """What came next from the client (`request`) or the server; nothing at the end."""
        return await reader.read(CHUNK)

    async def _write(self, link: Link, writer: asyncio.StreamWriter, data: bytes, request: bool) -> None:
        """Sends it on."""
        writer.write(data)
        await writer.drain()

    async def _forward(
        self, link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, request: bool
    ) -> None:
        on_the_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(maxsize=16)

        async def take() -> None:
            data = b" "
            while data:
                with suppress(OSError):
                    data = await self._read(link, reader, request)
                    await on_the_way.put((monotonic() + self.delay, data))
                    continue
                await on_the_way.put((monotonic(), b""))
                return

        taking = asyncio.create_task(take())
        with suppress(OSError):
            while True:
                due, data = await on_the_way.get()
                await asyncio.sleep(max(0.0, due - monotonic(), len(data) / self.rate))
                while self.stalled or link.stalled:
                    await asyncio.sleep(0.005)
                now = monotonic()
                link.forgotten = link.forgotten or now - link.used > self.forgets_after
                if link.forgotten:
                    continue
                if not data:
                    break
                link.used = now
                await self._write(link, writer, data, request)
                if request:
                    self.carried += len(data)
        taking.cancel()
        writer.close()

    def _cut(self) -> None:
        for _, writers in self._links:
            for writer in writers:
                writer.close()
        self._links.clear()

    async def _close(self) -> None:
        self._server.close()
        await asyncio.sleep(0.01)  # what was accepted a moment ago becomes a link
        self._cut()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await asyncio.sleep(0)  # what is closed is closed in the loop's next turn
