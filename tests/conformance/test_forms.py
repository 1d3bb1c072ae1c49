"""Every operation in every form gives one call, with the provider's own numbers and the caller's three names."""

from __future__ import annotations

import asyncio
import json
import warnings
from dataclasses import dataclass, replace
from typing import Any

import openai
import pytest
from forms import API_TYPES, RECORDED, WHO, Form, Operation, cases
from seen import anything, failure

from openai_metering import OpenAIInstrumentor, attribution

CASES = cases()
COUNTED = [(operation, form) for operation, form in CASES if operation.counted]
FAILING = [(operation, form) for operation, form in COUNTED if form.name in ("plain", "async_plain", "stream")]
IDS = [f"{operation.name}-{form.name}" for operation, form in CASES]

INPUTS = ("prompt_tokens_details", "input_tokens_details", "input_token_details")
WITH_MODEL = ("chat", "responses", "embeddings", "completions", "decisions")
WHO_ATTRIBUTES = {
    "attribution.organization.id": WHO["organization_id"],
    "attribution.subscriber.id": WHO["subscriber_identity"],
    "user.id": WHO["subscriber_identity"],
    "attribution.credential.id": WHO["subscriber_credential"],
    "attribution.status": "complete",
}


def run(
    form: Form, base_url: str, operation: Operation, extra: dict[str, Any], connections: list[str] | None = None
) -> Any:
    """Make a call in a form. What becomes of its connection is added to ``connections``."""

    def note(client: Any) -> None:
        pool = client._client._transport._pool
        (connections if connections is not None else []).extend(map(str, [one.is_idle() for one in pool.connections]))

    async def asynchronous() -> Any:
        async with openai.AsyncOpenAI(base_url=base_url, max_retries=0) as client:
            try:
                return await form.run(client, operation, extra)
            finally:
                note(client)

    if form.asynchronous:
        return asyncio.run(asynchronous())
    with openai.OpenAI(base_url=base_url, max_retries=0) as client:
        try:
            return form.run(client, operation, extra)
        finally:
            note(client)


def run_for(who: dict[str, str], form: Form, base_url: str, operation: Operation) -> None:
    if form.keyword:
        run(form, base_url, operation, {"usage_metadata": who})
    else:
        with attribution(who):
            run(form, base_url, operation, {})


def expected(served: Any) -> dict[str, int]:
    """What the provider served, under the names that it must arrive by."""
    usage = served.usage or {}
    inputs = next((usage[name] for name in INPUTS if usage.get(name)), {})
    outputs = usage.get("completion_tokens_details") or usage.get("output_tokens_details") or {}
    named = {
        "gen_ai.usage.input_tokens": usage.get("prompt_tokens", usage.get("input_tokens")),
        "gen_ai.usage.output_tokens": usage.get("completion_tokens", usage.get("output_tokens")),
        "gen_ai.usage.cache_read.input_tokens": inputs.get("cached_tokens"),
        "gen_ai.usage.cache_write.input_tokens": inputs.get("cache_write_tokens"),
        "gen_ai.usage.text.input_tokens": inputs.get("text_tokens"),
        "gen_ai.usage.image.input_tokens": inputs.get("image_tokens"),
        "gen_ai.usage.audio.input_tokens": inputs.get("audio_tokens"),
        "gen_ai.usage.reasoning.output_tokens": outputs.get("reasoning_tokens"),
        "gen_ai.usage.text.output_tokens": outputs.get("text_tokens"),
        "gen_ai.usage.image.output_tokens": outputs.get("image_tokens"),
        "gen_ai.usage.audio.output_tokens": outputs.get("audio_tokens"),
        "openai_metering.usage.accepted_prediction_tokens": outputs.get("accepted_prediction_tokens"),
        "openai_metering.usage.rejected_prediction_tokens": outputs.get("rejected_prediction_tokens"),
    }
    return {name: value for name, value in named.items() if value is not None}


def amounts(attributes: dict[str, Any]) -> dict[str, float]:
    """All that was used: every number under a name of usage."""
    return {name: value for name, value in attributes.items() if ".usage." in name and not isinstance(value, str)}


@pytest.mark.parametrize(("operation", "form"), COUNTED, ids=[f"{one.name}-{form.name}" for one, form in COUNTED])
def test_every_form_gives_the_providers_numbers(
    provider: Any, telemetry: Any, operation: Operation, form: Form
) -> None:
    """Record, span and metrics of every form agree with what the provider served, to the token, and carry who."""
    run_for(WHO, form, provider.base_url, operation)

    (served,) = provider.served
    record = telemetry.record()
    streamed = form.streamed and operation.status == "unknown"  # a job whose end is seen in its stream
    assert record["openai_metering.usage.status"] == ("reported" if streamed else operation.status)
    assert record.get("openai_metering.usage.reason") == (None if streamed else operation.reason)
    assert record["openai_metering.outcome"] == "completed"
    named = (record["openai_metering.operation"], record["gen_ai.operation.name"])
    assert named == RECORDED[operation.name]
    assert record.get("openai.api.type") == API_TYPES.get(operation.name)
    used = expected(served) | {f"openai_metering.usage.{unit}": number for unit, number in operation.units.items()}
    assert amounts(record) == used
    assert WHO_ATTRIBUTES.items() <= record.items()
    assert record["openai_metering.request.id"] == served.request_id
    assert record.get("gen_ai.request.model") == operation.request.get("model")
    assert record.get("gen_ai.response.model") == served.model or operation.name not in WITH_MODEL

    (span,) = telemetry.spans
    assert amounts(dict(span.attributes)) == used
    assert WHO_ATTRIBUTES.items() <= dict(span.attributes).items()
    assert span.status.is_unset

    who = {"attribution.organization.id": "AcmeSoft"}
    counted = telemetry.total("gen_ai.client.inference.usage.input_tokens", **who)
    assert counted == record.get("gen_ai.usage.input_tokens", 0)
    for unit, number in operation.units.items():
        assert telemetry.total("openai_metering.units", unit=unit, **who) == number
    assert telemetry.total("openai_metering.calls") == 1


@pytest.mark.parametrize(("operation", "form"), CASES, ids=IDS)
def test_the_caller_gets_and_the_wire_carries_what_the_bare_sdk_does(
    provider: Any, telemetry: Any, operation: Operation, form: Form
) -> None:
    """Results, how they pickle and copy, warnings, connections, and the requests in their order, byte for byte."""
    metered = seen(form, provider, operation, {"usage_metadata": WHO} if form.keyword else {})
    OpenAIInstrumentor().uninstrument()
    bare = seen(form, provider, operation, {})

    assert len(metered.requests) == len(bare.requests) == 1
    for one, other in zip(metered.requests, bare.requests, strict=True):
        assert headers(one) == headers(other)
        assert (one.method, one.path, one.query) == (other.method, other.path, other.query)
        if asks(form, operation):
            body = dict(one.json)
            assert body.pop("stream_options") == {"include_usage": True}
            assert json.dumps(body) == json.dumps(other.json)
        else:
            assert without_boundary(one) == without_boundary(other)
    assert metered.result == bare.result
    assert metered.warnings == bare.warnings
    assert metered.connections == bare.connections


@pytest.mark.parametrize("scenario", ["status_400", "cut"])
@pytest.mark.parametrize(("operation", "form"), FAILING, ids=[f"{one.name}-{form.name}" for one, form in FAILING])
def test_the_caller_gets_the_exceptions_of_the_bare_sdk(
    provider: Any, telemetry: Any, operation: Operation, form: Form, scenario: str
) -> None:
    """Type, text, traceback, attributes and cause; where the SDK makes do with what came, the result."""
    if asks(
        form, operation
    ):  # so that the stream is as long where it is not asked for usage, and cut at the same place
        operation = replace(operation, request={**operation.request, "stream_options": {"include_usage": True}})
    extra = {"extra_headers": {"x-standin-scenario": scenario}}
    metered = seen(form, provider, operation, extra)
    record = telemetry.record()
    OpenAIInstrumentor().uninstrument()
    bare = seen(form, provider, operation, extra)
    assert (metered.error, metered.result, metered.warnings) == (bare.error, bare.result, bare.warnings)
    assert metered.connections == bare.connections
    assert (record["openai_metering.usage.status"] == "not_billed") == scenario.startswith("status")


@dataclass
class Seen:
    """One call in a form, from the caller's side and from the provider's."""

    result: Any
    error: Any
    warnings: list[tuple[str, str]]
    connections: list[str]
    requests: list[Any]


def seen(form: Form, provider: Any, operation: Operation, extra: dict[str, Any]) -> Seen:
    """Make a call and say what can be seen of it; the provider begins anew."""
    provider.reset()
    result: Any = None
    error: Any = None
    found: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = run(form, provider.base_url, operation, extra, found)
        except Exception as raised:
            error = failure(raised)
    warned = sorted((one.category.__name__, str(one.message)) for one in caught)
    described = None if error is not None else anything(result)
    if asks(form, operation):
        described = without_null(described)
    return Seen(described, error, warned, found, provider.served)


def asks(form: Form, operation: Operation) -> bool:
    """Whether usage is asked for where the caller does not."""
    return form.streamed and operation.name in ("chat", "completions")


def without_null(found: Any) -> Any:
    """Without the ``"usage": null`` that each event has where usage was asked for: bytes keep it, as documented."""
    if isinstance(found, (list, tuple)):
        return type(found)(map(without_null, found))
    if isinstance(found, bytes):
        return found.replace(b',"usage":null', b"")
    return (
        found.replace(',"usage":null', "")
        if isinstance(found, str) and found.startswith(("'data:", "b'data:"))
        else found
    )


def headers(served: Any) -> dict[str, str]:
    differing = ("content-length", "idempotency-key", "x-stainless-raw-response", "host")
    found = {name: value for name, value in served.headers.items() if name not in differing}
    return {name: value.partition("boundary=")[0] for name, value in found.items()}


def without_boundary(served: Any) -> bytes:
    """The body, without the random text that parts the fields of a form."""
    boundary = served.headers.get("content-type", "").partition("boundary=")[2].encode()
    return served.body.replace(boundary, b"") if boundary else served.body
