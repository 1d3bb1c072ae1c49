"""``openai-metering directory``: who is who, kept in a folder of plain files."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from openai_metering.cli import exchange, unknown
from openai_metering.cli.failure import Failure
from openai_metering.cli.moments import time_of
from openai_metering.directory import edits, store
from openai_metering.directory.lookup import key_map, lookup
from openai_metering.directory.periods import spelt
from openai_metering.directory.schema import CREDENTIAL, KINDS, ORGANIZATION, SUBSCRIBER, fold, parts, shown
from openai_metering.directory.tables import DirectoryError, kind_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from openai_metering.directory.tables import Entry, Table

DEFAULT: Final = "directory"
LOOKUP: Final = "lookup.csv"
KEY_MAP: Final = "key_map.json"

_EXAMPLES: Final = """\
Examples:
  openai-metering directory init
  openai-metering directory add organization acme name=AcmeSoft external.crm=0015g00000
  openai-metering directory add subscriber joe@acme.com organization=acme
  openai-metering directory add credential key1-hubspot subscriber=joe@acme.com
  openai-metering directory set subscriber joe@acme.com organization=nordbank --from 2026-07-16
  openai-metering directory import organizations crm.csv --map id="Account Name" --map external.crm="Account ID" --dry-run
  openai-metering directory unknown ./ledger
  openai-metering report ./ledger --directory directory

KIND is organization, subscriber or credential. Times are dates (midnight, UTC) or ISO 8601.
"""


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add ``directory`` and its commands to the command line."""
    parser = subparsers.add_parser(
        "directory",
        help="who is who: organizations, subscribers and credentials, kept in a folder",
        description=(
            "Keep organizations, subscribers and credentials in a folder of plain files, made for version control. "
            "What changes stays as history, so that last month's bill uses last month's hierarchy."
        ),
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", dest="directory_command", metavar="COMMAND", required=True)
    for name, (text, arguments, _) in COMMANDS.items():
        command = commands.add_parser(
            name, help=text, description=f"{text[0].upper()}{text[1:]}.", epilog=_columns(name), formatter_class=_Format
        )
        arguments(command)
        command.add_argument(
            "--directory", metavar="DIR", type=Path, default=Path(DEFAULT), help="the folder (default: %(default)s)"
        )


def run(args: argparse.Namespace) -> int:
    """Do what one of the commands is asked."""
    try:
        return COMMANDS[args.directory_command][2](args)
    except DirectoryError as error:
        raise Failure(str(error)) from error


class _Format(argparse.RawDescriptionHelpFormatter):
    """Leaves the table of columns as it is."""


def _columns(command: str) -> str | None:
    if command not in ("add", "set", "import"):
        return None
    lines = []
    for kind in KINDS.values():
        lines.append(f"Columns of {kind.file}:")
        for column in kind.columns:
            allowed = f" ({' or '.join(column.allowed)})" if column.allowed else ""
            lines.append(f"  {column.name:<14}{column.doc.replace('`', '')}{allowed}")
        lines.append("")
    return "\n".join((*lines, "Further columns: external.<system> for ids elsewhere, meta.<key> for anything else."))


# -- Arguments ---------------------------------------------------------------------------------------------------------


def _nothing(parser: argparse.ArgumentParser) -> None:
    del parser


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    _one(parser, "id, or alias of a credential; never the key")
    parser.add_argument("cells", nargs="*", metavar="COLUMN=VALUE", help="a cell of the row")
    _since(parser, "the row holds from then on (default: always)")


def _set_arguments(parser: argparse.ArgumentParser) -> None:
    _one(parser)
    parser.add_argument("cells", nargs="+", metavar="COLUMN=VALUE", help="a cell to change; a blank value clears it")
    _since(parser, "the change holds from then on (default: now)")
    parser.add_argument("--rewrite", action="store_true", help="it was always wrong: leave no history")


def _remove_arguments(parser: argparse.ArgumentParser) -> None:
    _one(parser)
    _since(parser, "the moment at which it ends (default: now)")
    parser.add_argument("--erase", action="store_true", help="take it out with its history, as if it had never been")


def _one(parser: argparse.ArgumentParser, text: str = "id or alias, in any spelling") -> None:
    parser.add_argument("kind", metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("id", metavar="ID", help=text)


def _list_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", metavar="KIND", nargs="?", help=f"{', '.join(KINDS)} (default: all)")
    _at(parser)


def _show_arguments(parser: argparse.ArgumentParser) -> None:
    _one(parser)
    _at(parser)


def _compile_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", metavar="FILE", type=Path, help=f"the table (default: {LOOKUP} in the folder)")
    parser.add_argument("--key-map", metavar="FILE", type=Path, help=f"the map (default: {KEY_MAP} in the folder)")
    _at(parser)


def _at(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--at", metavar="TIME", help="as it was, or will be, at that moment (default: now)")


def _since(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument("--from", dest="since", metavar="TIME", help=text)


def _pairs(cells: Iterable[str], table: Table) -> dict[str, str]:
    values = {}
    for cell in cells:
        name, equals, text = cell.partition("=")
        if not equals:
            raise Failure(f"{shown(cell)} is not COLUMN=VALUE. Columns: {', '.join(table.header)}.")
        values[name.strip()] = text
    return values


# -- Commands ----------------------------------------------------------------------------------------------------------


def _init(args: argparse.Namespace) -> int:
    made = store.init(args.directory)
    print(f"{args.directory}: {', '.join(made) + ' made' if made else 'everything is there'}.")
    return 0


def _add(args: argparse.Namespace) -> int:
    kind = kind_of(args.kind)
    with store.editing(args.directory) as tables:
        values = _pairs(args.cells, tables[kind.name])
        if args.since is not None:
            values["valid_from"] = spelt(time_of(args.since))
        tables[kind.name] = edits.add(tables, kind.name, {**values, kind.key: args.id})
    print(f"{kind.name} {shown(args.id.strip())} added.")
    return 0


def _set(args: argparse.Namespace) -> int:
    kind = kind_of(args.kind)
    time = time_of(args.since)
    with store.editing(args.directory) as tables:
        values = _pairs(args.cells, tables[kind.name])
        if kind.key in values:
            raise Failure(f"the {kind.key} is what records say, and stays. Add the new one, and remove the old one.")
        tables[kind.name] = edits.change(tables, kind.name, args.id, values, time, rewrite=args.rewrite)
    done = "changed" if args.rewrite else f"changed: holds from {spelt(time)}"
    hint = "" if args.rewrite or args.since is not None else "; for earlier calls use --from DATE (or --rewrite)"
    print(f"{kind.name} {shown(args.id.strip())} {done}{hint}.")
    return 0


def _remove(args: argparse.Namespace) -> int:
    kind = kind_of(args.kind)
    time = time_of(args.since)
    with store.editing(args.directory) as tables:
        if args.erase:
            tables[kind.name] = edits.erase(tables, kind.name, args.id)
        else:
            tables[kind.name] = edits.end(tables, kind.name, args.id, time)
    print(f"{kind.name} {shown(args.id.strip())} {'erased' if args.erase else f'ends at {spelt(time)}'}.")
    return 0


def _list(args: argparse.Namespace) -> int:
    tables = store.load(args.directory)
    time = time_of(args.at)
    kinds = list(KINDS) if args.kind is None else [kind_of(args.kind).name]
    for number, kind in enumerate(kinds):
        table = tables[kind]
        entries = [entry for entry in table.entries() if entry.valid(time)]
        if number:
            print()
        _print_rows(table, sorted(entries, key=lambda entry: fold(entry.id)))
    return 0


def _show(args: argparse.Namespace) -> int:
    tables = store.load(args.directory)
    table = tables[kind_of(args.kind).name]
    entries = table.of(args.id)
    if not entries:
        edits.erase(tables, table.kind.name, args.id)  # says that it is not there
    print(f"{table.kind.name} {entries[0].id}")
    for entry in entries:
        print(f"  {spelt(entry.start) or 'always'} to {spelt(entry.end) or 'now on'}:")
        hidden = (table.kind.key, "valid_from", "valid_to")
        for name in table.header:
            if name not in hidden and entry.get(name):
                print(f"    {name + ':':<16}{entry.get(name)}")
    _print_below(tables, table.kind.name, entries[0].id, time_of(args.at))
    return 0


def _check(args: argparse.Namespace) -> int:
    tables, problems = store.read(args.directory)
    for problem in problems:
        print(problem)
    if problems:
        print(f"{len(problems):,} {'problem' if len(problems) == 1 else 'problems'}.", file=sys.stderr)
        return 1
    counts = (f"{len(table.rows):,} in {table.kind.file}" for table in tables.values())
    print(f"In order: {', '.join(counts)}.")
    return 0


def _compile(args: argparse.Namespace) -> int:
    tables = store.load(args.directory)
    time = time_of(args.at)
    for output, (text, count), noun in (
        (args.output or args.directory / LOOKUP, lookup(tables, time), "credential"),
        (args.key_map or args.directory / KEY_MAP, key_map(tables, time), "fingerprint"),
    ):
        try:
            store.write(output, text)
        except OSError as error:
            raise Failure(f"{output} cannot be written: {error.strerror or type(error).__name__}.") from error
        print(f"{output}: {count:,} {noun if count == 1 else f'{noun}s'}.")
    return 0


def _print_rows(table: Table, entries: Sequence[Entry]) -> None:
    used = [name for name in table.header if name == table.kind.key or any(entry.get(name) for entry in entries)]
    lines = [tuple(used), *(tuple(entry.get(name) for name in used) for entry in entries)]
    widths = [max(len(line[index]) for line in lines) for index in range(len(used))]
    print(f"{table.kind.file}: {len(entries):,}")
    for line in lines if entries else ():
        print(f"  {'  '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))}".rstrip())


_BELOW: Final[Mapping[str, tuple[tuple[str, str], ...]]] = {
    ORGANIZATION: ((ORGANIZATION, "parent"), (SUBSCRIBER, ORGANIZATION), (CREDENTIAL, ORGANIZATION)),
    SUBSCRIBER: ((CREDENTIAL, SUBSCRIBER),),
    CREDENTIAL: (),
}


def _print_below(tables: Mapping[str, Table], kind: str, name: str, time: int) -> None:
    for below, column in _BELOW[kind]:
        columns = {one.name: one for one in KINDS[below].columns}
        found = [
            entry.id
            for entry in tables[below].entries()
            if entry.valid(time) and name in parts(columns[column], entry.get(column))
        ]
        if found:
            print(f"  {below}s at {spelt(time)}:")
            for one in sorted(found, key=fold):
                print(f"    {one}")


_Command = tuple[str, "Callable[[argparse.ArgumentParser], None]", "Callable[[argparse.Namespace], int]"]

COMMANDS: Final[Mapping[str, _Command]] = {
    "init": ("make an empty directory", _nothing, _init),
    "add": ("add an organization, subscriber or credential", _add_arguments, _add),
    "set": ("change one from a moment on; what was stays as history", _set_arguments, _set),
    "list": ("list what is valid now, or was at a moment", _list_arguments, _list),
    "show": ("show one with its history, and what is below it", _show_arguments, _show),
    "remove": ("end one; what was stays as history", _remove_arguments, _remove),
    "check": ("name everything that is wrong, with line and column; exit status 1 if anything is", _nothing, _check),
    "import": (
        "take rows of another system in: say what changes, and change it",
        exchange.import_arguments,
        exchange.take,
    ),
    "export": ("give rows back to another system", exchange.export_arguments, exchange.give),
    "unknown": ("list who is in usage records and not in the directory", unknown.arguments, unknown.run),
    "compile": (
        "write the lookup table that the Collector reloads, and the library's key map",
        _compile_arguments,
        _compile,
    ),
}
