"""What one ``instrument()`` puts into the ``openai`` package, made when the application has imported it."""

from __future__ import annotations

import atexit
import functools
from typing import TYPE_CHECKING, Any, Final

from openai_metering import call, errors, settings as options
from openai_metering.keys import KeyMap, read_map
from openai_metering.resolution import EMPTY, Attribution, set_limits
from openai_metering.seams import http, keyword
from openai_metering.seams.metering import Metering
from openai_metering.seams.patches import Patches
from openai_metering.signals import Signals

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    Patch = Callable[[Any, Patches, Metering], None]


def _patch_lanes(module: Any, patches: Patches, metering: Metering) -> None:
    from openai_metering.seams import sockets  # noqa: PLC0415 - for who opens websockets only

    sockets.patch_lanes(module, patches, metering)


# The SDK's inner modules, and what is done when the application imports them. The keyword is taken out wherever we are
# installed; calls are metered only where we are switched on.
KEYWORD_PATCHES: Final[dict[str, Patch]] = {
    "openai._resource": keyword.patch_resources,
    "openai._response": keyword.patch_response_managers,
    "openai._legacy_response": keyword.patch_raw_views,
}
METERING_PATCHES: Final[dict[str, Patch]] = {
    "openai._base_client": http.patch_clients,
    "openai.lib.responses_websocket._session": _patch_lanes,
}


class Installation:
    """The seams of one ``instrument()``, and what stands behind them.

    Args:
        tracer_provider: as in OpenTelemetry, the global one where left out.
        meter_provider: likewise.
        logger_provider: likewise.
        overrides: options by name, each over its environment variable.
    """

    def __init__(
        self, tracer_provider: Any = None, meter_provider: Any = None, logger_provider: Any = None, **overrides: Any
    ) -> None:
        self.metering = _metering(overrides, tracer_provider, meter_provider, logger_provider)
        self._patches = Patches()
        _end_calls_at_exit()

    def patch(self, name: str, module: ModuleType) -> None:
        """Patch one module of the SDK; what an SDK version lacks costs only what depends on it."""
        metering = self.metering
        patch = KEYWORD_PATCHES.get(name) or (METERING_PATCHES.get(name) if metering.signals is not None else None)
        if patch is None:
            return
        try:
            patch(module, self._patches, metering)
        except Exception as error:
            errors.swallow(f"patch {name}", error)

    def undo(self) -> None:
        """Give the SDK back what was replaced, and end what is emitted."""
        self.metering.active = False
        self._patches.undo()
        call.drain()
        if self.metering.signals is not None:
            self.metering.signals.close()


def _metering(overrides: dict[str, Any], tracer_provider: Any, meter_provider: Any, logger_provider: Any) -> Metering:
    """Make what stands behind the seams; where that fails, the keyword is taken out all the same."""
    try:
        settings, problems = options.load(overrides)
        for problem in problems:
            errors.logger.warning("%s", problem)
        set_limits(settings.value_length, settings.max_tags)
        default = Attribution(settings.organization_id, settings.subscriber_identity, settings.subscriber_credential)
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
def _end_calls_at_exit() -> None:
    """Have open calls ended when the process ends; once per process, whatever is switched off and on."""
    atexit.register(call.finish_open_calls)
