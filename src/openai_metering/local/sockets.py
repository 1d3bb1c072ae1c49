"""The provider stand-in for websockets: a server on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from openai_metering.local import strict
from openai_metering.local.dialogs import Connection, Dialogs, session_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

    from typing_extensions import Self

    Event = dict[str, Any]

START_TIMEOUT: Final = 30.0  # seconds


@dataclass
class Handshake:
    """How a client opened a connection."""

    path: str
    query: dict[str, str]
    headers: dict[str, str]


class SocketStandIn(Dialogs):
    """A websocket server on a free loopback port, with an event loop and a thread of its own.

    What a client sends says what happens: `metadata.scenario` of a `response.create`, the text of a piece of audio, or
    the transcription model of a session. `served` is what a bill has to say.
    """

    def __init__(self) -> None:
        super().__init__()
        self.handshakes: list[Handshake] = []
        self.received: list[str] = []
        self.violations: list[str] = []
        self._ready = threading.Event()
        self._failed: BaseException | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._port = 0

    @property
    def url(self) -> str:
        """The API's root, as `websocket_base_url` takes it."""
        return f"ws://127.0.0.1:{self._port}/v1"

    def reset(self) -> None:
        """Forget what was served, sent and seen; numbers go on, so that no two tests share one."""
        self.served.clear()
        self.handshakes.clear()
        self.received.clear()
        self.violations.clear()
        self.plan.clear()
        self._last = []

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._run, name=type(self).__name__, daemon=True)
        self._thread.start()
        if not self._ready.wait(START_TIMEOUT) or self._failed is not None:
            raise RuntimeError("The websocket stand-in did not start.") from self._failed
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._loop is not None and self._stopping is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._stopping.set)
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # told by whoever waits for the start
            self._failed = error
            self._ready.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        async with serve(self._accept, "127.0.0.1", 0, max_size=None, compression=None, close_timeout=0.5) as server:
            self._port = next(iter(server.sockets)).getsockname()[1]
            self._ready.set()
            await self._stopping.wait()

    # -- One connection ------------------------------------------------------------------------------------------

    async def _accept(self, socket: ServerConnection) -> None:
        request = socket.request
        if request is None:
            return
        parts = urlsplit(request.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        headers = {name.lower(): value for name, value in request.headers.raw_items()}
        route = parts.path.removeprefix("/v1")
        self.handshakes.append(Handshake(route, query, headers))
        self.violations.extend(strict.violations("", query, headers, b"", None))
        joined = query.get("call_id") or (route.split("/")[3] if route.endswith("/attach") else None)
        connection = Connection(socket, query.get("model", "gpt-realtime"), joined or f"sess_{next(self._numbers)}")
        speak: Callable[[Connection, Event], Awaitable[None]] = self._live
        if route.startswith("/responses"):
            speak = self._responses
        elif route.startswith("/realtime"):
            speak = self._translations if route.endswith("/translations") else self._realtime
            await connection.send(type="session.created", event_id=self._id("event"), session=session_of(connection))
        with contextlib.suppress(ConnectionClosed):
            for said in self._last:
                await connection.send(**said)  # what a client saw before its connection broke off
            self._last = []
            async for message in socket:
                data = message if isinstance(message, str) else message.decode()
                self.received.append(data)
                event = json.loads(data)
                self.violations.extend(strict.violations("", {}, {}, data.encode(), event))
                await speak(connection, event)
