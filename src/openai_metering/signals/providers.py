"""Whether somebody listens: OpenTelemetry's providers, which may be set long after ``instrument()``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class Listener:
    """Tells whether a provider takes signals; a global one that is not there yet is looked for at each call.

    Args:
        given: the provider that ``instrument()`` was given, if any.
        current: returns the global provider.
    """

    __slots__ = ("_current", "provider")

    def __init__(self, given: Any, current: Callable[[], Any]) -> None:
        self._current = current
        self.provider: Any = given if given is not None and _is_real(given) else None
        if given is not None:
            self._current = lambda: given

    def __bool__(self) -> bool:
        if self.provider is not None:
            return True
        provider = self._current()
        if not _is_real(provider):
            return False
        self.provider = provider  # OpenTelemetry allows the global provider to be set once: the answer stays
        return True


def _is_real(provider: Any) -> bool:
    """The API's own classes are proxies and no-ops; any other class does something with what it gets.

    The SDK's providers know themselves when ``OTEL_SDK_DISABLED`` turns them off.
    """
    if getattr(provider, "_disabled", False) is True:
        return False
    module = type(provider).__module__
    return not (module.startswith("opentelemetry.") and not module.startswith("opentelemetry.sdk"))
