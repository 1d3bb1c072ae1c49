"""OTLP export requests of any content, for property tests."""

from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

REQUESTS = {
    "/v1/traces": ExportTraceServiceRequest,
    "/v1/metrics": ExportMetricsServiceRequest,
    "/v1/logs": ExportLogsServiceRequest,
}
IDS = {"trace_id": 16, "span_id": 8, "parent_span_id": 8}
DEPTH = 9
SCALARS = {
    1: st.floats(),
    3: st.integers(-(2**63), 2**63 - 1),
    4: st.integers(0, 2**64 - 1),
    5: st.integers(-(2**31), 2**31 - 1),
    6: st.integers(0, 2**64 - 1),
    7: st.integers(0, 2**32 - 1),
    8: st.booleans(),
    9: st.text(max_size=8),
    12: st.binary(max_size=8),
    13: st.integers(0, 2**32 - 1),
    16: st.integers(-(2**63), 2**63 - 1),
    17: st.integers(-(2**31), 2**31 - 1),
    18: st.integers(-(2**63), 2**63 - 1),
}


@st.composite
def requests(draw, message_class):
    """A request with any of its fields set to anything that they can hold."""
    message = message_class()
    fill(draw, message, 0)
    return message


def fill(draw, message, depth):
    descriptor = message.DESCRIPTOR
    chosen = {one.name: draw(st.sampled_from([None, *one.fields])) for one in descriptor.oneofs}
    for field in descriptor.fields:
        one = field.containing_oneof
        if "strindex" in field.name or (one and chosen[one.name] is not field) or (not one and draw(st.booleans())):
            continue
        if field.type == 11:
            if depth >= DEPTH:
                continue
            targets = (
                [getattr(message, field.name).add() for _ in range(draw(st.integers(0, 2)))]
                if field.is_repeated
                else [getattr(message, field.name)]
            )
            for target in targets:
                target.SetInParent()
                fill(draw, target, depth + 1)
            continue
        value = draw(scalar(field)) if not field.is_repeated else draw(st.lists(scalar(field), max_size=3))
        getattr(message, field.name).extend(value) if field.is_repeated else setattr(message, field.name, value)


def scalar(field):
    if field.name in IDS:
        return st.sampled_from([b"", bytes(IDS[field.name])]) | st.binary(
            min_size=IDS[field.name], max_size=IDS[field.name]
        )
    if field.type == 14:
        return st.sampled_from([value.number for value in field.enum_type.values])
    return SCALARS[field.type]
