"""How much: work that goes on after its call."""

from __future__ import annotations

from typing import Any

import pytest

from openai_metering import job_readers as j, jobs
from openai_metering.usage import Answer

GEN, OWN = "gen_ai.usage.", "openai_metering.usage."
USAGE = {"input_tokens": 9, "output_tokens": 5, "total_tokens": 14}
COUNTS = {GEN + "input_tokens": 9, GEN + "output_tokens": 5}


def read(reader: Any, *bodies: Any) -> Answer:
    answer = Answer()
    for body in bodies:
        reader(answer, body)
    return answer


@pytest.mark.parametrize("status", ["completed", "incomplete", "failed", "cancelled", "expired"])
def test_a_run_says_at_its_end_what_it_used(status):
    """In its stream and in its object; the usage of a step is no other consumption."""
    run = {"id": "run_1", "status": status, "usage": {"prompt_tokens": 9, "completion_tokens": 5}}
    step = {"event": "thread.run.step.completed", "data": {"usage": {"prompt_tokens": 1}}}
    streamed = read(j.observe_run, step, {"event": f"thread.run.{status}", "data": run})
    assert (streamed.counts, streamed.terminal, streamed.response_id) == (COUNTS, True, "run_1")
    assert read(jobs.RUN.read, run).counts == COUNTS


def test_a_run_that_waits_for_tools_is_deferred():
    """Its usage is told when it goes on."""
    assert read(j.observe_run, {"event": "thread.run.requires_action", "data": {}}).deferred


def test_the_turns_of_an_agent_add_up():
    """A session's stream tells each turn's usage once."""
    one = {"type": "agent.session.turn.completed", "turn_id": "turn_1", "usage": USAGE}
    two = {"type": "agent.session.turn.completed", "turn": {"id": "turn_2"}, "usage": USAGE}
    session = {"type": "agent.session.created", "session": {"id": "sess_1"}}
    answer = read(j.observe_agent, session, {"type": "agent.session.turn.created"}, one, one, two)
    assert answer.counts == {name: 2 * number for name, number in COUNTS.items()}
    assert (answer.response_id, answer.job, answer.step, answer.deferred) == ("sess_1", "sess_1", "turn_2", False)


@pytest.mark.parametrize(
    ("events", "starts"),
    [
        ([{"type": "agent.session.input.message"}], True),
        ([{"type": "agent.session.input.tool_result"}, {"type": "agent.session.input.message"}], True),
        ([{"type": "agent.session.input.tool_result"}], False),
        ([{"type": "agent.session.input.cancel"}], False),
        (None, True),
    ],
)
def test_a_message_starts_a_turn_of_an_agent(events, starts):
    """What a tool gave belongs to a turn that is under way."""
    assert j.speaks_to_agent({"events": events}) is starts


@pytest.mark.parametrize(
    ("job", "body", "counts"),
    [
        (
            jobs.BATCH,
            {"status": "completed", "usage": USAGE, "request_counts": {"completed": 3, "failed": 1}},
            {**COUNTS, OWN + "batch_requests": 3},
        ),
        (jobs.VIDEO, {"status": "completed", "seconds": "8", "size": "1x1"}, {OWN + "seconds": 8.0}),
        (jobs.VIDEO, {"status": "failed", "seconds": "8"}, None),
        (jobs.TRAINING, {"status": "succeeded", "trained_tokens": 7}, {OWN + "trained_tokens": 7}),
        (
            jobs.EVAL_RUN,
            {
                "status": "completed",
                "per_model_usage": [
                    {"model_name": name, "prompt_tokens": 4, "completion_tokens": 2, "invocation_count": 1}
                    for name in ("a", "b")
                ],
            },
            {GEN + "input_tokens": 8, GEN + "output_tokens": 4, OWN + "invocations": 2},
        ),
    ],
    ids=lambda value: value.get("status") if isinstance(value, dict) else None,
)
def test_a_job_is_read_when_it_has_ended(job, body, counts):
    """Before its end its numbers are no bill."""
    assert read(job.read, {"id": "job_1", **body}).counts == counts
    before = read(job.read, {"id": "job_1", **body, "status": "in_progress"})
    assert (before.counts, before.deferred, before.job) == (None, True, "job_1")


@pytest.mark.parametrize(
    ("body", "began", "ended"),
    [
        ({"created_at": 1735689600, "completed_at": 1735689601.5}, 1735689600 * 10**9, 1735689601 * 10**9 + 5 * 10**8),
        ({"created_at": 7, "cancelled_at": 9, "expires_at": 8}, 7 * 10**9, 9 * 10**9),
        ({"created_at": 0, "finished_at": None}, None, None),
        ({"created_at": 2**40, "failed_at": "never"}, None, None),
    ],
)
def test_the_times_of_a_job_are_those_of_the_provider(body, began, ended):
    """In nanoseconds; what no timestamp can tell is left out."""
    answer = read(jobs.BATCH.read, {"id": "batch_1", "status": "completed", **body})
    assert (answer.began, answer.ended) == (began, ended)
