"""OTLP's JSON, held against protobuf's own."""

import base64
import json

import pytest
from google.protobuf import json_format
from hypothesis import HealthCheck, given, settings, strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import HistogramDataPoint, NumberDataPoint
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span, Status

from openai_metering.local.otlp_json import ID_BYTES, check_ids, from_json, to_json
from otlp_messages import REQUESTS, requests

ALWAYS = {"resource", "scope", "status", "body", "value", "positive", "negative"}
any_request = st.sampled_from(list(REQUESTS.values())).flatmap(requests)
thorough = settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))


def as_protobuf(value):
    """OTLP's JSON with the two differences taken out: ids in hexadecimal, and messages that are there though empty."""
    if isinstance(value, list):
        return [as_protobuf(item) for item in value]
    if isinstance(value, int) and abs(value) > 2**53:
        return float(value)  # 64-bit integers are text: it is a large double in the Collector's form
    if not isinstance(value, dict):
        return value
    seen = {}
    for key, item in value.items():
        changed = base64.b64encode(bytes.fromhex(item)).decode() if key in ID_BYTES else as_protobuf(item)
        if not (key in ALWAYS and changed == {}):
            seen[key] = changed
    return seen


def without_empty(value):
    """Protobuf's JSON without the same messages, and without ids that are all zeros."""
    if isinstance(value, list):
        return [without_empty(item) for item in value]
    if not isinstance(value, dict):
        return value
    seen = {key: without_empty(item) for key, item in value.items()}
    zero = {key for key in seen if key in ID_BYTES and not any(base64.b64decode(seen[key]))}
    return {key: item for key, item in seen.items() if key not in zero and not (key in ALWAYS and item == {})}


@thorough
@given(any_request)
def test_it_says_what_protobufs_own_json_says(message):
    """Apart from ids and empty messages the two are the same."""
    expected = json_format.MessageToDict(message, use_integers_for_enums=True)
    assert as_protobuf(to_json(message)) == without_empty(expected)


@thorough
@given(any_request)
def test_what_is_written_can_be_read_again(message):
    """Nothing is lost on the way through a file."""
    written = json.loads(json.dumps(to_json(message), ensure_ascii=False))
    again = from_json(written, type(message)())
    check_ids(again)
    assert to_json(again) == to_json(message)


def test_the_forms_of_the_collector():
    """Each form that differs from protobuf's JSON or is easily got wrong."""
    span = Span(trace_id=bytes(range(16)), span_id=b"12345678", kind=3, start_time_unix_nano=5, status=Status(code=2))
    assert to_json(span) == {
        "traceId": "000102030405060708090a0b0c0d0e0f",
        "spanId": "3132333435363738",
        "kind": 3,
        "startTimeUnixNano": "5",
        "status": {"code": 2},
    }
    record = LogRecord(severity_number=9, event_name="openai_metering.usage")
    assert to_json(record) == {"severityNumber": 9, "body": {}, "eventName": "openai_metering.usage"}
    assert to_json(ResourceSpans()) == {"resource": {}}
    assert to_json(NumberDataPoint(as_int=0)) == {"asInt": "0"}
    assert to_json(HistogramDataPoint(count=2, sum=0.0, bucket_counts=[0, 2], explicit_bounds=[5.0])) == {
        "count": "2",
        "sum": 0,
        "bucketCounts": ["0", "2"],
        "explicitBounds": [5],
    }
    assert to_json(KeyValue(key="k", value=AnyValue(bytes_value=b"\xff"))) == {
        "key": "k",
        "value": {"bytesValue": "/w=="},
    }


@pytest.mark.parametrize(
    ("number", "written"),
    [
        (5.0, "5"),
        (0.1, "0.1"),
        (2.0**53 + 2, "9007199254740994"),
        (1.2345678901234567e20, "123456789012345670000"),
        (1e21, "1e+21"),
        (float("nan"), '"NaN"'),
        (float("-inf"), '"-Infinity"'),
    ],
)
def test_doubles_are_numbers(number, written):
    """Doubles are written as the Collector writes them."""
    assert json.dumps(to_json(AnyValue(double_value=number))) == f'{{"doubleValue": {written}}}'


@pytest.mark.parametrize("bad", [{"traceId": "xyz"}, {"traceId": 5}, {"kind": {}}, [], {"startTimeUnixNano": "-"}])
def test_other_json_is_refused(bad):
    """What is no span is a ValueError."""
    with pytest.raises(ValueError):
        from_json(bad, Span())


def test_ids_of_a_wrong_length_are_refused():
    """The error names the id."""
    with pytest.raises(ValueError, match="traceId has 3 bytes instead of 16"):
        check_ids(ResourceSpans(scope_spans=[{"spans": [{"trace_id": b"abc"}]}]))
