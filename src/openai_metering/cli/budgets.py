"""What may be spent: the budgets of a directory, or of a file."""

from __future__ import annotations

import csv
from collections import defaultdict
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Final

from openai_metering.cli.columns import ACCOUNT, ORGANIZATION, WHO
from openai_metering.cli.failure import Failure
from openai_metering.cli.period import months, nanoseconds, period_of
from openai_metering.directory.schema import fold, shown

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable, Mapping

    from openai_metering.cli.period import Period
    from openai_metering.directory.checks import Tables

COLUMN: Final = "meta.budget"
"""The column of a directory's file that holds the budget of a calendar month."""


class Budgets:
    """The budget of each id in a calendar month.

    Args:
        tables: those of a directory, whose rows may have ``meta.budget``.
        file: a CSV file with the columns ``id`` and ``budget``, and ``month`` where they differ by month; it goes first.

    Raises:
        Failure: the file cannot be read, or a budget is no number.
    """

    def __init__(self, tables: Tables | None, file: str | None) -> None:
        self._tables = tables
        self._file = None if file is None else _read(Path(file))

    @property
    def named(self) -> bool:
        """Whether a file was named: then its budgets are asked for, and not only shown where there are some."""
        return self._file is not None

    def column(self, columns: Iterable[str]) -> str | None:
        """Return of whom the budgets of a report are: of its one column of who, alone or beside ``month``."""
        names = set(columns) - {"month"}
        return names.pop() if len(names) == 1 and names <= set(WHO) else None

    def of(
        self, column: str, ids: Iterable[str], wanted: Iterable[str], zone: dt.tzinfo
    ) -> dict[tuple[str, str], Decimal]:
        """Return the budgets of ids in calendar months.

        Args:
            column: of whom.
            ids: in the spelling of the report.
            wanted: months such as ``2026-07``.
            zone: whose months they are: a budget is that of the directory's row which holds at their beginning.
        """
        found = {}
        for month in wanted:
            start = period_of(None, None, month, zone).start
            time = None if start is None else nanoseconds(start)
            for name in ids:
                budget = self._one(column, name, month, time)
                if budget is not None:
                    found[name, month] = budget
        return found

    def _one(self, column: str, name: str, month: str, time: int | None) -> Decimal | None:
        if self._file is not None:
            own = self._file.get(fold(name), {})
            return own.get(month, own.get(""))
        if self._tables is None:
            return None
        table = self._tables[ORGANIZATION if column == ACCOUNT else column]
        entry = table.at(name, time)
        text = "" if entry is None else entry.get(COLUMN)
        return _amount(text, f"{table.kind.file}: {COLUMN} of {shown(name)}") if text else None


def summed(budgets: Mapping[tuple[str, str], Decimal]) -> dict[tuple[str, str | None], Decimal]:
    """Add the months of each id up."""
    sums: dict[tuple[str, str | None], Decimal] = defaultdict(Decimal)
    for (name, _), budget in budgets.items():
        sums[name, None] += budget
    return dict(sums)


def months_of(period: Period) -> list[str]:
    """Return the calendar months of a period.

    Raises:
        Failure: it is not made of whole ones, so that no budget is that of the period.
    """
    found = months(period)
    if found is None:
        raise Failure(
            "budgets are of calendar months: give --month, or --from and --to as whole months, or --by month."
        )
    return found


def _read(file: Path) -> dict[str, dict[str, Decimal]]:
    try:
        rows = list(csv.DictReader(file.read_text("utf-8-sig").splitlines()))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise Failure(f"--budgets {file} cannot be read: {reason}.") from error
    if not rows or not {"id", "budget"} <= set(rows[0]):
        raise Failure(f"--budgets {file}: the first line must name the columns id and budget; month may follow.")
    found: dict[str, dict[str, Decimal]] = defaultdict(dict)
    for number, row in enumerate(rows, 2):
        month = (row.get("month") or "").strip()
        found[fold(row["id"] or "")][month] = _amount(row["budget"] or "", f"--budgets {file}:{number}")
    return dict(found)


def _amount(text: str, place: str) -> Decimal:
    try:
        value = Decimal(text.strip())
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite() or value < 0:
        raise Failure(f"{place}: {shown(text)} is not an amount such as 250 or 99.50.")
    return value
