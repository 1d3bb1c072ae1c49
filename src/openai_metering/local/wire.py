"""Answers of the provider as JSON objects: completions, responses, embeddings, errors."""

from __future__ import annotations

import base64
import json
import struct
from dataclasses import dataclass
from typing import Any, Final

from openai_metering.local.numbers import Usage, chat_usage, embedding_usage, response_usage
from openai_metering.local.schema import filled

CREATED: Final = 1735689600  # seconds
FINGERPRINT: Final = "fp_standin"
TIER: Final = "default"
ERROR_TEXT: Final = "provider-error-text-7f3a"
DIMENSIONS: Final = 8
DEFAULT_CHUNKS: Final = 5
_TYPES: Final = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}
_SERVER_ERRORS: Final = 500


@dataclass(slots=True)
class Ask:
    """One billable request, as far as an answer depends on it."""

    n: int
    kind: str
    """A key of ``answers.PLAIN``."""
    payload: dict[str, Any]
    model: str
    chunks: int = DEFAULT_CHUNKS
    text: str | None = None
    """A text of its own in place of the usual one."""
    usage: Any = None
    """What is sent as usage."""
    route: str = ""
    """The path below the API's root."""

    @property
    def response_id(self) -> str:
        """The id of the answer; embeddings have none."""
        return {"chat": f"chatcmpl-{self.n:08d}", "responses": f"resp_{self.n:08d}"}.get(self.kind, "")

    @property
    def include_usage(self) -> bool:
        """Whether a chat stream must end with usage."""
        options = self.payload.get("stream_options")
        return isinstance(options, dict) and bool(options.get("include_usage"))


USAGE: Final = {"chat": chat_usage, "responses": response_usage, "embeddings": embedding_usage}


def usage_of(kind: str, n: int) -> Usage:
    """Return the usage of billable request number ``n`` in the shape of its endpoint."""
    return USAGE[kind](n)


# -- Text ------------------------------------------------------------------------------------------------------------
def pieces(ask: Ask) -> list[str]:
    """The answer's text in as many pieces as the stream has chunks."""
    schema = _schema(ask)
    if schema is not None:
        return _split(json.dumps(filled(schema)), ask.chunks)
    if ask.text is not None:
        return _split(ask.text, ask.chunks)
    return [f"answer {ask.n}", *(f" word{number}" for number in range(1, ask.chunks))][: ask.chunks]


def _schema(ask: Ask) -> dict[str, Any] | None:
    if ask.kind == "chat":
        wanted = ask.payload.get("response_format")
        form = wanted.get("json_schema") if isinstance(wanted, dict) else None
    else:
        wanted = ask.payload.get("text")
        form = wanted.get("format") if isinstance(wanted, dict) else None
        if isinstance(form, dict) and form.get("type") != "json_schema":
            form = None
    schema = form.get("schema") if isinstance(form, dict) else None
    return schema if isinstance(schema, dict) else None


def _split(text: str, count: int) -> list[str]:
    size = max(1, -(-len(text) // max(1, count)))
    parts = [text[start : start + size] for start in range(0, len(text), size)]
    return parts + [""] * (count - len(parts))


# -- Chat ------------------------------------------------------------------------------------------------------------
def completion(ask: Ask) -> dict[str, Any]:
    """A chat completion."""
    return {
        "id": ask.response_id,
        "object": "chat.completion",
        "created": CREATED,
        "model": ask.model,
        "choices": [
            {
                "index": index,
                "message": {"role": "assistant", "content": "".join(pieces(ask)), "refusal": None, "annotations": []},
                "logprobs": None,
                "finish_reason": "stop",
            }
            for index in range(max(1, int(ask.payload.get("n") or 1)))
        ],
        "usage": ask.usage,
        "service_tier": TIER,
        "system_fingerprint": FINGERPRINT,
    }


def chunk(ask: Ask, choices: list[Any]) -> dict[str, Any]:
    """One chunk of a chat stream, without usage."""
    return {
        "id": ask.response_id,
        "object": "chat.completion.chunk",
        "created": CREATED,
        "model": ask.model,
        "service_tier": TIER,
        "system_fingerprint": FINGERPRINT,
        "choices": choices,
    }


def choice(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    """The one choice of a chunk."""
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}


# -- Responses -------------------------------------------------------------------------------------------------------
def response(ask: Ask, status: str = "completed", text: str | None = None) -> dict[str, Any]:
    """A response; its output and usage are there once it is past being queued or in progress."""
    done = status not in {"queued", "in_progress"}
    payload = ask.payload
    return {
        "id": ask.response_id,
        "object": "response",
        "created_at": CREATED,
        "status": status,
        "background": bool(payload.get("background")),
        "error": None,
        "incomplete_details": None,
        "instructions": payload.get("instructions"),
        "max_output_tokens": payload.get("max_output_tokens"),
        "model": ask.model,
        "output": [message(ask, "".join(pieces(ask)) if text is None else text)] if done else [],
        "parallel_tool_calls": True,
        "previous_response_id": payload.get("previous_response_id"),
        "reasoning": {"effort": None, "summary": None},
        "service_tier": TIER,
        "store": payload.get("store", True),
        "temperature": 1.0,
        "text": payload.get("text") or {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": payload.get("tools") or [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": ask.usage if done else None,
        "user": None,
        "metadata": payload.get("metadata") or {},
    }


def message(ask: Ask, text: str | None, status: str = "completed") -> dict[str, Any]:
    """The output item of a response; without a text it is only begun."""
    return {
        "id": f"msg_{ask.n:08d}",
        "type": "message",
        "status": status,
        "content": [] if text is None else [part(text)],
        "role": "assistant",
    }


def part(text: str) -> dict[str, Any]:
    """The content of an output item."""
    return {"type": "output_text", "annotations": [], "logprobs": [], "text": text}


# -- Embeddings ------------------------------------------------------------------------------------------------------
def embeddings(ask: Ask) -> dict[str, Any]:
    """One vector for each input, as floats or base64."""
    given = ask.payload.get("input")
    count = len(given) if isinstance(given, list) and not all(isinstance(one, int) for one in given) else 1
    vector = [((ask.n + place) % 16) / 16 for place in range(ask.payload.get("dimensions") or DIMENSIONS)]
    written: Any = vector
    if ask.payload.get("encoding_format") == "base64":
        written = base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
    return {
        "object": "list",
        "data": [{"object": "embedding", "index": index, "embedding": written} for index in range(count)],
        "model": ask.model,
        "usage": ask.usage,
    }


PLAIN: Final = {"chat": completion, "responses": response, "embeddings": embeddings}
"""The answer of each endpoint that is not streamed."""


# -- The rest --------------------------------------------------------------------------------------------------------
def error(status: int, text: str = ERROR_TEXT, code: str | None = None) -> dict[str, Any]:
    """The body of an error."""
    kind = _TYPES.get(status, "server_error" if status >= _SERVER_ERRORS else "invalid_request_error")
    return {"error": {"message": text, "type": kind, "param": None, "code": code or kind}}


def anything(route: str) -> dict[str, Any]:
    """A small object for a path that is not billed here, so that every method of the SDK can be called."""
    parts = route.strip("/").split("/")
    if route == "/models":
        return {
            "object": "list",
            "data": [{"id": "gpt-4o", "object": "model", "created": CREATED, "owned_by": "openai"}],
        }
    return {
        "id": parts[1] if len(parts) > 1 else f"{parts[0]}-standin",
        "object": parts[0].rstrip("s") or "object",
        "created_at": CREATED,
        "status": "completed",
        "data": [],
    }
