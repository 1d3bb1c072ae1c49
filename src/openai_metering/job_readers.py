"""What work that goes on after its call says of itself: assistants' runs, agents' turns, and jobs that have ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from openai_metering.readers import (
    BATCH_REQUESTS,
    SECONDS,
    TRAINED_TOKENS,
    VIDEO_FACTS,
    error_code,
    kind_of,
    read_facts,
    read_head,
    read_times,
)
from openai_metering.shapes import CHAT_USAGE, EVAL_USAGE, RESPONSES_USAGE
from openai_metering.usage import Answer, add_counts, amount, count, keep_raw, part, read_usage, text

if TYPE_CHECKING:
    from collections.abc import Mapping

# -- Assistants' runs, agents ----------------------------------------------------------------------------------------

RUN_END: Final = frozenset(
    f"thread.run.{status}" for status in ("completed", "incomplete", "failed", "cancelled", "expired")
)
RUN_HEAD: Final = frozenset({"thread.run.created", "thread.run.queued", "thread.run.in_progress"})
RUN_WAITS: Final = frozenset({"thread.run.requires_action"})


def observe_run(answer: Answer, event: Any) -> None:
    """Read one event of an assistant's run; usage sits inside the terminal one."""
    kind = text(part(event, "event"))
    if kind is None:
        return
    run = part(event, "data")
    if kind in RUN_END:
        read_head(answer, run)
        answer.job = answer.response_id
        answer.finished = answer.terminal = True
        answer.deferred = False
        answer.cancelled = kind == "thread.run.cancelled"
        read_times(answer, run)
        if kind == "thread.run.failed":
            answer.failed = error_code(part(run, "last_error")) or "failed"
        read_run_usage(answer, run)
    elif kind in RUN_WAITS:
        answer.deferred = True  # for the outputs of tools, which are submitted in a call of their own
    elif kind in RUN_HEAD:
        answer.unfinished = True
        read_head(answer, run)
        answer.job = answer.response_id


def read_run_usage(answer: Answer, body: Any) -> None:
    """Read what an assistant's run used."""
    read_usage(answer, part(body, "usage"), CHAT_USAGE)


AGENT_END: Final = frozenset(f"agent.session.turn.{status}" for status in ("completed", "failed", "cancelled"))
AGENT_HEAD: Final = frozenset({"agent.session.created", "agent.session.turn.created"})


def observe_agent(answer: Answer, event: Any) -> None:
    """Read one event of an agent's session; each turn that ends has its own usage."""
    kind = kind_of(event)
    if kind in AGENT_END:
        turn = part(event, "turn")
        step = text(part(event, "turn_id")) or text(part(turn, "id"))
        if step is not None and step == answer.step:
            return  # told twice
        answer.step = step
        answer.finished = True
        answer.deferred = False
        answer.cancelled = kind == "agent.session.turn.cancelled"
        answer.job = text(part(event, "session_id")) or answer.job
        read_times(answer, turn)
        read_usage(answer, part(event, "usage"), RESPONSES_USAGE, add=True)
        if kind == "agent.session.turn.failed":
            answer.failed = error_code(part(turn, "error")) or "failed"
    elif kind == "agent.session.turn.created":
        answer.deferred = True  # until the turn ends, which the stream need not live to see
        answer.job = text(part(event, "session_id")) or answer.job
    elif kind == "agent.session.created":
        session = part(event, "session")
        read_head(answer, session)
        answer.model = text(part(part(session, "agent"), "model")) or answer.model
        answer.job = answer.response_id
    elif kind == "error":
        answer.failed = error_code(part(event, "error")) or "error"


def opens_with_input(body: Mapping[str, Any]) -> bool:
    """Whether a new session of an agent starts with a turn: with an input, or where its events are streamed."""
    return bool(body.get("input")) or body.get("stream") is True


def speaks_to_agent(body: Mapping[str, Any]) -> bool:
    """Whether an input to an agent's session starts a turn: a message does, a tool's result belongs to one."""
    events = body.get("events")
    if not isinstance(events, (list, tuple)):
        return True
    return any(part(event, "type") == "agent.session.input.message" for event in events)


# -- Jobs that have ended --------------------------------------------------------------------------------------------


def read_batch_usage(answer: Answer, body: Any) -> None:
    """Read what a batch used."""
    read_usage(answer, part(body, "usage"), RESPONSES_USAGE)
    requests = count(part(part(body, "request_counts"), "completed"))
    if requests is not None and answer.counts is not None:
        add_counts(answer, {BATCH_REQUESTS: requests})


def read_video_usage(answer: Answer, body: Any) -> None:
    """Read how long a video is; one that failed costs nothing."""
    seconds = amount(part(body, "seconds"))
    if seconds is not None and answer.failed is None:
        answer.counts = {SECONDS: seconds}
    read_facts(answer, body, VIDEO_FACTS)


def read_training_usage(answer: Answer, body: Any) -> None:
    """Read how many tokens a model was trained on."""
    trained = count(part(body, "trained_tokens"))
    if trained is not None:
        answer.counts = {TRAINED_TOKENS: trained}


def read_eval_usage(answer: Answer, body: Any) -> None:
    """Read what an evaluation used, over all models; the split by model is kept as it is."""
    models = part(body, "per_model_usage")
    if not isinstance(models, (list, tuple)):
        return
    for usage in models:
        read_usage(answer, usage, EVAL_USAGE, add=True)
    if len(models) > 1:
        keep_raw(answer, {"per_model_usage": models})
