"""Hands usage records to a logger; to one of OpenTelemetry's SDK in the form that it makes of them itself."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from opentelemetry import trace
from opentelemetry._logs import LogRecord, SeverityNumber

if TYPE_CHECKING:
    from collections.abc import Callable


class Emitter:
    """Emits log records through one logger.

    Args:
        logger: of OpenTelemetry's API.
    """

    def __init__(self, logger: Any) -> None:
        self._logger = logger
        self._written = _written(logger)

    def emit(self, event_name: str, timestamp: int, span_context: Any, attributes: dict[str, Any]) -> None:
        """Emit a record.

        Args:
            event_name: its name.
            timestamp: nanoseconds since the epoch.
            span_context: the span that it belongs to, ``None`` where there is none.
            attributes: of text, numbers, booleans, and tuples of them; the logger keeps them.
        """
        record: Any = LogRecord(
            timestamp=timestamp,
            observed_timestamp=time.time_ns(),
            context=None if span_context is None else trace.set_span_in_context(trace.NonRecordingSpan(span_context)),
            severity_number=SeverityNumber.INFO,
            severity_text="INFO",
            attributes=attributes,
            event_name=event_name,
        )
        self._logger.emit(record if self._written is None else self._written(record, attributes))


def _written(logger: Any) -> Callable[[Any, dict[str, Any]], Any] | None:
    """What makes the SDK's record of the API's, which the SDK's logger takes as it is.

    The SDK checks and copies each attribute of a record that it is given, which is half of what a record costs; ours are
    made of plain values and belong to nobody else. ``None`` where the logger is another one, or of an SDK before 1.39.
    """
    sdk: Any = sys.modules.get("opentelemetry.sdk._logs")  # loaded where the logger is of the SDK
    limits = getattr(logger, "_log_record_limits", None)
    at_most = getattr(limits, "max_log_record_attributes", None)
    if (
        type(logger) is not getattr(sdk, "Logger", None)
        or not hasattr(sdk, "ReadWriteLogRecord")
        or at_most is None
        or getattr(limits, "max_log_record_attribute_length", 0) is not None
    ):
        return None

    class Written(sdk.ReadWriteLogRecord):  # type: ignore[misc]
        """A record whose attributes need no check."""

        def __post_init__(self) -> None:
            pass

    def written(record: Any, attributes: dict[str, Any]) -> Any:
        if len(attributes) > at_most:
            return record
        return Written(record, logger.resource, logger.instrumentation_scope, limits)

    return written
