"""``openai-metering report``: who used how much, from usage records in files."""

from __future__ import annotations

import argparse
import io
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO

from openai_metering.cli import columns as grouping_columns, shaping
from openai_metering.cli.budgets import Budgets, months_of, summed
from openai_metering.cli.costs import KEPT, Costs
from openai_metering.cli.documents import write_csv, write_json, write_markdown, write_parquet
from openai_metering.cli.failure import Failure
from openai_metering.cli.filters import Filters
from openai_metering.cli.gathering import Gathered, gather, inputs_of, made, narrowed
from openai_metering.cli.hierarchy import Hierarchy
from openai_metering.cli.period import Period, period_of, zone_of

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Mapping, Sequence
    from decimal import Decimal

    from openai_metering.cli.columns import Column
    from openai_metering.cli.grouping import Report
    from openai_metering.cli.records import UsageRow

_EXAMPLES: Final = """\
Examples:
  openai-metering report ./ledger
  openai-metering report ./ledger --by organization,model --month 2026-07 --compare
  openai-metering report ./ledger --where organization=AcmeSoft --where 'model=gpt-4*' --by day
  openai-metering report ./ledger collector-output/records.jsonl --by month,organization
  openai-metering report ./ledger --by tag:project,model --format csv --output july.csv
  openai-metering report clickhouse://reader@localhost:8123/default/otel_logs --by organization

Columns for --by and --where, in any order:
  organization, subscriber, credential, model, operation, provider,
  day, week, month (of --timezone, when the call ended), tag:<key>;
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
        help="a file of usage records (OTLP JSON lines), a folder (every *.jsonl below it), a Parquet or DuckDB file, or "
        "the URL of a ClickHouse table",
    )
    parser.add_argument(
        "--by",
        default=",".join(grouping_columns.DEFAULT),
        metavar="COLUMNS",
        help="what to group by, with commas (default: %(default)s)",
    )
    parser.add_argument("--month", metavar="MONTH", help="calls that ended in this calendar month, such as 2026-07")
    parser.add_argument("--from", metavar="TIME", help="calls that ended at this date, month or time, or later")
    parser.add_argument("--to", metavar="TIME", help="calls that ended before this date, month or time")
    parser.add_argument("--timezone", metavar="NAME", help="whose days are meant, such as Europe/Berlin (default: UTC)")
    parser.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="COLUMN=VALUE",
        help="only such calls (* and ? stand for any characters; != for all others); the same column again is another choice",
    )
    parser.add_argument(
        "--top", type=int, metavar="N", help="the N largest groups, largest first; the rest as one row `others`"
    )
    parser.add_argument("--compare", action="store_true", help="beside the period before, with the change")
    parser.add_argument(
        "--directory",
        metavar="DIR",
        help="fill the levels that records lack, and show names, from this directory, as it was at each call; "
        "its column meta.budget is the budget of a month",
    )
    parser.add_argument(
        "--budgets",
        metavar="FILE",
        help="budgets of a month: CSV with the columns id, budget and, where they differ, month",
    )
    parser.add_argument("--format", choices=(*WRITERS, PARQUET), default="table", help="(default: %(default)s)")
    parser.add_argument(
        "--prices", metavar="FILE", help="price file (TOML): your own costs, and your customers' prices"
    )
    parser.add_argument("--no-cost", action="store_true", help="usage alone")
    parser.add_argument("--output", metavar="FILE", help="write to this file instead of the terminal")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a report is to be about."""

    columns: tuple[Column, ...]
    period: Period
    zone: dt.tzinfo
    filters: Filters | None
    costs: Costs | None
    hierarchy: Hierarchy | None

    @classmethod
    def of(cls, args: argparse.Namespace) -> Asked:
        """Read the arguments.

        Raises:
            Failure: they contradict each other, or name what is not there.
        """
        zone = zone_of(args.timezone)
        columns = grouping_columns.columns_of(args.by, zone)
        period = period_of(getattr(args, "from"), args.to, args.month, zone)
        filters = Filters(args.where, zone)
        if args.no_cost and args.prices is not None:
            raise Failure("--no-cost and --prices contradict each other: give one of them.")
        if args.top is not None and args.top < 1:
            raise Failure("--top takes a whole number from 1 on.")
        hierarchy = None if args.directory is None else Hierarchy.read(args.directory)
        named = (*(column.name for column in columns), *filters.columns)
        if hierarchy is None and grouping_columns.ACCOUNT in named:
            raise Failure(f"the column {grouping_columns.ACCOUNT} needs the hierarchy: give --directory DIR.")
        costs = None if args.no_cost else Costs(args.prices)
        return cls(columns, period, zone, filters or None, costs, hierarchy)

    @property
    def facts(self) -> frozenset[str]:
        """The attributes beyond a row's own that are needed."""
        return KEPT if self.costs is not None else frozenset()


def run(args: argparse.Namespace) -> int:
    """Make the report that the arguments ask for."""
    asked = Asked.of(args)
    if args.compare:
        asked.period.before()  # says so at once where there is none
    write = None if args.format == PARQUET else WRITERS[args.format]()
    files, tables = inputs_of(args.paths)
    output = None if args.output is None else _output(args.output, files)
    if write is None and output is None:
        raise Failure("--format parquet is no text for a terminal: give --output FILE.")
    gathered = gather(files, tables, asked.facts, asked.hierarchy)
    if asked.costs is not None:
        asked.costs.settle(gathered.rows)
    rows, untimed = narrowed(gathered, asked.period, asked.filters)
    report = _shaped(args, asked, gathered, rows)
    report = replace(report, period=str(asked.period) if asked.period.bounded else None, untimed=untimed)
    report = _named(report, asked.hierarchy, columns=args.format not in ("table", "markdown"))
    if output is None and write is not None:
        write(report, _stdout())
    elif output is not None and write is None:
        write_parquet(report, output)
    elif output is not None and write is not None:
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
    gathered = gather(files, (), KEPT if costs is not None else frozenset(), hierarchy)
    if costs is not None:
        costs.settle(gathered.rows)
    return made(gathered.rows, columns, gathered, costs)


def _shaped(args: argparse.Namespace, asked: Asked, gathered: Gathered, rows: Sequence[UsageRow]) -> Report:
    """Add up, and set beside the period before and the budgets, as far as that was asked for."""
    report = made(rows, asked.columns, gathered, asked.costs)
    if args.compare:
        earlier = asked.period.before()
        inside = earlier.test()
        old = [row for row in gathered.rows if row.time_unix_nano is not None and inside(row.time_unix_nano)]
        before = made(asked.filters.of(old) if asked.filters else old, asked.columns, gathered, asked.costs)
        report = shaping.compared(report, replace(before, period=str(earlier)))
    report = _budgeted(args, asked, report)
    return report if args.top is None else shaping.top(report, args.top)


def _budgeted(args: argparse.Namespace, asked: Asked, report: Report) -> Report:
    budgets = Budgets(None if asked.hierarchy is None else asked.hierarchy.tables, args.budgets)
    column = budgets.column(report.columns)
    monthly = "month" in report.columns
    if column is None or asked.filters or not shaping.in_money(report):
        if not budgets.named:
            return report
        if asked.filters:
            raise Failure("--budgets are of all that somebody uses: leave --where out.")
        if column is None:
            who = ", ".join(grouping_columns.WHO)
            raise Failure(f"--budgets needs --by with one of {who}, alone or together with month.")
        raise Failure("--budgets are amounts, and no call has a cost: give --prices, or leave --no-cost out.")
    try:
        wanted = (
            sorted({row.cells[report.columns.index("month")] or "" for row in report.rows} - {""})
            if monthly
            else months_of(asked.period)
        )
    except Failure:
        if budgets.named:
            raise
        return report
    ids = {row.cells[report.columns.index(column)] for row in report.rows if row.kind == "owned"} - {None}
    found: Mapping[tuple[str, str | None], Decimal]
    own = budgets.of(column, sorted(filter(None, ids)), wanted, asked.zone)
    found = {(name, month): budget for (name, month), budget in own.items()} if monthly else summed(own)
    return shaping.budgeted(report, found, column)


def _named(report: Report, hierarchy: Hierarchy | None, *, columns: bool) -> Report:
    if hierarchy is None:
        return report
    if hierarchy.conflicts:
        calls = f"{hierarchy.conflicts:,} call{'' if hierarchy.conflicts == 1 else 's'}"
        print(f"{calls} whose record names another owner than the directory; the record counts.", file=sys.stderr)
    return hierarchy.named(report, columns=columns)


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
    "markdown": lambda: write_markdown,
}
PARQUET: Final = "parquet"
"""The format that is no text, and goes to a file."""


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
