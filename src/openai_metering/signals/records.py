"""The usage record of a call: one log record for each billable call, to the ledger or over OTLP, never sampled."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import _logs, metrics, trace
from opentelemetry._logs import LogRecord, SeverityNumber

from openai_metering import errors, settings as options
from openai_metering.finished import TOLD
from openai_metering.ledger import Ledger
from openai_metering.signals import conventions as c
from openai_metering.signals.attributes import at_end, at_start
from openai_metering.signals.providers import Listener
from openai_metering.version import VERSION, installed

if TYPE_CHECKING:
    from openai_metering.finished import FinishedCall
    from openai_metering.settings import Settings

RECORD_VERSION: Final = 1


class Records:
    """Emits usage records to where the settings send them."""

    def __init__(
        self,
        settings: Settings,
        logger_provider: Any = None,
        tracer_provider: Any = None,
        meter_provider: Any = None,
    ) -> None:
        ledger_set = settings.ledger_dir is not None
        self._to_ledger = ledger_set and settings.records in ("auto", "ledger", "both")
        self._to_otlp = settings.records in ("otlp", "both") or (settings.records == "auto" and not ledger_set)
        self._folder = settings.ledger_dir
        self._ledger: Ledger | None = None
        self._listener = Listener(logger_provider, _logs.get_logger_provider)
        self._tracing = Listener(tracer_provider, trace.get_tracer_provider)
        self._logger = _logs.get_logger(c.SCOPE_NAME, VERSION, logger_provider, c.SCHEMA_URL)
        meter = metrics.get_meter(c.SCOPE_NAME, VERSION, meter_provider, c.SCHEMA_URL)
        self._dropped = meter.create_counter(c.METRIC_RECORDS_DROPPED, "{record}", "Usage records that were lost.")
        self._bytes = meter.create_counter(c.METRIC_LEDGER_BYTES, "By", "Bytes appended to the ledger.")
        if settings.records == "ledger" and not ledger_set:
            errors.warn_once(
                "records.ledger", "OPENAI_METERING_RECORDS=ledger needs OPENAI_METERING_LEDGER_DIR; no record is kept."
            )

    def listening(self) -> bool:
        """Whether usage records go anywhere."""
        return self._to_ledger or (self._to_otlp and bool(self._listener))

    def emit(self, finished: FinishedCall) -> None:
        """Emit the record of a finished call."""
        if finished.state == TOLD or not (self._to_ledger or self._to_otlp):
            return
        attributes = record_attributes(finished)
        in_ledger = self._to_ledger and self._append(finished, attributes)
        if self._to_otlp or (self._to_ledger and not in_ledger):
            self._log(finished, attributes, in_ledger=in_ledger)

    def close(self) -> None:
        """Close the ledger's file."""
        if self._ledger is not None:
            self._ledger.close()

    def _log(self, finished: FinishedCall, attributes: dict[str, Any], *, in_ledger: bool) -> None:
        if not self._listener:
            if not in_ledger:
                self._dropped.add(1, {"reason": "no_destination"})
            if not in_ledger and not self._to_ledger:  # what is wrong with a ledger has been said
                errors.warn_once(
                    "records.nowhere",
                    "Usage records have no destination: set up an OpenTelemetry logger provider (the launcher with "
                    "opentelemetry-distro does) or set OPENAI_METERING_LEDGER_DIR to a folder.",
                )
            return
        span_context = finished.span_context
        self._logger.emit(
            LogRecord(
                timestamp=finished.ended,
                observed_timestamp=time.time_ns(),
                context=None
                if span_context is None
                else trace.set_span_in_context(trace.NonRecordingSpan(span_context)),
                severity_number=SeverityNumber.INFO,
                severity_text="INFO",
                attributes=attributes,
                event_name=c.USAGE_EVENT,
            )
        )

    def _append(self, finished: FinishedCall, attributes: dict[str, Any]) -> bool:
        record: dict[str, Any] = {
            "timeUnixNano": str(finished.ended),
            "observedTimeUnixNano": str(finished.ended),
            "severityNumber": SeverityNumber.INFO.value,
            "severityText": "INFO",
            "body": {},
            "eventName": c.USAGE_EVENT,
        }
        span_context = finished.span_context
        if span_context is not None and span_context.is_valid:
            record["traceId"] = f"{span_context.trace_id:032x}"
            record["spanId"] = f"{span_context.span_id:016x}"
            record["flags"] = int(span_context.trace_flags)
        try:
            ledger = self._ledger or self._open_ledger()
            written = ledger.append(record, attributes)
        except OSError as error:
            errors.count("ledger")
            errors.warn_once(
                "ledger",
                "The ledger in %s cannot be written (%s); usage records go out as OTLP logs where a logger provider is "
                "set up, else they are lost. Check the folder's owner, mode and free space.",
                self._folder,
                error.strerror or type(error).__name__,
            )
            return False
        try:
            self._bytes.add(written)
        except Exception as error:  # the record is kept, whatever becomes of its size
            errors.swallow("metrics", error)
        return True

    def _open_ledger(self) -> Ledger:
        resource = next(
            (
                dict(found.attributes)
                for listener in (self._listener, self._tracing)
                if listener and (found := getattr(listener.provider, "resource", None)) is not None
            ),
            None,
        )
        self._ledger = Ledger(
            self._folder or os.curdir,
            options.resource_from_environment() if resource is None else resource,
            (c.SCOPE_NAME, VERSION),
            c.SCHEMA_URL,
        )
        return self._ledger


def record_attributes(finished: FinishedCall) -> dict[str, Any]:
    """Everything that a usage record says."""
    organization, subscriber, credential = finished.who.sources
    attributes: dict[str, Any] = {
        c.RECORD_ID: finished.record_id or os.urandom(16).hex(),
        c.RECORD_VERSION: RECORD_VERSION,
        c.RECORD_STATE: finished.state,
        c.RECORD_START_TIME: finished.started,
        **at_start(finished.operation, finished.server, finished.request, finished.who),
        **at_end(finished),
    }
    if organization is not None:
        attributes[c.ORGANIZATION_SOURCE] = organization
    if subscriber is not None:
        attributes[c.SUBSCRIBER_SOURCE] = subscriber
    if credential is not None:
        attributes[c.CREDENTIAL_SOURCE] = credential
    if _SDK_VERSION is not None:
        attributes[c.SDK_VERSION] = _SDK_VERSION
    return attributes


_SDK_VERSION = installed("openai")
