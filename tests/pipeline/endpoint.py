"""A backend that takes OTLP over HTTP and holds to a vendor's rules: path, headers, encoding."""

from __future__ import annotations

import gzip
import http.server
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from typing_extensions import Self

MESSAGES = {
    "logs": ExportLogsServiceRequest,
    "metrics": ExportMetricsServiceRequest,
    "traces": ExportTraceServiceRequest,
}
KEYS = {
    "logs": ("resourceLogs", "scopeLogs", "logRecords"),
    "metrics": ("resourceMetrics", "scopeMetrics", "metrics"),
    "traces": ("resourceSpans", "scopeSpans", "spans"),
}


@dataclass
class Rules:
    """What a vendor's documentation asks of a request."""

    base: str = ""
    signals: tuple[str, ...] = ("logs", "metrics", "traces")
    headers: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, int] = field(default_factory=dict)  # path -> status, such as metrics that are 410 Gone


def plain(attributes: list[dict[str, Any]]) -> dict[str, Any]:
    return {one["key"]: next(iter(one["value"].values()), None) for one in attributes}


class Endpoint(http.server.ThreadingHTTPServer):
    """Listens once it is entered; keeps what it took, and what it refused with the reason."""

    daemon_threads = True

    def __init__(self, rules: Rules | None = None, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Answers)
        self.rules = rules or Rules()
        self.taken: list[tuple[str, dict[str, Any], dict[str, Any]]] = []
        self.requests: list[list[dict[str, Any]]] = []
        self.refusals: list[str] = []
        self.go_on = threading.Event()
        self.go_on.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}{self.rules.base}"

    def items(self, signal: str) -> list[dict[str, Any]]:
        return [item for kind, _, item in self.taken if kind == signal]

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.go_on.set()
        self.shutdown()
        self.server_close()


class Answers(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Endpoint

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers.get("content-length", 0)))
        status, said = self.judge(content)
        if status != 200:
            self.server.refusals.append(f"{self.path}: {status} {said}")
        self.server.go_on.wait(60)  # a slow backend: held until it is let go
        self.send_response(status)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", "0")
        self.end_headers()

    def judge(self, content: bytes) -> tuple[int, str]:
        rules = self.server.rules
        path = self.path.removeprefix(rules.base)
        if self.path in rules.refused:
            return rules.refused[self.path], "not taken here"
        signal = path.removeprefix("/v1/")
        if not self.path.startswith(rules.base) or f"/v1/{signal}" != path or signal not in rules.signals:
            return 404, "unknown path"
        for name, value in rules.headers.items():
            if self.headers.get(name) != value:
                return 401, f"header {name}"
        if self.headers.get("content-type") != "application/x-protobuf":
            return 415, "content type"
        if self.headers.get("content-encoding") == "gzip":
            content = gzip.decompress(content)
        outer, inner, items = KEYS[signal]
        body = MessageToDict(MESSAGES[signal].FromString(content))
        found = []
        for resource in body.get(outer, ()):
            of_resource = plain(resource.get("resource", {}).get("attributes", []))
            for scope in resource[inner]:
                for item in scope[items]:
                    item["attributes"] = plain(item.get("attributes", []))
                    found.append(item)
                    self.server.taken.append((signal, of_resource, item))
        self.server.requests.append(found)
        return 200, ""

    def log_message(self, *_: object) -> None:
        pass
