"""Streamed answers of the provider as lists of server-sent events."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from openai_metering.local import answers, wire

if TYPE_CHECKING:
    from collections.abc import Iterable

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


def completions(ask: wire.Ask) -> list[Event]:
    """A stream of legacy completions, in two chunks, with usage in a third where it was asked for."""
    whole = answers.completion(ask)
    del whole["usage"]
    if ask.include_usage:
        whole["usage"] = None
    chunks = [whole | {"choices": [whole["choices"][0] | {"finish_reason": end}]} for end in (None, "stop")]
    if ask.include_usage:
        chunks.append(whole | {"choices": [], "usage": ask.usage})
    return [*map(Event, chunks), DONE]


def images(ask: wire.Ask) -> list[Event]:
    """A stream of one image: a partial one, and the completed one with usage."""
    name = "image_edit" if ask.route.endswith("edits") else "image_generation"
    image = {"b64_json": answers.IMAGE, "created_at": wire.CREATED, "size": "1024x1024", "quality": "high"}
    bodies: list[dict[str, Any]] = [
        {"type": f"{name}.partial_image", **image, "partial_image_index": 0},
        {"type": f"{name}.completed", **image, "usage": ask.usage},
    ]
    return [Event(body, body["type"]) for body in bodies]


def transcripts(ask: wire.Ask) -> list[Event]:
    """A stream of text, with usage at its end."""
    pieces = wire.pieces(ask)
    bodies: list[dict[str, Any]] = [{"type": "transcript.text.delta", "delta": piece} for piece in pieces]
    bodies.append({"type": "transcript.text.done", "text": "".join(pieces), "usage": ask.usage})
    return [Event(body) for body in bodies]


def speech(ask: wire.Ask) -> list[Event]:
    """Speech as events."""
    pieces = [Event({"type": "speech.audio.delta", "audio": answers.IMAGE}) for _ in wire.pieces(ask)]
    return [*pieces, Event({"type": "speech.audio.done"})]


def runs(ask: wire.Ask) -> list[Event]:
    """An assistant's run: its type stands beside the data."""
    run = answers.run(ask)
    names = ("created", "queued", "in_progress")
    events = [Event(run | {"status": name}, f"thread.run.{name}") for name in names]
    step = {"id": "step_1", "object": "thread.run.step", "usage": {"prompt_tokens": 1, "completion_tokens": 1}}
    events.append(Event(step, "thread.run.step.completed"))
    return [*events, Event(run | {"status": "completed", "usage": ask.usage}, "thread.run.completed"), DONE]


def agents(ask: wire.Ask) -> list[Event]:
    """An agent's session with one turn."""
    session = answers.session(ask)
    return _with_ids([{"type": "agent.session.created", "session": session}, *turn(ask, session["id"])])


def turn(ask: wire.Ask, session_id: str) -> list[dict[str, Any]]:
    """The events of one turn of an agent's session."""
    of = {"id": f"turn_{ask.n:08d}", "session_id": session_id, "status": "completed"}
    at = {"session_id": session_id, "turn_id": of["id"]}
    return [
        {"type": "agent.session.turn.created", **at, "turn": of | {"status": "queued"}},
        {"type": "agent.session.turn.completed", **at, "turn": of, "usage": ask.usage},
        {"type": "agent.session.idle", "session_id": session_id},
    ]


def turns(asks: Iterable[wire.Ask], session_id: str) -> list[Event]:
    """What a session tells who listens to it."""
    return _with_ids([event for ask in asks for event in turn(ask, session_id)])


def _with_ids(bodies: list[dict[str, Any]]) -> list[Event]:
    return [Event(body | {"event_id": f"e_{place}"}) for place, body in enumerate(bodies)]


STREAMED: Final = {
    "chat": chat,
    "responses": responses,
    "completions": completions,
    "images": images,
    "transcripts": transcripts,
    "speech": speech,
    "runs": runs,
    "agents": agents,
}
"""The stream of each endpoint that has one."""
