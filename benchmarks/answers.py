"""The provider in memory: the stand-in's own answers from a transport, so that no socket adds its noise."""

from __future__ import annotations

import functools
import json
import sys
from typing import TYPE_CHECKING, Any

from openai_metering.local import events, wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

CHUNKS_HEADER = "x-standin-chunks"

# What api.openai.com reports for a prompt that is partly cached and an answer with some reasoning: every detail is
# there, most are zero.
_USAGE = {
    "chat": {
        "prompt_tokens": 1310,
        "completion_tokens": 164,
        "total_tokens": 1474,
        "prompt_tokens_details": {"cached_tokens": 1024, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 64,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    },
    "responses": {
        "input_tokens": 1310,
        "input_tokens_details": {"cached_tokens": 1024},
        "output_tokens": 164,
        "output_tokens_details": {"reasoning_tokens": 64},
        "total_tokens": 1474,
    },
    "embeddings": {"prompt_tokens": 1310, "total_tokens": 1310},
}
_KINDS = {"/v1/chat/completions": "chat", "/v1/responses": "responses", "/v1/embeddings": "embeddings"}


def _ask(kind: str, chunks: int, *, include_usage: bool) -> wire.Ask:
    payload = {"model": "gpt-4o", "stream_options": {"include_usage": include_usage}}
    return wire.Ask(1, kind, payload, "gpt-4o-2024-08-06", chunks, usage=_USAGE[kind])


@functools.cache
def _body(kind: str) -> bytes:
    return json.dumps(wire.PLAIN[kind](_ask(kind, 5, include_usage=False))).encode()


@functools.cache
def _events(kind: str, chunks: int, include_usage: bool) -> tuple[bytes, ...]:
    ask = _ask(kind, chunks, include_usage=include_usage)
    return tuple(event.encoded() for event in events.STREAMED[kind](ask))


def transport(http: Any) -> Any:
    """A transport for both kinds of client.

    Args:
        http: the HTTP library that the SDK in use is built on.
    """

    class Pieces(http.SyncByteStream, http.AsyncByteStream):
        def __init__(self, pieces: tuple[bytes, ...]) -> None:
            self._pieces = pieces

        def __iter__(self) -> Iterator[bytes]:
            return iter(self._pieces)

        async def __aiter__(self) -> AsyncIterator[bytes]:
            for piece in self._pieces:
                yield piece

    def answer(request: Any) -> Any:
        kind = _KINDS[request.url.path]
        headers = {"x-request-id": "req_0123456789abcdef", "openai-processing-ms": "12"}
        sent = request.content
        if b'"stream":true' not in sent:
            return http.Response(200, headers={**headers, "content-type": "application/json"}, content=_body(kind))
        chunks = int(request.headers.get(CHUNKS_HEADER, wire.DEFAULT_CHUNKS))
        pieces = _events(kind, chunks, b'"include_usage":true' in sent)
        return http.Response(200, headers={**headers, "content-type": "text/event-stream"}, stream=Pieces(pieces))

    return http.MockTransport(answer)


def http_library() -> Any:
    """The HTTP library of the SDK in use: httpx, from openai 3 on httpx2."""
    import openai

    base = openai.DefaultHttpxClient.__mro__[1]
    return sys.modules[base.__module__.partition(".")[0]]
