"""Reading lines that somebody else wrote."""

from __future__ import annotations

import json

from hypothesis import given, strategies as st
from usage_lines import line, record

from openai_metering.cli.records import parse

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.sampled_from(["key", "value", "intValue", "stringValue"]), inner)
    ),
    max_leaves=12,
)


@given(st.binary())
def test_garbage_never_raises(garbage):
    """No bytes can make the reader raise."""
    rows, _ = parse(garbage)
    assert rows == ()


@given(st.integers(0), st.binary(max_size=8))
def test_a_torn_line_never_raises(cut, behind):
    """A line may be torn anywhere, and anything may stand behind."""
    whole = line(record("a", organization="Zoë"), record("b")).encode()
    parse(whole[: cut % len(whole)] + behind)


@given(
    json_values,
    st.sampled_from(["resourceLogs", "scopeLogs", "logRecords", "attributes", "attribute", "value", "time"]),
)
def test_wrong_shapes_never_raise(wrong, place):
    """Any JSON may stand where OTLP has something else, and the record beside it is still read."""
    broken = record("broken")
    document = json.loads(line(broken, record("good")))
    resource_logs = document["resourceLogs"]
    match place:
        case "resourceLogs":
            document["resourceLogs"] = wrong
        case "scopeLogs":
            resource_logs[0]["scopeLogs"] = wrong
        case "logRecords":
            resource_logs[0]["scopeLogs"][0]["logRecords"] = wrong
        case "attributes":
            resource_logs[0]["scopeLogs"][0]["logRecords"][0]["attributes"] = wrong
        case "attribute":
            resource_logs[0]["scopeLogs"][0]["logRecords"][0]["attributes"].append(wrong)
        case "value":
            for attribute in resource_logs[0]["scopeLogs"][0]["logRecords"][0]["attributes"]:
                attribute["value"] = wrong
        case "time":
            resource_logs[0]["scopeLogs"][0]["logRecords"][0]["timeUnixNano"] = wrong
    rows, _ = parse(json.dumps(document).encode("utf-8", "surrogatepass"))
    if place in {"attributes", "attribute", "value", "time"}:
        assert "good" in {row.record_id for row in rows}
