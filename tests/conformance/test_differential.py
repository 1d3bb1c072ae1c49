"""Metered and bare, side by side: results, warnings, exceptions, connections and the caller's own objects are the same."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import json
import logging
import pickle
import traceback
import warnings
from typing import TYPE_CHECKING, Any

import openai
import openai._base_client as base
import pytest
from forms import MAIN, STREAMED, WHO, Form, Operation, Ticket, cases
from seen import described

from in_memory import make_telemetry
from openai_metering import OpenAIInstrumentor, attribution

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CHAT = MAIN[0]
HTTP = getattr(base, "httpx2", None) or base.httpx
CASES = cases(MAIN)
each_form = pytest.mark.parametrize(
    ("operation", "form"), CASES, ids=[f"{operation.name}-{form.name}" for operation, form in CASES]
)
each_operation = pytest.mark.parametrize("operation", MAIN, ids=[operation.name for operation in MAIN])
each_streamed = pytest.mark.parametrize("operation", STREAMED, ids=[operation.name for operation in STREAMED])


@pytest.fixture
def both(provider: Any) -> Iterator[Callable[[Callable[[], Any]], tuple[Any, Any]]]:
    """Runs something metered, then bare, each time with a provider that begins anew."""

    def run(function: Callable[[], Any]) -> tuple[Any, Any]:
        telemetry = make_telemetry()
        instrumentor = OpenAIInstrumentor()
        instrumentor.instrument(
            tracer_provider=telemetry.tracer_provider,
            meter_provider=telemetry.meter_provider,
            logger_provider=telemetry.logger_provider,
        )
        provider.reset()
        try:
            with attribution(WHO):
                metered = function()
        finally:
            instrumentor.uninstrument()
        assert telemetry.records
        provider.reset()
        return metered, function()

    yield run
    if OpenAIInstrumentor().is_instrumented_by_opentelemetry:
        OpenAIInstrumentor().uninstrument()


def sync_client(provider: Any, **options: Any) -> Any:
    return openai.OpenAI(base_url=provider.base_url, **{"max_retries": 0, **options})


# -- Results ---------------------------------------------------------------------------------------------------------


@each_operation
def test_results(both: Any, provider: Any, operation: Operation) -> None:
    """A result is the SDK's own model, with the same fields, the same ones set, and the same JSON; it can be copied."""

    def run() -> Any:
        with sync_client(provider) as client:
            return described(operation.of(client).create(**operation.request))

    metered, bare = both(run)
    assert metered == bare


@each_operation
def test_results_can_be_pickled(both: Any, provider: Any, operation: Operation) -> None:
    """A result pickles to the same bytes."""

    def run() -> Any:
        with sync_client(provider) as client:
            result = operation.of(client).create(**operation.request)
            if hasattr(result, "_request_id"):
                result._request_id = None  # differs from call to call
            pickled = pickle.dumps(result)
            assert pickle.loads(pickled) == result
            return pickled

    metered, bare = both(run)
    assert metered == bare


@each_streamed
def test_chunks(both: Any, provider: Any, operation: Operation) -> None:
    """Each chunk of a stream is what the bare SDK gives, to the fields that are set; it pickles to the same bytes."""

    def run() -> Any:
        with sync_client(provider) as client:
            chunks = list(operation.of(client).create(**operation.request, stream=True))
            return [(described(chunk), pickle.dumps(chunk)) for chunk in chunks]

    metered, bare = both(run)
    assert [one for one, _ in metered] == [one for one, _ in bare]
    assert [one for _, one in metered] == [one for _, one in bare]


@pytest.mark.parametrize("view", ["with_raw_response", "with_streaming_response"])
@each_streamed
def test_chunks_of_raw_streams(both: Any, provider: Any, operation: Operation, view: str) -> None:
    """A stream parsed from a raw response gives the same chunks."""

    def run() -> Any:
        with sync_client(provider) as client:
            made = getattr(operation.of(client), view).create(**operation.request, stream=True)
            if view == "with_raw_response":
                return [described(chunk) for chunk in made.parse()]
            with made as response:
                return [described(chunk) for chunk in response.parse()]

    metered, bare = both(run)
    assert metered == bare


@pytest.mark.parametrize(
    "operation",
    [operation for operation in MAIN if operation.parse and hasattr(operation.helpers(openai.OpenAI()), "stream")],
    ids=lambda operation: operation.name,
)
def test_events_of_the_helpers(both: Any, provider: Any, operation: Operation) -> None:
    """The `.stream()` helper gives the same events and the same final object."""

    def run() -> Any:
        with sync_client(provider) as client, operation.helpers(client).stream(**operation.request) as events:
            found = [event.to_dict() if hasattr(event, "to_dict") else repr(event) for event in events]
            final = getattr(events, "get_final_completion", None) or events.get_final_response
            return found, described(final())

    metered, bare = both(run)
    # The helper keeps the chunks that it was given: what it makes of them must not tell that usage was asked for.
    assert metered == bare


def test_parsed_results(both: Any, provider: Any) -> None:
    """`.parse()` gives the same parsed object."""

    def run() -> Any:
        with sync_client(provider) as client:
            result = CHAT.helpers(client).parse(**CHAT.request, response_format=Ticket)
            return described(result), result.choices[0].message.parsed

    metered, bare = both(run)
    assert metered == bare


@each_operation
def test_raw_responses(both: Any, provider: Any, operation: Operation) -> None:
    """A raw response has the same type, attributes, headers and body; its HTTP response pickles."""

    def run() -> Any:
        with sync_client(provider) as client:
            raw = operation.of(client).with_raw_response.create(**operation.request)
            copied = pickle.loads(pickle.dumps(raw.http_response))
            return (
                type(raw),
                sorted(vars(raw)),
                {name: value for name, value in raw.headers.items() if name not in ("date", "x-request-id")},
                raw.text,
                raw.content,
                raw.status_code,
                raw.http_version,
                raw.is_closed,
                raw.elapsed.total_seconds() > 0,
                raw.parse() is raw.parse(),
                described(raw.parse()),
                type(raw.http_response),
                copied.content,
                sorted(vars(copied)),
                sorted(raw.http_request.headers),
            )

    metered, bare = both(run)
    assert metered == bare


@each_operation
@pytest.mark.parametrize("scenario", ["", "gzip"])
def test_streaming_responses(both: Any, provider: Any, operation: Operation, scenario: str) -> None:
    """A response that is read piece by piece gives the same pieces, counts the same bytes, and pickles once read."""

    def run() -> Any:
        extra = {"extra_headers": {"x-standin-scenario": scenario}} if scenario else {}
        with sync_client(provider) as client:
            found: list[Any] = []
            for reading in ("read", "iter_bytes", "iter_lines", "iter_text", "json"):
                provider.reset()
                with operation.of(client).with_streaming_response.create(**operation.request, **extra) as response:
                    read = getattr(response, reading)()
                    found.append(list(read) if reading.startswith("iter") else read)
                    http = response.http_response
                    found += [type(response), http.num_bytes_downloaded, http.is_stream_consumed, response.is_closed]
                    if reading == "read":
                        found.append(pickle.loads(pickle.dumps(http)).content)
                found += [http.is_closed, http.elapsed.total_seconds() > 0]
            return found

    metered, bare = both(run)
    assert metered == bare


@each_streamed
def test_a_stream_keeps_the_sdks_own_attributes(both: Any, provider: Any, operation: Operation) -> None:
    """A stream has the same type and attributes, and its response the same state before, while and after it is read."""

    def run() -> Any:
        with sync_client(provider) as client:
            stream = operation.of(client).create(**operation.request, stream=True)
            found = [type(stream), sorted(vars(stream)), isinstance(stream, openai.Stream), iter(stream) is stream]
            found += [stream.response.is_closed, stream.response.status_code]
            next(stream)
            found.append(stream.response.is_closed)
            found.append(len(list(stream)))
            found += [stream.response.is_closed, list(stream), stream.response.is_stream_consumed]
            with pytest.raises(StopIteration):
                next(stream)
            return found

    metered, bare = both(run)
    assert metered == bare


# -- Warnings and log lines ------------------------------------------------------------------------------------------


@each_form
def test_warnings(both: Any, provider: Any, operation: Operation, form: Form) -> None:
    """No form warns of anything that the bare SDK does not warn of, not even when garbage is collected."""

    def run() -> Any:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            if form.asynchronous:

                async def main() -> None:
                    async with openai.AsyncOpenAI(base_url=provider.base_url, max_retries=0) as client:
                        await form.run(client, operation, {})

                asyncio.run(main())
            else:
                with sync_client(provider) as client:
                    form.run(client, operation, {})
            gc.collect()
        return sorted((warning.category.__name__, str(warning.message)) for warning in caught)

    metered, bare = both(run)
    assert metered == bare


def deprecated_methods(client: Any) -> list[tuple[str, str]]:
    """The deprecated methods of the resources that every SDK has, by the path of their resource."""
    found = []
    for path in ("beta.assistants", "beta.threads", "beta.threads.runs", "beta.threads.messages", "videos"):
        resource = client
        for part in path.split("."):
            resource = getattr(resource, part, None)
        if resource is None:
            continue
        for name in dir(type(resource)):
            method = inspect.getattr_static(type(resource), name, None)
            if not name.startswith("_") and "poll" not in name and hasattr(method, "__deprecated__"):
                found.append((path, name))
    return found


def test_deprecated_methods_warn_at_the_callers_line() -> None:
    """The warning of a deprecated method names the caller's line, has the SDK's text and comes as often as before."""
    client = openai.OpenAI(base_url="http://localhost:1/v1", max_retries=0)

    def warned() -> dict[str, Any]:
        found = {}
        for path, name in deprecated_methods(client):
            resource = client
            for part in path.split("."):
                resource = getattr(resource, part)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                with contextlib.suppress(TypeError, ValueError, openai.OpenAIError):
                    getattr(resource, name)()
            found[f"{path}.{name}"] = [
                (warning.category, str(warning.message), warning.filename, warning.lineno) for warning in caught
            ]
        return found

    bare = warned()
    instrumentor = OpenAIInstrumentor()
    instrumentor.instrument()
    try:
        metered = warned()
    finally:
        instrumentor.uninstrument()
    assert metered == bare
    for places in bare.values():
        assert {place[2] for place in places} <= {__file__}


@each_form
def test_log_lines(
    both: Any, provider: Any, caplog: pytest.LogCaptureFixture, operation: Operation, form: Form
) -> None:
    """The SDK and its HTTP library log the same number of lines; we log none."""

    def run() -> Any:
        caplog.clear()
        with caplog.at_level(logging.DEBUG):
            if form.asynchronous:

                async def main() -> None:
                    async with openai.AsyncOpenAI(base_url=provider.base_url, max_retries=0) as client:
                        await form.run(client, operation, {})

                asyncio.run(main())
            else:
                with sync_client(provider) as client:
                    form.run(client, operation, {})
        return sorted((entry.name, entry.levelname) for entry in caplog.records if entry.name.startswith("openai"))

    metered, bare = both(run)
    assert metered == bare


# -- Exceptions ------------------------------------------------------------------------------------------------------


def frames(error: BaseException) -> list[tuple[str, str]]:
    """The traceback without our own frames."""
    return [
        (frame.filename, frame.name)
        for frame in traceback.extract_tb(error.__traceback__)
        if "openai_metering" not in frame.filename and "wrapt" not in frame.filename
    ]


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("scenario", ["status_400", "status_500", "cut", "error_event", "not_json"])
@each_streamed
def test_exceptions(both: Any, provider: Any, operation: Operation, scenario: str, stream: bool) -> None:
    """An exception has the same type, text, cause and traceback, our own frames aside, and pickles alike."""

    def run() -> Any:
        with sync_client(provider) as client:
            try:
                made = operation.of(client).create(
                    **operation.request, stream=stream, extra_headers={"x-standin-scenario": scenario}
                )
                if stream:
                    list(made)
            except Exception as error:
                causes, here = [], error.__cause__ or error.__context__
                while here is not None:
                    causes.append((type(here), str(here), frames(here)))
                    here = here.__cause__ or here.__context__
                attributes = sorted(vars(error))
                return type(error), str(error), frames(error), causes, attributes, getattr(error, "body", None)
        return None

    metered, bare = both(run)
    assert metered == bare


def test_an_exception_of_the_applications_own_transport(both: Any, provider: Any) -> None:
    """What the application's own HTTP client raises arrives as on the bare SDK."""

    class Own(HTTP.BaseTransport):  # type: ignore[misc,name-defined]
        def handle_request(self, request: Any) -> Any:
            raise LookupError("mine")

    def run() -> Any:
        with sync_client(provider, http_client=HTTP.Client(transport=Own())) as client:
            try:
                client.chat.completions.create(**CHAT.request)
            except Exception as error:
                return type(error), str(error), type(error.__cause__), frames(error)
        return None

    metered, bare = both(run)
    assert metered == bare


# -- Connections -----------------------------------------------------------------------------------------------------


def connections(client: Any) -> list[str]:
    """The connections in the pool of a client, idle or not."""
    return ["idle" if connection.is_idle() else "busy" for connection in client._client._transport._pool.connections]


@pytest.mark.parametrize("way", ["plain", "stream", "break", "raw", "lines", "helper", "unread"])
def test_connections(both: Any, provider: Any, way: str) -> None:
    """As many connections are opened, and given back, as on the bare SDK."""

    def call(client: Any) -> None:
        if way == "plain":
            client.chat.completions.create(**CHAT.request)
        elif way == "stream":
            list(client.chat.completions.create(**CHAT.request, stream=True))
        elif way in ("break", "unread"):
            with client.chat.completions.create(**CHAT.request, stream=True) as stream:
                if way == "break":
                    next(iter(stream))
        elif way == "raw":
            list(client.chat.completions.with_raw_response.create(**CHAT.request, stream=True).parse())
        elif way == "lines":
            with client.chat.completions.with_streaming_response.create(**CHAT.request, stream=True) as response:
                list(response.iter_lines())
        else:
            with CHAT.helpers(client).stream(**CHAT.request) as events:
                list(events)

    def run() -> Any:
        with sync_client(provider) as client:
            found = []
            for _ in range(3):
                call(client)
                gc.collect()
                found.append(connections(client))
            return found

    metered, bare = both(run)
    assert metered == bare


# -- What the caller gave --------------------------------------------------------------------------------------------


def deep_request() -> dict[str, Any]:
    return {
        "model": "gpt-4o",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "What is metering?"}]}],
        "stream_options": {"include_usage": False},
        "logit_bias": {"50256": -100},
        "extra_headers": {"x-own": "1"},
        "extra_body": {"own": {"nested": [1, 2]}},
        "extra_query": {"q": "1"},
    }


@pytest.mark.parametrize("view", ["", "with_raw_response", "with_streaming_response"])
def test_the_callers_dicts(both: Any, provider: Any, view: str) -> None:
    """Nothing that the caller hands in is changed, at any depth, and the request carries all of it."""

    def run() -> Any:
        given = deep_request()
        keyword = {"usage_metadata": dict(WHO)} if OpenAIInstrumentor().is_instrumented_by_opentelemetry else {}
        with sync_client(provider) as client:
            resource = getattr(client.chat.completions, view) if view else client.chat.completions
            made = resource.create(**given, stream=True, **keyword)
            if view == "with_streaming_response":
                with made as response:
                    list(response.parse())
            else:
                list(made.parse() if view else made)
        assert given == deep_request()
        assert not keyword or keyword["usage_metadata"] == WHO
        (served,) = provider.served
        body = dict(served.json)
        asked = body.pop("stream_options")
        return body, {**asked, "include_usage": False}, served.query, served.headers["x-own"]

    metered, bare = both(run)
    assert metered == bare


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_generators_arrive_whole(both: Any, provider: Any, stream: bool, kind: str) -> None:
    """Messages that are given as a generator reach the provider, all of them, once."""
    messages = [{"role": "user", "content": f"message {number}"} for number in range(5)]

    async def run_async() -> None:
        async with openai.AsyncOpenAI(base_url=provider.base_url, max_retries=0) as client:
            made = await client.chat.completions.create(
                model="gpt-4o", messages=(message for message in messages), stream=stream
            )
            if stream:
                async for _ in made:
                    pass

    def run() -> Any:
        if kind == "async":
            asyncio.run(run_async())
        else:
            with sync_client(provider) as client:
                made = client.chat.completions.create(
                    model="gpt-4o", messages=(message for message in messages), stream=stream
                )
                if stream:
                    list(made)
        (served,) = provider.served
        return served.json["messages"]

    metered, bare = both(run)
    assert metered == bare == messages


def test_an_earlier_answer_among_the_messages(both: Any, provider: Any) -> None:
    """A message object of an earlier answer, and sentinels of the SDK, are sent as the bare SDK sends them."""

    def run() -> Any:
        with sync_client(provider) as client:
            first = client.chat.completions.create(**CHAT.request)
            client.chat.completions.create(
                model="gpt-4o",
                messages=[*CHAT.request["messages"], first.choices[0].message, {"role": "user", "content": "And?"}],
                max_tokens=openai.NOT_GIVEN,
                stream=openai.NOT_GIVEN,
                stream_options=openai.NOT_GIVEN,
                user=getattr(openai, "omit", openai.NOT_GIVEN),
            )
        return [json.dumps(served.json) for served in provider.served]

    metered, bare = both(run)
    assert metered == bare


def test_a_request_is_encoded_as_the_sdk_does(both: Any, provider: Any) -> None:
    """Bytes, query and headers are those of the bare SDK, idempotency key included where the caller gives one."""

    def run() -> Any:
        with sync_client(provider, default_headers={"x-default": "1"}, default_query={"d": "2"}) as client:
            client.chat.completions.create(
                **CHAT.request,
                extra_headers={"Idempotency-Key": "own", "X-Own": "own value"},
                extra_body={"unknown": None},
                timeout=7,
            )
        (served,) = provider.served
        left_out = ("host", "content-length")
        return (
            served.body,
            served.query,
            {name: value for name, value in served.headers.items() if name not in left_out},
        )

    metered, bare = both(run)
    assert metered == bare


def test_the_clients_own_state(both: Any, provider: Any) -> None:
    """Clients and resources carry nothing of ours: they copy, compare and show as before."""

    def run() -> Any:
        with sync_client(provider) as client:
            list(client.chat.completions.create(**CHAT.request, stream=True))
            copied = client.copy()
            return (
                sorted(vars(client)),
                sorted(vars(client.chat.completions)),
                sorted(vars(client._client)),
                type(copied),
                sorted(dict(copied.default_headers)),
                sorted(vars(copied)),
            )

    metered, bare = both(run)
    assert metered == bare
