"""Calls that fail are recorded with what they cost, and the caller gets the SDK's own exception."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import socket
from typing import TYPE_CHECKING, Any

import openai
import openai._base_client as base
import pytest
from forms import MAIN, STREAMED, WHO, Operation, Ticket, cases
from openai._models import FinalRequestOptions

from openai_metering import OpenAIInstrumentor, errors
from waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

CHAT = MAIN[0]
HTTP = getattr(base, "httpx2", None) or base.httpx
STATUSES = (400, 401, 404, 429, 500, 503)
TEXT = "provider-error-text-7f3a"

each_operation = pytest.mark.parametrize("operation", MAIN, ids=[operation.name for operation in MAIN])


def scenario(name: str) -> dict[str, Any]:
    return {"extra_headers": {"x-standin-scenario": name}}


# -- Ways to make a call ---------------------------------------------------------------------------------------------


def plain(client: Any, operation: Operation, **extra: Any) -> None:
    operation.of(client).create(**operation.request, **extra)


def stream(client: Any, operation: Operation, **extra: Any) -> None:
    list(operation.of(client).create(**operation.request, stream=True, **extra))


def raw(client: Any, operation: Operation, **extra: Any) -> None:
    operation.of(client).with_raw_response.create(**operation.request, **extra)


def streaming_response(client: Any, operation: Operation, **extra: Any) -> None:
    with operation.of(client).with_streaming_response.create(**operation.request, **extra) as response:
        response.read()


async def async_plain(client: Any, operation: Operation, **extra: Any) -> None:
    await operation.of(client).create(**operation.request, **extra)


async def async_stream(client: Any, operation: Operation, **extra: Any) -> None:
    async for _ in await operation.of(client).create(**operation.request, stream=True, **extra):
        pass


async def async_streaming_response(client: Any, operation: Operation, **extra: Any) -> None:
    async with operation.of(client).with_streaming_response.create(**operation.request, **extra) as response:
        await response.read()


WAYS = [plain, stream, raw, streaming_response, async_plain, async_stream, async_streaming_response]
WAY_CASES = [
    pytest.param(operation, way, id=f"{operation.name}-{way.__name__}")
    for operation in MAIN
    for way in WAYS
    if operation in STREAMED or "stream" not in way.__name__.removesuffix("streaming_response")
]
each_way = pytest.mark.parametrize(("operation", "way"), WAY_CASES)


def run(way: Callable[..., Any], base_url: str, operation: Operation, options: dict[str, Any], **extra: Any) -> Any:
    """Make the call. Returns the exception that it ends with, ``None`` where it ends well."""

    async def run_async() -> None:
        async with openai.AsyncOpenAI(base_url=base_url, **options) as client:
            await way(client, operation, **extra)

    try:
        if inspect.iscoroutinefunction(way):
            asyncio.run(run_async())
        else:
            with openai.OpenAI(base_url=base_url, **options) as client:
                way(client, operation, **extra)
    except BaseException as error:
        return error
    return None


def failed(telemetry: Any, status: str, reason: str, outcome: str = "failed") -> dict[str, Any]:
    """The one record, which must say this, and the one span, which must agree."""
    record = telemetry.record()
    found = tuple(record.get(f"openai_metering.{name}") for name in ("outcome", "usage.status", "usage.reason"))
    assert found == (outcome, status, reason)
    assert not [name for name in record if name.startswith("gen_ai.usage.")]
    assert not telemetry.points("gen_ai.client.inference.usage.input_tokens")
    (span,) = telemetry.spans
    assert span.status.status_code.name == "ERROR"
    assert span.status.description is None
    assert span.attributes["error.type"] == record["error.type"]
    assert span.events == ()
    assert telemetry.total("openai_metering.calls", **{"openai_metering.outcome": outcome}) == 1
    return record


def everything(telemetry: Any) -> str:
    """All that left the process, as text."""
    metrics = telemetry.metric_reader.get_metrics_data()
    return repr((telemetry.records, [span.to_json() for span in telemetry.spans], metrics and metrics.to_json()))


# -- Refused by the provider -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", STATUSES)
@each_way
def test_a_refused_call(provider: Any, telemetry: Any, operation: Operation, way: Any, status: int) -> None:
    """A call that the provider refuses is not billed; the caller gets what the bare SDK raises."""
    extra = scenario(f"status_{status}")
    error = run(way, provider.base_url, operation, {"max_retries": 0}, usage_metadata=dict(WHO), **extra)
    record = failed(telemetry, "not_billed", "refused")
    assert record["error.type"] == f"openai.{type(error).__name__}"
    assert record["http.response.status_code"] == status
    assert record["openai_metering.request.id"] == provider.served[0].request_id
    assert TEXT not in everything(telemetry)

    OpenAIInstrumentor().uninstrument()
    bare = run(way, provider.base_url, operation, {"max_retries": 0}, **extra)
    assert type(error) is type(bare)
    assert str(error) == str(bare)
    assert error.body == bare.body
    assert len(telemetry.records) == 1


@each_operation
def test_the_exception_is_the_sdks_own_object(provider: Any, telemetry: Any, operation: Operation) -> None:
    """What the caller catches has the SDK's cause and context, and its traceback ends in the SDK."""
    error = run(plain, provider.base_url, operation, {"max_retries": 0}, **scenario("status_400"))
    OpenAIInstrumentor().uninstrument()
    bare = run(plain, provider.base_url, operation, {"max_retries": 0}, **scenario("status_400"))
    assert type(error.__cause__) is type(bare.__cause__)
    assert type(error.__context__) is type(bare.__context__)
    assert error.__suppress_context__ == bare.__suppress_context__
    assert last_frame(error) == last_frame(bare)


def last_frame(error: BaseException) -> tuple[str, int]:
    trace = error.__traceback__
    assert trace is not None
    while trace.tb_next is not None:
        trace = trace.tb_next
    return trace.tb_frame.f_code.co_filename, trace.tb_lineno


# -- Retries ---------------------------------------------------------------------------------------------------------


@each_way
def test_retries_are_one_call(provider: Any, telemetry: Any, operation: Operation, way: Any) -> None:
    """Three attempts are one call, with the number of retries on span and record."""
    error = run(way, provider.base_url, operation, {"max_retries": 2}, **scenario("retry_twice"))
    assert error is None
    assert len(provider.served) == 3
    record = telemetry.record()
    assert record["openai_metering.usage.status"] == "reported"
    assert record["http.request.resend_count"] == 2
    (span,) = telemetry.spans
    assert span.attributes["http.request.resend_count"] == 2


@pytest.mark.parametrize("way", [plain, async_plain], ids=lambda way: way.__name__)
@each_operation
def test_retries_that_all_fail_are_one_call(provider: Any, telemetry: Any, operation: Operation, way: Any) -> None:
    """Where every attempt is refused, the retries are counted as well."""
    options = {"max_retries": 1, "default_headers": {"x-standin-key": "one"}}
    error = run(way, provider.base_url, operation, options, **scenario("retry_twice"))
    assert isinstance(error, openai.RateLimitError)
    assert len(provider.served) == 2
    record = failed(telemetry, "not_billed", "refused")
    counted = None if openai.__version__.startswith("1.40.") else 1  # whose requests do not say which attempt they are
    assert record.get("http.request.resend_count") == counted
    assert telemetry.spans[0].attributes.get("http.request.resend_count") == counted


# -- No answer -------------------------------------------------------------------------------------------------------


@each_way
def test_a_time_out(provider: Any, telemetry: Any, operation: Operation, way: Any) -> None:
    """Where no answer comes in time, nobody knows what was billed."""
    options = {"max_retries": 0, "timeout": 0.2}
    error = run(way, provider.base_url, operation, options, **scenario("timeout"))
    assert type(error) is openai.APITimeoutError
    record = failed(telemetry, "unknown", "timeout")
    assert record["error.type"] == "openai.APITimeoutError"
    assert "http.response.status_code" not in record


@each_way
def test_a_refused_connection(telemetry: Any, operation: Operation, way: Any) -> None:
    """Where the connection fails, nobody knows what was billed."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound and not listening: nobody else can take the port meanwhile
        error = run(way, f"http://127.0.0.1:{closed.getsockname()[1]}/v1", operation, {"max_retries": 0})
    assert type(error) is openai.APIConnectionError
    record = failed(telemetry, "unknown", "connection")
    assert record["error.type"] == "openai.APIConnectionError"


@pytest.mark.parametrize("way", [plain, raw, streaming_response, async_plain], ids=lambda way: way.__name__)
@each_operation
def test_a_body_that_breaks_off(provider: Any, telemetry: Any, operation: Operation, way: Any) -> None:
    """An answer that breaks off within its body was served, and its usage is unknown."""
    error = run(way, provider.base_url, operation, {"max_retries": 0}, **scenario("cut"))
    assert error is not None
    record = telemetry.record()
    assert record["openai_metering.outcome"] == "failed"
    assert record["openai_metering.usage.status"] == "unknown"
    OpenAIInstrumentor().uninstrument()
    provider.reset()
    bare = run(way, provider.base_url, operation, {"max_retries": 0}, **scenario("cut"))
    assert (type(error), str(error)) == (type(bare), str(bare))


# -- Given up by the caller ------------------------------------------------------------------------------------------


@each_operation
def test_a_cancelled_call(provider: Any, telemetry: Any, operation: Operation) -> None:
    """A task that is cancelled while it waits for its answer leaves a cancelled call."""

    async def main() -> None:
        async with openai.AsyncOpenAI(base_url=provider.base_url, max_retries=0) as client:
            task = asyncio.create_task(async_plain(client, operation, **scenario("timeout")))
            await asyncio.to_thread(wait_for, lambda: provider.in_progress, "the request")
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(main())
    record = failed(telemetry, "unknown", "cancelled", "cancelled")
    assert record["error.type"] == "asyncio.exceptions.CancelledError"


class Interrupting(HTTP.BaseTransport):  # type: ignore[misc,name-defined]
    """A connection during which the user presses Ctrl-C."""

    def __init__(self, raised: BaseException) -> None:
        self.raised = raised

    def handle_request(self, request: Any) -> Any:
        raise self.raised


@pytest.mark.parametrize("raised", [KeyboardInterrupt("mine"), SystemExit(3), GeneratorExit()], ids=repr)
@pytest.mark.parametrize("way", [plain, stream, raw, streaming_response], ids=lambda way: way.__name__)
def test_an_interrupt(telemetry: Any, way: Any, raised: BaseException) -> None:
    """An interrupt passes through as the same object, and leaves a cancelled call."""
    options = {"http_client": HTTP.Client(transport=Interrupting(raised)), "max_retries": 2}
    error = run(way, "http://localhost/v1", CHAT, options)
    assert error is raised
    record = failed(telemetry, "unknown", "cancelled", "cancelled")
    assert record["error.type"] == type(raised).__name__


# -- Spent, though the caller gets an exception ----------------------------------------------------------------------


PARSED = [
    pytest.param(operation, form, id=f"{operation.name}-{form.name}")
    for operation, form in cases(MAIN)
    if form.needs == "parse"
]


def invalid(name: str, body: dict[str, Any]) -> None:
    """Change a good answer into one that `.parse()` cannot take."""
    choice = body["choices"][0] if "choices" in body else None
    if name == "length" and choice:
        choice["finish_reason"] = "length"
    elif name == "content_filter" and choice:
        choice["finish_reason"] = "content_filter"
    elif choice:
        choice["message"]["content"] = '{"title": 1}'
    else:
        body["output"][-1]["content"][0]["text"] = '{"title": 1}'


def rewriting(name: str, *, asynchronous: bool) -> Any:
    """An HTTP client on the way of whose answers something goes wrong."""
    import json

    def rewritten(response: Any, content: bytes) -> Any:
        body = json.loads(content)
        invalid(name, body)
        headers = {key: value for key, value in response.headers.items() if key != "content-length"}
        return HTTP.Response(response.status_code, headers=headers, content=json.dumps(body).encode())

    if asynchronous:

        class Async(HTTP.AsyncHTTPTransport):  # type: ignore[misc,name-defined]
            async def handle_async_request(self, request: Any) -> Any:
                response = await super().handle_async_request(request)
                return rewritten(response, await response.aread())

        return HTTP.AsyncClient(transport=Async())

    class Sync(HTTP.HTTPTransport):  # type: ignore[misc,name-defined]
        def handle_request(self, request: Any) -> Any:
            response = super().handle_request(request)
            return rewritten(response, response.read())

    return HTTP.Client(transport=Sync())


@pytest.mark.parametrize("fault", ["length", "content_filter", "not_the_schema"])
@pytest.mark.parametrize(("operation", "form"), PARSED)
def test_tokens_of_an_answer_that_cannot_be_parsed(
    provider: Any, telemetry: Any, operation: Operation, form: Any, fault: str
) -> None:
    """Where `.parse()` raises, the tokens were spent: they are recorded as reported, and the exception is the SDK's."""
    way = form.run
    arguments = {**WHO}
    extra = {"usage_metadata": arguments}

    def call(given: dict[str, Any]) -> Any:
        async def run_async() -> None:
            http_client = rewriting(fault, asynchronous=True)
            async with openai.AsyncOpenAI(base_url=provider.base_url, http_client=http_client) as client:
                await way(client, operation, given)

        try:
            if form.asynchronous:
                asyncio.run(run_async())
            else:
                with openai.OpenAI(
                    base_url=provider.base_url, http_client=rewriting(fault, asynchronous=False)
                ) as client:
                    way(client, operation, given)
        except Exception as error:
            return error
        return None

    error = call(extra)
    record = telemetry.record()
    assert record["openai_metering.usage.status"] == "reported"
    usage = provider.served[0].usage
    assert record["gen_ai.usage.input_tokens"] == usage.get("prompt_tokens", usage.get("input_tokens"))
    assert record["gen_ai.usage.output_tokens"] == usage.get("completion_tokens", usage.get("output_tokens"))
    if error is not None and not openai.__version__.startswith("1.40."):  # which parses after its request is done
        assert record["openai_metering.outcome"] == "failed"
        assert record["error.type"].rpartition(".")[2] == type(error).__name__
    if operation is CHAT:
        expected = {"length": "LengthFinishReasonError", "content_filter": "ContentFilterFinishReasonError"}
        assert type(error).__name__ == expected.get(fault, "ValidationError")

    OpenAIInstrumentor().uninstrument()
    provider.reset()
    bare = call({})
    assert (type(error), str(error)) == (type(bare), str(bare))


def test_a_stream_helper_that_meets_the_length_limit(provider: Any, telemetry: Any) -> None:
    """The chat helper raises at the finish chunk, before usage is read: unknown, never zero, and one record."""
    with openai.OpenAI(base_url=provider.base_url, max_retries=0) as client:
        helpers = CHAT.helpers(client)
        with (
            pytest.raises(openai.LengthFinishReasonError),
            helpers.stream(**CHAT.request, response_format=Ticket, **scenario("length")) as events,
        ):
            for _ in events:
                pass
    record = telemetry.record()
    assert record["openai_metering.outcome"] in ("stopped", "completed")
    if record["openai_metering.usage.status"] == "reported":
        assert record["gen_ai.usage.input_tokens"] == provider.served[0].usage["prompt_tokens"]
    else:
        assert record["openai_metering.usage.reason"] == "closed_before_usage"


# -- Never sent ------------------------------------------------------------------------------------------------------


def options(**fields: Any) -> Any:
    return FinalRequestOptions.construct(**{"method": "post", "url": "/chat/completions", **fields})


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"model": "gpt-4o"},
        {"model": "gpt-4o", "messages": [], "nonsense": 1},
        {"messages": [], "stream": True},
    ],
    ids=repr,
)
@pytest.mark.parametrize("kind", ["OpenAI", "AsyncOpenAI"])
def test_wrong_arguments(telemetry: Any, kind: str, arguments: dict[str, Any]) -> None:
    """Wrong arguments raise the SDK's own `TypeError`, word for word, with or without the keyword; no call is recorded."""

    async def awaited(made: Any) -> Any:
        return await made

    def call(**extra: Any) -> None:
        made = getattr(openai, kind)().chat.completions.create(**arguments, **extra)
        if inspect.isawaitable(made):
            asyncio.run(awaited(made))

    def error_of(**extra: Any) -> BaseException:
        with pytest.raises(TypeError) as raised:
            call(**extra)
        return raised.value

    metered, with_keyword = error_of(), error_of(usage_metadata=dict(WHO))
    OpenAIInstrumentor().uninstrument()
    bare = error_of()
    assert str(metered) == str(bare)
    assert str(with_keyword) == str(bare)
    assert telemetry.records == []
    assert telemetry.spans == []


@pytest.mark.parametrize("kind", ["OpenAI", "AsyncOpenAI"])
@pytest.mark.parametrize(
    "arguments",
    [
        [],
        [object],
        [object, None],
        [object, {}],
        [object, options(url=None)],
        [object, options(url=["/chat/completions"])],
        [object, options(method=None)],
        [object, options(method=b"post", url=b"/chat/completions")],
        [object, options(headers=7)],
        [object, options(headers=[("a", "b")])],
        [object, options(json_data={"model": "gpt-4o"}, extra_json=5)],
    ],
)
def test_a_request_that_is_none(
    telemetry: Any, caplog: pytest.LogCaptureFixture, kind: str, arguments: list[Any]
) -> None:
    """`client.request()` with wrong arguments raises the SDK's own error, and not a line of ours."""
    caplog.set_level(logging.DEBUG)
    before = errors.counts.copy()

    async def awaited(made: Any) -> Any:
        return await made

    def call() -> None:
        made = getattr(openai, kind)(base_url="http://localhost:1/v1", max_retries=0).request(*arguments)
        if inspect.isawaitable(made):
            asyncio.run(awaited(made))

    def error_of() -> BaseException:
        with pytest.raises((TypeError, AttributeError, ValueError)) as raised:
            call()
        return raised.value

    metered = error_of()
    assert errors.counts == before
    assert not [line for line in caplog.records if line.name.startswith("openai_metering")]
    OpenAIInstrumentor().uninstrument()
    bare = error_of()
    assert (type(metered), str(metered)) == (type(bare), str(bare))


def test_a_body_that_is_no_json_leaves_no_call(telemetry: Any) -> None:
    """A request that the SDK cannot even build fails as on the bare SDK, and costs nothing."""
    client = openai.OpenAI(base_url="http://localhost:1/v1", max_retries=0)

    def error_of() -> BaseException:
        with pytest.raises(Exception) as raised:
            client.embeddings.create(model="text-embedding-3-small", input=object())  # type: ignore[arg-type]
        return raised.value

    metered = error_of()
    record = telemetry.record()
    assert record["openai_metering.outcome"] == "failed"
    assert record["openai_metering.usage.status"] in ("unknown", "not_billed")
    OpenAIInstrumentor().uninstrument()
    bare = error_of()
    assert type(metered) is type(bare)


def test_an_error_already_in_flight_is_not_this_calls(provider: Any, telemetry: Any) -> None:
    """A call made while another exception is being dealt with ends well."""
    with openai.OpenAI(base_url=provider.base_url) as client, contextlib.suppress(ValueError):
        try:
            raise ValueError("mine")
        finally:
            plain(client, CHAT)
    wait_for(lambda: telemetry.records, "a record")
    assert telemetry.record()["openai_metering.outcome"] == "completed"
