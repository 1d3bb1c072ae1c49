"""Work that goes on after its call: where its state and its usage are told, and by which requests."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from openai_metering import job_readers, readers
from openai_metering.usage import part, text

if TYPE_CHECKING:
    from collections.abc import Callable

    from openai_metering.usage import Answer

    Reader = Callable[[Answer, Any], None]


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """One kind of work that goes on after its call.

    Args:
        name: part of the key of each, together with host and id.
        ended: the values of ``status`` after which usage is final.
        usage: reads what an ended job used.
        sights: method and path of the requests that look at a job; the last ``{}`` is its id.
        id: the field that holds its id.
        status: the field that holds its state.
        known_by_sight: an answer that shows a job shows it to be one, so that a process which did not create it can
            tell its end; ``False`` for what may be history.
        says_so: an answer says itself that it is a job; of other kinds a process which did not create it tells an end
            only with what was used.
        steps: an id stands for many jobs, one after the other, each of which has an id of its own once it has ended.
    """

    name: str
    ended: frozenset[str]
    usage: Reader
    sights: tuple[tuple[str, str], ...]
    id: str = "id"
    status: str = "status"
    known_by_sight: bool = True
    says_so: bool = False
    steps: bool = False

    def read(self, answer: Answer, body: Any) -> None:
        """Read the job as an answer shows it: its usage where it has ended, else that it goes on."""
        answer.response_id = text(part(body, self.id)) or answer.response_id
        answer.job = answer.response_id or answer.job
        answer.model = text(part(body, "model")) or answer.model
        answer.service_tier = text(part(body, "service_tier")) or answer.service_tier
        status = text(part(body, self.status))
        answer.deferred = status not in self.ended
        if answer.deferred:
            return
        answer.finished = True
        readers.read_times(answer, body)
        answer.cancelled = status in ("cancelled", "canceled")
        if status == "failed":
            answer.failed = readers.error_code(part(body, "error")) or "failed"
        self.usage(answer, body)


RESPONSE: Final = Job(
    "responses",
    ended=readers.RESPONSE_ENDED,
    usage=readers.read_response_usage,
    sights=(("GET", "/responses/{}"), ("POST", "/responses/{}/cancel")),
    says_so=True,
)
BATCH: Final = Job(
    "batches",
    ended=frozenset({"completed", "failed", "expired", "cancelled"}),
    usage=job_readers.read_batch_usage,
    sights=(("GET", "/batches/{}"), ("POST", "/batches/{}/cancel")),
)
VIDEO: Final = Job(
    "videos",
    ended=frozenset({"completed", "failed"}),
    usage=job_readers.read_video_usage,
    sights=(("GET", "/videos/{}"),),
)
TRAINING: Final = Job(
    "fine_tuning.jobs",
    ended=frozenset({"succeeded", "failed", "cancelled"}),
    usage=job_readers.read_training_usage,
    sights=(
        ("GET", "/fine_tuning/jobs/{}"),
        ("POST", "/fine_tuning/jobs/{}/cancel"),
        ("POST", "/fine_tuning/jobs/{}/pause"),
        ("POST", "/fine_tuning/jobs/{}/resume"),
    ),
)
EVAL_RUN: Final = Job(
    "evals.runs",
    ended=frozenset({"completed", "failed", "canceled"}),
    usage=job_readers.read_eval_usage,
    sights=(
        ("GET", "/evals/{}/runs/{}"),
        ("POST", "/evals/{}/runs/{}/cancel"),
        ("POST", "/evals/{}/runs/{}"),  # how the SDK cancelled before 3.0
    ),
)
RUN: Final = Job(
    "threads.runs",
    ended=frozenset({"completed", "failed", "cancelled", "incomplete", "expired"}),
    usage=job_readers.read_run_usage,
    sights=(
        ("GET", "/threads/{}/runs/{}"),
        ("POST", "/threads/{}/runs/{}/cancel"),
        (
            "POST",
            "/threads/{}/runs/{}/submit_tool_outputs",
        ),  # the run goes on, and tells at its end what all of it used
    ),
)
AGENT_TURN: Final = Job(
    "agents.turns",
    ended=frozenset(),  # a session goes on; its turns end, and say so as events
    usage=readers.read_nothing,
    sights=(("GET", "/agents/sessions/{}/events"),),
    known_by_sight=False,
    steps=True,
)
AGENT_INVOCATION: Final = replace(AGENT_TURN, id="session_id")
