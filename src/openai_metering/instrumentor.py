"""Puts the seams into the ``openai`` package and takes them out again."""

from __future__ import annotations

import atexit
import functools
import sys
from typing import TYPE_CHECKING, Any, Final

import wrapt
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]

from openai_metering import call, errors, settings as options
from openai_metering.attribution import EMPTY, Attribution, limits
from openai_metering.keys import KeyMap, read_map
from openai_metering.seams import http, keyword, sockets
from openai_metering.seams.metering import Metering
from openai_metering.seams.patches import Patches
from openai_metering.signals import Signals

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from types import ModuleType

    Patch = Callable[[Any, Patches, Metering], None]

_DEPENDENCIES: Final = ("openai >= 1.40.0.dev0",)

# The SDK's inner modules, and what is done when the application imports them. The keyword is taken out wherever we are
# installed; calls are metered only where we are switched on.
_KEYWORD_PATCHES: Final[dict[str, Patch]] = {
    "openai._resource": keyword.patch_resources,
    "openai._response": keyword.patch_response_managers,
    "openai._legacy_response": keyword.patch_raw_views,
}
_METERING_PATCHES: Final[dict[str, Patch]] = {
    "openai._base_client": http.patch_clients,
    "openai.lib.responses_websocket._session": sockets.patch_lanes,
}


class OpenAIInstrumentor(BaseInstrumentor):  # type: ignore[misc]
    """Meters the ``openai`` package: span, metrics and usage record for each billable call, with who it is for.

    ``instrument()`` takes ``tracer_provider``, ``meter_provider`` and ``logger_provider``, the global ones where left
    out, and every option of ``openai_metering.settings.OPTIONS`` by name, each over its environment variable. It never
    raises and never imports ``openai``: the SDK is patched when the application imports it, at once where it has.
    """

    _metering: Metering | None = None
    _patches: Patches | None = None

    def instrumentation_dependencies(self) -> Collection[str]:
        """The SDK versions that are metered, as the extra ``instruments`` states them."""
        return _DEPENDENCIES

    def _instrument(self, **kwargs: Any) -> None:
        try:
            self._start(**kwargs)
        except Exception as error:  # an exception here would stop the launcher from loading other instrumentations
            errors.swallow("instrument", error)

    def _start(
        self, tracer_provider: Any = None, meter_provider: Any = None, logger_provider: Any = None, **overrides: Any
    ) -> None:
        errors.reset()
        self._metering = self._make(overrides, tracer_provider, meter_provider, logger_provider)
        self._patches = Patches()
        _register_hooks()
        for name in (*_KEYWORD_PATCHES, *_METERING_PATCHES):
            module = sys.modules.get(name)
            if module is not None:
                self._patch(name, module)

    @staticmethod
    def _make(overrides: dict[str, Any], tracer_provider: Any, meter_provider: Any, logger_provider: Any) -> Metering:
        """Make what stands behind the seams; where that fails, the keyword is taken out all the same."""
        try:
            settings, problems = options.load(overrides)
            for problem in problems:
                errors.logger.warning("%s", problem)
            limits.value_length, limits.tags = settings.value_length, settings.max_tags
            default = Attribution(
                settings.organization_id, settings.subscriber_identity, settings.subscriber_credential
            )
            return Metering(
                settings,
                Signals(settings, tracer_provider, meter_provider, logger_provider, lambda: len(call.open_calls))
                if settings.enabled
                else None,
                default,
                key_map=_key_map(settings),
                baggage=settings.baggage,
                hash_secret=settings.subscriber_hash_secret,
            )
        except Exception as error:
            errors.swallow("instrument", error)
            return Metering(None, None, EMPTY)

    def _uninstrument(self, **kwargs: Any) -> None:
        del kwargs
        try:
            if self._metering is not None:
                self._metering.active = False
            if self._patches is not None:
                self._patches.undo()
            call.drain()
            if self._metering is not None and self._metering.signals is not None:
                self._metering.signals.close()
        except Exception as error:
            errors.swallow("uninstrument", error)
        self._metering = self._patches = None

    def _patch(self, name: str, module: ModuleType) -> None:
        """Patch one module of the SDK; what an SDK version lacks costs only what depends on it."""
        metering, patches = self._metering, self._patches
        if metering is None or patches is None:
            return
        patch = _KEYWORD_PATCHES.get(name) or (_METERING_PATCHES.get(name) if metering.signals is not None else None)
        if patch is None:
            return
        try:
            patch(module, patches, metering)
        except Exception as error:
            errors.swallow(f"patch {name}", error)


def _key_map(settings: options.Settings) -> KeyMap | None:
    """Read the key map, with a message for everything that is wrong with it."""
    wanted = settings.key_map is not None or settings.unmapped_keys == "alias"
    if not (wanted and settings.enabled):
        return None
    if settings.fingerprint_secret is None:
        errors.logger.warning(
            "The key map is off: set OPENAI_METERING_FINGERPRINT_SECRET to the secret that its fingerprints were made with."
        )
        return None
    entries, problems = ({}, []) if settings.key_map is None else read_map(settings.key_map)
    for problem in problems:
        errors.logger.warning("%s", problem)
    return KeyMap(entries, settings.fingerprint_secret, name_unmapped=settings.unmapped_keys == "alias")


@functools.cache
def _register_hooks() -> None:
    """Have the SDK's modules patched when they are imported; once per process, whatever is switched off and on."""
    for name in (*_KEYWORD_PATCHES, *_METERING_PATCHES):
        if name not in sys.modules:
            wrapt.register_post_import_hook(functools.partial(_imported, name), name)
    atexit.register(call.finish_open_calls)


def _imported(name: str, module: ModuleType) -> None:
    instrumentor = OpenAIInstrumentor._instance  # noqa: SLF001 - the one instance that the base class keeps
    if instrumentor is not None:
        instrumentor._patch(name, module)  # noqa: SLF001
