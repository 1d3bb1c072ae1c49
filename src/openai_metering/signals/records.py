"""The usage record of a call: one log record for each billable call, to the ledger or over OTLP, never sampled."""

from __future__ import annotations

import errno
import os
import time
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import _logs, trace
from opentelemetry._logs import SeverityNumber

from openai_metering import errors, settings as options
from openai_metering.finished import PENDING, STARTED, TOLD
from openai_metering.ledger import Ledger, Rules
from openai_metering.signals import conventions as c
from openai_metering.signals.attributes import at_end, at_start
from openai_metering.signals.loggers import Emitter
from openai_metering.signals.providers import Listener
from openai_metering.usage import UNKNOWN
from openai_metering.version import VERSION, installed

if TYPE_CHECKING:
    from collections.abc import Callable

    from openai_metering.finished import FinishedCall, StartedCall
    from openai_metering.resolution import Resolved
    from openai_metering.settings import Settings

RECORD_VERSION: Final = 1


class Records:
    """Emits usage records to where the settings send them."""

    def __init__(
        self,
        settings: Settings,
        logger_provider: Any = None,
        tracer_provider: Any = None,
        count: Callable[..., None] = lambda *_: None,
    ) -> None:
        ledger_set = settings.ledger_dir is not None
        self.to_ledger = ledger_set and settings.records in ("auto", "ledger", "both")
        self._to_otlp = settings.records in ("otlp", "both") or (settings.records == "auto" and not ledger_set)
        self._folder = settings.ledger_dir
        self._ledger: Ledger | None = None
        self._failing = False
        self._listener = Listener(logger_provider, _logs.get_logger_provider)
        self._tracing = Listener(tracer_provider, trace.get_tracer_provider)
        self._emitter: Emitter | None = None
        self._rules = Rules(
            settings.ledger_fsync,
            settings.ledger_rotate_bytes,
            settings.ledger_rotate_seconds,
            settings.ledger_max_bytes,
        )
        self._count = count
        if settings.records == "ledger" and not ledger_set:
            errors.warn_once(
                "records.ledger", "OPENAI_METERING_RECORDS=ledger needs OPENAI_METERING_LEDGER_DIR; no record is kept."
            )

    def listening(self) -> bool:
        """Whether usage records go anywhere."""
        return self.to_ledger or (self._to_otlp and bool(self._listener))

    def emit(self, finished: FinishedCall) -> None:
        """Emit the record of a finished call."""
        if not (self.to_ledger or self._to_otlp):
            return
        if finished.state == TOLD:
            if finished.started_id is None:
                return
            finished = finished._replace(state=PENDING)  # only to say whose `started` record is settled
        attributes = record_attributes(finished)
        in_ledger = self.to_ledger and self._append(finished.ended, finished.span_context, attributes)
        if self._to_otlp or (self.to_ledger and not in_ledger):
            self._log(finished, attributes, in_ledger=in_ledger)

    def started(self, started: StartedCall, span_context: Any, record_id: str) -> None:
        """Tell the ledger that a call is under way, so that the end of the process does not hide it."""
        if self.to_ledger:
            now = time.time_ns()
            self._append(now, span_context, started_attributes(started, record_id))

    def close(self) -> None:
        """Close the ledger's file."""
        if self._ledger is not None:
            self._ledger.close()

    def _log(self, finished: FinishedCall, attributes: dict[str, Any], *, in_ledger: bool) -> None:
        if not self._listener:
            if not in_ledger:
                reason = "ledger" if self.to_ledger else "no_destination"
                self._tell((c.METRIC_RECORDS_DROPPED, 1, "reason", reason))
            if not in_ledger and not self.to_ledger:  # what is wrong with a ledger has been said
                errors.warn_once(
                    "records.nowhere",
                    "Usage records have no destination: set up an OpenTelemetry logger provider (the launcher with "
                    "opentelemetry-distro does) or set OPENAI_METERING_LEDGER_DIR to a folder.",
                )
            return
        if self._emitter is None:
            provider = self._listener.provider
            self._emitter = Emitter(_logs.get_logger(c.SCOPE_NAME, VERSION, provider, c.SCHEMA_URL))
        self._emitter.emit(c.USAGE_EVENT, finished.ended, finished.span_context, attributes)
        self._tell((c.METRIC_RECORDS, 1, "destination", "otlp"))

    def _tell(self, *counted: tuple[str, int, str, str]) -> None:
        try:
            self._count(*counted)
        except Exception as error:  # the record is kept, whatever becomes of its count
            errors.swallow("metrics", error)

    def _append(self, ended: int, span_context: Any, attributes: dict[str, Any]) -> bool:
        record: dict[str, Any] = {
            "timeUnixNano": str(ended),
            "observedTimeUnixNano": str(ended),
            "severityNumber": SeverityNumber.INFO.value,
            "severityText": "INFO",
            "body": {},
            "eventName": c.USAGE_EVENT,
        }
        if span_context is not None and span_context.is_valid:
            record["traceId"] = f"{span_context.trace_id:032x}"
            record["spanId"] = f"{span_context.span_id:016x}"
            record["flags"] = int(span_context.trace_flags)
        try:
            ledger = self._ledger or self._open_ledger()
            written = ledger.append(record, attributes)
        except OSError as error:
            errors.count("ledger")
            self._failing = True
            reason = errno.errorcode.get(error.errno or 0, type(error).__name__)
            self._tell((c.METRIC_LEDGER_ERRORS, 1, "reason", reason))
            errors.warn_once(
                "ledger",
                "The ledger in %s cannot be written (%s); usage records go out as OTLP logs where a logger provider is "
                "set up, else they are lost. Check the folder's owner, mode and free space.",
                self._folder,
                error.strerror or type(error).__name__,
            )
            return False
        if self._failing:
            self._failing = False
            errors.warn_once("ledger_again", "The ledger in %s is written again.", self._folder)
        self._tell((c.METRIC_LEDGER_BYTES, written, "", ""), (c.METRIC_RECORDS, 1, "destination", "ledger"))
        return True

    def _told(self, event: str, amount: int) -> None:
        """What the ledger tells, as metrics."""
        if event == "deleted":
            self._tell((c.METRIC_LEDGER_DELETED, amount, "", ""))
        elif event == "lost":
            self._tell((c.METRIC_RECORDS_DROPPED, amount, "reason", "ledger"))
        else:
            self._tell((c.METRIC_LEDGER_ERRORS, amount, "reason", event))

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
            self._rules,
            self._told,
        )
        return self._ledger


def record_attributes(finished: FinishedCall) -> dict[str, Any]:
    """Everything that a usage record says."""
    record_id = finished.record_id or finished.started_id or os.urandom(16).hex()
    attributes = _identity(record_id, finished.state, finished.started, finished.who)
    if finished.started_id is not None and finished.started_id != record_id:
        attributes[c.RECORD_STARTED_ID] = finished.started_id
    attributes.update(at_start(finished.operation, finished.server, finished.request, finished.who))
    attributes.update(at_end(finished))
    return attributes


def started_attributes(started: StartedCall, record_id: str) -> dict[str, Any]:
    """What is said of a call that has not ended."""
    return {
        **_identity(record_id, STARTED, started.started, started.who),
        **at_start(started.operation, started.server, started.request, started.who),
        c.USAGE_STATUS: UNKNOWN,
        c.USAGE_REASON: "under_way",
    }


def _identity(record_id: str, state: str, began: int, who: Resolved) -> dict[str, Any]:
    organization, subscriber, credential = who.sources
    attributes: dict[str, Any] = {
        c.RECORD_ID: record_id,
        c.RECORD_VERSION: RECORD_VERSION,
        c.RECORD_STATE: state,
        c.RECORD_START_TIME: began,
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
