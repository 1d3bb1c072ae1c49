"""What telemetry came out of a metered process, in memory, through OpenTelemetry's own SDK."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class Telemetry:
    """What came out, in memory, through OpenTelemetry's own SDK."""

    span_exporter: Any
    log_exporter: Any
    metric_reader: Any
    tracer_provider: Any
    meter_provider: Any
    logger_provider: Any

    @property
    def spans(self) -> list[Any]:
        return list(self.span_exporter.get_finished_spans())

    @property
    def records(self) -> list[dict[str, Any]]:
        """The attributes of all usage records so far."""
        return [dict(data.log_record.attributes) for data in self.log_exporter.get_finished_logs()]

    def record(self) -> dict[str, Any]:
        """The attributes of the one usage record; waits for one that a finaliser left to the drain thread."""
        wait_for(lambda: self.records, "a usage record")
        (record,) = self.records
        return record

    def points(self, metric: str) -> list[tuple[dict[str, Any], float]]:
        """The points of a metric: attributes, and value or count."""
        data = self.metric_reader.get_metrics_data()
        return [
            (dict(point.attributes), getattr(point, "value", getattr(point, "count", None)))
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for found in scope.metrics
            if found.name == metric
            for point in found.data.data_points
        ]

    def total(self, metric: str, **attributes: object) -> float:
        return sum(value for found, value in self.points(metric) if attributes.items() <= found.items())

    def clear(self) -> None:
        self.span_exporter.clear()
        self.log_exporter.clear()


def make_telemetry(sampler: Any = None) -> Telemetry:
    from opentelemetry.sdk._logs import LoggerProvider, export as logs
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    span_exporter = InMemorySpanExporter()
    tracer_provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
    tracer_provider.add_span_processor(SimpleSpanProcessor(span_exporter))
    # The older of the two names is the only one in the oldest SDK that is supported.
    log_exporter = getattr(logs, "InMemoryLogRecordExporter", None) or logs.InMemoryLogExporter
    log_exporter = log_exporter()
    logger_provider = LoggerProvider(shutdown_on_exit=False)
    logger_provider.add_log_record_processor(logs.SimpleLogRecordProcessor(log_exporter))
    metric_reader = InMemoryMetricReader()
    meter_provider = MeterProvider([metric_reader], shutdown_on_exit=False)
    return Telemetry(span_exporter, log_exporter, metric_reader, tracer_provider, meter_provider, logger_provider)


@contextlib.contextmanager
def metered(**options: Any) -> Iterator[Telemetry]:
    """A metered process with these options, as long as the block runs."""
    from openai_metering import OpenAIInstrumentor

    made = make_telemetry()
    instrumentor = OpenAIInstrumentor()
    instrumentor.instrument(
        tracer_provider=made.tracer_provider,
        meter_provider=made.meter_provider,
        logger_provider=made.logger_provider,
        **options,
    )
    try:
        yield made
    finally:
        if instrumentor.is_instrumented_by_opentelemetry:
            instrumentor.uninstrument()
