"""Answers of the provider's other endpoints: images, sound, jobs, agents."""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from openai_metering.local import wire
from openai_metering.local.numbers import (
    audio_usage,
    chat_usage,
    image_usage,
    response_usage,
    run_usage,
    seconds_usage,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from openai_metering.local.wire import Ask

ROUTES: Final = (
    ("/chat/completions", "chat"),
    ("/responses", "responses"),
    ("/embeddings", "embeddings"),
    ("/completions", "completions"),
    ("/responses/compact", "compact"),
    ("/decisions", "decisions"),
    ("/images/generations", "images"),
    ("/images/edits", "images"),
    ("/images/variations", "images"),
    ("/audio/speech", "speech"),
    ("/audio/transcriptions", "transcripts"),
    ("/audio/translations", "translations"),
    ("/videos", "videos"),
    ("/videos/edits", "videos"),
    ("/videos/extensions", "videos"),
    ("/videos/{}/remix", "videos"),
    ("/videos/characters", "characters"),
    ("/batches", "batches"),
    ("/fine_tuning/jobs", "trainings"),
    ("/fine_tuning/alpha/graders/run", "graders"),
    ("/evals/{}/runs", "evals"),
    ("/threads/{}/runs", "runs"),
    ("/threads/runs", "runs"),
    ("/agents/sessions", "agents"),
    ("/agents/sessions/{}/events", "inputs"),
    ("/agents/automations/{}/invocations", "invocations"),
    ("/vector_stores/{}/search", "searches"),
    ("/containers", "containers"),
)
"""The paths that are billed when something is posted to them, and the kind of answer."""

_BILLED: Final = [(re.compile(re.escape(path).replace(re.escape("{}"), "[^/]+") + "$"), kind) for path, kind in ROUTES]
SOUND: Final = b"\xff\xf3\x00{not json}" * 64
IMAGE: Final = base64.b64encode(b"\x89PNG not an image").decode()


class Raw(NamedTuple):
    """An answer that is no JSON."""

    body: bytes
    content_type: str
    status: int = 200


def raw(ask: Ask) -> Raw | None:
    """The answer where it is no JSON: sound, plain text, or nothing at all."""
    if ask.kind == "speech":
        return Raw(SOUND, "audio/mpeg")
    if ask.kind == "inputs":
        return Raw(b"", "application/json", 204)
    if ask.kind in ("transcripts", "translations") and ask.payload.get("response_format") in ("text", "srt", "vtt"):
        return Raw(f"answer {ask.n}\n".encode(), "text/plain")
    return None


def kind_of(route: str) -> str | None:
    """The kind of answer that a path has when something is posted to it, None where that costs nothing."""
    return next((kind for path, kind in _BILLED if path.match(route)), None)


def _silent(_: int) -> dict[str, Any]:
    return {}


USAGE: Final[dict[str, Callable[[int], dict[str, Any]]]] = {
    "completions": chat_usage,
    "compact": response_usage,
    "decisions": response_usage,
    "images": image_usage,
    "transcripts": audio_usage,
    "runs": run_usage,
    "agents": response_usage,
}
"""Usage by the number of the request; the kinds that are not here report none at once."""


def usage_of(ask: Ask) -> dict[str, Any]:
    """What a request used, as its answer says."""
    if ask.kind == "transcripts" and ask.payload.get("model") == "whisper-1":
        return seconds_usage(ask.n)
    return USAGE.get(ask.kind, _silent)(ask.n)


def completion(ask: Ask) -> dict[str, Any]:
    """A legacy completion, or a chunk of one."""
    return {
        "id": f"cmpl-{ask.n:08d}",
        "object": "text_completion",
        "created": wire.CREATED,
        "model": ask.model,
        "choices": [{"index": 0, "text": f"answer {ask.n}", "logprobs": None, "finish_reason": "stop"}],
        "usage": ask.usage,
    }


def compacted(ask: Ask) -> dict[str, Any]:
    """A compacted conversation."""
    return {
        "id": f"resp_{ask.n:08d}",
        "object": "response.compaction",
        "created_at": wire.CREATED,
        "output": [],
        "usage": ask.usage,
    }


def decision(ask: Ask) -> dict[str, Any]:
    """A decision."""
    return {
        "model": ask.model,
        "answers": [{"name": "q", "probability": 0.5, "type": "predicate"}],
        "usage": ask.usage,
    }


def images(ask: Ask) -> dict[str, Any]:
    """Images, as many as were asked for."""
    count = int(ask.payload.get("n") or 1)
    return {
        "created": wire.CREATED,
        "data": [{"b64_json": IMAGE}] * count,
        "size": "1024x1024",
        "quality": "high",
        "usage": ask.usage,
    }


def transcript(ask: Ask) -> dict[str, Any]:
    """A transcription, or a translation, in the format that was asked for."""
    body: dict[str, Any] = {"text": f"answer {ask.n}"}
    if ask.payload.get("response_format") == "verbose_json":
        body |= {"duration": ask.n + 0.25, "language": "english", "segments": []}
    if ask.usage:
        body["usage"] = ask.usage
    return body


def _job(prefix: str, kind: str, status: str, **fields: Any) -> Callable[[Ask], dict[str, Any]]:
    """Work that has only begun: it has an id and a state, and no usage yet."""

    def job(ask: Ask) -> dict[str, Any]:
        head = {"id": f"{prefix}_{ask.n:08d}", "object": kind, "created_at": wire.CREATED, "status": status}
        return {**head, "model": ask.model, "usage": None, **fields}

    return job


run = _job("run", "thread.run", "queued", assistant_id="asst_1", thread_id="thread_1", tools=[], instructions="")
session = _job("sess", "agent.session", "in_progress", required_actions=[], metadata={}, vault_ids=[], last_active_at=0)


def grade(ask: Ask) -> dict[str, Any]:
    """The result of a grader."""
    return {
        "reward": 1.0,
        "sub_rewards": {},
        "metadata": {"name": "g", "type": "score_model", "token_usage": 100 + ask.n, "scores": {}, "errors": {}},
        "model_grader_token_usage_per_model": {"gpt-4o": {"total_tokens": 100 + ask.n}},
    }


PLAIN: Final[dict[str, Callable[[Ask], dict[str, Any]]]] = {
    **wire.PLAIN,
    "completions": completion,
    "compact": compacted,
    "decisions": decision,
    "images": images,
    "transcripts": transcript,
    "translations": transcript,
    "videos": _job("video", "video", "queued", seconds="8", size="720x1280", progress=0),
    "characters": lambda ask: {"id": f"char_{ask.n:08d}", "created_at": wire.CREATED, "name": "c"},
    "batches": _job("batch", "batch", "validating", endpoint="/v1/responses", completion_window="24h"),
    "trainings": _job("ftjob", "fine_tuning.job", "queued", trained_tokens=None, hyperparameters={}),
    "graders": grade,
    "evals": _job("evalrun", "eval.run", "queued", per_model_usage=None),
    "runs": run,
    "agents": session,
    "inputs": lambda _: {},
    "invocations": lambda ask: {"id": f"inv_{ask.n:08d}", "session_id": f"sess_{ask.n:08d}", "status": "queued"},
    "searches": lambda _: {"object": "vector_store.search_results.page", "data": [], "has_more": False},
    "containers": _job("cntr", "container", "running", name="c"),
}
"""The answer of each kind that is not streamed."""
