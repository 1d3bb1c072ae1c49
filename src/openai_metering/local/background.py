"""An aiohttp server on a free loopback port, with an event loop and a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import stat
import sys
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from typing_extensions import Self

START_TIMEOUT: Final = 30.0  # seconds
SHUTDOWN_TIMEOUT: Final = 0.5  # seconds that a running answer may take once the server stops
READ_SIZE: Final = 4096


class BackgroundServer:
    """A server that runs while it is entered; subclasses say how a request is answered."""

    auto_decompress = True

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._port = 0

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request; cancelled when the client leaves."""
        raise NotImplementedError

    @property
    def url(self) -> str:
        """The root URL, without a slash at its end."""
        if not self._port:
            raise RuntimeError(
                f"{type(self).__name__} has no address before it is started: use it in a with statement."
            )
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start the thread and wait until the server accepts connections."""
        if self._thread is not None:
            raise RuntimeError(f"{type(self).__name__} is already running at {self.url}.")
        ready: Future[int] = Future()
        self._thread = threading.Thread(target=self._run, args=(ready,), name=type(self).__name__, daemon=True)
        self._thread.start()
        try:
            self._port = ready.result(START_TIMEOUT)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the server, whatever its clients still wait for, and wait for the thread's end."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        if self._stopping is not None:
            self.on_loop(self._stopping.set)
        thread.join()
        self._port = 0

    def on_loop(self, function: Callable[..., object], *args: object) -> None:
        """Have the server's own thread call a function, if it still runs."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: there is nobody left to tell
                self._loop.call_soon_threadsafe(function, *args)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self, ready: Future[int]) -> None:
        try:
            asyncio.run(self._serve(ready))
        except BaseException as error:
            if ready.done():
                raise
            ready.set_exception(error)

    async def _serve(self, ready: Future[int]) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        server = web.Server(
            self.answer,
            request_factory=_request,
            handler_cancellation=True,
            access_log=None,
            auto_decompress=self.auto_decompress,
        )
        runner = web.ServerRunner(server, shutdown_timeout=SHUTDOWN_TIMEOUT)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
            ready.set_result(runner.addresses[0][1])
            await self._stopping.wait()
        finally:
            await runner.cleanup()


def _request(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
    """A request without aiohttp's limit of 1 MiB for its body."""
    return web.BaseRequest(message, payload, protocol, writer, task, asyncio.get_running_loop(), client_max_size=0)


def run_until_told(server: BackgroundServer, announcement: Callable[[], dict[str, str]]) -> None:
    """Run a server as a process of its own: announce it in one JSON line, end with SIGTERM or with a piped stdin.

    Args:
        server: What to run.
        announcement: Gives the line that is written once the server accepts connections.
    """
    told = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: told.set())
    with server:
        sys.stdout.write(json.dumps(announcement()) + "\n")
        sys.stdout.flush()
        if _is_pipe(0):  # a terminal or /dev/null says nothing about the parent
            threading.Thread(target=_when_closed, args=(0, told), daemon=True).start()
        told.wait()


def _is_pipe(descriptor: int) -> bool:
    try:
        mode = os.fstat(descriptor).st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def _when_closed(descriptor: int, told: threading.Event) -> None:
    while os.read(descriptor, READ_SIZE):
        pass
    told.set()
