"""``report --watch``: a live view of what is being used now, by whom."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from openai_metering.cli import shaping
from openai_metering.cli.failure import Failure
from openai_metering.cli.files import PATTERN
from openai_metering.cli.gathering import Gathered, made
from openai_metering.cli.grouping import tokens_of
from openai_metering.cli.joining import Calls
from openai_metering.cli.records import MAX_LINE_BYTES, parse
from openai_metering.cli.table import view

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from openai_metering.cli.asked import Asked
    from openai_metering.cli.records import UsageRow

_PAUSE: Final = 1.0  # seconds between two looks
_MINUTE: Final = 60 * 10**9
_ROWS: Final = 20
_KEPT: Final = 2  # how many times the window is kept, before what is older is let go


class Tail:
    """Follows files of lines, also those that come later; a line is read once, when it has its end.

    Args:
        paths: files, and folders in which files come and go.
        facts: names of further attributes that are kept.
        since: files that did not change from this moment on, in seconds since 1970, are passed over at first.
    """

    def __init__(self, paths: Sequence[str], facts: frozenset[str], since: float) -> None:
        self._paths = [Path(path) for path in paths]
        self._facts = facts
        self._since = since
        self._places: dict[Path, int] = {}

    def rows(self) -> Iterator[UsageRow]:
        """Return the records that were written since the last time."""
        for path in self._paths:
            for file in sorted(path.rglob(PATTERN)) if path.is_dir() else [path]:
                yield from self._new(file)

    def _new(self, file: Path) -> Iterator[UsageRow]:
        try:
            found = file.stat()
            place = self._places.get(file)
            if place is None:
                place = found.st_size if found.st_mtime < self._since else 0
            if found.st_size < place:  # written anew
                place = 0
            self._places[file] = place
            if found.st_size == place:
                return
            with file.open("rb") as stream:
                stream.seek(place)
                while (line := stream.readline(MAX_LINE_BYTES)).endswith(b"\n"):
                    self._places[file] += len(line)
                    yield from parse(line, self._facts)[0]
        except FileNotFoundError:  # deleted meanwhile, or not there yet
            return


def watch(paths: Sequence[str], asked: Asked, *, minutes: float, count: int | None) -> int:
    """Show the calls of the last minutes, over and over, until somebody interrupts it.

    Args:
        paths: files and folders.
        asked: columns, filters, prices and directory of the report.
        minutes: how far back it looks.
        count: how many groups are shown; 20 where left out.

    Returns:
        The exit status.

    Raises:
        Failure: there is no terminal, or a path that is no file of lines.
    """
    console = Console(highlight=False)
    if not sys.stdout.isatty():
        raise Failure("--watch needs a terminal; without it, report gives what is there now.")
    missing = next((path for path in paths if not Path(path).exists()), None)
    if missing is not None:
        raise Failure(f"{missing} does not exist. --watch follows ledger folders and files of a Collector.")
    window = int(minutes * _MINUTE)
    tail = Tail(paths, asked.facts, time.time() - minutes * 60)
    calls = Calls()
    try:
        with Live(console=console, screen=True, auto_refresh=False) as live:
            while True:
                for row in tail.rows():
                    calls.add(row)
                now = time.time_ns()
                live.update(_shown(calls, asked, console, now, window, count or _ROWS), refresh=True)
                calls = _recent(calls, now - _KEPT * window)
                time.sleep(_PAUSE)
    except KeyboardInterrupt:
        return 0


def _recent(calls: Calls, since: int) -> Calls:
    """Let go what is too old to be shown again, once it is most of what is held."""
    rows = [row for row in calls.rows() if row.time_unix_nano is None or row.time_unix_nano >= since]
    if 2 * len(rows) > len(calls):
        return calls
    kept = Calls()
    for row in rows:
        kept.add(row)
    return kept


def _shown(calls: Calls, asked: Asked, console: Console, now: int, window: int, count: int) -> Group:
    held = calls.rows() if asked.hierarchy is None else asked.hierarchy.fill(calls.rows())
    rows = [row for row in held if row.time_unix_nano is not None and row.time_unix_nano > now - window]
    if asked.filters:
        rows = list(asked.filters.of(rows))
    last = [row for row in rows if (row.time_unix_nano or 0) > now - _MINUTE]
    tokens = sum((own.input + own.output for own in map(tokens_of, last)), 0)
    clock = time.strftime("%H:%M:%S")
    head = Text(
        f"{clock}  last minute: {len(last):,} calls, {tokens:,} tokens. Below: the last {window / _MINUTE:g} minutes. Ctrl-C ends.",
        style="bold",
    )
    if not rows:
        return Group(head, Text("Nothing yet: calls appear here when they end."))
    if asked.costs is not None:
        asked.costs.settle(rows)
    report = shaping.top(made(rows, asked.columns, Gathered(rows, 0, 0), asked.costs), count)
    if asked.hierarchy is not None:
        report = asked.hierarchy.named(report, columns=False)
    return Group(head, Text(), view(report, console))
