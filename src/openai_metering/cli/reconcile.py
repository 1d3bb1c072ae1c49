"""``openai-metering reconcile``: our records beside what the provider says was used, and what it costs."""

from __future__ import annotations

import argparse
import csv
import datetime as dt
import json
import sys
from collections import defaultdict
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from openai_metering.cli import reconciling
from openai_metering.cli.billed import Provider
from openai_metering.cli.costs import KEPT, Costs
from openai_metering.cli.failure import Failure
from openai_metering.cli.gathering import gather, inputs_of
from openai_metering.cli.hierarchy import Hierarchy
from openai_metering.cli.period import UTC, Period, dates, period_of, within
from openai_metering.cli.reconciling import CLASSES, CostLine, Line, agreement, as_document, shown
from openai_metering.pricing.amounts import PARTIAL, UNPRICED, decimal_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from openai_metering.cli.records import UsageRow

PARTS: Final = ("model", "project", "api_key")
_TITLES: Final = ("meter", "day", *PARTS, "unit", "metered", "billed", "difference", "why")

_EXAMPLES: Final = """\
Examples:
  OPENAI_ADMIN_KEY=... openai-metering reconcile ./ledger --from 2026-07 --to 2026-08
  openai-metering reconcile ./ledger --from 2026-07-01 --directory directory
  openai-metering reconcile ./ledger --from 2026-07-01T14:00 --to 2026-07-02T09:30 --by model --format csv

The admin key is read from the environment alone. Days are those of UTC, as the provider's. Costs
are compared for whole days.

Exit status: 0 where both sides agree, or differ only by late data and calls over midnight; 1 where
they differ otherwise; 2 where it could not be told, such as when the provider has counted nothing.
"""


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add ``reconcile`` to the command line."""
    parser = subparsers.add_parser(
        "reconcile",
        help="our records beside the provider's own usage and costs",
        description="Compare usage records with the provider's usage and costs API, and name why they differ.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("paths", nargs="+", metavar="PATH", help="usage records, as for report")
    parser.add_argument("--from", required=True, metavar="TIME", help="a month, date or time (full minute), UTC")
    parser.add_argument("--to", metavar="TIME", help="likewise, not part of the period (default: now)")
    parser.add_argument(
        "--by",
        metavar="PARTS",
        help="what is told apart beside the day: model, project, api_key (default: all with --directory, else model)",
    )
    parser.add_argument("--directory", metavar="DIR", help="knows the provider's key and project of each credential")
    parser.add_argument(
        "--late",
        type=float,
        default=48.0,
        metavar="HOURS",
        help="how long the provider may take to count a day (default: %(default)g)",
    )
    parser.add_argument("--prices", metavar="FILE", help="price file, as for report")
    parser.add_argument("--no-cost", action="store_true", help="usage alone")
    parser.add_argument("--format", choices=("table", "csv", "json"), default="table", help="(default: %(default)s)")
    parser.add_argument("--all", action="store_true", help="also show what agrees")


@dataclass(frozen=True, slots=True)
class Result:
    """Both sides, compared."""

    period: Period
    lines: Sequence[Line]
    costs: Sequence[CostLine]
    currency: str
    other_providers: int
    without_meter: int
    nothing_billed: bool = False
    """We metered something, and the provider has counted nothing at all."""

    @property
    def agrees(self) -> bool:
        """Whether nothing differs but what time will mend."""
        patient = {"late data", "day boundary"}
        return (
            not self.nothing_billed
            and all(set(line.why) <= patient for line in self.lines)
            and all(one.agrees or one.late for one in self.costs)
        )


def run(args: argparse.Namespace) -> int:
    """Compare, and say what was found."""
    by = _parts(args.by, directory=args.directory is not None)
    period = _period(getattr(args, "from"), args.to)
    hierarchy = None if args.directory is None else Hierarchy.read(args.directory)
    costs = None if args.no_cost else Costs(args.prices)
    provider = Provider(by)
    files, tables = inputs_of(args.paths)
    gathered = gather(files, tables, KEPT | reconciling.FACTS, hierarchy)
    if costs is not None:
        costs.settle(gathered.rows)
    inside = period.test()
    rows = [row for row in gathered.rows if row.time_unix_nano is not None and inside(row.time_unix_nano)]
    start, end = period.start, period.end
    if start is None or end is None:
        raise Failure("reconcile needs --from.")
    theirs = provider.used(start, end)
    projects = {key.api_key: key.project for key in theirs if key.api_key and key.project}
    known = None if hierarchy is None else hierarchy.tables
    ours, others, without = reconciling.metered(rows, by, known, projects, provider.host)
    fresh = (dt.datetime.now(UTC) - dt.timedelta(hours=args.late)).date().isoformat()
    lines = reconciling.compared(ours, theirs, fresh)
    found = [] if costs is None else _costs(rows, provider, costs, period, hierarchy, projects, by, fresh)
    nothing = not any(map(_counts, theirs.values())) and any(_counts(one.units) for one in ours.values())
    currency = "" if costs is None else costs.currency
    result = Result(period, lines, found, currency, others, without, nothing_billed=nothing)
    if not theirs and not ours:
        raise Failure(f"neither side has anything {within(str(period))}.")
    _WRITERS[args.format](result, everything=args.all)
    if nothing:
        raise Failure(
            f"the provider has counted nothing in {period}: the admin key is of another organization, the calls went to "
            f"another account, or it is too early. Try again {args.late:g} hours after the calls (--late)."
        )
    return 0 if result.agrees else 1


def _counts(units: Mapping[str, int]) -> bool:
    return any(units.values())


def _parts(given: str | None, *, directory: bool) -> tuple[str, ...]:
    if given is None:
        return PARTS if directory else PARTS[:1]
    names = tuple(dict.fromkeys(name.strip().lower() for name in given.split(",") if name.strip()))
    wrong = [name for name in names if name not in PARTS]
    if wrong:
        raise Failure(f"--by does not know {wrong[0]!r}. There are {', '.join(PARTS)}; the day is always there.")
    if "api_key" in names and not directory:
        raise Failure(
            "--by api_key needs to know which key a credential is: give --directory DIR, with its column api_key_id."
        )
    return tuple(name for name in PARTS if name in names)


def _period(since: str, until: str | None) -> Period:
    now = dt.datetime.now(UTC).replace(second=0, microsecond=0)
    period = period_of(since, until, None, UTC)
    period = Period(period.start, period.end or now)
    for one in (period.start, period.end):
        if one is not None and (one.second or one.microsecond):
            raise Failure("the provider counts by the minute: give full minutes.")
    if period.start is not None and period.start >= now:
        raise Failure("--from is in the future: the provider has counted nothing yet.")
    return period


def _costs(
    rows: Iterable[UsageRow],
    provider: Provider,
    costs: Costs,
    period: Period,
    hierarchy: Hierarchy | None,
    projects: dict[str, str],
    by: Sequence[str],
    fresh: str,
) -> list[CostLine]:
    """Compare what whole days cost."""
    start, end = period.start, period.end
    if start is None or end is None:
        return []
    theirs = {key[:2]: value for key, value in provider.costs(start, end).items() if key[2] == costs.currency}
    if not theirs:
        return []
    whole = range(-(-int(start.timestamp()) // 86_400), int(end.timestamp()) // 86_400)
    ours: dict[tuple[str, str | None], Decimal] = defaultdict(Decimal)
    unpriced: dict[tuple[str, str | None], int] = defaultdict(int)
    date_of = dates(UTC)
    for row in rows:
        if row.time_unix_nano is None or not reconciling.is_of(row, provider.host):
            continue
        if row.time_unix_nano // (86_400 * 10**9) not in whole or row.usage == "not_billed":
            continue
        project, key = reconciling.project_and_key(row, None if hierarchy is None else hierarchy.tables)
        place = (
            date_of(row.time_unix_nano).isoformat(),
            (project or projects.get(key or "")) if "project" in by else None,
        )
        priced = costs.of(row)
        unpriced[place] += priced is None or priced.cost.status in (UNPRICED, PARTIAL)
        ours[place] += (priced.cost.value if priced is not None else None) or 0
    places = sorted({*ours, *theirs, *unpriced}, key=lambda one: (one[0], one[1] or ""))
    nothing = Decimal(0)
    return [
        CostLine(*one, own, other, unpriced.get(one, 0), late=other < own and one[0] >= fresh)
        for one in places
        for own, other in ((ours.get(one, nothing), theirs.get(one, nothing)),)
    ]


# -- What is shown ---------------------------------------------------------------------------------------------------


def _rows(result: Result, *, everything: bool) -> list[tuple[str, ...]]:
    """Return one row for each unit in which the two sides differ, or for all."""
    rows = []
    for line in result.lines:
        if not line.why and not everything:
            continue
        for unit, ours in line.metered.items():
            theirs = line.billed[unit]
            if ours != theirs or everything:
                labels = (part or "-" for part in line.key)
                rows.append(
                    (*labels, unit, f"{ours}", f"{theirs}", f"{theirs - ours:+d}", ", ".join(line.notes or line.why))
                )
    return rows


def _write_csv(result: Result, *, everything: bool) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(_TITLES)
    writer.writerows(_rows(result, everything=everything))


def _write_json(result: Result, *, everything: bool) -> None:
    share = agreement(result.lines)
    document = {
        "period": str(result.period),
        "agrees": result.agrees,
        "agreement_percent": None if share is None else shown(share).removesuffix(" %"),
        "lines": [as_document(line) for line in result.lines if line.why or everything],
        "costs": [
            {
                "day": one.day,
                "project": one.project,
                "metered": decimal_text(one.metered),
                "billed": decimal_text(one.billed),
                "currency": result.currency,
                "unpriced": one.unpriced,
                "agrees": one.agrees,
            }
            for one in result.costs
        ],
        "calls_of_other_providers": result.other_providers,
        "calls_without_meter": result.without_meter,
    }
    json.dump(document, sys.stdout, indent=2)
    print()


def _write_table(result: Result, *, everything: bool) -> None:
    try:
        from rich import box  # noqa: PLC0415 - an extra
        from rich.console import Console  # noqa: PLC0415
        from rich.measure import Measurement  # noqa: PLC0415
        from rich.table import Table  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise Failure(
            "the table needs rich: pip install 'openai-metering[report]'; --format csv works without."
        ) from error
    console = Console(highlight=False)
    rows = _rows(result, everything=everything)
    # A part that nothing is told apart by says nothing.
    shown_columns = [place for place, _ in enumerate(_TITLES) if any(row[place] != "-" for row in rows)]
    if rows:
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
        for place in shown_columns:
            right = _TITLES[place] in ("metered", "billed", "difference")
            table.add_column(_TITLES[place], justify="right" if right else "left", no_wrap=True)
        for row in rows:
            cells = (*row[:6], f"{int(row[6]):,}", f"{int(row[7]):,}", f"{int(row[8]):+,}", row[9])
            table.add_row(*(Text(cells[place]) for place in shown_columns))
        console.width = max(
            console.width, Measurement.get(console, console.options.update(width=10_000), table).maximum
        )
        console.print(table)
    for one in result.costs:
        if everything or not one.agrees:
            what = f"{one.day}{f', {one.project}' if one.project else ''}"
            lacking = f"; {one.unpriced:,} calls unpriced" if one.unpriced else ""
            print(f"Cost of {what}: metered {one.metered:.2f}, billed {one.billed:.2f} {result.currency}{lacking}")
    for name in dict.fromkeys(name for line in result.lines for name in line.why):
        print(f"{name}: {CLASSES[name]}.")
    if result.other_providers:
        print(f"Of other providers, and not compared: {result.other_providers:,} calls.")
    if result.without_meter:
        print(
            f"other units: {result.without_meter:,} calls of operations that the provider's usage API does not count."
        )
    if result.costs:
        ours, theirs = (sum(getattr(one, side) for one in result.costs) for side in ("metered", "billed"))
        print(
            f"Cost of whole days {within(str(result.period))}: metered {ours:.2f}, billed {theirs:.2f} {result.currency}."
        )
    print(f"Tokens {within(str(result.period))}: {shown(agreement(result.lines))} agree.")


_WRITERS: Final = {"table": _write_table, "csv": _write_csv, "json": _write_json}
