"""Changes as functions: a table in, a table with the change out; what was stays as history."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from openai_metering.directory.periods import spelt
from openai_metering.directory.schema import SEPARATOR, VALID_FROM, VALID_TO, fold, parts, secret, shown
from openai_metering.directory.tables import DirectoryError, Entry, Table, entry_of, with_columns

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from openai_metering.directory.checks import Tables

_NEAR: Final = 0.75  # how alike an id is that may have been meant


@dataclass(frozen=True, slots=True)
class Change:
    """What an import does with one id."""

    id: str
    new: bool
    fields: tuple[tuple[str, str, str], ...]
    """Column, value before, value after."""


def add(tables: Tables, kind: str, values: Mapping[str, str]) -> Table:
    """Add an id that is not there, or is not in the period of the new row.

    Args:
        tables: the three tables, by kind.
        kind: which of them.
        values: cells by column; blanks around them do not count, and known ids are taken in any spelling.

    Returns:
        The table with the row.

    Raises:
        DirectoryError: when a cell cannot be read.
    """
    table = with_columns(tables[kind], values)
    entry = _entry(table, _clean(tables, table, values))
    return _with(table, {fold(entry.id): _ordered((*table.of(entry.id), entry))})


def change(
    tables: Tables, kind: str, name: str, values: Mapping[str, str], time: int, *, rewrite: bool = False
) -> Table:
    """Change cells of an id from a moment on; the row before ends there, and stays.

    Args:
        tables: the three tables, by kind.
        kind: which of them.
        name: the id, in any spelling.
        values: the new cells by column; a blank one clears it.
        time: from when on, in nanoseconds since 1970.
        rewrite: put right what was always wrong: the row that holds at that moment is changed as a whole.

    Returns:
        The changed table.

    Raises:
        DirectoryError: when there is no row that holds at that moment.
    """
    table = with_columns(tables[kind], values)
    entry = _held(table, name, time)
    return _with(table, {fold(name): _changed(table, entry, _clean(tables, table, values), time, rewrite=rewrite)})


def end(tables: Tables, kind: str, name: str, time: int) -> Table:
    """End an id at a moment: rows that begin later go, and the one that holds ends there.

    Raises:
        DirectoryError: when there is no row that holds at that moment.
    """
    table = tables[kind]
    entry = _held(table, name, time)
    if entry.start == time:
        raise DirectoryError(f"{kind} {shown(entry.id)} begins at that moment: give a later one, or --erase it.")
    kept = tuple(one for one in table.of(name) if one.start < entry.start)
    return _with(table, {fold(name): (*kept, _entry(table, {**entry.values, VALID_TO: spelt(time)}))})


def erase(tables: Tables, kind: str, name: str) -> Table:
    """Take an id out with its history, as if it had never been.

    Raises:
        DirectoryError: when it is not there.
    """
    table = tables[kind]
    if not table.of(name):
        raise _absent(table, name)
    return Table(table.kind, table.header, {key: rows for key, rows in table.rows.items() if key != fold(name)})


def merge(
    tables: Tables, kind: str, incoming: Iterable[Mapping[str, str]], time: int, *, rewrite: bool = False
) -> tuple[Table, list[Change]]:
    """Take rows of another system in: new ids are added as always valid, changed cells change from a moment on.

    Ids that are not among them, and columns that they do not have, stay as they are.

    Args:
        tables: the three tables, by kind.
        kind: which of them.
        incoming: cells by column, one mapping for each id.
        time: from when on changes hold, in nanoseconds since 1970.
        rewrite: changed cells were always wrong.

    Returns:
        The table, and what was done, in the order of the rows.

    Raises:
        DirectoryError: when a row is not understood, or an id is there twice.
    """
    rows = list(incoming)
    table = with_columns(tables[kind], (name for row in rows for name in row))
    changes: list[Change] = []
    replaced: dict[str, tuple[Entry, ...]] = {}
    for row in rows:
        values = _clean(tables, table, row)
        name = values.get(table.kind.key, "")
        key = fold(name)
        if not key:
            raise DirectoryError(f"a row has no {table.kind.key}: check --map.")
        if key in replaced:
            raise DirectoryError(f"{kind} {shown(name)} is there twice, perhaps in another case. Take one of them out.")
        held = table.at(name, time)
        if held is None:
            begin = {VALID_FROM: spelt(time)} if table.of(name) else {}
            entry = _entry(table, {**begin, **values})
            replaced[key] = _ordered((*table.of(name), entry))
            changes.append(Change(entry.id, True, tuple((column, "", text) for column, text in entry.values.items())))
            continue
        periods = (VALID_FROM, VALID_TO, table.kind.key)
        fields = tuple(
            (column, held.get(column), text)
            for column, text in values.items()
            if column not in periods and text != held.get(column)
        )
        replaced[key] = (
            _changed(table, held, {column: text for column, _, text in fields}, time, rewrite=rewrite)
            if fields
            else table.of(name)
        )
        if fields:
            changes.append(Change(held.id, False, fields))
    return (_with(table, replaced) if changes else tables[kind]), changes


def _clean(tables: Tables, table: Table, values: Mapping[str, str]) -> dict[str, str]:
    """Take blanks off, and give ids that are known the spelling in which they are known."""
    cleaned = {name: text.strip() for name, text in values.items()}
    for column in table.kind.columns:
        text = cleaned.get(column.name, "")
        if column.refers is not None and text:
            others = tables[column.refers]
            cleaned[column.name] = SEPARATOR.join(
                found[0].id if (found := others.of(name)) else name for name in parts(column, text)
            )
    return cleaned


def _entry(table: Table, values: Mapping[str, str]) -> Entry:
    values = {name: text for name, text in values.items() if text}
    try:
        return entry_of(table.kind, values)
    except ValueError as error:
        text, column = error.args
        raise DirectoryError(f"{table.kind.name} {shown(values.get(table.kind.key, ''))}: {column}: {text}") from error


def _changed(table: Table, entry: Entry, values: Mapping[str, str], time: int, *, rewrite: bool) -> tuple[Entry, ...]:
    rows = [one for one in table.of(entry.id) if one is not entry]
    whole = rewrite or entry.start == time
    if not whole:
        rows.append(_entry(table, {**entry.values, VALID_TO: spelt(time)}))
        values = {VALID_FROM: spelt(time), **values}
    return _ordered((*rows, _entry(table, {**entry.values, **values})))


def _held(table: Table, name: str, time: int) -> Entry:
    entry = table.at(name, time)
    if entry is not None:
        return entry
    if not table.of(name):
        raise _absent(table, name)
    periods = "; ".join(f"{spelt(one.start) or 'ever'} to {spelt(one.end) or 'now on'}" for one in table.of(name))
    raise DirectoryError(f"{table.kind.name} {shown(name)} is not valid at {spelt(time)}, only from {periods}.")


def _absent(table: Table, name: str) -> DirectoryError:
    if secret(table.kind, name):
        return DirectoryError("what was given is shaped like a key, and no key is in the directory. Give the alias.")
    near = difflib.get_close_matches(fold(name), table.rows, 1, _NEAR)
    hint = f" Did you mean {shown(table.rows[near[0]][-1].id)}?" if near else ""
    return DirectoryError(
        f"there is no {table.kind.name} {shown(name)}.{hint} `openai-metering directory list {table.kind.name}` names them."
    )


def _ordered(entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
    return tuple(sorted(entries, key=attrgetter("start")))


def _with(table: Table, replaced: Mapping[str, tuple[Entry, ...]]) -> Table:
    return Table(table.kind, table.header, {**table.rows, **replaced})
