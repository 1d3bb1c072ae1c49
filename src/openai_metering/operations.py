"""What: the table of billable operations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from openai_metering import job_readers as j, jobs, readers as r

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from openai_metering.jobs import Job
    from openai_metering.usage import Answer, Number

    Reader = Callable[[Answer, Any], None]
    Estimate = Callable[[Mapping[str, Any]], dict[str, Number]]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Operation:
    """One kind of request. Compared by identity: a row is its own key.

    Args:
        name: the row's own name, ``openai_metering.operation``.
        method: HTTP method, upper case.
        path: resource path, as the SDK's methods spell it, with ``{}`` for a segment that is filled in.
        kind: ``gen_ai.operation.name``.
        read: reads a whole answer.
        observe: reads one event of a streamed answer; ``None`` where there is no such form.
        events: the types of the events that ``observe`` makes something of; none where each chunk may say something.
        api_type: ``openai.api.type`` where the convention has a value.
        asks_for_usage: whether a stream carries usage only with ``stream_options.include_usage``.
        binary: the answer is sound or the like, never looked into.
        facts: fields of the request that decide about the price, with their attributes; a dot leads inside.
        estimate: what a request asks for, where its answer never says what was used.
        job: the work that goes on after the answer, where there is any.
        of: the row whose requests start the job that this request looks at; such a request is not billed itself.
        names_job: the path names the job, which the answer does not.
        starts: whether a request with this body starts anything; where left out, each does.
        billed: ``False`` for what only groups billed calls, such as a session: a span, and neither record nor metrics.
    """

    name: str
    method: str
    path: str
    kind: str
    read: Reader
    observe: Reader | None = None
    events: frozenset[str] = frozenset()
    api_type: str | None = None
    asks_for_usage: bool = False
    binary: bool = False
    facts: tuple[tuple[str, str], ...] = ()
    estimate: Estimate | None = None
    job: Job | None = None
    of: Operation | None = None
    names_job: bool = False
    starts: Callable[[Mapping[str, Any]], bool] | None = None
    billed: bool = True

    def __repr__(self) -> str:
        return f"<Operation {self.name}>"


_WINDOW: Final = "openai_metering.request.completion_window"

_CHAT: Final[dict[str, Any]] = {"read": r.read_chat, "observe": r.observe_chat, "asks_for_usage": True}
_RESPONSE: Final[dict[str, Any]] = {
    "read": r.read_response,
    "observe": r.observe_response,
    "events": r.RESPONSE_HEAD | r.RESPONSE_END | {"error"},
    "api_type": "responses",
}
_IMAGES: Final[dict[str, Any]] = {
    "kind": "generate_content",
    "read": r.read_images,
    "observe": r.observe_image,
    "events": r.IMAGE_END | {"error"},
    "facts": r.IMAGE_FACTS,
}
_SPEECH: Final[dict[str, Any]] = {
    "read": r.read_sound,
    "observe": r.observe_speech,
    "events": r.SPEECH_END,
    "binary": True,
    "estimate": r.requested_characters,
}
_TRANSCRIPT: Final[dict[str, Any]] = {
    "read": r.read_transcript,
    "observe": r.observe_transcript,
    "events": r.TRANSCRIPT_END,
}
_VIDEO: Final[dict[str, Any]] = {
    "kind": "video",
    "read": jobs.VIDEO.read,
    "job": jobs.VIDEO,
    "facts": r.VIDEO_FACTS,
}
_RUN: Final[dict[str, Any]] = {
    "kind": "run",
    "read": jobs.RUN.read,
    "job": jobs.RUN,
    "observe": j.observe_run,
    "events": j.RUN_HEAD | j.RUN_WAITS | j.RUN_END,
}
_AGENT: Final[dict[str, Any]] = {
    "kind": "run",
    "read": jobs.AGENT_TURN.read,
    "job": jobs.AGENT_TURN,
    "observe": j.observe_agent,
    "events": j.AGENT_HEAD | j.AGENT_END | {"error"},
}
_BATCH_FACTS: Final = (("completion_window", _WINDOW), ("endpoint", "openai_metering.batch.endpoint"))

CHAT_COMPLETIONS: Final = Operation(
    "chat.completions", "POST", "/chat/completions", kind="chat", api_type="chat_completions", **_CHAT
)
RESPONSES: Final = Operation(
    "responses",
    "POST",
    "/responses",
    kind="chat",
    facts=(("background_options.completion_window", _WINDOW),),
    job=jobs.RESPONSE,
    **_RESPONSE,
)
EMBEDDINGS: Final = Operation("embeddings", "POST", "/embeddings", kind="embeddings", read=r.read_embeddings)

# One row for each kind of request that can cost money.
# fmt: off
CALLS: Final = (
    CHAT_COMPLETIONS,
    RESPONSES,
    EMBEDDINGS,
    Operation("completions", "POST", "/completions", kind="text_completion", **_CHAT),
    Operation("responses.compact", "POST", "/responses/compact", kind="chat", **_RESPONSE),
    Operation("decisions", "POST", "/decisions", kind="decision", read=r.read_decision),
    Operation("images.generate", "POST", "/images/generations", **_IMAGES),
    Operation("images.edit", "POST", "/images/edits", **_IMAGES),
    Operation("images.create_variation", "POST", "/images/variations", **_IMAGES),
    Operation("audio.speech", "POST", "/audio/speech", kind="speech", **_SPEECH),
    Operation("audio.transcriptions", "POST", "/audio/transcriptions", kind="transcription", **_TRANSCRIPT),
    Operation("audio.translations", "POST", "/audio/translations", kind="translation", read=r.read_transcript),
    Operation("videos", "POST", "/videos", **_VIDEO),
    Operation("videos.edit", "POST", "/videos/edits", **_VIDEO),
    Operation("videos.extend", "POST", "/videos/extensions", **_VIDEO),
    Operation("videos.remix", "POST", "/videos/{}/remix", **_VIDEO),
    Operation("videos.create_character", "POST", "/videos/characters", kind="video", read=r.read_nothing),
    Operation("batches", "POST", "/batches", kind="batch", read=jobs.BATCH.read, job=jobs.BATCH, facts=_BATCH_FACTS),
    Operation("fine_tuning.jobs", "POST", "/fine_tuning/jobs", kind="fine_tuning", read=jobs.TRAINING.read, job=jobs.TRAINING),
    Operation("fine_tuning.alpha.graders.run", "POST", "/fine_tuning/alpha/graders/run", kind="eval", read=r.read_grader),
    Operation("evals.runs", "POST", "/evals/{}/runs", kind="eval", read=jobs.EVAL_RUN.read, job=jobs.EVAL_RUN),
    Operation("threads.runs", "POST", "/threads/{}/runs", **_RUN),
    Operation("threads.create_and_run", "POST", "/threads/runs", **_RUN),
    Operation("agents.sessions", "POST", "/agents/sessions", starts=j.opens_with_input, **_AGENT),
    Operation("agents.sessions.events", "POST", "/agents/sessions/{}/events", names_job=True, starts=j.speaks_to_agent, **_AGENT),
    Operation("agents.automations.invocations", "POST", "/agents/automations/{}/invocations", kind="run",
              read=jobs.AGENT_INVOCATION.read, job=jobs.AGENT_INVOCATION),
    Operation("vector_stores.search", "POST", "/vector_stores/{}/search", kind="retrieval", read=r.read_nothing,
              estimate=r.requested_searches),
    Operation("containers", "POST", "/containers", kind="container", read=r.read_nothing,
              estimate=r.requested_container),
)
# fmt: on


def _sights() -> Iterable[Operation]:
    """The requests that look at a job: known, so that its end can be seen, but not billed."""
    seen: set[tuple[str, str]] = set()
    for row in CALLS:
        for method, path in row.job.sights if row.job is not None else ():
            if (method, path) not in seen:
                seen.add((method, path))
                yield Operation(
                    f"{row.name} {method} {path}",
                    method,
                    path,
                    row.kind,
                    read=row.read,
                    observe=row.observe,
                    events=row.events,
                    api_type=row.api_type,
                    job=row.job,
                    of=row,
                )


OPERATIONS: Final = (*CALLS, *_sights())


# -- Looking up ------------------------------------------------------------------------------------------------------

_by_path: dict[tuple[str, str], Operation] = {}
_by_template: dict[tuple[str, str, int], tuple[tuple[tuple[str, ...], Operation], ...]] = {}
"""Rows with filled-in segments, by method, first segment and number of segments."""


def add(row: Operation) -> None:
    """Put a row into the table that ``find`` looks in."""
    if "{}" not in row.path:
        _by_path[row.method, row.path] = row
        return
    segments = tuple(row.path.strip("/").split("/"))
    key = (row.method, segments[0], len(segments))
    _by_template[key] = (*_by_template.get(key, ()), (segments, row))


def remove(row: Operation) -> None:
    """Take a row out of the table again."""
    _by_path.pop((row.method, row.path), None)
    for key, rows in _by_template.items():
        _by_template[key] = tuple(entry for entry in rows if entry[1] is not row)


for _row in OPERATIONS:
    add(_row)


def find(method: str, url: str) -> Operation | None:
    """Return the row that a request belongs to, ``None`` for a free one.

    Args:
        method: HTTP method in any case.
        url: what the SDK was asked for: a resource path, or a whole URL as ``client.post`` accepts it.
    """
    method = method.upper()
    row = _by_path.get((method, url))
    if row is not None or (url.startswith("/") and "?" not in url and url.count("/") <= 1):
        return row
    segments = _segments(url)
    row = _matching(method, segments)
    if row is not None:
        return row
    below = _below_root(segments)
    return None if below is segments else _matching(method, below)


def job_in(row: Operation, url: str) -> str | None:
    """Return the id of the job that a request looks at, as its path names it: what fills the row's last gap.

    Args:
        row: the request's row.
        url: what the SDK was asked for.
    """
    template = row.path.strip("/").split("/")
    if "{}" not in template:
        return None
    behind = template[::-1].index("{}") + 1
    segments = _segments(url)
    return segments[-behind] if len(segments) >= len(template) else None


def _matching(method: str, segments: list[str]) -> Operation | None:
    if not segments:
        return None
    for template, row in _by_template.get((method, segments[0], len(segments)), ()):
        for wanted, given in zip(template, segments, strict=True):
            if wanted not in ("{}", given):
                break
        else:
            return row
    return _by_path.get((method, "/" + "/".join(segments)))


def _segments(url: str) -> list[str]:
    """The path of a URL, without host and query."""
    if not url.startswith("/") or url.startswith("//") or "?" in url or "#" in url:
        try:
            url = urlsplit(url).path
        except ValueError:  # not a URL at all: the SDK says so to the caller
            return []
    segments = url.strip("/").split("/")
    return [segment for segment in segments if segment] if "" in segments else segments


def _below_root(segments: list[str]) -> list[str]:
    """The path below the API's root: without version prefix and deployment."""
    if "deployments" in segments[:-2]:
        return segments[segments.index("deployments") + 2 :]
    if "v1" in segments or "openai" in segments:
        return segments[max(place for place, segment in enumerate(segments) if segment in ("v1", "openai")) + 1 :]
    return segments
