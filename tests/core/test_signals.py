"""The three signals, through OpenTelemetry's own SDK."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import pytest
from emitting import BODY, REQUEST, WHO, KeptLogs, Telemetry, answered, start
from opentelemetry import _logs, context, metrics, trace
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Decision, Sampler, SamplingResult
from opentelemetry.trace import SpanKind, StatusCode, TraceFlags

from openai_metering import errors
from openai_metering.finished import Failure, Request
from openai_metering.operations import EMBEDDINGS, RESPONSES, find
from openai_metering.resolution import EMPTY, Attribution, resolve
from openai_metering.settings import Settings
from openai_metering.signals import Signals

if TYPE_CHECKING:
    from pathlib import Path

INPUT, OUTPUT = "gen_ai.client.inference.usage.input_tokens", "gen_ai.client.inference.usage.output_tokens"
CALLS = "openai_metering.calls"
WHO_ATTRIBUTES = {
    "attribution.organization.id": "AcmeSoft",
    "attribution.subscriber.id": "joe@acme.com",
    "user.id": "joe@acme.com",
    "attribution.credential.id": "key1-hubspot",
    "attribution.status": "complete",
}


def usage(**counts: Any) -> dict[str, Any]:
    return {**BODY, "usage": {"prompt_tokens": 100, "completion_tokens": 50, **counts}}


def ledger_records(folder: Path) -> list[dict[str, Any]]:
    return [
        json.loads(line)["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0]
        for path in sorted(folder.glob("*.jsonl"))
        for line in path.read_bytes().splitlines()
    ]


def flat(record: dict[str, Any]) -> dict[str, Any]:
    """Attributes of a ledger record, with the values as text."""
    return {pair["key"]: next(iter(pair["value"].values())) for pair in record["attributes"]}


def refuse(constant: str) -> None:
    raise ValueError(constant)


# -- Spans -----------------------------------------------------------------------------------------------------------


class Asked(Sampler):
    """Keeps what a sampler is asked."""

    def __init__(self) -> None:
        self.questions: list[tuple[str, Any, dict[str, Any]]] = []

    def should_sample(self, parent_context, trace_id, name, kind=None, attributes=None, links=None, *rest, **more):
        self.questions.append((name, kind, dict(attributes or {})))
        return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes)

    def get_description(self) -> str:
        return "asked"


def test_a_sampler_sees_who_and_what(emitted):
    """All that is known before the request is on the span when it starts, so that samplers can act on it."""
    sampler = Asked()
    request = Request("gpt-4o", stream=True, service_tier="flex", max_tokens=99)
    who = resolve(WHO.attribution, Attribution(tags=(("plan", "pro"),)), EMPTY)
    start(emitted.signals(tracer_provider=TracerProvider(sampler=sampler)), request=request, who=who).complete()
    ((name, kind, attributes),) = sampler.questions
    assert (name, kind) == ("chat gpt-4o", SpanKind.CLIENT)
    assert attributes == {
        **WHO_ATTRIBUTES,
        "attribution.tag.plan": "pro",
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.request.stream": True,
        "gen_ai.request.max_tokens": 99,
        "openai.request.service_tier": "flex",
        "openai.api.type": "chat_completions",
        "openai_metering.operation": "chat.completions",
        "server.address": "api.openai.com",
        "server.port": 443,
    }


def test_a_span_says_what_was_asked_and_what_was_answered(emitted):
    """One span for each call, with usage, times and the answer's own names."""
    call = start(emitted.signals())
    call.responded(200, "req_1", 2)
    call.read(BODY)
    call.complete()
    (span,) = emitted.spans
    assert span.name == "chat gpt-4o"
    assert span.start_time == call.started
    assert span.end_time >= span.start_time
    assert WHO_ATTRIBUTES.items() <= span.attributes.items()
    assert {
        "gen_ai.usage.input_tokens": 11,
        "gen_ai.usage.output_tokens": 7,
        "gen_ai.response.id": "chatcmpl-1",
        "gen_ai.response.model": "gpt-4o-2024-08-06",
        "gen_ai.response.finish_reasons": ("stop",),
        "openai_metering.outcome": "completed",
        "openai_metering.usage.status": "reported",
        "openai_metering.request.id": "req_1",
        "http.request.resend_count": 2,
        "http.response.status_code": 200,
    }.items() <= span.attributes.items()
    assert span.status.status_code is StatusCode.UNSET


def test_a_call_without_a_model_has_a_span(emitted):
    """A span's name ends with the operation where no model was asked for."""
    answered(emitted.signals(), request=Request())
    assert emitted.spans[0].name == "chat"


@pytest.mark.parametrize(
    ("end", "error"),
    [
        (lambda call: call.fail(Failure("openai.APIError", "failed")), True),
        (lambda call: call.fail(Failure("CancelledError", "cancelled", cancelled=True)), True),
        (lambda call: call.stop("stopped"), False),
        (lambda call: call.stop("dropped"), False),
        (lambda call: call.stop("unread"), False),
        (lambda call: call.complete(), False),
    ],
)
def test_only_failures_are_errors_and_no_text_is_in_the_status(emitted, end, error):
    """Leaving a stream is no error; and what a provider said about an error can quote the prompt, so it stays out."""
    end(start(emitted.signals()))
    (span,) = emitted.spans
    assert (span.status.status_code is StatusCode.ERROR) == error
    assert not span.status.description
    assert span.events == ()


def test_no_text_of_the_provider_is_in_any_signal(emitted, tmp_path):
    """Messages of an error reported within an answer are left where they are."""
    error = {"code": "server_error", "message": "the prompt was: SECRET"}
    signals = emitted.signals(Settings(records="both", ledger_dir=str(tmp_path)))
    answered(signals, {"status": "failed", "error": error, "output": ["SECRET"]}, operation=RESPONSES)
    assert emitted.records[0]["error.type"] == "server_error"
    everything = f"{[span.to_json() for span in emitted.spans]}{emitted.records}{emitted.points()}"
    assert "SECRET" not in everything + str(ledger_records(tmp_path))


@pytest.mark.parametrize(
    ("mode", "suppressed", "spans"), [("auto", 1, 0), ("always", 1, 1), ("never", 0, 0), ("auto", 0, 1)]
)
def test_suppression_is_of_spans_only(emitted, mode, suppressed, spans):
    """What another instrumentation suppresses is never a bill: records and metrics stay in every mode."""
    signals = emitted.signals(Settings(spans=mode))
    if suppressed:
        with suppress_instrumentation():
            answered(signals)
    else:
        answered(signals)
    assert (len(emitted.spans), len(emitted.records)) == (spans, 1)
    assert sum(point.value for point in emitted.points()[CALLS]) == 1


def test_a_record_refers_to_its_span(emitted):
    """From a bill one gets to the trace."""
    answered(emitted.signals())
    (span,) = emitted.spans
    (record,) = emitted.kept.records
    assert (record.trace_id, record.span_id) == (span.context.trace_id, span.context.span_id)


def test_a_record_without_a_span_refers_to_the_surrounding_one(emitted):
    """With `SPANS=never` a record still belongs to the request that the application is serving."""
    with emitted.tracer_provider.get_tracer("app").start_as_current_span("request") as span:
        call = start(emitted.signals(Settings(spans="never")))
    call.complete()
    assert emitted.kept.records[0].span_id == span.get_span_context().span_id


# -- When the application's own telemetry raises ---------------------------------------------------------------------


class RaisingSampler(Asked):
    def should_sample(self, *args, **kwargs):
        raise RuntimeError("sampler")


class RaisingSpanProcessor(SpanProcessor):
    def __init__(self, where: str) -> None:
        self.where = where

    def on_start(self, span, parent_context=None) -> None:
        if self.where == "start":
            raise RuntimeError("on_start")

    def on_end(self, span) -> None:
        if self.where == "end":
            raise RuntimeError("on_end")


class RaisingLogs(KeptLogs):
    def on_emit(self, log_data) -> None:
        raise RuntimeError("log")

    emit = on_emit


class RaisingMeterProvider(metrics.MeterProvider):
    """A meter provider whose instruments take nothing."""

    class Instrument:
        def add(self, *args, **kwargs):
            raise RuntimeError("metric")

        record = add

    class Meter(metrics.NoOpMeter):
        def create_counter(self, *args, **kwargs):
            return RaisingMeterProvider.Instrument()

        create_histogram = create_counter

    def get_meter(self, name, *args, **kwargs):
        return self.Meter(name)


def raising_tracer_provider(where: str) -> TracerProvider:
    if where == "sampler":
        return TracerProvider(sampler=RaisingSampler())
    provider = TracerProvider()
    provider.add_span_processor(RaisingSpanProcessor(where))
    return provider


@pytest.mark.parametrize("where", ["sampler", "start", "end"])
def test_a_raising_trace_pipeline_costs_only_the_span(emitted, where):
    """A broken sampler or span processor reaches neither the caller nor the bill."""
    answered(emitted.signals(tracer_provider=raising_tracer_provider(where)))
    assert len(emitted.records) == 1
    assert emitted.records[0]["gen_ai.usage.input_tokens"] == 11
    assert sum(point.value for point in emitted.points()[CALLS]) == 1
    assert sum(errors.counts.values()) == 1


def test_a_raising_log_pipeline_costs_only_the_record(emitted):
    """A broken log processor reaches neither the caller nor the other signals."""
    provider = LoggerProvider()
    provider.add_log_record_processor(RaisingLogs())
    answered(emitted.signals(logger_provider=provider))
    assert len(emitted.spans) == 1
    assert sum(point.value for point in emitted.points()[CALLS]) == 1


def test_a_raising_meter_costs_only_the_metrics(emitted, tmp_path):
    """A broken meter reaches neither the caller nor the other signals, and no record is lost or doubled."""
    signals = emitted.signals(Settings(records="both", ledger_dir=str(tmp_path)), meter_provider=RaisingMeterProvider())
    answered(signals)
    signals.close()
    assert (len(emitted.spans), len(emitted.records), len(ledger_records(tmp_path))) == (1, 1, 1)


def test_our_own_errors_are_counted_as_a_metric(emitted):
    """A dashboard shows that something of ours is swallowed, by its kind."""
    answered(emitted.signals(tracer_provider=raising_tracer_provider("end")))
    (point,) = emitted.points()["openai_metering.errors"]
    assert (point.value, dict(point.attributes)) == (1, {"kind": "span.end"})


# -- Sampling --------------------------------------------------------------------------------------------------------


def test_sampling_never_touches_a_bill():
    """At a sampling rate of nothing every record and every point is still there, and says that it was not sampled."""
    emitted = Telemetry(sampler=ALWAYS_OFF)
    signals = emitted.signals()
    for _ in range(10):
        answered(signals)
    assert emitted.spans == []
    assert [record["gen_ai.usage.input_tokens"] for record in emitted.records] == [11] * 10
    assert sum(point.value for point in emitted.points()[INPUT]) == 110
    assert not any(record.trace_flags & TraceFlags.SAMPLED for record in emitted.kept.records)


# -- Metrics ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("details", "inputs", "outputs"),
    [
        ({}, {"unknown": 100}, {"unknown": 50}),
        (
            {"prompt_tokens_details": {"audio_tokens": 30, "cached_tokens": 60}},
            {"audio": 30, "unknown": 70},
            {"unknown": 50},
        ),
        (
            {
                "prompt_tokens_details": {"audio_tokens": 30, "text_tokens": 50, "image_tokens": 20},
                "completion_tokens_details": {"text_tokens": 45, "audio_tokens": 5, "reasoning_tokens": 9},
            },
            {"audio": 30, "text": 50, "image": 20},
            {"text": 45, "audio": 5},
        ),
        # A server whose parts are more than the whole: the whole is what is billed.
        (
            {"prompt_tokens_details": {"text_tokens": 80, "audio_tokens": 80}},
            {"text": 80, "audio": 20},
            {"unknown": 50},
        ),
        ({"prompt_tokens_details": {"text_tokens": 500}}, {"text": 100}, {"unknown": 50}),
    ],
    ids=["none", "audio", "all", "too-much", "far-too-much"],
)
def test_the_sum_over_modalities_is_the_total(emitted, details, inputs, outputs):
    """Dashboards may add up over modality and get what is billed."""
    answered(emitted.signals(), usage(**details))
    points = emitted.points()
    for metric, expected in ((INPUT, inputs), (OUTPUT, outputs)):
        assert {point.attributes["gen_ai.token.modality"]: point.value for point in points[metric]} == expected


def test_cached_and_reasoning_tokens_have_counters_of_their_own(emitted):
    """Parts that have a price of their own can be seen beside the totals that contain them."""
    details = {
        "prompt_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 10},
        "completion_tokens_details": {"reasoning_tokens": 40},
    }
    answered(emitted.signals(), usage(**details))
    points = emitted.points()
    prefix = "gen_ai.client.inference.usage."
    for name, value in (
        ("cache_read.input_tokens", 60),
        ("cache_write.input_tokens", 10),
        ("reasoning.output_tokens", 40),
    ):
        assert [point.value for point in points[prefix + name]] == [value]


@pytest.mark.parametrize(
    "end",
    [
        lambda call: call.complete(),
        lambda call: call.stop("stopped"),
        lambda call: call.fail(Failure("openai.APIError", "refused")),
        lambda call: (call.observe({"usage": {"prompt_tokens": 5}, "choices": []}), call.stop("stopped")),
    ],
    ids=["not-sent", "stopped", "refused", "estimated"],
)
def test_usage_that_is_not_reported_adds_no_token(emitted, end):
    """A missing number is not a zero on a dashboard; the call itself is counted, with what is known of its usage."""
    end(start(emitted.signals()))
    points = emitted.points()
    assert [name for name in points if "usage" in name] == []
    (point,) = points[CALLS]
    assert point.attributes["openai_metering.usage.status"] != "reported"
    assert point.value == 1


def test_metrics_say_which_organization_but_no_person_unless_asked(emitted):
    """The organization is on every call's metrics; levels that multiply the series are there on request only."""
    answered(emitted.signals())
    points = emitted.points()
    for name in (INPUT, OUTPUT, CALLS, "gen_ai.client.inference.duration"):
        (point,) = points[name]
        assert point.attributes["attribution.organization.id"] == "AcmeSoft"
    everything = str([dict(point.attributes) for found in points.values() for point in found])
    assert "joe@acme.com" not in everything
    assert "key1-hubspot" not in everything


@pytest.mark.parametrize(
    "levels", [{"subscriber"}, {"credential"}, {"subscriber", "credential"}], ids=["subscriber", "credential", "both"]
)
def test_levels_that_were_asked_for_are_on_the_metrics(emitted, levels):
    """`METRIC_ATTRIBUTES` adds exactly the levels that it names."""
    answered(emitted.signals(Settings(metric_attributes=frozenset(levels))))
    (point,) = emitted.points()[INPUT]
    assert ("attribution.subscriber.id" in point.attributes) == ("subscriber" in levels)
    assert ("attribution.credential.id" in point.attributes) == ("credential" in levels)


NEW = {"gen_ai.client.inference.duration", "gen_ai.client.embeddings.duration", INPUT, OUTPUT}
OLD = {"gen_ai.client.token.usage"}


@pytest.mark.parametrize(("names", "there"), [("latest", NEW), ("legacy", OLD), ("both", NEW | OLD)])
def test_metrics_have_the_names_that_were_asked_for(emitted, names, there):
    """What dashboards of the earlier conventions read, with the same numbers; our own metrics stay."""
    signals = emitted.signals(Settings(metrics=names))
    answered(signals)
    answered(signals, {"usage": {"prompt_tokens": 8}}, operation=EMBEDDINGS, request=Request("text-embedding-3-small"))
    answered(signals, {}, operation=find("POST", "/audio/speech"))
    points = emitted.points()
    assert points.keys() & (NEW | OLD) == there
    assert sum(point.value for point in points["openai_metering.calls"]) == 3
    durations = {point.attributes["gen_ai.operation.name"] for point in points["gen_ai.client.operation.duration"]}
    assert durations == ({"speech"} if names == "latest" else {"chat", "embeddings", "speech"})
    if names != "latest":
        tokens = {
            (point.attributes["gen_ai.operation.name"], point.attributes["gen_ai.token.type"]): (point.count, point.sum)
            for point in points["gen_ai.client.token.usage"]
        }
        assert tokens == {("chat", "input"): (1, 11), ("chat", "output"): (1, 7), ("embeddings", "input"): (1, 8)}
        assert {point.attributes["attribution.organization.id"] for point in points["gen_ai.client.token.usage"]} == {
            "AcmeSoft"
        }


def test_each_organization_has_its_own_points(emitted):
    """Nobody's tokens are added to somebody else's."""
    signals = emitted.signals()
    for number, name in enumerate(["a", "b", None], 1):
        for _ in range(number):
            answered(signals, who=resolve(Attribution(name), EMPTY, EMPTY))
    values = {point.attributes.get("attribution.organization.id"): point.value for point in emitted.points()[INPUT]}
    assert values == {"a": 11, "b": 22, None: 33}


def test_durations_are_by_the_conventions_name(emitted):
    """Chat and embeddings have histograms of their own, failures carry their type."""
    signals = emitted.signals()
    answered(signals)
    answered(signals, {"usage": {"prompt_tokens": 8}}, operation=EMBEDDINGS, request=Request("text-embedding-3-small"))
    start(signals).fail(Failure("openai.APITimeoutError", "timeout"))
    points = emitted.points()
    assert [point.count for point in points["gen_ai.client.embeddings.duration"]] == [1]
    assert sorted(
        (point.attributes.get("error.type", ""), point.count) for point in points["gen_ai.client.inference.duration"]
    ) == [
        ("", 1),
        ("openai.APITimeoutError", 1),
    ]
    assert all(point.sum >= 0 for point in points["gen_ai.client.inference.duration"])


# -- Records ---------------------------------------------------------------------------------------------------------


def test_a_record_is_an_event_with_all_that_a_bill_needs(emitted):
    """Who, from which source, what, how much, and a key to count it once by."""
    who = resolve(
        Attribution(subscriber_credential="key1-hubspot"), Attribution(None, "joe@acme.com"), Attribution("AcmeSoft")
    )
    call = answered(emitted.signals(), who=who)
    (log,) = emitted.kept.records
    (record,) = emitted.records
    assert (log.event_name, log.body, log.severity_text) == ("openai_metering.usage", None, "INFO")
    assert log.timestamp >= call.started
    assert WHO_ATTRIBUTES.items() <= record.items()
    assert {
        "attribution.organization.source": "default",
        "attribution.subscriber.source": "scope",
        "attribution.credential.source": "keyword",
        "openai_metering.record.version": 1,
        "openai_metering.record.state": "final",
        "openai_metering.record.start_time": call.started,
        "openai_metering.operation": "chat.completions",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.usage.input_tokens": 11,
        "gen_ai.usage.output_tokens": 7,
    }.items() <= record.items()
    assert len(record["openai_metering.record.id"]) == 32


def test_every_record_has_a_key_of_its_own(emitted):
    """Readers that count distinct keys count every call."""
    signals = emitted.signals()
    for _ in range(100):
        answered(signals)
    assert len({record["openai_metering.record.id"] for record in emitted.records}) == 100


def test_an_unknown_who_is_absent_and_said_to_be(emitted):
    """Unowned spend shows up as such, never under a made-up name."""
    answered(emitted.signals(), who=resolve(EMPTY, EMPTY, EMPTY))
    (record,) = emitted.records
    assert record["attribution.status"] == "unattributed"
    assert [name for name in record if name.startswith(("attribution.", "user."))] == ["attribution.status"]


@pytest.mark.parametrize(
    ("mode", "folder", "in_log", "in_ledger"),
    [
        ("auto", False, 1, 0),
        ("auto", True, 0, 1),
        ("otlp", False, 1, 0),
        ("otlp", True, 1, 0),
        ("ledger", True, 0, 1),
        ("ledger", False, 0, 0),
        ("both", True, 1, 1),
        ("both", False, 1, 0),
        ("none", True, 0, 0),
        ("none", False, 0, 0),
    ],
)
def test_records_go_where_the_mode_says(emitted, tmp_path, mode, folder, in_log, in_ledger):
    """One copy, in the ledger where there is one, else as a log; two only where asked for."""
    signals = emitted.signals(Settings(records=mode, ledger_dir=str(tmp_path) if folder else None))
    assert signals.records.listening() == bool(in_log or in_ledger)
    answered(signals)
    assert (len(emitted.records), len(ledger_records(tmp_path))) == (in_log, in_ledger)


def test_both_copies_of_a_record_are_the_same_one(emitted, tmp_path):
    """Who reads both copies counts one call, and reads the same in each."""
    answered(emitted.signals(Settings(records="both", ledger_dir=str(tmp_path))))
    (written,) = ledger_records(tmp_path)
    (sent,) = emitted.records
    (log,) = emitted.kept.records
    found = flat(written)
    assert found["openai_metering.record.id"] == sent["openai_metering.record.id"]
    assert found.keys() == sent.keys()
    assert {
        name: str(value) for name, value in sent.items() if isinstance(value, int) and not isinstance(value, bool)
    } == {name: found[name] for name, value in sent.items() if isinstance(value, int) and not isinstance(value, bool)}
    assert (written["timeUnixNano"], written["eventName"]) == (str(log.timestamp), log.event_name)
    assert (written["traceId"], written["spanId"]) == (f"{log.trace_id:032x}", f"{log.span_id:016x}")


def test_the_ledger_is_labelled_with_the_providers_resource(emitted, tmp_path):
    """Records on disk are of the same service as those on the wire."""
    provider = LoggerProvider(resource=Resource({"service.name": "shop"}))
    answered(emitted.signals(Settings(ledger_dir=str(tmp_path)), logger_provider=provider))
    (path,) = tmp_path.iterdir()
    resource = json.loads(path.read_bytes())["resourceLogs"][0]["resource"]
    assert {"key": "service.name", "value": {"stringValue": "shop"}} in resource["attributes"]


def test_an_unwritable_ledger_falls_back_to_the_log(emitted, tmp_path, caplog):
    """A ledger that fails costs a warning, said once, and no record."""
    (tmp_path / "file").write_text("")
    signals = emitted.signals(Settings(ledger_dir=str(tmp_path / "file" / "ledger")))
    for _ in range(3):
        answered(signals)
    assert len(emitted.records) == 3
    warnings = [record.getMessage() for record in caplog.records if record.name == "openai_metering"]
    assert len(warnings) == 1
    assert str(tmp_path) in warnings[0]


def test_a_mode_without_its_folder_is_said_once(emitted, caplog):
    """`RECORDS=ledger` without a folder keeps nothing, and says so at the start."""
    emitted.signals(Settings(records="ledger"))
    assert "OPENAI_METERING_LEDGER_DIR" in caplog.text


def test_the_ledgers_metrics_go_to_the_given_meter_provider(emitted, tmp_path):
    """A provider that `instrument()` is given gets all of our metrics, those of the ledger included."""
    answered(emitted.signals(Settings(ledger_dir=str(tmp_path))))
    (path,) = tmp_path.iterdir()
    assert [point.value for point in emitted.points().get("openai_metering.ledger.bytes", [])] == [path.stat().st_size]


def test_lost_records_are_counted_and_said(emitted, tmp_path, caplog):
    """Where a record has nowhere to go, a metric of the given provider and a warning say so."""
    (tmp_path / "file").write_text("")
    signals = emitted.signals(
        Settings(ledger_dir=str(tmp_path / "file" / "ledger")), logger_provider=_logs.NoOpLoggerProvider()
    )
    answered(signals)
    assert "cannot be written" in caplog.text
    assert "no destination" not in caplog.text
    assert [point.value for point in emitted.points().get("openai_metering.records.dropped", [])] == [1]


@pytest.mark.parametrize(
    "tag", [float("nan"), float("inf"), 2**70, "\ud800", "x" * 256], ids=["nan", "inf", "huge", "surrogate", "long"]
)
def test_no_tag_makes_a_record_unreadable(emitted, tmp_path, tag):
    """Whatever an application tags its calls with, the line on disk is valid OTLP JSON within 64 bits."""
    who = resolve(Attribution.from_mapping({"organization_id": "AcmeSoft", "tag": tag}), EMPTY, EMPTY)
    answered(emitted.signals(Settings(ledger_dir=str(tmp_path))), who=who)
    (path,) = tmp_path.iterdir()
    record = json.loads(path.read_bytes(), parse_constant=refuse)["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0]
    assert all(abs(int(pair["value"].get("intValue", 0))) < 2**63 for pair in record["attributes"])


# -- Who listens -----------------------------------------------------------------------------------------------------


def test_nothing_listens_where_there_are_only_no_op_providers():
    """An application without an OpenTelemetry SDK is left alone."""
    signals = Signals(Settings(), trace.NoOpTracerProvider(), metrics.NoOpMeterProvider(), _logs.NoOpLoggerProvider())
    assert not signals.listening()


@pytest.mark.parametrize("kept", ["tracer_provider", "meter_provider", "logger_provider"])
def test_one_real_provider_is_enough_to_listen(emitted, kept):
    """Each signal counts for itself."""
    nothing = {
        "tracer_provider": trace.NoOpTracerProvider(),
        "meter_provider": metrics.NoOpMeterProvider(),
        "logger_provider": _logs.NoOpLoggerProvider(),
    }
    del nothing[kept]
    assert emitted.signals(**nothing).listening()


def test_a_ledger_listens_without_any_sdk(tmp_path):
    """Bills can be made with nothing but a folder."""
    signals = Signals(
        Settings(ledger_dir=str(tmp_path)),
        trace.NoOpTracerProvider(),
        metrics.NoOpMeterProvider(),
        _logs.NoOpLoggerProvider(),
    )
    assert signals.listening()
    answered(signals)
    (record,) = ledger_records(tmp_path)
    assert "traceId" not in record


def in_a_new_process(code: str, **environ: str) -> str:
    here = __file__.rpartition("/")[0]
    ran = subprocess.run(  # noqa: PLW1510
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {here!r})\n" + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environ},
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_nothing_listens_until_a_global_provider_is_set():
    """With the API alone nothing is done for a call, and no SDK is imported for it."""
    out = in_a_new_process(
        """
        import openai
        from openai_metering import OpenAIInstrumentor
        OpenAIInstrumentor().instrument()
        signals = OpenAIInstrumentor()._installation.metering.signals
        print(signals.listening(), "opentelemetry.sdk" in sys.modules)
        """
    )
    assert out.split() == ["False"] * 2


def test_global_providers_that_are_set_after_instrument_are_used():
    """Applications that set OpenTelemetry up after the launcher has run lose nothing."""
    out = in_a_new_process(
        """
        import openai
        from openai_metering import OpenAIInstrumentor
        OpenAIInstrumentor().instrument()
        signals = OpenAIInstrumentor()._installation.metering.signals
        before = signals.listening()
        from emitting import Telemetry, answered
        from opentelemetry import _logs, metrics, trace
        made = Telemetry()
        trace.set_tracer_provider(made.tracer_provider)
        metrics.set_meter_provider(made.meter_provider)
        _logs.set_logger_provider(made.logger_provider)
        after = signals.listening()
        answered(signals)
        points = made.points()
        print(before, after, len(made.spans), len(made.records), points["openai_metering.calls"][0].value,
              points["gen_ai.client.inference.usage.input_tokens"][0].value)
        """
    )
    assert out.split() == ["False", "True", "1", "1", "1", "11"]


def test_the_span_is_not_left_in_the_context(emitted):
    """Emitting signals changes nothing about what is current in the application."""
    before = context.get_current()
    answered(emitted.signals())
    assert context.get_current() == before
    assert trace.get_current_span() is trace.INVALID_SPAN


def test_closed_metrics_count_no_more_errors(emitted):
    """After `uninstrument()` our errors are nobody's metric."""
    signals = emitted.signals()
    signals.close()
    errors.swallow("test", ValueError())
    assert "openai_metering.errors" not in emitted.points()


def test_two_pipelines_do_not_mix(emitted):
    """Signals made for one set of providers never reach another."""
    other = Telemetry()
    answered(other.signals(), request=REQUEST)
    assert (emitted.spans, emitted.records) == ([], [])
    assert len(other.records) == 1


# -- OpenTelemetry's limits --------------------------------------------------------------------------------------------


def limited(monkeypatch, **limits):
    """Providers that were set up under these limits, and what came out of a call."""
    for name, value in limits.items():
        monkeypatch.setenv(f"OTEL_{name.upper()}", str(value))
    made = Telemetry()
    answered(made.signals())
    (span,), (record,) = made.spans, made.kept.records
    return span, record


def test_limits_of_the_sdk_hold(monkeypatch):
    """Where the SDK is to cut values or leave some out, it does so with ours as with anybody's."""
    span, record = limited(monkeypatch, attribute_value_length_limit=5)
    assert span.attributes["gen_ai.request.model"] == record.attributes["gen_ai.request.model"] == "gpt-4"
    assert span.attributes["gen_ai.response.model"] == record.attributes["gen_ai.response.model"] == "gpt-4"


@pytest.mark.filterwarnings("ignore:Log record attributes were dropped")
def test_a_limited_number_of_attributes(monkeypatch):
    """No more than the SDK's limit are on span and record; the oldest go, and both say how many went."""
    span, record = limited(monkeypatch, attribute_count_limit=8)
    assert len(span.attributes) == len(record.attributes) == 8
    assert span.dropped_attributes > 0


def test_what_is_emitted_without_limits_is_what_is_emitted_with_wide_ones(monkeypatch):
    """The way around the SDK's own checks makes no difference to what arrives."""
    span, record = limited(monkeypatch)
    same_span, same_record = limited(monkeypatch, attribute_value_length_limit=1000)
    random = {"openai_metering.record.id", "openai_metering.record.start_time"}
    assert dict(span.attributes) == dict(same_span.attributes)
    for name in {*record.attributes, *same_record.attributes} - random:
        assert record.attributes[name] == same_record.attributes[name]
        assert type(record.attributes[name]) is type(same_record.attributes[name])
    assert record.trace_flags == same_record.trace_flags
    assert record.severity_number == same_record.severity_number
