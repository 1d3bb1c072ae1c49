"""Every form in which a call can be made, as data: derived from the installed SDK, so that no form is listed in vain."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import openai
from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

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
    method: str = "create"
    post: bool = True
    """Its request can be made by `client.post`: no files, nothing in its path."""
    status: str = "reported"
    reason: str | None = None
    units: dict[str, float] = field(default_factory=dict)
    """What is not told by tokens."""

    def of(self, client: Any) -> Any:
        """The resource of a client."""
        for part in self.resource.split("."):
            client = getattr(client, part)
        return client

    def on(self, client: Any, view: str | None = None) -> Any:
        """The method of a client's resource, or of a view of it."""
        resource = self.of(client)
        return getattr(resource if view is None else getattr(resource, view), self.method)

    def helpers(self, client: Any) -> Any:
        """Where this SDK has `.parse()` and `.stream()`: below `beta` before 2.0."""
        resource = self.of(client)
        return resource if hasattr(resource, "parse") else self.of(client.beta)

    def there(self, client: Any) -> bool:
        """Whether this SDK has it."""
        try:
            return callable(self.on(client))
        except AttributeError:
            return False

    def streams(self, client: Any) -> bool:
        """Whether this SDK streams it."""
        return "stream" in inspect.signature(self.on(client)).parameters


SOUND = ("a.mp3", b"ID3 no sound", "audio/mpeg")
PICTURE = ("a.png", b"PNG no picture", "image/png")
TURN = {"role": "user", "content": "What is metering?"}
LATER = {"status": "unknown", "reason": "deferred"}
ASKED = {"status": "estimated", "reason": "from_request"}

OPERATIONS = [
    Operation(
        "chat",
        "/chat/completions",
        "chat.completions",
        {"model": "gpt-4o", "messages": [TURN]},
        {"response_format": Ticket},
    ),
    Operation("responses", "/responses", "responses", {"model": "gpt-4.1", "input": "Hello"}, {"text_format": Ticket}),
    Operation("embeddings", "/embeddings", "embeddings", {"model": "text-embedding-3-small", "input": ["one", "two"]}),
    Operation("completions", "/completions", "completions", {"model": "gpt-3.5-turbo-instruct", "prompt": "Hello"}),
    Operation("compact", "/responses/compact", "responses", {"model": "gpt-4.1", "input": "Hello"}, method="compact"),
    Operation(
        "decisions",
        "/decisions",
        "decisions",
        {"model": "gpt-decide", "input": "Hello", "questions": [{"type": "predicate", "name": "q", "question": "?"}]},
    ),
    Operation(
        "images.generate",
        "/images/generations",
        "images",
        {"model": "gpt-image-1", "prompt": "a meter"},
        method="generate",
        units={"images": 1},
    ),
    Operation(
        "images.edit",
        "/images/edits",
        "images",
        {"model": "gpt-image-1", "prompt": "a meter", "image": PICTURE},
        method="edit",
        post=False,
        units={"images": 1},
    ),
    Operation(
        "images.create_variation",
        "/images/variations",
        "images",
        {"model": "dall-e-2", "image": PICTURE, "n": 3},
        method="create_variation",
        post=False,
        units={"images": 3},
    ),
    Operation(
        "audio.speech",
        "/audio/speech",
        "audio.speech",
        {"model": "gpt-4o-mini-tts", "input": "Hello, you", "voice": "alloy"},
        **ASKED,
        units={"characters": 10},
    ),
    Operation(
        "audio.transcriptions",
        "/audio/transcriptions",
        "audio.transcriptions",
        {"model": "gpt-4o-transcribe", "file": SOUND},
        post=False,
    ),
    Operation(
        "audio.transcriptions by the second",
        "/audio/transcriptions",
        "audio.transcriptions",
        {"model": "whisper-1", "file": SOUND},
        post=False,
        units={"seconds": 1.5},
    ),
    Operation(
        "audio.translations",
        "/audio/translations",
        "audio.translations",
        {"model": "whisper-1", "file": SOUND, "response_format": "verbose_json"},
        post=False,
        units={"seconds": 1.25},
    ),
    Operation("videos", "/videos", "videos", {"model": "sora-2", "prompt": "a meter"}, post=False, **LATER),
    Operation("videos.remix", "", "videos", {"video_id": "v1", "prompt": "x"}, method="remix", post=False, **LATER),
    Operation(
        "batches",
        "/batches",
        "batches",
        {"completion_window": "24h", "endpoint": "/v1/responses", "input_file_id": "file-1"},
        **LATER,
    ),
    Operation(
        "fine_tuning.jobs",
        "/fine_tuning/jobs",
        "fine_tuning.jobs",
        {"model": "gpt-4o-mini", "training_file": "file-1"},
        **LATER,
    ),
    Operation(
        "fine_tuning.alpha.graders.run",
        "/fine_tuning/alpha/graders/run",
        "fine_tuning.alpha.graders",
        {"grader": {"type": "string_check", "name": "g"}, "model_sample": "x"},
        method="run",
        units={"grader_tokens": 101},
    ),
    Operation("evals.runs", "", "evals.runs", {"eval_id": "e1", "data_source": {"type": "jsonl"}}, post=False, **LATER),
    Operation("threads.runs", "", "beta.threads.runs", {"thread_id": "t1", "assistant_id": "a1"}, post=False, **LATER),
    Operation(
        "threads.create_and_run",
        "/threads/runs",
        "beta.threads",
        {"assistant_id": "a1"},
        method="create_and_run",
        **LATER,
    ),
    Operation(
        "agents.sessions",
        "/agents/sessions",
        "beta.agents.sessions",
        {"agent": {"type": "inline"}, "environment": {"type": "hosted"}},
        **LATER,
    ),
    Operation(
        "vector_stores.search",
        "",
        "vector_stores",
        {"vector_store_id": "vs1", "query": ["a", "b"]},
        method="search",
        post=False,
        **ASKED,
        units={"searches": 2},
    ),
    Operation("containers", "/containers", "containers", {"name": "c"}, **ASKED, units={"containers": 1}),
]


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
    operation.on(client)(**operation.request, **extra)


@form()
def with_options(client: Any, operation: Operation, extra: dict[str, Any]) -> None:
    operation.on(client.with_options(timeout=20).copy())(**operation.request, **extra)


@form()
def raw_parsed_twice(client: Any, operation: Operation, extra: dict[str, Any]) -> None:
    raw = operation.on(client, "with_raw_response")(**operation.request, **extra)
    assert raw.parse() is raw.parse()
    assert raw.headers["x-request-id"]


@form()
def raw_unparsed(client: Any, operation: Operation, extra: dict[str, Any]) -> None:
    operation.on(client, "with_raw_response")(**operation.request, **extra)


@form()
def streaming_response_parsed(client: Any, operation: Operation, extra: dict[str, Any]) -> None:
    with operation.on(client, "with_streaming_response")(**operation.request, **extra) as response:
        response.parse()


@form()
def streaming_response_read(client: Any, operation: Operation, extra: dict[str, Any]) -> None:
    with operation.on(client, "with_streaming_response")(**operation.request, **extra) as response:
        response.read()


@form()
def streaming_response_lines(client: Any, operation: Operation, extra: dict[str, Any]) -> None:
    with operation.on(client, "with_streaming_response")(**operation.request, **extra) as response:
        list(response.iter_lines())


@form()
def streaming_response_bytes(client: Any, operation: Operation, extra: dict[str, Any]) -> None:
    with operation.on(client, "with_streaming_response")(**operation.request, **extra) as response:
        list(response.iter_bytes(7))


@form()
def streaming_response_raw_bytes(client: Any, operation: Operation, extra: dict[str, Any]) -> None:
    with operation.on(client, "with_streaming_response")(**operation.request, **extra) as response:
        list(response.http_response.iter_raw())


@form(needs="post", keyword=False)
def post(client: Any, operation: Operation, extra: dict[str, Any]) -> None:
    client.post(operation.path, cast_to=object, body=operation.request, options=headers_option(extra))


@form(needs="post", keyword=False)
def post_http_response(client: Any, operation: Operation, extra: dict[str, Any]) -> None:
    import openai._base_client as base

    http = getattr(base, "httpx2", None) or base.httpx
    client.post(operation.path, cast_to=http.Response, body=operation.request, options=headers_option(extra))


@form(streamed=True)
def stream(client: Any, operation: Operation, extra: dict[str, Any]) -> None:
    opened = operation.on(client)(**operation.request, stream=True, **extra)
    assert isinstance(opened, openai.Stream)
    assert type(opened).__module__.partition(".")[0] == "openai"
    for _ in opened:
        pass


@form(streamed=True)
def stream_in_with(client: Any, operation: Operation, extra: dict[str, Any]) -> None:
    with operation.on(client)(**operation.request, stream=True, **extra) as opened:
        for _ in opened:
            pass


@form(streamed=True)
def stream_by_next(client: Any, operation: Operation, extra: dict[str, Any]) -> None:
    opened = operation.on(client)(**operation.request, stream=True, **extra)
    while True:
        try:
            next(opened)
        except StopIteration:
            break


@form(streamed=True)
def raw_stream_parsed(client: Any, operation: Operation, extra: dict[str, Any]) -> None:
    raw = operation.on(client, "with_raw_response")(**operation.request, stream=True, **extra)
    for _ in raw.parse():
        pass


@form(streamed=True)
def streaming_response_stream_parsed(client: Any, operation: Operation, extra: dict[str, Any]) -> None:
    method = operation.on(client, "with_streaming_response")
    with method(**operation.request, stream=True, **extra) as response:
        for _ in response.parse():
            pass


@form(streamed=True)
def streaming_response_stream_lines(client: Any, operation: Operation, extra: dict[str, Any]) -> None:
    method = operation.on(client, "with_streaming_response")
    with method(**operation.request, stream=True, **extra) as response:
        list(response.iter_lines())


@form(streamed=True)
def streaming_response_stream_raw_bytes(client: Any, operation: Operation, extra: dict[str, Any]) -> None:
    method = operation.on(client, "with_streaming_response")
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
    await operation.on(client)(**operation.request, **extra)


@form()
async def async_raw_parsed(client: Any, operation: Operation, extra: dict[str, Any]) -> None:
    raw = await operation.on(client, "with_raw_response")(**operation.request, **extra)
    parsed = raw.parse()
    if inspect.isawaitable(parsed):
        await parsed


@form()
async def async_raw_unparsed(client: Any, operation: Operation, extra: dict[str, Any]) -> None:
    await operation.on(client, "with_raw_response")(**operation.request, **extra)


@form()
async def async_streaming_response_parsed(client: Any, operation: Operation, extra: dict[str, Any]) -> None:
    async with operation.on(client, "with_streaming_response")(**operation.request, **extra) as response:
        await response.parse()


@form()
async def async_streaming_response_read(client: Any, operation: Operation, extra: dict[str, Any]) -> None:
    async with operation.on(client, "with_streaming_response")(**operation.request, **extra) as response:
        await response.read()


@form()
async def async_streaming_response_lines(client: Any, operation: Operation, extra: dict[str, Any]) -> None:
    async with operation.on(client, "with_streaming_response")(**operation.request, **extra) as response:
        async for _ in response.iter_lines():
            pass


@form(needs="post", keyword=False)
async def async_post(client: Any, operation: Operation, extra: dict[str, Any]) -> None:
    await client.post(operation.path, cast_to=object, body=operation.request, options=headers_option(extra))


@form(streamed=True)
async def async_stream(client: Any, operation: Operation, extra: dict[str, Any]) -> None:
    opened = await operation.on(client)(**operation.request, stream=True, **extra)
    assert isinstance(opened, openai.AsyncStream)
    assert type(opened).__module__.partition(".")[0] == "openai"
    async for _ in opened:
        pass


@form(streamed=True)
async def async_stream_in_with(client: Any, operation: Operation, extra: dict[str, Any]) -> None:
    async with await operation.on(client)(**operation.request, stream=True, **extra) as opened:
        async for _ in opened:
            pass


@form(streamed=True)
async def async_raw_stream_parsed(client: Any, operation: Operation, extra: dict[str, Any]) -> None:
    raw = await operation.on(client, "with_raw_response")(**operation.request, stream=True, **extra)
    parsed = raw.parse()
    async for _ in await parsed if inspect.isawaitable(parsed) else parsed:
        pass


@form(streamed=True)
async def async_streaming_response_stream_parsed(client: Any, operation: Operation, extra: dict[str, Any]) -> None:
    method = operation.on(client, "with_streaming_response")
    async with method(**operation.request, stream=True, **extra) as response:
        async for _ in await response.parse():
            pass


@form(streamed=True)
async def async_streaming_response_stream_lines(client: Any, operation: Operation, extra: dict[str, Any]) -> None:
    method = operation.on(client, "with_streaming_response")
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


MAIN = [one for one in OPERATIONS if one.name in ("chat", "responses", "embeddings") and one.there(openai.OpenAI())]
"""The operations whose every form stands for those of all others: plain, streamed on demand, and never streamed."""
STREAMED = [one for one in MAIN if one.streams(openai.OpenAI())]


def cases(operations: Sequence[Operation] = OPERATIONS) -> list[tuple[Operation, Form]]:
    """Every operation in every form that this SDK has for it."""
    client = openai.OpenAI()
    found = []
    for operation in [operation for operation in operations if operation.there(client)]:
        for candidate in FORMS:
            if candidate.streamed and not operation.streams(client):
                continue
            if candidate.needs == "post" and not operation.post:
                continue
            if candidate.needs in ("parse", "stream"):
                if operation.parse is None:
                    continue
                if not hasattr(operation.helpers(client), candidate.needs):
                    continue
            found.append((operation, candidate))
    return found


async def run_async(form: Form, base_url: str, operation: Operation, extra: dict[str, Any]) -> None:
    async with openai.AsyncOpenAI(base_url=base_url, max_retries=0) as client:
        await form.run(client, operation, extra)
