"""Who used how much of OpenAI, through which key: metering for the ``openai`` package over OpenTelemetry."""

from openai_metering.attribution import CLEAR, Attribution
from openai_metering.instrumentor import OpenAIInstrumentor
from openai_metering.resolver import set_attribution_resolver
from openai_metering.scope import attribution, current_attribution
from openai_metering.seams.baggage import attribution_baggage
from openai_metering.seams.binding import bind, usage_headers
from openai_metering.version import VERSION

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
]

__version__ = VERSION
