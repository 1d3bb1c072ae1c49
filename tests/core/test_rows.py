"""What each row reads of an answer that says all it can, in the provider's words."""

from __future__ import annotations

from typing import Any

import pytest

from openai_metering.operations import CALLS
from openai_metering.usage import Answer

GEN, OWN = "gen_ai.usage.", "openai_metering.usage."
TOKENS = {"input_tokens": 9, "output_tokens": 5, "total_tokens": 14}
OLD_TOKENS = {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}
CHOSEN = {"choices": [{"finish_reason": "stop"}]}
SOUGHT = {"tool_usage": {"web_search": {"num_requests": 2}}, "data": [{}], "duration": 2.5, "seconds": "8"}
SOUGHT |= {"session_id": "session_1", **CHOSEN}
"""What some rows read and others must not."""
COUNTS = {GEN + "input_tokens": 9, GEN + "output_tokens": 5}
SEARCHES = {OWN + "web_searches": 2}
SECONDS = {OWN + "seconds": 8.0}
IMAGES = {OWN + "images": 1}
NEW, OLD = {"usage": TOKENS}, {"usage": OLD_TOKENS}
GRADED = {"metadata": {"token_usage": 7}}
IDS = {
    **dict.fromkeys(("embeddings", "audio.speech", "audio.transcriptions", "audio.translations")),
    "fine_tuning.alpha.graders.run": None,
    "agents.automations.invocations": "session_1",
}
"""Answers that have no id, or have it elsewhere."""
ROWS: dict[str, tuple[dict[str, Any], dict[str, float] | None, tuple[str, ...]]] = {
    "chat.completions": (OLD, COUNTS, ("stop",)),
    "completions": (OLD, COUNTS, ("stop",)),
    "responses": ({**NEW, "status": "completed"}, COUNTS | SEARCHES, ()),
    "responses.compact": (NEW, COUNTS | SEARCHES, ()),
    "embeddings": ({"usage": {"prompt_tokens": 9, "total_tokens": 9}}, {GEN + "input_tokens": 9}, ()),
    "decisions": ({**NEW, "output": [{}]}, COUNTS, ()),
    **dict.fromkeys(("images.generate", "images.edit", "images.create_variation"), (NEW, COUNTS | IMAGES, ())),
    "audio.speech": (NEW, None, ()),
    "audio.transcriptions": ({"usage": {"type": "duration", "seconds": 2.25}}, {OWN + "seconds": 2.25}, ()),
    "audio.translations": ({}, {OWN + "seconds": 2.5}, ()),
    **dict.fromkeys(
        ("videos", "videos.edit", "videos.extend", "videos.remix"), (NEW | {"status": "completed"}, SECONDS, ())
    ),
    "videos.create_character": (NEW | {"status": "completed"}, None, ()),
    "batches": (
        NEW | {"status": "completed", "request_counts": {"completed": 3}},
        COUNTS | {OWN + "batch_requests": 3},
        (),
    ),
    "fine_tuning.jobs": (NEW | {"status": "succeeded", "trained_tokens": 7}, {OWN + "trained_tokens": 7}, ()),
    "fine_tuning.alpha.graders.run": (NEW | GRADED, {OWN + "grader_tokens": 7}, ()),
    "evals.runs": (NEW | {"status": "completed", "per_model_usage": [OLD_TOKENS]}, COUNTS, ()),
    **dict.fromkeys(
        ("threads.runs", "threads.create_and_run"),
        (OLD | {"status": "completed"}, COUNTS, ()),
    ),
    **dict.fromkeys(("agents.sessions", "agents.sessions.events"), (NEW | {"status": "idle"}, None, ())),
    "agents.automations.invocations": (NEW | {"status": "idle"}, None, ()),
    "vector_stores.search": (NEW, None, ()),
    "containers": (NEW, None, ()),
}


@pytest.mark.parametrize("row", CALLS, ids=lambda row: row.name)
def test_a_row_reads_what_its_endpoint_says_and_nothing_else(row):
    """The same body says different things at different endpoints: how much it was is decided by the row's reader."""
    body, counts, reasons = ROWS[row.name]
    answer = Answer()
    row.read(answer, {"id": "id_1", **SOUGHT, **body})
    assert answer.counts == counts
    assert answer.response_id == IDS.get(row.name, "id_1")
    assert tuple(reason for reason in answer.finish_reasons if row.api_type != "responses") == reasons


def test_every_row_is_here():
    """A new row says here what it reads."""
    assert {row.name for row in CALLS} == ROWS.keys()


def test_only_sound_is_never_looked_into():
    """Any other answer is read, for its id at least."""
    assert [row.name for row in CALLS if row.binary] == ["audio.speech"]
