"""What is metered, as a page of documentation: ``python -m openai_metering.coverage > docs/coverage.md``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from openai_metering.free import FREE
from openai_metering.operations import CALLS, OPERATIONS
from openai_metering.readers import read_nothing
from openai_metering.realtime import SOCKETS
from openai_metering.signals import conventions as c

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from openai_metering.jobs import Job
    from openai_metering.operations import Operation
    from openai_metering.realtime import Socket

TESTED: Final = ("1.40.0", "1.66.5", "1.109.1", "2.0.0", "2.54.0", "3.0.0", "3.57.0")
"""The SDKs that were asked what they can send, the oldest first."""

_FIRST: Final = {
    "1.66.5": ("responses", "vector_stores.search", "realtime.session"),
    "1.109.1": ("fine_tuning.alpha.graders.run", "evals.runs", "containers"),
    "2.54.0": (
        "responses.compact",
        "responses.session",
        "videos",
        "videos.edit",
        "videos.extend",
        "videos.remix",
        "videos.create_character",
    ),
    "3.57.0": (
        "decisions",
        "agents.sessions",
        "agents.sessions.events",
        "agents.automations.invocations",
        "realtime.translations",
        "live",
        "live.fork",
        "live.sideband",
    ),
}
SINCE: Final = {name: version for version, names in _FIRST.items() for name in names}
"""Rows and websockets by the oldest of these SDKs that has them; the oldest of all where none is named."""

MEASURES: Final = (
    (c.INPUT_TOKENS, "token", "Input, with all of its parts below."),
    (c.OUTPUT_TOKENS, "token", "Output, with all of its parts below."),
    (c.CACHE_READ_INPUT_TOKENS, "token", "Part of the input that was read from the cache."),
    (c.CACHE_WRITE_INPUT_TOKENS, "token", "Part of the input that was written to the cache."),
    (c.CACHE_WRITE_30M_TOKENS, "token", "Part of what was written to the cache, for 30 minutes."),
    (c.CACHE_WRITE_12H_TOKENS, "token", "Part of what was written to the cache, for 12 hours."),
    (c.TEXT_INPUT_TOKENS, "token", "Part of the input that is text."),
    (c.IMAGE_INPUT_TOKENS, "token", "Part of the input that is images."),
    (c.AUDIO_INPUT_TOKENS, "token", "Part of the input that is sound."),
    (c.TEXT_CACHE_READ_TOKENS, "token", "Part of the text that was read from the cache."),
    (c.IMAGE_CACHE_READ_TOKENS, "token", "Part of the images that was read from the cache."),
    (c.AUDIO_CACHE_READ_TOKENS, "token", "Part of the sound that was read from the cache."),
    (c.REASONING_OUTPUT_TOKENS, "token", "Part of the output that is reasoning."),
    (c.TEXT_OUTPUT_TOKENS, "token", "Part of the output that is text."),
    (c.IMAGE_OUTPUT_TOKENS, "token", "Part of the output that is images."),
    (c.AUDIO_OUTPUT_TOKENS, "token", "Part of the output that is sound."),
    (c.ACCEPTED_PREDICTION_TOKENS, "token", "Part of the output that the caller had predicted."),
    (c.REJECTED_PREDICTION_TOKENS, "token", "Part of the output: predicted, wrong, and billed all the same."),
    (c.IMAGE_GEN_INPUT_TOKENS, "token", "Input of the image tool within a response, by the image model."),
    (c.IMAGE_GEN_OUTPUT_TOKENS, "token", "Output of the image tool within a response, by the image model."),
    (c.IMAGE_GEN_CACHED_TOKENS, "token", "Part of the image tool's input that was read from the cache."),
    (c.IMAGE_GEN_TEXT_INPUT_TOKENS, "token", "Part of the image tool's input that is text."),
    (c.IMAGE_GEN_IMAGE_INPUT_TOKENS, "token", "Part of the image tool's input that is images."),
    (c.IMAGE_GEN_CACHED_TEXT_TOKENS, "token", "Part of the image tool's text that was read from the cache."),
    (c.IMAGE_GEN_CACHED_IMAGE_TOKENS, "token", "Part of the image tool's images that was read from the cache."),
    (c.IMAGE_GEN_TEXT_OUTPUT_TOKENS, "token", "Part of the image tool's output that is text."),
    (c.IMAGE_GEN_IMAGE_OUTPUT_TOKENS, "token", "Part of the image tool's output that is images."),
    (c.SVG_INPUT_TOKENS, "token", f"Input of the model that writes SVG, named by `{c.SVG_MODEL}`."),
    (c.SVG_OUTPUT_TOKENS, "token", "Output of the model that writes SVG."),
    (c.SVG_REASONING_TOKENS, "token", "Part of that output that is reasoning."),
    (c.TRAINED_TOKENS, "token", "What a model was trained on."),
    (c.GRADER_TOKENS, "token", "What the models of a grader used."),
    (c.IMAGES, "image", "Images that were made."),
    (c.SECONDS, "second", "Sound that was listened to, or video that was made; need not be whole."),
    (c.CHARACTERS, "character", "Text to be spoken, as the request has it."),
    (c.WEB_SEARCHES, "search", "Searches of the web within a response that are billed."),
    (c.SEARCHES, "search", "Queries to a vector store, as the request has them."),
    (c.CODE_INTERPRETER_SESSIONS, "session", "Containers of the code interpreter that a response shows; derived."),
    (c.CONTAINERS, "container", "Containers that were created."),
    (c.INVOCATIONS, "call", "Calls of models within an evaluation."),
    (c.BATCH_REQUESTS, "request", "Requests of a batch that were completed."),
)
"""Every number of usage that leaves the process, with its unit."""

FACTS: Final = (
    (c.OPENAI_REQUEST_SERVICE_TIER, "The service tier that was asked for, `extra_body` included."),
    (c.OPENAI_RESPONSE_SERVICE_TIER, "The service tier that served."),
    (c.REQUEST_COMPLETION_WINDOW, "The time that a batch or a background response may take."),
    (c.BATCH_ENDPOINT, "The endpoint that a batch is for."),
    (c.REQUEST_CHOICE_COUNT, "How many answers or images were asked for, where it is not one."),
    (c.IMAGE_SIZE, "Size of the images: as made, else as asked for."),
    (c.IMAGE_QUALITY, "Quality of the images: as made, else as asked for."),
    (c.VIDEO_SIZE, "Size of the video: as made, else as asked for."),
    (c.SVG_MODEL, "The model that wrote SVG."),
    (c.REQUEST_ORGANIZATION, "The provider's organization that the request names."),
    (c.REQUEST_PROJECT, "The provider's project that the request names."),
    (c.USAGE_RAW, "What a usage object says under names that are not known here: JSON, at most 1024 characters."),
)
"""What decides about a price beside the numbers."""


def page() -> str:
    """The page."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield "# Coverage"
    yield ""
    yield "What is metered, what is read, and what is free. Made by `python -m openai_metering.coverage`; a test holds that"
    yield "each request that the installed SDK can make is in one of the two tables of requests."
    yield ""
    yield "## Requests that are metered"
    yield ""
    yield "The record of a job's call is `pending`, usage `unknown`, reason `deferred`, unless its answer shows that the work"
    yield "has ended already; a `final` one with the same id follows when a request that looks at the job first shows its"
    yield "end. What is counted from the request has the status `estimated`, reason `from_request`."
    yield ""
    yield (
        "Since: the oldest SDK that has the method, of "
        + ", ".join(TESTED)
        + ". By `client.post` every row is metered on all."
    )
    yield ""
    yield from _table(("operation", "request", "gen_ai.operation.name", "forms", "usage", "since"), map(_row, CALLS))
    yield ""
    yield "## Websockets that are metered"
    yield ""
    yield "Each response is a record of its own, and so is each transcription of input and each decision."
    yield ""
    yield from _table(("socket", "responses", "the session itself", "since"), map(_socket, SOCKETS.values()))
    yield ""
    yield "## Requests that look at a job"
    yield ""
    yield "Free of charge, without span; the first that shows the end of a job tells what it used."
    yield ""
    yield from _table(
        ("job", "request", "its end is told where another process ordered it"),
        (
            (f"`{row.job.name}`", f"`{row.method} {row.path}`", _elsewhere(row.job))
            for row in OPERATIONS
            if row.of is not None and row.job is not None
        ),
    )
    yield ""
    yield "## Numbers of usage"
    yield ""
    yield "On span and usage record. Totals include their parts."
    yield ""
    yield from _table(("attribute", "unit", "what"), ((f"`{name}`", unit, what) for name, unit, what in MEASURES))
    yield ""
    yield "## What decides about a price beside them"
    yield ""
    yield from _table(("attribute", "what"), ((f"`{name}`", what) for name, what in FACTS))
    yield ""
    yield "## Requests that are free"
    yield ""
    yield "`{}` is one segment, `**` any number of them."
    yield ""
    yield from _table(("request", "why"), ((f"`{one.methods} {one.path}`", one.reason) for one in FREE))


def _elsewhere(job: Job) -> str:
    if not job.known_by_sight:
        return "no"
    return "where the answer says `background: true`" if job.says_so else "with what it used"


def _row(row: Operation) -> tuple[str, ...]:
    if row.estimate is not None:
        usage = "from the request"
    elif row.job is not None:
        usage = "in the answer, later for background work" if row.name == "responses" else "later: a job"
    else:
        usage = "never in the answer" if row.read is read_nothing else "in the answer"
    return (
        f"`{row.name}`",
        f"`{row.method} {row.path}`",
        row.kind,
        "plain, streamed" if row.observe is not None else "plain",
        usage,
        SINCE.get(row.name, TESTED[0]),
    )


def _socket(socket: Socket) -> tuple[str, ...]:
    session = "by the second" if socket.running is not None else "no" if not socket.session.billed else "says no usage"
    return f"`{socket.session.name}`", f"`{socket.response.name}`", session, SINCE.get(socket.session.name, TESTED[0])


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "| " + " | ".join("---" for _ in head) + " |"
    for row in rows:
        yield "| " + " | ".join(row) + " |"


if __name__ == "__main__":
    sys.stdout.write(page())
