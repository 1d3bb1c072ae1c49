"""Who was who at a moment: the levels that a record lacks, and what stands above an organization."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from openai_metering.directory.schema import CREDENTIAL, ORGANIZATION, SEPARATOR, SUBSCRIBER, fold

if TYPE_CHECKING:
    from openai_metering.directory.checks import Tables
    from openai_metering.directory.tables import Entry, Table


@dataclass(frozen=True, slots=True)
class Who:
    """The three levels, each in the directory's spelling where it is known there; ``None`` where nobody knows."""

    organization: str | None
    subscriber: str | None
    credential: str | None
    conflict: bool = False
    """What was given says otherwise than the directory."""


def resolve(
    tables: Tables,
    *,
    credential: str | None = None,
    subscriber: str | None = None,
    organization: str | None = None,
    time: int | None,
) -> Who:
    """Fill the levels that are not given by the hierarchy that was valid at a moment.

    What is given stays, also where the directory says otherwise. A subscriber is that of the credential, where it is of
    one alone. An organization is the one stated for the credential, else that of the subscriber, else the one that all
    who share the credential have in common.

    Args:
        tables: the three tables, by kind.
        credential: alias, in any spelling.
        subscriber: id, in any spelling.
        organization: id, in any spelling.
        time: nanoseconds since 1970; ``None``: not known, and only what always holds is used.

    Returns:
        The three levels.
    """
    alias, key = _known(tables[CREDENTIAL], credential, time)
    shared = tuple(key.get(SUBSCRIBER).split(SEPARATOR)) if key is not None and key.get(SUBSCRIBER) else ()
    person, own = _known(tables[SUBSCRIBER], subscriber, time)
    conflict = person is not None and bool(shared) and person not in shared
    if person is None and len(shared) == 1:
        person, own = _known(tables[SUBSCRIBER], shared[0], time)
    expected = key.get(ORGANIZATION) if key is not None else ""
    if not expected and person is not None:
        expected = own.get(ORGANIZATION) if own is not None else ""
    elif not expected:
        expected = _common(tables, shared, time)
    payer, _ = _known(tables[ORGANIZATION], organization, time)
    if payer is None:
        payer = expected or None
    elif expected and payer != expected:
        conflict = True
    return Who(payer, person, alias, conflict)


def top(tables: Tables, organization: str, time: int | None) -> str:
    """Return the organization at the top of the hierarchy above one, at a moment; itself where nothing is above it."""
    table = tables[ORGANIZATION]
    name, entry = _known(table, organization, time)
    while entry is not None and entry.get("parent"):
        name, entry = _known(table, entry.get("parent"), time)
    return name or organization


def name_of(table: Table, name: str, time: int | None) -> str | None:
    """Return what people read for an id: its name at a moment, else the latest one, else nothing."""
    entry = table.at(name, time) or next(reversed(table.of(name)), None)
    return (entry.get("name") or None) if entry is not None else None


def _known(table: Table, name: str | None, time: int | None) -> tuple[str | None, Entry | None]:
    """Return an id in the directory's spelling, and its row at that moment."""
    if name is None:
        return None, None
    rows = table.rows.get(name) or table.rows.get(fold(name))
    if not rows:
        return name, None
    return rows[0].id, next((entry for entry in rows if entry.valid(time)), None)


def _common(tables: Tables, subscribers: tuple[str, ...], time: int | None) -> str:
    found = {own.get(ORGANIZATION) if own else "" for own in (tables[SUBSCRIBER].at(one, time) for one in subscribers)}
    return found.pop() if len(found) == 1 else ""
