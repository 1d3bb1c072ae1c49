"""What must hold of a directory: every rule once, for files and for changes alike."""

from __future__ import annotations

import difflib
from itertools import pairwise
from operator import attrgetter
from typing import TYPE_CHECKING, Final, TypeAlias

from openai_metering.directory.periods import FOREVER, gap, spelt
from openai_metering.directory.schema import (
    CREDENTIAL,
    KINDS,
    ORGANIZATION,
    SEPARATOR,
    SUBSCRIBER,
    fold,
    parts,
    secret,
    shown,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from openai_metering.directory.schema import Column, Kind
    from openai_metering.directory.tables import Entry, Problem, Table

Tables: TypeAlias = "Mapping[str, Table]"

MAX_LENGTH: Final = 256
"""Characters of an id; a longer one would be cut by the library, and never match."""

_KEY_SHAPED: Final = "is shaped like a key, and no key may stand here. Revoke it if it is one; use an alias."
_SUGGESTED: Final = 20  # problems whose unknown name is compared with all known ones: that takes its time


def check(tables: Tables) -> list[Problem]:
    """Find everything that is wrong.

    Args:
        tables: the three tables, by kind.

    Returns:
        What is wrong, in the order of the files; empty when all is well.
    """
    problems: list[Problem] = []
    for table in tables.values():
        broken = list(_cells(table))
        problems += broken
        if broken:  # what may be a key is quoted by no further message
            continue
        problems += _once(table)
    if problems:
        return problems
    for table in tables.values():
        problems += _references(tables, table)
    problems += _fingerprints(tables[CREDENTIAL])
    problems += _cycles(tables[ORGANIZATION])
    return problems


def _cells(table: Table) -> Iterator[Problem]:
    columns = {column.name: column for column in table.kind.columns}
    key = table.kind.key
    for entry in table.entries():
        if not entry.id:
            yield table.problem(entry, key, "is missing; every row needs one.")
        for name, text in entry.values.items():
            if secret(table.kind, text):
                yield table.problem(entry, name, _KEY_SHAPED)
                break  # of this row nothing more is said: its id may be what is shaped like a key
            wrong = _cell(columns.get(name), text) or (_id(text) if name == key else None)
            if wrong is not None:
                yield table.problem(entry, name, wrong)


def wrong_id(kind: Kind, text: str) -> str | None:
    """Say why a text cannot be an id or an alias; nothing when it can."""
    if secret(kind, text):
        return _KEY_SHAPED
    return (_cell(None, text) or _id(text)) if text else "is missing; every row needs one."


def _id(text: str) -> str | None:
    if len(text) > MAX_LENGTH:
        return f"is longer than {MAX_LENGTH} characters."
    if SEPARATOR in text:
        return f"must not hold {SEPARATOR!r}, which stands between the subscribers who share a credential."
    return None


def _cell(column: Column | None, text: str) -> str | None:
    if not text.isprintable():
        return "holds a line break, a tab or another character that cannot be printed."
    if text != text.strip():
        return "has blanks at its beginning or end."
    if column is None:
        return None
    if column.allowed and text not in column.allowed:
        return f"{shown(text)} is not allowed: {' or '.join(column.allowed)}."
    if column.pattern is not None and not column.pattern.match(text):
        return f"must be {column.wanted}."
    return None


def _once(table: Table) -> Iterator[Problem]:
    """No id in two spellings, and no two rows of one id at the same time."""
    kind = table.kind
    for entries in table.rows.values():
        if len(entries) == 1:
            continue
        first = entries[0]
        variants = [entry for entry in entries if entry.id != first.id]
        for entry in variants:
            yield table.problem(
                entry,
                kind.key,
                f"{shown(entry.id)} differs from {shown(first.id)}{_line(first)} only in case or blanks. "
                "Write both in the same way.",
            )
        if variants:
            continue
        for earlier, later in pairwise(sorted(entries, key=attrgetter("start", "end"))):
            if later.start >= earlier.end:
                continue
            since = spelt(later.start)
            when = f"from {since} on" if since else "at the same time"
            others = [entry.get(ORGANIZATION) for entry in (earlier, later)]
            if kind.name == SUBSCRIBER and others[0] != others[1]:
                text = f"is in two organizations {when}: {shown(others[0])}{_line(earlier)} and {shown(others[1])}."
            else:
                text = f"{shown(later.id)} is there twice {when}{_line(earlier)}."
            yield table.problem(later, kind.key, f"{text} End one row with valid_to before the other begins.")


def _references(tables: Tables, table: Table) -> Iterator[Problem]:
    suggested = 0
    for column in table.kind.columns:
        if column.refers is None:
            continue
        others = tables[column.refers]
        for entry in table.entries():
            for name in parts(column, entry.get(column.name)):
                found = others.of(name)
                if not found:
                    suggested += 1
                    hint = _suggestion(name, others) if suggested <= _SUGGESTED else ""
                    yield table.problem(
                        entry, column.name, f"there is no {column.refers} {shown(name)} in {others.kind.file}.{hint}"
                    )
                elif found[0].id != name:
                    yield table.problem(entry, column.name, f"{shown(name)} is written {shown(found[0].id)} there.")
                else:
                    missing = gap(entry.start, entry.end, ((other.start, other.end) for other in found))
                    if missing is not None:
                        yield table.problem(
                            entry,
                            column.name,
                            f"{column.refers} {shown(name)} is not valid {_span(*missing)}, but this row is. "
                            "Change valid_from or valid_to of one of them.",
                        )


def _fingerprints(table: Table) -> Iterator[Problem]:
    """One key leads to one credential at a time."""
    by_fingerprint: dict[str, list[Entry]] = {}
    for entry in table.entries():
        if fingerprint := entry.get("fingerprint"):
            by_fingerprint.setdefault(fingerprint, []).append(entry)
    for entries in by_fingerprint.values():
        for earlier, later in pairwise(sorted(entries, key=attrgetter("start", "end"))):
            if later.start < earlier.end:
                text = f"is that of {shown(earlier.id)}{_line(earlier)}, too; a key leads to one credential at a time."
                yield table.problem(later, "fingerprint", text)


def _cycles(table: Table) -> Iterator[Problem]:
    """No organization is above itself, at any time."""
    # Rows without parent rows are taken away until none is left: what remains is in a cycle, below one, or in what would
    # be one if its rows held at the same time. Mostly nothing remains.
    remaining = {id(entry): entry for entry in table.entries() if entry.get("parent")}
    while True:
        names = {fold(entry.id) for entry in remaining.values()}
        kept = {key: entry for key, entry in remaining.items() if fold(entry.get("parent")) in names}
        if len(kept) == len(remaining):
            break
        remaining = kept
    told: set[str] = set()
    for time in sorted({entry.start for entry in remaining.values()}):
        above = {fold(entry.id): entry for entry in remaining.values() if entry.valid(time)}
        for name, entry in above.items():
            path = [name]
            while (step := above.get(path[-1])) is not None and fold(step.get("parent")) not in path:
                path.append(fold(step.get("parent")))
            closing = above.get(path[-1])
            if closing is not None and fold(closing.get("parent")) == name and not told & set(path):
                told.update(path)
                circle = " > ".join(above[one].id for one in (*path, name))
                yield table.problem(entry, "parent", f"goes round in a circle: {shown(circle)}.")


def closest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most like another one, if one is; in time that grows with their number."""
    near = difflib.get_close_matches(name, known, 1, 0.75)
    return near[0] if near else None


def _suggestion(name: str, table: Table) -> str:
    near = closest(fold(name), table.rows)
    return f" Did you mean {shown(table.rows[near][0].id)}?" if near else f" Add it first, in {table.kind.file}."


def _line(entry: Entry) -> str:
    return f" (line {entry.line})" if entry.line else ""


def _span(start: int, end: int) -> str:
    since, until = spelt(start), spelt(end)
    if since and end != FOREVER:
        return f"from {since} to {until}"
    return f"from {since} on" if since else f"before {until}" if until else "at any time"


assert set(KINDS) == {ORGANIZATION, SUBSCRIBER, CREDENTIAL}  # noqa: S101 - the rules above know these three
