"""What a report over many records takes: compiling closed files once, and grouping what is compiled.

    python benchmarks/report.py [RECORDS]

The records are those of a simulated month (tests/answer/month.py), 200,000 of them as lines; beyond that, compiled files
are multiplied with ids of their own.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from pathlib import Path

import duckdb

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "answer"))
import month

from openai_metering.cli import compiled
from openai_metering.cli.columns import columns_of
from openai_metering.cli.engine import gather_compiled
from openai_metering.cli.gathering import gather, made
from openai_metering.cli.hierarchy import Hierarchy
from openai_metering.cli.period import UTC, Period

LINES = 200_000
BY = "organization,subscriber,credential,model,month"


def cpu():
    """CPU seconds of this process and of those that it waited for."""
    return sum(
        one.ru_utime + one.ru_stime for one in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def timed(what, size, make):
    start, used = time.perf_counter(), cpu()
    result = make()
    took, used = time.perf_counter() - start, cpu() - used
    print(f"{what:<90} {took:8.1f} s  {used:8.1f} s CPU  {1e6 * used / size:8.2f} us CPU a record", flush=True)
    return result


def multiplied(source, times, folder, cache):
    """Copies of a compiled file with ids of their own, each beside a file that it could have been compiled from."""
    files = []
    for number in range(times):
        file = folder / f"copy-{source.source.stem}-{number}.jsonl"
        with file.open("wb") as stream:
            stream.truncate(source.source.stat().st_size)
        target = compiled._target(file, cache)
        duckdb.sql(
            f"COPY (SELECT * REPLACE (md5(record_id || '-{number}')::UUID AS id, record_id || '-{number}' AS record_id) "
            f"FROM read_parquet('{source.parquet}') WHERE state = 'final') TO '{target}' (FORMAT parquet, COMPRESSION zstd)"
        )
        facts = (
            source.parquet.with_suffix(".json").read_text().replace(str(source.source.resolve()), str(file.resolve()))
        )
        target.with_suffix(".json").write_text(facts)
        files.append(file)
    return files


def main(records):
    with tempfile.TemporaryDirectory() as name:
        folder, cache = Path(name), Path(name) / "cache"
        lines = min(records, LINES)
        whole = timed(f"write {lines:,} lines", lines, lambda: month.write(folder, lines, organizations=1000))
        whole.served.clear()
        files = sorted(whole.ledger.glob("*.jsonl"))
        done, _ = timed("compile them, once", lines, lambda: compiled.compile_all(files, cache))
        size = sum(file.stat().st_size for file in files) / lines
        small = sum(one.parquet.stat().st_size for one in done) / lines
        print(f"{'bytes of a record, as a line and compiled':<62} {size:8.0f}    {small:12.0f}")
        if records > lines:
            files = [file for one in done for file in multiplied(one, records // lines, folder, cache)]
        total = duckdb.sql(
            f"SELECT count(*) FROM read_parquet({[str(compiled._target(one, cache)) for one in files]!r})"
        )
        count = total.fetchall()[0][0]
        columns = columns_of(BY)
        for directory in (None, whole.directory):
            hierarchy = None if directory is None else Hierarchy.read(str(directory))

            def report(hierarchy=hierarchy):
                gathered = gather_compiled(files, cache, BY.split(","), UTC, [Period()], hierarchy)
                return made(gathered.rows, columns, gathered)

            found = timed(f"group {count:,} by {BY}{' with a directory' if directory else ''}", count, report)
            print(f"{'groups':<62} {len(found.rows):8,}")
        print(f"{'memory, MiB':<62} {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:8,.0f}", flush=True)
        part = sorted(whole.ledger.glob("*.jsonl"))[:1]
        one = lines // 4
        timed(
            f"group {one:,} lines as they are, for comparison",
            one,
            lambda: made(gather(part).rows, columns, gather_none()),
        )


def gather_none():
    from openai_metering.cli.gathering import Gathered

    return Gathered([], 0, 0)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000_000)
