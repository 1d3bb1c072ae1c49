"""A finished report cut to its largest groups, set beside the period before, or beside budgets."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING

from openai_metering.cli.columns import TIMES, sort_key
from openai_metering.cli.failure import Failure
from openai_metering.cli.grouping import GROUPED_KINDS, KINDS, Row, Sum, Tokens, in_blocks, merged

if TYPE_CHECKING:
    from collections.abc import Mapping

    from openai_metering.cli.grouping import Kind, Report

    Key = tuple[Kind, tuple[str | None, ...]]


def size_of(row: Row | Sum, *, money: bool) -> Decimal:
    """Return what rows are compared by: their price, else their cost, else their tokens.

    Args:
        row: one row, or a sum of rows.
        money: whether the report has amounts at all.
    """
    if money:
        return row.money.price if row.money.price is not None else row.money.cost or Decimal(0)
    return Decimal(0) if row.tokens is None else Decimal(row.tokens.input + row.tokens.output)


def in_money(report: Report) -> bool:
    """Say whether a report's rows are compared by amounts."""
    return report.currency is not None and report.total.money.cost is not None


def top(report: Report, count: int) -> Report:
    """Keep the largest groups, largest first; the rest becomes the one row ``others``, so that the total stays whole.

    Where the grouping starts with an organization, or account, its rows stay together: the largest of them first, by
    what it has of the groups that are kept.

    Args:
        report: made of groups.
        count: how many groups are kept.
    """
    groups: dict[tuple[str | None, ...], list[Row]] = defaultdict(list)
    for row in report.rows:
        if row.kind in GROUPED_KINDS:
            groups[row.cells].append(row)
    money = in_money(report)

    def rank(cells: tuple[str | None, ...]) -> tuple[object, ...]:
        sizes = [size_of(row, money=money) for row in groups[cells]]
        return -sum(sizes, Decimal(0)), -sum(row.calls for row in groups[cells]), sort_key(cells)

    ranked = sorted(groups, key=rank)
    first = ranked[:count]
    if in_blocks(report):
        blocks: dict[str | None, Decimal] = defaultdict(Decimal)
        for cells in first:
            blocks[cells[0]] += sum((size_of(row, money=money) for row in groups[cells]), Decimal(0))
        place = {cell: number for number, cell in enumerate(sorted(blocks, key=lambda cell: -blocks[cell]))}
        first.sort(key=lambda cells: place[cells[0]])
    kept = [row for cells in first for row in groups[cells]]
    rest = [row for cells in ranked[count:] for row in groups[cells]]
    other = [row for row in report.rows if row.kind not in GROUPED_KINDS]
    if rest:
        kept.append(merged("others", (None,) * len(report.columns), rest))
    names, shown = (
        {row.cells[0] for row in rows if row.calls and row.cells[0] is not None} for rows in (report.rows, kept)
    )
    return replace(report, rows=(*kept, *other), hidden=max(0, len(ranked) - count), hidden_names=len(names - shown))


def compared(report: Report, before: Report) -> Report:
    """Set each row beside the same row of the period before.

    A group that was there before and is no more gets a row of zeros, so that nothing that ended is overlooked.

    Args:
        report: of the period.
        before: of the period before, by the same columns.

    Raises:
        Failure: a column is one of time, in which no two periods share a value.
    """
    timed = [name for name in report.columns if name in TIMES]
    if timed:
        raise Failure(f"--compare has nothing to set beside a {timed[0]}: leave {timed[0]} out of --by.")
    old = {(row.kind, row.cells): row for row in before.rows}
    rows = [replace(row, before=_sum(old.pop((row.kind, row.cells), None))) for row in report.rows]
    rows += [
        Row(row.kind, row.cells, 0, None if row.tokens is None else Tokens(), before=_sum(row)) for row in old.values()
    ]
    rows.sort(key=lambda row: (row.kind not in GROUPED_KINDS, sort_key(row.cells), KINDS.index(row.kind)))
    return replace(report, rows=tuple(rows), before=before.total, before_period=before.period)


def _sum(row: Row | None) -> Sum:
    return Sum(0, Tokens()) if row is None else Sum(row.calls, row.tokens or Tokens(), row.money)


def budgeted(report: Report, budgets: Mapping[tuple[str, str | None], Decimal], column: str) -> Report:
    """Set each row beside its budget.

    Args:
        report: by one column of who, alone or together with ``month``.
        budgets: by id and month; the month is ``None`` where the report is not by month.
        column: of whom the budgets are.
    """
    who = report.columns.index(column)
    month = report.columns.index("month") if "month" in report.columns else None

    def key(row: Row) -> tuple[str, str | None]:
        return row.cells[who] or "", None if month is None else row.cells[month]

    rows = [row if row.kind != "owned" else replace(row, budget=budgets.get(key(row))) for row in report.rows]
    return replace(report, rows=tuple(rows))
