"""One process of the benchmark: the SDK in one variant, which makes the calls that its standard input asks for."""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MESSAGES = [
    {"role": "system", "content": "You are a helpful assistant that answers in one short sentence."},
    {"role": "user", "content": "What is the capital of France, and how far is it from Berlin?"},
]
NEVER = 3600.0  # seconds: nothing is exported while instructions are counted


@dataclass(frozen=True)
class Variant:
    """What is switched on around the SDK."""

    title: str
    metered: bool = True
    by_hand: bool = False
    span: bool = False
    metrics: bool = False
    log: bool = False
    ledger: bool = False
    attribution: bool = False
    sampled: bool = True


VARIANTS = {
    "bare": Variant("bare SDK", metered=False),
    "signals": Variant(
        "bare signals (span of 14 attributes, 3 points, by hand)",
        metered=False,
        by_hand=True,
        span=True,
        metrics=True,
    ),
    "seam": Variant("metered, nothing listens"),
    "record": Variant("record", log=True),
    "span": Variant("record, span", log=True, span=True),
    "metrics": Variant("record, span, metrics", log=True, span=True, metrics=True),
    "all": Variant("all (record, span, metrics, attribution)", log=True, span=True, metrics=True, attribution=True),
    "ledger": Variant("all, ledger for the log", ledger=True, span=True, metrics=True, attribution=True),
    "unsampled": Variant(
        "all, 0 % of spans sampled", log=True, span=True, metrics=True, attribution=True, sampled=False
    ),
}


# -- Telemetry: the real SDK with batches, up to an exporter that drops ------------------------------------------------
def _providers(variant: Variant, delay: float | None) -> dict[str, Any]:
    import drop
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON

    milliseconds = None if delay is None else delay * 1000
    providers: dict[str, Any] = {}
    if variant.span:
        tracing = providers["tracer_provider"] = TracerProvider(sampler=ALWAYS_ON if variant.sampled else ALWAYS_OFF)
        tracing.add_span_processor(BatchSpanProcessor(drop.Spans(), schedule_delay_millis=milliseconds))
    if variant.metrics:
        reader = PeriodicExportingMetricReader(drop.Metrics(), export_interval_millis=milliseconds)
        providers["meter_provider"] = MeterProvider([reader])
    if variant.log:
        logging = providers["logger_provider"] = LoggerProvider()
        logging.add_log_record_processor(BatchLogRecordProcessor(drop.Logs(), schedule_delay_millis=milliseconds))
    return providers


class ByHand:
    """The yardstick: what a careful application writes itself around a call."""

    def __init__(self, tracer_provider: Any, meter_provider: Any) -> None:
        from opentelemetry.trace import SpanKind

        self._kind = SpanKind.CLIENT
        self._tracer = tracer_provider.get_tracer("by-hand")
        meter = meter_provider.get_meter("by-hand")
        self._duration = meter.create_histogram("gen_ai.client.inference.duration", "s")
        self._input = meter.create_counter("gen_ai.client.inference.usage.input_tokens", "{token}")
        self._output = meter.create_counter("gen_ai.client.inference.usage.output_tokens", "{token}")
        self._common = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "gpt-4o",
            "gen_ai.response.model": "gpt-4o-2024-08-06",
            "server.address": "127.0.0.1",
            "server.port": 80,
            "attribution.organization.id": "AcmeSoft",
        }

    @contextmanager
    def around(self) -> Iterator[None]:
        start = time.perf_counter()
        span = self._tracer.start_span(
            "chat gpt-4o",
            kind=self._kind,
            attributes={
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": "openai",
                "gen_ai.request.model": "gpt-4o",
                "server.address": "127.0.0.1",
                "server.port": 80,
                "attribution.organization.id": "AcmeSoft",
                "attribution.subscriber.id": "joe@acme.com",
                "attribution.credential.id": "key1-hubspot",
            },
        )
        yield
        span.set_attributes(
            {
                "gen_ai.response.id": "chatcmpl-00000001",
                "gen_ai.response.model": "gpt-4o-2024-08-06",
                "gen_ai.response.finish_reasons": ("stop",),
                "gen_ai.usage.input_tokens": 1310,
                "gen_ai.usage.output_tokens": 164,
                "http.response.status_code": 200,
            }
        )
        span.end()
        self._duration.record(time.perf_counter() - start, self._common)
        self._input.add(1310, self._common)
        self._output.add(164, self._common)


def _set_up(variant: Variant, folder: str, delay: float | None) -> ByHand | None:
    providers = _providers(variant, delay)
    if variant.by_hand:
        return ByHand(**providers)
    if variant.metered:
        from openai_metering import OpenAIInstrumentor

        OpenAIInstrumentor().instrument(**providers, ledger_dir=folder if variant.ledger else None)
    return None


# -- Cases -------------------------------------------------------------------------------------------------------------
def chat(client: Any, **extra: Any) -> Any:
    return client.chat.completions.create(model="gpt-4o", messages=MESSAGES, **extra)


def responses(client: Any, **extra: Any) -> Any:
    return client.responses.create(model="gpt-4o", input=MESSAGES[1]["content"], **extra)


def embeddings(client: Any, **extra: Any) -> Any:
    return client.embeddings.create(model="text-embedding-3-small", input="Paris", encoding_format="float", **extra)


def raw(client: Any, **extra: Any) -> Any:
    return client.chat.completions.with_raw_response.create(model="gpt-4o", messages=MESSAGES, **extra).parse()


def stream(chunks: int, client: Any, **extra: Any) -> None:
    """A stream whose caller did not ask for usage: where metered, it is asked for, and each chunk is a field longer."""
    headers = {"x-standin-chunks": str(chunks)}
    for _ in client.chat.completions.create(
        model="gpt-4o", messages=MESSAGES, stream=True, extra_headers=headers, **extra
    ):
        pass


def asked(chunks: int, client: Any, **extra: Any) -> None:
    """A stream whose caller asks for usage: its chunks are the same in all variants."""
    stream(chunks, client, stream_options={"include_usage": True}, **extra)


@dataclass(frozen=True)
class Case:
    """One form of a call."""

    title: str
    calls: int
    """Calls of one measurement."""
    call: Callable[..., Any]
    chunks: int = 0
    asynchronous: bool = False


CASES = {
    "chat": Case("chat", 60, chat),
    "responses": Case("responses", 60, responses),
    "embeddings": Case("embeddings", 60, embeddings),
    "raw": Case("chat, raw", 60, raw),
    "async": Case("chat, async", 60, chat, asynchronous=True),
    "stream10": Case("stream of 10", 30, partial(stream, 10), chunks=10),
    "stream100": Case("stream of 100", 6, partial(stream, 100), chunks=100),
    "stream1000": Case("stream of 1000", 1, partial(stream, 1000), chunks=1000),
    "asked10": Case("usage asked, 10", 30, partial(asked, 10), chunks=10),
    "asked1000": Case("usage asked, 1000", 1, partial(asked, 1000), chunks=1000),
}


class Worker:
    """The SDK in one variant.

    Args:
        variant: what is switched on.
        base_url: of the provider stand-in; in memory where left out.
        delay: seconds between exports, the SDK's own where left out.
    """

    def __init__(self, variant: Variant, base_url: str | None, delay: float | None = None) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._by_hand = _set_up(variant, self._folder.name, delay)
        import answers
        import openai

        http = answers.http_library()
        given = {"api_key": "sk-benchmark", "base_url": base_url or "http://127.0.0.1/v1", "max_retries": 0}
        inner = None if base_url else answers.transport(http)
        self._client = openai.OpenAI(**given, http_client=http.Client(transport=inner))
        self._async_client = openai.AsyncOpenAI(**given, http_client=http.AsyncClient(transport=inner))
        self._loop = asyncio.new_event_loop()
        self._attribution = variant.attribution
        self._others = 0.0

    def ready(self) -> None:
        """Make every kind of call, so that all is imported and cached, and take the modules out of collections."""
        for case in CASES.values():
            self.run(case, min(case.calls, 30))
        gc.collect()
        gc.freeze()  # else a full collection of them would fall on whoever happens to be measured
        self._others = _others()

    def run(self, case: Case, calls: int) -> None:
        """Make some calls of one form."""
        if case.asynchronous:
            self._loop.run_until_complete(self._run_async(case.call, calls))
        else:
            self._run(case.call, calls)

    def measure(self, case: Case, calls: int) -> dict[str, float]:
        """Make some calls of one form.

        Returns:
            Seconds of the caller's CPU and of the wall; and the CPU of all other threads since the process was ready,
            whose work comes later than the calls that it is for.
        """
        wall, caller = time.perf_counter(), time.thread_time()
        self.run(case, calls)
        caller = time.thread_time() - caller
        wall = time.perf_counter() - wall
        return {"caller": caller, "wall": wall, "others": _others() - self._others}

    def _run(self, call: Callable[..., Any], calls: int) -> None:
        client = self._client
        if self._attribution:
            from openai_metering import attribution

            for _ in range(calls):
                with attribution(organization_id="AcmeSoft", subscriber_identity="joe@acme.com"):
                    call(client, usage_metadata={"subscriber_credential": "key1-hubspot"})
        elif self._by_hand is not None:
            for _ in range(calls):
                with self._by_hand.around():
                    call(client)
        else:
            for _ in range(calls):
                call(client)

    async def _run_async(self, call: Callable[..., Any], calls: int) -> None:
        client = self._async_client
        if self._attribution:
            from openai_metering import attribution

            for _ in range(calls):
                with attribution(organization_id="AcmeSoft", subscriber_identity="joe@acme.com"):
                    await call(client, usage_metadata={"subscriber_credential": "key1-hubspot"})
        elif self._by_hand is not None:
            for _ in range(calls):
                with self._by_hand.around():
                    await call(client)
        else:
            for _ in range(calls):
                await call(client)


def _others() -> float:
    return time.process_time() - time.thread_time()


def _serve(worker: Worker) -> None:
    """Measure what each line of standard input asks for; answer with one line each."""
    for line in sys.stdin:
        asked = json.loads(line)
        sys.stdout.write(json.dumps(worker.measure(CASES[asked["case"]], asked["calls"])) + "\n")
        sys.stdout.flush()


def _count(worker: Worker, cases: list[str]) -> None:
    """Let one child make N calls of each form and another one 2 N: what tells them apart is the cost of N calls."""
    for name in cases:
        case = CASES[name]
        calls = counted_calls(case)
        worker.run(case, 3)
        for factor in (1, 2):
            child = os.fork()
            if not child:
                worker.run(case, calls * factor)
                os._exit(0)
            os.waitpid(child, 0)
            sys.stdout.write(json.dumps({"case": name, "factor": factor, "pid": child}) + "\n")
            sys.stdout.flush()
    os._exit(0)


def counted_calls(case: Case) -> int:
    """How many calls N is when instructions are counted."""
    return max(1, 20 // max(1, case.chunks // 10))


def main() -> None:
    """Run one variant until standard input ends."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("variant", choices=VARIANTS)
    parser.add_argument("--base-url", help="the provider stand-in; in memory where left out")
    parser.add_argument("--count", metavar="CASE,...", help="make calls for an instruction counter instead")
    chosen = parser.parse_args()
    worker = Worker(VARIANTS[chosen.variant], chosen.base_url, NEVER if chosen.count else None)
    if chosen.count:
        _count(worker, chosen.count.split(","))
    worker.ready()
    sys.stdout.write(json.dumps({"threads": threading.active_count()}) + "\n")
    sys.stdout.flush()
    _serve(worker)


if __name__ == "__main__":
    main()
