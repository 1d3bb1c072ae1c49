"""``openai-metering report``: who used how much, from usage records in files."""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO

from openai_metering.cli import columns as grouping_columns
from openai_metering.cli.asked import PAGE, Asked, shaped
from openai_metering.cli.compiled import cache_folder
from openai_metering.cli.costs import KEPT, Costs
from openai_metering.cli.documents import write_csv, write_json, write_markdown, write_parquet
from openai_metering.cli.engine import WORTH, gather_compiled
from openai_metering.cli.failure import Failure
from openai_metering.cli.gathering import gather, inputs_of, made, narrowed, size_of
from openai_metering.cli.pages import write_invoice_of, write_page_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from openai_metering.cli.columns import Column
    from openai_metering.cli.gathering import Gathered
    from openai_metering.cli.grouping import Report
    from openai_metering.cli.hierarchy import Hierarchy
    from openai_metering.cli.tabular import Source

_EXAMPLES: Final = """\
Examples:
  openai-metering report ./ledger
  openai-metering report ./ledger --by organization,model --month 2026-07 --compare
  openai-metering report ./ledger --where organization=AcmeSoft --where 'model=gpt-4*' --by day
  openai-metering report ./ledger --format html --month 2026-07 --output july.html
  openai-metering report ./ledger --invoice AcmeSoft --month 2026-07 --output acme.html
  openai-metering report ./ledger collector-output/records.jsonl --by month,organization
  openai-metering report ./ledger --by tag:project,model --format csv --output july.csv
  openai-metering report ./ledger --watch --by organization,model
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
        metavar="COLUMNS",
        help=f"what to group by, with commas (default: {','.join(grouping_columns.DEFAULT)})",
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
    parser.add_argument("--format", choices=(*WRITERS, PARQUET, PAGE), help="(default: table)")
    parser.add_argument(
        "--invoice",
        metavar="ORGANIZATION",
        help="one page (HTML) of what this organization, or account, used in --month",
    )
    parser.add_argument(
        "--prices", metavar="FILE", help="price file (TOML): your own costs, and your customers' prices"
    )
    parser.add_argument("--no-cost", action="store_true", help="usage alone")
    parser.add_argument(
        "--watch",
        action="store_true",
        help="a live view of the calls of the last --minutes, until Ctrl-C",
    )
    parser.add_argument("--minutes", type=float, metavar="N", help="with --watch: how far back it looks (default: 60)")
    parser.add_argument(
        "--no-cache", action="store_true", help="read large files as they are, and not what they were compiled into"
    )
    parser.add_argument("--output", metavar="FILE", help="write to this file instead of the terminal")


def run(args: argparse.Namespace) -> int:
    """Make the report that the arguments ask for."""
    if args.invoice is not None:
        _fits_invoice(args)
        args.format = PAGE
    if args.minutes is not None and not args.watch:
        raise Failure("--minutes is how far back --watch looks: give --watch too, or --from for a report.")
    args.by = ",".join(grouping_columns.DEFAULT) if args.by is None else args.by
    args.format = args.format or "table"
    asked = Asked.of(args)
    if args.watch:
        return _watched(args, asked)
    if args.compare:
        asked.period.before()  # says so at once where there is none
    writer = WRITERS.get(args.format, lambda: None)()
    files, tables = inputs_of(args.paths)
    output = None if args.output is None else _output(args.output, files)
    if args.format == PARQUET and output is None:
        raise Failure("--format parquet is no text for a terminal: give --output FILE.")
    gathered = _many(args, asked, files, tables) or gather(files, tables, asked.facts, asked.hierarchy)
    if asked.costs is not None:
        asked.costs.settle(gathered.rows)
    if args.invoice is not None:
        _deliver(partial(write_invoice_of, args, asked, gathered), output)
        return 0
    rows, untimed = narrowed(gathered, asked.period, asked.filters)
    report = shaped(args, asked, gathered, rows)
    report = replace(report, period=str(asked.period) if asked.period.bounded else None, untimed=untimed)
    if args.format == PAGE:
        _deliver(partial(write_page_of, args, asked, rows, report), output)
        return 0
    report = _named(report, asked.hierarchy, columns=args.format not in ("table", "markdown"))
    if writer is not None:
        _deliver(partial(writer, report), output)
    elif output is not None:
        _replace(partial(write_parquet, report), output)
    return 0


def _fits_invoice(args: argparse.Namespace) -> None:
    if args.month is None:
        raise Failure("an invoice is of a month: give --month, such as --month 2026-07.")
    if args.format not in (None, PAGE):
        raise Failure(f"--invoice is a page: leave --format {args.format} out, or --invoice for a report.")
    unfit = next((name for name in ("by", "top", "compare", "budgets") if getattr(args, name)), None)
    if unfit is not None:
        raise Failure(f"--invoice has lines and columns of its own: leave --{unfit} out, or --invoice for a report.")


def _many(args: argparse.Namespace, asked: Asked, files: Sequence[Path], tables: Sequence[Source]) -> Gathered | None:
    """Gather from compiled files where there is much to read, and it leads to the same report."""
    priced = asked.costs is not None and asked.costs.has_prices
    if tables or priced or args.no_cache or args.format == PAGE or sum(map(size_of, files)) < WORTH:
        return None
    try:
        import duckdb  # noqa: F401, PLC0415 - an extra, only looked for
    except ModuleNotFoundError:
        return None
    names = [column.name for column in asked.columns] + list(asked.filters.columns if asked.filters else ())
    periods = [asked.period, *([asked.period.before()] if args.compare else [])]
    return gather_compiled(files, cache_folder(), names, asked.zone, periods, asked.hierarchy)


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


def _watched(args: argparse.Namespace, asked: Asked) -> int:
    unfit = [name for name in ("output", "invoice", "compare", "budgets") if getattr(args, name)]
    unfit += [name for name in ("from", "to", "month") if getattr(args, name) is not None]
    if unfit or args.format != "table":
        raise Failure(f"--watch is a live view of the last minutes: leave --{(unfit or ['format'])[0]} out.")
    _table_writer()  # says so where rich is missing
    from openai_metering.cli.watching import watch  # noqa: PLC0415 - rich is an extra

    return watch(args.paths, asked, minutes=60.0 if args.minutes is None else args.minutes, count=args.top)


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
_NAME: Final = 40  # characters of a file's name in that of the folder beside it


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


def _deliver(write: Callable[[TextIO], None], output: Path | None) -> None:
    if output is None:
        write(_stdout())
        return

    def text(file: Path) -> None:
        with file.open("w", encoding="utf-8", newline="") as stream:
            write(stream)

    _replace(text, output)


def _replace(make: Callable[[Path], None], output: Path) -> None:
    """Write beside the file and put it in its place when it is whole: what fails leaves the old one as it is."""
    target = output.resolve()  # a link stays one
    try:
        if target.exists() and not target.is_file():  # a device or a pipe
            make(output)
            return
        with tempfile.TemporaryDirectory(prefix=f".{target.name[:_NAME]}.", dir=target.parent) as folder:
            file = Path(folder) / "report"
            make(file)
            if target.exists():
                file.chmod(target.stat().st_mode & 0o777)
            file.replace(target)
    except OSError as error:
        raise Failure(f"--output {output} cannot be written: {error.strerror or type(error).__name__}.") from error
