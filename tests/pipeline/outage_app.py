"""An application whose Collector is away: it calls until it is told to stop, and says how it fares.

Reads ``PROVIDER``, ``ENDPOINT`` (OTLP/HTTP) and ``LEDGER`` from the environment; ends when its standard input does.
"""

from __future__ import annotations

import json
import os
import resource
import select
import sys
import time

import openai
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from openai_metering import OpenAIInstrumentor

QUEUE = 64
endpoint = os.environ["ENDPOINT"]
spans = TracerProvider()
spans.add_span_processor(
    BatchSpanProcessor(
        OTLPSpanExporter(f"{endpoint}/v1/traces", timeout=1),
        max_queue_size=QUEUE,
        max_export_batch_size=QUEUE,
        schedule_delay_millis=100,
    )
)
reader = PeriodicExportingMetricReader(OTLPMetricExporter(f"{endpoint}/v1/metrics", timeout=1), 500)
meters = MeterProvider([reader])
OpenAIInstrumentor().instrument(tracer_provider=spans, meter_provider=meters, ledger_dir=os.environ["LEDGER"])

client = openai.OpenAI(base_url=os.environ["PROVIDER"], api_key="test", max_retries=0)
calls, longest = 0, 0.0
while not select.select([sys.stdin], [], [], 0)[0]:
    began = time.perf_counter()
    client.embeddings.create(
        model="text-embedding-3-small", input="Paris", usage_metadata={"organization_id": "AcmeSoft"}
    )
    longest = max(longest, time.perf_counter() - began)
    calls += 1
    if calls % 100 == 0:
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024  # MiB, of all time
        print(json.dumps({"calls": calls, "memory": memory, "longest": longest}), flush=True)
meters.force_flush()
print(json.dumps({"calls": calls, "longest": longest}), flush=True)
os._exit(0)  # its spans are of no interest
