"""The table of ways in which the provider stand-in departs from its usual answer."""

from __future__ import annotations

import enum
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from openai_metering.local import answers, wire
from openai_metering.local.events import DONE, Event, numbered

if TYPE_CHECKING:
    from collections.abc import Callable

    from openai_metering.local.numbers import Usage
    from openai_metering.local.wire import Ask

HEADER: Final = "x-standin-scenario"
KEY_HEADER: Final = "x-standin-key"
MISSING: Final = object()
"""Usage that is left out altogether."""
BIG_TEXT: Final = "0123456789abcdef" * 131072  # 2 MiB
REFUSED_ATTEMPTS: Final = 2
CUT_AFTER: Final = 3  # events
Events: TypeAlias = "list[Event]"


class Wire(enum.Enum):
    """How an answer travels."""

    NORMAL = enum.auto()
    CUT = enum.auto()
    EOF = enum.auto()
    TIMEOUT = enum.auto()
    GZIP = enum.auto()
    SLOW = enum.auto()
    HOLD = enum.auto()
    WRONG_CONTENT_TYPE = enum.auto()
    NOT_JSON = enum.auto()


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer with an error status: nothing is billed."""

    status: int
    text: str = wire.ERROR_TEXT
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Incoming:
    """A request, as far as a refusal depends on it."""

    headers: dict[str, str]
    body: bytes
    payload: Any
    attempts: dict[str, int]
    """How often each idempotent call was tried; changed by the scenarios that count."""


def _as_it_is(value: Any) -> Any:
    return value


def _unchanged(_: Ask, events: Events) -> Events:
    return events


@dataclass(frozen=True, slots=True)
class Scenario:
    """One departure; what is not named is as usual."""

    name: str
    usage: Callable[[Usage], Any] = _as_it_is
    plain: Callable[[Ask, dict[str, Any]], object] = lambda _ask, _body: None
    """Changes the body of a plain answer in place."""
    stream: Callable[[Ask, Events], Events] = _unchanged
    refuse: Callable[[Incoming], Refusal | None] = lambda _: None
    wire: Wire = Wire.NORMAL
    text: str | None = None


# -- Usage -----------------------------------------------------------------------------------------------------------
def _every_number(change: Callable[[int], Any]) -> Callable[[Usage], Usage]:
    """Change each number of a usage object, its details included."""

    def changed(usage: Usage) -> Usage:
        return {key: changed(value) if isinstance(value, dict) else change(value) for key, value in usage.items()}

    return changed


def _without_details(usage: Usage) -> Usage:
    return {key: None if key.endswith("_details") else value for key, value in usage.items()}


def _grown(usage: Usage, step: int, steps: int) -> Usage:
    """A running total: the part of the completion that is there after a step."""
    completion = usage["completion_tokens"] * step // steps
    return usage | {"completion_tokens": completion, "total_tokens": usage["prompt_tokens"] + completion}


# -- Streams ---------------------------------------------------------------------------------------------------------
def _chunks(events: Events) -> list[dict[str, Any]]:
    return [event.data for event in events if isinstance(event.data, dict)]


def _without_usage_chunk(events: Events) -> Events:
    """A chat stream without its last chunk, the one with usage and no choices."""
    return [event for event in events if not (isinstance(event.data, dict) and not event.data["choices"])]


def _finish_chunk(events: Events) -> dict[str, Any]:
    return next(one for one in _chunks(events) if one["choices"] and one["choices"][0]["finish_reason"])


def _chat_only(change: Callable[[Ask, Events], Events]) -> Callable[[Ask, Events], Events]:
    return lambda ask, events: change(ask, events) if ask.kind == "chat" else events


def _running_totals(ask: Ask, events: Events) -> Events:
    chunks = _chunks(events)
    for step, one in enumerate(chunks, 1):
        one["usage"] = _grown(ask.usage, step, len(chunks))
    return events


def _usage_in_finish_chunk(ask: Ask, events: Events) -> Events:
    _finish_chunk(events)["usage"] = ask.usage
    return _without_usage_chunk(events)


def _usage_in_x_groq(ask: Ask, events: Events) -> Events:
    finish = _finish_chunk(events)
    finish.pop("usage", None)
    finish["x_groq"] = {"id": ask.response_id, "usage": ask.usage}
    return _without_usage_chunk(events)


def _first_chunk_empty_choices(ask: Ask, events: Events) -> Events:
    filters = [{"prompt_index": 0, "content_filter_results": {"hate": {"filtered": False, "severity": "safe"}}}]
    first = wire.chunk(ask, []) | {"id": "", "object": "", "created": 0, "model": "", "prompt_filter_results": filters}
    return [Event(first), *events]


def _odd_chunk(**choices: Any) -> Callable[[Ask, Events], Events]:
    """A chunk with odd choices, or none, after the first one."""

    def inserted(ask: Ask, events: Events) -> Events:
        odd = wire.chunk(ask, [])
        del odd["choices"]
        return [events[0], Event(odd | choices), *events[1:]]

    return _chat_only(inserted)


def _error_event(ask: Ask, events: Events) -> Events:
    if ask.kind == "chat":
        return [*events[:CUT_AFTER], Event(wire.error(500))]
    body = {"type": "error", "code": "server_error", "message": wire.ERROR_TEXT, "param": None}
    return numbered([*events[:CUT_AFTER], Event(body, "error")])


def _refused_event(ask: Ask, events: Events) -> Events:
    return [Event(wire.error(400, "Unknown parameter: 'stream_options'."))] if ask.include_usage else events


# -- Ends ------------------------------------------------------------------------------------------------------------
def _failed(ask: Ask, body: dict[str, Any]) -> None:
    if ask.kind == "responses":
        body |= {"status": "failed", "error": {"code": "server_error", "message": wire.ERROR_TEXT}}


def _incomplete(ask: Ask, body: dict[str, Any]) -> None:
    if ask.kind == "responses":
        body |= {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}


def _length(ask: Ask, body: dict[str, Any]) -> None:
    _incomplete(ask, body)
    for choice in body.get("choices", ()):
        choice["finish_reason"] = "length"


def _ending(change: Callable[[Ask, dict[str, Any]], None]) -> Callable[[Ask, Events], Events]:
    """A response's stream whose last event tells what the plain answer tells."""

    def changed(ask: Ask, events: Events) -> Events:
        if ask.kind != "responses":
            return events
        body = events[-1].data["response"]
        change(ask, body)
        kind = f"response.{body['status']}"
        return [*events[:-1], Event(events[-1].data | {"type": kind}, kind)]

    return changed


def _length_stream(ask: Ask, events: Events) -> Events:
    if ask.kind == "chat":
        _finish_chunk(events)["choices"][0]["finish_reason"] = "length"
    return _ending(_incomplete)(ask, events)


# -- Bodies ----------------------------------------------------------------------------------------------------------
def _choices(value: Any) -> Callable[[Ask, dict[str, Any]], None]:
    def changed(ask: Ask, body: dict[str, Any]) -> None:
        if ask.kind == "chat":
            body.pop("choices") if value is MISSING else body.update(choices=value)

    return changed


def _moved_to_x_groq(ask: Ask, body: dict[str, Any]) -> None:
    if ask.kind == "chat":
        body["x_groq"] = {"id": ask.response_id, "usage": body.pop("usage")}


# -- Refusals --------------------------------------------------------------------------------------------------------
def _always(status: int) -> Callable[[Incoming], Refusal | None]:
    return lambda _: Refusal(status)


def _when_asked_for_usage(status: int, text: str) -> Callable[[Incoming], Refusal | None]:
    def refusal(incoming: Incoming) -> Refusal | None:
        asked = isinstance(incoming.payload, dict) and incoming.payload.get("stream_options") is not None
        return Refusal(status, text) if asked else None

    return refusal


def _twice(incoming: Incoming) -> Refusal | None:
    """The first two attempts of a call; the body tells calls apart where no header does."""
    headers, attempts = incoming.headers, incoming.attempts
    key = headers.get(KEY_HEADER) or headers.get("idempotency-key") or hashlib.sha256(incoming.body).hexdigest()
    attempts[key] = attempts.get(key, 0) + 1
    if attempts[key] <= REFUSED_ATTEMPTS:
        return Refusal(429, headers=(("retry-after-ms", "1"),))
    del attempts[key]
    return None


# -- The table -------------------------------------------------------------------------------------------------------
_ROWS: Final = (
    Scenario("usage_null", usage=lambda _: None),
    Scenario("usage_missing", usage=lambda _: MISSING),
    Scenario("usage_zero", usage=_every_number(lambda _: 0)),
    Scenario("usage_strings", usage=_every_number(str)),
    Scenario("usage_negative", usage=_every_number(lambda number: -number - 1)),
    Scenario("usage_float", usage=_every_number(lambda number: number + 0.5)),
    Scenario("usage_huge", usage=_every_number(lambda _: 2**70)),
    Scenario("usage_garbage", usage=lambda _: 7),
    Scenario("details_null", usage=_without_details),
    Scenario("choices_null", plain=_choices([None]), stream=_odd_chunk(choices=[None])),
    Scenario("choices_missing", plain=_choices(MISSING), stream=_odd_chunk()),
    Scenario("running_totals", stream=_chat_only(_running_totals)),
    Scenario("usage_in_finish_chunk", stream=_chat_only(_usage_in_finish_chunk)),
    Scenario("usage_in_x_groq", plain=_moved_to_x_groq, stream=_chat_only(_usage_in_x_groq)),
    Scenario("first_chunk_empty_choices", stream=_chat_only(_first_chunk_empty_choices)),
    Scenario("cut", wire=Wire.CUT),
    Scenario("eof", wire=Wire.EOF),
    Scenario("error_event", stream=_error_event),
    Scenario("response_failed", plain=_failed, stream=_ending(_failed)),
    Scenario("response_incomplete", plain=_incomplete, stream=_ending(_incomplete)),
    Scenario("length", plain=_length, stream=_length_stream),
    Scenario(
        "refuse_stream_options",
        refuse=_when_asked_for_usage(422, f"{wire.ERROR_TEXT}: Extra inputs are not permitted: stream_options"),
    ),
    Scenario(
        "refuse_include_usage_400",
        refuse=_when_asked_for_usage(400, f"{wire.ERROR_TEXT}: Unknown parameter: 'stream_options.include_usage'."),
    ),
    Scenario("refuse_in_a_body", refuse=_when_asked_for_usage(200, "Unknown parameter: 'stream_options'.")),
    Scenario("refuse_in_an_event", stream=_chat_only(_refused_event)),
    *(Scenario(f"status_{status}", refuse=_always(status)) for status in (400, 401, 404, 429, 500, 503)),
    Scenario("retry_twice", refuse=_twice),
    Scenario("timeout", wire=Wire.TIMEOUT),
    Scenario("gzip", wire=Wire.GZIP),
    Scenario("slow", wire=Wire.SLOW),
    Scenario("hold", wire=Wire.HOLD),
    Scenario("wrong_content_type", wire=Wire.WRONG_CONTENT_TYPE),
    Scenario("not_json", wire=Wire.NOT_JSON),
    Scenario("big", text=BIG_TEXT),
)
SCENARIOS: Final = {row.name: row for row in (Scenario(""), *_ROWS)}
"""Every scenario by its name; the empty name is the usual answer."""


# -- Building --------------------------------------------------------------------------------------------------------
def plain_body(scenario: Scenario, ask: Ask) -> dict[str, Any]:
    """Build a plain answer in a scenario."""
    body: dict[str, Any] = answers.PLAIN[ask.kind](ask)
    scenario.plain(ask, body)
    if ask.usage is MISSING:
        body.pop("usage", None)
    return body


def stream_events(scenario: Scenario, ask: Ask, build: Callable[[Ask], Events]) -> Events:
    """Build a streamed answer in a scenario."""
    events = scenario.stream(ask, build(ask))
    if ask.usage is MISSING:
        events = _without_usage_chunk(events) if ask.kind == "chat" else events
        for event in events:
            if event is not DONE:
                event.data.get("response", event.data).pop("usage", None)
    return events
