"""A set-up of OpenTelemetry of your own, with OTLP exporters, and one call that switches metering on.

The exporters send to where OTEL_EXPORTER_OTLP_ENDPOINT points, http://localhost:4318 where it is not set.
"""

import openai
from opentelemetry import _logs, metrics, trace
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from openai_metering import OpenAIInstrumentor, attribution

resource = Resource.create({"service.name": "manual-setup"})

tracer_provider = TracerProvider(resource=resource)
tracer_provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
trace.set_tracer_provider(tracer_provider)

metrics.set_meter_provider(MeterProvider([PeriodicExportingMetricReader(OTLPMetricExporter())], resource))

logger_provider = LoggerProvider(resource)
logger_provider.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter()))
_logs.set_logger_provider(logger_provider)

OpenAIInstrumentor().instrument()

# The call's span is a child of the span around it; all providers send what they hold when the process ends.
client = openai.OpenAI()
who = attribution(organization_id="AcmeSoft", subscriber_identity="ann@acme.com", subscriber_credential="key3-reports")
with trace.get_tracer("manual-setup").start_as_current_span("weekly report"), who:
    response = client.responses.create(model="gpt-4o-mini", input="Write the headline of a weekly report.")
print(response.output_text)
