"""The websockets of the installed SDK, found by walking it, and one way to drive each of them, sync or async."""

from __future__ import annotations

import asyncio
import inspect
import sys
from functools import cache, reduce
from typing import Any

import openai

KINDS = ("OpenAI", "AsyncOpenAI")
WEBSOCKET = "websocket_connection_options"


@cache
def sockets() -> tuple[str, ...]:
    """The paths of all resources of the installed SDK that open a websocket."""
    from openai._resource import SyncAPIResource

    def walk(owner: Any, path: str) -> Any:
        for name in sorted(set(dir(owner))):
            if name.startswith(("_", "with_")):
                continue
            try:
                value = getattr(owner, name)
            except Exception:
                continue
            if isinstance(value, SyncAPIResource):
                yield from walk(value, f"{path}{name}.")
                connect = getattr(value, "connect", None)
                if connect is not None and WEBSOCKET in inspect.signature(connect).parameters:
                    yield f"{path}{name}"

    return tuple(walk(openai.OpenAI(), ""))


def named(last: str) -> list[str]:
    """The paths whose last part is this one."""
    return [path for path in sockets() if path.rpartition(".")[2] == last]


def supports(path: str, feature: str) -> bool:
    """Whether this SDK's socket takes a keyword at `connect()`, or its connections have a method of that name."""
    resource: Any = openai.OpenAI()
    for part in path.split("."):
        resource = getattr(resource, part)
    connect = resource.connect
    module = sys.modules[type(resource).__module__]
    connections = [kind for kind in vars(module).values() if isinstance(kind, type) and hasattr(kind, "parse_event")]
    return feature in inspect.signature(connect).parameters or any(hasattr(kind, feature) for kind in connections)


class Driver:
    """One client, sync or async, driven alike from a test's own thread."""

    def __init__(self, kind: str, url: str, **options: Any) -> None:
        self.is_async = kind.startswith("Async")
        self._loop = asyncio.new_event_loop() if self.is_async else None
        self.client = getattr(openai, kind)(
            base_url=url.replace("ws://", "http://"), websocket_base_url=url, max_retries=0, timeout=5, **options
        )

    def end(self) -> None:
        if self._loop is not None:
            self._loop.close()

    def run(self, result: Any) -> Any:
        """The result of a method, awaited where it has to be."""
        return self._loop.run_until_complete(_awaited(result)) if inspect.isawaitable(result) else result

    def connect(self, path: str, **kwargs: Any) -> Any:
        """The manager that `connect()` of a resource returns."""
        connect = reduce(getattr, path.split("."), self.client).connect
        names = inspect.signature(connect).parameters
        for name, value in (("model", "gpt-realtime"), ("session_id", "sess_parent")):
            parameter = names.get(name)
            if parameter is not None and name not in kwargs and "call_id" not in kwargs:
                kwargs[name] = value
        return connect(**kwargs)

    def open(self, path: str, **kwargs: Any) -> Connection:
        return Connection(self, self.run(self.connect(path, **kwargs).enter()))


class Connection:
    def __init__(self, driver: Driver, inner: Any) -> None:
        self.driver = driver
        self.inner = inner

    def send(self, **event: Any) -> None:
        self.driver.run(self.inner.send(event))

    def create(self, *, lane: str | None = None, who: Any = None, **metadata: Any) -> None:
        """Ask for a response through the SDK's own helper."""
        realtime = "realtime" in type(self.inner).__module__
        arguments: dict[str, Any] = {"metadata": metadata} if metadata else {}
        if realtime:
            arguments = {"response": arguments}
        elif "responses" in type(self.inner).__module__:
            arguments.update(model="gpt-5", input="hi")
        if lane is not None:
            arguments["stream_id"] = lane
        if who is not None:
            arguments["usage_metadata"] = who
        self.driver.run(self.inner.response.create(**arguments))

    def recv(self) -> Any:
        return self.driver.run(self.inner.recv())

    def until(self, *kinds: str) -> Any:
        while True:
            event = self.recv()
            if type_of(event) in kinds:
                return event

    def ended(self) -> Any:
        """Read up to the end of a response."""
        return self.until("response.done", "response.completed", "response.incomplete", "response.failed")

    def iterate(self, stop: Any) -> list[Any]:
        """Read by iteration until `stop(event)`, or to the end of the connection."""
        if not self.driver.is_async:
            found = []
            for event in self.inner:
                found.append(event)
                if stop(event):
                    break
            return found

        async def read() -> list[Any]:
            found = []
            async for event in self.inner:
                found.append(event)
                if stop(event):
                    break
            return found

        return self.driver.run(read())

    def close(self) -> None:
        self.driver.run(self.inner.close())


def type_of(event: Any) -> str:
    return event["type"] if isinstance(event, dict) else event.type


async def _awaited(result: Any) -> Any:
    return await asyncio.wait_for(result, 10)


def has_lanes(path: str) -> bool:
    """Whether a response can be asked for on a lane of its own: `response.create(stream_id=...)`, from openai 3 on."""
    resource: Any = openai.OpenAI()
    for part in path.split("."):
        resource = getattr(resource, part)
    module = sys.modules[type(resource).__module__]
    return any(
        "stream_id" in inspect.signature(kind.create).parameters
        for kind in vars(module).values()
        if isinstance(kind, type) and kind.__name__.endswith("ResponseResource") and hasattr(kind, "create")
    )
