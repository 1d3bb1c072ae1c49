"""Who a call is for: scopes, the keyword over them and defaults below, over threads, tasks, streams and lazy managers."""

from __future__ import annotations

import asyncio
import contextvars
import copy
import logging
import os
import pickle
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import openai
import pytest
from forms import MAIN, WHO, Form, Operation, cases, run_async
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult

from in_memory import make_telemetry
from openai_metering import Attribution, OpenAIInstrumentor, attribution, current_attribution

if TYPE_CHECKING:
    from collections.abc import Iterator

CHAT = MAIN[0]
CASES = cases(MAIN)
each_form = pytest.mark.parametrize(
    ("operation", "form"), CASES, ids=[f"{operation.name}-{form.name}" for operation, form in CASES]
)
TESTS = str(Path(__file__).resolve().parent.parent)
LEVELS = ("organization", "subscriber", "credential")
SECRET = "sk-proj-Zq81nfA0xxWvutsrqPONMLKJIHGFEdcba9876543210"


def who(record: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(record.get(f"attribution.{level}.id") for level in LEVELS)


def sources(record: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(record.get(f"attribution.{level}.source") for level in LEVELS)


@pytest.fixture
def client(provider: Any) -> Iterator[Any]:
    with openai.OpenAI(base_url=provider.base_url, max_retries=0) as made:
        yield made


# -- Every form ------------------------------------------------------------------------------------------------------


@each_form
def test_a_scope_reaches_every_form(provider: Any, telemetry: Any, operation: Operation, form: Form) -> None:
    """A call inside a scope belongs to it, in every form; none outside does."""

    async def outside() -> None:
        await run_async(form, provider.base_url, operation, {})

    with attribution(WHO, team="blue"):
        if form.asynchronous:
            asyncio.run(outside())
        else:
            with openai.OpenAI(base_url=provider.base_url, max_retries=0) as made:
                form.run(made, operation, {})
    record = telemetry.record()
    assert who(record) == tuple(WHO.values())
    assert sources(record) == ("scope", "scope", "scope")
    assert record["attribution.tag.team"] == "blue"
    telemetry.clear()
    if not form.asynchronous:
        with openai.OpenAI(base_url=provider.base_url, max_retries=0) as made:
            form.run(made, operation, {})
        assert telemetry.record()["attribution.status"] == "unattributed"
    assert current_attribution() == Attribution()


# -- Order of sources ------------------------------------------------------------------------------------------------


def test_the_keyword_wins_field_by_field(client: Any, telemetry: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keyword over inner scope over outer scope over default, each field by itself, and the record says which it was."""
    OpenAIInstrumentor().uninstrument()
    monkeypatch.setenv("OPENAI_METERING_SUBSCRIBER_CREDENTIAL", "default-key")
    monkeypatch.setenv("OPENAI_METERING_ORGANIZATION_ID", "Default")
    OpenAIInstrumentor().instrument(
        tracer_provider=telemetry.tracer_provider, logger_provider=telemetry.logger_provider
    )
    with (
        attribution(organization_id="Outer", subscriber_identity="outer@acme.com", team="outer", floor=1),
        attribution(subscriber_identity="inner@acme.com", team="inner"),
    ):
        client.chat.completions.create(
            **CHAT.request, usage_metadata={"subscriber_identity": "joe@acme.com", "job": "x"}
        )
        client.chat.completions.create(**CHAT.request)
    client.chat.completions.create(**CHAT.request)
    first, second, third = telemetry.records
    assert who(first) == ("Outer", "joe@acme.com", "default-key")
    assert sources(first) == ("scope", "keyword", "default")
    assert {name: value for name, value in first.items() if ".tag." in name} == {
        "attribution.tag.team": "inner",
        "attribution.tag.floor": 1,
        "attribution.tag.job": "x",
    }
    assert who(second) == ("Outer", "inner@acme.com", "default-key")
    assert who(third) == ("Default", None, "default-key")
    assert sources(third) == ("default", None, "default")
    assert [record["attribution.status"] for record in telemetry.records] == ["complete", "complete", "partial"]


@pytest.mark.parametrize("blank", [None, "", "   "])
def test_a_blank_erases_nothing(client: Any, telemetry: Any, blank: Any) -> None:
    """A field that an inner source leaves blank keeps the outer one's value."""
    with attribution(WHO), attribution(organization_id=blank, subscriber_identity=blank):
        client.chat.completions.create(**CHAT.request, usage_metadata={"organization_id": blank})
    assert who(telemetry.record()) == tuple(WHO.values())


def test_defaults_as_options(client: Any) -> None:
    """Process-wide defaults can be given to `instrument()`, over the environment."""
    telemetry = make_telemetry()
    instrumentor = OpenAIInstrumentor()
    instrumentor.instrument(logger_provider=telemetry.logger_provider, **WHO)
    try:
        client.chat.completions.create(**CHAT.request)
    finally:
        instrumentor.uninstrument()
    assert who(telemetry.record()) == tuple(WHO.values())
    assert sources(telemetry.record()) == ("default", "default", "default")


# -- Opened inside, used outside -------------------------------------------------------------------------------------


def test_streams_opened_inside_and_read_outside(client: Any, telemetry: Any) -> None:
    """A stream belongs to the scope it was opened in, whoever reads it and in whatever scope."""
    with attribution(organization_id="Inside"):
        stream = client.chat.completions.create(**CHAT.request, stream=True)
    with attribution(organization_id="Outside"):
        list(stream)
    assert who(telemetry.record())[0] == "Inside"


@pytest.mark.parametrize(
    "keyword", [{}, {"usage_metadata": {"subscriber_identity": "joe@acme.com"}}], ids=["", "keyword"]
)
def test_lazy_managers_made_inside_and_entered_outside(client: Any, telemetry: Any, keyword: Any) -> None:
    """A manager belongs to the scope it was made in, not to that in which its request is sent."""
    with attribution(organization_id="Inside"):
        managers = [
            client.chat.completions.with_streaming_response.create(**CHAT.request, **keyword),
            CHAT.helpers(client).stream(**CHAT.request, **keyword),
        ]
    with attribution(organization_id="Outside", subscriber_identity="other@acme.com"):
        with managers[0] as response:
            response.read()
        with managers[1] as events:
            list(events)
    assert len(telemetry.records) == 2
    expected = ("Inside", keyword["usage_metadata"]["subscriber_identity"] if keyword else None, None)
    assert {who(record) for record in telemetry.records} == {expected}


@pytest.mark.parametrize(
    "keyword", [{}, {"usage_metadata": {"subscriber_identity": "joe@acme.com"}}], ids=["", "keyword"]
)
def test_coroutines_and_async_managers_made_inside_and_awaited_outside(
    provider: Any, telemetry: Any, keyword: Any
) -> None:
    """A coroutine belongs to the scope it was made in, not to that in which it is awaited."""

    async def main() -> None:
        async with openai.AsyncOpenAI(base_url=provider.base_url, max_retries=0) as made:
            with attribution(organization_id="Inside"):
                coroutines = [
                    made.chat.completions.create(**CHAT.request, **keyword),
                    made.chat.completions.create(**CHAT.request, stream=True, **keyword),
                ]
                streaming = made.chat.completions.with_streaming_response.create(**CHAT.request, **keyword)
                helper = CHAT.helpers(made).stream(**CHAT.request, **keyword)
            with attribution(organization_id="Outside", subscriber_identity="other@acme.com"):
                await coroutines[0]
                async for _ in await asyncio.create_task(coroutines[1]):
                    pass
                async with streaming as response:
                    await response.read()
                async with helper as events:
                    async for _ in events:
                        pass

    asyncio.run(main())
    expected = ("Inside", keyword["usage_metadata"]["subscriber_identity"] if keyword else None, None)
    assert [who(record) for record in telemetry.records] == [expected] * 4


def test_a_raw_coroutine_made_inside_and_awaited_outside(provider: Any, telemetry: Any) -> None:
    """The coroutine of an asynchronous raw view belongs to the scope it was made in as well."""

    async def main() -> None:
        async with openai.AsyncOpenAI(base_url=provider.base_url, max_retries=0) as made:
            with attribution(organization_id="Inside"):
                coroutine = made.chat.completions.with_raw_response.create(**CHAT.request)
            with attribution(organization_id="Outside"):
                await coroutine

    asyncio.run(main())
    assert who(telemetry.record())[0] == "Inside"


def test_a_manager_made_outside_any_scope(client: Any, telemetry: Any) -> None:
    """A manager made outside of scopes belongs to none, or to that of its request: it is never somebody else's."""
    manager = client.chat.completions.with_streaming_response.create(**CHAT.request)
    with attribution(organization_id="Later"), manager as response:
        response.read()
    assert who(telemetry.record())[0] in (None, "Later")


def test_a_task_takes_the_scope_it_was_started_in(provider: Any, telemetry: Any) -> None:
    """A task started inside a scope keeps it after the scope was left."""

    async def main() -> None:
        async with openai.AsyncOpenAI(base_url=provider.base_url, max_retries=0) as made:
            left = asyncio.Event()

            async def later() -> None:
                await left.wait()
                await made.chat.completions.create(**CHAT.request)

            with attribution(organization_id="Inside"):
                task = asyncio.create_task(later())
            left.set()
            await task

    asyncio.run(main())
    assert who(telemetry.record())[0] == "Inside"


def test_threads(client: Any, telemetry: Any) -> None:
    """`asyncio.to_thread` and a copied context carry the scope; a bare thread starts without one."""

    def call() -> None:
        client.chat.completions.create(**CHAT.request)

    async def main() -> None:
        with attribution(organization_id="Task"):
            await asyncio.to_thread(call)

    asyncio.run(main())
    with attribution(organization_id="Copied"):
        thread = threading.Thread(target=contextvars.copy_context().run, args=(call,))
        thread.start()
        thread.join()
        inner = threading.Thread(target=call)
        inner.start()
        inner.join()
    found = [who(record)[0] for record in telemetry.records]
    assert found[:2] == ["Task", "Copied"]
    assert found[2] in (None, "Copied")  # free-threaded builds let threads inherit the context


def test_a_generator_inside_a_scope(client: Any, telemetry: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A generator that is closed elsewhere, in another context, raises and logs nothing, and hides no later scope."""
    caplog.set_level(logging.DEBUG)

    def answers() -> Iterator[Any]:
        with attribution(organization_id="Generator"):
            yield from client.chat.completions.create(**CHAT.request, stream=True)

    def body() -> None:
        generator = answers()
        next(generator)
        thread = threading.Thread(target=contextvars.Context().run, args=(generator.close,))
        thread.start()
        thread.join()
        with attribution(organization_id="Afterwards"):
            client.chat.completions.create(**CHAT.request)

    contextvars.copy_context().run(body)
    organizations = sorted(who(record)[0] for record in telemetry.records)
    assert organizations in (["Afterwards"], ["Afterwards", "Generator"])
    assert not [entry for entry in caplog.records if entry.levelno >= logging.WARNING]


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_a_decorated_function(provider: Any, client: Any, telemetry: Any, asynchronous: bool) -> None:
    """A decorated function, sync or async, runs each of its calls in the scope, and stays what it was."""

    @attribution(organization_id="Decorated")
    def sync() -> Any:
        return client.chat.completions.create(**CHAT.request)

    @attribution(organization_id="Decorated")
    async def asynchronously() -> Any:
        async with openai.AsyncOpenAI(base_url=provider.base_url) as made:
            return await made.chat.completions.create(**CHAT.request)

    if asynchronous:
        assert asyncio.iscoroutinefunction(asynchronously)
        assert asyncio.run(asynchronously()).choices
    else:
        assert sync.__name__ == "sync"
        assert sync().choices
    assert who(telemetry.record())[0] == "Decorated"
    assert current_attribution() == Attribution()


def test_a_scope_that_is_left_by_an_exception(client: Any, telemetry: Any) -> None:
    """An exception leaves the scope, as itself."""
    error = ValueError("mine")
    with pytest.raises(ValueError, match="mine") as raised, attribution(organization_id="Inside"):
        raise error
    assert raised.value is error
    client.chat.completions.create(**CHAT.request)
    assert telemetry.record()["attribution.status"] == "unattributed"


# -- At the start ----------------------------------------------------------------------------------------------------


class Recording(Sampler):
    """Remembers what each span starts with, and drops it."""

    def __init__(self) -> None:
        self.attributes: list[dict[str, Any]] = []

    def should_sample(self, parent_context: Any, trace_id: int, name: str, *args: Any, **kwargs: Any) -> Any:
        given = kwargs.get("attributes") or (args[1] if len(args) > 1 else None)
        self.attributes.append(dict(given or {}))
        return SamplingResult(Decision.DROP)

    def get_description(self) -> str:
        return "Recording"


@each_form
def test_who_is_known_when_the_span_starts(provider: Any, operation: Operation, form: Form) -> None:
    """A sampler sees who a call is for; what it drops is still recorded, and counted."""
    sampler = Recording()
    telemetry = make_telemetry(sampler)
    instrumentor = OpenAIInstrumentor()
    instrumentor.instrument(
        tracer_provider=telemetry.tracer_provider,
        meter_provider=telemetry.meter_provider,
        logger_provider=telemetry.logger_provider,
    )
    try:
        with attribution(WHO, team="blue"):
            if form.asynchronous:
                asyncio.run(run_async(form, provider.base_url, operation, {}))
            else:
                with openai.OpenAI(base_url=provider.base_url, max_retries=0) as made:
                    form.run(made, operation, {})
    finally:
        instrumentor.uninstrument()
    (attributes,) = sampler.attributes
    assert {
        "attribution.organization.id": "AcmeSoft",
        "attribution.subscriber.id": "joe@acme.com",
        "user.id": "joe@acme.com",
        "attribution.credential.id": "key1-hubspot",
        "attribution.tag.team": "blue",
        "attribution.status": "complete",
        "gen_ai.request.model": operation.request["model"],
    }.items() <= attributes.items()
    assert telemetry.spans == []
    assert telemetry.record()["openai_metering.usage.status"] == "reported"
    assert telemetry.total("openai_metering.calls") == 1


# -- No cross-talk ---------------------------------------------------------------------------------------------------


def agrees(record: dict[str, Any]) -> bool:
    """Whether the three levels of a record, and its tag, are all of the same person."""
    number = record["attribution.tag.number"]
    return (
        who(record) == (f"org-{number}", f"person-{number}", f"key-{number}")
        and record["gen_ai.request.model"] == f"model-{number}"
    )


def test_twenty_threads(client: Any, telemetry: Any) -> None:
    """Threads that make calls and read streams at the same time never get each other's names."""
    barrier = threading.Barrier(20)

    def work(number: int) -> None:
        request = {**CHAT.request, "model": f"model-{number}"}
        barrier.wait(30)
        for _ in range(3):
            keyword = {"subscriber_credential": f"key-{number}"}
            with (
                attribution(organization_id=f"org-{number}", number=number),
                attribution(subscriber_identity=f"person-{number}"),
            ):
                stream = client.chat.completions.create(**request, stream=True, usage_metadata=keyword)
                client.chat.completions.create(**request, usage_metadata=keyword)
            list(stream)

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(work, range(20)))
    assert len(telemetry.records) == 120
    assert all(agrees(record) for record in telemetry.records)
    assert {record["openai_metering.usage.status"] for record in telemetry.records} == {"reported"}
    assert all(agrees(dict(span.attributes)) for span in telemetry.spans)


def test_fifty_tasks(provider: Any, telemetry: Any) -> None:
    """Tasks that interleave their calls and streams never get each other's names."""

    async def main() -> None:
        async with openai.AsyncOpenAI(base_url=provider.base_url, max_retries=0) as made:
            started = asyncio.Event()

            async def work(number: int) -> None:
                request = {**CHAT.request, "model": f"model-{number}"}
                await started.wait()
                with attribution(
                    organization_id=f"org-{number}", subscriber_identity=f"person-{number}", number=number
                ):
                    keyword = {"subscriber_credential": f"key-{number}"}
                    stream = await made.chat.completions.create(**request, stream=True, usage_metadata=keyword)
                    async for _ in stream:
                        await asyncio.sleep(0)
                    coroutine = made.chat.completions.create(**request, usage_metadata=keyword)
                await coroutine

            tasks = [asyncio.create_task(work(number)) for number in range(50)]
            started.set()
            await asyncio.gather(*tasks)

    asyncio.run(main())
    assert len(telemetry.records) == 100
    assert all(agrees(record) for record in telemetry.records)
    assert all(agrees(dict(span.attributes)) for span in telemetry.spans)


# -- Secrets ---------------------------------------------------------------------------------------------------------


SECRETS = {
    "credential": {"subscriber_credential": SECRET},
    "nested": {"subscriber": {"credential": {"name": SECRET, "value": SECRET}}},
    "other-levels": {"organization_id": SECRET, "subscriber_identity": SECRET},
    "tag": {"note": f"the key is {SECRET}."},
    "name-of-a-tag": {SECRET: "a name that is a key"},
}


@pytest.mark.parametrize(
    ("given", "by"),
    [
        pytest.param(given, by, id=f"{name}-{by}")
        for name, given in SECRETS.items()
        for by in ("keyword", "scope", "default")
        if by != "default" or {*given} <= {*WHO}  # defaults are the three levels
    ],
)
def test_a_key_appears_nowhere(
    provider: Any, caplog: pytest.LogCaptureFixture, tmp_path: Path, given: dict[str, Any], by: str
) -> None:
    """A value shaped like a key is masked before it is kept: no signal, file, log line, exception or repr has it."""
    telemetry = make_telemetry()
    instrumentor = OpenAIInstrumentor()
    caplog.set_level(logging.DEBUG)
    texts: list[str] = []
    instrumentor.instrument(
        tracer_provider=telemetry.tracer_provider,
        meter_provider=telemetry.meter_provider,
        logger_provider=telemetry.logger_provider,
        ledger_dir=tmp_path,
        records="both",
        metric_attributes="subscriber,credential",
        **(given if by == "default" else {}),
    )
    keyword: dict[str, Any] = {"usage_metadata": given} if by == "keyword" else {}
    try:
        with (
            openai.OpenAI(base_url=provider.base_url, max_retries=0) as client,
            attribution(given if by == "scope" else {}),
        ):
            texts.append(repr(current_attribution()))
            client.chat.completions.create(**CHAT.request, **keyword)
            list(client.chat.completions.create(**CHAT.request, stream=True, **keyword))
            manager = client.chat.completions.with_streaming_response.create(**CHAT.request, **keyword)
            texts.append(repr(vars(manager)) + repr(getattr(manager, "_request_func", "")))
            with manager as response:
                response.read()
                texts.append(repr(vars(response)))
            try:
                client.chat.completions.create(
                    **CHAT.request, **keyword, extra_headers={"x-standin-scenario": "status_400"}
                )
            except openai.BadRequestError as error:
                texts.extend((str(error), repr(error), repr(vars(error))))
            try:
                client.chat.completions.create(**CHAT.request, **keyword, nonsense=1)
            except TypeError as error:
                texts.append(str(error))
    finally:
        instrumentor.uninstrument()
    assert len(telemetry.records) == 4
    files = b"".join(file.read_bytes() for file in tmp_path.glob("*.jsonl"))
    assert files.count(b"\n") == 4
    metrics = telemetry.metric_reader.get_metrics_data().to_json()
    everything = "\n".join(
        (
            *texts,
            files.decode(),
            metrics,
            repr(telemetry.records),
            *(span.to_json() for span in telemetry.spans),
            *(entry.getMessage() for entry in caplog.records),
            *(repr(served.headers) + repr(served.body) for served in provider.served),
        )
    )
    assert SECRET not in everything
    assert SECRET[:20] not in everything
    assert "[masked]" in everything


def test_the_carrier_tells_nothing() -> None:
    """What travels in the headers has a repr that says nothing, is dropped by the SDK and survives copying."""
    from openai._types import Omit

    from openai_metering.seams.carrier import carrier_class

    carrier = carrier_class()(Attribution(**WHO), Attribution(**WHO))
    assert isinstance(carrier, Omit)
    for value in WHO.values():
        assert value not in repr(carrier) + str(carrier) + f"{carrier}" + repr({"openai-metering-carrier": carrier})
    assert copy.copy(carrier) is carrier
    assert copy.deepcopy({"a": carrier})["a"] is carrier
    assert pickle.loads(pickle.dumps(Attribution(**WHO))) == Attribution(**WHO)


def test_the_sdks_debug_log_tells_nothing(provider: Any) -> None:
    """The SDK's own debug log, which prints request options, shows neither a key nor who a call is for."""
    script = f"""
    import sys
    sys.path.insert(0, {TESTS!r})
    from in_memory import make_telemetry
    from openai_metering import OpenAIInstrumentor
    made = make_telemetry()
    OpenAIInstrumentor().instrument(tracer_provider=made.tracer_provider, logger_provider=made.logger_provider)
    import openai
    client = openai.OpenAI()
    who = {{"organization_id": "AcmeSoft", "subscriber_identity": "joe@acme.com", "subscriber_credential": {SECRET!r}}}
    client.chat.completions.create(**{CHAT.request!r}, usage_metadata=who)
    list(client.chat.completions.create(**{CHAT.request!r}, stream=True, usage_metadata=who))
    with client.chat.completions.with_streaming_response.create(**{CHAT.request!r}, usage_metadata=who) as response:
        response.read()
    assert len(made.records) == 3
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env={
            **os.environ,
            "OPENAI_LOG": "debug",
            "OPENAI_BASE_URL": provider.base_url,
            "OPENAI_API_KEY": "test",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "DEBUG" in done.stderr
    for value in (SECRET, SECRET[:20], "AcmeSoft", "joe@acme.com"):
        assert value not in done.stderr + done.stdout
