"""Which calls a report is about: ``--where column=value``."""

from __future__ import annotations

import difflib
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

from openai_metering.cli.columns import column_of
from openai_metering.cli.failure import Failure
from openai_metering.directory.schema import shown

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable, Iterator

    from openai_metering.cli.columns import Column
    from openai_metering.cli.records import UsageRow

_SEEN: Final = 10_000  # values that are remembered for the message


class Filters:
    """Conditions on columns, of which all must hold.

    Those of one column with ``=`` are alternatives. ``*`` and ``?`` stand for any characters, a blank value for none.

    Args:
        conditions: each ``column=value`` or ``column!=value``.
        zone: whose days, weeks and months are meant.

    Raises:
        Failure: when one is no condition, or names no column.
    """

    def __init__(self, conditions: Iterable[str], zone: dt.tzinfo) -> None:
        self._wanted: dict[str, tuple[Column, list[str]]] = {}
        self._unwanted: list[tuple[Column, str]] = []
        self._seen: dict[str, set[str]] = {}
        for condition in conditions:
            left, equals, value = condition.partition("=")
            name = left.removesuffix("!").strip()
            if not equals or not name:
                raise Failure(f"--where {shown(condition)} is not column=value, such as organization=AcmeSoft.")
            column = column_of(name, zone, "--where")
            if left.endswith("!"):
                self._unwanted.append((column, value.strip()))
            else:
                self._wanted.setdefault(column.name, (column, []))[1].append(value.strip())

    def __bool__(self) -> bool:
        return bool(self._wanted or self._unwanted)

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns that there are conditions on."""
        return (*self._wanted, *(column.name for column, _ in self._unwanted))

    def of(self, rows: Iterable[UsageRow]) -> Iterator[UsageRow]:
        """Return the calls for which all conditions hold."""
        for row in rows:
            if self._holds(row):
                yield row

    def _holds(self, row: UsageRow) -> bool:
        for name, (column, values) in self._wanted.items():
            cell = column.read(row)
            if not any(_matches(cell, value) for value in values):
                seen = self._seen.setdefault(name, set())
                if cell is not None and len(seen) < _SEEN:
                    seen.add(cell)
                return False
        return not any(_matches(column.read(row), value) for column, value in self._unwanted)

    def hint(self) -> str:
        """Say, when nothing was found, what is there and is written almost like it."""
        for name, (_, values) in self._wanted.items():
            folded = {cell.casefold(): cell for cell in sorted(self._seen.get(name, ()))}
            for value in values:
                near = difflib.get_close_matches(value.casefold(), folded, 1)
                if near:
                    return f" Did you mean {name}={folded[near[0]]}?"
        return ""


def _matches(cell: str | None, value: str) -> bool:
    if cell is None or not value:
        return (cell or "") == value
    return cell == value or fnmatchcase(cell, value)
