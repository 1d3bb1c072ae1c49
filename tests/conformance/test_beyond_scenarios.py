"""What real servers, hooks and readers do that no scenario of the provider stand-in does."""

from __future__ import annotations

import json
import threading
from typing import Any

import openai
import openai._base_client as base
import pytest
from forms import MAIN, WHO

from openai_metering import OpenAIInstrumentor
from openai_metering.call import Call
from openai_metering.finished import Request, Server
from openai_metering.operations import CHAT_COMPLETIONS
from openai_metering.resolution import EMPTY, resolve
from openai_metering.seams import bodies
from openai_metering.settings import Settings
from openai_metering.signals import Signals

http: Any = getattr(base, "httpx2", None) or base.httpx
CHAT = MAIN[0]
SERVER = Server("openai", "api.openai.com", 443)
WHOM = resolve(EMPTY, EMPTY, EMPTY)


def chunk(**fields: Any) -> dict[str, Any]:
    return {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o-x", **fields}


def choice(finish: str | None = None) -> list[dict[str, Any]]:
    return [{"index": 0, "delta": {"content": "hi"}, "finish_reason": finish}]


USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}


def events(*chunks: dict[str, Any]) -> bytes:
    return b"".join(b"data: " + json.dumps(one).encode() + b"\n\n" for one in chunks) + b"data: [DONE]\n\n"


def client(answer: Any, **options: Any) -> openai.OpenAI:
    return openai.OpenAI(max_retries=0, http_client=http.Client(transport=http.MockTransport(answer), **options))


def streaming(body: bytes) -> Any:
    return lambda request: http.Response(200, headers={"content-type": "text/event-stream"}, content=body)


def test_a_refusal_that_echoes_the_request_is_not_one_of_our_option(telemetry: Any) -> None:
    """A server that quotes the body it refuses, ours included, is asked for usage again, and the call is sent once."""
    seen: list[dict[str, Any]] = []

    def answer(request: Any) -> Any:
        body = json.loads(request.content)
        seen.append(body)
        if body.get("temperature"):
            detail = [{"type": "less_than", "loc": ["body", "temperature"], "msg": "too hot", "input": body}]
            return http.Response(422, json={"detail": detail})
        return streaming(events(chunk(choices=choice("stop")), chunk(choices=[], usage=USAGE)))(request)

    made = client(answer)
    with pytest.raises(openai.UnprocessableEntityError):
        made.chat.completions.create(**CHAT.request, stream=True, temperature=2)
    list(made.chat.completions.create(**CHAT.request, stream=True))
    assert [body["stream_options"] for body in seen] == [{"include_usage": True}] * 2
    assert [record["openai_metering.usage.status"] for record in telemetry.records] == ["not_billed", "reported"]


def test_a_host_is_asked_again_where_the_repeat_failed_too(telemetry: Any) -> None:
    """A refusal that names the option and stays one without it says nothing about the option."""
    seen: list[dict[str, Any]] = []

    def answer(request: Any) -> Any:
        body = json.loads(request.content)
        seen.append(body)
        if "stream_options" in str(body["messages"]):
            return http.Response(400, json={"error": {"message": "no prompts about stream_options", "code": "x"}})
        return streaming(events(chunk(choices=choice("stop")), chunk(choices=[], usage=USAGE)))(request)

    made = client(answer)
    with pytest.raises(openai.BadRequestError):
        made.chat.completions.create(
            model="gpt-4o", messages=[{"role": "user", "content": "set stream_options?"}], stream=True
        )
    list(made.chat.completions.create(**CHAT.request, stream=True))
    assert seen[-1]["stream_options"] == {"include_usage": True}
    assert telemetry.records[-1]["openai_metering.usage.status"] == "reported"


@pytest.mark.parametrize("view", ["with_raw_response", "with_streaming_response"])
def test_a_body_that_a_hook_has_read_already_hides_the_extra_chunk(telemetry: Any, view: str) -> None:
    """Where an event hook of the application reads the answer first, raw views look as the caller ordered them."""
    body = events(chunk(choices=choice("stop"), usage=None), chunk(choices=[], usage=USAGE))
    made = client(streaming(body), event_hooks={"response": [lambda response: response.read()]})
    method = getattr(made.chat.completions, view).create
    if view == "with_raw_response":
        chunks = list(method(**CHAT.request, stream=True).parse())
    else:
        with method(**CHAT.request, stream=True) as response:
            lines = [line for line in response.iter_lines() if line]
        assert len(lines) == 2
        with method(**CHAT.request, stream=True) as response:
            chunks = list(response.parse())
    assert [one.choices[0].finish_reason for one in chunks] == ["stop"]
    assert "usage" not in chunks[0].to_json()
    assert telemetry.records[-1]["gen_ai.usage.input_tokens"] == 11


def test_a_chunk_of_the_providers_own_after_the_finish_reason_is_not_hidden(telemetry: Any) -> None:
    """A chunk without choices that carries something else than usage is the caller's."""
    body = events(
        chunk(choices=choice("stop"), usage=None),
        chunk(choices=[], usage=None, citations=["a"]),
        chunk(choices=[], usage=USAGE),
    )
    chunks = list(client(streaming(body)).chat.completions.create(**CHAT.request, stream=True))
    assert [len(one.choices) for one in chunks] == [1, 0]
    assert chunks[1].citations == ["a"]
    assert telemetry.record()["gen_ai.usage.input_tokens"] == 11


def test_what_was_scanned_of_a_large_event_is_not_scanned_again(telemetry: Any) -> None:
    """An event of megabytes that comes in thousands of pieces costs as much as it has bytes."""
    body = events(chunk(choices=[{"index": 0, "delta": {"content": "x" * 100_000}, "finish_reason": "stop"}]))
    reader = bodies.EventReader(
        Call(Signals(Settings()), CHAT_COMPLETIONS, SERVER, Request("gpt-4o", stream=True), WHOM)
    )
    passed = b""
    for start in range(0, len(body), 1000):
        passed += reader.feed(body[start : start + 1000])
        assert reader._scanned == len(reader._rest)
    assert passed + reader.flush() == body


def test_a_second_reader_at_once_ends_nothing(provider: Any, telemetry: Any) -> None:
    """Of two threads that read one stream, the second gets the SDK's own error, and the call ends as the first reads."""
    made = openai.OpenAI(base_url=provider.base_url, max_retries=0)
    stream = made.chat.completions.create(
        **CHAT.request, stream=True, usage_metadata=dict(WHO), extra_headers={"x-standin-scenario": "hold"}
    )
    next(stream)
    next(stream)
    found: list[Any] = []
    reader = threading.Thread(target=lambda: found.extend(stream))
    reader.start()
    with pytest.raises(ValueError, match="already executing"):
        found.extend(iter(lambda: next(stream), None))
    provider.release()
    reader.join(10)
    record = telemetry.record()
    assert (record["openai_metering.outcome"], record["openai_metering.usage.status"]) == ("completed", "reported")


@pytest.mark.parametrize("name", ["tracer_provider", "meter_provider", "logger_provider"])
def test_a_provider_that_is_none_costs_no_other_signal(
    tmp_path: Any, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    """A wrong provider is named with its type, and the ledger is written all the same."""
    instrumentor = OpenAIInstrumentor()
    instrumentor.instrument(**{name: 3}, ledger_dir=tmp_path)
    try:
        body = events(chunk(choices=choice("stop")), chunk(choices=[], usage=USAGE))
        list(client(streaming(body)).chat.completions.create(**CHAT.request, stream=True))
    finally:
        instrumentor.uninstrument()
    assert f"{name} takes an OpenTelemetry provider" in caplog.text
    assert len([line for file in tmp_path.iterdir() for line in file.read_text().splitlines()]) == 1


def test_half_a_surrogate_pair_costs_no_attribute(telemetry: Any) -> None:
    """A name with half an emoji, as a cut text has, arrives with a replacement in its place."""
    body = events(chunk(choices=choice("stop")), chunk(choices=[], usage=USAGE))
    list(
        client(streaming(body)).chat.completions.create(
            **CHAT.request, stream=True, usage_metadata={"organization_id": "Acme\ud83d"}
        )
    )
    assert telemetry.record()["attribution.organization.id"] == "Acme?"


def test_a_plain_answer_that_breaks_off_was_cut(provider: Any, telemetry: Any) -> None:
    """A connection that fails within the body of an answer is not one that failed before it."""
    made = openai.OpenAI(base_url=provider.base_url, max_retries=0)
    with pytest.raises(openai.APIConnectionError):
        made.chat.completions.create(**CHAT.request, extra_headers={"x-standin-scenario": "cut"})
    assert telemetry.record()["openai_metering.usage.reason"] == "cut"
