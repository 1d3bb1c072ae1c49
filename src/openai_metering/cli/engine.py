"""Many records at once: calls that are alike are added up in DuckDB, and go through the report as one row with a weight.

What takes thought (ids that are there more than once, jobs, records that replace others) is read as it is and joined
like any other record, so that the report is the same as without this.
"""

from __future__ import annotations

import itertools
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from openai_metering.cli.columns import TAG_PREFIX, TIMES
from openai_metering.cli.compiled import COLUMNS, compile_all, number_of, rows_of, tags_of
from openai_metering.cli.gathering import Gathered, nothing_there, tell, tell_quarantined
from openai_metering.cli.joining import Calls
from openai_metering.cli.period import nanoseconds
from openai_metering.cli.records import UsageRow, read

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from openai_metering.cli.hierarchy import Hierarchy
    from openai_metering.cli.period import Period

WORTH: Final = 64 * 2**20
"""Bytes of files below which reading them as they are is as quick."""
_BOUNDS: Final = 400  # moments between which calls are told apart; beyond, every call is read
_WHO: Final = ("organization", "subscriber", "credential")
_OTHERS: Final = ("model", "operation", "provider")


def gather_compiled(
    files: Sequence[Path],
    folder: Path,
    names: Iterable[str],
    zone: dt.tzinfo,
    periods: Iterable[Period],
    hierarchy: Hierarchy | None,
) -> Gathered | None:
    """Gather the calls of closed files from what they were compiled into, and of the others as always.

    Args:
        files: files of lines.
        folder: where compiled files are kept.
        names: the columns that the report looks at, also in its filters.
        zone: whose days are meant.
        periods: those that calls are asked for.
        hierarchy: a directory that knows what records do not say.

    Returns:
        The calls, those that are alike as one row; ``None`` where this way does not lead to the same report: some records
        say what they cost, or the report tells too many moments apart.

    Raises:
        Failure: no file holds a usage record, or one cannot be read.
    """
    import duckdb  # noqa: PLC0415 - an extra

    compiled, rest = compile_all(files, folder)
    if any(one.priced for one in compiled) or not compiled:
        return None
    names = set(names)
    calls = Calls()
    lines = sum(one.lines for one in compiled)
    bad_lines = sum(one.bad_lines for one in compiled)
    problems = [problem for one in compiled for problem in one.problems]
    held: Counter[str] = Counter()
    places: dict[str, None] = {}
    for one in compiled:
        held.update(one.quarantined)
        if one.quarantined:
            places[str(one.source)] = None
    for line in read(rest):
        lines += 1
        held.update(line.quarantined)
        if line.quarantined:
            places[str(line.file)] = None
        if line.problem is not None:
            bad_lines += 1
            problems.append(f"{line.file}:{line.number}: {line.problem}")
        for row in line.rows:
            calls.add(row)
    with duckdb.connect() as connection:
        connection.read_parquet([str(one.parquet) for one in compiled]).create_view("records")
        bounds = _bounds(connection, names, zone, periods, hierarchy)
        if len(bounds) > _BOUNDS:
            return None
        repeated = _mark(connection, calls)
        found = connection.execute("SELECT * FROM thought")
        for row in rows_of(_batches(found)):
            calls.add(row)
        alike = list(_alike(connection, names, bounds, by_who=hierarchy is not None))
    tell(problems, bad_lines)
    tell_quarantined(held, places)
    rows: Iterable[UsageRow] = itertools.chain(calls.rows(), alike)
    gathered = list(rows if hierarchy is None else hierarchy.fill(rows))
    if not gathered:
        nothing_there(len(files), lines)
    return Gathered(gathered, calls.duplicates + repeated, bad_lines, held.total())


def _mark(connection: Any, calls: Calls) -> int:
    """Part the records: `thought` are those to be joined one by one, `plain` are one record for each other call.

    To be joined are the records of an id that is there with different ones, here or in files that are read as lines, or that
    others replace. A record that is there twice as it is, is one, and is counted.

    Returns:
        How many records repeat one as it is.
    """
    columns = ", ".join(f'"{name}"' for name in COLUMNS)
    connection.execute(
        "CREATE TEMP TABLE hard AS SELECT id FROM records WHERE started IS NOT NULL "
        "UNION SELECT started FROM records WHERE started IS NOT NULL"
    )
    known = [number_of(name) for name in calls.names()]
    if known:
        connection.execute("INSERT INTO hard SELECT unnest(?::VARCHAR[])::UUID", [known])
    connection.execute(
        "CREATE TEMP TABLE marked AS SELECT id FROM records GROUP BY id HAVING count(*) > 1 UNION SELECT id FROM hard"
    )
    connection.execute(
        f"CREATE TEMP TABLE again AS SELECT {columns}, count(*) AS times FROM records SEMI JOIN marked USING (id) "  # noqa: S608 - names
        "GROUP BY ALL"
    )
    connection.execute(
        "CREATE TEMP TABLE single AS SELECT id FROM (SELECT id FROM again GROUP BY id HAVING count(*) = 1) ANTI JOIN hard USING (id)"
    )
    connection.execute(
        f"CREATE VIEW plain AS SELECT {columns} FROM records ANTI JOIN marked USING (id) "  # noqa: S608 - names
        f"UNION ALL SELECT {columns} FROM again SEMI JOIN single USING (id)"
    )
    # As often as they are there, so that those which repeat one are counted.
    connection.execute(
        f"CREATE VIEW thought AS SELECT {columns} FROM (SELECT *, unnest(range(times)) FROM again ANTI JOIN single USING (id))"  # noqa: S608 - names
    )
    (repeated,) = connection.execute(
        "SELECT coalesce(sum(times - 1), 0)::BIGINT FROM again SEMI JOIN single USING (id)"
    ).fetchone()
    return int(repeated)


def _bounds(
    connection: Any, names: set[str], zone: dt.tzinfo, periods: Iterable[Period], hierarchy: Hierarchy | None
) -> list[int]:
    """Return the moments between which all calls are alike for the report."""
    first, last = connection.execute("SELECT min(time), max(time) FROM records").fetchone()
    if first is None:
        return []
    found = {nanoseconds(one) for period in periods for one in (period.start, period.end) if one is not None}
    if hierarchy is not None:
        found |= set(hierarchy.bounds)
    for name in names & set(TIMES):
        found |= set(itertools.islice(_turns(name, zone, first, last), _BOUNDS + 1))
    return sorted(bound for bound in found if first < bound <= last)


def _turns(name: str, zone: dt.tzinfo, first: int, last: int) -> Iterator[int]:
    """Return the moments at which a day, week or month begins on the clock of a zone."""
    import datetime as dt  # noqa: PLC0415 - for the type checker above, and here for its values

    day = dt.datetime.fromtimestamp(first // 10**9, zone).replace(hour=0, minute=0, second=0, microsecond=0)
    while nanoseconds(day) <= last:
        begins = {"day": True, "week": day.weekday() == 0, "month": day.day == 1}[name]
        if begins:
            yield nanoseconds(day)
        day = (day.replace(tzinfo=None) + dt.timedelta(days=1)).replace(tzinfo=zone)


def _alike(connection: Any, names: set[str], bounds: Sequence[int], *, by_who: bool) -> Iterator[UsageRow]:
    """Add up the calls whose ids are there once, by everything that the report looks at."""
    tagged = any(name.startswith(TAG_PREFIX) for name in names)
    who = [name if by_who or name in names else f"NULL::VARCHAR AS {name}" for name in _WHO]
    others = [name if name in names else f"NULL::VARCHAR AS {name}" for name in _OTHERS]
    tags = "tags" if tagged else "NULL::VARCHAR AS tags"
    slot = " + ".join(f"(time >= {bound})::INT" for bound in bounds) or "0"
    found = connection.execute(
        f"SELECT state, attribution, usage, reason, {', '.join(who)}, {', '.join(others)}, {tags}, "  # noqa: S608 - names and numbers
        f"{slot} AS slot, time IS NULL AS untimed, input IS NULL AND output IS NULL AS tokenless, "
        "max(time), count(*), sum(input)::HUGEINT, sum(cached)::HUGEINT, sum(output)::HUGEINT, sum(reasoning)::HUGEINT "
        "FROM plain GROUP BY ALL"
    )
    for one in _batches(found):
        yield UsageRow(
            record_id="",
            state=one[0],
            attribution=one[1],
            usage=one[2],
            reason=one[3],
            organization=one[4],
            subscriber=one[5],
            credential=one[6],
            model=one[7],
            operation=one[8],
            provider=one[9],
            tags=tags_of(one[10]),
            time_unix_nano=one[14],
            input_tokens=None if one[13] else one[16] or 0,
            cached_tokens=one[17],
            output_tokens=None if one[13] else one[18] or 0,
            reasoning_tokens=one[19],
            weight=one[15],
        )


def _batches(found: Any) -> Iterator[tuple[Any, ...]]:
    while batch := found.fetchmany(10_000):
        yield from batch


assert len(COLUMNS) == 20  # noqa: PLR2004, S101 - the order in which `rows_of` reads them
