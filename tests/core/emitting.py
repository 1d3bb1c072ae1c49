"""Providers of the real OpenTelemetry SDK that keep what they get, and calls to emit."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk._logs import LoggerProvider, LogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from openai_metering.call import Call
from openai_metering.finished import Request, Server
from openai_metering.operations import CHAT_COMPLETIONS
from openai_metering.resolution import EMPTY, Attribution, resolve
from openai_metering.settings import Settings
from openai_metering.signals import Signals

if TYPE_CHECKING:
    from openai_metering.operations import Operation
    from openai_metering.resolution import Resolved

SERVER = Server("openai", "api.openai.com", 443)
REQUEST = Request("gpt-4o")
WHO = resolve(Attribution("AcmeSoft", "joe@acme.com", "key1-hubspot"), EMPTY, EMPTY)
BODY: dict[str, Any] = {
    "id": "chatcmpl-1",
    "model": "gpt-4o-2024-08-06",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Paris"}}],
    "usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18},
}


class KeptLogs(LogRecordProcessor):
    """Keeps log records; of both spellings of the method, the SDK in use calls one."""

    def __init__(self) -> None:
        self.records: list[Any] = []

    def on_emit(self, log_data: Any) -> None:
        self.records.append(getattr(log_data, "log_record", log_data))

    emit = on_emit

    def shutdown(self) -> None:
        pass

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return True


@dataclass
class Telemetry:
    """One in-memory pipeline for each signal."""

    exporter: InMemorySpanExporter = field(default_factory=InMemorySpanExporter)
    reader: InMemoryMetricReader = field(default_factory=InMemoryMetricReader)
    kept: KeptLogs = field(default_factory=KeptLogs)
    sampler: Any = None

    def __post_init__(self) -> None:
        self.tracer_provider = TracerProvider(sampler=self.sampler)
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.meter_provider = MeterProvider([self.reader])
        self.logger_provider = LoggerProvider()
        self.logger_provider.add_log_record_processor(self.kept)

    def signals(self, settings: Settings | None = None, **given: Any) -> Signals:
        """The signals of one ``instrument()`` over these providers, any of them replaced by keyword."""
        return Signals(
            settings or Settings(),
            **{
                "tracer_provider": self.tracer_provider,
                "meter_provider": self.meter_provider,
                "logger_provider": self.logger_provider,
                **given,
            },
        )

    @property
    def spans(self) -> list[Any]:
        return list(self.exporter.get_finished_spans())

    @property
    def records(self) -> list[dict[str, Any]]:
        return [dict(record.attributes) for record in self.kept.records]

    def points(self) -> dict[str, list[Any]]:
        """All data points by metric name."""
        read = self.reader.get_metrics_data()
        found: dict[str, list[Any]] = {}
        for resource in read.resource_metrics if read is not None else ():
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    found.setdefault(metric.name, []).extend(metric.data.data_points)
        return found


def start(
    signals: Signals, operation: Operation = CHAT_COMPLETIONS, request: Request = REQUEST, who: Resolved = WHO
) -> Call:
    """A call that is under way."""
    return Call(signals, operation, SERVER, request, who)


def answered(signals: Signals, body: Any = BODY, **parts: Any) -> Call:
    """A call whose whole answer has been read."""
    call = start(signals, **parts)
    call.read(body)
    call.complete()
    return call
