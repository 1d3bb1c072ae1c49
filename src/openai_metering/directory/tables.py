"""The files as values: text in, rows with their place out, and back."""

from __future__ import annotations

import csv
import difflib
import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from openai_metering.directory.periods import ALWAYS, FOREVER, moment
from openai_metering.directory.schema import FREE, KINDS, VALID_FROM, VALID_TO, fold, secret, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from openai_metering.directory.schema import Kind

_CONFLICT: Final = ("<<<<<<<", "=======", ">>>>>>>")


class DirectoryError(Exception):
    """The directory is not as it must be, or would not be; its text says where and what to do."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong, and where; line and column count from 1, and are 0 where it stands in no file yet."""

    file: str
    line: int
    column: int
    text: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return f"{place}: {self.text}"


@dataclass(frozen=True, slots=True)
class Entry:
    """One row: what holds of one id in one period."""

    id: str
    values: Mapping[str, str]
    """By column, without blank ones."""
    start: int = ALWAYS
    end: int = FOREVER
    """Nanoseconds since 1970; the end is not in the period."""
    line: int = 0
    raw: str | None = field(default=None, compare=False)
    """The line as it stands in the file."""

    def get(self, column: str) -> str:
        """Return a cell, blank where there is none."""
        return self.values.get(column, "")

    def valid(self, time: int | None) -> bool:
        """Say whether the row holds at a moment; at one that is not known only what always holds does."""
        if time is None:
            return self.start == ALWAYS and self.end == FOREVER
        return self.start <= time < self.end


@dataclass(frozen=True, slots=True)
class Table:
    """One file: its columns, and its rows by the folded id, those of one id together."""

    kind: Kind
    header: tuple[str, ...]
    rows: Mapping[str, tuple[Entry, ...]]

    def entries(self) -> Iterator[Entry]:
        """Return all rows, in the order of the file but for those of one id, which stand together."""
        for entries in self.rows.values():
            yield from entries

    def of(self, name: str) -> tuple[Entry, ...]:
        """Return the rows of an id, in whatever spelling."""
        return self.rows.get(fold(name), ())

    def at(self, name: str, time: int | None) -> Entry | None:
        """Return the row of an id that holds at a moment."""
        return next((entry for entry in self.of(name) if entry.valid(time)), None)

    def problem(self, entry: Entry, column: str, text: str) -> Problem:
        """Say that a cell of a row is wrong."""
        if not entry.line:
            return Problem(f"{self.kind.name} {shown(entry.id)}", 0, 0, f"{column}: {text}")
        index = self.header.index(column) if column in self.header else 0
        return Problem(self.kind.file, entry.line, _offset(entry.raw or "", index), f"{column}: {text}")


def entry_of(kind: Kind, values: Mapping[str, str], *, line: int = 0, raw: str | None = None) -> Entry:
    """Make a row of its cells.

    Raises:
        ValueError: when a period is none; the second argument is the column.
    """
    bounds = []
    for column, unbounded in ((VALID_FROM, ALWAYS), (VALID_TO, FOREVER)):
        text = values.get(column, "")
        try:
            bounds.append(moment(text) if text else unbounded)
        except (ValueError, OverflowError):
            wanted = "a date such as 2026-07-31, or a time such as 2026-07-31T14:00:00Z"
            raise ValueError(f"{shown(text)} is not {wanted}.", column) from None
    start, end = bounds
    if start >= end:
        raise ValueError(f"the row ends before it begins: {VALID_TO} must be later than {VALID_FROM}.", VALID_TO)
    return Entry(values.get(kind.key, ""), values, start, end, line, raw)


def parse(kind: Kind, text: str) -> tuple[Table, list[Problem]]:
    """Read the text of a file.

    Args:
        kind: which of the three.
        text: comma-separated, a header first, one line for each row.

    Returns:
        What could be read, and what could not be.
    """
    problems: list[Problem] = []
    lines = text.removeprefix("\ufeff").split("\n")
    header = _cells(lines[0].rstrip("\r")) or ()
    problems += _header_problems(kind, header)
    rows: dict[str, list[Entry]] = {}
    if problems:
        return Table(kind, header, {}), problems
    for number, line in enumerate(lines[1:], 2):
        raw = line.rstrip("\r")
        if not raw.strip():
            continue
        wrong = None
        cells = _cells(raw)
        if raw.startswith(_CONFLICT):
            wrong = "a merge conflict is not resolved."
        elif cells is None:
            wrong = "a quoted cell is not closed, or goes on behind its quote; a row is one line."
        elif len(cells) != len(header):
            wrong = f"{len(cells)} cells, but the header has {len(header)}; a cell with a comma needs quotes."
        if wrong is not None or cells is None:
            problems.append(Problem(kind.file, number, 1, wrong or ""))
            continue
        values = {name: cell for name, cell in zip(header, cells, strict=True) if cell}
        try:
            entry = entry_of(kind, values, line=number, raw=raw)
        except ValueError as error:
            column = error.args[1]
            problems.append(
                Problem(kind.file, number, _offset(raw, header.index(column)), f"{column}: {error.args[0]}")
            )
            continue
        rows.setdefault(fold(entry.id), []).append(entry)
    return Table(kind, header, {name: tuple(entries) for name, entries in rows.items()}), problems


def text_of(table: Table) -> str:
    """Write a table; rows that were read and not changed keep their very text."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(table.header)
    for entry in table.entries():
        if entry.raw is not None:
            stream.write(f"{entry.raw}\n")
        else:
            writer.writerow([entry.get(name) for name in table.header])
    return stream.getvalue()


def with_columns(table: Table, names: Iterable[str]) -> Table:
    """Return the table with further columns, as far as it lacks them; every row is then written anew."""
    lacking = [name for name in dict.fromkeys(names) if name not in table.header]
    problems = list(_header_problems(table.kind, (*table.header, *lacking)))
    if problems:
        raise DirectoryError(problems[0].text)
    if not lacking:
        return table
    rows = {
        name: tuple(Entry(entry.id, entry.values, entry.start, entry.end, entry.line) for entry in entries)
        for name, entries in table.rows.items()
    }
    return Table(table.kind, (*table.header, *lacking), rows)


def empty(kind: Kind) -> Table:
    """Return a file without rows."""
    return Table(kind, kind.header, {})


def kind_of(word: str) -> Kind:
    """Return the kind that a word names, in the singular or the plural.

    Raises:
        DirectoryError: when there is no such kind.
    """
    kind = KINDS.get(word.lower().removesuffix("s"))
    if kind is None:
        raise DirectoryError(f"{shown(word)} is not a kind: there are {', '.join(KINDS)}.")
    return kind


def _header_problems(kind: Kind, header: tuple[str, ...]) -> Iterator[Problem]:
    known = kind.header
    if kind.key not in header:
        yield Problem(kind.file, 1, 1, f"the first line names the columns, and {kind.key!r} must be one of them.")
        return
    for index, name in enumerate(header):
        if secret(kind, name):
            yield Problem(kind.file, 1, 1, "a column's name is shaped like a key. Take it out; revoke it if it is one.")
        elif name in header[:index]:
            yield Problem(kind.file, 1, 1, f"the column {shown(name)} is there twice.")
        elif name not in known and not (name.startswith(FREE) and name.partition(".")[2].strip()):
            near = difflib.get_close_matches(name, known, 1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            yield Problem(
                kind.file,
                1,
                1,
                f"there is no column {shown(name)}.{hint} Columns: {', '.join(known)}; further ones begin with "
                f"{' or '.join(FREE)}.",
            )


def _cells(line: str) -> tuple[str, ...] | None:
    if '"' not in line:
        return tuple(line.split(","))
    try:
        (cells,) = csv.reader([line], strict=True)
    except (csv.Error, ValueError):
        return None
    return tuple(cells)


def _offset(line: str, index: int) -> int:
    """Return the column, from 1, at which a cell begins."""
    quoted = False
    for position, character in enumerate(line):
        if not index:
            return position + 1
        if character == '"':
            quoted = not quoted
        elif character == "," and not quoted:
            index -= 1
    return len(line) + 1
