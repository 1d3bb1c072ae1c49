"""Baggage across services: believed as far as allowed, and never handed to the model provider."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
from typing import TYPE_CHECKING, Any

import openai
import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.propagate import extract, inject

import in_memory
from openai_metering import OpenAIInstrumentor, attribution, attribution_baggage

if TYPE_CHECKING:
    from collections.abc import Iterator

CHAT: dict[str, Any] = {"model": "gpt-4o", "messages": [{"role": "user", "content": "What is metering?"}]}
WHO = {"organization_id": "AcmeSoft", "subscriber_identity": "joe@acme.com", "subscriber_credential": "key1"}
ALL = "organization,subscriber,credential,tag.team"


def who(record: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(record.get(f"attribution.{level}.id") for level in ("organization", "subscriber", "credential"))


def incoming() -> dict[str, str]:
    """What a service sends to another one: its own baggage, its trace, and who its calls are for."""
    headers: dict[str, str] = {}
    with attribution(WHO, team="blue", floor=3):
        made = baggage.set_baggage("shop.region", "eu", attribution_baggage())
        parent = trace.SpanContext(trace_id=0xABC, span_id=0xDEF, is_remote=True, trace_flags=trace.TraceFlags(1))
        inject(headers, context=trace.set_span_in_context(trace.NonRecordingSpan(parent), made))
    return headers


@pytest.fixture
def arrived() -> Iterator[None]:
    """A request of such a service is being served."""
    token = context.attach(extract(incoming()))
    yield
    context.detach(token)


@pytest.fixture
def metered() -> Iterator[Any]:
    """Switches metering on with options, until the test ends."""
    with contextlib.ExitStack() as stack:
        yield lambda **options: stack.enter_context(in_memory.metered(**options))


@pytest.fixture(autouse=True)
def _uninstrument() -> Iterator[None]:
    yield
    instrumentor = OpenAIInstrumentor()
    if instrumentor.is_instrumented_by_opentelemetry:
        instrumentor.uninstrument()


def test_entries_have_the_names_of_the_attributes() -> None:
    """What goes over the wire to another service is W3C baggage that any language reads."""
    found = W3CBaggagePropagator().extract(incoming())
    assert dict(baggage.get_all(found)) == {
        "attribution.organization.id": "AcmeSoft",
        "attribution.subscriber.id": "joe@acme.com",
        "attribution.credential.id": "key1",
        "attribution.tag.team": "blue",
        "attribution.tag.floor": "3",
        "shop.region": "eu",
    }
    assert "attribution.organization.id" not in baggage.get_all()


@pytest.mark.parametrize(
    ("allowed", "expected", "team"),
    [
        ("", (None, None, None), None),
        ("organization", ("AcmeSoft", None, None), None),
        ("subscriber,tag.team", (None, "joe@acme.com", None), "blue"),
        (ALL, ("AcmeSoft", "joe@acme.com", "key1"), "blue"),
    ],
)
def test_incoming_baggage_is_believed_as_far_as_it_is_allowed(
    provider: Any, metered: Any, arrived: None, allowed: str, expected: tuple[Any, ...], team: str | None
) -> None:
    """Off by default: whoever reaches the service can write it."""
    telemetry = metered(baggage=allowed)
    openai.OpenAI(base_url=provider.base_url).chat.completions.create(**CHAT)
    record = telemetry.record()
    assert who(record) == expected
    assert record.get("attribution.tag.team") == team
    assert "attribution.tag.floor" not in record
    assert record.get("attribution.organization.source") == (None if expected[0] is None else "baggage")


def test_what_the_application_says_itself_wins_over_baggage(provider: Any, metered: Any, arrived: None) -> None:
    """A forged entry cannot take the place of a scope."""
    telemetry = metered(baggage=ALL, organization_id="default")
    with attribution(subscriber_identity="ann@acme.com"):
        openai.OpenAI(base_url=provider.base_url).chat.completions.create(**CHAT)
    record = telemetry.record()
    assert who(record) == ("AcmeSoft", "ann@acme.com", "key1")


# -- On the wire to the provider -------------------------------------------------------------------------------------


def injecting(module: Any) -> Any:
    """A client of the SDK's HTTP library that hands the context on, as instrumentation of it does."""
    return module.Client(event_hooks={"request": [lambda request: inject(request.headers)]})


def injecting_async(module: Any) -> Any:
    async def hook(request: Any) -> None:
        inject(request.headers)

    return module.AsyncClient(event_hooks={"request": [hook]})


def library_of(kind: type) -> Any:
    names = {ancestor.__module__.split(".")[0] for ancestor in kind.__mro__}
    (name,) = names & {"httpx", "httpx2"}
    return importlib.import_module(name)


HTTP = library_of(openai.DefaultHttpxClient)


def check_wire(served: Any, *, propagated: bool = True) -> None:
    """Nobody's name is in what the provider got; the user's own baggage and trace are."""
    everything = "\n".join((served.path, *served.headers, *served.headers.values(), served.body.decode()))
    assert "attribution" not in everything
    assert not [value for value in WHO.values() if value in everything or value.replace("@", "%40") in everything]
    if propagated:
        assert served.headers["baggage"] == "shop.region=eu"
        assert served.headers["traceparent"].startswith(f"00-{0xABC:032x}-")


def test_the_hook_hands_identity_on_where_nothing_is_metered(provider_process: Any, arrived: None) -> None:
    """The test's own proof: without us, an instrumented HTTP client would send everybody's name to the provider."""
    provider_process.reset()
    with (
        openai.OpenAI(base_url=provider_process.base_url, http_client=injecting(HTTP)) as client,
        pytest.raises(openai.BadRequestError, match="attribution"),  # the stand-in is strict
    ):
        client.chat.completions.create(**CHAT)
    assert "attribution.subscriber.id=joe%40acme.com" in provider_process.served[-1].headers["baggage"]
    provider_process.reset()


@pytest.mark.parametrize("allowed", ["", ALL])
def test_nobodys_name_reaches_the_provider(provider: Any, metered: Any, arrived: None, allowed: str) -> None:
    """Billable, streamed, refused or free of charge: our entries are out of the baggage, the user's own stay, ours come back."""
    metered(baggage=allowed)
    before = context.get_current()
    with openai.OpenAI(base_url=provider.base_url, http_client=injecting(HTTP), max_retries=1) as client:
        client.chat.completions.create(**CHAT)
        list(client.chat.completions.create(**CHAT, stream=True))
        client.with_raw_response.models.list()
        with pytest.raises(openai.RateLimitError):
            client.chat.completions.create(**CHAT, extra_headers={"x-standin-scenario": "status_429"})
        with client.chat.completions.with_streaming_response.create(**CHAT) as response:
            response.read()
    assert len(provider.served) >= 5
    for served in provider.served:
        check_wire(served)
    assert context.get_current() is before
    assert baggage.get_baggage("attribution.organization.id") == "AcmeSoft"


def test_nobodys_name_reaches_the_provider_from_coroutines(provider: Any, metered: Any, arrived: None) -> None:
    """The same for asynchronous clients, of which many send at once."""
    metered()

    async def main() -> None:
        async with openai.AsyncOpenAI(base_url=provider.base_url, http_client=injecting_async(HTTP)) as client:
            await asyncio.gather(*(client.chat.completions.create(**CHAT) for _ in range(10)))
            await client.models.list()
            assert baggage.get_baggage("attribution.organization.id") == "AcmeSoft"

    asyncio.run(main())
    assert len(provider.served) == 11
    for served in provider.served:
        check_wire(served)


def test_where_no_span_is_made_the_name_is_taken_out_all_the_same(provider: Any, arrived: None) -> None:
    """Switched off spans, or nothing that listens, open no hole."""
    OpenAIInstrumentor().instrument(spans="never")
    with openai.OpenAI(base_url=provider.base_url, http_client=injecting(HTTP)) as client:
        client.chat.completions.create(**CHAT)
    check_wire(provider.served[-1])


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_look_at_a_job_hands_nobodys_name_on(provider: Any, metered: Any, arrived: None, asynchronous: bool) -> None:
    """A request that only looks at a job is no call of its own, and has no span; identity stays here all the same."""
    metered(baggage=ALL)

    async def main() -> None:
        async with openai.AsyncOpenAI(base_url=provider.base_url, http_client=injecting_async(HTTP)) as client:
            await client.responses.retrieve("resp_1")
            await client.batches.retrieve("batch_1")

    if asynchronous:
        asyncio.run(main())
    else:
        with openai.OpenAI(base_url=provider.base_url, http_client=injecting(HTTP)) as client:
            client.responses.retrieve("resp_1")
            client.batches.retrieve("batch_1")
    assert len(provider.served) == 2
    for served in provider.served:
        check_wire(served)


# OpenTelemetry's own instrumentation knows httpx; from openai 3.5x on the SDK has httpx2, which the hooks above stand for.
@pytest.mark.parametrize("instrumented", ["httpx"] if HTTP.__name__ == "httpx" else [])
def test_the_instrumentation_of_httpx_hands_nobodys_name_on(
    provider: Any, metered: Any, arrived: None, instrumented: str
) -> None:
    """With the real instrumentation beside ours its span is a child of the call's, and identity stays here."""
    from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor

    telemetry = metered()
    HTTPXClientInstrumentor().instrument(tracer_provider=telemetry.tracer_provider)
    try:
        with openai.OpenAI(base_url=provider.base_url) as client:
            client.chat.completions.create(**CHAT)
            list(client.chat.completions.create(**CHAT, stream=True))
            client.models.list()

        async def main() -> None:
            async with openai.AsyncOpenAI(base_url=provider.base_url) as client:
                await client.chat.completions.create(**CHAT)

        asyncio.run(main())
    finally:
        HTTPXClientInstrumentor().uninstrument()
    assert len(provider.served) == 4
    for served in provider.served:
        check_wire(served)
    ours = {span.context.span_id for span in telemetry.spans if span.instrumentation_scope.name == "openai_metering"}
    assert len([span for span in telemetry.spans if span.parent and span.parent.span_id in ours]) == 3
