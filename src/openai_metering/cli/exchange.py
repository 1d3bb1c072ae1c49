"""``directory import`` and ``directory export``: CSV of other systems, under the names that they use."""

from __future__ import annotations

import csv
import difflib
import io
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from openai_metering.cli.failure import Failure
from openai_metering.cli.moments import time_of
from openai_metering.directory import edits, store
from openai_metering.directory.schema import KINDS, secret, shown
from openai_metering.directory.tables import kind_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

    from openai_metering.directory.edits import Change
    from openai_metering.directory.schema import Kind

STANDARD_STREAM: Final = "-"
_DELIMITERS: Final = (";", "\t", "|")


def import_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``import``."""
    _common(parser, "CSV with a header, of the CRM or whatever system it is; - is standard input")
    parser.add_argument("--dry-run", action="store_true", help="say what would change, and change nothing")
    parser.add_argument("--from", dest="since", metavar="TIME", help="changes hold from then on (default: now)")
    parser.add_argument("--rewrite", action="store_true", help="what differs was always wrong: leave no history")
    parser.add_argument("--delimiter", default=",", help="between the cells of the file (default: %(default)s)")


def export_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``export``."""
    _common(parser, "where to; - is standard output (default)", nargs="?", default=STANDARD_STREAM)
    parser.add_argument("--at", metavar="TIME", help="as it was at that moment (default: now)")
    parser.add_argument("--history", action="store_true", help="all rows, not only those of one moment")


def _common(parser: argparse.ArgumentParser, text: str, nargs: str | None = None, default: str | None = None) -> None:
    parser.add_argument("kind", metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("file", metavar="FILE", nargs=nargs, default=default, help=text)
    parser.add_argument(
        "--map",
        action="append",
        default=[],
        metavar="COLUMN=HEADING",
        help="a column here, and its heading there; without any, equal names are taken",
    )


def take(args: argparse.Namespace) -> int:
    """Import: say what changes, and change it unless it is a dry run."""
    kind = kind_of(args.kind)
    incoming = _read(args.file, kind, _map(args.map), args.delimiter)
    time = time_of(args.since)
    with store.editing(args.directory, dry_run=args.dry_run) as tables:
        tables[kind.name], changes = edits.merge(tables, kind.name, incoming, time, rewrite=args.rewrite)
    for change in changes:
        print(_told(kind, change))
    new = sum(change.new for change in changes)
    verb = "would be " if args.dry_run else ""
    print(
        f"{new:,} {verb}added, {len(changes) - new:,} {verb}changed, {len(incoming) - len(changes):,} as they are."
        + (" Nothing was written." if args.dry_run else "")
    )
    return 0


def give(args: argparse.Namespace) -> int:
    """Export what is valid at a moment, or everything with its history."""
    kind = kind_of(args.kind)
    table = store.load(args.directory)[kind.name]
    columns = _map(args.map) or {name: name for name in table.header}
    unknown = next((name for name in columns if name not in table.header), None)
    if unknown is not None:
        raise Failure(f"there is no column {shown(unknown)} in {kind.file}. Columns: {', '.join(table.header)}.")
    time = time_of(args.at)
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns.values())
    for entry in table.entries():
        if args.history or entry.valid(time):
            writer.writerow([entry.get(name) for name in columns])
    if args.file == STANDARD_STREAM:
        sys.stdout.write(stream.getvalue())
        return 0
    try:
        store.write(Path(args.file), stream.getvalue())
    except OSError as error:
        raise Failure(f"{args.file} cannot be written: {error.strerror or type(error).__name__}.") from error
    return 0


def _told(kind: Kind, change: Change) -> str:
    fields = (
        f"{column}={after}" if change.new else f"{column}: {before or '(blank)'} -> {after or '(blank)'}"
        for column, before, after in change.fields
        if column != kind.key
    )
    return f"{'+' if change.new else '~'} {kind.name} {change.id}  {', '.join(fields)}".rstrip()


def _map(pairs: Sequence[str]) -> dict[str, str]:
    columns = {}
    for pair in pairs:
        column, equals, heading = pair.partition("=")
        if not equals or not column.strip() or not heading.strip():
            raise Failure(f"--map {shown(pair)} is not COLUMN=HEADING, such as --map name='Account Name'.")
        columns[column.strip()] = heading.strip()
    return columns


def _read(name: str, kind: Kind, columns: Mapping[str, str], delimiter: str) -> list[dict[str, str]]:
    if len(delimiter) != 1:
        raise Failure("--delimiter takes one character.")
    try:
        content = sys.stdin.buffer.read() if name == STANDARD_STREAM else Path(name).read_bytes()
    except OSError as error:
        raise Failure(f"{name} cannot be read: {error.strerror or type(error).__name__}.") from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise Failure(f"{name}:{line}: is not UTF-8. Export it as CSV in UTF-8.") from error
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[dict[str, str]] = []
    try:
        headings = [heading.strip() for heading in next(reader, [])]
        places = _places(name, kind, columns, headings)
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(headings):
                raise Failure(f"{name}:{reader.line_num}: {len(cells)} cells, but the header has {len(headings)}.")
            row = {column: cells[place].strip() for column, place in places.items()}
            _refuse(name, reader.line_num, kind, row)
            rows.append(row)
    except csv.Error as error:
        raise Failure(f"{name}:{reader.line_num}: is not CSV: a quoted cell is not closed.") from error
    return rows


def _places(name: str, kind: Kind, columns: Mapping[str, str], headings: Sequence[str]) -> dict[str, int]:
    if not columns:
        columns = {heading: heading for heading in headings if heading in kind.header or "." in heading}
    for column, heading in columns.items():
        if heading not in headings:
            near = difflib.get_close_matches(heading, headings, 1)
            hint = f" Did you mean {shown(near[0])}?" if near else ""
            hint = _delimited(headings) or _swapped(kind, columns, headings) or hint
            raise Failure(f"{name} has no heading {shown(heading)} for {column}.{hint}")
    if kind.key not in columns:
        raise Failure(
            f"which heading of {name} is the {kind.key}? Say so with --map {kind.key}=HEADING. Headings: "
            f"{', '.join(map(shown, headings))}.{_delimited(headings) or _swapped(kind, columns, headings)}"
        )
    return {column: headings.index(heading) for column, heading in columns.items()}


def _delimited(headings: Sequence[str]) -> str:
    """Say which delimiter the file has where its header looks like one cell."""
    found = [one for one in _DELIMITERS if len(headings) == 1 and one in headings[0]]
    if not found:
        return ""
    written = "$'\\t'" if found[0] == "\t" else f"'{found[0]}'"
    return f" The header is one cell: is the file delimited otherwise? Try --delimiter {written}."


def _swapped(kind: Kind, columns: Mapping[str, str], headings: Sequence[str]) -> str:
    """Say the order of a pair that was given the other way round."""
    for column, heading in columns.items():
        if column in headings and column not in kind.header and heading in kind.header:
            return f" The order is COLUMN=HEADING: --map {heading}={shlex.quote(column)}."
    return ""


def _refuse(name: str, line: int, kind: Kind, row: Mapping[str, str]) -> None:
    for column, text in row.items():
        if secret(kind, text):
            raise Failure(f"{name}:{line}: {column} is shaped like a key, and no key may stand in the directory.")
    if not row[kind.key]:
        raise Failure(f"{name}:{line}: {kind.key} is blank.")
