"""``openai-metering report``: who used how much, from usage records in files."""

from __future__ import annotations

import argparse
import io
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO

from openai_metering.cli import columns as grouping_columns
from openai_metering.cli.costs import KEPT, Costs
from openai_metering.cli.documents import write_csv, write_json
from openai_metering.cli.failure import Failure
from openai_metering.cli.files import files_of
from openai_metering.cli.grouping import group
from openai_metering.cli.hierarchy import Hierarchy
from openai_metering.cli.joining import Calls
from openai_metering.cli.progress import Progress
from openai_metering.cli.records import read
from openai_metering.signals.conventions import USAGE_EVENT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from openai_metering.cli.columns import Column
    from openai_metering.cli.grouping import Report

NAMED_PROBLEMS: Final = 5
"""How many unreadable lines are named one by one."""

_EXAMPLES: Final = """\
Examples:
  openai-metering report ./ledger
  openai-metering report ./ledger --by organization,model
  openai-metering report ./ledger collector-output/records.jsonl --by month,organization
  openai-metering report ./ledger --by tag:project,model --format csv --output july.csv
  openai-metering report ./ledger --format json | jq .total
  openai-metering report ./ledger --by organization --prices prices.toml

Columns for --by, in any order:
  organization, subscriber, credential, model, operation, provider,
  day, month (UTC, when the call ended), tag:<key>;
  account (with --directory): the organization at the top of the hierarchy

Every call counts once, however often its record is found. Calls with unknown usage,
without an owner or refused by the provider are rows of their own.

Cost is what the provider asks of us, at list prices (pip install 'openai-metering[cost]') or at
those of --prices FILE, which can also say what customers pay. Amounts that came with the records
stay, unless --prices is given. What cannot be priced is counted as unpriced, never as zero.
"""


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add ``report`` to the command line."""
    parser = subparsers.add_parser(
        "report",
        help="who used how much, from usage records in files",
        description="Add up usage records: calls and tokens by organization, subscriber, credential and model.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "paths",
        nargs="+",
        metavar="PATH",
        help="a file of usage records (OTLP JSON lines), or a folder: every *.jsonl below it",
    )
    parser.add_argument(
        "--by",
        default=",".join(grouping_columns.DEFAULT),
        metavar="COLUMNS",
        help="what to group by, with commas (default: %(default)s)",
    )
    parser.add_argument(
        "--directory",
        metavar="DIR",
        help="fill the levels that records lack, and show names, from this directory, as it was at each call",
    )
    parser.add_argument("--format", choices=tuple(WRITERS), default="table", help="(default: %(default)s)")
    parser.add_argument(
        "--prices", metavar="FILE", help="price file (TOML): your own costs, and your customers' prices"
    )
    parser.add_argument("--no-cost", action="store_true", help="usage alone")
    parser.add_argument("--output", metavar="FILE", help="write to this file instead of the terminal")


def run(args: argparse.Namespace) -> int:
    """Make the report that the arguments ask for."""
    columns = grouping_columns.columns_of(args.by)
    write = WRITERS[args.format]()
    files = files_of(args.paths)
    output = None if args.output is None else _output(args.output, files)
    if args.no_cost and args.prices is not None:
        raise Failure("--no-cost and --prices contradict each other: give one of them.")
    hierarchy = None if args.directory is None else Hierarchy.read(args.directory)
    if hierarchy is None and any(column.name == grouping_columns.ACCOUNT for column in columns):
        raise Failure(f"--by {grouping_columns.ACCOUNT} needs the hierarchy: give --directory DIR.")
    report = make(files, columns, None if args.no_cost else Costs(args.prices), hierarchy)
    if hierarchy is not None:
        report = hierarchy.named(report, columns=args.format != "table")
        if hierarchy.conflicts:
            what = "whose record names another owner than the directory; the record counts"
            print(f"{_count(hierarchy.conflicts, 'call')} {what}.", file=sys.stderr)
    if output is None:
        write(report, _stdout())
    else:
        _save(report, write, output)
    return 0


def make(
    files: Sequence[Path], columns: Sequence[Column], costs: Costs | None = None, hierarchy: Hierarchy | None = None
) -> Report:
    """Read files and add up what they say; lines that cannot be read are named on stderr.

    Args:
        files: what to read.
        columns: what to group by.
        costs: prices the calls; left out for usage alone.
        hierarchy: a directory that knows what records do not say.

    Returns:
        The report.

    Raises:
        Failure: when a file cannot be read, or none holds a usage record.
    """
    calls = Calls()
    problems: list[str] = []
    lines = bad_lines = 0
    with Progress(sum(_size(file) for file in files)) as progress:
        for line in read(files, KEPT if costs is not None else frozenset()):
            lines += 1
            for row in line.rows:
                calls.add(row)
            if line.problem is not None:
                bad_lines += 1
                if len(problems) < NAMED_PROBLEMS:
                    problems.append(f"{line.file}:{line.number}: {line.problem}")
            progress.advance(line.size, len(calls))
    _tell(problems, bad_lines)
    if not calls:
        raise Failure(
            f"no usage records in {_count(len(files), 'file')} ({_count(lines, 'line')}): no log record has the event "
            f"name {USAGE_EVENT}. Check that the application ran with OPENAI_METERING_LEDGER_DIR, "
            "or that the Collector's file exporter receives its logs."
        )
    rows = list(calls.rows() if hierarchy is None else hierarchy.fill(calls.rows()))
    if costs is not None:
        costs.settle(rows)
    report = group(
        rows,
        columns,
        duplicates=calls.duplicates,
        bad_lines=bad_lines,
        price=None if costs is None else costs.of,
        currency=None if costs is None else costs.currency,
    )
    if costs is None or costs.has_prices or report.total.money.cost is not None:
        return report
    return replace(report, currency=None, unpriced={})  # no table, and no record that says what it cost


def _tell(problems: Sequence[str], bad_lines: int) -> None:
    for problem in problems:
        print(problem, file=sys.stderr)
    if bad_lines > len(problems):
        print(f"... and {_count(bad_lines - len(problems), 'more line')} that could not be read whole", file=sys.stderr)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:  # reading it says so, in better words
        return 0


def _table_writer() -> Callable[[Report, TextIO], None]:
    try:
        from openai_metering.cli.table import write_table  # noqa: PLC0415 - rich is an extra
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "rich":
            raise
        raise Failure(
            "the table needs rich: pip install 'openai-metering[report]'. --format csv and --format json work without."
        ) from error
    return write_table


# A row per format; each gives its writer when it is chosen, so that what one needs is not asked of the others.
WRITERS: Final[Mapping[str, Callable[[], Callable[[Report, TextIO], None]]]] = {
    "table": _table_writer,
    "csv": lambda: write_csv,
    "json": lambda: write_json,
}


def _stdout() -> TextIO:
    if isinstance(sys.stdout, io.TextIOWrapper) and not sys.stdout.isatty():
        sys.stdout.reconfigure(encoding="utf-8")  # piped, a name must arrive whole whatever the locale says
    elif isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    return sys.stdout


def _output(name: str, files: Sequence[Path]) -> Path:
    output = Path(name)
    if output.exists() and any(output.samefile(file) for file in files):
        raise Failure(f"--output {output} is one of the files to read, and would be lost. Give another name.")
    if output.is_dir() or not output.parent.is_dir():
        raise Failure(f"--output {output} cannot be written: give a file in a folder that exists.")
    return output


def _save(report: Report, write: Callable[[Report, TextIO], None], output: Path) -> None:
    try:
        with output.open("w", encoding="utf-8", newline="") as stream:
            write(report, stream)
    except OSError as error:
        raise Failure(f"--output {output} cannot be written: {error.strerror or type(error).__name__}.") from error
