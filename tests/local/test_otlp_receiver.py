"""The embedded receiver, fed by the OpenTelemetry SDK's own exporters and by requests that are wrong."""

import gzip
import json
import os
import signal
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import SpanKind, StatusCode

from openai_metering.local.receiver import OtlpReceiver, ReceiverError

RESOURCE = Resource({"service.name": "shop"})
direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
ONE_SPAN = {"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "ab" * 16, "spanId": "cd" * 8, "name": "n"}]}]}]}


def post(url, body, kind="application/json", **headers):
    headers = {"content-type": kind, **{name.replace("_", "-"): value for name, value in headers.items()}}
    try:
        with direct.open(urllib.request.Request(url, body, headers)) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def lines(receiver, name):
    return [json.loads(line) for line in (receiver.directory / name).read_text().splitlines()]


def attributes(item):
    return {one["key"]: one["value"] for one in item["attributes"]}


@pytest.mark.parametrize("compression", [Compression.NoCompression, Compression.Gzip, Compression.Deflate])
def test_spans_of_the_sdk(receiver, compression):
    """A span arrives with its ids in hexadecimal, its kind and its status as numbers."""
    provider = TracerProvider(resource=RESOURCE)
    exporter = OTLPSpanExporter(f"{receiver.endpoint}/v1/traces", compression=compression)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("scope", "1.0")
    with tracer.start_as_current_span("parent") as parent:
        child = tracer.start_span("child", kind=SpanKind.CLIENT, attributes={"n": 7, "f": 1.5, "l": ["a"]})
        child.set_status(StatusCode.ERROR, "no")
        child.end()
    provider.shutdown()
    first, second = lines(receiver, "spans.jsonl")
    resource = first["resourceSpans"][0]
    assert attributes(resource["resource"])["service.name"] == {"stringValue": "shop"}
    assert resource["scopeSpans"][0]["scope"] == {"name": "scope", "version": "1.0"}
    span = resource["scopeSpans"][0]["spans"][0]
    assert span["traceId"] == f"{child.get_span_context().trace_id:032x}"
    assert span["spanId"] == f"{child.get_span_context().span_id:016x}"
    assert span["parentSpanId"] == f"{parent.get_span_context().span_id:016x}"
    assert (span["kind"], span["status"]) == (3, {"message": "no", "code": 2})
    assert span["startTimeUnixNano"] == str(child.start_time)
    expected = {
        "n": {"intValue": "7"},
        "f": {"doubleValue": 1.5},
        "l": {"arrayValue": {"values": [{"stringValue": "a"}]}},
    }
    assert attributes(span) == expected
    assert second["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["status"] == {}


def test_metrics_of_the_sdk(receiver):
    """Counts are decimal text, sums are numbers."""
    exporter = OTLPMetricExporter(f"{receiver.endpoint}/v1/metrics")
    provider = MeterProvider([PeriodicExportingMetricReader(exporter, 3_600_000)], resource=RESOURCE)
    meter = provider.get_meter("scope")
    meter.create_counter("calls").add(3, {"organization": "Acme"})
    meter.create_histogram("duration").record(0.25)
    provider.shutdown()
    (line,) = lines(receiver, "metrics.jsonl")
    metrics = {one["name"]: one for one in line["resourceMetrics"][0]["scopeMetrics"][0]["metrics"]}
    assert metrics["calls"]["sum"]["dataPoints"][0]["asInt"] == "3"
    assert metrics["calls"]["sum"]["isMonotonic"] is True
    assert metrics["calls"]["sum"]["aggregationTemporality"] == 2
    point = metrics["duration"]["histogram"]["dataPoints"][0]
    assert (point["count"], point["sum"]) == ("1", 0.25)


def test_log_records_of_the_sdk(receiver):
    """An event keeps its name, and its severity is a number."""
    provider = LoggerProvider(resource=RESOURCE)
    provider.add_log_record_processor(SimpleLogRecordProcessor(OTLPLogExporter(f"{receiver.endpoint}/v1/logs")))
    record = LogRecord(
        timestamp=5, event_name="openai_metering.usage", severity_number=SeverityNumber.INFO, attributes={"n": 2**62}
    )
    provider.get_logger("scope").emit(record)
    provider.shutdown()
    (line,) = lines(receiver, "records.jsonl")
    written = line["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0]
    assert written["eventName"] == "openai_metering.usage"
    assert (written["severityNumber"], written["timeUnixNano"]) == (9, "5")
    assert attributes(written) == {"n": {"intValue": str(2**62)}}


def test_json_is_received_too(receiver):
    """OTLP JSON comes out as it went in, completed as the Collector completes it."""
    assert post(f"{receiver.endpoint}/v1/traces", json.dumps(ONE_SPAN).encode()) == (200, b"{}")
    (line,) = lines(receiver, "spans.jsonl")
    span = line["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
    assert span == {"traceId": "ab" * 16, "spanId": "cd" * 8, "name": "n", "status": {}}


def test_an_empty_request_leaves_no_line(receiver):
    """It is accepted, and there is nothing to write."""
    assert post(f"{receiver.endpoint}/v1/logs", b"", "application/x-protobuf") == (200, b"")
    assert post(f"{receiver.endpoint}/v1/metrics", b"{}")[0] == 200
    assert lines(receiver, "records.jsonl") == lines(receiver, "metrics.jsonl") == []


@pytest.mark.parametrize(
    ("path", "body", "kind", "headers", "status", "said"),
    [
        ("/v1/traces", b"\xff\xff", "application/x-protobuf", {}, 400, b"OTLP protobuf"),
        ("/v1/traces", b"{", "application/json", {}, 400, b"OTLP JSON"),
        ("/v1/traces", b'{"resourceSpans": 7}', "application/json", {}, 400, b"OTLP JSON"),
        ("/v1/traces", json.dumps(ONE_SPAN).replace("ab" * 16, "ab").encode(), "application/json", {}, 400, b"traceId"),
        ("/v1/traces", b"[" * 100_000, "application/json", {}, 400, b"OTLP JSON"),
        ("/v1/traces", b"{}", "text/plain", {}, 415, b"application/x-protobuf"),
        ("/v1/traces", b"{}", "application/json", {"content_encoding": "br"}, 415, b"gzip"),
        ("/v1/traces", b"{}", "application/json", {"content_encoding": "gzip"}, 400, b"gzip"),
        ("/v1/traces", gzip.compress(b"{}")[:-4], "application/json", {"content_encoding": "gzip"}, 400, b"too early"),
        (
            "/v1/traces",
            gzip.compress(bytes(65 << 20)),
            "application/json",
            {"content_encoding": "gzip"},
            413,
            b"larger",
        ),
        ("/v1/other", b"{}", "application/json", {}, 404, b"/v1/traces"),
        ("/v1/traces", None, "application/json", {}, 405, b"POST"),
    ],
)
def test_bad_input_is_refused_with_a_reason(receiver, path, body, kind, headers, status, said):
    """The status is the protocol's, the text says what was wrong, and no file has changed."""
    answered, text = post(receiver.endpoint + path, body, kind, **headers)
    assert (answered, said in text) == (status, True)
    assert lines(receiver, "spans.jsonl") == []


def test_concurrent_requests_are_whole_lines(receiver):
    """Lines never mix, whatever their size."""
    request = ExportTraceServiceRequest()
    request.resource_spans.add().scope_spans.add().spans.add(name="x" * 300_000)
    body = request.SerializeToString()
    with ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(lambda _: post(f"{receiver.endpoint}/v1/traces", body, "application/x-protobuf"), range(40))
        )
    assert answers == [(200, b"")] * 40
    assert len(lines(receiver, "spans.jsonl")) == 40


def test_files_are_appended_to_and_belong_to_their_owner(tmp_path):
    """A second run continues after a line that a crash left open; nobody else can read the records."""
    directory = tmp_path / "a" / "b"
    for _ in range(2):
        with OtlpReceiver(directory) as receiver:
            post(f"{receiver.endpoint}/v1/traces", json.dumps(ONE_SPAN).encode())
        with (directory / "spans.jsonl").open("a") as file:
            file.write('{"resourceSp')
    written = (directory / "spans.jsonl").read_text().split("\n")
    assert [line.startswith('{"resourceSpans":[') for line in written] == [True, False, True, False]
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE((directory / "spans.jsonl").stat().st_mode) == 0o600


def test_a_full_disk_is_said_and_leaves_no_half_line(receiver, tmp_path):
    """The sender learns to try again later, and the file ends with a whole line."""
    import resource

    url = f"{receiver.endpoint}/v1/traces"
    assert post(url, json.dumps(ONE_SPAN).encode())[0] == 200
    file = receiver.directory / "spans.jsonl"
    before = file.read_bytes()
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20, limits[1]))
    try:
        status, said = post(url, json.dumps(ONE_SPAN).encode())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert (status, b"spans.jsonl cannot be written" in said) == (503, True)
    assert file.read_bytes() == before
    assert post(url, json.dumps(ONE_SPAN).encode())[0] == 200
    assert len(lines(receiver, "spans.jsonl")) == 2


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    """The error names the folder and what to do."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ReceiverError, match=r"file/folder.*Name a folder that you may write to"):
        OtlpReceiver(tmp_path / "file" / "folder")


def test_it_runs_as_a_process_of_its_own(tmp_path):
    """One line says where it is, and it ends when told."""
    command = [sys.executable, "-m", "openai_metering.local.receiver", str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        endpoint = json.loads(process.stdout.readline())["endpoint"]
        assert post(f"{endpoint}/v1/traces", json.dumps(ONE_SPAN).encode())[0] == 200
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(20) == 0
    assert (tmp_path / "spans.jsonl").read_text().count("\n") == 1


def test_a_process_that_cannot_write_says_so(tmp_path):
    """Status 2 and the reason, no traceback."""
    (tmp_path / "file").write_text("")
    command = [sys.executable, "-m", "openai_metering.local.receiver", str(tmp_path / "file")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (ended.returncode, "Traceback" in ended.stderr, str(tmp_path / "file") in ended.stderr) == (2, False, True)
