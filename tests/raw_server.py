"""A server that sends what it is told, byte for byte, right or wrong."""

from __future__ import annotations

import json
import socket
import socketserver
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from fuzzing import Reply

CASE = "x-case"
"""The header of a request that names the reply to it."""


class RawServer:
    """Answers each request with the reply that its header names; enter it to start it.

    Args:
        reply: gives the reply by its name, and by the request line where the request names none.
    """

    def __init__(self, reply: Callable[[str], Reply]) -> None:
        outer = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                while outer._answer(self.request):
                    pass

        self.reply = reply
        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    @property
    def base_url(self) -> str:
        """What a client is given."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> Any:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, connection: socket.socket) -> bool:
        """Answer one request. Returns whether another one may come on this connection."""
        try:
            line, headers, body = _request(connection)
            if not line:
                return False
            chosen = self.reply(headers.get(CASE) or line)
            asks = chosen.asked is not None and _asks(body)
            content = chosen.asked if asks else chosen.body
            assert content is not None
            if chosen.status in (204, 304):
                content = b""
            head = [
                f"HTTP/1.1 {chosen.status} Whatever",
                *(f"{name}: {value}" for name, value in chosen.headers.items()),
            ]
            if chosen.status != 204:
                head.append(f"content-length: {len(content)}")
            connection.sendall("\r\n".join([*head, "", ""]).encode("latin-1") + content[: chosen.cut])
        except OSError:  # the client has left
            return False
        return chosen.cut is None


def _request(connection: socket.socket) -> tuple[str, dict[str, str], bytes]:
    """The line, the headers and the body of the next request, none of it where there is none."""
    received = b""
    while b"\r\n\r\n" not in received:
        piece = connection.recv(65536)
        if not piece:
            return "", {}, b""
        received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    line, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (one.partition(":") for one in lines)}
    while len(body) < int(headers.get("content-length", "0")):
        body += connection.recv(65536)
    return line, headers, body


def _asks(body: bytes) -> Any:
    try:
        return (json.loads(body).get("stream_options") or {}).get("include_usage")
    except (ValueError, AttributeError):
        return False
