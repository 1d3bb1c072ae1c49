"""What a large directory costs: to check, to compile, to change, and to look up for each record of a report."""

from __future__ import annotations

import argparse
import platform
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from openai_metering.cli.columns import columns_of
from openai_metering.cli.grouping import group
from openai_metering.cli.hierarchy import Hierarchy
from openai_metering.cli.records import UsageRow
from openai_metering.directory import edits, store
from openai_metering.directory.lookup import key_map, lookup
from openai_metering.directory.periods import moment, now

if TYPE_CHECKING:
    from collections.abc import Callable

RECORDS = 100_000


def make(folder: Path, credentials: int) -> None:
    """One organization for a hundred credentials, in four levels; two credentials for a person; one in ten has moved."""
    organizations, subscribers = max(1, credentials // 100), max(1, credentials // 2)
    store.init(folder)
    with (folder / "organizations.csv").open("a") as file:
        for number in range(organizations):
            parent = f"org-{number // 10}" if number >= 10 else ""
            file.write(f"org-{number},Organization {number},customer,{parent},,\n")
    with (folder / "subscribers.csv").open("a") as file:
        for number in range(subscribers):
            person = f"person{number}@example.org,Person {number}"
            if number % 10:
                file.write(f"{person},org-{number % organizations},active,,\n")
            else:
                file.write(f"{person},org-{number % organizations},active,,2026-07-16\n")
                file.write(f"{person},org-{(number + 1) % organizations},active,2026-07-16,\n")
    with (folder / "credentials.csv").open("a") as file:
        for number in range(credentials):
            ids = f"{number:016x},key_{number:016d},proj_{number % 50}"
            file.write(f"key{number}-app,person{number % subscribers}@example.org,,{ids},,\n")


def timed(work: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Return minimum and median in seconds of CPU time."""
    taken = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        taken.append(time.process_time() - start)
    return min(taken), statistics.median(taken)


def rows(credentials: int) -> list[UsageRow]:
    """Records that know their credential alone."""
    start = moment("2026-07-01")
    return [
        UsageRow(
            record_id=str(number),
            state="final",
            time_unix_nano=start + number * 26 * 10**9,
            attribution="partial",
            organization=None,
            subscriber=None,
            credential=f"key{number * 7919 % credentials}-app",
            tags=(),
            operation="responses",
            provider="openai",
            model="gpt-5",
            usage="reported",
            reason=None,
            input_tokens=100,
            cached_tokens=0,
            output_tokens=10,
            reasoning_tokens=0,
        )
        for number in range(RECORDS)
    ]


def measure(credentials: int, rounds: int) -> list[tuple[str, float, float]]:
    """Return rows of what was done, minimum and median in seconds."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "directory"
        make(folder, credentials)
        tables, problems = store.read(folder)
        if problems:
            raise RuntimeError(problems[0])

        def change() -> None:
            with store.editing(folder) as held:
                held["credential"] = edits.change(held, "credential", "key1-app", {"meta.x": "y"}, now(), rewrite=True)

        def compiled() -> None:
            store.write(folder / "lookup.csv", lookup(tables, now())[0])
            store.write(folder / "key_map.json", key_map(tables, now())[0])

        records = rows(credentials)
        by = columns_of("account,organization,subscriber,credential")
        return [
            ("read and check", *timed(lambda: store.read(folder), rounds)),
            ("compile lookup table and key map", *timed(compiled, rounds)),
            ("one change: lock, read, check, write", *timed(change, rounds)),
            (f"fill and group {RECORDS:,} records", *timed(lambda: group(Hierarchy(tables).fill(records), by), rounds)),
            (f"group {RECORDS:,} records without a directory", *timed(lambda: group(records, by), rounds)),
        ]


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 100_000], help="credentials")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    print("| CPU seconds, minimum / median | " + " | ".join(f"{size:,} credentials" for size in args.sizes) + " |")
    print("| --- |" + " ---: |" * len(args.sizes))
    measured = [measure(size, args.rounds) for size in args.sizes]
    for cells in zip(*measured, strict=True):
        print(f"| {cells[0][0]} | " + " | ".join(f"{least:.2f} / {median:.2f}" for _, least, median in cells) + " |")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"\nPython {platform.python_version()}, {args.rounds} rounds, at most {peak:,.0f} MiB.", file=sys.stderr)


if __name__ == "__main__":
    main()
