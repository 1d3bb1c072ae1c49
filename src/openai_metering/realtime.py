"""What and how much over a websocket: the table of sockets, and readers of their events."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from openai_metering.operations import RESPONSES, Operation
from openai_metering.usage import MAX_COUNT, Answer, code, count, part, text

if TYPE_CHECKING:
    from openai_metering.usage import Number

# -- Rows: where a provider writes a number, as a path from the usage object, and the name it gets --------------------

_TOTALS: Final = (
    (("input_tokens",), "gen_ai.usage.input_tokens"),
    (("output_tokens",), "gen_ai.usage.output_tokens"),
)
_INPUT: Final = (
    (("cached_tokens",), "gen_ai.usage.cache_read.input_tokens"),
    (("cache_write_tokens",), "gen_ai.usage.cache_write.input_tokens"),
    (("text_tokens",), "gen_ai.usage.text.input_tokens"),
    (("image_tokens",), "gen_ai.usage.image.input_tokens"),
    (("audio_tokens",), "gen_ai.usage.audio.input_tokens"),
    (("cached_tokens_details", "text_tokens"), "gen_ai.usage.text.cache_read.input_tokens"),
    (("cached_tokens_details", "image_tokens"), "gen_ai.usage.image.cache_read.input_tokens"),
    (("cached_tokens_details", "audio_tokens"), "gen_ai.usage.audio.cache_read.input_tokens"),
)
_OUTPUT: Final = (
    (("reasoning_tokens",), "gen_ai.usage.reasoning.output_tokens"),
    (("text_tokens",), "gen_ai.usage.text.output_tokens"),
    (("audio_tokens",), "gen_ai.usage.audio.output_tokens"),
)
# Realtime spells `input_token_details` what Responses and Decisions spell `input_tokens_details`.
_DETAILS: Final = tuple(
    ((name, *path), attribute)
    for names, rows in (
        (("input_token_details", "input_tokens_details"), _INPUT),
        (("output_token_details", "output_tokens_details"), _OUTPUT),
    )
    for name in names
    for path, attribute in rows
)
_SECONDS: Final = "openai_metering.usage.seconds"
_LIVE: Final = (
    ("seconds", "openai_metering.usage.session_seconds"),
    ("active_seconds", "openai_metering.usage.session_active_seconds"),
    ("paused_seconds", "openai_metering.usage.session_paused_seconds"),
)
_UNCONFIRMED: Final = "openai_metering.usage.unconfirmed_session_seconds"


def seconds(value: Any) -> Number | None:
    """The value as a number of seconds where it is one: finite and not negative, with or without a fraction."""
    if type(value) is float:
        return value if math.isfinite(value) and 0 <= value <= MAX_COUNT else None
    return count(value)


def _read_tokens(answer: Answer, usage: Any) -> None:
    """Read a usage object of tokens; a total that is there but is no count makes the whole object invalid."""
    counts: dict[str, Number] = {}
    for path, attribute in _TOTALS:
        value = part(usage, path[0])
        if value is not None:
            number = count(value)
            if number is None:
                answer.invalid = True
                return
            counts[attribute] = number
    if not counts:
        return
    for path, attribute in _DETAILS:
        number = count(functools.reduce(part, path, usage))
        if number is not None:
            counts[attribute] = number
    answer.counts = counts


# -- Readers ---------------------------------------------------------------------------------------------------------


def read_realtime(answer: Answer, response: Any) -> None:
    """Read the response of a ``response.done`` event, whatever its status."""
    answer.response_id = text(part(response, "id")) or answer.response_id
    answer.model = text(part(response, "model")) or answer.model
    answer.finished = True
    status = part(response, "status")
    details = part(response, "status_details")
    if status == "failed":
        error = part(details, "error")
        answer.failed = code(part(error, "code")) or code(part(error, "type")) or "failed"
    elif status == "completed":
        answer.finish_reasons = ("stop",)
    elif (reason := text(part(details, "reason")) or text(status)) is not None:
        answer.finish_reasons = (reason,)
    _read_tokens(answer, part(response, "usage"))


def read_transcription(answer: Answer, event: Any) -> None:
    """Read the end of an input transcription, billed by tokens or by seconds of audio."""
    answer.finished = True
    error = part(event, "error")
    if error is not None:
        answer.failed = code(part(error, "code")) or code(part(error, "type")) or "failed"
    usage = part(event, "usage")
    given = part(usage, "seconds")
    if given is None:
        _read_tokens(answer, usage)
        return
    number = seconds(given)
    if number is None:
        answer.invalid = True
    else:
        answer.counts = {_SECONDS: number}


def read_decision(answer: Answer, decision: Any) -> None:
    """Read a decision that a live session had made."""
    answer.response_id = text(part(decision, "id"))
    answer.model = text(part(decision, "model"))
    answer.service_tier = text(part(decision, "service_tier"))
    answer.finished = True
    _read_tokens(answer, part(decision, "usage"))


def read_live(answer: Answer, event: Any) -> None:
    """Read ``session.closed``: the seconds of the whole session, now final."""
    usage = part(event, "usage")
    reason = text(part(event, "reason"))
    answer.finish_reasons = () if reason is None else (reason,)
    answer.finished = True
    counts = {name: number for field, name in _LIVE if (number := seconds(part(usage, field))) is not None}
    if _LIVE[0][1] in counts:
        answer.counts = counts
        answer.unconfirmed = None
    else:
        answer.invalid = part(usage, "seconds") is not None


def observe_live(answer: Answer, event: Any) -> None:
    """Read ``session.usage.updated``: cumulative, so the last one counts, and only the session's end confirms it."""
    number = seconds(part(part(event, "usage"), "seconds"))
    if number is not None:
        answer.unconfirmed = {_UNCONFIRMED: number}


def read_nothing(answer: Answer, event: Any) -> None:
    """Read the end of a session that reports no usage."""
    del event
    answer.finished = True


# -- Rows: the operations of each kind of socket ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Socket:
    """One kind of websocket.

    Args:
        session: what the session's own span is.
        response: a response within it.
        running: what the session is once the provider has begun to bill its time; ``None`` where it does not.
        unasked: the server starts responses by itself, when it hears the end of speech.
        joins: the argument of ``connect()`` that names a session which somebody else has opened.
    """

    session: Operation
    response: Operation
    running: Operation | None = None
    unasked: bool = False
    joins: str | None = None


def _session(name: str, path: str, kind: str = "realtime") -> Operation:
    return Operation(name, "GET", path, kind, read_nothing, billed=False)


def _live(name: str, joins: str | None = None) -> Socket:
    running = Operation(name, "GET", "/live", "realtime", read_live, observe_live)
    return Socket(_session(name, "/live"), LIVE_RESPONSE, running, joins=joins)


REALTIME: Final = Operation("realtime", "GET", "/realtime", "realtime", read_realtime)
TRANSCRIPTION: Final = Operation("realtime.transcription", "GET", "/realtime", "transcription", read_transcription)
TRANSLATIONS: Final = Operation("realtime.translations", "GET", "/realtime/translations", "realtime", read_nothing)
RESPONSES_SOCKET: Final = Operation(
    "responses.socket", "GET", "/responses", "chat", RESPONSES.read, api_type=RESPONSES.api_type
)
LIVE_RESPONSE: Final = Operation("live.response", "GET", "/live", "chat", RESPONSES.read, api_type=RESPONSES.api_type)
LIVE_DECISION: Final = Operation("live.decision", "GET", "/live", "decision", read_decision)

# By the last part of the SDK's module: `openai.resources.beta.realtime.realtime` and its stable twin are one row.
SOCKETS: Final = {
    "realtime": Socket(_session("realtime.session", "/realtime"), REALTIME, unasked=True, joins="call_id"),
    "translations": Socket(TRANSLATIONS, REALTIME),
    "responses": Socket(_session("responses.session", "/responses", "chat"), RESPONSES_SOCKET),
    "live": _live("live"),
    "forks": _live("live.fork"),
    "sideband": _live("live.sideband", joins="session_id"),
}


@functools.cache
def socket_of(name: str) -> Socket:
    """Return the row of a socket.

    Args:
        name: the last part of the SDK's module. Of one that is in no row, responses are read in either shape.
    """
    return SOCKETS.get(name) or Socket(
        _session(f"{name}.session", f"/{name}"),
        Operation(f"{name}.socket", "GET", f"/{name}", "realtime", read_realtime),
        unasked=True,
    )
