"""How much: what each reader makes of the shapes that providers report usage in."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest
from openai.types import CreateEmbeddingResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from openai_metering.readers import observe_chat, observe_response, read_chat, read_embeddings, read_response
from openai_metering.usage import MAX_COUNT, REASONS, Answer, count

INPUT, OUTPUT = "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"

CHAT = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-4o-2024-08-06",
    "service_tier": "default",
    "system_fingerprint": "fp_1",
    "choices": [
        {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Paris"}},
        {"index": 1, "finish_reason": "length", "message": {"role": "assistant", "content": "Pa"}},
    ],
    "usage": {
        "prompt_tokens": 100,
        "completion_tokens": 50,
        "total_tokens": 150,
        "prompt_tokens_details": {
            "cached_tokens": 40,
            "cache_write_tokens": 10,
            "audio_tokens": 20,
            "text_tokens": 50,
            "image_tokens": 30,
        },
        "completion_tokens_details": {
            "reasoning_tokens": 25,
            "audio_tokens": 5,
            "text_tokens": 20,
            "accepted_prediction_tokens": 3,
            "rejected_prediction_tokens": 2,
        },
    },
}
CHAT_COUNTS = {
    INPUT: 100,
    OUTPUT: 50,
    "gen_ai.usage.cache_read.input_tokens": 40,
    "gen_ai.usage.cache_write.input_tokens": 10,
    "gen_ai.usage.audio.input_tokens": 20,
    "gen_ai.usage.text.input_tokens": 50,
    "gen_ai.usage.image.input_tokens": 30,
    "gen_ai.usage.reasoning.output_tokens": 25,
    "gen_ai.usage.audio.output_tokens": 5,
    "gen_ai.usage.text.output_tokens": 20,
    "openai_metering.usage.accepted_prediction_tokens": 3,
    "openai_metering.usage.rejected_prediction_tokens": 2,
}
RESPONSE = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1,
    "model": "gpt-5",
    "status": "completed",
    "service_tier": "flex",
    "output": [],
    "usage": {
        "input_tokens": 9,
        "input_tokens_details": {"cached_tokens": 4},
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 14,
    },
}
RESPONSE_COUNTS = {
    INPUT: 9,
    OUTPUT: 5,
    "gen_ai.usage.cache_read.input_tokens": 4,
    "gen_ai.usage.reasoning.output_tokens": 2,
}
EMBEDDINGS = {
    "object": "list",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}],
    "model": "text-embedding-3-small",
    "usage": {"prompt_tokens": 8, "total_tokens": 8},
}


def chunk(*choices: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "gpt-4o-2024-08-06",
        "choices": list(choices),
        **fields,
    }


def said(text: str, finish_reason: str | None = None) -> dict[str, Any]:
    return {"index": 0, "delta": {"content": text}, "finish_reason": finish_reason}


AZURE_FIRST = chunk(id="", model="", prompt_filter_results=[{"prompt_index": 0}])
STREAM = [
    AZURE_FIRST,
    chunk(said("Pa"), service_tier="default", system_fingerprint="fp_1"),
    chunk(said("ris", "stop")),
    chunk(usage=CHAT["usage"]),
]


def read(reader, *bodies: Any) -> Answer:
    answer = Answer()
    for body in bodies:
        reader(answer, body)
    return answer


def as_models(model: Any, *bodies: dict[str, Any]) -> list[Any]:
    return [model.construct(**body) for body in bodies]


HAS_RESPONSES = importlib.util.find_spec("openai.types.responses") is not None
RESPONSE_FORMS = ["dict", *(["constructed"] if HAS_RESPONSES else [])]


def response_model() -> Any:
    """The SDK's type, from 1.66 on."""
    from openai.types.responses import Response

    return Response


# -- Whole answers, as SDK models and as plain dictionaries ----------------------------------------------------------


@pytest.mark.parametrize("form", ["dict", "validated", "constructed"])
def test_a_chat_completion_is_read_in_every_form(form):
    """The SDK's models, validated or not, and parsed JSON give the same answer."""
    body: Any = {
        "dict": lambda: CHAT,
        "validated": lambda: ChatCompletion.model_validate(CHAT),
        "constructed": lambda: ChatCompletion.construct(**CHAT),
    }[form]()
    assert read(read_chat, body) == Answer(
        counts=CHAT_COUNTS,
        response_id="chatcmpl-1",
        model="gpt-4o-2024-08-06",
        service_tier="default",
        fingerprint="fp_1",
        finish_reasons=("stop", "length"),
        finished=True,
    )


@pytest.mark.parametrize("form", RESPONSE_FORMS)
def test_a_response_is_read_in_every_form(form):
    """A model of the Responses API and parsed JSON give the same answer."""
    body: Any = RESPONSE if form == "dict" else response_model().construct(**RESPONSE)
    assert read(read_response, body) == Answer(
        counts=RESPONSE_COUNTS,
        response_id="resp_1",
        model="gpt-5",
        service_tier="flex",
        finish_reasons=("stop",),
        finished=True,
    )


@pytest.mark.parametrize("form", ["dict", "validated"])
def test_embeddings_are_read_in_every_form(form):
    """Embeddings have input only."""
    body: Any = EMBEDDINGS if form == "dict" else CreateEmbeddingResponse.model_validate(EMBEDDINGS)
    assert read(read_embeddings, body) == Answer(counts={INPUT: 8}, model="text-embedding-3-small", finished=True)


@pytest.mark.parametrize("form", ["dict", "constructed"])
def test_a_chat_stream_is_read_in_every_form(form):
    """Chunks as the SDK's models and as parsed JSON give the same answer, Azure's empty first chunk included."""
    chunks = STREAM if form == "dict" else as_models(ChatCompletionChunk, *STREAM)
    assert read(observe_chat, *chunks) == Answer(
        counts=CHAT_COUNTS,
        response_id="chatcmpl-1",
        model="gpt-4o-2024-08-06",
        service_tier="default",
        fingerprint="fp_1",
        finish_reasons=("stop",),
        finished=True,
        unfinished=True,
    )


# -- Odd values ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (0, 0),
        (7, 7),
        (MAX_COUNT, MAX_COUNT),
        (MAX_COUNT + 1, None),
        (-1, None),
        (7.0, 7),
        (7.5, None),
        (-0.0, 0),
        (float("nan"), None),
        (float("inf"), None),
        (1e300, None),
        (float(2**63), None),
        ("7", 7),
        (str(MAX_COUNT), MAX_COUNT),
        (str(MAX_COUNT + 1), None),
        ("7.0", None),
        ("-7", None),
        ("", None),
        ("seven", None),
        ("\u0667", None),
        ("9" * 5000, None),
        (True, None),
        (None, None),
        ([], None),
        ({}, None),
    ],
    ids=lambda value: str(value)[:24],
)
def test_only_whole_numbers_that_fit_are_counts(value, number):
    """Text and floats that compatible servers send are read; what no bill may rest on is not guessed at."""
    assert count(value) == number
    assert type(count(value)) is type(number)


@pytest.mark.parametrize(
    ("reader", "total"),
    [(read_chat, "prompt_tokens"), (read_response, "input_tokens"), (read_embeddings, "prompt_tokens")],
)
@pytest.mark.parametrize("bad", [-1, 1.5, True, "x", 2**63, [], {}], ids=str)
def test_a_total_that_is_no_count_makes_the_usage_invalid(reader, total, bad):
    """A broken total is unknown usage, never a partial bill."""
    answer = read(reader, {"usage": {total: bad, "completion_tokens": 5, "output_tokens": 5}})
    assert (answer.counts, answer.invalid) == (None, True)


@pytest.mark.parametrize("bad", [-1, 1.5, True, "x", 2**63, [], None], ids=str)
def test_a_detail_that_is_no_count_is_left_out(bad):
    """A broken detail costs only itself: the totals are what is billed."""
    usage = {
        "prompt_tokens": 3,
        "completion_tokens": 2,
        "prompt_tokens_details": {"cached_tokens": bad, "audio_tokens": 1},
    }
    answer = read(read_chat, {"usage": usage})
    assert answer.counts == {INPUT: 3, OUTPUT: 2, "gen_ai.usage.audio.input_tokens": 1}


@pytest.mark.parametrize("details", [None, {}, [], 7, "x"], ids=str)
def test_details_of_a_wrong_shape_are_left_out(details):
    """`null` details, as many servers send them, are no error."""
    usage = {"prompt_tokens": 3, "prompt_tokens_details": details, "completion_tokens_details": details}
    assert read(read_chat, {"usage": usage}).counts == {INPUT: 3}


@pytest.mark.parametrize("reader", [read_chat, observe_chat, read_response, read_embeddings])
@pytest.mark.parametrize(
    ("body", "invalid"),
    [
        ({}, False),
        ({"usage": None}, False),
        ({"usage": {}}, False),
        ({"usage": {"prompt_tokens": None, "input_tokens": None}}, False),
        ({"usage": 7}, True),
        ({"usage": "much"}, True),
        ({"usage": []}, True),
        ({"usage": {"tokens": 7}}, True),
    ],
    ids=str,
)
def test_missing_usage_is_told_from_usage_that_cannot_be_read(reader, body, invalid):
    """Nothing said is `not_sent`, nonsense is `invalid`; neither is zero."""
    answer = read(reader, body)
    assert (answer.counts, answer.invalid) == (None, invalid)


@pytest.mark.parametrize("reader", [read_chat, observe_chat, read_response, observe_response, read_embeddings])
@pytest.mark.parametrize(
    "body", [None, 7, "text", [], [{}], {"choices": 7, "error": 7}, {"choices": [None, 7]}], ids=str
)
def test_a_body_of_a_wrong_shape_says_nothing(reader, body):
    """An answer that is no answer is read without an error and without a count."""
    assert read(reader, body).counts is None


def test_zero_is_a_count():
    """An answer without output was reported as such; that is not the same as unknown."""
    assert read(read_chat, {"usage": {"prompt_tokens": 0, "completion_tokens": 0}}).counts == {INPUT: 0, OUTPUT: 0}


@pytest.mark.parametrize("name", ["id", "model", "service_tier", "system_fingerprint"])
@pytest.mark.parametrize("value", [7, "", "x" * 257, ["a"], None], ids=lambda value: str(value)[:8])
def test_an_odd_name_is_left_out(name, value):
    """Names of wrong type or size do not get into the telemetry."""
    answer = read(read_chat, {name: value})
    assert (answer.response_id, answer.model, answer.service_tier, answer.fingerprint) == (None,) * 4


# -- Streams ---------------------------------------------------------------------------------------------------------


def test_the_last_total_of_a_stream_counts():
    """Servers that repeat running totals on every chunk are not added up."""
    totals = [{"prompt_tokens": 11, "completion_tokens": done} for done in (1, 2, 3)]
    answer = read(observe_chat, *(chunk(said("x"), usage=usage) for usage in totals))
    assert answer.counts == {INPUT: 11, OUTPUT: 3}


def test_a_null_usage_does_not_erase_an_earlier_total():
    """`"usage": null` on a later chunk says nothing."""
    answer = read(observe_chat, chunk(usage={"prompt_tokens": 1}), chunk(said("x"), usage=None))
    assert answer.counts == {INPUT: 1}


def test_groqs_usage_is_found():
    """Groq puts the usage of a stream under `x_groq`."""
    last = chunk(said("", "stop"), x_groq={"id": "req_1", "usage": {"prompt_tokens": 4, "completion_tokens": 2}})
    assert read(observe_chat, last).counts == {INPUT: 4, OUTPUT: 2}
    assert read(observe_chat, *as_models(ChatCompletionChunk, last)).counts == {INPUT: 4, OUTPUT: 2}


def test_groqs_first_chunk_has_no_usage():
    """`x_groq` without usage is no broken usage."""
    answer = read(observe_chat, chunk(said(""), x_groq={"id": "req_1"}))
    assert (answer.counts, answer.invalid) == (None, False)


def test_a_stream_without_a_finish_reason_is_not_finished():
    """A stream that breaks off can be told from one that ended."""
    answer = read(observe_chat, chunk(said("Pa")))
    assert (answer.unfinished, answer.finished) == (True, False)
    assert read(observe_chat, chunk(said("Pa", "stop"))).finished


def test_the_finish_reason_of_every_choice_is_kept():
    """A stream of several choices ends once for each."""
    chunks = [chunk({**said("a", "stop"), "index": 0}), chunk({**said("b", "length"), "index": 1})]
    assert read(observe_chat, *chunks).finish_reasons == ("stop", "length")


def event(kind: str, **response: Any) -> dict[str, Any]:
    return {"type": kind, "sequence_number": 1, "response": {**RESPONSE, **response}}


CREATED = event("response.created", status="in_progress", usage=None)


@pytest.mark.parametrize(
    ("last", "reasons", "failed"),
    [
        (event("response.completed"), ("stop",), None),
        (
            event("response.incomplete", status="incomplete", incomplete_details={"reason": "max_output_tokens"}),
            ("max_output_tokens",),
            None,
        ),
        (event("response.incomplete", status="incomplete", incomplete_details=None), ("incomplete",), None),
        (event("response.failed", status="failed", error={"code": "server_error"}), (), "server_error"),
        (event("response.failed", status="failed", error=None), (), "failed"),
        (event("response.cancelled", status="cancelled"), (), None),
    ],
    ids=lambda value: value.get("type") if isinstance(value, dict) else None,
)
def test_the_terminal_event_of_a_responses_stream_carries_the_usage(last, reasons, failed):
    """Completed, incomplete, failed or cancelled: what was consumed until then is billed."""
    answer = read(observe_response, CREATED, {"type": "response.output_text.delta", "delta": "Pa"}, last)
    assert (answer.counts, answer.finish_reasons, answer.failed) == (RESPONSE_COUNTS, reasons, failed)
    assert (answer.finished, answer.deferred) == (True, False)
    assert (answer.response_id, answer.model, answer.service_tier) == ("resp_1", "gpt-5", "flex")


def test_a_responses_stream_that_only_began_is_not_finished():
    """The first event says who answers, not how much."""
    answer = read(observe_response, CREATED)
    assert (answer.unfinished, answer.finished, answer.deferred, answer.counts) == (True, False, False, None)
    assert answer.response_id == "resp_1"


@pytest.mark.parametrize(
    ("code", "failed"), [("rate_limit_exceeded", "rate_limit_exceeded"), (None, "error"), (7, "error")]
)
def test_an_error_event_of_a_responses_stream_is_a_failure(code, failed):
    """The code is kept, never the message."""
    assert read(observe_response, CREATED, {"type": "error", "code": code, "message": "secret"}).failed == failed


@pytest.mark.parametrize("kind", [[], {}, ["response.completed"], 7, None], ids=str)
def test_an_event_whose_type_is_no_text_says_nothing(kind):
    """Any JSON can stand where a type belongs."""
    assert read(observe_response, {"type": kind}) == Answer()


@pytest.mark.parametrize("status", ["queued", "in_progress"])
def test_a_background_response_is_deferred(status):
    """Its usage comes later and is not missing."""
    answer = read(read_response, {**RESPONSE, "status": status, "usage": None})
    assert (answer.deferred, answer.finished, answer.counts) == (True, False, None)


def test_a_failed_response_says_so():
    """An error within an answer is a failure by its code."""
    assert read(read_response, {"status": "failed", "error": {"code": "server_error"}}).failed == "server_error"


def test_every_reason_is_explained():
    """The closed set is a table that documentation can be made of."""
    assert all(reason.isidentifier() and text for reason, text in REASONS.items())
