"""A span processor that writes who a call is for on the model call spans of other instrumentations.

Needs the SDK of OpenTelemetry, as every set-up with a tracer provider has it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry.sdk.trace import SpanProcessor

from openai_metering import errors
from openai_metering.instrumentor import metering_in_force
from openai_metering.resolution import EMPTY, resolve
from openai_metering.scope import current_attribution
from openai_metering.signals.attributes import who
from openai_metering.signals.others import is_model_call

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import Span

__all__ = ["AttributionSpanProcessor"]


class AttributionSpanProcessor(SpanProcessor):
    """Writes ``attribution.*`` and ``user.id`` on the model call spans of other instrumentations when they start.

    What is known at that time is the scope, ``attribution(...)``, and the process default. What ``usage_metadata=`` says
    is written on such a span later, when the call passes the seam, where it is the current span. Does nothing while
    openai-metering is not switched on, and never raises.

    ::

        tracer_provider.add_span_processor(AttributionSpanProcessor())
    """

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Write who the call is for, where the span is one of a model call."""
        del parent_context
        try:
            metering = metering_in_force()
            if metering is not None and is_model_call(span):
                span.set_attributes(who(resolve(EMPTY, current_attribution(), metering.default)))
        except Exception as error:
            errors.swallow("processor", error)
