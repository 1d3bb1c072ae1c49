"""Compiled files: a report from them is the report from the lines, whatever they hold, and they follow their files."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from openai_metering.cli import main
from openai_metering.cli.columns import columns_of
from openai_metering.cli.compiled import cache_folder, compile_all
from openai_metering.cli.engine import gather_compiled
from openai_metering.cli.filters import Filters
from openai_metering.cli.gathering import gather, made, narrowed
from openai_metering.cli.hierarchy import Hierarchy
from openai_metering.cli.period import UTC, Period, period_of, zone_of
from openai_metering.ledger import Ledger

sys.path.insert(0, str(Path(__file__).parents[1] / "cli"))
from usage_lines import JULY, NOBODY, line, record

ALL_TIME = Period()
BY = ["account,organization,subscriber", "credential,model,day", "organization,month", "provider,operation,week"]


def both(files, folder, by, *, zone=UTC, period=ALL_TIME, where=(), directory=None):
    """The report from lines, and from compiled files."""
    filters = Filters(where, zone)
    columns = columns_of(by, zone)
    reports = []
    for compiled in (False, True):
        hierarchy = None if directory is None else Hierarchy.read(str(directory))
        names = [*by.split(","), *filters.columns]
        gathered = gather_compiled(files, folder, names, zone, [period], hierarchy) if compiled else None
        if gathered is None:  # as the command does, where too many moments are told apart: a month of the year 2554
            gathered = gather(files, (), frozenset(), hierarchy)
        rows, untimed = narrowed(gathered, period, filters)
        report = dataclasses.replace(made(rows, columns, gathered), untimed=untimed)
        reports.append(
            (report, None if hierarchy is None else (hierarchy.conflicts, hierarchy.named(report, columns=True)))
        )
    return reports


@pytest.mark.parametrize("by", BY)
def test_a_month(simulated, tmp_path, by):
    """With a directory, jobs and records that are there twice, grouped by anything, the two reports are one."""
    files = sorted(simulated.ledger.glob("*.jsonl"))
    zone = zone_of("Europe/Berlin")
    period = period_of("2026-07-03", "2026-07-20T13:30", None, zone)
    one, other = both(
        files, tmp_path, by, zone=zone, period=period, where=["model=gpt-6*"], directory=simulated.directory
    )
    assert one == other
    assert one[0].records > 500
    assert one[0].duplicates > 10


NAMES = st.sampled_from([None, "A", 'quo"te', "com,ma", "\\N", "back\\slash", "Ω", "a\nb", "nul\x00", " "])
RECORDS = st.builds(
    lambda number, time, **changes: record(f"id-{number}", time=time, **changes),
    st.integers(0, 12),
    st.sampled_from([0, JULY, JULY + 10**9, JULY + 86_400 * 10**9, 2**64 - 1]),
    organization=NAMES,
    subscriber=NAMES,
    credential=NAMES,
    model=NAMES,
    project=NAMES,
    state=st.sampled_from(["started", "pending", "final"]),
    usage=st.sampled_from(["reported", "unknown", "estimated", "not_billed", None]),
    status=st.sampled_from(["complete", "partial", "unattributed", None]),
    reason=st.sampled_from([None, "cut", "under_way"]),
    input=st.sampled_from([None, 0, 7, 2**63 - 1, "text"]),
    output=st.sampled_from([None, 0, 5]),
)
STARTED = st.builds(
    lambda one, other: record(f"id-{one}", **{"openai_metering.record.started_id": f"id-{other}"}),
    st.integers(0, 12),
    st.integers(0, 12),
)


@given(
    st.lists(st.lists(st.one_of(RECORDS, STARTED).map(line) | st.just('{"torn'), max_size=15), min_size=1, max_size=3),
    st.sampled_from(["organization,model", "tag:project,credential", "subscriber,day", "month,tag:other"]),
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_records(tmp_path_factory, files, by):
    """Whatever the lines hold (any name, torn lines, replaced records, odd times and numbers), nothing differs."""
    folder = tmp_path_factory.mktemp("any")
    paths = []
    for number, lines in enumerate([*files, [line(record("sure"))]]):
        paths.append(folder / f"{number}.jsonl")
        paths[-1].write_text("".join(f"{one}\n" for one in lines), encoding="utf-8")
    one, other = both(paths, folder / "cache", by)
    assert one == other


def test_a_file_that_changes_is_compiled_anew(tmp_path):
    """What is compiled belongs to a size and a time of change; what belongs to no file any more is deleted."""
    file, folder = tmp_path / "a.jsonl", tmp_path / "cache"
    file.write_text(f"{line(record('one'))}\n")
    (first,), rest = compile_all([file], folder)
    assert rest == []
    assert compile_all([file], folder)[0] == [first]
    file.write_text(f"{line(record('one'))}\n{line(record('two'))}\n")
    (second,), _ = compile_all([file], folder)
    assert second.lines == 2
    assert not first.parquet.exists()
    assert [one.suffix for one in sorted(folder.iterdir())] == [".json", ".parquet"]
    assert folder.stat().st_mode & 0o777 == 0o700
    assert second.parquet.stat().st_mode & 0o777 == 0o600


def test_a_ledger_that_is_written_is_read_as_lines(tmp_path):
    """The files of a process that lives are not compiled: they grow, and what is under way in them is not lost."""
    ledger = Ledger(str(tmp_path / "ledger"), {}, ("tests", "1"), "")
    try:
        ledger.append(record("one", state="started", usage="unknown", reason="under_way"))
        files = sorted((tmp_path / "ledger").glob("*.jsonl"))
        assert compile_all(files, tmp_path / "cache") == ([], files)
    finally:
        ledger.close()
    (compiled,), rest = compile_all(files, tmp_path / "cache")
    assert (compiled.lines, rest) == (1, [])


def test_records_with_a_cost_are_read_as_lines(tmp_path):
    """What a record says it cost is not lost on the way."""
    file = tmp_path / "a.jsonl"
    file.write_text(f"{line(record('one', **{'openai_metering.cost.status': 'priced'}))}\n")
    assert gather_compiled([file], tmp_path / "cache", ["model"], UTC, [], None) is None


def test_the_command_uses_it_for_much(tmp_path, monkeypatch, capsys):
    """Large files are compiled once, beside the cache, and the report says the same with and without."""
    monkeypatch.setenv("OPENAI_METERING_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("openai_metering.cli.report.WORTH", 1)
    (tmp_path / "a.jsonl").write_text(f"{line(record('a'))}\n{line(record('b', **NOBODY))}\n" + '{"torn\n')
    said = []
    for words in ([], [], ["--no-cache"]):
        assert main(["report", str(tmp_path / "a.jsonl"), "--no-cost", "--format", "json", *words]) == 0
        captured = capsys.readouterr()
        said.append((json.loads(captured.out), captured.err))
    assert said[0] == said[1] == said[2]
    assert "a.jsonl:3: torn" in said[0][1]
    assert len(list(cache_folder().glob("*.parquet"))) == 1
