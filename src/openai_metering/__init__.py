"""Who used how much of OpenAI, through which key: metering for the ``openai`` package over OpenTelemetry."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from openai_metering.instrumentor import OpenAIInstrumentor
    from openai_metering.resolution import CLEAR, Attribution
    from openai_metering.resolver import set_attribution_resolver
    from openai_metering.scope import attribution, current_attribution
    from openai_metering.seams.baggage import attribution_baggage
    from openai_metering.seams.binding import bind, usage_headers
    from openai_metering.threads import with_attribution
    from openai_metering.version import VERSION as __version__  # noqa: N811 - the name that Python gives it

__all__ = [
    "CLEAR",
    "Attribution",
    "OpenAIInstrumentor",
    "__version__",
    "attribution",
    "attribution_baggage",
    "bind",
    "current_attribution",
    "set_attribution_resolver",
    "usage_headers",
    "with_attribution",
]

# Where each name lives. The launcher loads this package into every process, most of which never import the SDK.
_PLACES = {
    "CLEAR": ("resolution", "CLEAR"),
    "Attribution": ("resolution", "Attribution"),
    "OpenAIInstrumentor": ("instrumentor", "OpenAIInstrumentor"),
    "__version__": ("version", "VERSION"),
    "attribution": ("scope", "attribution"),
    "attribution_baggage": ("seams.baggage", "attribution_baggage"),
    "bind": ("seams.binding", "bind"),
    "current_attribution": ("scope", "current_attribution"),
    "set_attribution_resolver": ("resolver", "set_attribution_resolver"),
    "usage_headers": ("seams.binding", "usage_headers"),
    "with_attribution": ("threads", "with_attribution"),
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, inside = _PLACES[name]
    value = globals()[name] = getattr(importlib.import_module(f"{__name__}.{module}"), inside)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
