"""Streamed answers of the provider as lists of server-sent events."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from openai_metering.local import wire

_encode = json.JSONEncoder(separators=(",", ":")).encode


@dataclass(frozen=True, slots=True)
class Event:
    """One server-sent event."""

    data: Any
    """A JSON value, or text that is sent as it is."""
    name: str | None = None

    def encoded(self) -> bytes:
        """Return the event as it goes over the wire."""
        data = self.data if isinstance(self.data, str) else _encode(self.data)
        return (f"event: {self.name}\ndata: {data}\n\n" if self.name else f"data: {data}\n\n").encode()

    @property
    def usage(self) -> dict[str, Any] | None:
        """The usage that the event carries, wherever it stands."""
        return sent_usage(self.data)


DONE: Final = Event("[DONE]")


def sent_usage(body: Any) -> dict[str, Any] | None:
    """Return the usage object in a body or an event, wherever it stands."""
    if not isinstance(body, dict):
        return None
    for place in (body, body.get("response"), body.get("x_groq")):
        if isinstance(place, dict) and isinstance(place.get("usage"), dict):
            usage: dict[str, Any] = place["usage"]
            return usage
    return None


def chat(ask: wire.Ask) -> list[Event]:
    """A chat stream: role, content, finish, usage if it was asked for, end."""
    deltas = [wire.choice({"role": "assistant", "content": "", "refusal": None})]
    deltas += [wire.choice({"content": piece}) for piece in wire.pieces(ask)]
    deltas.append(wire.choice({}, "stop"))
    chunks = [wire.chunk(ask, [delta]) for delta in deltas]
    if ask.include_usage:
        for one in chunks:
            one["usage"] = None
        chunks.append(wire.chunk(ask, []) | {"usage": ask.usage})
    return [*map(Event, chunks), DONE]


def responses(ask: wire.Ask) -> list[Event]:
    """A response's stream of typed events, numbered, with the whole response in the last one."""
    parts = wire.pieces(ask)
    text = "".join(parts)
    place = {"item_id": f"msg_{ask.n:08d}", "output_index": 0, "content_index": 0}
    begun = wire.response(ask, "in_progress")
    bodies: list[dict[str, Any]] = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
        {"type": "response.output_item.added", "output_index": 0, "item": wire.message(ask, None, "in_progress")},
        {"type": "response.content_part.added", **place, "part": wire.part("")},
        *({"type": "response.output_text.delta", **place, "delta": piece, "logprobs": []} for piece in parts),
        {"type": "response.output_text.done", **place, "text": text, "logprobs": []},
        {"type": "response.content_part.done", **place, "part": wire.part(text)},
        {"type": "response.output_item.done", "output_index": 0, "item": wire.message(ask, text)},
        {"type": "response.completed", "response": wire.response(ask, text=text)},
    ]
    return numbered([Event(body, body["type"]) for body in bodies])


def numbered(events: list[Event]) -> list[Event]:
    """Give the events of a response's stream their sequence numbers."""
    for number, event in enumerate(events):
        event.data["sequence_number"] = number
    return events


STREAMED: Final = {"chat": chat, "responses": responses}
"""The stream of each endpoint that has one."""
