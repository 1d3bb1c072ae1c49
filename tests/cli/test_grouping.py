"""Joining records to calls, and calls to groups."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, strategies as st

from openai_metering.cli.columns import COLUMNS, columns_of
from openai_metering.cli.grouping import GROUPED_KINDS, group, kind_of
from openai_metering.cli.joining import Calls, better
from openai_metering.cli.records import ATTRIBUTION_STATUSES, STATES, USAGE_STATUSES, UsageRow

small = st.none() | st.integers(0, 2**63 - 1)
name = st.none() | st.sampled_from(["a", "A", "b"])
usage_rows = st.builds(
    UsageRow,
    record_id=st.sampled_from("pqrs"),
    state=st.sampled_from(STATES),
    time_unix_nano=st.none() | st.integers(1, 2**64 - 1),
    attribution=st.sampled_from(ATTRIBUTION_STATUSES),
    organization=name,
    subscriber=name,
    credential=name,
    tags=st.lists(st.tuples(st.sampled_from("kl"), st.sampled_from("vw")), max_size=2).map(tuple),
    operation=name,
    provider=name,
    model=name,
    usage=st.sampled_from(USAGE_STATUSES),
    reason=name,
    input_tokens=small,
    cached_tokens=small,
    output_tokens=small,
    reasoning_tokens=small,
    facts=st.sampled_from([(), (("f", "v"),), (("f", "w"), ("g", "v"))]),
)


@given(st.lists(usage_rows, max_size=12).flatmap(lambda rows: st.tuples(st.just(rows), st.permutations(rows))))
def test_joining_does_not_depend_on_the_order(orders):
    """The same records give the same report, in whatever order they are read."""
    reports = []
    for rows in orders:
        calls = Calls()
        for row in rows:
            calls.add(row)
        reports.append(group(calls.rows(), tuple(COLUMNS.values()), duplicates=calls.duplicates))
    assert reports[0] == reports[1]


@given(usage_rows, usage_rows)
def test_final_beats_pending_beats_started(one, other):
    """No attribution, usage or time makes an earlier state count more than a later one."""
    chosen = better(one, other)
    assert STATES.index(chosen.state) == max(STATES.index(one.state), STATES.index(other.state))


@given(
    st.lists(usage_rows, min_size=1, max_size=40, unique_by=id),
    st.lists(st.sampled_from([*COLUMNS, "tag:k"]), min_size=1, max_size=4),
)
def test_totals_equal_an_independent_sum(rows, by):
    """Whatever the grouping, no call and no token is lost or counted twice."""
    result = group(rows, columns_of(",".join(by)))
    known = [row for row in rows if row.state == "final" and row.usage in {"reported", "estimated"}]
    assert result.records == result.total.calls == sum(row.calls for row in result.rows) == len(rows)
    assert result.total.tokens.input == sum(row.input_tokens or 0 for row in known)
    assert result.total.tokens.reasoning == sum(row.reasoning_tokens or 0 for row in known)
    assert Counter(kind_of(row) for row in rows) == sum(
        (Counter({row.kind: row.calls}) for row in result.rows), Counter()
    )
    keys = [(row.kind, row.cells) for row in result.rows]
    assert len(keys) == len(set(keys))
    assert all(count == 1 for kind, count in Counter(kind for kind, _ in keys).items() if kind not in GROUPED_KINDS)
