"""The provider's own answers, changed at random: nothing raises, nothing is held back, and each call ends once."""

from __future__ import annotations

import json
from typing import Any

import pytest
from test_any_input import KEPT, check, how_it_ended, started

import fuzzing
from fuzzing import FULL, Mutator
from openai_metering import errors
from openai_metering.local.events import STREAMED
from openai_metering.operations import CALLS
from openai_metering.seams.bodies import read_body
from openai_metering.seams.responses import BodyObserver
from openai_metering.usage import REASONS, REPORTED, Answer

SIZE = 120_000 if FULL else 2_400
"""How many answers each of the tests is about, over all rows."""
ROWS = [(row, fuzzing.KINDS[row.path]) for row in CALLS]
STREAMS = [(row, kind) for row, kind in ROWS if row.observe is not None and kind in STREAMED]
ENDED = {"status": "completed", "trained_tokens": 7, "per_model_usage": [{"model_name": "m", "prompt_tokens": 4}]}


@pytest.fixture(autouse=True)
def _nothing_of_ours_goes_wrong():
    errors.reset()
    yield
    assert errors.counts == {}


def named(rows: list[Any]) -> Any:
    return pytest.mark.parametrize(("row", "kind"), rows, ids=[row.name for row, _ in rows])


def ended_once() -> None:
    ended = how_it_ended()
    reason = ended.get("openai_metering.usage.reason")
    assert (ended["openai_metering.usage.status"] == REPORTED) == (reason is None)
    assert reason is None or reason in REASONS


@named(ROWS)
def test_any_change_of_an_answer_can_be_read(row, kind):
    """As a body that is read at once: by the reader, and as bytes."""
    mutator = Mutator(1)
    for number in range(SIZE // len(ROWS)):
        body = fuzzing.whole(kind)
        if number % 2 and "status" in body:
            body |= ENDED | {"usage": fuzzing.whole("compact")["usage"]}
        body = mutator.value(body, 4)
        before = fuzzing.encoded(body)
        answer = Answer()
        row.read(answer, body)
        check(answer)
        assert fuzzing.encoded(body) == before
        call = started(row)
        given = mutator.bytes(before)
        assert read_body(call, given, "application/json") == given
        check(call.answer)
        ended_once()


@named(STREAMS)
def test_any_change_of_a_stream_can_be_observed(row, kind):
    """As events, of which some are missing, changed, doubled or out of order."""
    mutator = Mutator(2)
    for _ in range(SIZE // len(STREAMS) // 4):
        answer = Answer()
        for event in mutator.stream(fuzzing.events(kind)):
            seen = {"event": event.name, "data": event.data} if kind == "runs" else event.data
            row.observe(answer, seen)
            check(answer)


@named(STREAMS)
def test_any_change_of_a_stream_is_passed_on(row, kind):
    """As bytes in pieces: the caller gets each of them, and the call ends once."""
    mutator = Mutator(3)
    for _ in range(SIZE // len(STREAMS) // 4):
        whole = mutator.on_the_wire(mutator.stream(fuzzing.events(kind)))
        if mutator.random.random() < 0.5:
            whole = mutator.bytes(whole)
        call = started(row)
        observer = BodyObserver(call, events=True)
        passed = b"".join([*map(observer.feed, mutator.pieces(whole)), observer.end()])
        assert passed == whole
        check(call.answer)
        ended_once()


@named(ROWS)
def test_any_change_of_a_body_is_passed_on(row, kind):
    """As bytes in pieces, whole or cut."""
    mutator = Mutator(4)
    for _ in range(SIZE // len(ROWS) // 2):
        whole = mutator.bytes(fuzzing.encoded(mutator.value(fuzzing.whole(kind), 4)))
        call = started(row)
        observer = BodyObserver(call, events=False)
        assert b"".join(map(observer.feed, mutator.pieces(whole))) == whole
        if mutator.random.random() < 0.1:
            KEPT.records.clear()
            observer.failed(OSError("cut"))
        else:
            assert observer.end() == b""
        ended_once()


def test_the_answers_differ_and_say_something():
    """The changes are small enough to leave usage in many answers, and large enough to break it in many others."""
    (row, kind), *_ = ROWS
    mutator, ends = Mutator(5), []
    for _ in range(400):
        call = started(row)
        read_body(call, fuzzing.encoded(mutator.value(fuzzing.whole(kind), 4)), "application/json")
        ends.append(how_it_ended()["openai_metering.usage.status"])
    assert 40 < ends.count(REPORTED) < 360
    assert json.loads(fuzzing.encoded(fuzzing.whole(kind)))
