"""Every form in which a call can be made, as data: derived from the installed SDK, so that no form is listed in vain."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import openai
from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import Callable

WHO = {"organization_id": "AcmeSoft", "subscriber_identity": "joe@acme.com", "subscriber_credential": "key1-hubspot"}


class Ticket(BaseModel):
    """What `.parse()` is asked for."""

    title: str
    urgent: bool


@dataclass(frozen=True)
class Operation:
    """A billable operation, and where the SDK has it."""

    name: str
    path: str
    resource: str
    request: dict[str, Any]
    parse: dict[str, Any] | None = None
    streams: bool = True

    def of(self, client: Any) -> Any:
        """The resource of a client."""
        for part in self.resource.split("."):
            client = getattr(client, part)
        return client

    def helpers(self, client: Any) -> Any:
        """Where this SDK has `.parse()` and `.stream()`: below `beta` before 2.0."""
        resource = self.of(client)
        return resource if hasattr(resource, "parse") else self.of(client.beta)


OPERATIONS = [
    Operation(
        "chat",
        "/chat/completions",
        "chat.completions",
        {"model": "gpt-4o", "messages": [{"role": "user", "content": "What is metering?"}]},
        {"response_format": Ticket},
    ),
    Operation("responses", "/responses", "responses", {"model": "gpt-4.1", "input": "Hello"}, {"text_format": Ticket}),
    Operation(
        "embeddings",
        "/embeddings",
        "embeddings",
        {"model": "text-embedding-3-small", "input": ["one", "two"]},
        streams=False,
    ),
]
if not hasattr(openai.OpenAI(), "responses"):
    OPERATIONS = [operation for operation in OPERATIONS if operation.name != "responses"]


@dataclass(frozen=True)
class Form:
    """One way to make a call and to read its answer to the end."""

    name: str
    run: Callable[..., Any]
    asynchronous: bool = False
    streamed: bool = False
    needs: str = "create"
    keyword: bool = True


FORMS: list[Form] = []


def form(*, streamed: bool = False, needs: str = "create", keyword: bool = True) -> Callable[[Any], Any]:
    def add(function: Any) -> Any:
        FORMS.append(Form(function.__name__, function, inspect.iscoroutinefunction(function), streamed, needs, keyword))
        return function

    return add


# -- Synchronous -----------------------------------------------------------------------------------------------------


@form()
def plain(client: Any, operation: Operation, extra: dict[str, Any]) -> None:
    operation.of(client).create(**operation.request, **extra)


@form()
def with_options(client: Any, operation: Operation, extra: dict[str, Any]) -> None:
    operation.of(client.with_options(timeout=20).copy()).create(**operation.request, **extra)


@form()
def raw_parsed_twice(client: Any, operation: Operation, extra: dict[str, Any]) -> None:
    raw = operation.of(client).with_raw_response.create(**operation.request, **extra)
    assert raw.parse() is raw.parse()
    assert raw.headers["x-request-id"]


@form()
def raw_unparsed(client: Any, operation: Operation, extra: dict[str, Any]) -> None:
    operation.of(client).with_raw_response.create(**operation.request, **extra)


@form()
def streaming_response_parsed(client: Any, operation: Operation, extra: dict[str, Any]) -> None:
    with operation.of(client).with_streaming_response.create(**operation.request, **extra) as response:
        response.parse()


@form()
def streaming_response_read(client: Any, operation: Operation, extra: dict[str, Any]) -> None:
    with operation.of(client).with_streaming_response.create(**operation.request, **extra) as response:
        response.read()


@form()
def streaming_response_lines(client: Any, operation: Operation, extra: dict[str, Any]) -> None:
    with operation.of(client).with_streaming_response.create(**operation.request, **extra) as response:
        list(response.iter_lines())


@form()
def streaming_response_bytes(client: Any, operation: Operation, extra: dict[str, Any]) -> None:
    with operation.of(client).with_streaming_response.create(**operation.request, **extra) as response:
        list(response.iter_bytes(7))


@form()
def streaming_response_raw_bytes(client: Any, operation: Operation, extra: dict[str, Any]) -> None:
    with operation.of(client).with_streaming_response.create(**operation.request, **extra) as response:
        list(response.http_response.iter_raw())


@form(keyword=False)
def post(client: Any, operation: Operation, extra: dict[str, Any]) -> None:
    client.post(operation.path, cast_to=object, body=operation.request, options=headers_option(extra))


@form(keyword=False)
def post_http_response(client: Any, operation: Operation, extra: dict[str, Any]) -> None:
    import openai._base_client as base

    http = getattr(base, "httpx2", None) or base.httpx
    client.post(operation.path, cast_to=http.Response, body=operation.request, options=headers_option(extra))


@form(streamed=True)
def stream(client: Any, operation: Operation, extra: dict[str, Any]) -> None:
    opened = operation.of(client).create(**operation.request, stream=True, **extra)
    assert type(opened) is openai.Stream
    for _ in opened:
        pass


@form(streamed=True)
def stream_in_with(client: Any, operation: Operation, extra: dict[str, Any]) -> None:
    with operation.of(client).create(**operation.request, stream=True, **extra) as opened:
        for _ in opened:
            pass


@form(streamed=True)
def stream_by_next(client: Any, operation: Operation, extra: dict[str, Any]) -> None:
    opened = operation.of(client).create(**operation.request, stream=True, **extra)
    while True:
        try:
            next(opened)
        except StopIteration:
            break


@form(streamed=True)
def raw_stream_parsed(client: Any, operation: Operation, extra: dict[str, Any]) -> None:
    raw = operation.of(client).with_raw_response.create(**operation.request, stream=True, **extra)
    for _ in raw.parse():
        pass


@form(streamed=True)
def streaming_response_stream_parsed(client: Any, operation: Operation, extra: dict[str, Any]) -> None:
    method = operation.of(client).with_streaming_response.create
    with method(**operation.request, stream=True, **extra) as response:
        for _ in response.parse():
            pass


@form(streamed=True)
def streaming_response_stream_lines(client: Any, operation: Operation, extra: dict[str, Any]) -> None:
    method = operation.of(client).with_streaming_response.create
    with method(**operation.request, stream=True, **extra) as response:
        list(response.iter_lines())


@form(streamed=True)
def streaming_response_stream_raw_bytes(client: Any, operation: Operation, extra: dict[str, Any]) -> None:
    method = operation.of(client).with_streaming_response.create
    with method(**operation.request, stream=True, **extra) as response:
        list(response.http_response.iter_raw())


@form(streamed=True, needs="stream")
def helper_stream(client: Any, operation: Operation, extra: dict[str, Any]) -> None:
    with operation.helpers(client).stream(**operation.request, **extra) as events:
        for _ in events:
            pass


@form(needs="parse")
def parse(client: Any, operation: Operation, extra: dict[str, Any]) -> None:
    operation.helpers(client).parse(**operation.request, **(operation.parse or {}), **extra)


# -- Asynchronous ----------------------------------------------------------------------------------------------------


@form()
async def async_plain(client: Any, operation: Operation, extra: dict[str, Any]) -> None:
    await operation.of(client).create(**operation.request, **extra)


@form()
async def async_raw_parsed(client: Any, operation: Operation, extra: dict[str, Any]) -> None:
    raw = await operation.of(client).with_raw_response.create(**operation.request, **extra)
    parsed = raw.parse()
    if inspect.isawaitable(parsed):
        await parsed


@form()
async def async_raw_unparsed(client: Any, operation: Operation, extra: dict[str, Any]) -> None:
    await operation.of(client).with_raw_response.create(**operation.request, **extra)


@form()
async def async_streaming_response_parsed(client: Any, operation: Operation, extra: dict[str, Any]) -> None:
    async with operation.of(client).with_streaming_response.create(**operation.request, **extra) as response:
        await response.parse()


@form()
async def async_streaming_response_read(client: Any, operation: Operation, extra: dict[str, Any]) -> None:
    async with operation.of(client).with_streaming_response.create(**operation.request, **extra) as response:
        await response.read()


@form()
async def async_streaming_response_lines(client: Any, operation: Operation, extra: dict[str, Any]) -> None:
    async with operation.of(client).with_streaming_response.create(**operation.request, **extra) as response:
        async for _ in response.iter_lines():
            pass


@form(keyword=False)
async def async_post(client: Any, operation: Operation, extra: dict[str, Any]) -> None:
    await client.post(operation.path, cast_to=object, body=operation.request, options=headers_option(extra))


@form(streamed=True)
async def async_stream(client: Any, operation: Operation, extra: dict[str, Any]) -> None:
    opened = await operation.of(client).create(**operation.request, stream=True, **extra)
    assert type(opened) is openai.AsyncStream
    async for _ in opened:
        pass


@form(streamed=True)
async def async_stream_in_with(client: Any, operation: Operation, extra: dict[str, Any]) -> None:
    async with await operation.of(client).create(**operation.request, stream=True, **extra) as opened:
        async for _ in opened:
            pass


@form(streamed=True)
async def async_raw_stream_parsed(client: Any, operation: Operation, extra: dict[str, Any]) -> None:
    raw = await operation.of(client).with_raw_response.create(**operation.request, stream=True, **extra)
    parsed = raw.parse()
    async for _ in await parsed if inspect.isawaitable(parsed) else parsed:
        pass


@form(streamed=True)
async def async_streaming_response_stream_parsed(client: Any, operation: Operation, extra: dict[str, Any]) -> None:
    method = operation.of(client).with_streaming_response.create
    async with method(**operation.request, stream=True, **extra) as response:
        async for _ in await response.parse():
            pass


@form(streamed=True)
async def async_streaming_response_stream_lines(client: Any, operation: Operation, extra: dict[str, Any]) -> None:
    method = operation.of(client).with_streaming_response.create
    async with method(**operation.request, stream=True, **extra) as response:
        async for _ in response.iter_lines():
            pass


@form(streamed=True, needs="stream")
async def async_helper_stream(client: Any, operation: Operation, extra: dict[str, Any]) -> None:
    async with operation.helpers(client).stream(**operation.request, **extra) as events:
        async for _ in events:
            pass


@form(needs="parse")
async def async_parse(client: Any, operation: Operation, extra: dict[str, Any]) -> None:
    await operation.helpers(client).parse(**operation.request, **(operation.parse or {}), **extra)


def headers_option(extra: dict[str, Any]) -> dict[str, Any]:
    return {"headers": extra["extra_headers"]} if "extra_headers" in extra else {}


def cases() -> list[tuple[Operation, Form]]:
    """Every operation in every form that this SDK has for it."""
    client = openai.OpenAI()
    found = []
    for operation in OPERATIONS:
        for candidate in FORMS:
            if candidate.streamed and not operation.streams:
                continue
            if candidate.needs != "create":
                if operation.parse is None:
                    continue
                if not hasattr(operation.helpers(client), candidate.needs):
                    continue
            found.append((operation, candidate))
    return found


async def run_async(form: Form, base_url: str, operation: Operation, extra: dict[str, Any]) -> None:
    async with openai.AsyncOpenAI(base_url=base_url, max_retries=0) as client:
        await form.run(client, operation, extra)
