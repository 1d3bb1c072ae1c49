"""Whatever was torn, every whole line of a ledger is read."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, given, settings, strategies as st

from openai_metering.cli.records import parse, read
from openai_metering.ledger.lines import Lines
from openai_metering.signals import conventions as c

FULL = os.environ.get("OPENAI_METERING_TEST_SIZE") == "full"
many = settings(
    max_examples=10_000 if FULL else 200, deadline=None, suppress_health_check=list(HealthCheck), derandomize=not FULL
)
LINES = Lines({"service.name": "shop"}, ("openai_metering", "1"), c.SCHEMA_URL)
names = st.text(st.characters(exclude_categories=()), max_size=20)
counts = st.integers(0, 2**63 - 1)


def line_of(number: int, organization: str, tokens: int) -> bytes:
    return LINES.line(
        {"timeUnixNano": "1785000000000000000", "body": {}, "eventName": c.USAGE_EVENT},
        {
            c.RECORD_ID: f"record-{number}",
            c.RECORD_STATE: "final",
            c.ORGANIZATION_ID: organization,
            c.USAGE_STATUS: "reported",
            c.INPUT_TOKENS: tokens,
        },
    )


@many
@given(organization=names, tokens=counts, place=st.floats(0, 1, exclude_max=True))
def test_a_torn_line_is_never_taken_for_a_record(organization, tokens, place):
    """Any beginning of a line is no record, and is told: a cut number would be a wrong bill."""
    line = line_of(1, organization, tokens)
    torn = line[: max(1, int(len(line.rstrip(b"\n")) * place))]
    rows, problem = parse(torn)
    assert rows == ()
    assert problem is not None


@many
@given(organization=names, tokens=counts, place=st.floats(0, 1, exclude_max=True))
def test_a_torn_line_hides_no_whole_one(organization, tokens, place):
    """A whole line directly behind any beginning of another one is read as it is."""
    line = line_of(2, organization, tokens)
    cut = line_of(1, organization, tokens).rstrip(b"\n")
    rows, _ = parse(cut[: int(len(cut) * place)] + line)
    assert [(row.record_id, row.input_tokens) for row in rows] == [("record-2", tokens)]


@many
@given(data=st.lists(st.tuples(names, counts), min_size=1, max_size=8), end=st.integers(0, 10_000))
def test_any_beginning_of_a_file_is_read(tmp_path_factory, data, end):
    """Of a file that ends anywhere, every line that is whole is one record, with its numbers."""
    lines = [line_of(number, *one) for number, one in enumerate(data)]
    content = b"".join(lines)[:end]
    file = tmp_path_factory.mktemp("ledger") / "usage.jsonl"
    file.write_bytes(content)
    whole = content.count(b"\n")
    if whole < len(lines) and content.endswith(lines[whole].rstrip(b"\n")):
        whole += 1  # only its end is missing
    rows = [row for line in read([file]) for row in line.rows]
    assert [(row.record_id, row.input_tokens) for row in rows] == [
        (f"record-{number}", tokens) for number, (_, tokens) in enumerate(data[:whole])
    ]
