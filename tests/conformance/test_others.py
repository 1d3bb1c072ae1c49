"""Beside other instrumentations: what holds on every SDK, with wrappers and spans such as theirs."""

from __future__ import annotations

import copy
import json
from types import SimpleNamespace
from typing import Any

import openai
import openai._base_client as base
import pytest
import wrapt
from forms import MAIN, WHO
from opentelemetry import context, trace

from openai_metering import OpenAIInstrumentor, attribution
from openai_metering.integrations.spans import AttributionSpanProcessor

CHAT = MAIN[0].request
INFERENCE = "opentelemetry.genai.client.inference.context"
EMBEDDING = "opentelemetry.genai.client.embedding.context"

MODEL_CALLS: list[dict[str, Any]] = [
    {"gen_ai.operation.name": "chat"},
    {"openinference.span.kind": "LLM"},
    {"llm.request.type": "chat"},
]
NO_MODEL_CALLS: list[dict[str, Any]] = [
    {},
    {"gen_ai.operation.name": "embeddings"},
    {"gen_ai.operation.name": "invoke_agent"},
    {"gen_ai.operation.name": "chat", "openai_metering.operation": "chat.completions"},
    {"openinference.span.kind": "EMBEDDING"},
    {"openinference.span.kind": "AGENT"},
    {"gen_ai.operation.name": 7},
]


@pytest.fixture
def client(provider: Any) -> Any:
    with openai.OpenAI(base_url=provider.base_url, api_key="test", max_retries=0) as made:
        yield made


def ours(telemetry: Any) -> list[Any]:
    return [span for span in telemetry.spans if span.instrumentation_scope.name == "openai_metering"]


@pytest.mark.parametrize("attributes", MODEL_CALLS, ids=str)
def test_our_span_gives_way_to_one_that_stands_for_the_call(telemetry: Any, client: Any, attributes: Any) -> None:
    """The record stays, refers to theirs, and theirs says who the call is for."""
    tracer = telemetry.tracer_provider.get_tracer("theirs")
    with tracer.start_as_current_span("theirs", attributes=attributes) as span:
        client.chat.completions.create(**CHAT, usage_metadata=WHO)
    assert ours(telemetry) == []
    telemetry.record()
    (data,) = telemetry.log_exporter.get_finished_logs()
    assert data.log_record.span_id == span.get_span_context().span_id
    assert span.attributes["attribution.organization.id"] == "AcmeSoft"
    assert span.attributes["user.id"] == "joe@acme.com"
    assert telemetry.total("openai_metering.calls") == 1


@pytest.mark.parametrize("attributes", NO_MODEL_CALLS, ids=str)
def test_any_other_span_is_a_parent(telemetry: Any, client: Any, attributes: Any) -> None:
    """A step of the application's, an agent's run, a call of another kind: our span is its child, and it stays as it is."""
    tracer = telemetry.tracer_provider.get_tracer("theirs")
    with tracer.start_as_current_span("theirs", attributes=attributes) as span:
        client.chat.completions.create(**CHAT, usage_metadata=WHO)
    (made,) = ours(telemetry)
    assert made.parent.span_id == span.get_span_context().span_id
    assert "attribution.organization.id" not in span.attributes


def test_a_span_that_has_ended_is_a_parent(telemetry: Any, client: Any) -> None:
    """What stays in the context by mistake does not hide a call."""
    span = telemetry.tracer_provider.get_tracer("theirs").start_span("x", attributes=MODEL_CALLS[0])
    span.end()
    with trace.use_span(span):
        client.chat.completions.create(**CHAT)
    assert len(ours(telemetry)) == 1


@pytest.mark.parametrize(("key", "gives_way"), [(INFERENCE, True), (EMBEDDING, False)])
def test_the_seam_of_the_genai_package(telemetry: Any, client: Any, key: str, gives_way: bool) -> None:
    """Where an outer layer has said in the context that it has a span for this kind of call, ours gives way."""
    shared = SimpleNamespace(attributes={"theirs": 1})
    token = context.attach(context.set_value(key, shared))
    try:
        client.chat.completions.create(**CHAT, usage_metadata=WHO)
    finally:
        context.detach(token)
    assert len(telemetry.records) == 1
    assert len(ours(telemetry)) == (not gives_way)
    assert ("attribution.organization.id" in shared.attributes) == gives_way
    assert shared.attributes["theirs"] == 1


@pytest.mark.parametrize("key", ["suppress_instrumentation", "suppress_language_model_instrumentation"])
@pytest.mark.parametrize("mode", ["auto", "always", "never"])
def test_suppression(telemetry: Any, client: Any, key: str, mode: str) -> None:
    """Suppression is honoured for the span alone, unless it is to be there always."""
    instrumentor = OpenAIInstrumentor()
    instrumentor.uninstrument()
    instrumentor.instrument(
        tracer_provider=telemetry.tracer_provider, logger_provider=telemetry.logger_provider, spans=mode
    )
    token = context.attach(context.set_value(key, True))
    try:
        client.chat.completions.create(**CHAT)
    finally:
        context.detach(token)
    assert len(telemetry.records) == 1
    assert len(ours(telemetry)) == (mode == "always")


@pytest.mark.parametrize("first", [True, False], ids=["theirs first", "ours first"])
@pytest.mark.parametrize("leaves", ["theirs", "ours"])
def test_wrappers_around_a_method(provider: Any, telemetry: Any, first: bool, leaves: str) -> None:
    """The keyword reaches the record and not the SDK, in every order; what OpenTelemetry takes off is its own wrapper."""
    from opentelemetry.instrumentation.utils import unwrap

    completions = openai.resources.chat.completions.Completions
    original = vars(completions)["create"]
    seen: list[dict[str, Any]] = []

    def wrapper(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        del instance
        seen.append(kwargs)
        return wrapped(*args, **kwargs)

    instrumentor = OpenAIInstrumentor()
    providers = {"tracer_provider": telemetry.tracer_provider, "logger_provider": telemetry.logger_provider}
    instrumentor.uninstrument()
    bare = vars(completions)["create"]
    assert bare is not original
    if not first:
        instrumentor.instrument(**providers)
    wrapt.wrap_function_wrapper(completions, "create", wrapper)
    if first:
        instrumentor.instrument(**providers)

    def call() -> None:
        with openai.OpenAI(base_url=provider.base_url, api_key="test") as client:
            client.chat.completions.create(**CHAT, usage_metadata=WHO)

    call()
    assert [record["attribution.organization.id"] for record in telemetry.records] == ["AcmeSoft"]
    assert len(seen) == 1
    if leaves == "theirs":
        unwrap(completions, "create")
        call()
        instrumentor.uninstrument()
        instrumentor.instrument(**providers)
        call()
        assert len(telemetry.records) == 3
        assert len(seen) == 1
    else:
        instrumentor.uninstrument()
        with pytest.raises(TypeError, match="usage_metadata"):
            call()
        instrumentor.instrument(**providers)
        call()
        assert len(telemetry.records) == 2
        assert len(seen) == 3
        unwrap(completions, "create")
    instrumentor.uninstrument()
    assert vars(completions)["create"] is bare


@pytest.mark.parametrize("first", [True, False], ids=["theirs first", "ours first"])
def test_a_wrapper_around_the_request_of_a_subclass(provider: Any, telemetry: Any, first: bool) -> None:
    """A package that wraps `OpenAI.request`, and puts back what it found, never takes the seam away."""
    instrumentor = OpenAIInstrumentor()
    providers = {"tracer_provider": telemetry.tracer_provider, "logger_provider": telemetry.logger_provider}
    instrumentor.uninstrument()

    def call() -> None:
        with openai.OpenAI(base_url=provider.base_url, api_key="test") as client:
            client.chat.completions.create(**CHAT)

    if not first:
        instrumentor.instrument(**providers)
    found = openai.OpenAI.request
    wrapt.wrap_function_wrapper(openai.OpenAI, "request", lambda wrapped, _, args, kwargs: wrapped(*args, **kwargs))
    try:
        if first:
            instrumentor.instrument(**providers)
        call()
        openai.OpenAI.request = found  # type: ignore[method-assign]
        call()
        instrumentor.uninstrument()
        instrumentor.instrument(**providers)
        call()
        assert len(telemetry.records) == 3
    finally:
        del openai.OpenAI.request


def test_an_applications_own_request_is_left_alone(provider: Any, telemetry: Any) -> None:
    """A subclass that has a `request` of its own is handed on to as before: one call, one record."""

    class Client(openai.OpenAI):
        def request(self, *args: Any, **kwargs: Any) -> Any:
            return super().request(*args, **kwargs)

    request = vars(Client)["request"]
    with Client(base_url=provider.base_url, api_key="test") as client:
        client.chat.completions.create(**CHAT)
    assert vars(Client)["request"] is request
    assert len(telemetry.records) == 1


def test_a_keyword_that_comes_in_the_body(telemetry: Any, client: Any, provider: Any) -> None:
    """LiteLLM hands keywords on that it does not know as `extra_body`: ours is taken out there, and nothing else."""
    body = {"usage_metadata": WHO, "other": 1}
    client.chat.completions.create(**CHAT, extra_body=body)
    assert telemetry.record()["attribution.organization.id"] == "AcmeSoft"
    assert provider.served[0].json["other"] == 1
    assert "usage_metadata" not in provider.served[0].json
    assert body == {"usage_metadata": WHO, "other": 1}


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("place", ["body", "extra_body"])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("scenario", ["", "refuse_stream_options"])
def test_a_keyword_in_the_body_of_a_post(
    telemetry: Any, client: Any, provider: Any, place: str, stream: bool, nested: bool, scenario: str
) -> None:
    """What says who in a body that `client.post` sends stays at home too, also when the call is repeated."""
    who = {"subscriber": {"id": "joe@acme.com"}, "route": "x"} if nested else dict(WHO)
    body: dict[str, Any] = {**CHAT, "stream": stream, "other": 1}
    said: dict[str, Any] = {"usage_metadata": who}
    options: dict[str, Any] = {"headers": {"x-standin-scenario": scenario}}
    if place == "body":
        body |= said
    else:
        options["extra_json"] = said
    given = copy.deepcopy((body, options))
    kind = openai.types.chat.ChatCompletionChunk if stream else openai.types.chat.ChatCompletion
    more: dict[str, Any] = {"stream": True, "stream_cls": openai.Stream[kind]} if stream else {}
    with attribution(subscriber_identity="scope", team="scope"):
        answer = client.post("/chat/completions", cast_to=kind, body=body, options=options, **more)
    if stream:
        list(answer)
    assert (body, options) == given
    for served in provider.served:
        assert served.json["other"] == 1
        assert "usage_metadata" not in served.json
    record = telemetry.record()
    assert record["attribution.subscriber.id"] == "joe@acme.com"
    assert record["attribution.subscriber.source"] == "keyword"
    assert record["attribution.tag.team"] == "scope"


@pytest.mark.parametrize("theirs", [{"prompt_token_count": 3}, "AcmeSoft", ["organization_id"], None])
def test_what_a_server_calls_by_the_keywords_name_is_sent(telemetry: Any, theirs: Any) -> None:
    """A field of that name that names none of the three levels is a server's own."""
    http: Any = getattr(base, "httpx2", None) or base.httpx
    sent = []

    def answer(request: Any) -> Any:
        sent.append(json.loads(request.content))
        return http.Response(200, json={"id": "c1", "choices": []})

    body = {**CHAT, "usage_metadata": theirs}
    http_client = http.Client(transport=http.MockTransport(answer))
    with openai.OpenAI(api_key="test", max_retries=0, http_client=http_client) as client:
        client.post("/chat/completions", cast_to=object, body=body)
    assert sent == [body]
    assert telemetry.record()["attribution.status"] == "unattributed"


def test_the_processor_writes_who_on_model_calls_alone(telemetry: Any) -> None:
    """When a span of a model call starts, the scope is on it; any other span, and all after ours has gone, is left alone."""
    telemetry.tracer_provider.add_span_processor(AttributionSpanProcessor())
    tracer = telemetry.tracer_provider.get_tracer("theirs")
    with attribution(WHO):
        for attributes in (MODEL_CALLS[0], {}):
            tracer.start_span("theirs", attributes=attributes).end()
        telemetry.tracer_provider.get_tracer("opentelemetry.instrumentation.openai.v1").start_span("late").end()
        OpenAIInstrumentor().uninstrument()
        tracer.start_span("theirs", attributes=MODEL_CALLS[0]).end()
    found = [span.attributes.get("attribution.organization.id") for span in telemetry.spans]
    assert found == ["AcmeSoft", None, "AcmeSoft", None]
    assert telemetry.spans[0].attributes["attribution.status"] == "complete"
