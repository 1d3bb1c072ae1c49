"""How much: the shapes beyond chat, responses and embeddings."""

from __future__ import annotations

import json
from typing import Any

import pytest

from openai_metering import readers as r
from openai_metering.usage import MAX_RAW, Answer, amount

GEN, OWN = "gen_ai.usage.", "openai_metering.usage."
USAGE = {"input_tokens": 9, "output_tokens": 5, "total_tokens": 14}
COUNTS = {GEN + "input_tokens": 9, GEN + "output_tokens": 5}
SVG = {"model": "gpt-svg", "input_tokens": 3, "output_tokens": 2, "reasoning_tokens": 1, "total_tokens": 5}
SVG_COUNTS = {OWN + "svg_input_tokens": 3, OWN + "svg_output_tokens": 2, OWN + "svg_reasoning_tokens": 1}


def read(reader: Any, *bodies: Any) -> Answer:
    answer = Answer()
    for body in bodies:
        reader(answer, body)
    return answer


def test_cache_writes_are_told_by_lifetime():
    """Each lifetime has a price of its own."""
    details = {"cache_write_tokens": 6, "cache_write_tokens_details": {"ttl_30m_tokens": 4, "ttl_12h_tokens": 2}}
    answer = read(r.read_response, {"usage": {**USAGE, "input_tokens_details": details}})
    assert answer.counts == {
        **COUNTS,
        GEN + "cache_write.input_tokens": 6,
        OWN + "cache_write_30m_tokens": 4,
        OWN + "cache_write_12h_tokens": 2,
    }


def test_sessions_of_the_code_interpreter_are_derived():
    """No field tells them: each container that the output shows is one; without usage nothing is counted."""
    calls = [{"type": "code_interpreter_call", "container_id": name} for name in ("a", "b", "a")]
    sessions = {OWN + "code_interpreter_sessions": 2}
    assert read(r.read_response, {"usage": USAGE, "output": calls}).counts == COUNTS | sessions
    assert read(r.read_response, {"usage": None, "output": calls}).counts is None


def test_cached_tokens_are_told_by_modality():
    """Sound from the cache is not priced as text from the cache."""
    details = {"cached_tokens": 6, "cached_tokens_details": {"text_tokens": 1, "image_tokens": 2, "audio_tokens": 3}}
    counts = read(r.read_response, {"usage": {**USAGE, "input_tokens_details": details}}).counts
    assert [counts[f"{GEN}{kind}.cache_read.input_tokens"] for kind in ("text", "image", "audio")] == [1, 2, 3]


def test_tools_that_were_used_are_counted_apart():
    """Searches and the image tool are outside of the tokens; a tool that was not used is left out."""
    image_gen = {
        "input_tokens": 4,
        "output_tokens": 100,
        "total_tokens": 104,
        "input_tokens_details": {"text_tokens": 4, "image_tokens": 0},
        "cached_tokens_details": {"cached_text_tokens": 1, "cached_image_tokens": None},
    }
    body = {"usage": USAGE, "tool_usage": {"web_search": {"num_requests": 2}, "image_gen": image_gen}}
    assert read(r.read_response, body).counts == {
        **COUNTS,
        OWN + "web_searches": 2,
        OWN + "image_gen_input_tokens": 4,
        OWN + "image_gen_output_tokens": 100,
        OWN + "image_gen_text_input_tokens": 4,
        OWN + "image_gen_cached_text_tokens": 1,
    }
    unused = {"web_search": {"num_requests": 0}, "image_gen": {"input_tokens": 0, "output_tokens": 0}}
    assert read(r.read_response, {"usage": USAGE, "tool_usage": unused}).counts == COUNTS


def test_declaring_a_tool_is_not_using_it():
    """Only what the provider says was used counts."""
    body = {"usage": USAGE, "tools": [{"type": "web_search"}], "output": [{"type": "web_search_call"}]}
    assert read(r.read_response, body).counts == COUNTS


def test_svg_is_counted_with_its_own_model():
    """On images, and on the items of a response, where several add up."""
    answer = read(r.read_images, {"usage": USAGE, "data": [{}], "svg_usage": SVG})
    assert answer.counts == {**COUNTS, OWN + "images": 1, **SVG_COUNTS}
    assert answer.facts == {OWN + "svg_model": "gpt-svg"}
    item = {"type": "image_generation_call", "svg_usage": SVG}
    twice = read(r.read_response, {"usage": USAGE, "output": [item, item, {"type": "message"}]}).counts
    assert twice == {**COUNTS, **{name: 2 * number for name, number in SVG_COUNTS.items()}}


def test_images_without_tokens_are_counted():
    """Older models are billed by the image."""
    assert read(r.read_images, {"data": [{}, {}]}).counts == {OWN + "images": 2}


def test_a_stream_of_images_adds_up():
    """Each completed image has its own usage, a partial one has none."""
    done = {"type": "image_generation.completed", "usage": USAGE, "size": "1x1", "quality": "low"}
    answer = read(r.observe_image, {"type": "image_generation.partial_image"}, done, done)
    assert answer.counts == {GEN + "input_tokens": 18, GEN + "output_tokens": 10, OWN + "images": 2}
    assert answer.facts == {"openai_metering.image.size": "1x1", "openai_metering.image.quality": "low"}
    assert (answer.finished, answer.terminal) == (True, False)


@pytest.mark.parametrize(
    ("body", "counts"),
    [
        ({"usage": {"type": "duration", "seconds": 2.5}}, {OWN + "seconds": 2.5}),
        ({"usage": {"type": "duration", "seconds": 3}, "duration": 2.9}, {OWN + "seconds": 3}),
        ({"duration": 8.47}, {OWN + "seconds": 8.47}),
        ({"duration": "8.47"}, {OWN + "seconds": 8.47}),
        ({"duration": "long"}, None),
        ({"text": "x"}, None),
        ("WEBVTT", None),
        (
            {"usage": {"type": "tokens", **USAGE, "input_token_details": {"audio_tokens": 8, "text_tokens": 1}}},
            {**COUNTS, GEN + "audio.input_tokens": 8, GEN + "text.input_tokens": 1},
        ),
    ],
    ids=str,
)
def test_a_transcript_is_billed_by_tokens_or_seconds(body, counts):
    """Whichever of the two the provider says; neither is no zero."""
    assert read(r.read_transcript, body).counts == counts


def test_a_streamed_transcript_ends_with_its_usage():
    """Nothing that is billed comes after it."""
    answer = read(r.observe_transcript, {"type": "transcript.text.delta"})
    assert (answer.unfinished, answer.terminal) == (True, False)
    answer = read(r.observe_transcript, {"type": "transcript.text.done", "usage": {"type": "tokens", **USAGE}})
    assert (answer.counts, answer.terminal) == (COUNTS, True)


def test_a_grader_tells_its_tokens():
    """The split by model is kept as it is."""
    body = {"metadata": {"token_usage": 7}, "model_grader_token_usage_per_model": {"m": {"total_tokens": 7}}}
    answer = read(r.read_grader, body)
    assert answer.counts == {OWN + "grader_tokens": 7}
    assert json.loads(answer.raw) == {"model_grader_token_usage_per_model": {"m": {"total_tokens": 7}}}


# -- What is not known -----------------------------------------------------------------------------------------------


def test_what_is_not_known_is_kept_as_it_is():
    """A price that a provider reports, or a kind of token that is new, survives; what is null says nothing."""
    usage = {
        "prompt_tokens": 1,
        "total_tokens": 1,
        "cost": 0.25,
        "is_byok": None,
        "prompt_tokens_details": {"video_tokens": 3, "cached_tokens": 0},
    }
    answer = read(r.read_chat, {"usage": usage})
    assert json.loads(answer.raw) == {"cost": 0.25, "prompt_tokens_details": {"video_tokens": 3}}


def test_usage_of_an_unknown_shape_is_kept():
    """What cannot be billed can still be looked at."""
    answer = read(r.read_chat, {"usage": {"credits": 7}})
    assert (answer.counts, answer.invalid, answer.raw) == (None, True, '{"credits":7}')


def test_what_is_known_is_not_kept_twice():
    """The usual answer has no such attribute."""
    details = {"prompt_tokens_details": None, "completion_tokens_details": {"reasoning_tokens": 1}}
    assert read(r.read_chat, {"usage": {"prompt_tokens": 1, "total_tokens": 1, **details}}).raw is None


def test_what_is_kept_is_bounded_and_stays_json():
    """A name is kept whole or not at all."""
    usage = {"prompt_tokens": 1, "a": "x" * 2000, **{f"k{number:03d}": "y" * 20 for number in range(100)}}
    raw = read(r.read_chat, {"usage": usage}).raw
    assert len(raw) <= MAX_RAW
    kept = json.loads(raw)
    assert "a" not in kept
    assert len(kept) > 20


def test_a_key_within_usage_is_masked():
    """No secret leaves, not even in a place where none belongs."""
    raw = read(r.read_chat, {"usage": {"prompt_tokens": 1, "key": "sk-proj-" + "a1B2" * 12}}).raw
    assert "a1B2" not in raw


@pytest.mark.parametrize(
    ("value", "number"),
    [(2.5, 2.5), (3, 3), ("2.5", 2.5), ("nan", None), (float("inf"), None), (-0.5, None), (True, None), ([], None)],
    ids=str,
)
def test_an_amount_is_a_finite_number(value, number):
    """Seconds need not be whole."""
    assert amount(value) == number
