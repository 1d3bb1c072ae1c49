"""An application on a bad disk: calls, what the disk does between them, and what came of it, as JSON.

Started as ``python disk_app.py KIND FOLDER PROVIDER``; the folder is a small file system of its own where KIND is
``full`` and mounts are allowed.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import openai
from emitting import KeptLogs
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from openai_metering import OpenAIInstrumentor

CALLS = 30


def full(folder: Path):
    """A small disk that is full, by a file that is not ours; then there is space again."""
    if "mounted" in sys.argv:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", folder], check=True)
        (folder / "other").write_bytes(b"x" * 80 * 1024)
        yield
        (folder / "other").unlink()
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    yield


def read_only(folder: Path):
    """A folder that may not be written, and then may."""
    if os.geteuid() == 0:
        os.chown(folder, 65534, 65534)
        os.seteuid(65534)  # root may write everywhere
    folder.chmod(0o500)
    yield
    folder.chmod(0o700)
    yield


def removed(folder: Path):
    """A folder that is removed while its file is open, and cannot be made again; and then can."""
    yield
    shutil.rmtree(folder)
    folder.write_text("in the way")
    yield
    folder.unlink()
    yield


KINDS = {"full": full, "read_only": read_only, "removed": removed}


class Warnings(logging.Handler):
    """Keeps what we log."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


def main(kind: str, name: str, base_url: str) -> None:
    folder = Path(name)
    kept, reader, warnings = KeptLogs(), InMemoryMetricReader(), Warnings()
    logging.getLogger("openai_metering").addHandler(warnings)
    logger_provider = LoggerProvider()
    logger_provider.add_log_record_processor(kept)
    client = openai.OpenAI(base_url=base_url, api_key="test", max_retries=0)
    messages = [{"role": "user", "content": "Hello"}]
    # Not metered yet: what is imported at the first call must not need files that another user may not read.
    client.chat.completions.create(model="gpt-4o", messages=messages)
    OpenAIInstrumentor().instrument(
        logger_provider=logger_provider, meter_provider=MeterProvider([reader]), ledger_dir=name
    )
    answered, found = 0, []
    for _ in KINDS[kind](folder):
        for _ in range(CALLS):
            client.chat.completions.create(model="gpt-4o", messages=messages)
            answered += 1
        found.append(ids_in(folder))
    OpenAIInstrumentor().uninstrument()
    points = {
        metric.name: {
            str(point.attributes.get("reason") or point.attributes.get("destination") or ""): point.value
            for point in metric.data.data_points
        }
        for resource_metrics in reader.get_metrics_data().resource_metrics
        for scope in resource_metrics.scope_metrics
        for metric in scope.metrics
        if metric.name.startswith("openai_metering.") and hasattr(metric.data, "is_monotonic")
    }
    sent = [record.attributes["openai_metering.record.id"] for record in kept.records]
    print(json.dumps({"answered": answered, "ledger": found, "sent": sent, "points": points, "said": warnings.texts}))


def ids_in(folder: Path) -> list[str]:
    """The ids of all whole lines of the ledger at this moment."""
    found = []
    for path in sorted(folder.glob("usage-*.jsonl")) if folder.is_dir() else []:
        for line in path.read_bytes().splitlines():
            with contextlib.suppress(ValueError):
                (record,) = json.loads(line)["resourceLogs"][0]["scopeLogs"][0]["logRecords"]
                values = {pair["key"]: pair["value"] for pair in record["attributes"]}
                found.append(values["openai_metering.record.id"]["stringValue"])
    return found


if __name__ == "__main__":
    main(*sys.argv[1:4])
