"""Every operation in every form gives one call, with the provider's own numbers and the caller's three names."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import openai
import pytest
from forms import WHO, Form, Operation, cases, run_async

from openai_metering import OpenAIInstrumentor, attribution

CASES = cases()
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


def run(form: Form, base_url: str, operation: Operation, extra: dict[str, Any]) -> None:
    if form.asynchronous:
        asyncio.run(run_async(form, base_url, operation, extra))
    else:
        with openai.OpenAI(base_url=base_url, max_retries=0) as client:
            form.run(client, operation, extra)


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


@pytest.mark.parametrize(("operation", "form"), CASES, ids=IDS)
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
def test_the_request_is_what_the_bare_sdk_sends(
    provider: Any, telemetry: Any, operation: Operation, form: Form
) -> None:
    """The request on the wire is byte for byte that of the bare SDK, `stream_options` aside."""
    run_for(WHO, form, provider.base_url, operation)
    OpenAIInstrumentor().uninstrument()
    run(form, provider.base_url, operation, {})

    metered, bare = provider.served
    assert headers(metered) == headers(bare)
    assert (metered.method, metered.path, metered.query) == (bare.method, bare.path, bare.query)
    if form.streamed and operation.name in ("chat", "completions"):
        body = dict(metered.json)
        assert body.pop("stream_options") == {"include_usage": True}
        assert json.dumps(body) == json.dumps(bare.json)
    else:
        assert without_boundary(metered) == without_boundary(bare)


def headers(served: Any) -> dict[str, str]:
    differing = ("content-length", "idempotency-key", "x-stainless-raw-response", "host")
    found = {name: value for name, value in served.headers.items() if name not in differing}
    return {name: value.partition("boundary=")[0] for name, value in found.items()}


def without_boundary(served: Any) -> bytes:
    """The body, without the random text that parts the fields of a form."""
    boundary = served.headers.get("content-type", "").partition("boundary=")[2].encode()
    return served.body.replace(boundary, b"") if boundary else served.body
