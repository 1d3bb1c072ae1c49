"""``openai-metering replay``: sends ledger files to a Collector again."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import sys
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from openai_metering.cli.costs import Costs
from openai_metering.cli.failure import Failure
from openai_metering.cli.files import files_of
from openai_metering.cli.progress import Progress
from openai_metering.cli.records import QUARANTINE_REASON
from openai_metering.cli.sending import Refused, Sender
from openai_metering.signals.conventions import USAGE_EVENT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

BATCH_LINES: Final = 500
BATCH_BYTES: Final = 1024 * 1024
NAMED: Final = 5
_MONTH: Final = re.compile(r"\d{4}-\d\d", re.ASCII)

_EPILOG: Final = """\
Every record keeps its id, so that readers count it once however often it is sent. What was acknowledged is noted in a
state file: the same command goes on where the last one ended, and sends what was written since. Times are UTC.

Examples:
  openai-metering replay ./ledger --endpoint http://localhost:4318
  openai-metering replay ./ledger --from 2026-07 --to 2026-08 --endpoint https://collector.example
  openai-metering replay ./ledger --endpoint https://collector.example --header "authorization=Bearer $TOKEN"
  openai-metering replay ./ledger --endpoint http://localhost:4318 --prices prices.toml

Exit status: 0 everything was sent, 1 some lines could not be (they are named), 2 it could not be finished.
"""


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add ``replay`` to the command line."""
    parser = subparsers.add_parser(
        "replay",
        help="send ledger files to a Collector, over OTLP",
        description="Send ledger files, or a time range of them, over OTLP/HTTP; safe to repeat.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("paths", nargs="+", metavar="DIR", help="a ledger folder, or a file of usage records")
    parser.add_argument("--endpoint", required=True, metavar="URL", help="of the Collector's OTLP/HTTP receiver")
    parser.add_argument(
        "--from", dest="since", metavar="TIME", help="only calls that ended at this month, date or time, or later"
    )
    parser.add_argument(
        "--to", dest="until", metavar="TIME", help="only calls that ended before this month, date or time"
    )
    parser.add_argument(
        "--header", action="append", default=[], metavar="NAME=VALUE", help="send this header; may be repeated"
    )
    parser.add_argument(
        "--price",
        action="store_true",
        help="put what each call costs onto its record, at list prices (pip install 'openai-metering[cost]'); amounts "
        "that are there stay",
    )
    parser.add_argument("--prices", metavar="FILE", help="price file: every record is priced by it, also again")
    parser.add_argument("--state", metavar="FILE", help="the state file (default: a hidden file in the first DIR)")
    parser.add_argument("--restart", action="store_true", help="send everything again, whatever the state file says")
    parser.add_argument(
        "--patience",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="how long to retry one request (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Send what the arguments name. Returns 1 where lines could not be sent."""
    since, until = _time(args.since, "--from"), _time(args.until, "--to")
    endpoint = _endpoint(args.endpoint)
    costs = Costs(args.prices) if args.price or args.prices is not None else None
    if costs is not None and not costs.has_prices:
        raise Failure(
            "--price needs list prices: pip install 'openai-metering[cost]' (Python 3.11), or give --prices FILE."
        )
    sender = Sender(endpoint, dict(_header(text) for text in args.header), args.patience)
    files = files_of(args.paths)
    what: tuple[object, ...] = (endpoint, since, until)
    if costs is not None:  # sent before without prices, a record is to be sent again
        what = (*what, None if args.prices is None else str(Path(args.prices).resolve()))
    state = State.load(_state_path(args.state, args.paths[0], what), restart=args.restart)
    replay = _Replay(sender, state, since, until, costs)
    replay.send(files)
    for place in replay.left_out[:NAMED]:
        print(place, file=sys.stderr)
    if len(replay.left_out) > NAMED:
        print(f"... and {len(replay.left_out) - NAMED:,} more", file=sys.stderr)
    print(
        f"{replay.sent:,} lines sent to {endpoint}, {replay.earlier:,} bytes had been before, "
        f"{len(replay.left_out) + sender.rejected:,} not accepted."
    )
    return 1 if replay.left_out or sender.rejected else 0


@dataclass
class State:
    """How far each file was acknowledged, in bytes; kept in a file."""

    path: Path
    files: dict[str, int]

    @classmethod
    def load(cls, path: Path, *, restart: bool) -> State:
        """Read the state, an empty one where there is none.

        Raises:
            Failure: the file is not a state file.
        """
        if restart or not path.exists():
            return cls(path, {})
        try:
            files = json.loads(path.read_text("utf-8"))["files"]
            return cls(path, {str(name): int(offset) for name, offset in files.items()})
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise Failure(f"{path} is no state file of replay. Delete it, or run with --restart.") from error

    def save(self) -> None:
        """Write the state, so that a crash leaves the old one or the new one.

        Raises:
            Failure: the file cannot be written.
        """
        beside = self.path.with_name(f"{self.path.name}.{os.getpid()}")
        try:
            beside.write_text(json.dumps({"files": self.files}), "utf-8")
            beside.replace(self.path)
        except OSError as error:
            raise Failure(
                f"the state file {self.path} cannot be written: {error.strerror}. Name another one with --state."
            ) from error


@dataclass(frozen=True, slots=True)
class _Line:
    place: str
    resource_logs: list[Any]


class _Replay:
    """Sends files, and notes what was acknowledged."""

    def __init__(
        self, sender: Sender, state: State, since: int | None, until: int | None, costs: Costs | None = None
    ) -> None:
        self._sender = sender
        self._state = state
        self._since = since
        self._until = until
        self._costs = costs
        self.sent = 0
        self.earlier = 0
        self.left_out: list[str] = []

    def send(self, files: Sequence[Path]) -> None:
        """Send these files, each from where it was acknowledged last."""
        self._state.save()  # whether it can be written is better known now than after the first batch
        with Progress(sum(file.stat().st_size for file in files), "Sending", "lines", stride=1) as progress:
            for file in files:
                name = str(file.resolve())
                start = self._state.files.get(name, 0)
                self.earlier += start
                progress.advance(start, self.sent)
                for batch, end in self._batches(file, start):
                    self._send(batch)
                    progress.advance(end - self._state.files.get(name, 0), self.sent)
                    self._state.files[name] = end
                    self._state.save()

    def _batches(self, file: Path, start: int) -> Iterator[tuple[list[_Line], int]]:
        """Give the lines of a file in batches, each with the position behind its last line."""
        batch: list[_Line] = []
        begin = end = start
        try:
            with file.open("rb") as stream:
                number = _lines_before(stream, start)
                for line in stream:
                    if not line.endswith(b"\n"):
                        break  # torn, or still being written
                    number += 1
                    end += len(line)
                    wanted = self._wanted(line, f"{file}:{number}")
                    if wanted is not None:
                        batch.append(wanted)
                    if len(batch) >= BATCH_LINES or end - begin >= BATCH_BYTES:
                        yield batch, end
                        batch, begin = [], end
        except OSError as error:
            raise Failure(f"cannot read {file}: {error.strerror}. Put that right and run again.") from error
        if end > begin:
            yield batch, end

    def _wanted(self, line: bytes, place: str) -> _Line | None:
        try:
            resource_logs = json.loads(line)["resourceLogs"]
            times = [
                int(record.get("timeUnixNano", 0))
                for resource in resource_logs
                for scope in resource["scopeLogs"]
                for record in scope["logRecords"]
            ]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            self.left_out.append(f"{place}: torn, or no usage record: not sent")
            return None
        if any(
            (self._since is None or time >= self._since) and (self._until is None or time < self._until)
            for time in times
        ):
            for resource in resource_logs:
                _release(resource)
            if self._costs is not None:
                self._price(self._costs, resource_logs)
            return _Line(place, resource_logs)
        return None

    def _price(self, costs: Costs, resource_logs: list[Any]) -> None:
        for resource in resource_logs:
            for scope in resource["scopeLogs"]:
                for record in scope["logRecords"]:
                    if record.get("eventName") == USAGE_EVENT:
                        with suppress(ValueError):  # attributes that are none: sent as they are
                            costs.add_to(record)

    def _send(self, batch: list[_Line]) -> None:
        """Send a batch; one that is refused is sent in halves, until the line that is at fault is alone."""
        if not batch:
            return
        try:
            self._sender.send([one for line in batch for one in line.resource_logs])
            self.sent += len(batch)
        except Refused as refused:
            if len(batch) == 1:
                self.left_out.append(f"{batch[0].place}: refused with status {refused.status}")
                return
            middle = len(batch) // 2
            self._send(batch[:middle])
            self._send(batch[middle:])


def _release(resource_logs: dict[str, Any]) -> None:
    """Take off why a gateway had put a record aside: whoever receives it judges it anew."""
    for scope in resource_logs["scopeLogs"]:
        for record in scope["logRecords"]:
            attributes = record.get("attributes")
            if isinstance(attributes, list):
                record["attributes"] = [
                    one for one in attributes if not (isinstance(one, dict) and one.get("key") == QUARANTINE_REASON)
                ]


def _lines_before(stream: Any, start: int) -> int:
    """Move to a position, and count the lines before it."""
    number = 0
    while stream.tell() < start and stream.readline():
        number += 1
    return number


def _time(text: str | None, name: str) -> int | None:
    """Nanoseconds since the epoch of a month, or an ISO 8601 date or time, UTC where it names no zone."""
    if text is None:
        return None
    full = f"{text.strip()}-01" if _MONTH.fullmatch(text.strip()) else text
    try:
        time = datetime.fromisoformat(full.replace("Z", "+00:00"))
    except ValueError as error:
        raise Failure(f"{name} {text} is no time: give 2026-07, 2026-07-01 or 2026-07-01T12:00:00.") from error
    if time.tzinfo is None:
        time = time.replace(tzinfo=timezone.utc)
    return int(time.timestamp()) * 10**9


def _endpoint(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise Failure(f"--endpoint {text} is no address: give http://HOST:4318 or https://HOST.")
    path = parts.path.rstrip("/")
    return parts._replace(path=path if path.endswith("/v1/logs") else f"{path}/v1/logs").geturl()


def _header(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not name.strip():
        raise Failure("--header takes NAME=VALUE.")
    return name.strip(), value.strip()


def _state_path(given: str | None, first: str, key: tuple[object, ...]) -> Path:
    if given is not None:
        return Path(given)
    folder = Path(first) if Path(first).is_dir() else Path(first).parent
    return folder / f".replay-{hashlib.sha256(repr(key).encode()).hexdigest()[:12]}.json"
