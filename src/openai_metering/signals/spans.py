"""The span of a call: kind CLIENT, named by operation and model, with who on it from the start."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry import context, trace
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.trace import SpanKind, Status, StatusCode

from openai_metering.finished import CANCELLED, FAILED
from openai_metering.signals import conventions as c, others
from openai_metering.signals.attributes import at_end, at_start, who
from openai_metering.signals.providers import Listener
from openai_metering.version import VERSION

if TYPE_CHECKING:
    from opentelemetry.context import Context

    from openai_metering.finished import FinishedCall, StartedCall
    from openai_metering.resolution import Resolved
    from openai_metering.settings import Settings

try:
    from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY as _SUPPRESS_KEY
except ImportError:  # a private name, there since 1.10
    _SUPPRESS_KEY = "suppress_instrumentation"

# No description: the text of an exception can quote the prompt or the provider.
_ERROR = Status(StatusCode.ERROR)


# Traceloop's: its instrumentations of frameworks, whose span stands for the model call, set it around the call.
_SUPPRESS_MODEL_CALLS = "suppress_language_model_instrumentation"


def _suppressed(around: Context) -> bool:
    return bool(
        around.get(_SUPPRESS_KEY) or around.get("suppress_instrumentation") or around.get(_SUPPRESS_MODEL_CALLS)
    )


# What is known of the object in which OpenTelemetry's SDK, of version 1.45, keeps the attributes of a span.
_KEPT_IN = frozenset({"_dict", "_immutable", "_lock", "dropped", "max_value_len", "maxlen"})


def _add(span: Any, attributes: dict[str, Any]) -> None:
    """Set attributes on a span of ours that has not ended.

    The SDK checks and copies each; ours are plain values, and go where the SDK would put them, if all that is known of
    the place still holds and nothing is to be cut or left out.
    """
    kept = getattr(span, "_attributes", None)
    if (
        type(kept) is BoundedAttributes
        and vars(kept).keys() == _KEPT_IN
        and type(values := kept._dict) is dict  # noqa: SLF001
        and kept.max_value_len is None
        and (kept.maxlen is None or len(values) + len(attributes) <= kept.maxlen)
    ):
        with kept._lock:  # noqa: SLF001
            values.update(attributes)
    else:
        span.set_attributes(attributes)


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
            The span, ``None`` where the mode, suppression, a missing provider or the span of another instrumentation says
            so; and the span context that the call's usage record refers to, that of the surrounding span where ours is
            missing.
        """
        around = context.get_current()
        other = others.find(around, call.operation.kind) if around and call.parent is None else None
        if other is not None:
            other.attribute(call.who)
        gives_way = self._mode == "auto" and bool(around) and (other is not None or _suppressed(around))
        if gives_way or not self.listening():
            return None, trace.get_current_span(around).get_span_context()
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
            _add(span, at_end(finished))
            if finished.outcome in (FAILED, CANCELLED):
                span.set_status(_ERROR)
        span.end(end_time=finished.ended)
