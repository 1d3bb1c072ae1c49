"""Records that the gateway put aside: in no bill, whatever file they stand in."""

from __future__ import annotations

import json

import duckdb
import pytest
from usage_lines import line, record

from openai_metering.cli import main, report as command
from openai_metering.cli.records import QUARANTINE_REASON
from openai_metering.local.discovery import config_path

HELD = {"openai_metering.quarantine.reason": "organization_not_of_principal", "organization": "Globex"}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """What a gateway wrote: a record in the bill, two in quarantine, one of them between good ones."""
    monkeypatch.setenv("OPENAI_METERING_CACHE", str(tmp_path / "cache"))
    out = tmp_path / "gateway"
    out.mkdir()
    (out / "records.jsonl").write_text(line(record("1"), record("2", **HELD)) + "\n")
    (out / "quarantine.jsonl").write_text(line(record("3", **HELD)) + "\n")
    return out


def calls(capsys, *arguments):
    """Make a report; return its calls and what was said beside it."""
    assert main(["report", *map(str, arguments), "--format", "json"]) == 0
    printed = capsys.readouterr()
    return json.loads(printed.out)["total"]["calls"], printed.err


@pytest.mark.parametrize("worth", [None, 0])
def test_the_bill_is_without_them(folder, capsys, monkeypatch, worth):
    """They are left out, counted by reason and said, whether files are read as they are or compiled."""
    if worth is not None:
        monkeypatch.setattr(command, "WORTH", worth)
    for _ in range(2):  # compiled, and found compiled
        number, said = calls(capsys, folder, "--no-cost")
        assert number == 1
        assert "2 records are quarantined, and not in the bill: organization_not_of_principal 2" in said
        assert (folder.parent / "cache").exists() is (worth is not None)
        assert f"openai-metering verify {folder / 'quarantine.jsonl'}" in said


def test_the_table_says_so(folder, capsys):
    """Whoever gets the report alone is told, too."""
    assert main(["report", str(folder)]) == 0
    assert "Quarantined by the gateway, and not counted: 2 records." in capsys.readouterr().out


def test_in_a_table(folder, tmp_path, capsys):
    """A record in quarantine is none of the bill in a Parquet file either."""
    file = tmp_path / "records.parquet"
    held = "'openai_metering.quarantine.reason': 'no_model'"
    with duckdb.connect() as connection:
        connection.execute(
            "COPY (SELECT MAP {'openai_metering.record.id': '5', 'openai_metering.usage.status': 'reported'} AS attributes "
            f"UNION ALL SELECT MAP {{'openai_metering.record.id': '6', {held}}}) TO '{file}' (FORMAT parquet)"
        )
    number, said = calls(capsys, file)
    assert number == 1
    assert "1 record is quarantined, and not in the bill: no_model 1" in said


def test_nothing_else(folder, capsys):
    """A file with nothing but such records is no bill."""
    assert main(["report", str(folder / "quarantine.jsonl")]) == 2
    assert "but those in quarantine" in capsys.readouterr().err


def test_the_attribute_is_the_gateways():
    """What is looked for is what the gateway's configuration writes."""
    assert f'set(log.attributes["{QUARANTINE_REASON}"]' in config_path("gateway.yaml").read_text("utf-8")
