"""Who was who at a moment, and that no token is lost or doubled on the way up."""

from __future__ import annotations

from collections import Counter

import pytest
from folders import tables
from hypothesis import given, settings, strategies as st

from openai_metering.cli.columns import columns_of
from openai_metering.cli.grouping import group
from openai_metering.cli.hierarchy import Hierarchy
from openai_metering.cli.records import UsageRow
from openai_metering.directory.checks import check
from openai_metering.directory.lookup import lookup
from openai_metering.directory.periods import moment, spelt
from openai_metering.directory.resolve import Who, name_of, resolve, top

JULY = moment("2026-07-16")
MADE = tables(
    ["group,,internal,,,", "acme,Acme,,group,,2026-07-16", "acme,AcmeSoft,,,2026-07-16,", "nord,,,,,"],
    ["joe@acme.com,,acme,,,2026-07-16", "joe@acme.com,,nord,,2026-07-16,", "ann@acme.com,,acme,,,", "free,,,,,"],
    [
        "joes,joe@acme.com,,,,,,",
        "shared,joe@acme.com;ann@acme.com,,,,,,",
        "stated,joe@acme.com,group,,,,,",
        "team,,acme,,,,,",
        "old,ann@acme.com,,,,,,2026-07-01",
        "loose,free,,,,,,",
    ],
)


@pytest.mark.parametrize(
    ("given_levels", "time", "expected"),
    [
        ({"credential": "joes"}, JULY - 1, Who("acme", "joe@acme.com", "joes")),
        ({"credential": "joes"}, JULY, Who("nord", "joe@acme.com", "joes")),
        ({"credential": " JOES"}, JULY, Who("nord", "joe@acme.com", "joes")),
        ({"subscriber": "Joe@ACME.com "}, JULY - 1, Who("acme", "joe@acme.com", None)),
        ({"credential": "shared"}, JULY - 1, Who("acme", None, "shared")),
        ({"credential": "shared"}, JULY, Who(None, None, "shared")),
        ({"credential": "shared", "subscriber": "joe@acme.com"}, JULY, Who("nord", "joe@acme.com", "shared")),
        ({"credential": "stated"}, JULY, Who("group", "joe@acme.com", "stated")),
        ({"credential": "team"}, JULY, Who("acme", None, "team")),
        ({"credential": "old"}, JULY, Who(None, None, "old")),
        ({"credential": "loose"}, JULY, Who(None, "free", "loose")),
        ({"credential": "nobody's"}, JULY, Who(None, None, "nobody's")),
        ({"subscriber": "eve"}, JULY, Who(None, "eve", None)),
        ({"organization": "NORD"}, JULY, Who("nord", None, None)),
        ({"credential": "joes", "organization": "acme"}, JULY, Who("acme", "joe@acme.com", "joes", conflict=True)),
        ({"credential": "joes", "subscriber": "eve"}, JULY, Who(None, "eve", "joes", conflict=True)),
        ({"credential": "joes"}, None, Who(None, "joe@acme.com", "joes")),
        ({"credential": "team"}, None, Who("acme", None, "team")),
        ({}, JULY, Who(None, None, None)),
    ],
)
def test_levels_are_filled_by_the_hierarchy_of_the_time(given_levels, time, expected):
    """What is given stays, what is not is the directory's at that moment, and what nobody knows stays absent."""
    assert resolve(MADE, **given_levels, time=time) == expected


def test_what_stands_above_and_names_are_those_of_the_time():
    """A bill of last month uses last month's hierarchy and last month's names."""
    assert [top(MADE, "ACME", time) for time in (JULY - 1, JULY)] == ["group", "acme"]
    assert [name_of(MADE["organization"], "acme", time) for time in (JULY - 1, JULY)] == ["Acme", "AcmeSoft"]
    assert (top(MADE, "none", JULY), name_of(MADE["organization"], "none", JULY)) == ("none", None)


def test_the_lookup_table_holds_what_is_valid():
    """One line for each credential of that moment; blank where the directory does not say one value."""
    text, count = lookup(MADE, JULY)
    assert text.splitlines() == [
        "credential,subscriber,organization",
        "joes,joe@acme.com,nord",
        "shared,,",
        "stated,joe@acme.com,group",
        "team,,acme",
        "loose,free,",
    ]
    assert count == 5


# -- The roll-up -----------------------------------------------------------------------------------------------------

DAYS = 6
DAY = 86_400 * 10**9
days = st.integers(0, DAYS - 1)


@st.composite
def histories(draw, ids, cells):
    """Rows of some ids whose periods follow each other without overlap, with or without gaps, bounded or not."""
    rows = []
    for name in ids:
        cuts = sorted(draw(st.sets(days, max_size=3)))
        bounds = [*zip([None, *cuts], [*cuts, None], strict=True)]
        for start, end in bounds:
            if draw(st.integers(0, 3)):
                period = ",".join(spelt(day * DAY) if day is not None else "" for day in (start, end))
                rows.append(f"{name},{draw(cells)},{period}")
    return rows


@st.composite
def directories(draw):
    made = tables(
        draw(histories("ABC", st.sampled_from([",,", ",,", "x,,", ",internal,A", ",,B"]))),
        draw(histories("abc", st.sampled_from([",,", ",A,", ",B,", ",C,active", "y,D,"]))),
        draw(histories("123", st.sampled_from([",,,,", "a,,,,", "b,,,,", "a;b,,,,", "c,A,,,", ",B,,,"]))),
    )
    return made if not any("circle" in str(problem) for problem in check(made)) else tables()


level = st.none() | st.sampled_from(["A", "b", " a", "1", "3", "unknown"])
usage_rows = st.builds(
    UsageRow,
    record_id=st.text(min_size=1),
    state=st.just("final"),
    time_unix_nano=st.none() | st.integers(1, DAYS * DAY),
    attribution=st.sampled_from(["unattributed", "partial", "complete"]),
    organization=level,
    subscriber=level,
    credential=level,
    tags=st.just(()),
    operation=st.none(),
    provider=st.none(),
    model=st.none(),
    usage=st.just("reported"),
    reason=st.none(),
    input_tokens=st.integers(0, 2**40),
    cached_tokens=st.none(),
    output_tokens=st.none(),
    reasoning_tokens=st.none(),
)


@settings(max_examples=300)
@given(directories(), st.lists(usage_rows, max_size=12))
def test_the_sum_over_children_is_the_parent(made, rows):
    """Under any validity periods no call and no token is lost or doubled, at any level."""
    by = ("account", "organization", "subscriber", "credential")
    sums = {}
    for depth in range(1, len(by) + 1):
        report = group(Hierarchy(made).fill(rows), columns_of(",".join(by[:depth])))
        assert report.total.calls == len(rows)
        assert report.total.tokens.input == sum(row.input_tokens for row in rows)
        sums[depth] = Counter()
        for row in report.rows:
            sums[depth][row.kind, row.cells] += row.tokens.input
    for depth in range(1, len(by)):
        children = Counter()
        for (kind, cells), tokens in sums[depth + 1].items():
            children[kind, cells[:-1]] += tokens
        assert children == sums[depth]


@given(directories(), usage_rows)
def test_what_a_record_says_stays(made, row):
    """The directory only adds; and one row is valid at a time, so that there is one answer."""
    (filled,) = Hierarchy(made).fill([row])
    for name in ("organization", "subscriber", "credential"):
        before, after = getattr(row, name), getattr(filled, name)
        assert before is None or after.casefold() == before.strip().casefold() or after == before
    for table in made.values():
        for entries in table.rows.values():
            assert sum(entry.valid(row.time_unix_nano or 1) for entry in entries) <= 1
