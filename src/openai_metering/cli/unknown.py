"""``directory unknown``: who is in usage records and not in the directory, how much they used, and who they may be."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from openai_metering.cli.failure import Failure
from openai_metering.cli.files import files_of
from openai_metering.cli.joining import Calls
from openai_metering.cli.records import read
from openai_metering.directory import edits, store
from openai_metering.directory.checks import wrong_id
from openai_metering.directory.periods import ALWAYS, FOREVER, gap
from openai_metering.directory.schema import CREDENTIAL, KINDS, ORGANIZATION, SEPARATOR, SUBSCRIBER, fold, shown
from openai_metering.masking import MASK

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Mapping

    from openai_metering.cli.records import UsageRow
    from openai_metering.directory.tables import Table

_LIKENESS: Final = 80  # of 100; below it a name is another one


@dataclass(slots=True)
class Unknown:
    """One that is not in the directory, or was not valid when it was used."""

    id: str
    known: bool
    """It is there, but not at the time of the calls."""
    calls: int = 0
    tokens: int = 0
    organizations: Counter[str] = field(default_factory=Counter)
    subscribers: Counter[str] = field(default_factory=Counter)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``unknown``."""
    parser.add_argument("paths", nargs="+", metavar="PATH", help="usage records: files and folders, as for report")
    parser.add_argument(
        "--add", action="store_true", help="add them, with the organization and subscriber that their records name"
    )


def run(args: argparse.Namespace) -> int:
    """List those who are unknown, and add them when asked to."""
    calls = Calls()
    for line in read(files_of(args.paths)):
        for row in line.rows:
            calls.add(row)
    if not calls:
        raise Failure("no usage records there. Give the folder that OPENAI_METERING_LEDGER_DIR names.")
    tables = store.load(args.directory)
    found = find(tables, calls.rows())
    _print(tables, found)
    if args.add:
        total = sum(not one.known for own in found.values() for one in own.values())
        with store.editing(args.directory) as tables:
            # Those who came in meanwhile are no longer unknown.
            added = add(tables, find(tables, calls.rows()))
        print(f"Added: {', '.join(f'{count:,} {kind}s' for kind, count in added.items() if count) or 'nothing'}.")
        if sum(added.values()) < total:
            print(f"Left out: {total - sum(added.values()):,}, already added or no possible id.")
    return 0


def find(tables: Mapping[str, Table], rows: Iterable[UsageRow]) -> dict[str, dict[str, Unknown]]:
    """Find who is in records and not in the directory.

    Args:
        tables: the three tables, by kind.
        rows: one for each call.

    Returns:
        By kind and folded id, those with most tokens first.
    """
    found: dict[str, dict[str, Unknown]] = {kind: {} for kind in KINDS}
    for row in rows:
        for kind, name in (
            (ORGANIZATION, row.organization),
            (SUBSCRIBER, row.subscriber),
            (CREDENTIAL, row.credential),
        ):
            if name is None:
                continue
            entries = tables[kind].of(name)
            if any(entry.valid(row.time_unix_nano) for entry in entries) or (entries and row.time_unix_nano is None):
                continue
            own = found[kind].setdefault(fold(name), Unknown(name, bool(entries)))
            own.calls += 1
            own.tokens += (row.input_tokens or 0) + (row.output_tokens or 0)
            if row.organization is not None:
                own.organizations[row.organization] += 1
            if row.subscriber is not None:
                own.subscribers[row.subscriber] += 1
    return {
        kind: dict(sorted(own.items(), key=lambda item: (-item[1].tokens, -item[1].calls, item[0])))
        for kind, own in found.items()
    }


def add(tables: dict[str, Table], found: Mapping[str, Mapping[str, Unknown]]) -> dict[str, int]:
    """Add those who are unknown, as far as their records say one thing; what differs is left blank.

    Args:
        tables: the three tables, by kind; replaced by those with the new rows.
        found: what ``find`` found. Left alone is who is there but was not valid then, and what cannot be an id.

    Returns:
        How many were added, by kind.
    """
    added = {}
    for kind, unknown in found.items():
        rows = []
        for one in unknown.values():
            if one.known or one.id == MASK or wrong_id(KINDS[kind], one.id) is not None:
                continue
            organizations = _always(tables[ORGANIZATION], one.organizations)
            subscribers = _always(tables[SUBSCRIBER], one.subscribers)
            values = {KINDS[kind].key: one.id}
            if kind == CREDENTIAL and subscribers:
                values[SUBSCRIBER] = SEPARATOR.join(sorted(subscribers))
            elif kind != ORGANIZATION and len(organizations) == 1:
                (values[ORGANIZATION],) = organizations
            rows.append(values)
        tables[kind], changes = edits.merge(tables, kind, rows, 0)
        added[kind] = len(changes)
    return added


def _always(table: Table, names: Iterable[str]) -> set[str]:
    """The ids among some that are valid at all times, so that a row that always holds may name them."""
    found = (table.of(name) for name in names)
    return {
        entries[0].id
        for entries in found
        if entries and gap(ALWAYS, FOREVER, ((entry.start, entry.end) for entry in entries)) is None
    }


def _print(tables: Mapping[str, Table], found: Mapping[str, Mapping[str, Unknown]]) -> None:
    nothing = True
    for kind, unknown in found.items():
        if not unknown:
            continue
        nothing = False
        nearest = _nearest(tables[kind])
        print(f"{kind}s: {len(unknown):,} unknown")
        for key, one in unknown.items():
            hint = "not valid at the time of these calls" if one.known else nearest(key)
            count = f"{one.calls:,} {'call' if one.calls == 1 else 'calls'}, {one.tokens:,} tokens"
            print(f"  {shown(one.id)}  {count}{f'  {hint}' if hint else ''}")
    if nothing:
        print("Everybody in these records is in the directory.")


def _nearest(table: Table) -> Callable[[str], str]:
    """Return a function that says which known id, or the id of which known name, is most like another one."""
    choices = {key: entries[0].id for key, entries in table.rows.items()}
    for entry in table.entries():
        if entry.get("name"):
            choices.setdefault(fold(entry.get("name")), entry.id)
    try:
        from rapidfuzz import fuzz, process  # noqa: PLC0415 - an extra; difflib does it in more time

        extract: Any = process.extractOne

        def near(key: str) -> str | None:
            best = extract(key, choices.keys(), scorer=fuzz.ratio, score_cutoff=_LIKENESS)
            return best[0] if best else None
    except ModuleNotFoundError:
        from openai_metering.directory.checks import closest  # noqa: PLC0415 - in place of the extra

        def near(key: str) -> str | None:
            return closest(key, choices)

    def said(key: str) -> str:
        best = near(key)
        return f"closest: {choices[best]}" if best is not None else ""

    return said
