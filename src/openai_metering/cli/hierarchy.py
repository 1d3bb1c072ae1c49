"""A directory laid over calls and reports: levels that records lack, what stands above an organization, and names."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from openai_metering.cli.failure import Failure
from openai_metering.cli.records import attribution_status
from openai_metering.directory import store
from openai_metering.directory.periods import ALWAYS
from openai_metering.directory.resolve import name_of, resolve, top
from openai_metering.directory.schema import ORGANIZATION, SUBSCRIBER
from openai_metering.directory.tables import DirectoryError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from openai_metering.cli.grouping import Report, Row
    from openai_metering.cli.records import UsageRow
    from openai_metering.directory.checks import Tables
    from openai_metering.directory.resolve import Who

# The columns whose ids have names, and of which kind they are; a credential's alias is its name.
_NAMED: Final = {"account": ORGANIZATION, ORGANIZATION: ORGANIZATION, SUBSCRIBER: SUBSCRIBER}

_REMEMBERED: Final = 65_536  # answers; a bill asks the same ones again and again


class Hierarchy:
    """Who was who when each call was made.

    Args:
        tables: the three tables of a directory, by kind.
    """

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        entries = (entry for table in tables.values() for entry in table.entries())
        self._bounds = sorted({bound for entry in entries for bound in (entry.start, entry.end)})
        self._who = lru_cache(maxsize=_REMEMBERED)(self._resolve)
        self._seen: dict[tuple[str, str], int] = {}
        self.conflicts = 0
        """Calls whose record names another organization or subscriber than the directory; the record counts."""

    @property
    def bounds(self) -> tuple[int, ...]:
        """The moments, in nanoseconds since 1970, between which nothing in the directory changes."""
        return tuple(self._bounds)

    @property
    def tables(self) -> Tables:
        """The three tables, by kind."""
        return self._tables

    @classmethod
    def read(cls, folder: str) -> Hierarchy:
        """Read the directory in a folder.

        Raises:
            Failure: when there is none, or it is not in order.
        """
        try:
            return cls(store.load(Path(folder)))
        except DirectoryError as error:
            raise Failure(str(error)) from error

    def fill(self, rows: Iterable[UsageRow]) -> Iterator[UsageRow]:
        """Give each call the levels that its record lacks, by the hierarchy that was valid at its time."""
        for row in rows:
            time = row.time_unix_nano
            who, account = self._who(row.credential, row.subscriber, row.organization, self._since(time))
            self.conflicts += row.weight * who.conflict
            for kind, name in ((ORGANIZATION, account), (ORGANIZATION, who.organization), (SUBSCRIBER, who.subscriber)):
                if name is not None and (time or 0) >= self._seen.get((kind, name), 0):
                    self._seen[kind, name] = time or 0
            yield replace(
                row,
                attribution=attribution_status(who.organization, who.subscriber, who.credential),
                organization=who.organization,
                subscriber=who.subscriber,
                credential=who.credential,
                account=account,
            )

    def _since(self, time: int | None) -> int | None:
        """Return the last moment, up to this one, at which anything in the directory changed: since then all is the same."""
        if time is None:
            return None
        place = bisect_right(self._bounds, time)
        return self._bounds[place - 1] if place else ALWAYS - 1

    def _resolve(
        self, credential: str | None, subscriber: str | None, organization: str | None, time: int | None
    ) -> tuple[Who, str | None]:
        who = resolve(self._tables, credential=credential, subscriber=subscriber, organization=organization, time=time)
        return who, None if who.organization is None else top(self._tables, who.organization, time)

    def named(self, report: Report, *, columns: bool) -> Report:
        """Put names into a report: those that were valid at the last call of each.

        Args:
            report: made of filled calls.
            columns: as columns of their own behind the ids, for programs; else together with the ids, for people.

        Returns:
            The report with names.
        """
        named = [name in _NAMED for name in report.columns]
        if columns:
            titles = [
                title
                for name, here in zip(report.columns, named, strict=True)
                for title in ((name, f"{name}_name") if here else (name,))
            ]
            return replace(report, columns=tuple(titles), rows=tuple(self._beside(report, row) for row in report.rows))
        rows = tuple(
            replace(
                row,
                cells=tuple(self.label(column, cell) for column, cell in zip(report.columns, row.cells, strict=True)),
            )
            for row in report.rows
        )
        return replace(report, rows=rows)

    def _beside(self, report: Report, row: Row) -> Row:
        cells: list[str | None] = []
        for column, cell in zip(report.columns, row.cells, strict=True):
            cells.append(cell)
            if column in _NAMED:
                cells.append(self._name(column, cell))
        return replace(row, cells=tuple(cells))

    def label(self, column: str, cell: str | None) -> str | None:
        """Return what people read for a cell of a column: its name together with the id, where there is one."""
        name = self._name(column, cell)
        return cell if name is None or name == cell else f"{name} ({cell})"

    def _name(self, column: str, cell: str | None) -> str | None:
        if cell is None or column not in _NAMED:
            return None
        kind = _NAMED[column]
        return name_of(self._tables[kind], cell, self._seen.get((kind, cell)))
