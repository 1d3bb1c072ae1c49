"""How much: work that goes on after its call."""

from __future__ import annotations

from typing import Any

import pytest

from openai_metering import job_readers as j, jobs, readers as r, shapes
from openai_metering.usage import Answer, read_beside, read_usage

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


JOBS = {name: job for name, job in vars(jobs).items() if isinstance(job, jobs.Job) and job.ended}
ENDS = {
    "RESPONSE": ("completed", "incomplete", "failed", "cancelled"),
    "BATCH": ("completed", "failed", "expired", "cancelled"),
    "VIDEO": ("completed", "failed"),
    "TRAINING": ("succeeded", "failed", "cancelled"),
    "EVAL_RUN": ("completed", "failed", "canceled"),
    "RUN": ("completed", "failed", "cancelled", "incomplete", "expired"),
}
GOES_ON = ("queued", "in_progress", "validating_files", "finalizing", "requires_action", "cancelling", None)


def test_every_job_is_here():
    """A new job says here how it ends."""
    assert ENDS.keys() == JOBS.keys()


@pytest.mark.parametrize(("name", "status"), [(name, status) for name, ends in ENDS.items() for status in ends])
def test_how_a_job_ends(name, status):
    """With its id, its model and tier, as failed or cancelled where the provider says so; and nothing of the status is guessed."""
    body = {"id": "job_1", "model": "gpt-x", "service_tier": "flex", "status": status, "error": {"code": "bad_file"}}
    answer = read(JOBS[name].read, body)
    assert (answer.response_id, answer.job, answer.model, answer.service_tier) == ("job_1", "job_1", "gpt-x", "flex")
    assert (answer.finished, answer.deferred) == (True, False)
    assert answer.cancelled is (status in ("cancelled", "canceled"))
    assert answer.failed == ("bad_file" if status == "failed" else None)


@pytest.mark.parametrize(("name", "status"), [(name, status) for name in ENDS for status in GOES_ON])
def test_what_is_no_end_of_a_job(name, status):
    """A job in any other state goes on."""
    answer = read(JOBS[name].read, {"id": "job_1", "status": status, "usage": USAGE})
    assert (answer.finished, answer.deferred, answer.counts) == (False, True, None)


def test_a_background_response_that_ends_says_what_it_used():
    """Its usage is that of any response."""
    assert read(jobs.RESPONSE.read, {"id": "resp_1", "status": "completed", "usage": USAGE}).counts == COUNTS


@pytest.mark.parametrize("job", [jobs.AGENT_TURN, jobs.AGENT_INVOCATION], ids=lambda job: job.id)
@pytest.mark.parametrize("status", ["idle", "running", "completed", "failed", None])
def test_a_session_of_an_agent_never_ends(job, status):
    """Its turns do, and say so as events; so it is known by its id, and nothing of it is a bill."""
    answer = read(job.read, {job.id: "sess_1", "status": status, "usage": USAGE})
    assert (answer.response_id, answer.job, answer.deferred, answer.counts) == ("sess_1", "sess_1", True, None)


@pytest.mark.parametrize("status", ["completed", "incomplete", "failed", "cancelled", "expired"])
def test_how_the_stream_of_a_run_ends(status):
    """As failed, with the provider's code, or as cancelled, where it says so."""
    data = {"id": "run_1", "last_error": {"code": "rate_limit_exceeded"}}
    answer = read(j.observe_run, {"event": f"thread.run.{status}", "data": data})
    assert (answer.finished, answer.terminal, answer.job) == (True, True, "run_1")
    assert answer.cancelled is (status == "cancelled")
    assert answer.failed == ("rate_limit_exceeded" if status == "failed" else None)
    assert read(j.observe_run, {"event": f"thread.run.{status}", "data": {}}).failed == (
        "failed" if status == "failed" else None
    )


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
def test_how_a_turn_of_an_agent_ends(status):
    """As failed, with the provider's code, or as cancelled; of which session is said by the event."""
    event = {"type": f"agent.session.turn.{status}", "session_id": "sess_1"}
    answer = read(j.observe_agent, {**event, "turn": {"id": "turn_1", "error": {"code": "tool_error"}}})
    assert (answer.finished, answer.deferred, answer.job, answer.step) == (True, False, "sess_1", "turn_1")
    assert answer.cancelled is (status == "cancelled")
    assert answer.failed == ("tool_error" if status == "failed" else None)
    assert read(j.observe_agent, event).failed == ("failed" if status == "failed" else None)
    begun = read(j.observe_agent, {"type": "agent.session.turn.created", "session_id": "sess_2"})
    assert (begun.deferred, begun.job) == (True, "sess_2")


@pytest.mark.parametrize(("status", "finished"), [("completed", True), ("failed", True), ("cancelled", True)])
def test_how_a_response_in_the_background_is_told_by_its_answer(status, finished):
    """An answer that says `background` is a job, and a cancelled one was cancelled."""
    answer = read(r.read_response, {"id": "resp_1", "status": status, "background": True})
    assert (answer.finished, answer.job) == (finished, "resp_1")
    assert answer.cancelled is (status == "cancelled")


SHAPES = {
    "audio": (
        shapes.AUDIO_USAGE,
        {
            "type": "tokens",
            "total_tokens": 14,
            "input_tokens": 9,
            "output_tokens": 5,
            "input_token_details": {"audio_tokens": 8, "text_tokens": 1},
            "output_token_details": {"text_tokens": 5},
        },
        {
            "audio.input_tokens": 8,
            "text.input_tokens": 1,
            "text.output_tokens": 5,
            "input_tokens": 9,
            "output_tokens": 5,
        },
        {},
    ),
    "audio, in the newer spelling": (
        shapes.AUDIO_USAGE,
        {"input_tokens": 9, "input_tokens_details": {"audio_tokens": 8}, "output_tokens_details": {"text_tokens": 5}},
        {"input_tokens": 9, "audio.input_tokens": 8, "text.output_tokens": 5},
        {},
    ),
    "seconds": (shapes.AUDIO_USAGE, {"type": "duration", "seconds": 2.5}, {}, {"seconds": 2.5}),
    "an evaluation": (
        shapes.EVAL_USAGE,
        {
            "model_name": "m",
            "run_model_name": "m",
            "total_tokens": 14,
            "invocation_count": 3,
            "prompt_tokens": 9,
            "completion_tokens": 5,
            "cached_tokens": 4,
        },
        {"input_tokens": 9, "output_tokens": 5, "cache_read.input_tokens": 4},
        {"invocations": 3},
    ),
    "vector images": (
        shapes.SVG_USAGE,
        {"model": "m", "input_tokens": 9, "output_tokens": 5, "reasoning_tokens": 2, "total_tokens": 14},
        {},
        {"svg_input_tokens": 9, "svg_output_tokens": 5, "svg_reasoning_tokens": 2},
    ),
}


@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_knows_every_field(name):
    """Each number has its attribute, and nothing of what the provider is known to say is kept as unknown."""
    shape, usage, tokens, units = SHAPES[name]
    answer = Answer()
    read_usage(answer, usage, shape)
    expected = {f"{GEN}{key}": number for key, number in tokens.items()}
    expected |= {f"{OWN}{key}": number for key, number in units.items()}
    assert answer.counts == expected
    assert answer.raw is None


def test_the_image_tool_says_every_part():
    """All parts of what the image tool used are told apart."""
    parts = {
        "input_tokens": 9,
        "output_tokens": 5,
        "cached_tokens": 4,
        "total_tokens": 14,
        "input_tokens_details": {"text_tokens": 2, "image_tokens": 7},
        "output_tokens_details": {"text_tokens": 1, "image_tokens": 3},
        "cached_tokens_details": {"cached_text_tokens": 6, "cached_image_tokens": 8},
    }
    answer = Answer()
    read_beside(answer, {"image_gen": parts}, shapes.TOOL_USAGE)
    assert answer.counts == {
        f"{OWN}image_gen_{name}_tokens": number
        for name, number in {
            "input": 9,
            "output": 5,
            "cached": 4,
            "text_input": 2,
            "image_input": 7,
            "text_output": 1,
            "image_output": 3,
            "cached_text": 6,
            "cached_image": 8,
        }.items()
    }
    assert answer.raw is None
