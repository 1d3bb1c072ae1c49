"""The span of a call: kind CLIENT, named by operation and model, with who on it from the start."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry import context, trace
from opentelemetry.trace import SpanKind, Status, StatusCode

from openai_metering.finished import CANCELLED, FAILED
from openai_metering.signals import conventions as c
from openai_metering.signals.attributes import at_end, at_start, who
from openai_metering.signals.providers import Listener
from openai_metering.version import VERSION

if TYPE_CHECKING:
    from openai_metering.attribution import Resolved
    from openai_metering.finished import FinishedCall, StartedCall
    from openai_metering.settings import Settings

try:
    from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY as _SUPPRESS_KEY
except ImportError:  # a private name, there since 1.10
    _SUPPRESS_KEY = "suppress_instrumentation"

# No description: the text of an exception can quote the prompt or the provider.
_ERROR = Status(StatusCode.ERROR)


class Spans:
    """Starts and ends spans."""

    def __init__(self, settings: Settings, tracer_provider: Any = None) -> None:
        self._mode = settings.spans
        self._listener = Listener(tracer_provider, trace.get_tracer_provider)
        self._tracer = trace.get_tracer(c.SCOPE_NAME, VERSION, tracer_provider, c.SCHEMA_URL)

    def listening(self) -> bool:
        """Whether spans go anywhere."""
        return self._mode != "never" and bool(self._listener)

    def start(self, call: StartedCall) -> tuple[Any, Any]:
        """Start the span of a call.

        Returns:
            The span, ``None`` where the mode, suppression or a missing provider says so; and the span context that the
            call's usage record refers to, that of the surrounding span where there is none.
        """
        if not self.listening() or (
            self._mode == "auto" and (context.get_value(_SUPPRESS_KEY) or context.get_value("suppress_instrumentation"))
        ):
            return None, trace.get_current_span().get_span_context()
        model = call.request.model
        name = call.operation.kind if call.operation.billed else call.operation.name
        span = self._tracer.start_span(
            f"{name} {model}" if model else name,
            context=None if call.parent is None else trace.set_span_in_context(call.parent),
            kind=SpanKind.CLIENT,
            attributes=at_start(call.operation, call.server, call.request, call.who),
            start_time=call.started,
        )
        return span, span.get_span_context()

    def identify(self, span: Any, resolved: Resolved) -> None:
        """Say who the call is for, where that became known after its start."""
        if span is not None and span.is_recording():
            span.set_attributes(who(resolved))

    def end(self, finished: FinishedCall) -> None:
        """Complete the span and end it."""
        span = finished.span
        if span.is_recording():
            span.set_attributes(at_end(finished))
            if finished.outcome in (FAILED, CANCELLED):
                span.set_status(_ERROR)
        span.end(end_time=finished.ended)
