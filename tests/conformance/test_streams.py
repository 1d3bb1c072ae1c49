"""Every way in which a stream can end finishes the call exactly once, with its true state."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import Any

import openai
import pytest
from forms import MAIN, STREAMED, WHO, Operation

from waiting import wait_for

IDS = [operation.name for operation in STREAMED]

each_operation = pytest.mark.parametrize("operation", STREAMED, ids=IDS)


def opened(provider: Any, operation: Operation, scenario: str | None = None, **options: Any) -> Any:
    client = openai.OpenAI(base_url=provider.base_url, max_retries=0)
    if scenario:
        options["extra_headers"] = {"x-standin-scenario": scenario, **options.get("extra_headers", {})}
    return operation.of(client).create(**{**operation.request, **options}, stream=True, usage_metadata=dict(WHO))


def ended(telemetry: Any, outcome: str, status: str, reason: str | None) -> dict[str, Any]:
    record = telemetry.record()
    found = tuple(record.get(f"openai_metering.{name}") for name in ("outcome", "usage.status", "usage.reason"))
    assert found == (outcome, status, reason)
    assert record["attribution.organization.id"] == "AcmeSoft"
    if status in ("unknown", "not_billed"):
        assert not [name for name in record if name.startswith("gen_ai.usage.")]
        assert not telemetry.points("gen_ai.client.inference.usage.input_tokens")
    (span,) = telemetry.spans
    assert span.status.is_unset is (outcome not in ("failed", "cancelled"))
    assert span.status.description is None
    return record


@each_operation
def test_left_in_a_with_block(provider: Any, telemetry: Any, operation: Operation) -> None:
    """A stream left by `break` in a with-block has stopped, and its usage is unknown."""
    with opened(provider, operation) as stream:
        for _ in stream:
            break
    ended(telemetry, "stopped", "unknown", "closed_before_usage")


@each_operation
def test_closed(provider: Any, telemetry: Any, operation: Operation) -> None:
    """`close()` ends the call at once."""
    stream = opened(provider, operation)
    next(iter(stream))
    stream.close()
    assert telemetry.records
    ended(telemetry, "stopped", "unknown", "closed_before_usage")


@each_operation
def test_response_closed(provider: Any, telemetry: Any, operation: Operation) -> None:
    """Closing the response beneath a stream, as the SDK's helpers do, is seen as well."""
    stream = opened(provider, operation)
    next(iter(stream))
    stream.response.close()
    assert telemetry.records
    ended(telemetry, "stopped", "unknown", "closed_before_usage")


@each_operation
def test_dropped(provider: Any, telemetry: Any, operation: Operation) -> None:
    """A stream that is garbage-collected half-read is recorded as dropped."""
    stream = opened(provider, operation)
    next(iter(stream))
    del stream
    ended(telemetry, "dropped", "unknown", "closed_before_usage")


@each_operation
def test_never_iterated(provider: Any, telemetry: Any, operation: Operation) -> None:
    """A stream that nobody reads is recorded as unread."""
    stream = opened(provider, operation)
    del stream
    ended(telemetry, "unread", "unknown", "not_read")


@each_operation
def test_never_iterated_but_closed(provider: Any, telemetry: Any, operation: Operation) -> None:
    """A stream that is closed unread is recorded as unread."""
    with opened(provider, operation):
        pass
    ended(telemetry, "unread", "unknown", "not_read")


@each_operation
def test_consumer_raises(provider: Any, telemetry: Any, operation: Operation) -> None:
    """An exception of the consumer passes through unchanged; the stream has stopped."""
    error = ValueError("mine")

    def _raise(chunk: Any) -> None:
        raise error

    with pytest.raises(ValueError, match="mine") as raised, opened(provider, operation) as stream:
        map(_raise, stream).__next__()
    assert raised.value is error
    ended(telemetry, "stopped", "unknown", "closed_before_usage")


@each_operation
def test_cut(provider: Any, telemetry: Any, operation: Operation) -> None:
    """A connection that breaks ends the call as failed; the caller gets the SDK's own exception."""
    stream = opened(provider, operation, "cut")
    with pytest.raises(Exception) as raised:
        list(stream)
    record = ended(telemetry, "failed", "unknown", "cut")
    assert record["error.type"].rpartition(".")[2] == type(raised.value).__name__


@each_operation
def test_ends_without_an_end(provider: Any, telemetry: Any, operation: Operation) -> None:
    """A stream that just stops coming, without its last event, was cut, though no exception tells."""
    list(opened(provider, operation, "eof"))
    ended(telemetry, "failed", "unknown", "cut")


@each_operation
def test_error_event(provider: Any, telemetry: Any, operation: Operation) -> None:
    """An error that the provider reports within a stream ends the call as failed, without the provider's text."""
    stream = opened(provider, operation, "error_event")
    with contextlib.suppress(openai.APIError):
        list(stream)
    record = ended(telemetry, "failed", "unknown", "failed")
    assert record["error.type"]
    assert "provider-error-text" not in repr((record, telemetry.spans[0].to_json()))


@each_operation
def test_read_by_another_thread(provider: Any, telemetry: Any, operation: Operation) -> None:
    """A stream belongs to who opened it, whichever thread reads it."""
    stream = opened(provider, operation)
    thread = threading.Thread(target=list, args=(stream,))
    thread.start()
    thread.join(10)
    ended(telemetry, "completed", "reported", None)


@each_operation
def test_closed_after_its_end(provider: Any, telemetry: Any, operation: Operation) -> None:
    """Closing, dropping and closing again after the end add nothing."""
    stream = opened(provider, operation)
    list(stream)
    stream.close()
    stream.response.close()
    del stream
    ended(telemetry, "completed", "reported", None)


@each_operation
def test_async_cancelled(provider: Any, telemetry: Any, operation: Operation) -> None:
    """A task that is cancelled while it waits for a chunk leaves a cancelled call."""

    async def main() -> None:
        client = openai.AsyncOpenAI(base_url=provider.base_url, max_retries=0)
        stream = await operation.of(client).create(
            **operation.request, stream=True, usage_metadata=dict(WHO), extra_headers={"x-standin-scenario": "hold"}
        )
        reading = asyncio.Event()

        async def read() -> None:
            async for _ in stream:
                reading.set()

        task = asyncio.create_task(read())
        await reading.wait()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await client.close()

    asyncio.run(main())
    provider.release()
    record = ended(telemetry, "cancelled", "unknown", "cancelled")
    assert record["error.type"] == "asyncio.exceptions.CancelledError"


@each_operation
def test_async_closed(provider: Any, telemetry: Any, operation: Operation) -> None:
    """`await stream.close()` ends an asynchronous stream's call at once."""

    async def main() -> None:
        client = openai.AsyncOpenAI(base_url=provider.base_url, max_retries=0)
        stream = await operation.of(client).create(**operation.request, stream=True, usage_metadata=dict(WHO))
        async for _ in stream:
            break
        await stream.close()
        assert telemetry.records
        await client.close()

    asyncio.run(main())
    ended(telemetry, "stopped", "unknown", "closed_before_usage")


@each_operation
def test_chunks_arrive_one_by_one(provider: Any, telemetry: Any, operation: Operation) -> None:
    """Each chunk reaches the caller when it comes: the first ones while the provider still holds the rest."""
    stream = opened(provider, operation, "hold")
    iterator = iter(stream)
    next(iterator)
    assert not telemetry.records
    provider.release()
    list(iterator)
    ended(telemetry, "completed", "reported", None)


# -- Chat: what only its streams have --------------------------------------------------------------------------------

CHAT = MAIN[0]


def chat(provider: Any, scenario: str | None = None, **options: Any) -> list[Any]:
    return list(opened(provider, CHAT, scenario, **options))


def test_usage_is_asked_for_and_hidden(provider: Any, telemetry: Any) -> None:
    """A caller who did not ask for usage sees neither the extra chunk nor the key that asking puts on the others."""
    chunks = chat(provider)
    assert all(chunk.choices for chunk in chunks)
    assert not any("usage" in chunk.to_json() or "usage" in chunk.model_dump(exclude_unset=True) for chunk in chunks)
    ended(telemetry, "completed", "reported", None)


@pytest.mark.parametrize("given", [{"include_usage": False}, {}, None])
def test_usage_is_asked_for_where_the_caller_said_no(provider: Any, telemetry: Any, given: Any) -> None:
    """Also where the caller said `False`; the caller's own dictionary is not touched."""
    before = None if given is None else dict(given)
    chunks = chat(provider, stream_options=given)
    assert given == before
    assert all(chunk.choices for chunk in chunks)
    assert provider.served[0].json["stream_options"]["include_usage"] is True
    ended(telemetry, "completed", "reported", None)


def test_a_caller_who_asked_sees_usage(provider: Any, telemetry: Any) -> None:
    """Where the caller asked for usage, the caller sees it, and the request is untouched."""
    chunks = chat(provider, stream_options={"include_usage": True})
    assert chunks[-1].usage.prompt_tokens == provider.served[0].usage["prompt_tokens"]
    assert chunks[-1].choices == []
    assert "usage" in chunks[0].model_dump(exclude_unset=True)
    ended(telemetry, "completed", "reported", None)


@pytest.mark.parametrize("scenario", ["refuse_stream_options", "refuse_include_usage_400"])
def test_a_host_that_refuses_gets_the_call_as_the_caller_wrote_it(provider: Any, telemetry: Any, scenario: str) -> None:
    """A host that refuses the option gets the call once more without it, and is not asked again."""
    assert chat(provider, scenario)
    assert len(provider.served) == 2
    assert "stream_options" not in provider.served[1].json
    ended(telemetry, "completed", "unknown", "not_sent")
    telemetry.clear()
    assert chat(provider, scenario)
    assert len(provider.served) == 3
    assert "stream_options" not in provider.served[2].json


@pytest.mark.parametrize("scenario", ["refuse_in_a_body", "refuse_in_an_event"])
@pytest.mark.parametrize("reading", ["stream", "raw"])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_host_that_refuses_within_an_answer_is_not_asked_again(
    provider: Any, telemetry: Any, scenario: str, reading: str, asynchronous: bool
) -> None:
    """An error within a 200 that names the option: the caller has the stream already, so only later calls are spared."""
    headers = {"x-standin-scenario": scenario}
    options = {**MAIN[0].request, "stream": True, "extra_headers": headers, "usage_metadata": dict(WHO)}

    async def read_async() -> list[Any]:
        async with openai.AsyncOpenAI(base_url=provider.base_url, max_retries=0) as client:
            if reading == "raw":
                async with client.chat.completions.with_streaming_response.create(**options) as response:
                    return [line async for line in response.iter_lines()]
            return [chunk async for chunk in await client.chat.completions.create(**options)]

    def read() -> list[Any]:
        if asynchronous:
            return asyncio.run(read_async())
        client = openai.OpenAI(base_url=provider.base_url, max_retries=0)
        if reading == "raw":
            with client.chat.completions.with_streaming_response.create(**options) as response:
                return list(response.iter_lines())
        return list(client.chat.completions.create(**options))

    if scenario == "refuse_in_an_event" and reading == "stream":
        with pytest.raises(openai.APIError, match="stream_options"):
            read()
    else:
        read()
    ended(telemetry, "failed", "unknown", "failed")
    telemetry.clear()
    assert read()
    assert "stream_options" not in provider.served[1].json
    ended(telemetry, "completed", "unknown", "not_sent")


def test_other_refusals_are_not_repeated(provider: Any, telemetry: Any) -> None:
    """A refusal that does not name the option is the caller's, at once."""
    with pytest.raises(openai.BadRequestError):
        chat(provider, "status_400")
    assert len(provider.served) == 1
    ended(telemetry, "failed", "not_billed", "refused")


def test_running_totals(provider: Any, telemetry: Any) -> None:
    """Of running totals on every chunk the last one counts."""
    chat(provider, "running_totals")
    record = ended(telemetry, "completed", "reported", None)
    assert record["gen_ai.usage.input_tokens"] == provider.served[0].usage["prompt_tokens"]
    assert record["gen_ai.usage.output_tokens"] == provider.served[0].usage["completion_tokens"]


def test_usage_in_the_finish_chunk(provider: Any, telemetry: Any) -> None:
    """Usage that comes on the chunk with the finish reason is read, and the chunk reaches the caller."""
    chunks = chat(provider, "usage_in_finish_chunk")
    assert chunks[-1].choices[0].finish_reason == "stop"
    ended(telemetry, "completed", "reported", None)


def test_azures_first_chunk(provider: Any, telemetry: Any) -> None:
    """A first chunk without choices, id and model is the caller's, and hides nothing of what follows."""
    chunks = chat(provider, "first_chunk_empty_choices")
    assert chunks[0].choices == []
    record = ended(telemetry, "completed", "reported", None)
    assert record["gen_ai.response.model"]
    assert record["gen_ai.response.id"]


def test_left_after_the_finish_chunk(provider: Any, telemetry: Any) -> None:
    """A caller who stops at the finish reason leaves usage unread: unknown, never zero."""
    with opened(provider, CHAT) as stream:
        for chunk in stream:
            if chunk.choices[0].finish_reason:
                break
    ended(telemetry, "stopped", "unknown", "closed_before_usage")


def test_many_streams_are_dropped_at_once(provider: Any, telemetry: Any) -> None:
    """A hundred dropped streams leave a hundred records."""
    streams = [opened(provider, CHAT) for _ in range(100)]
    for stream in streams:
        next(iter(stream))
    del stream, streams
    wait_for(lambda: len(telemetry.records) == 100, "100 records")
    assert {record["openai_metering.outcome"] for record in telemetry.records} == {"dropped"}
