"""What a report is to be about, and its numbers set beside those that it is measured by."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from openai_metering.cli import columns as grouping_columns, shaping
from openai_metering.cli.budgets import Budgets, months_of, summed
from openai_metering.cli.costs import KEPT, Costs
from openai_metering.cli.failure import Failure
from openai_metering.cli.filters import Filters
from openai_metering.cli.gathering import Gathered, made
from openai_metering.cli.hierarchy import Hierarchy
from openai_metering.cli.period import Period, months, period_of, zone_of

if TYPE_CHECKING:
    import argparse
    import datetime as dt
    from collections.abc import Mapping, Sequence
    from decimal import Decimal

    from openai_metering.cli.columns import Column
    from openai_metering.cli.grouping import Report
    from openai_metering.cli.records import UsageRow

PAGE: Final = "html"


@dataclass(frozen=True, slots=True)
class Asked:
    """What a report is to be about."""

    columns: tuple[Column, ...]
    period: Period
    zone: dt.tzinfo
    filters: Filters | None
    costs: Costs | None
    hierarchy: Hierarchy | None

    @classmethod
    def of(cls, args: argparse.Namespace) -> Asked:
        """Read the arguments.

        Raises:
            Failure: they contradict each other, or name what is not there.
        """
        zone = zone_of(args.timezone)
        columns = grouping_columns.columns_of(args.by, zone)
        period = period_of(getattr(args, "from"), args.to, args.month, zone)
        filters = Filters(args.where, zone)
        if args.no_cost and args.prices is not None:
            raise Failure("--no-cost and --prices contradict each other: give one of them.")
        if args.top is not None and args.top < 1:
            raise Failure("--top takes a whole number from 1 on.")
        hierarchy = None if args.directory is None else Hierarchy.read(args.directory)
        named = (*(column.name for column in columns), *filters.columns)
        if hierarchy is None and grouping_columns.ACCOUNT in named:
            raise Failure(f"the column {grouping_columns.ACCOUNT} needs the hierarchy: give --directory DIR.")
        costs = None if args.no_cost else Costs(args.prices)
        return cls(columns, period, zone, filters or None, costs, hierarchy)

    @property
    def facts(self) -> frozenset[str]:
        """The attributes beyond a row's own that are needed."""
        return KEPT if self.costs is not None else frozenset()


def shaped(args: argparse.Namespace, asked: Asked, gathered: Gathered, rows: Sequence[UsageRow]) -> Report:
    """Add calls up, and set them beside the period before and the budgets, as far as that was asked for.

    Args:
        args: those of the command line.
        asked: what the report is to be about.
        gathered: every call there is.
        rows: those that the report is about.
    """
    report = made(rows, asked.columns, gathered, asked.costs)
    if args.compare:
        earlier = asked.period.before()
        inside = earlier.test()
        old = [row for row in gathered.rows if row.time_unix_nano is not None and inside(row.time_unix_nano)]
        before = made(asked.filters.of(old) if asked.filters else old, asked.columns, gathered, asked.costs)
        report = shaping.compared(report, replace(before, period=str(earlier)))
    if args.format != PAGE:  # which has budgets beside its first level
        report = _budgeted(args, asked, report)
    return report if args.top is None else shaping.top(report, args.top)


def _budgeted(args: argparse.Namespace, asked: Asked, report: Report) -> Report:
    budgets = Budgets(None if asked.hierarchy is None else asked.hierarchy.tables, args.budgets)
    column = budgets.column(report.columns)
    monthly = "month" in report.columns
    if column is None or asked.filters or not shaping.in_money(report):
        if not budgets.named:
            return report
        if asked.filters:
            raise Failure("--budgets are of all that somebody uses: leave --where out.")
        if column is None:
            who = ", ".join(grouping_columns.WHO)
            raise Failure(f"--budgets needs --by with one of {who}, alone or together with month.")
        raise Failure("--budgets are amounts, and no call has a cost: give --prices, or leave --no-cost out.")
    try:
        wanted = (
            sorted({row.cells[report.columns.index("month")] or "" for row in report.rows} - {""})
            if monthly
            else months_of(asked.period)
        )
    except Failure:
        if budgets.named:
            raise
        return report
    ids = {row.cells[report.columns.index(column)] for row in report.rows if row.kind == "owned"} - {None}
    found: Mapping[tuple[str, str | None], Decimal]
    own = budgets.of(column, sorted(filter(None, ids)), wanted, asked.zone)
    found = {(name, month): budget for (name, month), budget in own.items()} if monthly else summed(own)
    return shaping.budgeted(report, found, column)


def budgets_of_page(args: argparse.Namespace, asked: Asked, report: Report) -> dict[str | None, Decimal]:
    """Return the budgets of the first level of a page, by id; none where its period is not whole months.

    Raises:
        Failure: a file of budgets was named, and the page has no place for them.
    """
    budgets = Budgets(None if asked.hierarchy is None else asked.hierarchy.tables, args.budgets)
    column = report.columns[0]
    wanted = months(asked.period)
    if column not in grouping_columns.WHO or wanted is None or asked.filters or not shaping.in_money(report):
        if budgets.named:
            raise Failure("--budgets on a page need --month, a first column of who, amounts, and no --where.")
        return {}
    ids = {row.cells[0] for row in report.rows} - {None}
    found = summed(budgets.of(column, sorted(filter(None, ids)), wanted, asked.zone))
    return {name: budget for (name, _), budget in found.items()}
