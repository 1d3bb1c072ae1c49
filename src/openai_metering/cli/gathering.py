"""The calls that a report is made of: read from wherever they lie, joined, and narrowed to those that were asked for."""

from __future__ import annotations

import itertools
import shlex
import sys
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, NoReturn

from openai_metering.cli.failure import Failure
from openai_metering.cli.files import files_of
from openai_metering.cli.grouping import group
from openai_metering.cli.joining import Calls
from openai_metering.cli.notes import visible
from openai_metering.cli.progress import Progress
from openai_metering.cli.records import Quarantined, read
from openai_metering.cli.tabular import read_table, source_of
from openai_metering.signals.conventions import USAGE_EVENT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from openai_metering.cli.columns import Column
    from openai_metering.cli.costs import Costs
    from openai_metering.cli.filters import Filters
    from openai_metering.cli.grouping import Report
    from openai_metering.cli.hierarchy import Hierarchy
    from openai_metering.cli.period import Period
    from openai_metering.cli.records import UsageRow
    from openai_metering.cli.tabular import Source

NAMED_PROBLEMS: Final = 5
"""How many unreadable lines are named one by one."""


@dataclass(frozen=True, slots=True)
class Gathered:
    """Every distinct call, and what was met on the way."""

    rows: list[UsageRow]
    duplicates: int
    bad_lines: int
    quarantined: int = 0
    """Records that the gateway found at fault; none is among the rows."""


def inputs_of(paths: Iterable[str]) -> tuple[list[Path], list[Source]]:
    """Tell files of lines and tables apart.

    Raises:
        Failure: one is not there, or is of no kind that is read.
    """
    paths = list(paths)
    tables = [source for path in paths if (source := source_of(path)) is not None]
    return files_of([path for path in paths if source_of(path) is None]), tables


def gather(
    files: Sequence[Path],
    tables: Sequence[Source] = (),
    facts: frozenset[str] = frozenset(),
    hierarchy: Hierarchy | None = None,
) -> Gathered:
    """Read files and tables, and join the records of each call; lines that cannot be read are named on stderr.

    Args:
        files: files of lines.
        tables: tables of records.
        facts: names of further attributes that are kept.
        hierarchy: a directory that knows what records do not say.

    Raises:
        Failure: when one cannot be read, or none holds a usage record.
    """
    calls = Calls()
    problems: list[str] = []
    lines = bad_lines = 0
    held: Counter[str] = Counter()
    places: dict[str, None] = {}

    def bad(place: str, problem: str) -> None:
        if len(problems) < NAMED_PROBLEMS:
            problems.append(f"{place}: {problem}")

    with Progress(sum(size_of(file) for file in files)) as progress:
        for line in read(files, facts):
            lines += 1
            for row in line.rows:
                calls.add(row)
            if line.quarantined:
                held.update(line.quarantined)
                places[str(line.file)] = None
            if line.problem is not None:
                bad_lines += 1
                bad(f"{line.file}:{line.number}", line.problem)
            progress.advance(line.size, len(calls))
        for table in tables:
            for number, (found, problem) in enumerate(read_table(table, facts), 1):
                if found is not None:
                    calls.add(found)
                if isinstance(problem, Quarantined):
                    held[problem] += 1
                elif problem is not None:
                    bad_lines += 1
                    bad(f"{table.name}: row {number}", problem)
                progress.advance(0, len(calls))
    tell(problems, bad_lines)
    tell_quarantined(held, places)
    if not calls:
        if held:
            raise Failure("no usage record but those in quarantine: there is nothing to bill.")
        if files:
            nothing_there(len(files), lines)
        raise Failure(f"no usage records in {tables[0].name}: no row has the event name {USAGE_EVENT}.")
    rows = list(calls.rows() if hierarchy is None else hierarchy.fill(calls.rows()))
    return Gathered(rows, calls.duplicates, bad_lines, held.total())


def nothing_there(files: int, lines: int) -> NoReturn:
    """Say that files hold no usage record.

    Raises:
        Failure: always.
    """
    raise Failure(
        f"no usage records in {_count(files, 'file')} ({_count(lines, 'line')}): no log record has the event name {USAGE_EVENT}. "
        "Check that the application ran with OPENAI_METERING_LEDGER_DIR, or that the Collector's file exporter receives "
        "its logs."
    )


def narrowed(gathered: Gathered, period: Period, filters: Filters | None) -> tuple[list[UsageRow], int]:
    """Return the calls of a period that meet the filters, and how many others have no time at all.

    Raises:
        Failure: there are none.
    """
    rows: list[UsageRow] = gathered.rows
    untimed = 0
    if period.bounded:
        inside = period.test()
        untimed = sum(row.weight for row in rows if row.time_unix_nano is None)
        rows = [row for row in rows if row.time_unix_nano is not None and inside(row.time_unix_nano)]
        if not rows:
            raise Failure(f"no call ended in the period {period}. {_there(gathered.rows)}")
    if filters:
        rows = list(filters.of(rows))
        if not rows:
            within = f" in the period {period}" if period.bounded else ""
            raise Failure(f"no call{within} meets --where.{filters.hint()}")
    return rows, untimed


def made(
    rows: Iterable[UsageRow],
    columns: Sequence[Column],
    gathered: Gathered,
    costs: Costs | None = None,
) -> Report:
    """Add calls up.

    Args:
        rows: the calls.
        columns: what to group by.
        gathered: where they come from.
        costs: prices the calls; left out for usage alone.
    """
    found = group(
        rows,
        columns,
        duplicates=gathered.duplicates,
        bad_lines=gathered.bad_lines,
        price=None if costs is None else costs.of,
        currency=None if costs is None else costs.currency,
    )
    report = replace(found, quarantined=gathered.quarantined)
    if costs is None or costs.has_prices or report.total.money.cost is not None:
        return report
    return replace(
        report, currency=None, unpriced={}, partly={}, lacking=(), priceless=True
    )  # no table, and no record that says what it cost


def _there(rows: Iterable[UsageRow]) -> str:
    """Say from when to when there are calls."""
    import datetime as dt  # noqa: PLC0415 - for the message alone

    times = [row.time_unix_nano for row in rows if row.time_unix_nano is not None]
    if not times:
        return "The records carry no time."
    first, last = (
        dt.datetime.fromtimestamp(time // 10**9, dt.timezone.utc).isoformat(" ", "minutes")[:16]
        for time in (min(times), max(times))
    )
    return f"The calls there are end from {first} to {last} UTC."


def tell(problems: Sequence[str], bad_lines: int) -> None:
    """Name the first lines that cannot be read on stderr, and count the others."""
    problems = problems[:NAMED_PROBLEMS]
    for problem in problems:
        print(problem, file=sys.stderr)
    if bad_lines > len(problems):
        print(f"... and {_count(bad_lines - len(problems), 'more line')} that could not be read whole", file=sys.stderr)


def tell_quarantined(held: Mapping[str, int], places: Iterable[str]) -> None:
    """Say on stderr which records are left out because the gateway found them at fault.

    Args:
        held: how many, by the gateway's reason.
        places: the files in which they stand.
    """
    if held:
        count = sum(held.values())
        files = " ".join(shlex.quote(place) for place in itertools.islice(places, NAMED_PROBLEMS))
        print(
            f"{_count(count, 'record')} {'is' if count == 1 else 'are'} quarantined, and not in the bill: "
            f"{reasons_of(held)}{f'; openai-metering verify {files}' if files else ''}",
            file=sys.stderr,
        )


def reasons_of(held: Mapping[str, int]) -> str:
    """Write reasons with their counts, the most frequent first."""
    ordered = sorted(held.items(), key=lambda one: (-one[1], one[0]))
    return ", ".join(f"{visible(reason)} {count:,}" for reason, count in ordered)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def size_of(file: Path) -> int:
    """Return the bytes of a file, 0 where it cannot be told."""
    try:
        return file.stat().st_size
    except OSError:  # reading it says so, in better words
        return 0
