"""docs/record.md is the schema of what is emitted, name by name."""

from __future__ import annotations

import pytest
from test_readme import ATTRIBUTES, constants, names_in, traffic, who_names

from openai_metering.signals import conventions as c
from openai_metering.signals.records import RECORD_VERSION
from record_schema import DOCUMENT, ROWS, TAG, strangers

# Only on metrics, and the name of the event itself.
ELSEWHERE = {c.UNIT, c.TOKEN_MODALITY, c.TOKEN_TYPE, c.USAGE_EVENT}


def test_every_attribute_of_the_code_is_in_the_table():
    """What the code can put on a record is in the table, and the table has nothing else."""
    named = {
        value + "<key>" if value.endswith(".") else value
        for name, value in constants().items()
        if not name.startswith("METRIC_") and value not in ELSEWHERE
    }
    assert set(ROWS) == named


def test_the_readme_says_the_same():
    """The shorter table of the README has each attribute of the record, and no other."""
    stated = {name for row in ATTRIBUTES if "record" in row[1] for name in names_in(row[0])}
    stated = {name for name in stated if "*" not in name} | who_names("record")
    assert stated == set(ROWS)


def test_real_calls_are_as_the_table_says(telemetry, provider):
    """Names, types and what is always there, of real calls of every kind; so in all tests with the same fixture."""
    traffic(provider)
    assert len(telemetry.records) > 10
    assert strangers(telemetry.records) == []


def test_what_is_not_in_the_table_is_found():
    """The check of every other test would not pass over a stranger."""
    good = {name: {"int": 1, "string": "x"}[row[0]] for name, row in ROWS.items() if row[2] == "always"}
    assert strangers([good]) == []
    assert strangers([{**good, TAG + "any": 1.5}]) == []
    assert strangers([{**good, "gen_ai.secret": 1}]) == ["gen_ai.secret is not in docs/record.md"]
    assert strangers([{**good, c.INPUT_TOKENS: 1.5}]) == [f"{c.INPUT_TOKENS} is of type float"]
    assert strangers([{**good, c.INPUT_TOKENS: True}]) == [f"{c.INPUT_TOKENS} is of type bool"]
    assert strangers([{}]) == sorted(f"{name} is missing" for name in good)


@pytest.mark.parametrize(
    "said", [f"Version {RECORD_VERSION} (", f"`{c.SCHEMA_URL}`", f"this document: {RECORD_VERSION}"]
)
def test_versions(said):
    """The document names the version and the schema that are emitted."""
    assert said in DOCUMENT
