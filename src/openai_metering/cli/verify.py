"""``openai-metering verify``: whether a ledger is whole."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from openai_metering.cli.failure import Failure
from openai_metering.cli.files import files_of
from openai_metering.cli.gathering import reasons_of
from openai_metering.cli.progress import Progress
from openai_metering.cli.records import TORN, read
from openai_metering.cli.tabular import source_of
from openai_metering.ledger.files import is_written, process_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

NAMED: Final = 5
"""How many findings of each kind are named one by one."""

_EPILOG: Final = """\
Findings, each of which makes the exit status 1:
  torn         a line that was cut: the disk was full, or the process was killed within the write
  unreadable   a line that is no usage record as docs/record.md describes it
  duplicate    a record that its own process wrote twice; every reader counts it once
  unresolved   a call that was under way when its process ended: its usage is unknown
  quarantined  a record that the gateway found at fault (docs/pipeline.md): it is in no bill

Told, and nothing wrong: calls that are under way in a process that lives, jobs whose end has not been seen,
and records of one job that several processes saw.

Examples:
  openai-metering verify ./ledger
  openai-metering verify ./ledger --format json | jq .unresolved
"""


_GO_ON: Final = (
    "  They are in no bill. Put right what the reason names (principals.csv, lookup.csv, the sender), then send them again:",
    "  openai-metering replay FILE --endpoint URL (the gateway checks them anew), and move the file away.",
)


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add ``verify`` to the command line."""
    parser = subparsers.add_parser(
        "verify",
        help="whether a ledger is whole: torn, duplicate and unresolved records",
        description="Check every line of a ledger.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("paths", nargs="+", metavar="DIR", help="a ledger folder, or a file of usage records")
    parser.add_argument("--format", choices=("text", "json"), default="text", help="(default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Check what the arguments name. Returns 1 where something is wrong."""
    for path in args.paths:
        _no_table(path)
    found = check(files_of(args.paths))
    if args.format == "json":
        print(json.dumps(found.document(), indent=2))
    else:
        for line in found.lines():
            print(line)
    return 0 if found.whole else 1


def _no_table(path: str) -> None:
    """A table has no lines that could be cut or repeated.

    Raises:
        Failure: the path is a table.
    """
    if source_of(path) is not None:
        raise Failure(
            f"{path} is a table, which has no lines: verify checks files of OTLP JSON lines, as a ledger and a "
            "Collector's file exporter write them. openai-metering report reads tables."
        )


@dataclass
class Findings:
    """What a ledger holds, and what is wrong with it; places are ``file:line``, calls are record ids."""

    files: int = 0
    written: int = 0
    """Files that a process still writes."""
    lines_read: int = 0
    calls: int = 0
    torn: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    duplicate: list[str] = field(default_factory=list)
    unresolved: list[str] = field(default_factory=list)
    under_way: int = 0
    pending: int = 0
    repeated: int = 0
    """Records of one state that several processes wrote for one job."""
    quarantined: dict[str, int] = field(default_factory=dict)
    """Records that the gateway found at fault, by its reason."""
    quarantine_files: list[str] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.torn or self.unreadable or self.duplicate or self.unresolved or self.quarantined)

    def document(self) -> dict[str, Any]:
        """Everything, for programs."""
        return {**vars(self), "whole": self.whole}

    def lines(self) -> list[str]:
        """Everything, for people."""
        told = [
            f"{self.files:,} files ({self.written:,} still written), {self.lines_read:,} lines, {self.calls:,} calls",
            f"{self.under_way:,} under way, {self.pending:,} pending, {self.repeated:,} repeated by other processes",
        ]
        for name in ("torn", "unreadable", "duplicate", "unresolved"):
            places = getattr(self, name)
            told.append(f"{name + ':':<12}{len(places):,}")
            told += [f"  {place}" for place in places[:NAMED]]
            if len(places) > NAMED:
                told.append(f"  ... and {len(places) - NAMED:,} more")
        if self.quarantined:
            told.append(f"quarantined: {sum(self.quarantined.values()):,} ({reasons_of(self.quarantined)})")
            told += [f"  {file}" for file in self.quarantine_files[:NAMED]]
            told += _GO_ON
        told.append("The ledger is whole." if self.whole else "The ledger is not whole.")
        return told


def check(files: Sequence[Path]) -> Findings:
    """Read every line of these files.

    Args:
        files: what to read.

    Returns:
        What was found.

    Raises:
        Failure: when a file cannot be read.
    """
    found = Findings(files=len(files), written=sum(map(is_written, files)))
    seen: dict[str, dict[str, set[str]]] = {}  # id -> state -> processes
    under_way: dict[str, str] = {}  # id of a `started` record -> why it has no end
    replaced: set[str] = set()
    held: Counter[str] = Counter()
    places: dict[str, None] = {}
    with Progress(sum(file.stat().st_size for file in files)) as progress:
        for line in read(files):
            found.lines_read += 1
            place = f"{line.file}:{line.number}"
            if line.quarantined:
                held.update(line.quarantined)
                places[str(line.file)] = None
            if line.foreign:
                found.unreadable.append(place)
            if line.problem is not None:
                (found.torn if line.problem == TORN else found.unreadable).append(place)
            for row in line.rows:
                process = process_of(line.file)
                writers = seen.setdefault(row.record_id, {}).setdefault(row.state, set())
                if process in writers:
                    found.duplicate.append(place)
                elif writers:
                    found.repeated += 1
                writers.add(process)
                if row.state == "started":
                    under_way[row.record_id] = row.reason or ""
                if row.started_id is not None:
                    replaced.add(row.started_id)
            progress.advance(line.size, len(seen))
    for record_id, states in seen.items():
        if record_id in replaced or "final" in states:
            continue
        if "pending" in states:
            found.pending += 1
        elif under_way[record_id] == "process_ended":
            found.unresolved.append(record_id)
        else:
            found.under_way += 1
    found.quarantined, found.quarantine_files = dict(held), list(places)
    found.calls = len(seen.keys() - replaced)
    return found
