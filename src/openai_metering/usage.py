"""How much: what a provider's answer says was consumed, in every shape that is reported."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    Number = int | float

REPORTED: Final = "reported"
ESTIMATED: Final = "estimated"
UNKNOWN: Final = "unknown"
NOT_BILLED: Final = "not_billed"

REASONS: Final = {
    "not_sent": "the answer is complete and carries no usage",
    "invalid": "the answer carries usage that is not made of whole numbers",
    "closed_before_usage": "the caller left the stream before its usage was sent",
    "not_read": "the caller never read the answer's body",
    "not_observed": "the caller read the raw bytes, which are not decoded here",
    "cancelled": "the caller's task or thread was cancelled",
    "timeout": "no answer came in time",
    "connection": "the connection failed before an answer came",
    "cut": "the answer broke off",
    "failed": "the provider reported an error within its answer",
    "deferred": "the work goes on in the background and its usage comes later",
    "body_too_large": "the body is larger than what is kept for reading",
    "refused": "the provider refused the call",
    "internal": "the answer could not be observed",
}
"""The closed set of reasons why a call has no reported usage."""

MAX_COUNT: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Usage:
    """What one call consumed, and how sure that is.

    Args:
        status: ``reported``, ``estimated``, ``unknown`` or ``not_billed``.
        reason: one of ``REASONS`` where the status is not ``reported``.
        counts: numbers by attribute name, e.g. ``gen_ai.usage.input_tokens``; whole ones, but for seconds. Totals are
            inclusive: cached tokens are part of the input, reasoning tokens part of the output.
    """

    status: str
    reason: str | None = None
    counts: Mapping[str, Number] = field(default_factory=dict)


@dataclass(slots=True)
class Answer:
    """What an answer has said so far; readers fill it in, from one body or from chunk after chunk."""

    counts: dict[str, Number] | None = None
    invalid: bool = False
    response_id: str | None = None
    model: str | None = None
    service_tier: str | None = None
    fingerprint: str | None = None
    finish_reasons: tuple[str, ...] = ()
    finished: bool = False
    """The provider said that it is done: a finish reason, or a terminal event."""
    unfinished: bool = False
    """A streamed answer has begun; where nothing says that it finished either, it was cut."""
    failed: str | None = None
    """The code of an error that the provider reported within its answer."""
    unconfirmed: dict[str, Number] | None = None
    """Running totals that become usage only when the provider confirms them at the end."""
    deferred: bool = False


def part(source: Any, name: str) -> Any:
    """Return a field of an SDK model or of a mapping, ``None`` where it has none.

    Reads the instance's own dictionaries: a missing name takes pydantic's exception path otherwise, a third of the
    instructions of a metered call.
    """
    if type(source) is dict:
        return source.get(name)
    fields = getattr(source, "__dict__", None)
    if fields is None:
        return None
    value = fields.get(name)
    if value is None and name not in fields:
        extra = getattr(source, "__pydantic_extra__", None)
        if extra:
            return extra.get(name)
    return value


def text(value: Any) -> str | None:
    """The value where it is a text of sane length, else nothing."""
    return value if type(value) is str and 0 < len(value) <= 256 else None  # noqa: PLR2004


def count(value: Any) -> int | None:
    """The value as a count where it is one: a whole number from 0 to 2^63-1, also written as text or as a float.

    Compatible servers send all three; anything else is no number that a bill may rest on.
    """
    if type(value) is int:
        return value if 0 <= value <= MAX_COUNT else None
    if type(value) is float:
        return int(value) if value.is_integer() and 0 <= value <= MAX_COUNT else None
    if type(value) is str and value.isascii() and value.isdigit() and len(value) < 20:  # noqa: PLR2004
        return count(int(value))
    return None


# -- Rows: where a provider writes a count, and the name it gets -----------------------------------------------------


@dataclass(frozen=True, slots=True)
class Shape:
    """One shape of a usage object: the counts at its top, and those inside its details objects."""

    totals: tuple[tuple[str, str], ...]
    details: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = ()


_INPUT_DETAILS: Final = (
    ("cached_tokens", "gen_ai.usage.cache_read.input_tokens"),
    ("cache_write_tokens", "gen_ai.usage.cache_write.input_tokens"),
    ("text_tokens", "gen_ai.usage.text.input_tokens"),
    ("image_tokens", "gen_ai.usage.image.input_tokens"),
    ("audio_tokens", "gen_ai.usage.audio.input_tokens"),
)
_OUTPUT_DETAILS: Final = (
    ("reasoning_tokens", "gen_ai.usage.reasoning.output_tokens"),
    ("text_tokens", "gen_ai.usage.text.output_tokens"),
    ("audio_tokens", "gen_ai.usage.audio.output_tokens"),
    ("accepted_prediction_tokens", "openai_metering.usage.accepted_prediction_tokens"),
    ("rejected_prediction_tokens", "openai_metering.usage.rejected_prediction_tokens"),
)

CHAT_USAGE: Final = Shape(
    totals=(
        ("prompt_tokens", "gen_ai.usage.input_tokens"),
        ("completion_tokens", "gen_ai.usage.output_tokens"),
    ),
    details=(
        ("prompt_tokens_details", _INPUT_DETAILS),
        ("completion_tokens_details", _OUTPUT_DETAILS),
    ),
)
RESPONSES_USAGE: Final = Shape(
    totals=(
        ("input_tokens", "gen_ai.usage.input_tokens"),
        ("output_tokens", "gen_ai.usage.output_tokens"),
    ),
    details=(
        ("input_tokens_details", _INPUT_DETAILS),
        ("output_tokens_details", _OUTPUT_DETAILS),
    ),
)
EMBEDDINGS_USAGE: Final = Shape(totals=(("prompt_tokens", "gen_ai.usage.input_tokens"),))


def read_usage(answer: Answer, usage: Any, shape: Shape) -> None:
    """Read a usage object into the answer; the last one read counts.

    A total that is there but is no count makes the whole object invalid; a detail that is none is left out.
    """
    if usage is None:
        return
    counts: dict[str, Number] = {}
    for name, attribute in shape.totals:
        value = part(usage, name)
        if value is None:
            continue
        number = count(value)
        if number is None:
            answer.invalid = True
            answer.counts = None
            return
        counts[attribute] = number
    if not counts:
        if not _is_empty(usage):
            answer.invalid = True
            answer.counts = None
        return
    for name, rows in shape.details:
        details = part(usage, name)
        if details is not None:
            _read_details(counts, details, rows)
    answer.counts = counts
    answer.invalid = False


def _read_details(counts: dict[str, Number], details: Any, rows: Iterable[tuple[str, str]]) -> None:
    for name, attribute in rows:
        value = part(details, name)
        if value is not None:
            number = count(value)
            if number is not None:
                counts[attribute] = number


def _is_empty(usage: Any) -> bool:
    """Whether a usage object says nothing at all, as ``{}`` does."""
    fields = usage if type(usage) is dict else getattr(usage, "__dict__", None)
    return fields is not None and all(value is None for value in fields.values())


# -- Readers: one for each kind of answer ----------------------------------------------------------------------------


def read_chat(answer: Answer, body: Any) -> None:
    """Read a chat completion."""
    _read_head(answer, body)
    choices = part(body, "choices")
    if isinstance(choices, (list, tuple)):
        answer.finish_reasons = tuple(reason for choice in choices if (reason := text(part(choice, "finish_reason"))))
    answer.finished = True
    _read_chat_usage(answer, body)


def observe_chat(answer: Answer, chunk: Any) -> None:
    """Read one chunk of a streamed chat completion."""
    if answer.model is None:
        # Azure opens with a chunk whose id and model are empty: the first that has one counts.
        _read_head(answer, chunk)
    choices = part(chunk, "choices")
    if type(choices) is list and choices:
        answer.unfinished = True
        for choice in choices:
            reason = part(choice, "finish_reason")
            if reason is not None and (reason := text(reason)) is not None:
                answer.finish_reasons = (*answer.finish_reasons, reason)[:128]
                answer.finished = True
    usage = part(chunk, "usage")
    if usage is not None or part(chunk, "x_groq") is not None:
        _read_chat_usage(answer, chunk)
        answer.service_tier = text(part(chunk, "service_tier")) or answer.service_tier


def _read_chat_usage(answer: Answer, body: Any) -> None:
    usage = part(body, "usage")
    if usage is None:
        usage = part(part(body, "x_groq"), "usage")
    read_usage(answer, usage, CHAT_USAGE)


def read_response(answer: Answer, body: Any) -> None:
    """Read an object of the Responses API."""
    _read_head(answer, body)
    status = part(body, "status")
    if status in ("queued", "in_progress"):
        answer.deferred = True
    else:
        answer.finished = True
    if status == "failed":
        answer.failed = text(part(part(body, "error"), "code")) or "failed"
    elif status == "incomplete":
        answer.finish_reasons = (text(part(part(body, "incomplete_details"), "reason")) or "incomplete",)
    elif status == "completed":
        answer.finish_reasons = ("stop",)
    read_usage(answer, part(body, "usage"), RESPONSES_USAGE)


_RESPONSE_END: Final = frozenset({"response.completed", "response.incomplete", "response.failed", "response.cancelled"})
_RESPONSE_HEAD: Final = frozenset({"response.created", "response.queued"})


def observe_response(answer: Answer, event: Any) -> None:
    """Read one event of a Responses stream; usage sits inside the terminal one."""
    kind = part(event, "type")
    if kind is None and (inner := part(event, "data")) is not None:  # how openai 1.66 hands on an `error` event
        event, kind = inner, part(inner, "type")
    if type(kind) is not str:
        return
    if kind in _RESPONSE_END:
        read_response(answer, part(event, "response"))
        answer.deferred = False
        answer.finished = True
    elif kind in _RESPONSE_HEAD:
        answer.unfinished = True
        _read_head(answer, part(event, "response"))
    elif kind == "error":
        answer.failed = text(part(event, "code")) or "error"


def read_embeddings(answer: Answer, body: Any) -> None:
    """Read a list of embeddings."""
    answer.model = text(part(body, "model"))
    answer.finished = True
    read_usage(answer, part(body, "usage"), EMBEDDINGS_USAGE)


def _read_head(answer: Answer, body: Any) -> None:
    answer.response_id = text(part(body, "id")) or answer.response_id
    answer.model = text(part(body, "model")) or answer.model
    answer.service_tier = text(part(body, "service_tier")) or answer.service_tier
    answer.fingerprint = text(part(body, "system_fingerprint")) or answer.fingerprint
