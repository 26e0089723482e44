"""A web server for tests: in the test's own process, a thread for each connection."""

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    """Answers quickly on connections that stay open. A subclass has `do_GET` or `do_POST`."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two packets, and the second would wait for 40 ms

    def answer(self, status: int, body: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body.encode())))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


class Quiet(ThreadingHTTPServer):
    """Its clients are killed, and nobody needs to be told. Nobody waits for those that hang, either."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 100

    def handle_error(self, *_: object) -> None: ...


@contextmanager
def serve(
    handler: type[BaseHTTPRequestHandler], host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> Iterator[str]:
    """Serves while the block runs; gives the URL. `host`: what that calls this machine."""
    with Quiet(("127.0.0.1", 0), handler) as server:
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=[0.05])
        thread.start()
        try:
            yield f"{'https' if tls else 'http'}://{host}:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()
