"""An application full of secrets: wherever one can be put, there is one of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
from collections.abc import Mapping
from typing import Any

import openai
from opentelemetry import baggage, context
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.propagate import inject
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from openai_metering import (
    OpenAIInstrumentor,
    attribution,
    attribution_baggage,
    bind,
    set_attribution_resolver,
    usage_headers,
)

given = json.load(sys.stdin)
S: dict[str, str] = given["secrets"]
I: dict[str, str] = given["identities"]  # noqa: E741
logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
logging.getLogger("openai_metering").setLevel(logging.DEBUG)

collector = given["collector"]
tracers, loggers = TracerProvider(), LoggerProvider()
tracers.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(f"{collector}/v1/traces")))
loggers.add_log_record_processor(SimpleLogRecordProcessor(OTLPLogExporter(f"{collector}/v1/logs")))
meters = MeterProvider([PeriodicExportingMetricReader(OTLPMetricExporter(f"{collector}/v1/metrics"), 3_600_000)])
instrumentor = OpenAIInstrumentor()
instrumentor.instrument(
    tracer_provider=tracers,
    meter_provider=meters,
    logger_provider=loggers,
    records="both",
    ledger_dir=given["ledger"],
    metric_attributes="subscriber,credential",
    baggage="organization,tag.team",
    fingerprint_secret=S["fingerprint_secret"],
    unmapped_keys="alias",
    key_map=f"{S['key_in_map']}=alias",
    subscriber_hash_secret=S["hash_secret"],
    stream_usage=S["key_as_option"],
)


class Raising(Mapping[str, object]):
    """Metadata that cannot be read, and quotes a secret in its complaint."""

    def __getitem__(self, key: str) -> object:
        raise KeyError(S["metadata_error"])

    def __iter__(self) -> Any:
        raise RuntimeError(S["metadata_error"])

    def __len__(self) -> int:
        return 1


def resolver() -> dict[str, object]:
    raise LookupError(S["resolver_error"])


set_attribution_resolver(resolver)


async def hook(request: Any) -> None:
    inject(request.headers)


def library() -> Any:
    return sys.modules[
        next(a.__module__.split(".")[0] for a in openai.DefaultHttpxClient.__mro__ if "httpx" in a.__module__)
    ]


PROMPT = [{"role": "user", "content": S["prompt"]}]
CHAT: dict[str, Any] = {
    "model": "gpt-4o",
    "messages": PROMPT,
    "user": S["user_field"],
    "extra_headers": {"X-Mine": S["header"], "Authorization": f"Bearer {S['key_in_header']}"},
    "extra_query": {"signature": S["url_query"]},
}
WHO = {
    "organization_id": I["organization"],
    "subscriber_identity": I["subscriber"],
    "subscriber_credential": I["credential"],
    "team": I["tag"],
}
LEAKY = {
    "organization_id": f"Acme {S['key_in_organization']}",
    "subscriber_identity": S["key_in_subscriber"],
    "subscriber_credential": S["key_as_credential"],
    "note": f"uses {S['key_in_tag']}",
    S["key_as_tag"]: 1,
    "organisation_id": S["key_near_miss"],
}


def calls(client: Any) -> None:
    create = client.chat.completions.create
    create(**CHAT, usage_metadata=WHO)
    create(**CHAT, usage_metadata=LEAKY)
    create(**CHAT, usage_metadata=Raising())
    create(**CHAT, usage_metadata=[S["wrong_type"]])
    create(**{**CHAT, "model": f"gpt-4o {S['key_in_model']}"})
    create(**{**CHAT, "extra_headers": {"OpenAI-Organization": S["key_as_account"], **usage_headers(WHO)}})
    for streamed in (
        create(**CHAT, stream=True),
        client.responses.create(model="gpt-4.1", input=S["prompt"], stream=True),
    ):
        for _ in streamed:
            pass
    with client.chat.completions.with_streaming_response.create(**CHAT) as response:
        response.read()
    client.with_raw_response.models.list(extra_query={"signature": S["url_query"]})
    for status in ("400", "401", "500", "broken"):
        with contextlib.suppress(openai.OpenAIError, ValueError):
            create(**{**CHAT, "extra_headers": {"X-Fail": status}}, usage_metadata=WHO)
    with contextlib.suppress(openai.OpenAIError, ValueError):
        for _ in create(**{**CHAT, "extra_headers": {"X-Fail": "stream"}}, stream=True):
            pass
    with contextlib.suppress(openai.APIConnectionError):
        client.with_options(base_url=f"http://127.0.0.1:9/{S['url_path']}").chat.completions.create(**CHAT)


async def calls_async() -> None:
    async with openai.AsyncOpenAI(
        base_url=given["provider"],
        max_retries=0,
        api_key=S["api_key"],
        http_client=library().AsyncClient(event_hooks={"request": [hook]}),
    ) as client:
        await bind(client, WHO).chat.completions.create(**CHAT)
        await asyncio.gather(*(client.chat.completions.create(**CHAT, usage_metadata=LEAKY) for _ in range(3)))


with attribution(WHO):
    carried = attribution_baggage()
context.attach(baggage.set_baggage("shop.region", "eu", carried))
sync = openai.OpenAI(
    base_url=given["provider"],
    max_retries=0,
    api_key=S["api_key"],
    http_client=library().Client(event_hooks={"request": [lambda request: inject(request.headers)]}),
)
with attribution(plan=I["scope_tag"]):
    calls(bind(sync, WHO))
    calls(sync)
asyncio.run(calls_async())
meters.force_flush()
instrumentor.uninstrument()
for provider in (tracers, loggers, meters):
    provider.shutdown()
