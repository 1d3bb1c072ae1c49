"""The three ways a finished call leaves the process: span, metrics, usage record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from openai_metering import errors
from openai_metering.signals.metrics import Metrics
from openai_metering.signals.records import Records
from openai_metering.signals.spans import Spans

if TYPE_CHECKING:
    from collections.abc import Callable

    from openai_metering.finished import FinishedCall, StartedCall
    from openai_metering.resolution import Resolved
    from openai_metering.settings import Settings

__all__ = ["Signals"]


class Signals:
    """What one ``instrument()`` emits: each signal behind its own guard, so that one's failure is never another's.

    Args:
        settings: the options in force.
        tracer_provider: as in OpenTelemetry, the global one where left out, also when it is set later.
        meter_provider: likewise.
        logger_provider: likewise.
        open_calls: tells how many answers are still being read.
    """

    def __init__(
        self,
        settings: Settings,
        tracer_provider: Any = None,
        meter_provider: Any = None,
        logger_provider: Any = None,
        open_calls: Callable[[], int] = lambda: 0,
    ) -> None:
        self.settings = settings
        tracer_provider = _usable(tracer_provider, "tracer_provider", "get_tracer")
        meter_provider = _usable(meter_provider, "meter_provider", "get_meter")
        logger_provider = _usable(logger_provider, "logger_provider", "get_logger")
        self.spans = Spans(settings, tracer_provider)
        self.metrics = Metrics(settings, meter_provider, open_calls)
        self.records = Records(settings, logger_provider, tracer_provider, self.metrics.count)

    def listening(self) -> bool:
        """Whether anything takes what a call would emit; where nothing does, a call is left alone."""
        return self.records.listening() or self.spans.listening() or self.metrics.listening()

    def start(self, started: StartedCall) -> tuple[Any, Any]:
        """Start the call's span. Returns the span, ``None`` where there is none, and the span context of its record."""
        try:
            return self.spans.start(started)
        except Exception as error:  # a sampler or a span processor of the application may raise
            errors.swallow("span.start", error)
            return None, None

    def tells_started(self) -> bool:
        """Whether a call that takes long leaves a record before its end."""
        return self.records.to_ledger

    def under_way(self, started: StartedCall, span_context: Any, record_id: str) -> None:
        """Tell that a call has begun and takes long."""
        self.records.started(started, span_context, record_id)

    def identify(self, span: Any, who: Resolved) -> None:
        """Put who a call is for on a span that has started without knowing it whole."""
        try:
            self.spans.identify(span, who)
        except Exception as error:
            errors.swallow("span.identify", error)

    def finish(self, finished: FinishedCall) -> None:
        """Emit the signals of a call, the one that a bill is made of first."""
        if finished.operation.billed:
            try:
                self.records.emit(finished)
            except Exception as error:
                errors.swallow("record", error)
            try:
                self.metrics.add(finished)
            except Exception as error:
                errors.swallow("metrics", error)
        if finished.span is not None:
            try:
                self.spans.end(finished)
            except Exception as error:
                errors.swallow("span.end", error)

    def settle(self, finished: FinishedCall, *, counted: bool) -> None:
        """Emit what becomes known when a job has ended, whose call was emitted when it was ordered.

        Args:
            finished: the job, with the usage that its call could not have.
            counted: whether this process ordered it, so that its metrics count the call.
        """
        try:
            self.records.emit(finished)
        except Exception as error:
            errors.swallow("record", error)
        if counted:
            try:
                self.metrics.settle(finished)
            except Exception as error:
                errors.swallow("metrics", error)

    def close(self) -> None:
        """Stop emitting; called by ``uninstrument()``."""
        self.records.close()
        self.metrics.close()


def _usable(provider: Any, name: str, method: str) -> Any:
    """The provider where it is one; else the global one, and a warning."""
    if provider is None or callable(getattr(provider, method, None)):
        return provider
    errors.warn_once(
        f"provider.{name}",
        "%s takes an OpenTelemetry provider, which has %s(); one of type %s was ignored in favour of the global one.",
        name,
        method,
        type(provider).__name__,
    )
    return None
