"""A server on this machine that gives a pickle to whoever asks, and counts who does."""

import threading
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from typing import Any


class Listener(ThreadingTCPServer):
    """Counts the connections to a loopback port of its own; close it at the end.

    Args:
        body: the answer to every request.
    """

    daemon_threads = True

    def __init__(self, body: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.body, self.asked = body, 0
        serve = threading.Thread(target=self.serve_forever, args=(0.1,), daemon=True)
        serve.start()

    @property
    def address(self) -> str:
        """Host and port."""
        host, port = self.server_address[:2]
        return f"{host!s}:{port}"

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Count before anything is read: some ask in ways that are not answered."""
        del request, client_address
        self.asked += 1
        return True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that breaks off is nobody's error."""

    def server_close(self) -> None:
        """Stop for good."""
        self.shutdown()
        super().server_close()


class Answer(BaseHTTPRequestHandler):
    """The same to everybody."""

    timeout = 5.0  # seconds for one who does not finish its question

    def do_GET(self) -> None:
        """Give the body."""
        assert isinstance(self.server, Listener)
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(self.server.body)

    do_HEAD = do_POST = do_PUT = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""
