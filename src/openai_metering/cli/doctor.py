"""``openai-metering doctor``: whether what is installed here meters calls, and what to do where it does not."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import secrets
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from openai_metering.cli.diagnosis import Finding, all_findings, endpoint_of
from openai_metering.cli.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Iterator

TEST_EVENT: Final = "openai_metering.test"
"""The event name of a test record, which no reader bills."""
_ID: Final = "openai_metering.record.id"
_SIGNS: Final = {"ok": "ok", "info": "-", "warning": "!", "wrong": "x"}
_PAUSE: Final = 0.2

_EXAMPLES: Final = """\
Run it with the environment of the application: its variables, its user, its virtual environment.

Examples:
  openai-metering doctor
  opentelemetry-instrument openai-metering doctor
  openai-metering doctor --send --arrives ./openai-metering
  openai-metering doctor --format json | jq '.findings[] | select(.state == "wrong")'

Exit status: 0 where nothing is wrong, 1 where something is, 2 where it could not be told.
"""


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add ``doctor`` to the command line."""
    parser = subparsers.add_parser(
        "doctor",
        help="what is installed and active, and what to do where calls are not metered",
        description="Look at everything that metering depends on, and try it.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--send",
        action="store_true",
        help=f"send one test record to the endpoint, under the event name {TEST_EVENT}, which no reader bills",
    )
    parser.add_argument(
        "--arrives",
        metavar="PATH",
        help="with --send: wait until the test record stands in this file, or in one of this folder",
    )
    parser.add_argument(
        "--patience", type=float, default=30.0, metavar="SECONDS", help="how long (default: %(default)g)"
    )
    parser.add_argument("--format", choices=("text", "json"), default="text", help="(default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Look, and say what was found."""
    if args.arrives is not None and not args.send:
        raise Failure("--arrives waits for a test record: give --send, too.")
    findings: list[Finding] = []
    for finding in _findings(args):
        findings.append(finding)
        if args.format == "text":
            _print(finding)
    wrong = [finding for finding in findings if finding.state == "wrong"]
    warnings = [finding for finding in findings if finding.state == "warning"]
    if args.format == "json":
        json.dump({"wrong": len(wrong), "findings": [asdict(finding) for finding in findings]}, sys.stdout, indent=2)
        print()
    else:
        _conclude(wrong, warnings)
    return 1 if wrong else 0


def _findings(args: argparse.Namespace) -> Iterator[Finding]:
    yield from all_findings()
    if args.send:
        yield from _sent(args.arrives, args.patience)


def _print(finding: Finding) -> None:
    print(f"{_SIGNS[finding.state]:>2}  {finding.name}: {finding.text}", flush=True)
    if finding.advice is not None:
        print(f"      {finding.advice}")


def _conclude(wrong: list[Finding], warnings: list[Finding]) -> None:
    print()
    if wrong:
        print(f"{len(wrong)} to put right:")
        for number, finding in enumerate(wrong, 1):
            print(f"  {number}. {finding.name}: {finding.advice or finding.text}")
    elif warnings:
        print("Calls are metered. Look at the lines marked with !.")
    else:
        print("Calls are metered. Next: openai-metering report on the ledger, or on what the Collector wrote.")


# -- The test record -------------------------------------------------------------------------------------------------


def _sent(arrives: str | None, patience: float) -> Iterator[Finding]:
    """Send a test record by the exporter that the environment chooses, and wait for it at the other end."""
    name = f"test-{secrets.token_hex(12)}"
    protocol = endpoint_of()[1]
    try:
        accepted = _exported(name, protocol)
    except ModuleNotFoundError as error:
        yield Finding("test record", "wrong", f"{error.name} is not installed", "pip install 'openai-metering[otlp]'")
        return
    if not accepted:
        advice = "Look at the Collector's log; TLS, authentication and the protocol are the usual reasons."
        yield Finding("test record", "wrong", f"not accepted by the endpoint ({protocol})", advice)
        return
    yield Finding("test record", "ok", f"accepted by the endpoint ({protocol}), event {TEST_EVENT}, id {name}")
    if arrives is None:
        return
    file = _arrived(Path(arrives), name, patience)
    if file is None:
        advice = "Look at the pipeline behind the endpoint: its routes, its queue, and the rights of its folder."
        yield Finding("test record", "wrong", f"not below {arrives} after {patience:g} s", advice)
    else:
        yield Finding("test record", "ok", f"arrived in {file}")


def _exported(name: str, protocol: str) -> bool:
    """Export one record, and return whether the endpoint took it."""
    from opentelemetry._logs import LogRecord, SeverityNumber  # noqa: PLC0415 - the rest needs extras
    from opentelemetry.sdk._logs import LoggerProvider  # noqa: PLC0415
    from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor  # noqa: PLC0415

    transport = "grpc" if protocol == "grpc" else "http"
    exporter: Any = importlib.import_module(
        f"opentelemetry.exporter.otlp.proto.{transport}._log_exporter"
    ).OTLPLogExporter
    results: list[Any] = []

    class Noting(exporter):  # type: ignore[misc]
        """The exporter itself, whose result is looked at."""

        def export(self, *args: Any, **kwargs: Any) -> Any:
            result = super().export(*args, **kwargs)
            results.append(result)
            return result

    provider = LoggerProvider()
    provider.add_log_record_processor(SimpleLogRecordProcessor(Noting(timeout=10)))
    provider.get_logger(TEST_EVENT).emit(
        LogRecord(
            timestamp=time.time_ns(),
            severity_number=SeverityNumber.INFO,
            event_name=TEST_EVENT,
            attributes={_ID: name},
        )
    )
    provider.shutdown()
    return bool(results) and all(result.name == "SUCCESS" for result in results)


def _arrived(place: Path, name: str, patience: float) -> Path | None:
    """Wait until an id stands in a file."""
    deadline = time.monotonic() + patience
    wanted = name.encode()
    read: dict[Path, int] = {}
    while True:
        for file in [place] if place.is_file() else sorted(place.rglob("*.jsonl")):
            with file.open("rb") as stream:
                stream.seek(max(0, read.get(file, 0) - len(wanted)), os.SEEK_SET)
                new = stream.read()
                read[file] = stream.tell()
            if wanted in new:
                return file
        if time.monotonic() > deadline:
            return None
        time.sleep(_PAUSE)
