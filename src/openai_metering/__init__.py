"""Who used how much of OpenAI, through which key: metering for the ``openai`` package over OpenTelemetry."""

from openai_metering.attribution import Attribution
from openai_metering.instrumentor import OpenAIInstrumentor
from openai_metering.scope import attribution, current_attribution
from openai_metering.threads import with_attribution
from openai_metering.version import VERSION

__all__ = ["Attribution", "OpenAIInstrumentor", "__version__", "attribution", "current_attribution", "with_attribution"]

__version__ = VERSION
