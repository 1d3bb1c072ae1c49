"""The numbers of a page: the tree of who used what, and what was used over time."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from openai_metering.cli.columns import column_of
from openai_metering.cli.grouping import GROUPED_KINDS, Row, Sum, kind_of, merged, tokens_of
from openai_metering.cli.shaping import in_money, size_of
from openai_metering.pricing.amounts import at_places, decimal_text

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from openai_metering.cli.columns import Column
    from openai_metering.cli.grouping import Report
    from openai_metering.cli.records import UsageRow
    from openai_metering.pricing import Priced

SERIES: Final = 8
"""How many series a chart has beside `others`, and what has no owner."""
LABELS: Final = {
    "others": "others",
    "unattributed": "unattributed",
    "unknown": "usage unknown",
    "not_billed": "not billed",
}
MISSING: Final = "-"
_SAFE: Final = 2**53 - 1
_DAYS, _WEEKS = 62, 54  # bars of a chart before it takes the next larger unit


@dataclass(frozen=True, slots=True)
class Measure:
    """One column of numbers on the page."""

    key: str
    label: str
    read: Callable[[Row | Sum], Any]


def integer(value: int | None) -> int | str | None:
    """Write a whole number so that a script reads it exactly."""
    return value if value is None or value <= _SAFE else str(value)


def amount(value: Decimal | None) -> list[str] | None:
    """Write an amount twice: exactly, and as it is shown."""
    if value is None:
        return None
    return [decimal_text(value), at_places(value, 2 if abs(value) >= 1 or not value else 6)]


def share(part: Decimal, whole: Decimal, *, sign: bool = False) -> list[str] | None:
    """Write a percentage twice; nothing where there is no whole."""
    if not whole:
        return None
    percent = 100 * part / whole
    return [f"{percent:.6f}", f"{percent:{'+' if sign else ''},.1f} %"]


def measures(report: Report) -> list[Measure]:
    """Return the columns that a report has."""
    total = report.total.money
    money = in_money(report)
    found = [
        Measure("calls", "calls", lambda row: integer(row.calls)),
        Measure("input", "input tokens", lambda row: row.tokens and integer(row.tokens.input)),
        Measure("cached", "of which cached", lambda row: row.tokens and integer(row.tokens.cached)),
        Measure("output", "output tokens", lambda row: row.tokens and integer(row.tokens.output)),
        Measure("reasoning", "of which reasoning", lambda row: row.tokens and integer(row.tokens.reasoning)),
    ]
    if money:
        found.append(Measure("cost", f"cost {report.currency}", lambda row: amount(row.money.cost)))
        if total.price is not None:
            found.append(Measure("price", f"price {report.currency}", lambda row: amount(row.money.price)))
        if total.unpriced:
            found.append(Measure("unpriced", "calls unpriced", lambda row: integer(row.money.unpriced)))
    if report.before is not None:
        found += _beside_before(report, money=money)
    if any(row.budget is not None for row in report.rows):
        found += budget_measures()
    return found


def budget_measures() -> list[Measure]:
    """Return the columns of budgets."""
    return [
        Measure("budget", "budget", lambda row: amount(row.budget) if isinstance(row, Row) else None),
        Measure("used", "of it used", _used),
    ]


def _beside_before(report: Report, *, money: bool) -> list[Measure]:
    def old(row: Row | Sum) -> Decimal | None:
        before = row.before if isinstance(row, Row) else report.before
        if row.tokens is None:  # of unknown usage, now and before
            return None
        return None if before is None else size_of(before, money=money)

    def shown(row: Row | Sum) -> Any:
        value = old(row)
        return amount(value) if money or value is None else integer(int(value))

    def change(row: Row | Sum) -> Any:
        value = old(row)
        return None if value is None else share(size_of(row, money=money) - value, value, sign=True)

    return [Measure("before", "before", shown), Measure("change", "change", change)]


def _used(row: Row | Sum) -> Any:
    budget = row.budget if isinstance(row, Row) else None
    return None if budget is None else share(size_of(row, money=True), budget)


def tree(report: Report, columns: Sequence[Measure], budgets: Mapping[str | None, Decimal]) -> list[dict[str, Any]]:
    """Return the groups of a report as nodes with children, one level for each column of its grouping.

    Args:
        report: by the levels of the tree.
        columns: the numbers of each node.
        budgets: of the nodes of the first level.
    """
    return _nodes([row for row in report.rows if row.kind in GROUPED_KINDS], 0, len(report.columns), columns, budgets)


def _nodes(
    rows: Sequence[Row], level: int, depth: int, columns: Sequence[Measure], budgets: Mapping[str | None, Decimal]
) -> list[dict[str, Any]]:
    groups: dict[str | None, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row.cells[level]].append(row)
    nodes = []
    for cell, own in groups.items():
        row = replace(merged("owned", (), own), budget=budgets.get(cell) if level == 0 else None)
        node: dict[str, Any] = {"n": MISSING if cell is None else cell, "v": [column.read(row) for column in columns]}
        estimated = sum(row.calls for row in own if row.kind == "estimated")
        if estimated:
            node["e"] = estimated
        if level + 1 < depth:
            node["c"] = _nodes(own, level + 1, depth, columns, {})
        nodes.append(node)
    return nodes


def specials(report: Report, columns: Sequence[Measure]) -> list[dict[str, Any]]:
    """Return the rows that are of no group, each with why."""
    return [
        {"n": LABELS[row.kind], "v": [column.read(row) for column in columns], "r": row.reasons}
        for row in report.rows
        if row.kind not in GROUPED_KINDS
    ]


def unit_of_time(times: Iterable[int | None], zone: dt.tzinfo) -> Column:
    """Return days, weeks or months: the smallest that gives a chart a number of bars that can be told apart."""
    bounds = [time for time in times if time is not None]
    days = (max(bounds) - min(bounds)) // (86_400 * 10**9) + 1 if bounds else 1
    name = "day" if days <= _DAYS else "week" if days <= 7 * _WEEKS else "month"
    return column_of(name, zone)


def chart(
    rows: Sequence[UsageRow],
    column: Column,
    time: Column,
    price: Callable[[UsageRow], Priced | None] | None,
    name_of: Callable[[str], str],
) -> dict[str, Any]:
    """Return what was used over time, by one column: the largest as series of their own.

    Args:
        rows: the calls.
        column: whose cells are the series.
        time: the unit of time.
        price: prices one call.
        name_of: how a series is called.
    """
    sums: dict[tuple[str, str], list[Any]] = defaultdict(lambda: [0, 0, Decimal(0)])
    for row in rows:
        kind = kind_of(row)
        series = f"own:{column.read(row) or MISSING}" if kind in GROUPED_KINDS else kind
        own = sums[time.read(row) or MISSING, series]
        own[0] += 1
        if kind in ("unknown", "not_billed"):
            continue
        tokens = tokens_of(row)
        own[1] += tokens.input + tokens.output
        priced = None if price is None else price(row)
        if priced is not None:
            best = priced.price if priced.price is not None and priced.price.value is not None else priced.cost
            own[2] += best.value or 0
    return _chart(column, time, sums, name_of)


def _chart(
    column: Column, time: Column, sums: Mapping[tuple[str, str], list[Any]], name_of: Callable[[str], str]
) -> dict[str, Any]:
    totals: dict[str, list[Any]] = defaultdict(lambda: [0, 0, Decimal(0)])
    for (_, series), own in sums.items():
        totals[series] = [one + other for one, other in zip(totals[series], own, strict=True)]
    ranked = sorted(
        (name for name in totals if name.startswith("own:")), key=lambda name: (totals[name][::-1], name), reverse=True
    )
    shown, rest = ranked[:SERIES], ranked[SERIES:]
    lines = [(name_of(name.removeprefix("own:")), [name]) for name in shown]
    lines += [("others", rest)] if rest else []
    lines += [(LABELS[kind], [kind]) for kind in LABELS if kind in totals]
    labels = sorted({label for label, _ in sums})
    nothing = (0, 0, Decimal(0))
    sets = []
    for label, names in lines:
        values = [
            [sum((sums.get((at, name), nothing)[index] for name in names), 0) for at in labels] for index in range(3)
        ]
        money = [decimal_text(Decimal(value)) for value in values[2]]
        sets.append({"label": label, "calls": values[0], "tokens": values[1], "money": money})
    return {"by": column.name, "unit": time.name, "labels": labels, "sets": sets}
