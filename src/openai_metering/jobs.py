"""Work that goes on after its call: where its state and its usage are told, and by which requests."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from openai_metering import readers
from openai_metering.usage import part, text

if TYPE_CHECKING:
    from collections.abc import Callable

    from openai_metering.usage import Answer

    Reader = Callable[[Answer, Any], None]


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """One kind of work that goes on after its call.

    Args:
        ended: the values of ``status`` after which usage is final.
        usage: reads what an ended job used.
        sights: method and path of the requests that look at a job; the last ``{}`` is its id.
        id: the field that holds its id; where an answer has none, the id is in the path.
        status: the field that holds its state.
    """

    ended: frozenset[str]
    usage: Reader
    sights: tuple[tuple[str, str], ...]
    id: str = "id"
    status: str = "status"

    def read(self, answer: Answer, body: Any) -> None:
        """Read the job as an answer shows it: its usage where it has ended, else that it goes on."""
        answer.response_id = text(part(body, self.id)) or answer.response_id
        answer.model = text(part(body, "model")) or answer.model
        answer.service_tier = text(part(body, "service_tier")) or answer.service_tier
        status = text(part(body, self.status))
        answer.deferred = status not in self.ended
        if answer.deferred:
            return
        answer.finished = True
        if status == "failed":
            answer.failed = text(part(part(body, "error"), "code")) or "failed"
        self.usage(answer, body)


RESPONSE: Final = Job(
    ended=frozenset({"completed", "incomplete", "failed", "cancelled"}),
    usage=readers.read_response_usage,
    sights=(("GET", "/responses/{}"), ("POST", "/responses/{}/cancel")),
)
BATCH: Final = Job(
    ended=frozenset({"completed", "failed", "expired", "cancelled"}),
    usage=readers.read_batch_usage,
    sights=(("GET", "/batches/{}"), ("POST", "/batches/{}/cancel")),
)
VIDEO: Final = Job(
    ended=frozenset({"completed", "failed"}),
    usage=readers.read_video_usage,
    sights=(("GET", "/videos/{}"),),
)
TRAINING: Final = Job(
    ended=frozenset({"succeeded", "failed", "cancelled"}),
    usage=readers.read_training_usage,
    sights=(
        ("GET", "/fine_tuning/jobs/{}"),
        ("POST", "/fine_tuning/jobs/{}/cancel"),
        ("POST", "/fine_tuning/jobs/{}/pause"),
        ("POST", "/fine_tuning/jobs/{}/resume"),
    ),
)
EVAL_RUN: Final = Job(
    ended=frozenset({"completed", "failed", "canceled"}),
    usage=readers.read_eval_usage,
    sights=(
        ("GET", "/evals/{}/runs/{}"),
        ("POST", "/evals/{}/runs/{}/cancel"),
        ("POST", "/evals/{}/runs/{}"),  # how the SDK cancelled before 3.0
    ),
)
RUN: Final = Job(
    ended=frozenset({"completed", "failed", "cancelled", "incomplete", "expired"}),
    usage=readers.read_run_usage,
    sights=(("GET", "/threads/{}/runs/{}"), ("POST", "/threads/{}/runs/{}/cancel")),
)
AGENT_SESSION: Final = Job(
    ended=frozenset({"idle", "failed"}),
    usage=readers.read_session_usage,
    sights=(("GET", "/agents/sessions/{}"), ("GET", "/agents/sessions/{}/events")),
)
AGENT_INVOCATION: Final = replace(AGENT_SESSION, id="session_id", ended=frozenset())
