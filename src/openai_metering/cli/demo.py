"""``openai-metering demo``: from OpenAI calls to a bill, on this machine alone."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from openai_metering.cli.failure import Failure
from openai_metering.signals import conventions as c

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

APPLICATION: Final = "openai_metering.local.demo_app"
HTTP_REFUSED: Final = 400
DEADLINE: Final = 60.0  # seconds for the application, and for its records to arrive


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add ``demo`` to the command line."""
    parser = subparsers.add_parser(
        "demo",
        help="the whole way once, on this machine alone: no API key, no network",
        description=(
            "Start a stand-in of the provider and a telemetry pipeline, run a small application of three customers "
            "under opentelemetry-instrument, and print who used what."
        ),
    )
    parser.add_argument(
        "--output",
        metavar="DIR",
        default="openai-metering-demo",
        help="folder for what the pipeline receives; each run gets one of its own in it (default: %(default)s)",
    )
    parser.add_argument(
        "--pipeline",
        choices=("auto", "collector", "embedded"),
        default="auto",
        help="a real Collector, the embedded receiver, or the Collector where one is found (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Run the demonstration."""
    parts = _parts()
    folder = _folder(Path(args.output))
    with parts.provider() as provider:
        with _pipeline(args.pipeline, folder) as endpoint:
            print(
                f"Application: {APPLICATION} under opentelemetry-instrument, against a stand-in of the provider",
                flush=True,
            )
            _run_application(provider.base_url, endpoint)
            served = provider.served
            _wait(lambda: _lines(folder / "records.jsonl") >= len(served), "usage records")
            _wait(lambda: _lines(folder / "spans.jsonl") >= len(served), "spans")
        print()
        _report(folder / "records.jsonl")
        agrees = _compare(served, folder / "records.jsonl")
    _print_span(folder / "spans.jsonl")
    print("\nFiles:")
    for file in sorted(folder.glob("*.jsonl")):
        print(f"  {_shown(file)}")
    print(f"\nAgain from these files: {_shown(Path(sys.argv[0]))} report {_shown(folder)} --by organization,model")
    return 0 if agrees else 1


# -- Parts -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Parts:
    provider: Callable[[], Any]
    receiver: Callable[[Path], Any]


def _parts() -> _Parts:
    """What the demonstration is made of; all of it comes with the extra ``demo``."""
    try:
        import openai  # noqa: F401, PLC0415 - only looked for
        import opentelemetry.exporter.otlp.proto.http  # noqa: PLC0415
        import opentelemetry.sdk  # noqa: F401, PLC0415
        import rich  # noqa: F401, PLC0415

        from openai_metering.local.provider import ProviderStandIn  # noqa: PLC0415
        from openai_metering.local.receiver import OtlpReceiver  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise Failure(f"the demo needs {error.name}: pip install 'openai-metering[demo]'.") from error
    return _Parts(ProviderStandIn, OtlpReceiver)


def _folder(output: Path) -> Path:
    folder = output / time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    number = 1
    while folder.exists():
        number += 1
        folder = output / f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{number}"
    try:
        folder.mkdir(mode=0o700, parents=True)
    except OSError as error:
        raise Failure(
            f"the folder {folder} cannot be made: {error.strerror or error}. Name another one with --output DIR."
        ) from error
    return folder


@contextlib.contextmanager
def _pipeline(wanted: str, folder: Path) -> Iterator[str]:
    """Start the pipeline, say which one it is, and give its OTLP/HTTP endpoint."""
    from openai_metering.local.collector import LocalCollector  # noqa: PLC0415 - `--help` needs no Collector
    from openai_metering.local.discovery import CollectorError, find_collector  # noqa: PLC0415 - likewise

    if wanted != "embedded":
        try:
            choice = find_collector()
        except CollectorError as error:
            if wanted == "collector":
                raise Failure(str(error)) from error
        else:
            print(f"Pipeline:    OpenTelemetry Collector with local.yaml ({_shown(choice.binary)})")
            if os.environ.get("OTELCOL") and choice.refused:  # asked for first, so refused first
                print(f"             OTELCOL is not used: {choice.refused[0].reason}", file=sys.stderr)
            with contextlib.ExitStack() as stack:
                try:
                    collector = stack.enter_context(LocalCollector(folder, binary=choice.binary))
                except CollectorError as error:
                    raise Failure(str(error)) from error
                yield collector.http_endpoint
            return
    with _parts().receiver(folder) as receiver:
        print("Pipeline:    the embedded OTLP receiver, in place of a Collector")
        print(
            "             (the real one: `make collector` builds it, or set OTELCOL to a contrib Collector 0.158 or newer)"
        )
        yield receiver.endpoint


def _run_application(base_url: str, endpoint: str) -> None:
    launcher = shutil.which("opentelemetry-instrument", path=str(Path(sys.executable).parent)) or shutil.which(
        "opentelemetry-instrument"
    )
    if launcher is None:
        raise Failure("opentelemetry-instrument is not installed: pip install 'openai-metering[otlp]'.")
    # A clean slate: what the user has set for other applications must not reach this one.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "OPENAI_"))}
    loopback = ",".join(
        filter(None, [environment.get("no_proxy") or environment.get("NO_PROXY"), "127.0.0.1,localhost"])
    )
    environment |= {
        "NO_PROXY": loopback,
        "no_proxy": loopback,
        "OPENAI_BASE_URL": base_url,
        "OPENAI_API_KEY": "demo",
        "OTEL_SERVICE_NAME": "openai-metering-demo",
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
    }
    application = subprocess.run(  # noqa: S603 - our own module, by the interpreter that runs us
        [launcher, sys.executable, "-m", APPLICATION],
        env=environment,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    if application.returncode != 0:
        raise Failure(f"the application ended with {application.returncode}:\n{application.stderr[-2000:]}")


# -- What came ------------------------------------------------------------------------------------------------------


def _report(records: Path) -> None:
    from openai_metering.cli import columns, report  # noqa: PLC0415 - rich is looked for first
    from openai_metering.cli.table import write_table  # noqa: PLC0415

    write_table(report.make([records], columns.columns_of(",".join(columns.DEFAULT))), sys.stdout)


# Where the stand-in's usage objects, of either API, have what a record says under these names.
_SERVED: Final = {
    c.INPUT_TOKENS: ("prompt_tokens|input_tokens",),
    c.OUTPUT_TOKENS: ("completion_tokens|output_tokens",),
    c.CACHE_READ_INPUT_TOKENS: ("prompt_tokens_details|input_tokens_details", "cached_tokens"),
    c.CACHE_WRITE_INPUT_TOKENS: ("prompt_tokens_details|input_tokens_details", "cache_write_tokens"),
    c.AUDIO_INPUT_TOKENS: ("prompt_tokens_details|input_tokens_details", "audio_tokens"),
    c.REASONING_OUTPUT_TOKENS: ("completion_tokens_details|output_tokens_details", "reasoning_tokens"),
    c.AUDIO_OUTPUT_TOKENS: ("completion_tokens_details|output_tokens_details", "audio_tokens"),
    c.ACCEPTED_PREDICTION_TOKENS: ("completion_tokens_details|output_tokens_details", "accepted_prediction_tokens"),
    c.REJECTED_PREDICTION_TOKENS: ("completion_tokens_details|output_tokens_details", "rejected_prediction_tokens"),
}


def _at(usage: Any, path: tuple[str, ...]) -> Any:
    for names in path:
        usage = next((usage[name] for name in names.split("|") if name in (usage or {})), None)
    return usage


def _compare(served: list[Any], records: Path) -> bool:
    """Hold the records against what the provider stand-in served, call by call and to the token."""
    received = {attributes.get(c.REQUEST_ID): attributes for attributes in _records(records)}
    differing = 0
    for answer in served:
        attributes = received.get(answer.request_id, {})
        usage = answer.usage or {}
        recorded = {name: value for name, value in attributes.items() if name in _SERVED} | {
            c.USAGE_STATUS: attributes.get(c.USAGE_STATUS)
        }
        if answer.status >= HTTP_REFUSED:
            expected: dict[str, Any] = {c.USAGE_STATUS: "not_billed"}
        elif not usage or attributes.get(c.OUTCOME) == "stopped":  # sent, perhaps, but the caller had left
            expected = {c.USAGE_STATUS: "unknown"}
        else:
            expected = {name: value for name, path in _SERVED.items() if (value := _at(usage, path)) is not None} | {
                c.USAGE_STATUS: "reported"
            }
        differing += recorded != expected
    print(
        f"The provider served {len(served)} calls; "
        + ("every record agrees with it to the token." if not differing else f"{differing} records DIFFER from it.")
    )
    return not differing and len(received) == len(served)


def _records(file: Path) -> Iterator[dict[str, Any]]:
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            for resource in json.loads(line).get("resourceLogs", ()):
                for scope in resource["scopeLogs"]:
                    for record in scope["logRecords"]:
                        yield {item["key"]: _value(item["value"]) for item in record["attributes"]}


def _print_span(file: Path) -> None:
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            for resource in json.loads(line).get("resourceSpans", ()):
                for scope in resource["scopeSpans"]:
                    if scope["scope"]["name"] != c.SCOPE_NAME:  # of another instrumentation that is installed, too
                        continue
                    for span in scope["spans"]:
                        print(f"\nA span as it was received: {span['name']}  (trace {span['traceId']})")
                        for item in span["attributes"]:
                            print(f"  {item['key']:50} {_value(item['value'])}")
                        return


def _value(value: dict[str, Any]) -> Any:
    kind, content = next(iter(value.items()))
    if kind == "intValue":
        return int(content)
    if kind == "arrayValue":
        return [_value(item) for item in content.get("values", ())]
    return content


def _lines(file: Path) -> int:
    """How many records or spans a file holds so far."""
    try:
        return sum(
            line.count('"spanId":') if "resourceSpans" in line else line.count('"eventName":') for line in file.open()
        )
    except OSError:
        return 0


def _wait(arrived: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE
    while not arrived():
        if time.monotonic() > deadline:
            raise Failure(f"not all {what} arrived within {DEADLINE:.0f} s.")
        time.sleep(0.05)


def _shown(path: Path) -> str:
    """A path as the user would write it from here."""
    with contextlib.suppress(ValueError):
        return str(path.resolve().relative_to(Path.cwd()))
    return str(path)
