"""W3C baggage: what of it is believed, what an application puts into it, and that none of it reaches the model provider."""

from __future__ import annotations

import functools
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import baggage, context, trace

from openai_metering import errors
from openai_metering.resolution import CREDENTIAL, EMPTY, ORGANIZATION, SUBSCRIBER, Attribution
from openai_metering.scope import current_attribution

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.context import Context

    from openai_metering.call import Call

PREFIX: Final = "attribution."
_TAG: Final = "attribution.tag."
ENTRIES: Final = {
    "organization": ("attribution.organization.id", ORGANIZATION),
    "subscriber": ("attribution.subscriber.id", SUBSCRIBER),
    "credential": ("attribution.credential.id", CREDENTIAL),
}
"""The entries of baggage by the names of the levels."""


def believed(allowed: frozenset[str]) -> Attribution | None:
    """Return what the current baggage says, as far as it is allowed.

    Args:
        allowed: ``organization``, ``subscriber``, ``credential`` and ``tag.<key>``.
    """
    try:
        entries = baggage.get_all()
        if not entries:
            return None
        return _read(frozenset((k, v) for k, v in entries.items() if k.startswith(PREFIX)), allowed)
    except Exception as error:  # the context is anybody's
        errors.swallow("baggage", error)
        return None


@functools.lru_cache(maxsize=1024)
def _read(entries: frozenset[tuple[str, object]], allowed: frozenset[str]) -> Attribution | None:
    given = dict(entries)
    said: dict[str, object] = {
        name: given[entry] for level, (entry, name) in ENTRIES.items() if level in allowed and entry in given
    }
    said |= {
        entry.removeprefix(_TAG): value
        for entry, value in given.items()
        if entry.startswith(_TAG) and entry.removeprefix(PREFIX) in allowed
    }
    found = Attribution.from_mapping(said)
    return None if found is EMPTY else found


def attribution_baggage(values: Attribution | Mapping[str, object] | None = None) -> Context:
    """Return the current context with who its calls are for in its baggage, for a request to another service of yours.

    Pass it to a propagator (``inject(headers, context=attribution_baggage())``) or attach it while an instrumented
    client sends. The other service believes it as far as its ``OPENAI_METERING_BAGGAGE`` allows. While an OpenAI call
    is sent, these entries are taken out of the baggage.

    Args:
        values: as for ``attribution(...)``; what the scopes around this point say where left out.
    """
    made = context.get_current()
    try:
        who = current_attribution() if values is None else Attribution.from_mapping(values)
        for entry, name in ENTRIES.values():
            if (value := getattr(who, name)) is not None:
                made = baggage.set_baggage(entry, value, made)
        for key, tag in who.tags:
            made = baggage.set_baggage(_TAG + key, str(tag), made)
    except Exception as error:
        errors.swallow("baggage", error)
    return made


class Around:
    """The context that a request is sent in: the call's span is current, and nobody's name is in the baggage."""

    __slots__ = ("_context", "_outer", "_token", "call")

    def __init__(self, call: Call | None = None) -> None:
        self.call = call
        """What the response to the request belongs to, ``None`` where that is free of charge."""
        self._context: Any = None
        self._token: Any = None
        self._outer: Call | None = None

    def enter(self, span: Any) -> None:
        """Attach it, where it differs from the context that there is.

        Args:
            span: of the call, ``None`` where it has none: spans of the HTTP library become its children.
        """
        try:
            self._outer = current.get()
            current.set(self.call)
            here = context.get_current()
            made = here if span is None else trace.set_span_in_context(span, here)
            if here:  # a script's calls are in an empty context
                for name in baggage.get_all(here):
                    if name.startswith(PREFIX):
                        made = baggage.remove_baggage(name, made)
            if made is not here:
                self._context = made
                self._token = context.attach(made)
        except Exception as error:
            errors.swallow("context", error)

    def leave(self) -> None:
        """Detach it again, unless this is another context: a coroutine finalised elsewhere."""
        try:
            if current.get() is self.call:
                current.set(self._outer)
            if self._token is not None and context.get_current() is self._context:
                context.detach(self._token)
        except Exception as error:
            errors.swallow("context", error)
        self._token = None


current: Final[ContextVar[Call | None]] = ContextVar("openai_metering_call", default=None)
"""The call whose request is being sent, ``None`` where that is free of charge. A subclass's own hooks may change its options, so no response is told by these."""


def unnamed(*, active: bool) -> Around:
    """Enter the context of a request without a span, which hands nobody's name on either.

    Args:
        active: whether to enter it at all.
    """
    around = Around()
    if active:
        around.enter(None)
    return around
