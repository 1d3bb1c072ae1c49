"""A Collector that is away for long: the application does not notice, and nothing that is billed is missing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from running import Collector, written

from openai_metering.cli import main
from openai_metering.local.provider import ProviderStandIn

FULL = os.environ.get("OPENAI_METERING_TEST_SIZE") == "full"
CALLS = 100_000 if FULL else 2_000
QUEUE = 64  # of the application's spans
CONFIG = """\
extensions:
  health_check:
    endpoint: ${env:OPENAI_METERING_HEALTH_ENDPOINT}
receivers:
  otlp:
    protocols:
      http:
        endpoint: ${env:OPENAI_METERING_OTLP_HTTP_ENDPOINT}
exporters:
  file/records:
    path: records.jsonl
    flush_interval: 50ms
  file/metrics:
    path: metrics.jsonl
    flush_interval: 50ms
  nop:
service:
  extensions: [health_check]
  telemetry:
    metrics:
      level: none
  pipelines:
    logs: {receivers: [otlp], exporters: [file/records]}
    metrics: {receivers: [otlp], exporters: [file/metrics]}
    traces: {receivers: [otlp], exporters: [nop]}
"""


def counted(path: Path) -> int:
    """The calls that the newest metrics tell."""
    newest = 0
    for line in path.read_text().splitlines():
        for resource in json.loads(line)["resourceMetrics"]:
            for scope in resource["scopeMetrics"]:
                for metric in scope["metrics"]:
                    if metric["name"] == "openai_metering.calls":
                        newest = sum(int(point["asInt"]) for point in metric["sum"]["dataPoints"])
    return newest


def test_a_collector_that_is_away_costs_nothing_but_spans(tmp_path, collector_binary, capsys):
    """Queues are full many times over; records arrive from the ledger afterwards, metrics when it is back."""
    (tmp_path / "config.yaml").write_text(CONFIG)
    collector = Collector(collector_binary, tmp_path / "collector", str(tmp_path / "config.yaml"))
    with ProviderStandIn(keep=0) as provider:
        environment = {
            **os.environ,
            "PROVIDER": provider.base_url,
            "ENDPOINT": collector.http_endpoint,
            "LEDGER": str(tmp_path / "ledger"),
        }
        app = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("outage_app.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        try:
            assert app.stdout is not None
            assert app.stdin is not None
            told = []
            while not told or told[-1]["calls"] < CALLS:
                line = app.stdout.readline()
                assert line, "the application ended"
                told.append(json.loads(line))
            with collector:  # it is back
                app.stdin.close()
                told.append(json.loads(app.stdout.readlines()[-1]))
                assert app.wait(30) == 0
                calls = told[-1]["calls"]
                assert main(["replay", str(tmp_path / "ledger"), "--endpoint", collector.http_endpoint]) == 0
                deadline = time.monotonic() + 30
                while len(records := written(tmp_path / "collector" / "records.jsonl")) < calls:
                    assert time.monotonic() < deadline, f"{len(records)} of {calls}"
                    time.sleep(0.1)
        finally:
            app.kill()
            app.wait()
    assert calls > 30 * QUEUE
    assert len({record["attributes"]["openai_metering.record.id"] for record in records}) == calls == len(records)
    assert counted(tmp_path / "collector" / "metrics.jsonl") == calls
    quarter = next(one for one in told if one["calls"] >= CALLS // 4)
    grown = told[-2]["memory"] - quarter["memory"]
    assert grown < 16
    assert told[-1]["longest"] < 10  # what a call would wait for exporters that try for as long as they may
    with capsys.disabled():
        print(
            f"\n{calls:,} calls without a Collector, {calls // QUEUE} times the queue: {len(records):,} records afterwards, "
            f"{grown} MiB more memory from a quarter of them on, the longest call {told[-1]['longest'] * 1e3:.0f} ms"
        )
