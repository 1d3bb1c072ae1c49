"""The verify command: whether a ledger is whole."""

from __future__ import annotations

import json

import pytest
from usage_lines import line, record

from openai_metering.cli import main
from openai_metering.ledger import Ledger

NAME = "usage-20260725T172000-0000007-0123abcd-00000.jsonl"
OTHER = "usage-20260725T172000-0000008-89abcdef-00000.jsonl"


@pytest.fixture
def verify(tmp_path, capsys):
    """Check these files, given by their name and lines; returns exit status and findings."""

    def run(*, extra=b"", **files):
        for name, lines in files.items():
            path = tmp_path / {"a": NAME, "b": OTHER}[name]
            path.write_bytes("".join(f"{one}\n" for one in lines).encode() + extra)
        status = main(["verify", str(tmp_path), "--format", "json"])
        return status, json.loads(capsys.readouterr().out)

    return run


def test_a_whole_ledger(verify):
    """Records of different calls, and a start with its end, are as they should be."""
    status, found = verify(a=[line(record("1")), line(record("2", state="started")), line(record("2"))])
    assert status == 0
    assert (found["whole"], found["files"], found["lines_read"], found["calls"]) == (True, 1, 3, 2)


@pytest.mark.parametrize("cut", [1, 5, 20, 100, 300])
def test_a_torn_line(verify, cut):
    """A cut line is named by its place, and the others count."""
    status, found = verify(a=[line(record("1"))], extra=line(record("2")).encode()[:-cut])
    assert status == 1
    assert found["calls"] == 1
    assert [place.rpartition(":")[2] for place in found["torn"]] == ["2"]


def test_a_line_that_is_no_record(verify):
    """What a reader could not count is named."""
    status, found = verify(a=[line(record(None)), line(record("2"))])
    assert (status, len(found["unreadable"]), found["calls"]) == (1, 1, 1)


def test_a_record_that_is_there_twice(verify):
    """The same process wrote a record twice: readers count one, and the ledger is not as it should be."""
    status, found = verify(a=[line(record("1")), line(record("1"))])
    assert (status, len(found["duplicate"]), found["calls"]) == (1, 1, 1)


def test_a_job_that_two_processes_saw(verify):
    """Each process that sees the end of a job may say so: that is no fault."""
    status, found = verify(a=[line(record("1"))], b=[line(record("1"))])
    assert (status, found["repeated"], found["calls"]) == (0, 1, 1)


def test_a_call_that_was_cut_off(verify):
    """A start that nothing follows, in a file whose process is gone, is unresolved and named by its id."""
    status, found = verify(a=[line(record("1", state="started", usage="unknown", reason="under_way"))])
    assert (status, found["unresolved"]) == (1, ["1"])


def test_a_call_under_way(tmp_path, capsys):
    """While its process lives, a call that has begun is nothing wrong."""
    ledger = Ledger(str(tmp_path), {}, ("s", "1"), "u")
    started = record("1", state="started", usage="unknown", reason="under_way")
    ledger.append(started)
    assert main(["verify", str(tmp_path)]) == 0
    assert "1 under way" in capsys.readouterr().out
    ledger.close()
    assert main(["verify", str(tmp_path)]) == 1


def test_a_job_that_goes_on(verify):
    """A pending job is told, and is nothing wrong."""
    status, found = verify(a=[line(record("1", state="pending", usage="unknown", reason="deferred"))])
    assert (status, found["pending"]) == (0, 1)


def test_a_start_that_goes_on_under_another_id(verify):
    """The record of a job says whose start it replaces."""
    replaced = record("1", state="started", usage="unknown", reason="under_way")
    job = record("2", state="final", **{"openai_metering.record.started_id": "1"})
    status, found = verify(a=[line(replaced), line(job)])
    assert (status, found["calls"], found["unresolved"]) == (0, 1, [])


def test_for_people(tmp_path, capsys):
    """The text names the first findings of each kind and says how many more there are."""
    (tmp_path / NAME).write_text("".join(f'{{"cut{number}\n' for number in range(9)) + line(record("1")) + "\n")
    assert main(["verify", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert "torn:       9" in out
    assert f"{NAME}:5" in out
    assert "and 4 more" in out
    assert "not whole" in out


def test_nothing_to_check(tmp_path, capsys):
    """A folder without files is a mistake, and is said."""
    assert main(["verify", str(tmp_path)]) == 2
    assert "OPENAI_METERING_LEDGER_DIR" in capsys.readouterr().err


def test_what_is_in_quarantine(tmp_path, capsys):
    """Records that the gateway put aside are counted by their reason, and it is said how to go on."""
    held = {"openai_metering.quarantine.reason": "negative_number", "input": -5}
    (tmp_path / "records.jsonl").write_text(line(record("1")) + "\n")
    (tmp_path / "quarantine.jsonl").write_text(line(record("2", **held), record(None, **held)) + "\n")
    assert main(["verify", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert "quarantined: 2 (negative_number 2)" in out
    assert "openai-metering replay" in out
    assert "unreadable: 0" in out
    assert "1 calls" in out


def test_json_that_is_no_signal(verify):
    """A line of another kind of JSON is none that a reader could count; the other signals of OTLP are."""
    status, found = verify(a=[line(record("1")), '{"a": 1}', '{ "resourceSpans": []}'])
    assert (status, [place.rpartition(":")[2] for place in found["unreadable"]]) == (1, ["2"])


def test_a_table_has_no_lines(tmp_path, capsys):
    """A Parquet file is refused in words, and not taken for torn lines."""
    (tmp_path / "usage.parquet").write_bytes(b"PAR1")
    assert main(["verify", str(tmp_path / "usage.parquet")]) == 2
    assert "is a table" in capsys.readouterr().err
