"""Calls that are under way for long: a line that says so, and what becomes of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from emitting import BODY, SERVER, WHO, Telemetry, start

from openai_metering import call as calls
from openai_metering.cli.files import files_of
from openai_metering.cli.joining import Calls
from openai_metering.cli.records import read
from openai_metering.finished import Request
from openai_metering.operations import OPERATIONS
from openai_metering.settings import Settings
from openai_metering.signals import conventions as c
from waiting import wait_for

LONG = {"ledger_started_after": 0.01}


def attributes_in(folder):
    """The attributes of each record, as text, in the order of the lines."""
    documents = [json.loads(line) for path in sorted(folder.glob("*.jsonl")) for line in path.read_text().splitlines()]
    return [
        {pair["key"]: next(iter(pair["value"].values())) for pair in record["attributes"]}
        for document in documents
        for record in document["resourceLogs"][0]["scopeLogs"][0]["logRecords"]
    ]


def rows_in(folder):
    """What a reader makes of a ledger: one row for each call."""
    joined = Calls()
    for line in read(files_of([str(folder)])):
        for row in line.rows:
            joined.add(row)
    return list(joined.rows())


@pytest.fixture
def signals(tmp_path):
    made = Telemetry().signals(Settings(ledger_dir=str(tmp_path), **LONG))
    yield made
    made.close()


def told(call, folder):
    """Wait until a call has left its line."""
    wait_for(lambda: folder.exists() and attributes_in(folder), "the line of a call under way")
    return call


def test_a_long_call_says_that_it_has_begun(signals, tmp_path):
    """Who, what and since when is known before the end; how much is not, and is no zero."""
    call = told(start(signals), tmp_path)
    (found,) = attributes_in(tmp_path)
    assert found[c.RECORD_STATE] == "started"
    assert found[c.ORGANIZATION_ID] == WHO.attribution.organization_id
    assert found[c.REQUEST_MODEL] == "gpt-4o"
    assert found[c.RECORD_START_TIME] == str(call.started)
    assert (found[c.USAGE_STATUS], found[c.USAGE_REASON]) == ("unknown", "under_way")
    assert not any(name.startswith("gen_ai.usage.") for name in found)
    (row,) = rows_in(tmp_path)
    assert row.reason == "under_way"
    call.complete()


def test_its_end_replaces_the_line(signals, tmp_path):
    """Start and end of one call have one id, and are one call to every reader."""
    call = told(start(signals), tmp_path)
    call.read(BODY)
    call.complete()
    first, second = attributes_in(tmp_path)
    assert first[c.RECORD_ID] == second[c.RECORD_ID]
    (row,) = rows_in(tmp_path)
    assert (row.state, row.usage, row.input_tokens) == ("final", "reported", 11)


def test_a_short_call_leaves_one_line(tmp_path):
    """What ends in time is one line, as ever."""
    signals = Telemetry().signals(Settings(ledger_dir=str(tmp_path)))
    call = start(signals)
    call.read(BODY)
    call.complete()
    (found,) = attributes_in(tmp_path)
    assert found[c.RECORD_STATE] == "final"
    signals.close()


def test_a_job_that_was_long_in_the_making_is_one_call(signals, tmp_path):
    """A job gets an id of its own when it is ordered: its record says which line it replaces."""
    operation = next(row for row in OPERATIONS if row.name == "responses")
    call = told(start(signals, operation, Request("gpt-4o")), tmp_path)
    call.read({"id": f"resp_{os.urandom(8).hex()}", "object": "response", "background": True, "status": "queued"})
    call.complete()
    first, second = attributes_in(tmp_path)
    assert second[c.RECORD_STATE] == "pending"
    assert second[c.RECORD_STARTED_ID] == first[c.RECORD_ID] != second[c.RECORD_ID]
    assert [row.state for row in rows_in(tmp_path)] == ["pending"]


def test_no_ledger_no_line(tmp_path):
    """Over OTLP nothing is said before the end: what is lost with a process is lost with its exporter, too."""
    emitted = Telemetry()
    call = start(emitted.signals(Settings(**LONG)))
    assert call not in calls.calls_under_way
    call.complete()
    assert [record[c.RECORD_STATE] for record in emitted.records] == ["final"]


def test_no_call_stays_under_way_after_its_end(signals):
    """However a call ends, nothing holds it any longer."""
    for end in (lambda call: call.complete(), lambda call: call.stop("stopped"), lambda call: call.disown()):
        call = start(signals)
        assert call in calls.calls_under_way
        end(call)
        assert call not in calls.calls_under_way


@pytest.mark.skipif(os.name != "posix", reason="files tell whether their process lives where there are locks")
def test_what_a_process_left_under_way_is_unknown(tmp_path):
    """The end of a process, here without any exit handler, is the end of its calls: unknown, and never a bill."""
    code = """if True:
        import os, sys, time
        from pathlib import Path
        from emitting import Telemetry, start
        from openai_metering.settings import Settings
        signals = Telemetry().signals(Settings(ledger_dir=sys.argv[1], ledger_started_after=0.01))
        call = start(signals)
        while not list(Path(sys.argv[1]).glob("*.jsonl")) or not next(Path(sys.argv[1]).glob("*.jsonl")).stat().st_size:
            time.sleep(0.01)
        os._exit(1)
    """
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        check=False,
        timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    (row,) = rows_in(tmp_path)
    assert (row.state, row.usage, row.reason, row.input_tokens) == ("started", "unknown", "process_ended", None)
    assert row.organization == "AcmeSoft"


def test_the_line_is_of_the_server_that_was_asked(signals, tmp_path):
    """A call under way says where it went."""
    call = told(start(signals), tmp_path)
    assert attributes_in(tmp_path)[0][c.SERVER_ADDRESS] == SERVER.address
    call.complete()
