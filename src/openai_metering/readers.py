"""What an answer says: one reader for each kind of answer, and one for the events of each kind of stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from openai_metering.shapes import (
    AUDIO_USAGE,
    CHAT_USAGE,
    EMBEDDINGS_USAGE,
    RESPONSES_USAGE,
    SVG_USAGE,
    TOOL_USAGE,
)
from openai_metering.usage import (
    Answer,
    add_counts,
    amount,
    code,
    count,
    keep_raw,
    part,
    read_beside,
    read_usage,
    text,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from openai_metering.usage import Number

IMAGES: Final = "openai_metering.usage.images"
SECONDS: Final = "openai_metering.usage.seconds"
CHARACTERS: Final = "openai_metering.usage.characters"
SEARCHES: Final = "openai_metering.usage.searches"
CONTAINERS: Final = "openai_metering.usage.containers"
CODE_INTERPRETER_SESSIONS: Final = "openai_metering.usage.code_interpreter_sessions"
BATCH_REQUESTS: Final = "openai_metering.usage.batch_requests"
TRAINED_TOKENS: Final = "openai_metering.usage.trained_tokens"
GRADER_TOKENS: Final = "openai_metering.usage.grader_tokens"
SVG_MODEL: Final = "openai_metering.usage.svg_model"

LAST_SECOND: Final = 2**63 // 10**9 - 1
"""The last second since the epoch whose nanoseconds OTLP can tell."""

IMAGE_FACTS: Final = (("size", "openai_metering.image.size"), ("quality", "openai_metering.image.quality"))
VIDEO_FACTS: Final = (("size", "openai_metering.video.size"),)
"""What decides about the price of an image or a video beside its usage; in requests, and again in answers."""


# -- Chat and completions --------------------------------------------------------------------------------------------


def read_chat(answer: Answer, body: Any) -> None:
    """Read a chat completion, or a legacy completion."""
    read_head(answer, body)
    choices = part(body, "choices")
    if isinstance(choices, (list, tuple)):
        answer.finish_reasons = tuple(reason for choice in choices if (reason := text(part(choice, "finish_reason"))))
    answer.finished = True
    _read_chat_usage(answer, body)


def observe_chat(answer: Answer, chunk: Any) -> None:
    """Read one chunk of a streamed completion."""
    if answer.model is None:
        # Azure opens with a chunk whose id and model are empty: the first that has one counts.
        read_head(answer, chunk)
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


# -- Responses -------------------------------------------------------------------------------------------------------


def read_response(answer: Answer, body: Any) -> None:
    """Read an object of the Responses API."""
    read_head(answer, body)
    status = text(part(body, "status"))
    if status in ("queued", "in_progress") and (part(body, "usage") is None or part(body, "background") is True):
        answer.deferred = True
        answer.job = answer.response_id
    elif status in RESPONSE_ENDED or (status is None and part(body, "usage") is not None):
        answer.finished = True
    if part(body, "background") is True:
        answer.job = answer.response_id
        answer.cancelled = status == "cancelled"
        read_times(answer, body)
    if status == "failed":
        answer.failed = error_code(part(body, "error")) or "failed"
    elif status == "incomplete":
        answer.finish_reasons = (text(part(part(body, "incomplete_details"), "reason")) or "incomplete",)
    elif status == "completed":
        answer.finish_reasons = ("stop",)
    read_response_usage(answer, body)


RESPONSE_ENDED: Final = frozenset({"completed", "incomplete", "failed", "cancelled"})


def read_response_usage(answer: Answer, body: Any) -> None:
    """Read what a response and the tools within it used."""
    read_usage(answer, part(body, "usage"), RESPONSES_USAGE)
    read_beside(answer, part(body, "tool_usage"), TOOL_USAGE)
    output = part(body, "output")
    if isinstance(output, (list, tuple)):
        sessions = set()
        for item in output:
            kind = part(item, "type")
            if kind == "image_generation_call":
                _read_svg(answer, item)
            elif kind == "code_interpreter_call":
                sessions.add(text(part(item, "container_id")))
        if sessions and answer.counts is not None:
            # A session is billed for each container; whether it was begun by an earlier response is not said.
            add_counts(answer, {CODE_INTERPRETER_SESSIONS: len(sessions)})


RESPONSE_END: Final = frozenset({"response.completed", "response.incomplete", "response.failed", "response.cancelled"})
RESPONSE_HEAD: Final = frozenset({"response.created", "response.queued"})


def observe_response(answer: Answer, event: Any) -> None:
    """Read one event of a Responses stream; usage sits inside the terminal one."""
    kind = kind_of(event)
    if kind is None and (inner := part(event, "data")) is not None:  # how openai 1.66 hands on an `error` event
        event, kind = inner, kind_of(inner)
    if kind in RESPONSE_END:
        read_response(answer, part(event, "response"))
        answer.deferred = False
        answer.finished = answer.terminal = True
    elif kind in RESPONSE_HEAD:
        answer.unfinished = True
        response = part(event, "response")
        read_head(answer, response)
        if part(response, "background") is True:
            answer.job = answer.response_id
    elif kind == "error":
        answer.failed = code(part(event, "code")) or "error"


# -- Embeddings, decisions -------------------------------------------------------------------------------------------


def read_embeddings(answer: Answer, body: Any) -> None:
    """Read a list of embeddings."""
    answer.model = text(part(body, "model"))
    answer.finished = True
    read_usage(answer, part(body, "usage"), EMBEDDINGS_USAGE)


def read_decision(answer: Answer, body: Any) -> None:
    """Read a decision."""
    read_head(answer, body)
    answer.finished = True
    read_usage(answer, part(body, "usage"), RESPONSES_USAGE)


# -- Images ----------------------------------------------------------------------------------------------------------


def read_images(answer: Answer, body: Any) -> None:
    """Read generated images: the tokens of the models that have them, and how many there are."""
    read_head(answer, body)
    answer.finished = True
    read_usage(answer, part(body, "usage"), RESPONSES_USAGE)
    images = part(body, "data")
    if isinstance(images, (list, tuple)) and not answer.invalid:
        add_counts(answer, {IMAGES: len(images)})
    _read_svg(answer, body)
    read_facts(answer, body, IMAGE_FACTS)


IMAGE_END: Final = frozenset({"image_generation.completed", "image_edit.completed"})


def observe_image(answer: Answer, event: Any) -> None:
    """Read one event of a stream of images; each that is completed has its own usage."""
    kind = kind_of(event)
    if kind in IMAGE_END:
        answer.finished = True
        images = (answer.counts or {}).get(IMAGES, 0)
        read_usage(answer, part(event, "usage"), RESPONSES_USAGE, add=images > 0)
        if not answer.invalid:
            add_counts(answer, {IMAGES: 1})
        _read_svg(answer, event)
        read_facts(answer, event, IMAGE_FACTS)
    elif kind == "error":
        answer.failed = error_code(part(event, "error")) or "error"
    else:
        answer.unfinished = True


# -- Audio -----------------------------------------------------------------------------------------------------------


def read_sound(answer: Answer, body: Any) -> None:
    """Speech is bytes that say nothing; what it costs follows from the request."""
    del body
    answer.finished = True


SPEECH_END: Final = frozenset({"speech.audio.done"})


def observe_speech(answer: Answer, event: Any) -> None:
    """Read one event of speech that is sent as events."""
    if kind_of(event) in SPEECH_END:
        answer.finished = True
        read_usage(answer, part(event, "usage"), AUDIO_USAGE)


def read_transcript(answer: Answer, body: Any) -> None:
    """Read a transcription or translation: tokens, or seconds; the formats that are plain text say nothing."""
    answer.finished = True
    read_usage(answer, part(body, "usage"), AUDIO_USAGE)
    seconds = amount(part(body, "duration"))
    if answer.counts is None and seconds is not None:
        answer.counts = {SECONDS: seconds}


TRANSCRIPT_END: Final = frozenset({"transcript.text.done"})


def observe_transcript(answer: Answer, event: Any) -> None:
    """Read one event of a streamed transcription."""
    if kind_of(event) in TRANSCRIPT_END:
        answer.finished = answer.terminal = True
        read_usage(answer, part(event, "usage"), AUDIO_USAGE)
    else:
        answer.unfinished = True


# -- Others ----------------------------------------------------------------------------------------------------------

_PER_MODEL: Final = "model_grader_token_usage_per_model"


def read_grader(answer: Answer, body: Any) -> None:
    """Read what running a grader used."""
    answer.finished = True
    metadata = part(body, "metadata")
    answer.model = text(part(metadata, "sampled_model_name")) or answer.model
    tokens = count(part(metadata, "token_usage"))
    if tokens is not None:
        answer.counts = {GRADER_TOKENS: tokens}
    by_model = part(body, _PER_MODEL) or part(body, f"api_{_PER_MODEL}")  # the SDK's own name for it
    if by_model:
        keep_raw(answer, {_PER_MODEL: by_model})


def read_nothing(answer: Answer, body: Any) -> None:
    """Read an answer that says who answers, but never how much."""
    read_head(answer, body)
    answer.finished = True


# -- What a request says, where answers say nothing ------------------------------------------------------------------


def requested_characters(body: Mapping[str, Any]) -> dict[str, Number]:
    """The characters that are to be spoken."""
    given = body.get("input")
    return {CHARACTERS: len(given)} if isinstance(given, str) else {}


def requested_searches(body: Mapping[str, Any]) -> dict[str, Number]:
    """The queries of a search."""
    given = body.get("query")
    return {SEARCHES: len(given) if isinstance(given, (list, tuple)) else 1}


def requested_container(body: Mapping[str, Any]) -> dict[str, Number]:
    """One container."""
    del body
    return {CONTAINERS: 1}


# -- Shared ----------------------------------------------------------------------------------------------------------


_ENDS: Final = ("completed_at", "finished_at", "failed_at", "cancelled_at", "expired_at")


def read_times(answer: Answer, body: Any) -> None:
    """Read when work was ordered and when it ended, by the provider's clock; it counts seconds."""
    answer.began = _nanoseconds(part(body, "created_at"))
    answer.ended = next((found for name in _ENDS if (found := _nanoseconds(part(body, name))) is not None), None)


def _nanoseconds(seconds: Any) -> int | None:
    found = amount(seconds)
    return int(found * 1_000_000_000) if found and found <= LAST_SECOND else None


def kind_of(event: Any) -> str | None:
    """The type of an event; any JSON can stand in its place."""
    return text(part(event, "type"))


def error_code(error: Any) -> str | None:
    """The code of an error that is part of an answer."""
    return code(part(error, "code"))


def read_head(answer: Answer, body: Any) -> None:
    """Read which answer it is, and who gave it."""
    answer.response_id = text(part(body, "id")) or answer.response_id
    answer.model = text(part(body, "model")) or answer.model
    answer.service_tier = text(part(body, "service_tier")) or answer.service_tier
    answer.fingerprint = text(part(body, "system_fingerprint")) or answer.fingerprint


def read_facts(answer: Answer, body: Any, rows: tuple[tuple[str, str], ...]) -> None:
    """Read what decides about a price beside usage, by rows of field and attribute."""
    found = dict(_facts(body, rows))
    if found:
        answer.facts = {**(answer.facts or {}), **found}


def _facts(body: Any, rows: tuple[tuple[str, str], ...]) -> Iterator[tuple[str, str]]:
    for name, attribute in rows:
        value = text(part(body, name))
        if value is not None:
            yield attribute, value


def _read_svg(answer: Answer, holder: Any) -> None:
    usage = part(holder, "svg_usage")
    if usage is None:
        return
    read_beside(answer, usage, SVG_USAGE)
    model = text(part(usage, "model"))
    if model is not None:
        answer.facts = {**(answer.facts or {}), SVG_MODEL: model}
