"""Spans that other instrumentations make of model calls: which they are, and who is written on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from opentelemetry import trace

from openai_metering.signals import conventions as c
from openai_metering.signals.attributes import who

if TYPE_CHECKING:
    from collections.abc import Mapping

    from openai_metering.resolution import Resolved

ANY: Final = "any"
"""Stands for whatever kind of operation there is."""

# How a span that another instrumentation has started says that it is a model call, and of which kind: an attribute, and
# what its values stand for; `None` where the values are the names of the convention, which are ours, too.
MARKS: Final[tuple[tuple[str, Mapping[str, str] | None], ...]] = (
    (c.OPERATION_NAME, None),  # OpenTelemetry's own packages, Traceloop and whoever follows the GenAI conventions
    ("openinference.span.kind", {"LLM": ANY, "EMBEDDING": "embeddings", "DECISION": "decision"}),  # OpenInference
    ("llm.request.type", {"chat": "chat", "completion": "text_completion", "embedding": "embeddings"}),  # old Traceloop
)

# Operations of the convention that are no model call, but have some within them.
_AROUND: Final = frozenset(
    {"create_agent", "execute_tool", "invoke_agent", "invoke_workflow", "plan", "retrieval", "fetch_response"}
)

# Where `opentelemetry-util-genai` keeps what an inner layer is to add to the span of the outer one, and the kinds of
# operation that it has such spans for. While it is there, the layers that use the package make no span of their own.
_CONTEXT_KEYS: Final[Mapping[str, str]] = {
    "chat": "opentelemetry.genai.client.inference.context",
    "text_completion": "opentelemetry.genai.client.inference.context",
    "generate_content": "opentelemetry.genai.client.inference.context",
    "embeddings": "opentelemetry.genai.client.embedding.context",
}

# Scopes whose spans say only later what they are: Traceloop makes those of Responses when the answer is there.
_SCOPES: Final = frozenset({"opentelemetry.instrumentation.openai.v1"})


class Other:
    """The span of another instrumentation that stands for the call that is about to be sent.

    Args:
        span: that span, ``None`` where it is not the current one.
        shared: what ``opentelemetry-util-genai`` hands from an inner layer to an outer one, if anything.
    """

    __slots__ = ("_shared", "_span")

    def __init__(self, span: Any, shared: Any) -> None:
        self._span = span
        self._shared = shared

    def attribute(self, resolved: Resolved) -> None:
        """Write on it who the call is for, the keyword included, which is known only here."""
        if self._span is not None:
            self._span.set_attributes(who(resolved))
        attributes = getattr(self._shared, "attributes", None)
        if isinstance(attributes, dict):
            attributes.update(who(resolved))


def find(around: Mapping[str, Any], kind: str) -> Other | None:
    """Return the span of another that stands for a call of this kind, ``None`` where there is none.

    Args:
        around: OpenTelemetry's current context, not empty.
        kind: ``gen_ai.operation.name`` of the call.
    """
    key = _CONTEXT_KEYS.get(kind)
    shared = None if key is None else around.get(key)
    span: Any = trace.get_current_span(around)  # type: ignore[arg-type]
    found = kind_of(span)
    same = found == kind or (found == ANY and kind not in ("embeddings", "decision"))
    return Other(span if same else None, shared) if same or shared is not None else None


def kind_of(span: Any) -> str | None:
    """Which kind of model call a span of another instrumentation stands for, ``None`` where it does for none.

    Args:
        span: any span. Only one that is recorded, and has not ended, says what it is.
    """
    attributes = getattr(span, "attributes", None)
    if not attributes or c.OPERATION in attributes or not span.is_recording():
        return None  # of the application, ours, or not recorded
    for name, kinds in MARKS:
        value = attributes.get(name)
        if isinstance(value, str):
            found = value if kinds is None else kinds.get(value)
            if found is not None:
                return None if found in _AROUND else found
    return None


def is_model_call(span: Any) -> bool:
    """Whether a span that starts is a model call of another instrumentation's."""
    if kind_of(span) is not None:
        return True
    scope = getattr(span, "instrumentation_scope", None)
    return getattr(scope, "name", None) in _SCOPES and span.is_recording()
