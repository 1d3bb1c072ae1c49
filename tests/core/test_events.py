"""Events as bytes: what is found in them is what is read from them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from opentelemetry._logs import NoOpLoggerProvider
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.trace import NoOpTracerProvider

from openai_metering.call import Call
from openai_metering.finished import Request, Server
from openai_metering.operations import CALLS
from openai_metering.resolution import EMPTY, resolve
from openai_metering.seams.bodies import EventReader
from openai_metering.settings import Settings
from openai_metering.signals import Signals
from openai_metering.usage import Answer

USAGE = {"input_tokens": 9, "output_tokens": 5, "total_tokens": 14}
RESPONSE = {"id": "resp_1", "model": "gpt-4.1", "usage": USAGE}
RUN = {"id": "run_1", "model": "gpt-4o", "usage": {"prompt_tokens": 9, "completion_tokens": 5}}
RESPONSES = [
    *({"type": f"response.{state}", "response": RESPONSE} for state in ("created", "queued")),
    *({"type": f"response.{end}", "response": RESPONSE} for end in ("completed", "incomplete", "failed", "cancelled")),
    {"type": "error", "code": "overloaded"},
]
IMAGES = [
    {"type": "image_generation.completed", "usage": USAGE},
    {"type": "image_edit.completed", "usage": USAGE},
    {"type": "error", "error": {"code": "overloaded"}},
]
RUNS = [
    {"event": f"thread.run.{state}", "data": RUN}
    for state in (
        *("created", "queued", "in_progress", "requires_action"),
        *("completed", "incomplete", "failed", "cancelled", "expired"),
    )
]
AGENTS = [
    {"type": "agent.session.created", "session": {"id": "sess_1"}},
    {"type": "agent.session.turn.created"},
    *({"type": f"agent.session.turn.{end}", "usage": USAGE} for end in ("completed", "failed", "cancelled")),
    {"type": "error", "error": {"code": "overloaded"}},
]
SAID = {
    "responses": RESPONSES,
    "responses.compact": RESPONSES,
    "images.generate": IMAGES,
    "images.edit": IMAGES,
    "images.create_variation": IMAGES,
    "audio.speech": [{"type": "speech.audio.done", "usage": USAGE}],
    "audio.transcriptions": [{"type": "transcript.text.done", "usage": USAGE}],
    "threads.runs": RUNS,
    "threads.create_and_run": RUNS,
    "agents.sessions": AGENTS,
    "agents.sessions.events": AGENTS,
}
ENDS = ("completed", "incomplete", "failed", "cancelled", "expired", "done")
CASES = [(row, event) for row in CALLS for event in SAID.get(row.name, ())]
SIGNALS = Signals(Settings(spans="never"), NoOpTracerProvider(), NoOpMeterProvider(), NoOpLoggerProvider())


def as_bytes(event: dict[str, Any]) -> bytes:
    """As the provider writes it: the type of an assistant's event stands beside its data."""
    if "event" in event:
        return f"event: {event['event']}\ndata: {json.dumps(event['data'])}\n\n".encode()
    return f"data: {json.dumps(event)}\n\n".encode()


def said(answer: Answer) -> dict[str, Any]:
    return {name: getattr(answer, name) for name in Answer.__dataclass_fields__}


@pytest.mark.parametrize(
    ("row", "event"), CASES, ids=[f"{row.name}-{event.get('type') or event['event']}" for row, event in CASES]
)
def test_an_event_says_the_same_as_bytes(row, event):
    """An event that says something for the bill is not passed by, however little else it says."""
    call = Call(SIGNALS, row, Server("openai", None, None), Request(), resolve(EMPTY, EMPTY, EMPTY))
    reader = EventReader(call)
    assert reader.feed(as_bytes(event)) == as_bytes(event)
    seen = Answer()
    row.observe(seen, event)
    assert said(call.answer) == said(seen)
    assert said(seen) != said(Answer())
    counts = {name: number for name, number in (seen.counts or {}).items() if name.startswith("gen_ai.")}
    ends = (event.get("type") or event["event"]).rpartition(".")[2] in ENDS
    assert counts == ({"gen_ai.usage.input_tokens": 9, "gen_ai.usage.output_tokens": 5} if ends else {})


def test_every_row_that_names_events_is_here():
    """A new row says here what its events look like."""
    assert {row.name for row in CALLS if row.events} == SAID.keys()
    for row in CALLS:
        assert {event.get("type") or event["event"] for event in SAID.get(row.name, ())} == row.events
