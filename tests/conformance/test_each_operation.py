"""What is particular to one operation: units, shapes, facts of the request; and what a new endpoint costs."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from forms import PICTURE, SOUND

from openai_metering import operations, readers
from openai_metering.operations import Operation

USAGE = "openai_metering.usage."


@pytest.fixture
def client(provider: Any) -> Any:
    with openai.OpenAI(base_url=provider.base_url, max_retries=0) as client:
        yield client


def used(record: dict[str, Any]) -> dict[str, float]:
    return {name: value for name, value in record.items() if ".usage." in name and not isinstance(value, str)}


def test_a_new_endpoint_costs_one_row(provider: Any, telemetry: Any, client: Any) -> None:
    """A row that is added while the process runs is all it takes: span, record, metrics and attribution follow."""
    row = Operation("imaginary", "POST", "/imaginary/{}/things", kind="chat", read=readers.read_decision)
    path = "/imaginary/i_1/things"
    client.post(path, cast_to=object, body={"model": "gpt-4o"})
    assert telemetry.records == []
    operations.add(row)
    try:
        client.post(path, cast_to=object, body={"model": "gpt-4o"})
    finally:
        operations.remove(row)
    record = telemetry.record()
    assert record["openai_metering.operation"] == "imaginary"
    assert record["gen_ai.request.model"] == "gpt-4o"
    assert record["openai_metering.request.id"] == provider.served[-1].request_id
    assert [span.name for span in telemetry.spans] == ["chat gpt-4o"]
    assert telemetry.total("openai_metering.calls") == 1
    client.post(path, cast_to=object, body={"model": "gpt-4o"})
    assert len(telemetry.records) == 1


def test_sound_is_neither_parsed_nor_kept(provider: Any, telemetry: Any, client: Any) -> None:
    """The caller gets every byte; the bill is what was asked for."""
    spoken = client.audio.speech.create(model="tts-1", input="Ünï", voice="alloy")
    assert spoken.content.startswith(b"\xff\xf3")
    record = telemetry.record()
    assert used(record) == {USAGE + "characters": 3}
    assert record[USAGE + "status"] == "estimated"


def test_speech_that_is_left_is_charged_as_asked_for(telemetry: Any, client: Any) -> None:
    """The provider has begun to speak: what was asked for is the best that is known."""
    with client.audio.speech.with_streaming_response.create(model="tts-1", input="Hello", voice="alloy") as response:
        pieces = response.iter_bytes(16)
        next(pieces)
    record = telemetry.record()
    assert used(record) == {USAGE + "characters": 5}
    assert record["openai_metering.outcome"] == "stopped"


def test_speech_that_is_refused_costs_nothing(telemetry: Any, client: Any) -> None:
    """What was asked for is not what was delivered."""
    headers = {"x-standin-scenario": "status_429"}
    with pytest.raises(openai.RateLimitError):
        client.audio.speech.create(model="tts-1", input="Hello", voice="alloy", extra_headers=headers)
    assert telemetry.record()[USAGE + "status"] == "not_billed"


def test_speech_as_events_is_read_as_such(telemetry: Any, client: Any) -> None:
    """The form that the SDK hands on as bytes, too."""
    client.audio.speech.create(
        model="gpt-4o-mini-tts", input="Hello", voice="alloy", extra_body={"stream_format": "sse"}
    )
    assert used(telemetry.record()) == {USAGE + "characters": 5}


@pytest.mark.parametrize("response_format", ["text", "srt", "vtt"])
def test_a_transcript_that_is_plain_text_is_unknown(telemetry: Any, client: Any, response_format: str) -> None:
    """No number is not zero seconds."""
    client.audio.transcriptions.create(model="whisper-1", file=SOUND, response_format=response_format)
    record = telemetry.record()
    assert used(record) == {}
    assert (record[USAGE + "status"], record[USAGE + "reason"]) == ("unknown", "not_sent")


def test_what_decides_about_the_price_of_images_is_recorded(telemetry: Any, client: Any) -> None:
    """Size and quality as asked for at the start, as made at the end; and how many."""
    client.images.generate(model="gpt-image-1", prompt="x", n=4, size="256x256", extra_body={"quality": "low"})
    record = telemetry.record()
    assert record["openai_metering.image.size"] == "1024x1024"
    assert record["openai_metering.image.quality"] == "high"
    assert record["gen_ai.request.choice.count"] == 4
    assert record[USAGE + "images"] == 4


def test_the_fields_of_a_form_are_read(telemetry: Any, client: Any) -> None:
    """A body that travels beside files says the same as any other."""
    client.images.edit(model="gpt-image-1", image=PICTURE, prompt="x", n=2)
    record = telemetry.record()
    assert (record["gen_ai.request.model"], record["gen_ai.request.choice.count"]) == ("gpt-image-1", 2)


def test_a_batch_says_what_its_discount_rests_on(telemetry: Any, client: Any) -> None:
    """The completion window and the endpoint decide about the price."""
    client.batches.create(completion_window="24h", endpoint="/v1/embeddings", input_file_id="file-1")
    record = telemetry.record()
    assert record["openai_metering.request.completion_window"] == "24h"
    assert record["openai_metering.batch.endpoint"] == "/v1/embeddings"
    assert record["gen_ai.response.id"].startswith("batch_")


def test_the_service_tier_and_the_window_are_read_from_extra_body(telemetry: Any, client: Any) -> None:
    """What the SDK's types lack is asked for all the same."""
    extra = {"service_tier": "flex", "background_options": {"completion_window": "8h"}}
    client.post("/responses", cast_to=object, body={"model": "gpt-5", "input": "x"}, options={"extra_json": extra})
    record = telemetry.record()
    assert record["openai.request.service_tier"] == "flex"
    assert record["openai_metering.request.completion_window"] == "8h"


def test_a_key_in_the_place_of_a_tier_is_masked(telemetry: Any, client: Any) -> None:
    """A mix-up of arguments does not put a key into telemetry."""
    key = "sk-proj-Ab3dEf6hIj9lMn2pQr5tUv8xYz1BcD4fGh7jKl0n"
    client.post("/responses", cast_to=object, body={"model": "gpt-5", "input": "x", "service_tier": key})
    assert telemetry.record()["openai.request.service_tier"] == "[masked]"
    assert [span.attributes["openai.request.service_tier"] for span in telemetry.spans] == ["[masked]"]


@pytest.mark.parametrize("place", ["client", "client headers", "request"])
def test_the_providers_organization_and_project_are_recorded(provider: Any, telemetry: Any, place: str) -> None:
    """As the request names them, wherever that was said."""
    headers = {"OpenAI-Organization": "org-1", "openai-project": "proj_1"}
    made = {"client": {"organization": "org-1", "project": "proj_1"}, "client headers": {"default_headers": headers}}
    with openai.OpenAI(base_url=provider.base_url, **made.get(place, {})) as client:
        client.embeddings.create(model="m", input="x", extra_headers=headers if place == "request" else None)
    assert provider.served[0].headers["openai-organization"] == "org-1"
    record = telemetry.record()
    assert record["openai_metering.request.organization"] == "org-1"
    assert record["openai_metering.request.project"] == "proj_1"


def test_a_run_is_billed_once_at_its_end(provider: Any, telemetry: Any, client: Any) -> None:
    """The usage of its steps is part of the run's own."""
    with client.beta.threads.runs.stream(thread_id="t", assistant_id="a") as run:
        run.until_done()
    record = telemetry.record()
    assert record["gen_ai.usage.input_tokens"] == provider.served[0].usage["prompt_tokens"]
    assert record["gen_ai.response.id"].startswith("run_")
    assert record["gen_ai.operation.name"] == "run"


def test_looking_at_a_job_is_not_metered(telemetry: Any, client: Any) -> None:
    """Its sights are in the table, and cost nothing."""
    client.batches.retrieve("batch_1")
    client.batches.cancel("batch_1")
    client.fine_tuning.jobs.retrieve("ftjob_1")
    assert telemetry.records == []


def test_what_is_new_in_usage_is_kept(telemetry: Any, client: Any) -> None:
    """Through the SDK's own models, whose fields are older than the provider's."""
    client.post("/images/generations", cast_to=object, body={"model": "m", "prompt": "x"})
    assert USAGE + "raw" not in telemetry.record()
    telemetry.clear()
    client.fine_tuning  # noqa: B018 - a resource that some SDKs load late
    client.post("/fine_tuning/alpha/graders/run", cast_to=object, body={"grader": {}})
    raw = json.loads(telemetry.record()[USAGE + "raw"])
    assert raw == {"model_grader_token_usage_per_model": {"gpt-4o": {"total_tokens": 102}}}


@pytest.mark.parametrize("method", ["generate", "edit", "create_variation"])
def test_what_was_asked_for_is_recorded_of_a_refused_image(telemetry: Any, client: Any, method: str) -> None:
    """Size and quality stand in the request, whatever becomes of it."""
    asked = {
        "generate": {"prompt": "x"},
        "edit": {"prompt": "x", "image": PICTURE},
        "create_variation": {"image": PICTURE},
    }
    headers = {"x-standin-scenario": "status_429"}
    body = {"quality": "low"}
    with pytest.raises(openai.RateLimitError):
        getattr(client.images, method)(
            model="m", size="256x256", extra_headers=headers, extra_body=body, **asked[method]
        )
    record = telemetry.record()
    assert record["openai_metering.image.size"] == "256x256"
    assert record["openai_metering.image.quality"] == "low"


@pytest.mark.parametrize("path", ["/videos", "/videos/edits", "/videos/extensions", "/videos/v1/remix"])
def test_what_was_asked_for_is_recorded_of_a_video(telemetry: Any, client: Any, path: str) -> None:
    """The size decides about the price of each second."""
    client.post(path, cast_to=object, body={"prompt": "x", "size": "1280x720"})
    assert telemetry.record()["openai_metering.video.size"] == "1280x720"


def test_a_response_says_what_its_discount_rests_on(telemetry: Any, client: Any) -> None:
    """The completion window, inside the options for the background."""
    client.post(
        "/responses",
        cast_to=object,
        body={"model": "m", "background_options": {"completion_window": "2h"}, "input": "x"},
    )
    assert telemetry.record()["openai_metering.request.completion_window"] == "2h"
