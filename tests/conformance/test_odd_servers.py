"""Servers that answer oddly: the caller sees what the bare SDK gives, and the record says what is known, never zero."""

from __future__ import annotations

import asyncio
import inspect
import warnings
from typing import TYPE_CHECKING, Any

import openai
import pytest
from forms import MAIN, STREAMED, WHO, Operation

from openai_metering import OpenAIInstrumentor

if TYPE_CHECKING:
    from collections.abc import Callable

# Scenario, and what the record must say where the answer is no stream: reported, or unknown with the reason. `None`
# where nothing is counted.
REPORTED = ("reported", None)
NOT_SENT = ("unknown", "not_sent")
INVALID = ("unknown", "invalid")
SCENARIOS: dict[str, tuple[str, str | None]] = {
    "usage_null": NOT_SENT,
    "usage_missing": NOT_SENT,
    "usage_zero": REPORTED,
    "usage_strings": REPORTED,
    "usage_negative": INVALID,
    "usage_float": INVALID,
    "usage_huge": INVALID,
    "usage_garbage": INVALID,
    "details_null": REPORTED,
    "choices_null": REPORTED,
    "choices_missing": REPORTED,
    "usage_in_x_groq": REPORTED,
    "wrong_content_type": REPORTED,
    "not_json": NOT_SENT,
    "gzip": REPORTED,
    "big": REPORTED,
}
TOTALS = {
    "gen_ai.usage.input_tokens": ("prompt_tokens", "input_tokens"),
    "gen_ai.usage.output_tokens": ("completion_tokens", "output_tokens"),
}


# -- Ways to read an answer: each returns what the caller sees ---------------------------------------------------------


def seen(value: Any) -> Any:
    """What a caller can see of an answer: its fields, which of them are set, and its JSON."""
    if not hasattr(value, "model_dump"):
        return type(value).__name__, repr(value)
    return type(value).__name__, value.model_dump(warnings=False), value.model_dump(exclude_unset=True, warnings=False)


def line_seen(line: str) -> str:
    """A line as read raw; the null that asking for usage puts on other events stays there, as documented."""
    return line.replace(',"usage":null', "")


def plain(client: Any, operation: Operation, **extra: Any) -> Any:
    return seen(operation.of(client).create(**operation.request, **extra))


def stream(client: Any, operation: Operation, **extra: Any) -> Any:
    return [seen(chunk) for chunk in operation.of(client).create(**operation.request, stream=True, **extra)]


def raw(client: Any, operation: Operation, **extra: Any) -> Any:
    response = operation.of(client).with_raw_response.create(**operation.request, **extra)
    return response.status_code, response.text, response.content, seen(response.parse())


def raw_stream(client: Any, operation: Operation, **extra: Any) -> Any:
    response = operation.of(client).with_raw_response.create(**operation.request, stream=True, **extra)
    return [seen(chunk) for chunk in response.parse()]


def streaming_response(client: Any, operation: Operation, **extra: Any) -> Any:
    with operation.of(client).with_streaming_response.create(**operation.request, **extra) as response:
        return response.read()


def streaming_response_parsed(client: Any, operation: Operation, **extra: Any) -> Any:
    with operation.of(client).with_streaming_response.create(**operation.request, **extra) as response:
        return seen(response.parse())


def streaming_response_lines(client: Any, operation: Operation, **extra: Any) -> Any:
    with operation.of(client).with_streaming_response.create(**operation.request, **extra) as response:
        return list(response.iter_lines())


def streaming_response_stream(client: Any, operation: Operation, **extra: Any) -> Any:
    method = operation.of(client).with_streaming_response.create
    with method(**operation.request, stream=True, **extra) as response:
        return [seen(chunk) for chunk in response.parse()]


def streaming_response_stream_lines(client: Any, operation: Operation, **extra: Any) -> Any:
    method = operation.of(client).with_streaming_response.create
    with method(**operation.request, stream=True, **extra) as response:
        return [line_seen(line) for line in response.iter_lines()]


async def async_plain(client: Any, operation: Operation, **extra: Any) -> Any:
    return seen(await operation.of(client).create(**operation.request, **extra))


async def async_stream(client: Any, operation: Operation, **extra: Any) -> Any:
    return [seen(chunk) async for chunk in await operation.of(client).create(**operation.request, stream=True, **extra)]


async def async_streaming_response_stream_lines(client: Any, operation: Operation, **extra: Any) -> Any:
    method = operation.of(client).with_streaming_response.create
    async with method(**operation.request, stream=True, **extra) as response:
        return [line_seen(line) async for line in response.iter_lines()]


PLAIN: list[Callable[..., Any]] = [
    plain,
    raw,
    streaming_response,
    streaming_response_parsed,
    streaming_response_lines,
    async_plain,
]
STREAM: list[Callable[..., Any]] = [
    stream,
    raw_stream,
    streaming_response_stream,
    streaming_response_stream_lines,
    async_stream,
    async_streaming_response_stream_lines,
]
CASES = [
    pytest.param(operation, way, id=f"{operation.name}-{way.__name__}")
    for operation in MAIN
    for way in (*PLAIN, *STREAM)
    if operation in STREAMED or way in PLAIN
]


def see(way: Callable[..., Any], base_url: str, operation: Operation, scenario: str, **extra: Any) -> Any:
    """What the caller sees: the answer, or the exception."""
    extra["extra_headers"] = {"x-standin-scenario": scenario}

    async def run_async() -> Any:
        async with openai.AsyncOpenAI(base_url=base_url, max_retries=0) as client:
            return await way(client, operation, **extra)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydantic's, of fields that hold what they should not
        try:
            if inspect.iscoroutinefunction(way):
                return asyncio.run(run_async())
            with openai.OpenAI(base_url=base_url, max_retries=0) as client:
                return way(client, operation, **extra)
        except Exception as error:
            return type(error), str(error)


def served_totals(usage: Any) -> dict[str, int]:
    """The totals that were served, as numbers."""
    found = {}
    for attribute, names in TOTALS.items():
        for name in names:
            if isinstance(usage, dict) and usage.get(name) is not None:
                found[attribute] = int(usage[name])
    return found


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize(("operation", "way"), CASES)
def test_an_odd_answer(provider: Any, telemetry: Any, operation: Operation, way: Any, scenario: str) -> None:
    """The caller sees exactly what the bare SDK gives, and the record what was served, or that it is unknown."""
    metered = see(way, provider.base_url, operation, scenario, usage_metadata=dict(WHO))
    (served,) = provider.served
    record = telemetry.record()
    tokens = {name: value for name, value in record.items() if name.startswith("gen_ai.usage.")}
    status, reason = SCENARIOS[scenario]
    found = record["openai_metering.usage.status"], record.get("openai_metering.usage.reason")
    if scenario == "not_json":
        # What the SDK makes of it differs by version and form; it is never a number.
        assert found[0] == "unknown"
    else:
        assert found == (status, reason)
    if status == "reported":
        assert {name: tokens.get(name) for name in served_totals(served.usage)} == served_totals(served.usage)
    else:
        assert tokens == {}
    assert record["attribution.organization.id"] == "AcmeSoft"
    assert len(telemetry.spans) == 1
    counted = telemetry.total("gen_ai.client.inference.usage.input_tokens")
    assert counted == (served_totals(served.usage)["gen_ai.usage.input_tokens"] if status == "reported" else 0)

    OpenAIInstrumentor().uninstrument()
    provider.reset()
    bare = see(way, provider.base_url, operation, scenario)
    assert metered == bare


@pytest.mark.parametrize("scenario", ["response_failed", "response_incomplete", "length"])
@pytest.mark.parametrize(("operation", "way"), CASES)
def test_an_answer_that_ends_early(
    provider: Any, telemetry: Any, operation: Operation, way: Any, scenario: str
) -> None:
    """An answer that failed or was cut short by a limit was still served: its tokens are recorded as reported."""
    metered = see(way, provider.base_url, operation, scenario)
    record = telemetry.record()
    assert record["openai_metering.usage.status"] == "reported"
    usage = served_totals(provider.served[0].usage)
    assert {name: record[name] for name in usage} == usage
    OpenAIInstrumentor().uninstrument()
    provider.reset()
    assert metered == see(way, provider.base_url, operation, scenario)


@pytest.mark.parametrize("scenario", ["cut", "eof", "error_event"])
@pytest.mark.parametrize(("operation", "way"), [case for case in CASES if case.values[1] in STREAM])
def test_a_stream_that_breaks(provider: Any, telemetry: Any, operation: Operation, way: Any, scenario: str) -> None:
    """A stream that breaks off gives the caller what the bare SDK gives, and leaves one failed call, unknown."""
    metered = see(way, provider.base_url, operation, scenario)
    record = telemetry.record()
    assert record["openai_metering.outcome"] == "failed"
    assert record["openai_metering.usage.status"] == "unknown"
    assert not [name for name in record if name.startswith("gen_ai.usage.")]
    OpenAIInstrumentor().uninstrument()
    provider.reset()
    assert metered == see(way, provider.base_url, operation, scenario)
