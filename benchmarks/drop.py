"""Exporters that take everything and drop it."""

from __future__ import annotations

from typing import Any

from opentelemetry.sdk._logs import export as logs
from opentelemetry.sdk.metrics import export as metrics
from opentelemetry.sdk.trace import export as traces

_LogExporter = getattr(logs, "LogRecordExporter", None) or logs.LogExporter  # renamed in SDK 1.39
_LOGS_TAKEN = (getattr(logs, "LogRecordExportResult", None) or logs.LogExportResult).SUCCESS


class Spans(traces.SpanExporter):
    def export(self, spans: Any) -> traces.SpanExportResult:
        del spans
        return traces.SpanExportResult.SUCCESS


class Metrics(metrics.MetricExporter):
    def export(self, metrics_data: Any, timeout_millis: float = 10_000, **kwargs: Any) -> metrics.MetricExportResult:
        del metrics_data, timeout_millis, kwargs
        return metrics.MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        del timeout_millis
        return True

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        pass


class Logs(_LogExporter):
    def export(self, batch: Any) -> Any:
        del batch
        return _LOGS_TAKEN

    def shutdown(self) -> None:
        pass

    def force_flush(self, timeout_millis: int = 10_000) -> bool:
        del timeout_millis
        return True
