"""Bodies that are too large to keep: what their two ends say is read, what they do not say is unknown."""

from __future__ import annotations

import json
import os
import tracemalloc
from typing import TYPE_CHECKING, Any

import openai
import openai._base_client as base
import pytest

from openai_metering.seams.bodies import MAX_BODY, TAIL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

http: Any = getattr(base, "httpx2", None) or base.httpx
FULL = os.environ.get("OPENAI_METERING_TEST_SIZE") == "full"
MIB = 1 << 20
LARGE = (200 if FULL else 32) * MIB
PIECE = b"A" * 65536
USAGE = {"input_tokens": 11, "output_tokens": 7, "total_tokens": 18}


class Pieces(http.SyncByteStream):  # type: ignore[misc, name-defined]
    """A body with an image of a given size, made as it is read."""

    def __init__(self, head: str, size: int, tail: str) -> None:
        self._head, self._size, self._tail = head, size, tail

    def __iter__(self) -> Iterator[bytes]:
        yield self._head.encode()
        for _ in range(self._size // len(PIECE)):
            yield PIECE
        yield self._tail.encode()


def client(body: Pieces, content_type: str = "application/json") -> openai.OpenAI:
    def answer(request: Any) -> Any:
        return http.Response(200, headers={"content-type": content_type}, stream=body)

    return openai.OpenAI(max_retries=0, http_client=http.Client(transport=http.MockTransport(answer)))


def raw(made: openai.OpenAI) -> int:
    return len(made.images.with_raw_response.generate(model="gpt-image-1", prompt="x").content)


def streaming_response(made: openai.OpenAI) -> int:
    with made.images.with_streaming_response.generate(model="gpt-image-1", prompt="x") as response:
        return sum(map(len, response.iter_bytes()))


def raw_bytes(made: openai.OpenAI) -> int:
    with made.images.with_streaming_response.generate(model="gpt-image-1", prompt="x") as response:
        return sum(map(len, response.http_response.iter_raw()))


WAYS = [raw, streaming_response, raw_bytes]
HEAD = '{"created": 1, "data": [{"b64_json": "'


@pytest.mark.parametrize("way", WAYS)
def test_a_large_body_without_usage(telemetry: Any, way: Callable[..., int]) -> None:
    """Whether a body that is not read whole says usage cannot be known; no number of images is made up."""
    assert way(client(Pieces(HEAD, MAX_BODY, '"}]}'))) == MAX_BODY + len(HEAD) + 4
    record = telemetry.record()
    assert record["openai_metering.usage.status"] == "unknown"
    assert record["openai_metering.usage.reason"] == "body_too_large"
    assert record["openai_metering.outcome"] == "completed"
    assert not [name for name in record if name.startswith("openai_metering.usage.images")]
    assert telemetry.total("openai_metering.units") == 0


@pytest.mark.parametrize("way", WAYS)
def test_a_large_body_whose_end_says_usage(telemetry: Any, way: Callable[..., int]) -> None:
    """Tokens that stand at the end are reported; how many images there were is not said."""
    way(client(Pieces(HEAD, MAX_BODY, f'"}}], "usage": {json.dumps(USAGE)}}}')))
    record = telemetry.record()
    assert record["openai_metering.usage.status"] == "reported"
    assert (record["gen_ai.usage.input_tokens"], record["gen_ai.usage.output_tokens"]) == (11, 7)
    assert "openai_metering.usage.images" not in record


@pytest.mark.parametrize("way", WAYS)
def test_a_body_just_within_what_is_kept(telemetry: Any, way: Callable[..., int]) -> None:
    """A body that is read whole says how many images it holds, or that it carries nothing."""
    way(client(Pieces(HEAD, MAX_BODY - TAIL, '"}]}')))
    record = telemetry.record()
    assert (record["openai_metering.usage.status"], record["openai_metering.usage.images"]) == ("reported", 1)


def test_what_stands_beside_usage_at_the_end(telemetry: Any) -> None:
    """A response that holds large images has tokens of the tool that made them, which are billed apart."""
    if not hasattr(openai.OpenAI, "responses"):  # a chat answer then: its usage is at the end as well
        tail = '"}}], "usage": {"prompt_tokens": 11, "completion_tokens": 7}}'
        body = Pieces('{"model": "gpt-4o-x", "choices": [{"message": {"content": "', MAX_BODY, tail)
        with client(body).chat.completions.with_streaming_response.create(model="gpt-4o", messages=[]) as answer:
            answer.read()
    else:
        beside = {"image_gen": {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}}
        tail = f'"}}], "tool_usage": {json.dumps(beside)}, "usage": {json.dumps(USAGE)}}}'
        body = Pieces('{"id": "r1", "model": "gpt-4.1-x", "output": [{"result": "', MAX_BODY, tail)
        with client(body).responses.with_streaming_response.create(model="gpt-4.1", input="x") as answer:
            answer.read()
        assert telemetry.record()["openai_metering.usage.image_gen_output_tokens"] == 4
    record = telemetry.record()
    assert (record["gen_ai.response.model"][:5], record["gen_ai.usage.input_tokens"]) == ("gpt-4", 11)


def test_an_event_that_is_too_large_was_not_cut(telemetry: Any) -> None:
    """An event larger than what is kept is the caller's whole; whether it said usage is not known."""
    partial = 'data: {"type": "image_generation.partial_image"}\n\n'
    head = partial + 'data: {"type": "image_generation.completed", "b64_json": "'
    tail = f'", "usage": {json.dumps(USAGE)}}}\n\ndata: [DONE]\n\n'
    made = client(Pieces(head, MAX_BODY, tail), "text/event-stream")
    with made.images.with_streaming_response.generate(model="gpt-image-1", prompt="x") as response:
        assert sum(map(len, response.iter_bytes())) == len(head) + MAX_BODY + len(tail)
    record = telemetry.record()
    assert record["openai_metering.usage.reason"] == "body_too_large"
    assert record["openai_metering.outcome"] == "completed"


@pytest.mark.parametrize("way", [streaming_response, raw_bytes])
def test_memory_stays_bounded_whatever_the_size(telemetry: Any, way: Callable[..., int]) -> None:
    """Of a body of hundreds of megabytes that the caller reads piece by piece, no more is held than of one of eight."""
    made = client(Pieces(HEAD, LARGE, f'"}}], "usage": {json.dumps(USAGE)}}}'))
    tracemalloc.start()
    try:
        assert way(made) > LARGE
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * MAX_BODY
    assert telemetry.record()["gen_ai.usage.input_tokens"] == 11
