"""What ``doctor`` looks at: one function for each question, each with its findings."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import urllib.parse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from openai_metering import settings as options
from openai_metering.cli import trial
from openai_metering.keys import read_map

if TYPE_CHECKING:
    from collections.abc import Iterator

    from openai_metering.settings import Settings

State: TypeAlias = Literal["ok", "info", "warning", "wrong"]
_TIMEOUT: Final = 3.0
_TRIAL_TIMEOUT: Final = 120.0
_LOW_SPACE: Final = 100 * 2**20
_PORTS: Final = {"grpc": 4317, "http/protobuf": 4318, "http/json": 4318}
_EXPORTERS: Final = {"grpc": "opentelemetry-exporter-otlp-proto-grpc"}
_HTTP_EXPORTER: Final = "opentelemetry-exporter-otlp-proto-http"
_MARKS: Final = ("openai", "langchain", "litellm", "llama", "agents", "crewai", "anthropic")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Args:
        name: what, in a word or two.
        state: ``ok``; ``info``, which is neither good nor bad; ``warning``; ``wrong``, which loses records or calls.
        text: what was found.
        advice: what to do about it, where something is to be done.
    """

    name: str
    state: State
    text: str
    advice: str | None = None


def all_findings() -> Iterator[Finding]:
    """Look at everything, the quickest first."""
    settings, problems = options.load({})
    yield from _installed()
    yield from _options(settings, [str(problem) for problem in problems])
    yield from _launcher()
    yield from _others(settings)
    yield from _key_map(settings)
    yield from _ledger(settings)
    yield from _way_out(settings)
    yield from _seams()


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _installed() -> Iterator[Finding]:
    python = ".".join(map(str, sys.version_info[:3]))
    sdk = _version("opentelemetry-sdk")
    text = f"openai-metering {_version('openai-metering') or '(source tree)'}, Python {python}, opentelemetry-api {_version('opentelemetry-api')}"
    yield Finding("installed", "ok", text)
    if sdk is None:
        yield Finding(
            "OpenTelemetry SDK",
            "warning",
            "not installed: spans and metrics go nowhere, and records only to a ledger",
            "pip install 'openai-metering[otlp]'",
        )
    else:
        yield Finding("OpenTelemetry SDK", "ok", f"opentelemetry-sdk {sdk}")


def _options(settings: Settings, problems: list[str]) -> Iterator[Finding]:
    for problem in problems:
        yield Finding("options", "wrong", problem, "Correct the variable.")
    if not settings.enabled:
        yield Finding("options", "wrong", "OPENAI_METERING_ENABLED is false: nothing is metered", "Unset it.")
    elif not problems:
        given = [option.variable for option in options.OPTIONS if os.environ.get(option.variable)]
        yield Finding("options", "ok", f"set: {', '.join(given)}" if given else "all at their defaults")


def _launcher() -> Iterator[Finding]:
    """Whether this process was started by OpenTelemetry's launcher, and what that made of us."""
    file = getattr(sys.modules.get("sitecustomize"), "__file__", None) or ""
    if "auto_instrumentation" not in file:
        beside = str(Path(sys.executable).parent)
        found = shutil.which("opentelemetry-instrument") or shutil.which("opentelemetry-instrument", path=beside)
        yield Finding(
            "launcher",
            "info",
            "not in effect in this process",
            "To see what it makes of an application: opentelemetry-instrument openai-metering doctor. Without it, the "
            "application calls OpenAIInstrumentor().instrument() itself."
            if found
            else "pip install 'openai-metering[otlp]' brings opentelemetry-instrument; or call OpenAIInstrumentor().instrument().",
        )
        return
    from openai_metering.instrumentor import OpenAIInstrumentor  # noqa: PLC0415 - of use under the launcher alone

    if not OpenAIInstrumentor().is_instrumented_by_opentelemetry:
        yield Finding(
            "launcher",
            "wrong",
            "in effect, and openai-metering is not active",
            "Look for openai_metering in OTEL_PYTHON_DISABLED_INSTRUMENTATIONS, and for a message of the launcher above.",
        )
    else:
        yield Finding("launcher", "ok", f"in effect, and openai-metering is active; {_providers()}")


def _providers() -> str:
    from opentelemetry import _logs, metrics, trace  # noqa: PLC0415 - of use under the launcher alone

    found = {
        "traces": trace.get_tracer_provider(),
        "metrics": metrics.get_meter_provider(),
        "logs": _logs.get_logger_provider(),
    }
    set_up = [name for name, one in found.items() if type(one).__module__.startswith("opentelemetry.sdk")]
    return f"providers set up: {', '.join(set_up) or 'none'}"


def _others(settings: Settings) -> Iterator[Finding]:
    """Other instrumentations that make spans of the same calls."""
    points = importlib.metadata.entry_points(group="opentelemetry_instrumentor")
    others = {
        point.dist.name: point.dist.version
        for point in points
        if point.dist is not None
        and point.dist.name != "openai-metering"
        and any(mark in point.name for mark in _MARKS)
    }
    if not others:
        yield Finding("other instrumentations", "ok", "none of model calls is installed")
        return
    names = ", ".join(f"{name} {version}" for name, version in sorted(others.items()))
    yield Finding(
        "other instrumentations",
        "info",
        f"{names}. Records and metrics are counted once all the same; with OPENAI_METERING_SPANS={settings.spans} our span "
        f"{'gives way to theirs' if settings.spans == 'auto' else 'is made beside theirs' if settings.spans == 'always' else 'is not made'}",
    )


def _key_map(settings: Settings) -> Iterator[Finding]:
    if settings.key_map is None:
        yield Finding("key map", "info", "none: OPENAI_METERING_KEY_MAP is not set")
        return
    entries, problems = read_map(settings.key_map)
    for problem in problems:
        yield Finding("key map", "wrong", problem, "Correct it; openai-metering directory compile writes one.")
    if settings.fingerprint_secret is None:
        yield Finding(
            "key map",
            "wrong",
            "off: it has no secret",
            "Set OPENAI_METERING_FINGERPRINT_SECRET to that of its fingerprints.",
        )
    elif not problems:
        yield Finding("key map", "ok", f"{len(entries):,} {'entry' if len(entries) == 1 else 'entries'}")


def _ledger(settings: Settings) -> Iterator[Finding]:
    if settings.ledger_dir is None:
        state: State = "wrong" if settings.records == "ledger" else "info"
        advice = "Set it to a folder." if state == "wrong" else None
        yield Finding("ledger", state, "none: OPENAI_METERING_LEDGER_DIR is not set", advice)
        return
    folder = Path(settings.ledger_dir)
    try:
        free = _free(folder)
    except OSError as error:
        text = f"{folder} cannot be written: {error.strerror or type(error).__name__}"
        yield Finding("ledger", "wrong", text, "Give the user of the application the right to write there.")
        return
    count = sum(1 for _ in folder.glob("*.jsonl")) if folder.is_dir() else 0
    text = f"{folder} can be written; {count:,} files, {free / 2**30:,.1f} GiB free"
    if free < _LOW_SPACE:
        yield Finding("ledger", "warning", text, "Make room, or set OPENAI_METERING_LEDGER_MAX_BYTES.")
    else:
        yield Finding("ledger", "ok", text)


def _free(folder: Path) -> int:
    """Return the free bytes where a folder is, or would be made.

    Raises:
        OSError: it cannot be written.
    """
    place = next((one for one in (folder, *folder.absolute().parents) if one.exists()), folder)
    with tempfile.NamedTemporaryFile(dir=place, prefix=".openai-metering-doctor-"):
        pass
    return shutil.disk_usage(place).free


def _can_be_written(folder: str) -> bool:
    try:
        return _free(Path(folder)) >= 0
    except OSError:
        return False


def endpoint_of() -> tuple[str, str]:
    """Return where logs go by OpenTelemetry's own variables, and by which protocol."""
    protocol = options.otlp_logs_protocol()
    given = os.environ.get("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT") or os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    return (given or f"http://localhost:{_PORTS.get(protocol, _PORTS['grpc'])}").strip(), protocol


def _way_out(settings: Settings) -> Iterator[Finding]:
    """Whether records get out of the process, and whether somebody listens where they go."""
    to_ledger = settings.ledger_dir is not None and settings.records in ("auto", "ledger", "both")
    to_otlp = settings.records in ("otlp", "both") or (settings.records == "auto" and settings.ledger_dir is None)
    if settings.records == "none":
        yield Finding("records", "wrong", "OPENAI_METERING_RECORDS is none: no record is kept", "Unset it.")
        return
    if to_ledger and not _can_be_written(settings.ledger_dir or ""):
        where = "OTLP alone" if to_otlp else "nowhere"
        yield Finding(
            "records", "wrong", f"go {'to ' * to_otlp}{where}: the ledger cannot be written", "See ledger, above."
        )
    else:
        where = " and ".join(["the ledger"] * to_ledger + ["OTLP"] * to_otlp)
        yield Finding("records", "ok", f"go to {where or 'nowhere'}")
    bad: State = "wrong" if to_otlp and not to_ledger else "warning"
    chosen = os.environ.get("OTEL_LOGS_EXPORTER", "otlp").strip()
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        yield Finding("exporters", bad, "OTEL_SDK_DISABLED is true: nothing leaves by OTLP", "Unset it.")
        return
    if to_otlp and chosen not in ("otlp", "otlp_priced"):
        advice = "Set OTEL_LOGS_EXPORTER=otlp, or OPENAI_METERING_LEDGER_DIR to a folder."
        yield Finding("exporters", bad, f"OTEL_LOGS_EXPORTER is {chosen}: no record leaves by OTLP", advice)
        return
    endpoint, protocol = endpoint_of()
    package = _EXPORTERS.get(protocol, _HTTP_EXPORTER)
    version = _version(package)
    if version is None:
        yield Finding(
            "exporters",
            bad,
            f"{package} is not installed, which {protocol} needs",
            "pip install 'openai-metering[otlp]'",
        )
        return
    yield Finding("exporters", "ok", f"{package} {version}")
    yield _reachable(endpoint, protocol, bad)


def _reachable(endpoint: str, protocol: str, bad: State) -> Finding:
    parts = urllib.parse.urlsplit(endpoint if "://" in endpoint else f"//{endpoint}")
    port = parts.port or {"https": 443, "http": 80}.get(parts.scheme, _PORTS["grpc"])
    shown = f"{parts.hostname}:{port} ({protocol})"  # never with a user or a password that stands in it
    try:
        with socket.create_connection((parts.hostname or "localhost", port), _TIMEOUT):
            pass
    except OSError as error:
        advice = "Start the Collector, or correct OTEL_EXPORTER_OTLP_ENDPOINT and OTEL_EXPORTER_OTLP_PROTOCOL."
        return Finding("endpoint", bad, f"{shown} does not answer: {error.strerror or type(error).__name__}", advice)
    return Finding("endpoint", "ok", f"{shown} answers")


def _seams() -> Iterator[Finding]:
    """Whether calls of the installed SDK are metered: tried, in a process of its own."""
    if _version("openai") is None:
        yield Finding(
            "openai", "wrong", "the openai package is not installed here", "pip install 'openai-metering[instruments]'"
        )
        return
    environment = {
        name: value for name, value in os.environ.items() if not name.upper().startswith(("OPENAI_", "OTEL_", "AZURE_"))
    }
    path = environment.pop("PYTHONPATH", "").split(os.pathsep)
    environment |= {"PYTHONPATH": os.pathsep.join(one for one in path if "auto_instrumentation" not in one)}
    environment |= {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    ran = subprocess.run(  # noqa: S603 - this very interpreter
        [sys.executable, "-m", trial.__name__],
        env=environment,
        capture_output=True,
        text=True,
        timeout=_TRIAL_TIMEOUT,
        check=False,
    )
    version = f"openai {_version('openai')}"
    try:
        found: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])["forms"]
    except (IndexError, ValueError, KeyError):
        last = (ran.stderr.strip().splitlines() or ["no output"])[-1].partition(":")[0]
        yield Finding("openai", "wrong", f"{version}: the trial ended early ({last})", "Try: python -c 'import openai'")
        return
    broken = {form: why for form, why in found.items() if why is not None}
    if not broken:
        yield Finding("openai", "ok", f"{version}: metered ({', '.join(found)})")
    for form, why in broken.items():
        yield Finding(
            "openai", "wrong", f"{version}: {form}: {why}", "Report this version, and use one that works meanwhile."
        )
