"""The roll-up of a report: however calls are grouped, cut, filtered or compared, nothing is lost and nothing counted twice."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from decimal import Decimal

from hypothesis import given, settings, strategies as st

from openai_metering.cli import shaping
from openai_metering.cli.columns import columns_of
from openai_metering.cli.filters import Filters
from openai_metering.cli.grouping import GROUPED_KINDS, Money, Tokens, group, total_of
from openai_metering.cli.page import numbers
from openai_metering.cli.period import UTC, Period, zone_of
from openai_metering.cli.records import ATTRIBUTION_STATUSES, STATES, USAGE_STATUSES, UsageRow
from openai_metering.pricing import Amount, Priced

NAMES = st.sampled_from([None, "A", "a", "B", "", "B B", "Ω"]).map(lambda name: name or None)
COUNTS = st.one_of(st.none(), st.integers(0, 2**63 - 1))
TIMES = st.one_of(st.none(), st.integers(1_780_000_000, 1_790_000_000).map(lambda seconds: seconds * 10**9))
AMOUNTS = st.decimals(0, 1000, places=18, allow_nan=False, allow_infinity=False)
BY = st.lists(
    st.sampled_from(["organization", "subscriber", "credential", "model", "day", "week", "month", "tag:x"]),
    min_size=1,
    max_size=4,
    unique=True,
)


@st.composite
def calls(draw):
    """Calls of every kind, each with an amount, or none."""
    rows = draw(
        st.lists(
            st.builds(
                UsageRow,
                record_id=st.uuids().map(str),
                state=st.sampled_from(STATES),
                time_unix_nano=TIMES,
                attribution=st.sampled_from(ATTRIBUTION_STATUSES),
                organization=NAMES,
                subscriber=NAMES,
                credential=NAMES,
                tags=st.sampled_from([(), (("x", "1"),), (("x", "2"), ("y", "1"))]),
                operation=NAMES,
                provider=NAMES,
                model=NAMES,
                usage=st.sampled_from(USAGE_STATUSES),
                reason=NAMES,
                input_tokens=COUNTS,
                cached_tokens=COUNTS,
                output_tokens=COUNTS,
                reasoning_tokens=COUNTS,
                started_id=st.none(),
                facts=st.just(()),
                account=NAMES,
            ),
            max_size=25,
        )
    )
    priced = {row.record_id: draw(st.one_of(st.none(), AMOUNTS)) for row in rows}
    return rows, lambda row: _priced(priced[row.record_id])


def _priced(value):
    return Priced(Amount("unpriced" if value is None else "priced", value, "USD"), None)


def made(rows, price, by):
    return group(rows, columns_of(",".join(by)), price=price, currency="USD")


def sums(rows):
    """Calls, tokens and money by kind."""
    found = defaultdict(list)
    for row in rows:
        found[row.kind].append(row)
    return {kind: total_of(own) for kind, own in found.items()}


@given(calls(), BY)
@settings(max_examples=150, deadline=None)
def test_a_coarser_grouping_is_the_sum_of_a_finer_one(drawn, by):
    """Taking a column away adds its groups up, in every kind, to the token and to the last place of the amount."""
    rows, price = drawn
    fine = made(rows, price, by)
    assert fine.total == made(rows, price, ["provider"]).total
    assert fine.records == len(rows)
    if len(by) < 2:
        return
    added = defaultdict(list)
    for row in fine.rows:
        added[row.kind, row.cells[:-1]].append(row)
    coarse = {(row.kind, row.cells): row for row in made(rows, price, by[:-1]).rows}
    assert coarse.keys() == added.keys()
    for key, own in added.items():
        whole = total_of(own)
        assert (coarse[key].calls, coarse[key].tokens or Tokens(), coarse[key].money) == (
            whole.calls,
            whole.tokens,
            whole.money,
        )


@given(calls(), BY, st.randoms(use_true_random=False))
@settings(max_examples=75, deadline=None)
def test_the_order_of_reading_does_not_matter(drawn, by, order):
    """Whatever the order of the calls, the report is the same."""
    rows, price = drawn
    shuffled = list(rows)
    order.shuffle(shuffled)
    assert made(shuffled, price, by).rows == made(rows, price, by).rows


@given(calls(), BY, st.integers(1, 5))
@settings(max_examples=100, deadline=None)
def test_the_largest_and_the_others_are_all(drawn, by, count):
    """Cutting a report to its largest groups moves the rest into one row, and the total stays."""
    rows, price = drawn
    whole = made(rows, price, by)
    cut = shaping.top(whole, count)
    assert total_of(cut.rows) == whole.total == cut.total
    groups = {row.cells for row in whole.rows if row.kind in GROUPED_KINDS}
    kept = [row.cells for row in cut.rows if row.kind in GROUPED_KINDS]
    assert len(set(kept)) == min(count, len(groups))
    assert cut.hidden == len(groups) - len(set(kept))
    sizes = defaultdict(Decimal)
    for row in whole.rows:
        if row.kind in GROUPED_KINDS:
            sizes[row.cells] += shaping.size_of(row, money=shaping.in_money(whole))
    if cut.hidden:
        assert min(sizes[cells] for cells in kept) >= max(sizes[cells] for cells in groups - set(kept))


@given(calls(), calls(), BY)
@settings(max_examples=75, deadline=None)
def test_comparing_loses_no_row_of_either_period(now, then, by):
    """Every group of both periods is there once, with what it was in each."""
    by = [name for name in by if name not in ("day", "week", "month")] or ["model"]
    report, before = made(*now, by), made(*then, by)
    found = shaping.compared(report, before)
    assert total_of(found.rows) == report.total
    olds = [row.before for row in found.rows]
    assert sum(one.calls for one in olds) == before.total.calls
    assert sum((one.tokens for one in olds), Tokens()) == before.total.tokens
    assert sum((one.money for one in olds), Money()) == before.total.money
    assert len({(row.kind, row.cells) for row in found.rows}) == len(found.rows)


@given(calls(), st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kathmandu", "America/St_Johns"]))
@settings(max_examples=75, deadline=None)
def test_months_that_follow_each_other_are_the_whole(drawn, name):
    """Periods that touch share no call and miss none, on any clock, and agree with the column of that clock."""
    rows, price = drawn
    zone = zone_of(name)
    timed = [row for row in rows if row.time_unix_nano is not None]
    found = defaultdict(list)
    for row in timed:
        found[columns_of("month", zone)[0].read(row)].append(row)
    for month, own in found.items():
        period = month_of(month, zone)
        assert [row for row in timed if period.test()(row.time_unix_nano)] == own
    assert sum(len(own) for own in found.values()) == len(timed)
    assert (
        total_of([row for own in found.values() for row in made(own, price, ["model"]).rows])
        == made(timed, price, ["model"]).total
    )


def month_of(text, zone):
    from openai_metering.cli.period import period_of

    return period_of(None, None, text, zone)


@given(
    calls(), st.sampled_from(["organization", "model", "tag:x", "credential"]), st.sampled_from(["A", "", "B*", "?"])
)
@settings(max_examples=75, deadline=None)
def test_a_filter_and_its_opposite_are_all(drawn, column, value):
    """Each call meets a condition or its opposite, and not both."""
    rows, _ = drawn
    yes = list(Filters([f"{column}={value}"], UTC).of(rows))
    no = list(Filters([f"{column}!={value}"], UTC).of(rows))
    assert sorted(row.record_id for row in (*yes, *no)) == sorted(row.record_id for row in rows)


@given(calls(), BY)
@settings(max_examples=75, deadline=None)
def test_the_tree_of_a_page_is_the_report(drawn, by):
    """Each node is the sum of its children, and the first level with the rows of no group is the total."""
    rows, price = drawn
    report = made(rows, price, by)
    columns = numbers.measures(report)
    nodes = numbers.tree(report, columns, {})
    specials = numbers.specials(report, columns)

    def added(values):
        found = [Decimal(0)] * len(columns)
        for own in values:
            found = [one + Decimal(_exact(other) or 0) for one, other in zip(found, own, strict=True)]
        return found

    def check(node):
        if "c" in node:
            assert added(child["v"] for child in node["c"]) == added([node["v"]])
            for child in node["c"]:
                check(child)

    for node in nodes:
        check(node)
    assert added(one["v"] for one in (*nodes, *specials)) == added([[column.read(report.total) for column in columns]])


def _exact(value):
    return value[0] if isinstance(value, list) else value


def test_a_period_without_bounds_holds_everything():
    """All time is all calls that have a time."""
    row = dataclasses.replace(Period())
    assert row.test()(0)
    assert row.test()(2**63)
