"""What calls can be grouped by: one row of a table for each column."""

from __future__ import annotations

import datetime as dt
import difflib
from dataclasses import dataclass
from functools import lru_cache
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from openai_metering.cli.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from openai_metering.cli.records import UsageRow

ORGANIZATION: Final = "organization"
ACCOUNT: Final = "account"
TAG_PREFIX: Final = "tag:"
DEFAULT: Final = (ORGANIZATION, "subscriber", "credential", "model")

_NANOSECONDS_PER_DAY: Final = 86_400 * 10**9
_EPOCH: Final = dt.date(1970, 1, 1).toordinal()


@dataclass(frozen=True, slots=True)
class Column:
    """One thing to group by, and where a row has it."""

    name: str
    read: Callable[[UsageRow], str | None]


@lru_cache(maxsize=4096)
def _date(days: int) -> str:
    return dt.date.fromordinal(_EPOCH + days).isoformat()


def day(row: UsageRow) -> str | None:
    """Return the day on which the call ended, in UTC: ``2026-07-31``."""
    return None if row.time_unix_nano is None else _date(row.time_unix_nano // _NANOSECONDS_PER_DAY)


def month(row: UsageRow) -> str | None:
    """Return the month in which the call ended, in UTC: ``2026-07``."""
    date = day(row)
    return None if date is None else date.rpartition("-")[0]


COLUMNS: Final = {
    column.name: column
    for column in (
        *(Column(name, attrgetter(name)) for name in (*DEFAULT, "operation", "provider")),
        Column(ACCOUNT, attrgetter(ACCOUNT)),
        Column("day", day),
        Column("month", month),
    )
}


def columns_of(by: str) -> tuple[Column, ...]:
    """Read what ``--by`` says.

    Args:
        by: names of columns with commas between them; ``tag:<key>`` is the column of one tag.

    Returns:
        The columns in that order, each once.

    Raises:
        Failure: when a name is no column.
    """
    names = dict.fromkeys(name for part in by.split(",") if (name := part.strip()))
    if not names:
        raise Failure(f"--by names no column. Columns: {_known()}.")
    return tuple(_column(name) for name in names)


def _column(name: str) -> Column:
    key = name.removeprefix(TAG_PREFIX).strip()
    if name.startswith(TAG_PREFIX) and key:
        return Column(name, lambda row: next((value for tag, value in row.tags if tag == key), None))
    column = COLUMNS.get(name.lower())
    if column is None:
        raise Failure(f"--by does not know the column {name!r}.{_suggestion(name)} Columns: {_known()}.")
    return column


def _suggestion(name: str) -> str:
    choices = (*COLUMNS, f"{TAG_PREFIX}<key>")
    name = name.lower()
    near = [choice for choice in choices if choice.startswith(name)] or difflib.get_close_matches(name, choices, 1)
    return f" Did you mean {near[0]!r}?" if near else ""


def _known() -> str:
    return ", ".join((*COLUMNS, f"{TAG_PREFIX}<key>"))


def sort_key(cells: Iterable[str | None]) -> tuple[tuple[bool, str, str], ...]:
    """Order cells without regard to case, with what is missing last."""
    return tuple((cell is None, (cell or "").casefold(), cell or "") for cell in cells)
