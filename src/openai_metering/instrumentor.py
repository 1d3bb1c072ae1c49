"""Switches metering on and off; what that takes is loaded when the application imports the ``openai`` package."""

from __future__ import annotations

import contextlib
import functools
import importlib
import sys
from typing import TYPE_CHECKING, Any, Final

import wrapt
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]

from openai_metering import errors

if TYPE_CHECKING:
    from collections.abc import Collection
    from types import ModuleType

    from openai_metering.installation import Installation
    from openai_metering.seams.metering import Metering

_DEPENDENCIES: Final = ("openai >= 1.40.0.dev0",)

SDK_MODULES: Final = (
    "openai._resource",
    "openai._response",
    "openai._legacy_response",
    "openai._base_client",
    "openai.lib.responses_websocket._session",
)
"""The SDK's modules that are patched: those of `installation.py`'s tables, which is not loaded before one of them is."""


class OpenAIInstrumentor(BaseInstrumentor):  # type: ignore[misc]
    """Meters the ``openai`` package: span, metrics and usage record for each billable call, with who it is for.

    ``instrument()`` takes ``tracer_provider``, ``meter_provider`` and ``logger_provider``, the global ones where left
    out, and every option of ``openai_metering.settings.OPTIONS`` by name, each over its environment variable. It never
    raises and never imports ``openai``: the SDK is patched when the application imports it, at once where it has. The
    options are read then, too.
    """

    _asked: dict[str, Any] | None = None
    _installation: Installation | None = None

    def instrumentation_dependencies(self) -> Collection[str]:
        """The SDK versions that are metered, as the extra ``instruments`` states them."""
        return _DEPENDENCIES

    def _instrument(self, **kwargs: Any) -> None:
        try:
            errors.reset()
            if not _in_main_interpreter():
                errors.warn_once(
                    "interpreter",
                    "openai-metering does not support sub-interpreters: what is counted in this one is not promised. Use "
                    "processes or threads (with mod_wsgi: WSGIApplicationGroup %{GLOBAL}).",
                )
            self._asked = kwargs
            _register_hooks()
            for name in SDK_MODULES:
                module = sys.modules.get(name)
                if module is not None:
                    self._imported(name, module)
        except Exception as error:  # an exception here would stop the launcher from loading other instrumentations
            errors.swallow("instrument", error)

    def _imported(self, name: str, module: ModuleType) -> None:
        """Patch a module of the SDK, where metering is switched on."""
        if self._installation is None:
            if self._asked is None:
                return
            from openai_metering.installation import Installation  # noqa: PLC0415 - for who imports the SDK only

            self._installation = Installation(**self._asked)
        self._installation.patch(name, module)

    def _uninstrument(self, **kwargs: Any) -> None:
        del kwargs
        try:
            if self._installation is not None:
                self._installation.undo()
        except Exception as error:
            errors.swallow("uninstrument", error)
        self._installation = self._asked = None


def metering_in_force() -> Metering | None:
    """What stands behind the seams now; ``None`` while calls are not metered."""
    instrumentor = OpenAIInstrumentor._instance  # noqa: SLF001 - the one instance that the base class keeps
    installation = None if instrumentor is None else instrumentor._installation  # noqa: SLF001
    return None if installation is None or installation.metering.signals is None else installation.metering


def _in_main_interpreter() -> bool:
    """Whether this is the process's first interpreter; only CPython's own modules tell, by a name of each version."""
    for name in ("_interpreters", "_xxsubinterpreters"):
        with contextlib.suppress(Exception):
            interpreters = importlib.import_module(name)
            return bool(interpreters.get_current() == interpreters.get_main())
    return True


@functools.cache
def _register_hooks() -> None:
    """Have the SDK's modules patched when they are imported; once per process, whatever is switched off and on."""
    for name in SDK_MODULES:
        if name not in sys.modules:
            wrapt.register_post_import_hook(functools.partial(_imported, name), name)


def _imported(name: str, module: ModuleType) -> None:
    instrumentor = OpenAIInstrumentor._instance  # noqa: SLF001 - the one instance that the base class keeps
    if instrumentor is not None:
        try:
            instrumentor._imported(name, module)  # noqa: SLF001
        except Exception as error:  # what imports the SDK is the application
            errors.swallow("instrument", error)
