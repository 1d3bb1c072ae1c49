"""local.yaml on the real Collector: whatever the SDK's exporters send is in the right file, complete and equal."""

import json
import subprocess
import threading
import time
import urllib.request
from dataclasses import dataclass

import pytest
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as GrpcLogExporter
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpanExporter
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as HttpLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as HttpMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpSpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import Counter, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind

from openai_metering.local.discovery import config_path
from openai_metering.signals import conventions as names

RESOURCE = Resource({"service.name": "pipeline-test", "service.instance.id": "one"})
START = 1_790_000_000_123_456_789


@dataclass(frozen=True)
class Exporters:
    """The SDK's own exporters, aimed at one Collector."""

    protocol: str
    logs: object
    spans: object
    metrics: object


def exporters(collector, protocol, temporality=None):
    if protocol == "grpc":
        to = {"endpoint": collector.grpc_endpoint, "insecure": True}
        metrics = GrpcMetricExporter(**to, preferred_temporality=temporality)
        return Exporters(protocol, GrpcLogExporter(**to), GrpcSpanExporter(**to), metrics)
    base = f"{collector.http_endpoint}/v1"
    return Exporters(
        protocol,
        HttpLogExporter(endpoint=f"{base}/logs"),
        HttpSpanExporter(endpoint=f"{base}/traces"),
        HttpMetricExporter(endpoint=f"{base}/metrics", preferred_temporality=temporality),
    )


@pytest.fixture(params=["http", "grpc"])
def sent_by(request, collector):
    return exporters(collector, request.param)


def usage_attributes(number):
    """One usage record with every type of value that occurs."""
    return {
        names.RECORD_ID: f"record-{number:05}",
        names.RECORD_VERSION: 1,
        names.RECORD_STATE: "final",
        names.RECORD_START_TIME: START + number,
        names.ORGANIZATION_ID: f"org-{number % 3}",
        names.SUBSCRIBER_ID: "zoë@example.com",
        names.CREDENTIAL_ID: 'quote " and \n line',
        names.ATTRIBUTION_STATUS: "complete",
        names.OPERATION_NAME: "chat",
        names.REQUEST_MODEL: "gpt-5.4",
        names.REQUEST_STREAM: number % 2 == 0,
        names.RESPONSE_FINISH_REASONS: ("stop", "length"),
        names.INPUT_TOKENS: 2**60 + number,
        names.OUTPUT_TOKENS: 0,
        names.USAGE_STATUS: "reported",
        f"{names.TAG_PREFIX}share": 0.25,
    }


def otlp(value):
    """A value as the OTLP JSON encoding writes it."""
    match value:
        case bool():
            return {"boolValue": value}
        case int():
            return {"intValue": str(value)}
        case float():
            return {"doubleValue": value}
        case str():
            return {"stringValue": value}
        case _:
            return {"arrayValue": {"values": [otlp(item) for item in value]}}


def as_written(attributes):
    return {key: otlp(value) for key, value in attributes.items()}


def read(record):
    """The attributes of something read back from a file."""
    return {item["key"]: item["value"] for item in record["attributes"]}


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def log_records(path):
    return [
        record
        for line in lines(path)
        for resource in line["resourceLogs"]
        for scope in resource["scopeLogs"]
        for record in scope["logRecords"]
    ]


def wait_for(condition, what, seconds=20):
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while not (result := condition()):
        pause.wait(0.02)
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds} s"
    return result


def emit_logs(exporter, records):
    provider = LoggerProvider(RESOURCE, shutdown_on_exit=False)
    provider.add_log_record_processor(BatchLogRecordProcessor(exporter))
    logger = provider.get_logger(names.SCOPE_NAME, "1.0", names.SCHEMA_URL)
    for record in records:
        logger.emit(record)
    provider.shutdown()


def usage_record(number):
    return LogRecord(
        timestamp=START + number,
        severity_number=SeverityNumber.INFO,
        event_name=names.USAGE_EVENT,
        attributes=usage_attributes(number),
    )


def test_default_configuration_validates(collector_binary, tmp_path):
    """Without a single variable set the file is valid, and validating leaves nothing behind."""
    answer = subprocess.run(
        [collector_binary, "validate", "--config", config_path("local.yaml")],
        cwd=tmp_path,
        env={},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    assert list(tmp_path.iterdir()) == []


def test_usage_records_arrive_equal(collector, sent_by):
    """Each usage record is in records.jsonl once, with its event name, its time and every value unchanged."""
    emit_logs(sent_by.logs, map(usage_record, range(700)))
    written = wait_for(
        lambda: len(found := log_records(collector.output_dir / "records.jsonl")) >= 700 and found, "700 records"
    )
    assert {record["eventName"] for record in written} == {names.USAGE_EVENT}
    by_id = {read(record)[names.RECORD_ID]["stringValue"]: record for record in written}
    assert len(written) == len(by_id) == 700
    for number in range(700):
        record = by_id[f"record-{number:05}"]
        assert read(record) == as_written(usage_attributes(number))
        assert record["timeUnixNano"] == str(START + number)
        assert record["severityNumber"] == SeverityNumber.INFO.value
    line = lines(collector.output_dir / "records.jsonl")[0]["resourceLogs"][0]
    assert read(line["resource"])["service.name"] == otlp("pipeline-test")
    assert line["scopeLogs"][0]["scope"]["name"] == names.SCOPE_NAME
    assert line["scopeLogs"][0]["schemaUrl"] == names.SCHEMA_URL


def test_other_logs_are_kept_apart(collector, sent_by):
    """An application's own logs share a batch with usage records, and none of either kind is lost or misplaced."""
    others = [LogRecord(timestamp=START, body=f"line {number}") for number in range(40)]
    others += [LogRecord(timestamp=START, body="other", event_name="app.event") for _ in range(10)]
    mixed = [record for pair in zip(map(usage_record, range(50)), others, strict=True) for record in pair]
    emit_logs(sent_by.logs, mixed)
    folder = collector.output_dir
    wait_for(
        lambda: len(log_records(folder / "records.jsonl")) >= 50 and len(log_records(folder / "logs.jsonl")) >= 50,
        "both",
    )
    kept = log_records(folder / "logs.jsonl")
    assert len(log_records(folder / "records.jsonl")) == len(kept) == 50
    assert sorted(record["body"]["stringValue"] for record in kept) == sorted(record.body for record in others)
    assert [record["eventName"] for record in kept if "eventName" in record] == ["app.event"] * 10


def test_spans_arrive_equal(collector, sent_by):
    """Each span is in spans.jsonl with hexadecimal ids, its parent, its kind and its attributes."""
    provider = TracerProvider(resource=RESOURCE, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(sent_by.spans))
    tracer = provider.get_tracer(names.SCOPE_NAME)
    finished = []
    with tracer.start_as_current_span("request") as parent:
        for number in range(100):
            attributes = usage_attributes(number)
            with tracer.start_as_current_span("chat gpt-5.4", kind=SpanKind.CLIENT, attributes=attributes) as span:
                finished.append((span, attributes))
    provider.shutdown()

    def spans():
        return [
            span
            for line in lines(collector.output_dir / "spans.jsonl")
            for resource in line["resourceSpans"]
            for scope in resource["scopeSpans"]
            for span in scope["spans"]
        ]

    found = wait_for(lambda: len(found := spans()) >= 101 and found, "101 spans")
    written = {span["spanId"]: span for span in found}
    assert len(written) == 101
    parent_id = format(parent.get_span_context().span_id, "016x")
    for span, attributes in finished:
        found = written[format(span.get_span_context().span_id, "016x")]
        assert found["traceId"] == format(span.get_span_context().trace_id, "032x")
        assert found["parentSpanId"] == parent_id
        assert (found["name"], found["kind"]) == ("chat gpt-5.4", SpanKind.CLIENT.value + 1)  # OTLP counts from 1
        assert found["startTimeUnixNano"] == str(span.start_time)
        assert found["endTimeUnixNano"] == str(span.end_time)
        assert read(found) == as_written(attributes)


def scrape(url):
    """The samples of a Prometheus page: name with labels -> value."""
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=5) as page:
        text = page.read().decode()
    samples = (line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#"))
    return {name: float(value) for name, _, value in samples}


def tokens_of(samples, organization):
    return {
        value
        for name, value in samples.items()
        if name.startswith("gen_ai_client_inference_usage_input_tokens_total{")
        and f'attribution_organization_id="{organization}"' in name
    }


@pytest.mark.parametrize("protocol", ["http", "grpc"])
@pytest.mark.parametrize("temporality", [AggregationTemporality.CUMULATIVE, AggregationTemporality.DELTA])
def test_counters_show_their_totals(collector, protocol, temporality):
    """The Prometheus page shows the sum of everything counted, whichever temporality the application exports."""
    exporter = exporters(collector, protocol, {Counter: temporality}).metrics
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=float("inf"))
    provider = MeterProvider([reader], RESOURCE, shutdown_on_exit=False)
    counter = provider.get_meter(names.SCOPE_NAME).create_counter(names.METRIC_INPUT_TOKENS, unit="{token}")
    for step in range(1, 6):
        counter.add(step, {names.ORGANIZATION_ID: "org-a"})
        counter.add(1000, {names.ORGANIZATION_ID: "org-b"})
        assert provider.force_flush()
    wait_for(lambda: tokens_of(scrape(collector.prometheus_url), "org-a") == {15.0}, "total 15 for org-a")
    samples = scrape(collector.prometheus_url)
    assert tokens_of(samples, "org-b") == {5000.0}
    assert not any("otel_scope" in name for name in samples)
    provider.shutdown()

    def points():
        return [
            (metric["name"], metric["sum"]["aggregationTemporality"], read(point), point["asInt"])
            for line in lines(collector.output_dir / "metrics.jsonl")
            for resource in line["resourceMetrics"]
            for scope in resource["scopeMetrics"]
            for metric in scope["metrics"]
            if metric["name"] == names.METRIC_INPUT_TOKENS
            for point in metric["sum"]["dataPoints"]
        ]

    cumulative = temporality is AggregationTemporality.CUMULATIVE
    steps = ["1", "3", "6", "10", "15"] if cumulative else ["1", "2", "3", "4", "5"]
    of_a = [
        (names.METRIC_INPUT_TOKENS, 2 if cumulative else 1, {names.ORGANIZATION_ID: otlp("org-a")}, value)
        for value in steps
    ]
    wait_for(lambda: len(points()) >= 10, "10 points in the file")
    assert [point for point in points() if point[2] == {names.ORGANIZATION_ID: otlp("org-a")}][:5] == of_a


def test_deltas_of_short_runs_add_up(collector):
    """Three runs of a script that exports deltas, one after the other, show up as one total."""
    for _ in range(3):
        exporter = exporters(collector, "http", {Counter: AggregationTemporality.DELTA}).metrics
        reader = PeriodicExportingMetricReader(exporter, export_interval_millis=float("inf"))
        provider = MeterProvider([reader], Resource({"service.name": "script"}), shutdown_on_exit=False)
        counter = provider.get_meter(names.SCOPE_NAME).create_counter(names.METRIC_INPUT_TOKENS, unit="{token}")
        counter.add(5, {names.ORGANIZATION_ID: "org-a"})
        assert provider.force_flush()
        provider.shutdown()
    wait_for(lambda: tokens_of(scrape(collector.prometheus_url), "org-a") == {15.0}, "total 15")


def test_nothing_was_refused(collector, sent_by):
    """The Collector's own page says how much it accepted and that it refused nothing: what an operator watches."""
    emit_logs(sent_by.logs, map(usage_record, range(10)))

    def accepted():
        samples = scrape(collector.telemetry_url)
        return sum(value for name, value in samples.items() if name.startswith("otelcol_receiver_accepted_log_records"))

    wait_for(lambda: accepted() == 10, "10 accepted records")
    failures = ("otelcol_receiver_refused", "otelcol_exporter_send_failed")
    assert not any(value for name, value in scrape(collector.telemetry_url).items() if name.startswith(failures))
