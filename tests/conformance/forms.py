"""Every form in which a call can be made, as data: derived from the installed SDK, so that no form is listed in vain."""

from __future__ import annotations

import functools
import inspect
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import inventory
import openai
from pydantic import BaseModel

from openai_metering.operations import find

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
    counted: bool = True
    """It is a call; where not, it looks at a job that another one started."""
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

    def helpers(self, client: Any, name: str = "stream") -> Any:
        """The resource that has a helper in this SDK: `.parse()` and `.stream()` are below `beta` before 2.0."""
        resource = self.of(client)
        return resource if hasattr(resource, name) or self.resource.startswith("beta.") else self.of(client.beta)

    def helped(self, client: Any, name: str) -> bool:
        """Whether this SDK has a helper that takes what this operation asks for."""
        if name in ("parse", "stream") and (self.method != "create" or (name == "parse" and self.parse is None)):
            return False
        try:
            helper = getattr(self.helpers(client, name), name)
        except AttributeError:
            return False
        return self.request.keys() <= inspect.signature(helper).parameters.keys()

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
FILM = ("a.mp4", b"MP4 no film", "video/mp4")
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
    Operation("beta.responses", "/responses?beta=true", "beta.responses", {"model": "gpt-4.1", "input": "Hello"}),
    Operation(
        "beta.compact",
        "/responses/compact?beta=true",
        "beta.responses",
        {"model": "gpt-4.1", "input": "Hello"},
        method="compact",
    ),
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
    Operation("videos.edit", "", "videos", {"video": FILM, "prompt": "x"}, method="edit", post=False, **LATER),
    Operation(
        "videos.extend",
        "",
        "videos",
        {"video": FILM, "prompt": "x", "seconds": "8"},
        method="extend",
        post=False,
        **LATER,
    ),
    Operation(
        "videos.create_character",
        "",
        "videos",
        {"name": "c", "video": FILM},
        method="create_character",
        post=False,
        status="unknown",
        reason="not_sent",
    ),
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
        "threads.runs.submit_tool_outputs",
        "",
        "beta.threads.runs",
        {"thread_id": "t1", "run_id": "r1", "tool_outputs": [{"tool_call_id": "c1", "output": "x"}]},
        method="submit_tool_outputs",
        post=False,
        counted=False,
        **LATER,
    ),
    Operation(
        "agents.sessions",
        "/agents/sessions",
        "beta.agents.sessions",
        {"agent": {"type": "inline"}, "environment": {"type": "hosted"}, "input": "Hello"},
        **LATER,
    ),
    Operation(
        "agents.sessions.events",
        "",
        "beta.agents.sessions.events",
        {"session_id": "s1", "events": [{"type": "agent.session.input.message", "content": "Hello"}]},
        post=False,
        **LATER,
    ),
    Operation(
        "agents.automations.invocations",
        "/agents/automations/a1/invocations",
        "beta.agents.automations.invocations",
        {"automation_id": "a1"},
        post=False,
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


RECORDED = {
    "chat": ("chat.completions", "chat"),
    "responses": ("responses", "chat"),
    "beta.responses": ("responses", "chat"),
    "compact": ("responses.compact", "chat"),
    "beta.compact": ("responses.compact", "chat"),
    "completions": ("completions", "text_completion"),
    "decisions": ("decisions", "decision"),
    "images.generate": ("images.generate", "generate_content"),
    "images.edit": ("images.edit", "generate_content"),
    "images.create_variation": ("images.create_variation", "generate_content"),
    "audio.speech": ("audio.speech", "speech"),
    "audio.transcriptions": ("audio.transcriptions", "transcription"),
    "audio.transcriptions by the second": ("audio.transcriptions", "transcription"),
    "audio.translations": ("audio.translations", "translation"),
    "batches": ("batches", "batch"),
    "fine_tuning.jobs": ("fine_tuning.jobs", "fine_tuning"),
    "fine_tuning.alpha.graders.run": ("fine_tuning.alpha.graders.run", "eval"),
    "evals.runs": ("evals.runs", "eval"),
    "vector_stores.search": ("vector_stores.search", "retrieval"),
    "containers": ("containers", "container"),
    "embeddings": ("embeddings", "embeddings"),
    **{f"videos{way}": (f"videos{way}", "video") for way in ("", ".edit", ".extend", ".remix", ".create_character")},
    **{name: (name, "run") for name in ("threads.runs", "threads.create_and_run")},
    **{
        f"agents.{name}": (f"agents.{name}", "run")
        for name in ("sessions", "sessions.events", "automations.invocations")
    },
}
"""The operation and the convention's operation name that are recorded of each."""

API_TYPES = {"chat": "chat_completions", "responses": "responses", "beta.responses": "responses"}
API_TYPES |= {"compact": "responses", "beta.compact": "responses"}


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
def plain(client: Any, operation: Operation, extra: dict[str, Any]) -> Any:
    return operation.on(client)(**operation.request, **extra)


@form()
def with_options(client: Any, operation: Operation, extra: dict[str, Any]) -> Any:
    return operation.on(client.with_options(timeout=20).copy())(**operation.request, **extra)


@form()
def raw_parsed_twice(client: Any, operation: Operation, extra: dict[str, Any]) -> Any:
    raw = operation.on(client, "with_raw_response")(**operation.request, **extra)
    assert raw.parse() is raw.parse()
    assert raw.headers["x-request-id"]
    return raw, raw.parse()


@form()
def raw_unparsed(client: Any, operation: Operation, extra: dict[str, Any]) -> Any:
    return operation.on(client, "with_raw_response")(**operation.request, **extra)


@form()
def streaming_response_parsed(client: Any, operation: Operation, extra: dict[str, Any]) -> Any:
    with operation.on(client, "with_streaming_response")(**operation.request, **extra) as response:
        return response.parse()


@form()
def streaming_response_read(client: Any, operation: Operation, extra: dict[str, Any]) -> Any:
    with operation.on(client, "with_streaming_response")(**operation.request, **extra) as response:
        return response.read()


@form()
def streaming_response_lines(client: Any, operation: Operation, extra: dict[str, Any]) -> Any:
    with operation.on(client, "with_streaming_response")(**operation.request, **extra) as response:
        return list(response.iter_lines())


@form()
def streaming_response_bytes(client: Any, operation: Operation, extra: dict[str, Any]) -> Any:
    with operation.on(client, "with_streaming_response")(**operation.request, **extra) as response:
        return list(response.iter_bytes(7))


@form()
def streaming_response_raw_bytes(client: Any, operation: Operation, extra: dict[str, Any]) -> Any:
    with operation.on(client, "with_streaming_response")(**operation.request, **extra) as response:
        return list(response.http_response.iter_raw())


@form(needs="post", keyword=False)
def post(client: Any, operation: Operation, extra: dict[str, Any]) -> Any:
    return client.post(operation.path, cast_to=object, body=operation.request, options=headers_option(extra))


@form(needs="post", keyword=False)
def post_http_response(client: Any, operation: Operation, extra: dict[str, Any]) -> Any:
    import openai._base_client as base

    http = getattr(base, "httpx2", None) or base.httpx
    return client.post(operation.path, cast_to=http.Response, body=operation.request, options=headers_option(extra))


@form(streamed=True)
def stream(client: Any, operation: Operation, extra: dict[str, Any]) -> Any:
    opened = operation.on(client)(**operation.request, stream=True, **extra)
    assert isinstance(opened, openai.Stream)
    assert type(opened).__module__.partition(".")[0] == "openai"
    return list(opened)


@form(streamed=True)
def stream_in_with(client: Any, operation: Operation, extra: dict[str, Any]) -> Any:
    with operation.on(client)(**operation.request, stream=True, **extra) as opened:
        return list(opened)


@form(streamed=True)
def stream_by_next(client: Any, operation: Operation, extra: dict[str, Any]) -> Any:
    opened = operation.on(client)(**operation.request, stream=True, **extra)
    found = []
    while True:
        try:
            found.append(next(opened))
        except StopIteration:
            return found


@form(streamed=True)
def raw_stream_parsed(client: Any, operation: Operation, extra: dict[str, Any]) -> Any:
    raw = operation.on(client, "with_raw_response")(**operation.request, stream=True, **extra)
    return list(raw.parse())


@form(streamed=True)
def streaming_response_stream_parsed(client: Any, operation: Operation, extra: dict[str, Any]) -> Any:
    method = operation.on(client, "with_streaming_response")
    with method(**operation.request, stream=True, **extra) as response:
        return list(response.parse())


@form(streamed=True)
def streaming_response_stream_lines(client: Any, operation: Operation, extra: dict[str, Any]) -> Any:
    method = operation.on(client, "with_streaming_response")
    with method(**operation.request, stream=True, **extra) as response:
        return list(response.iter_lines())


@form(streamed=True)
def streaming_response_stream_raw_bytes(client: Any, operation: Operation, extra: dict[str, Any]) -> Any:
    method = operation.on(client, "with_streaming_response")
    with method(**operation.request, stream=True, **extra) as response:
        return list(response.http_response.iter_raw())


@form(needs="parse")
def parse(client: Any, operation: Operation, extra: dict[str, Any]) -> Any:
    return operation.helpers(client, "parse").parse(**operation.request, **(operation.parse or {}), **extra)


# -- Asynchronous ----------------------------------------------------------------------------------------------------


@form()
async def async_plain(client: Any, operation: Operation, extra: dict[str, Any]) -> Any:
    return await operation.on(client)(**operation.request, **extra)


@form()
async def async_raw_parsed(client: Any, operation: Operation, extra: dict[str, Any]) -> Any:
    raw = await operation.on(client, "with_raw_response")(**operation.request, **extra)
    parsed = raw.parse()
    return raw, await parsed if inspect.isawaitable(parsed) else parsed


@form()
async def async_raw_unparsed(client: Any, operation: Operation, extra: dict[str, Any]) -> Any:
    return await operation.on(client, "with_raw_response")(**operation.request, **extra)


@form()
async def async_streaming_response_parsed(client: Any, operation: Operation, extra: dict[str, Any]) -> Any:
    async with operation.on(client, "with_streaming_response")(**operation.request, **extra) as response:
        return await response.parse()


@form()
async def async_streaming_response_read(client: Any, operation: Operation, extra: dict[str, Any]) -> Any:
    async with operation.on(client, "with_streaming_response")(**operation.request, **extra) as response:
        return await response.read()


@form()
async def async_streaming_response_lines(client: Any, operation: Operation, extra: dict[str, Any]) -> Any:
    async with operation.on(client, "with_streaming_response")(**operation.request, **extra) as response:
        return [one async for one in response.iter_lines()]


@form(needs="post", keyword=False)
async def async_post(client: Any, operation: Operation, extra: dict[str, Any]) -> Any:
    return await client.post(operation.path, cast_to=object, body=operation.request, options=headers_option(extra))


@form(streamed=True)
async def async_stream(client: Any, operation: Operation, extra: dict[str, Any]) -> Any:
    opened = await operation.on(client)(**operation.request, stream=True, **extra)
    assert isinstance(opened, openai.AsyncStream)
    assert type(opened).__module__.partition(".")[0] == "openai"
    return [one async for one in opened]


@form(streamed=True)
async def async_stream_in_with(client: Any, operation: Operation, extra: dict[str, Any]) -> Any:
    async with await operation.on(client)(**operation.request, stream=True, **extra) as opened:
        return [one async for one in opened]


@form(streamed=True)
async def async_raw_stream_parsed(client: Any, operation: Operation, extra: dict[str, Any]) -> Any:
    raw = await operation.on(client, "with_raw_response")(**operation.request, stream=True, **extra)
    parsed = raw.parse()
    opened = await parsed if inspect.isawaitable(parsed) else parsed
    return [one async for one in opened]


@form(streamed=True)
async def async_streaming_response_stream_parsed(client: Any, operation: Operation, extra: dict[str, Any]) -> Any:
    method = operation.on(client, "with_streaming_response")
    async with method(**operation.request, stream=True, **extra) as response:
        return [one async for one in await response.parse()]


@form(streamed=True)
async def async_streaming_response_stream_lines(client: Any, operation: Operation, extra: dict[str, Any]) -> Any:
    method = operation.on(client, "with_streaming_response")
    async with method(**operation.request, stream=True, **extra) as response:
        return [one async for one in response.iter_lines()]


@form(needs="parse")
async def async_parse(client: Any, operation: Operation, extra: dict[str, Any]) -> Any:
    return await operation.helpers(client, "parse").parse(**operation.request, **(operation.parse or {}), **extra)


# -- Helpers, whose names follow from their method's -----------------------------------------------------------------


def helper(template: str) -> tuple[Any, Any]:
    def streamed(client: Any, operation: Operation, extra: dict[str, Any]) -> Any:
        name = template.format(operation.method)
        with getattr(operation.helpers(client, name), name)(**operation.request, **extra) as events:
            return list(events)

    async def async_streamed(client: Any, operation: Operation, extra: dict[str, Any]) -> Any:
        name = template.format(operation.method)
        async with getattr(operation.helpers(client, name), name)(**operation.request, **extra) as events:
            return [one async for one in events]

    return streamed, async_streamed


for _template in ("stream", "{}_and_stream", "{}_stream"):
    for _function in helper(_template):
        _asynchronous = inspect.iscoroutinefunction(_function)
        _name = f"{'async_' if _asynchronous else ''}helper_{_template.replace('{}', 'call')}"
        FORMS.append(Form(_name, _function, _asynchronous, streamed=True, needs=_template))

POLLS = ("{}_and_poll", "{}_poll")
"""Helpers that make a call and look at its job until that has ended."""


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
            if candidate.needs == "create":
                there = operation.streams(client) or not candidate.streamed
            elif candidate.needs == "post":
                there = operation.post
            else:
                there = operation.helped(client, candidate.needs.format(operation.method))
            if there:
                found.append((operation, candidate))
    return found


def polled() -> list[tuple[Operation, str]]:
    """Every operation that has a helper which waits for the end of its job, and the helper's name."""
    client = openai.OpenAI()
    names = [(operation, template.format(operation.method)) for operation in OPERATIONS for template in POLLS]
    return [(operation, name) for operation, name in names if operation.helped(client, name)]


@functools.cache
def _client() -> Any:
    return openai.OpenAI()


@functools.cache
def _requests() -> dict[tuple[str, str], frozenset[tuple[str, str]]]:
    return {(one.owner, one.name): one.requests for one in inventory.methods() if not one.asynchronous}


def owner_of(resource: Any) -> str:
    """A resource by the name that the inventory gives it."""
    kind = type(resource)
    return f"{kind.__module__.removeprefix('openai.resources.')}.{kind.__name__.removeprefix('Async')}"


def row_of(operation: Operation) -> Any:
    """The row of the table that an operation's request belongs to."""
    ((method, path),) = _requests()[owner_of(operation.of(_client())), operation.method]
    return find(method, path.replace("{}", "x"))


async def run_async(form: Form, base_url: str, operation: Operation, extra: dict[str, Any]) -> Any:
    async with openai.AsyncOpenAI(base_url=base_url, max_retries=0) as client:
        return await form.run(client, operation, extra)
