"""Raw bytes of compressed answers: the caller decodes what the bare SDK would have given, and usage is read all the same."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from typing import TYPE_CHECKING, Any

import openai
import openai._base_client as base
import pytest
from forms import MAIN

from openai_metering import OpenAIInstrumentor

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

http: Any = getattr(base, "httpx2", None) or base.httpx
CHAT = MAIN[0]
SSE = {"content-type": "text/event-stream"}
ASKING = {"stream": True, "stream_options": {"include_usage": True}}


def event(**fields: Any) -> bytes:
    chunk = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o-x", **fields}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


def choice(text: str, finish: str | None = None) -> list[dict[str, Any]]:
    return [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]


USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
ORDERED = [event(choices=choice("Hello")), event(choices=choice(" you", "stop")), b"data: [DONE]\n\n"]
SERVED = [*ORDERED[:2], event(choices=[], usage=USAGE), ORDERED[2]]


# -- A server that compresses ----------------------------------------------------------------------------------------


def zlib_pieces(pieces: list[bytes], wbits: int) -> list[bytes]:
    made = zlib.compressobj(wbits=wbits)
    return [*(made.compress(piece) + made.flush(zlib.Z_SYNC_FLUSH) for piece in pieces), made.flush()]


def brotli_pieces(pieces: list[bytes]) -> list[bytes]:
    import brotli

    made = brotli.Compressor()
    return [*(made.process(piece) + made.flush() for piece in pieces), made.finish()]


def zstd_pieces(pieces: list[bytes]) -> list[bytes]:
    import zstandard

    made = zstandard.ZstdCompressor().compressobj()
    flush = zstandard.COMPRESSOBJ_FLUSH_BLOCK
    return [*(made.compress(piece) + made.flush(flush) for piece in pieces), made.flush()]


COMPRESSED: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "gzip": lambda pieces: zlib_pieces(pieces, 31),
    "deflate": lambda pieces: zlib_pieces(pieces, 15),
    "br": brotli_pieces,
    "zstd": zstd_pieces,
}
CODINGS = [coding for coding in COMPRESSED if coding in http.Client().headers["accept-encoding"]]


def test_every_coding_is_tried() -> None:
    """The HTTP library decodes all four where these tests run; it asks for none that they do not try."""
    asked = {name.strip() for name in http.Client().headers["accept-encoding"].split(",")}
    assert asked == set(COMPRESSED)


def decoded(coding: str, raw: bytes) -> bytes:
    """What the HTTP library makes of bytes in a coding."""
    content: bytes = http.Response(200, headers={"content-encoding": coding}, content=raw).content
    return content


class Pieces(http.SyncByteStream, http.AsyncByteStream):  # type: ignore[misc, name-defined]
    """A body that comes in pieces."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        yield from self._pieces

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece

    def close(self) -> None:
        pass

    async def aclose(self) -> None:
        pass


def answering(pieces: list[bytes], **headers: str) -> Callable[[Any], Any]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda request: http.Response(200, headers={**SSE, **named}, stream=Pieces(pieces))


# -- Ways to read raw bytes: each returns the pieces that the caller gets ----------------------------------------------


def made(answer: Callable[[Any], Any]) -> openai.OpenAI:
    return openai.OpenAI(max_retries=0, http_client=http.Client(transport=http.MockTransport(answer)))


def streaming_response(answer: Callable[[Any], Any], **extra: Any) -> list[bytes]:
    with made(answer).chat.completions.with_streaming_response.create(**CHAT.request, **extra) as response:
        return list(response.http_response.iter_raw())


def raw_response(answer: Callable[[Any], Any], **extra: Any) -> list[bytes]:
    response = made(answer).chat.completions.with_raw_response.create(**CHAT.request, **extra)
    return list(response.http_response.iter_raw())


def async_streaming_response(answer: Callable[[Any], Any], **extra: Any) -> list[bytes]:
    async def run() -> list[bytes]:
        http_client = http.AsyncClient(transport=http.MockTransport(answer))
        async with openai.AsyncOpenAI(max_retries=0, http_client=http_client) as client:
            create = client.chat.completions.with_streaming_response.create
            async with create(**CHAT.request, **extra) as response:
                return [piece async for piece in response.http_response.aiter_raw()]

    return asyncio.run(run())


WAYS = [streaming_response, raw_response, async_streaming_response]


# -- Beneath a plain stream: the caller reads its response, and not the stream --------------------------------------------


def as_read(response: Any) -> bytes:
    body: bytes = response.read()
    assert response.content == body
    return body


BENEATH: dict[str, Callable[[Any], bytes]] = {
    "read": as_read,
    "iter_bytes": lambda response: b"".join(response.iter_bytes()),
    "iter_text": lambda response: "".join(response.iter_text()).encode(),
    "iter_lines": lambda response: "".join(f"{line}\n" for line in response.iter_lines()).encode(),
    "iter_raw": lambda response: decoded(
        response.headers.get("content-encoding", "identity"), b"".join(response.iter_raw())
    ),
}


async def async_beneath(answer: Callable[[Any], Any], reading: str) -> bytes:
    http_client = http.AsyncClient(transport=http.MockTransport(answer))
    async with openai.AsyncOpenAI(max_retries=0, http_client=http_client) as client:
        response = (await client.chat.completions.create(**CHAT.request, stream=True)).response
        if reading == "read":
            return bytes(await response.aread())
        pieces = [piece async for piece in getattr(response, f"a{reading}")()]
        if reading == "iter_raw":
            return decoded(response.headers.get("content-encoding", "identity"), b"".join(pieces))
        if reading == "iter_lines":
            pieces = [f"{line}\n" for line in pieces]
        return b"".join(piece if isinstance(piece, bytes) else piece.encode() for piece in pieces)


@pytest.mark.parametrize("coding", ["identity", *CODINGS])
@pytest.mark.parametrize("reading", BENEATH)
@pytest.mark.parametrize("asynchronous", [False, True])
def test_the_response_of_a_stream_is_read_as_it_was_ordered(
    telemetry: Any, reading: str, coding: str, asynchronous: bool
) -> None:
    """Who reads `stream.response` gets no event that was not ordered, and is metered as who reads the stream."""
    pieces = SERVED if coding == "identity" else COMPRESSED[coding](SERVED)
    answer = answering(pieces, content_encoding=coding)
    if asynchronous:
        found = asyncio.run(async_beneath(answer, reading))
    else:
        found = BENEATH[reading](made(answer).chat.completions.create(**CHAT.request, stream=True).response)
    assert found == b"".join(ORDERED)
    record = telemetry.record()
    assert (record["openai_metering.usage.status"], record["openai_metering.outcome"]) == ("reported", "completed")
    assert record["gen_ai.usage.input_tokens"] == 11


def test_the_response_of_a_stream_that_asked_has_every_byte(telemetry: Any) -> None:
    """Who asked for usage gets the server's own pieces."""
    response = made(answering(SERVED)).chat.completions.create(**CHAT.request, **ASKING).response
    assert list(response.iter_raw()) == SERVED
    assert telemetry.record()["gen_ai.usage.output_tokens"] == 7


def test_the_response_of_a_stream_is_left_early(telemetry: Any) -> None:
    """Who begins to read the response and closes it has stopped."""
    response = made(answering(SERVED)).chat.completions.create(**CHAT.request, stream=True).response
    pieces = response.iter_bytes()
    assert next(pieces) == SERVED[0]
    response.close()
    record = telemetry.record()
    assert (record["openai_metering.outcome"], record["openai_metering.usage.reason"]) == (
        "stopped",
        "closed_before_usage",
    )


def test_the_response_of_a_stream_breaks(telemetry: Any) -> None:
    """A connection that breaks under who reads the response is a failure of the call, and the caller's to see."""

    class Breaking(Pieces):
        def __iter__(self) -> Iterator[bytes]:
            yield SERVED[0]
            raise http.ReadError("broken")

    answer = http.Response(200, headers=SSE, stream=Breaking([]))
    response = made(lambda request: answer).chat.completions.create(**CHAT.request, stream=True).response
    with pytest.raises(http.ReadError, match="broken"):
        list(response.iter_lines())
    assert telemetry.record()["openai_metering.outcome"] == "failed"


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("way", WAYS)
def test_the_extra_event_is_hidden_from_raw_bytes(telemetry: Any, way: Callable[..., Any], coding: str) -> None:
    """What a caller did not ask for is not in the raw bytes either; they decode piece by piece to all the rest."""
    pieces = way(answering(COMPRESSED[coding](SERVED), content_encoding=coding), stream=True)
    assert decoded(coding, b"".join(pieces)) == b"".join(ORDERED)
    record = telemetry.record()
    assert (record["openai_metering.usage.status"], record["openai_metering.outcome"]) == ("reported", "completed")
    assert record["gen_ai.usage.input_tokens"] == 11


def test_gzip_in_several_members_is_read_to_its_last(telemetry: Any) -> None:
    """The HTTP library decodes the first only; whoever reads raw bytes may decode them all, as `gzip` does."""
    members = [zlib.compress(piece, wbits=31) for piece in SERVED]
    pieces = streaming_response(answering(members, content_encoding="gzip"), stream=True)
    assert gzip.decompress(b"".join(pieces)) == b"".join(ORDERED)
    assert telemetry.record()["gen_ai.usage.input_tokens"] == 11


@pytest.mark.parametrize("coding", CODINGS)
def test_each_event_can_be_decoded_as_it_comes(telemetry: Any, coding: str) -> None:
    """The caller of raw bytes waits for no event longer than on the bare SDK."""
    pieces = streaming_response(answering(COMPRESSED[coding](SERVED), content_encoding=coding), stream=True)
    events = [b"".join(http.Response(200, headers={"content-encoding": coding}, stream=Pieces(pieces)).iter_bytes())]
    assert events == [b"".join(ORDERED)]
    # The first piece alone holds the first event.
    alone = http.Response(200, headers={"content-encoding": coding}, stream=Pieces(pieces[:1])).iter_bytes()
    assert next(alone) == ORDERED[0]


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("way", WAYS)
def test_raw_bytes_of_which_nothing_is_hidden_are_the_servers(
    telemetry: Any, way: Callable[..., Any], coding: str
) -> None:
    """Who asked for usage gets each piece as the server sent it; usage is read beside."""
    sent = COMPRESSED[coding](SERVED)
    assert way(answering(sent, content_encoding=coding), **ASKING) == [piece for piece in sent if piece]
    assert telemetry.record()["gen_ai.usage.output_tokens"] == 7


@pytest.mark.parametrize("coding", CODINGS)
def test_the_raw_bytes_of_a_plain_answer_are_the_servers(telemetry: Any, coding: str) -> None:
    """An answer that is no stream is read from its raw bytes, too."""
    body = json.dumps({"id": "c1", "object": "chat.completion", "model": "gpt-4o-x", "choices": [], "usage": USAGE})
    sent = COMPRESSED[coding]([body.encode()])
    pieces = streaming_response(answering(sent, content_encoding=coding, content_type="application/json"))
    assert pieces == [piece for piece in sent if piece]
    assert telemetry.record()["gen_ai.usage.output_tokens"] == 7


@pytest.mark.parametrize("extra", [{"stream": True}, ASKING])
def test_bytes_that_are_not_what_their_header_names_are_left_alone(telemetry: Any, extra: dict[str, Any]) -> None:
    """A server that names a coding and does not use it: the caller gets the bytes, and usage is unknown."""
    assert streaming_response(answering(SERVED, content_encoding="gzip"), **extra) == SERVED
    record = telemetry.record()
    assert record["openai_metering.usage.status"] == "unknown"
    assert record["openai_metering.usage.reason"] == "not_observed"


def test_two_codings_at_once_are_read_and_not_written(telemetry: Any) -> None:
    """Bytes in a coding that is not written here stay the server's, the extra event included."""
    sent = zlib_pieces(COMPRESSED["deflate"](SERVED), 31)
    assert streaming_response(answering(sent, content_encoding="deflate, gzip"), stream=True) == sent
    assert telemetry.record()["gen_ai.usage.input_tokens"] == 11


def test_raw_bytes_that_are_left_early(telemetry: Any) -> None:
    """Who leaves raw bytes before their end has stopped, and usage was not sent yet."""
    answer = answering(COMPRESSED["gzip"](SERVED), content_encoding="gzip")
    with made(answer).chat.completions.with_streaming_response.create(**CHAT.request, stream=True) as response:
        pieces = response.http_response.iter_raw()
        next(pieces)
    record = telemetry.record()
    assert (record["openai_metering.outcome"], record["openai_metering.usage.reason"]) == (
        "stopped",
        "closed_before_usage",
    )


@pytest.mark.parametrize("broken", [b"", b"\xff" * 100])
@pytest.mark.parametrize("coding", CODINGS)
def test_decoded_bytes_are_written_by_nobody(telemetry: Any, coding: str, broken: bytes) -> None:
    """Where the HTTP library decodes, it decodes the server's own bytes: a broken one is named as on the bare SDK."""
    sent = COMPRESSED[coding](SERVED)
    answer = answering([sent[0], broken, *sent[1:]], content_encoding=coding)

    def read() -> Any:
        with made(answer).chat.completions.with_streaming_response.create(**CHAT.request, stream=True) as response:
            try:
                found = b"".join(response.iter_bytes()).replace(SERVED[2], b"")
            except Exception as error:
                return type(error), str(error), response.http_response.num_bytes_downloaded
            return found, response.http_response.num_bytes_downloaded

    async def read_async() -> Any:
        http_client = http.AsyncClient(transport=http.MockTransport(answer))
        async with openai.AsyncOpenAI(max_retries=0, http_client=http_client) as client:
            create = client.chat.completions.with_streaming_response.create
            async with create(**CHAT.request, stream=True) as response:
                try:
                    found = b"".join([piece async for piece in response.iter_bytes()]).replace(SERVED[2], b"")
                except Exception as error:
                    return type(error), str(error), response.http_response.num_bytes_downloaded
                return found, response.http_response.num_bytes_downloaded

    metered = read(), asyncio.run(read_async())
    OpenAIInstrumentor().uninstrument()
    assert metered == (read(), asyncio.run(read_async()))
