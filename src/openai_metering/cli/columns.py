"""What calls can be grouped by: one row of a table for each column."""

from __future__ import annotations

import datetime as dt
import difflib
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from openai_metering.cli.failure import Failure
from openai_metering.cli.period import UTC, dates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from openai_metering.cli.records import UsageRow

ORGANIZATION: Final = "organization"
SUBSCRIBER: Final = "subscriber"
CREDENTIAL: Final = "credential"
ACCOUNT: Final = "account"
TAG_PREFIX: Final = "tag:"
DEFAULT: Final = (ORGANIZATION, SUBSCRIBER, CREDENTIAL, "model")
WHO: Final = (ACCOUNT, ORGANIZATION, SUBSCRIBER, CREDENTIAL)


@dataclass(frozen=True, slots=True)
class Column:
    """One thing to group by, and where a row has it."""

    name: str
    read: Callable[[UsageRow], str | None]


def _week(date: dt.date) -> str:
    year, week, _ = date.isocalendar()
    return f"{year:04d}-W{week:02d}"


TIMES: Final[dict[str, Callable[[dt.date], str]]] = {
    "day": dt.date.isoformat,
    "week": _week,
    "month": lambda date: date.isoformat()[:7],
}
"""How a date is written in each column of time: ``2026-07-31``, ``2026-W31`` (of ISO 8601), ``2026-07``."""


def _time(name: str, zone: dt.tzinfo) -> Column:
    date_of = dates(zone)
    written = TIMES[name]

    def read(row: UsageRow) -> str | None:
        return None if row.time_unix_nano is None else written(date_of(row.time_unix_nano))

    return Column(name, read)


COLUMNS: Final = {
    column.name: column
    for column in (
        *(Column(name, attrgetter(name)) for name in (*DEFAULT, "operation", "provider")),
        Column(ACCOUNT, attrgetter(ACCOUNT)),
        *(_time(name, UTC) for name in TIMES),
    )
}


def columns_of(by: str, zone: dt.tzinfo = UTC) -> tuple[Column, ...]:
    """Read what ``--by`` says.

    Args:
        by: names of columns with commas between them; ``tag:<key>`` is the column of one tag.
        zone: whose days, weeks and months are meant.

    Returns:
        The columns in that order, each once.

    Raises:
        Failure: when a name is no column.
    """
    names = dict.fromkeys(name for part in by.split(",") if (name := part.strip()))
    if not names:
        raise Failure(f"--by names no column. Columns: {_known()}.")
    return tuple(column_of(name, zone) for name in names)


def column_of(name: str, zone: dt.tzinfo = UTC, option: str = "--by") -> Column:
    """Return the column of a name.

    Args:
        name: one of ``COLUMNS``, or ``tag:<key>``.
        zone: whose days, weeks and months are meant.
        option: who asks, for the message.

    Raises:
        Failure: when there is none of that name.
    """
    key = name.removeprefix(TAG_PREFIX).strip()
    if name.startswith(TAG_PREFIX) and key:
        return Column(name, lambda row: next((value for tag, value in row.tags if tag == key), None))
    column = COLUMNS.get(name.lower())
    if column is None:
        raise Failure(f"{option} does not know the column {name!r}.{_suggestion(name)} Columns: {_known()}.")
    return _time(column.name, zone) if column.name in TIMES and zone is not UTC else column


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
