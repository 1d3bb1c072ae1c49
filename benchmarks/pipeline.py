"""What the pipeline carries: CPU time of a Collector for each record and span, beside a bare one in the same run.

Every variant is one Collector process on this machine. The same requests, made of records and spans of real calls, are
sent to each in turn, in rounds, so that what the machine does besides falls on all. The figure is the process's own CPU
time until everything has left it (a queue's work included); senders and sink are other processes. ``python
benchmarks/pipeline.py`` writes ``pipeline.md`` beside this file.
"""

from __future__ import annotations

import argparse
import datetime as dt
import http.client
import json
import os
import platform
import re
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests" / "pipeline"), str(ROOT / "tests")]

# After the path is set, which leads to the parts that tests and benchmarks share.
import traffic  # noqa: E402
from google.protobuf.json_format import ParseDict  # noqa: E402
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest  # noqa: E402
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest  # noqa: E402
from rich.console import Console  # noqa: E402
from running import Collector, basic, built_collector, documents, free_ports, htpasswd, opener  # noqa: E402

from openai_metering.cli import tenants  # noqa: E402
from waiting import wait_for  # noqa: E402

HERE = Path(__file__).parent
BATCH = 500  # records of a request
SENDERS = 2
console = Console(stderr=True)

BARE = """\
extensions: {health_check: {endpoint: "${env:OPENAI_METERING_HEALTH_ENDPOINT}"}}
receivers: {otlp: {protocols: {http: {endpoint: "${env:OPENAI_METERING_OTLP_HTTP_ENDPOINT}", max_request_body_size: 0}}}}
exporters:
  otlp_http: {endpoint: "${env:OPENAI_METERING_GATEWAY_ENDPOINT:-http://127.0.0.1:1}"}
  nop:
service:
  extensions: [health_check]
  telemetry: {metrics: {readers: [{pull: {exporter: {prometheus: {host: 127.0.0.1, port: "${env:OPENAI_METERING_TELEMETRY_PORT}"}}}}]}}
  pipelines:
    logs: {receivers: [otlp], exporters: [EXPORTER]}
    traces: {receivers: [otlp], exporters: [EXPORTER]}
"""
CHECK = [
    "lookup/principal",
    "lookup/credential",
    "transform/attribution",
    "transform/contract",
    "redaction/keys",
    "redaction/secrets",
    "transform/secrets",
]


def requests(binary: Path, folder: Path) -> dict[str, bytes]:
    """One request of records and one of spans, as real calls made them."""
    with Collector(
        binary,
        folder / "real",
        "local.yaml",
        OUTPUT_DIR=str(folder / "real"),
        PROMETHEUS_ENDPOINT=f"127.0.0.1:{free_ports(1)[0]}",
    ) as local:
        traffic.run(local, calls=10)
        wait_for(lambda: (folder / "real/spans.jsonl").stat().st_size, "spans")
    made = {}
    kinds = (
        ("logs", "records", ExportLogsServiceRequest, "resourceLogs", "scopeLogs", "logRecords"),
        ("traces", "spans", ExportTraceServiceRequest, "resourceSpans", "scopeSpans", "spans"),
    )
    for signal, file, message, outer, inner, items in kinds:
        found = []
        for line in (folder / f"real/{file}.jsonl").read_text(encoding="utf-8").splitlines():
            for content in documents(line):
                first = content[outer][0]
                found += [item for one in content[outer] for scope in one[inner] for item in scope[items]]
        for item in found:
            for name in ("traceId", "spanId", "parentSpanId"):
                item.pop(name, None)
        many = (found * (BATCH // len(found) + 1))[:BATCH]
        body = ParseDict({outer: [{"resource": first["resource"], inner: [{"scope": {}, items: many}]}]}, message())
        if signal == "traces":
            for span in body.resource_spans[0].scope_spans[0].spans:
                span.trace_id, span.span_id = os.urandom(16), os.urandom(8)
        made[signal] = body.SerializeToString()
    return made


def send(collector: Collector, signal: str, body: bytes, count: int) -> None:
    """Send one request many times, over as many connections as there are senders."""
    host = collector.addresses["OTLP_HTTP_ENDPOINT"]
    headers = {"content-type": "application/x-protobuf", "authorization": basic("agent")}

    def some(number: int) -> None:
        connection = http.client.HTTPConnection(host, timeout=120)
        for _ in range(number):
            while True:
                connection.request("POST", f"/v1/{signal}", body, headers)
                answer = connection.getresponse()
                answer.read()
                if answer.status == 200:
                    break
                time.sleep(0.05)  # refused for now: a sender waits and tries again

    threads = [threading.Thread(target=some, args=(count // SENDERS,)) for _ in range(SENDERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def cpu(collector: Collector) -> float:
    """CPU seconds of the process so far."""
    assert collector.process is not None
    fields = Path(f"/proc/{collector.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident(collector: Collector) -> float:
    """MiB of memory of the process, at most so far."""
    assert collector.process is not None
    found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{collector.process.pid}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


def gone(collector: Collector, exporter: str, signal: str) -> float:
    """How many items an exporter has sent."""
    page = opener.open(collector.telemetry_url, timeout=10).read().decode()
    kind = {"logs": "log_records", "traces": "spans"}[signal]
    return sum(
        float(line.split()[-1])
        for line in page.splitlines()
        if line.startswith(f"otelcol_exporter_sent_{kind}") and f'exporter="{exporter}' in line
    )


class Bench:
    """The variants, each in a folder of its own, before one sink."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder, self.count, self.binary = folder, count, built_collector()
        self.sink = self.collector("sink", self.written("sink.yaml", BARE.replace("EXPORTER", "nop")))
        self.sink.start()
        self.requests = requests(self.binary, folder)

    def written(self, name: str, text: str) -> str:
        (self.folder / name).write_text(text, encoding="utf-8")
        return str(self.folder / name)

    def collector(self, name: str, *configs: str, **variables: str) -> Collector:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        htpasswd(folder / "htpasswd", ["agent"])
        (folder / "principals.csv").write_text("principal,organizations\nagent,AcmeSoft|Globex|Initech\n")
        (folder / "lookup.csv").write_text("credential,subscriber,organization\nkey1-hubspot,joe@acme.com,AcmeSoft\n")
        return Collector(self.binary, folder, *configs, **variables)

    def variant(self, name: str) -> tuple[Collector, str]:
        """A Collector that is not started yet, and the exporter that everything leaves it by."""
        sink = {"GATEWAY_ENDPOINT": self.sink.http_endpoint if hasattr(self, "sink") else ""}
        if name == "bare":
            return self.collector(
                name, self.written("bare.yaml", BARE.replace("EXPORTER", "otlp_http")), **sink
            ), "otlp_http"
        if name.startswith("agent"):
            return self.collector(name, "agent.yaml", **sink), "otlp_http/records"
        configs = ["gateway.yaml"]
        if name == "gateway, 100 tenants":
            rows = [tenants.Tenant(f"customer {number}", file=f"c{number}") for number in range(97)]
            rows += [tenants.Tenant(who, file=who) for who in ("AcmeSoft", "Globex", "Initech")]
            configs.append(self.written("tenants.yaml", tenants.configuration(rows)))
        if name.startswith("gateway without"):
            left = [one for one in CHECK if one != name.removeprefix("gateway without ")]
            text = f"service: {{pipelines: {{logs/check: {{processors: [{', '.join(left)}]}}}}}}"
            configs.append(self.written(f"{name.replace('/', '-')}.yaml", text))
        if name == "gateway, no checks":
            configs.append(self.written("none.yaml", "service: {pipelines: {logs/check: {processors: []}}}"))
        return self.collector(name.replace("/", "-"), *configs, LARGE_TOKENS="0"), "file/"

    def measure(self, name: str, signal: str) -> dict[str, float]:
        """Microseconds of CPU and of wall time for each item, and memory."""
        collector, exporter = self.variant(name)
        if signal == "traces":
            exporter = {
                "otlp_http/records": "otlp_http/rest",
            }.get(exporter, exporter)
            collector.variables["DECISION_WAIT"] = "1s"
        with collector:
            before, began = cpu(collector), time.monotonic()
            send(collector, signal, self.requests[signal], self.count)
            items = (self.count // SENDERS) * SENDERS * BATCH
            taken = time.monotonic() - began
            if not (name.startswith("gateway") and signal == "traces"):  # the sampler keeps what it likes
                wait_for(lambda: gone(collector, exporter, signal) >= items, f"{name}: all to have left", timeout=180)
            else:
                time.sleep(3)  # past the sampler's decision; what it lets through cannot be counted beforehand
            return {
                "cpu": (cpu(collector) - before) / items * 1e6,
                "wall": taken / items * 1e6,
                "memory": resident(collector),
            }


def overload(bench: Bench) -> list[str]:
    """An agent with a small memory limit whose gateway is away, under all that two senders can send."""
    away = f"http://127.0.0.1:{free_ports(1)[0]}"
    lines = []
    for limit in (128, 256):
        agent = bench.collector(f"overload-{limit}", "agent.yaml", GATEWAY_ENDPOINT=away, MEMORY_LIMIT_MIB=str(limit))
        os.environ["GOMEMLIMIT"] = f"{int(limit * 0.8)}MiB"
        with agent:
            send(agent, "logs", bench.requests["logs"], bench.count)
            lines.append(f"| {limit} MiB | {bench.count // SENDERS * SENDERS * BATCH} | {resident(agent):.0f} MiB |")
    return lines


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="of every variant (default: %(default)s)")
    parser.add_argument("--requests", type=int, default=100, help=f"of {BATCH} items each (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=HERE / "pipeline.md", help="(default: %(default)s)")
    args = parser.parse_args()
    stages = [f"gateway without {stage}" for stage in CHECK]
    variants = [
        *(
            (name, "logs")
            for name in ("bare", "agent", "gateway", "gateway, no checks", "gateway, 100 tenants", *stages)
        ),
        *((name, "traces") for name in ("bare", "agent", "gateway")),
    ]
    found: dict[tuple[str, str], list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), args.requests)
        try:
            for number in range(args.rounds):
                for name, signal in variants:
                    for old in (Path(folder) / name.replace("/", "-")).glob("openai-metering*"):
                        os.system(f"rm -rf '{old}'")  # a store of its own for each round
                    one = bench.measure(name, signal)
                    found.setdefault((name, signal), []).append(one)
                    console.print(f"round {number + 1}: {signal} {name}: {one['cpu']:.1f} us, {one['memory']:.0f} MiB")
            memory = overload(bench)
            size = len(bench.requests["logs"]) / BATCH
        finally:
            bench.sink.kill()
    args.output.write_text(report(args, found, memory, size), encoding="utf-8")
    (args.output.with_suffix(".json")).write_text(
        json.dumps(
            [{"variant": name, "signal": signal, "rounds": rounds} for (name, signal), rounds in found.items()],
            indent=1,
        )
        + "\n",
        encoding="utf-8",
    )


def report(args: argparse.Namespace, found: dict[Any, list[dict[str, float]]], memory: list[str], size: float) -> str:
    """The figures as tables."""
    least = {key: min(one["cpu"] for one in rounds) for key, rounds in found.items()}
    cpu_name = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    lines = [
        "# What the pipeline carries",
        "",
        (
            f"Made by `python benchmarks/pipeline.py --rounds {args.rounds} --requests {args.requests}` on {dt.datetime.now(dt.timezone.utc).date()}: "
            f"{os.cpu_count()} x {cpu_name[1] if cpu_name else platform.processor()}, Collector 0.158, requests of {BATCH} "
            f"records of {size:.0f} bytes (spans of the same calls), {args.rounds} interleaved rounds, each variant a process of its own; "
            "the machine had other work besides."
        ),
        "",
        (
            "CPU time of the process until everything has left it, minimum over the rounds; a core's rate is its inverse. "
            "`bare` is a Collector with OTLP in, OTLP out and a queue in memory. Agent: queue on disk. Gateway: passwords, trust boundary, "
            "both tables, contract, redaction, and the bill written to disk at once; for spans the same and tail sampling."
        ),
        "",
        "| | us CPU for each | each second and core | of bare | memory at most |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for (name, signal), figure in least.items():
        if "without" in name:
            continue
        kind = "records" if signal == "logs" else "spans"
        rss = max(one["memory"] for one in found[name, signal])
        share = least["bare", signal] / figure
        lines.append(f"| {kind}: {name} | {figure:.1f} | {1e6 / figure:,.0f} | {share:.2f} | {rss:.0f} MiB |")
    whole = least["gateway", "logs"]
    lines += ["", "## What each stage of the gateway costs", "", "| stage | us CPU for each record |", "| --- | ---: |"]
    for stage in CHECK:
        lines.append(f"| {stage} | {whole - least[f'gateway without {stage}', 'logs']:.1f} |")
    lines.append(f"| all of them | {whole - least['gateway, no checks', 'logs']:.1f} |")
    lines.append(f"| the rest: receiving, passwords, routing, the file | {least['gateway, no checks', 'logs']:.1f} |")
    lines += [
        "",
        "A stage's figure is the gateway with it less the gateway without it; on this machine, differences of a few microseconds, negative ones too, are noise.",
        "",
        "## Memory under overload",
        "",
        "The agent, its gateway away, two senders that do not pause, GOMEMLIMIT at 80 % of the limit:",
        "",
        "| OPENAI_METERING_MEMORY_LIMIT_MIB | records taken | resident, at most |",
        "| --- | ---: | ---: |",
        *memory,
        "",
        "Resident memory counts the pages of the queue's file that are mapped, which the system takes back at will.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
