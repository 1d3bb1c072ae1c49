"""On, off and on again; before the SDK is imported and after; in forks, and at the end of the process."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import openai
import openai._base_client as base
import openai._resource as resource_module
import openai._response as response_module
import pytest
from forms import MAIN, STREAMED, WHO, Operation

from in_memory import make_telemetry
from openai_metering import OpenAIInstrumentor, attribution, errors
from waiting import ENDS_WITH_OPEN_STREAM, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

CHAT = MAIN[0]
each_streamed = pytest.mark.parametrize("operation", STREAMED, ids=[operation.name for operation in STREAMED])
TESTS = str(Path(__file__).resolve().parent.parent)


@pytest.fixture
def instrumentor() -> Iterator[OpenAIInstrumentor]:
    """The instrumentor, off before and after."""
    made = OpenAIInstrumentor()
    yield made
    if made.is_instrumented_by_opentelemetry:
        made.uninstrument()


def outputs(telemetry: Any) -> dict[str, Any]:
    """What `instrument()` is given so that everything comes out there."""
    return {
        "tracer_provider": telemetry.tracer_provider,
        "meter_provider": telemetry.meter_provider,
        "logger_provider": telemetry.logger_provider,
    }


def ledger_records(folder: Path) -> list[dict[str, Any]]:
    """The attributes of all records that are on disk."""
    found = []
    for file in sorted(folder.glob("*.jsonl")):
        for line in file.read_text("utf-8").splitlines():
            (resource,) = json.loads(line)["resourceLogs"]
            found += [
                {item["key"]: next(iter(item["value"].values())) for item in record["attributes"]}
                for record in resource["scopeLogs"][0]["logRecords"]
            ]
    return found


def run_python(
    script: str, provider: Any = None, ends: tuple[int, ...] = (0,), **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a script in a process of its own, which must end well."""
    if provider is not None:
        environment |= {"OPENAI_BASE_URL": provider.base_url, "OPENAI_API_KEY": "test"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode in ends, done.stderr
    return done


# -- On and off ------------------------------------------------------------------------------------------------------


def test_instrumenting_twice_counts_once(provider: Any, telemetry: Any) -> None:
    """A second `instrument()` adds nothing."""
    OpenAIInstrumentor().instrument(**outputs(telemetry))
    with openai.OpenAI(base_url=provider.base_url) as client:
        client.chat.completions.create(**CHAT.request)
    assert len(telemetry.records) == len(telemetry.spans) == 1
    assert telemetry.total("openai_metering.calls") == 1


def test_off_and_on_again(provider: Any, instrumentor: OpenAIInstrumentor) -> None:
    """Off is off; on again counts once, by the new providers; a client outlives all of it."""
    first, second = make_telemetry(), make_telemetry()
    with openai.OpenAI(base_url=provider.base_url) as client:
        for telemetry in (first, second):
            instrumentor.instrument(**outputs(telemetry))
            client.chat.completions.create(**CHAT.request, usage_metadata=dict(WHO))
            list(client.chat.completions.create(**CHAT.request, stream=True, usage_metadata=dict(WHO)))
            instrumentor.uninstrument()
            client.chat.completions.create(**CHAT.request)
    assert len(first.records) == len(first.spans) == 2
    assert len(second.records) == len(second.spans) == 2
    assert len(provider.served) == 6


def sdk_objects() -> dict[str, Any]:
    """Every object of the SDK that could be replaced."""
    found: dict[str, Any] = {}

    def add(owner: type, names: Any) -> None:
        for name in names:
            found[f"{owner.__module__}.{owner.__qualname__}.{name}"] = vars(owner).get(name)

    def walk(owner: type) -> None:
        add(owner, list(vars(owner)))
        for subclass in owner.__subclasses__():
            walk(subclass)

    for owner in (resource_module.SyncAPIResource, resource_module.AsyncAPIResource):
        add(owner, ["__init_subclass__", *vars(owner)])
        walk(owner)
    for owner in (base.SyncAPIClient, base.AsyncAPIClient, openai.Stream, openai.AsyncStream):
        add(owner, list(vars(owner)))
    for owner in vars(response_module).values():
        if isinstance(owner, type) and owner.__module__ == response_module.__name__:
            add(owner, list(vars(owner)))
    return {name: value for name, value in found.items() if not name.endswith(("__abstractmethods__", "_abc_impl"))}


def test_uninstrument_puts_the_sdks_own_objects_back(instrumentor: OpenAIInstrumentor) -> None:
    """After `uninstrument()` every attribute is the SDK's own object again, and nothing was added."""
    client = openai.OpenAI()
    assert client.chat.completions
    assert client.embeddings
    before = sdk_objects()
    instrumentor.instrument()
    during = sdk_objects()
    instrumentor.uninstrument()
    after = sdk_objects()
    changed = {name for name in before if during[name] is not before[name]}
    assert any(name.endswith("Completions.create") for name in changed)
    assert any(name.endswith("SyncAPIClient.request") for name in changed)
    assert any(name.endswith("ResponseContextManager.__init__") for name in changed)
    assert any(name.endswith("__init_subclass__") for name in changed)
    assert before.keys() == after.keys()
    assert [name for name in before if after[name] is not before[name]] == []


def test_what_somebody_else_patched_later_stays(
    provider: Any, instrumentor: OpenAIInstrumentor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A patch that somebody else put over ours survives `uninstrument()`, and calls through it work."""
    telemetry = make_telemetry()
    monkeypatch.setattr(base.SyncAPIClient, "request", base.SyncAPIClient.request)  # restored after the test
    instrumentor.instrument(**outputs(telemetry))
    ours = base.SyncAPIClient.request
    seen = []

    def theirs(self: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append(1)
        return ours(self, *args, **kwargs)

    base.SyncAPIClient.request = theirs  # type: ignore[method-assign,assignment]
    instrumentor.uninstrument()
    assert base.SyncAPIClient.request is theirs
    with openai.OpenAI(base_url=provider.base_url) as client:
        client.chat.completions.create(**CHAT.request)
    assert seen == [1]
    assert telemetry.records == []


# -- What was taken before, and what is kept after -------------------------------------------------------------------


def test_clients_methods_and_views_taken_before(provider: Any, instrumentor: OpenAIInstrumentor) -> None:
    """Clients, bound methods and raw views that exist before `instrument()` are metered."""
    telemetry = make_telemetry()
    with openai.OpenAI(base_url=provider.base_url) as client:
        create = client.chat.completions.create
        raw = client.chat.completions.with_raw_response
        streaming = client.chat.completions.with_streaming_response
        post = client.post
        instrumentor.instrument(**outputs(telemetry))
        with attribution(WHO):
            create(**CHAT.request)
            list(create(**CHAT.request, stream=True))
            raw.create(**CHAT.request)
            with streaming.create(**CHAT.request) as response:
                response.read()
            post(CHAT.path, cast_to=object, body=CHAT.request)
            client.chat.completions.create(**CHAT.request)
    assert len(telemetry.records) == 6
    assert {record["attribution.organization.id"] for record in telemetry.records} == {"AcmeSoft"}
    assert {record["openai_metering.usage.status"] for record in telemetry.records} == {"reported"}


def test_views_taken_meanwhile_still_take_the_keyword_out(provider: Any, instrumentor: OpenAIInstrumentor) -> None:
    """Methods and raw views kept past `uninstrument()` accept the keyword, send nothing of it, and are not metered."""
    telemetry = make_telemetry()
    with openai.OpenAI(base_url=provider.base_url) as client:
        instrumentor.instrument(**outputs(telemetry))
        create = client.chat.completions.create
        raw = client.chat.completions.with_raw_response
        streaming = client.chat.completions.with_streaming_response
        instrumentor.uninstrument()
        create(**CHAT.request, usage_metadata=dict(WHO))
        raw.create(**CHAT.request, usage_metadata=dict(WHO))
        with streaming.create(**CHAT.request, usage_metadata=dict(WHO)) as response:
            response.read()
    assert telemetry.records == []
    assert len(provider.served) == 3
    for served in provider.served:
        assert b"AcmeSoft" not in served.body
        assert "openai-metering-carrier" not in served.headers
        assert "AcmeSoft" not in repr(served.headers)


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_a_manager_made_while_on_and_entered_while_off(
    provider: Any, instrumentor: OpenAIInstrumentor, asynchronous: bool
) -> None:
    """A lazy manager that outlives metering works as the bare SDK's, and sends nothing of ours."""
    telemetry = make_telemetry()
    instrumentor.instrument(**outputs(telemetry))

    async def run_async() -> None:
        async with openai.AsyncOpenAI(base_url=provider.base_url) as client:
            streaming = client.chat.completions.with_streaming_response.create(**CHAT.request, usage_metadata=dict(WHO))
            helper = CHAT.helpers(client).stream(**CHAT.request, usage_metadata=dict(WHO))
            coroutine = client.chat.completions.create(**CHAT.request, usage_metadata=dict(WHO))
            instrumentor.uninstrument()
            async with streaming as response:
                assert await response.read()
            async with helper as events:
                assert [event async for event in events]
            assert (await coroutine).choices

    def run() -> None:
        with openai.OpenAI(base_url=provider.base_url) as client:
            streaming = client.chat.completions.with_streaming_response.create(**CHAT.request, usage_metadata=dict(WHO))
            helper = CHAT.helpers(client).stream(**CHAT.request, usage_metadata=dict(WHO))
            instrumentor.uninstrument()
            with streaming as response:
                assert response.read()
            with helper as events:
                assert list(events)

    if asynchronous:
        asyncio.run(run_async())
    else:
        run()
    assert telemetry.records == []
    assert len(provider.served) == 2 + asynchronous
    for served in provider.served:
        assert "openai-metering-carrier" not in served.headers
        assert "stream_options" not in served.json


@each_streamed
def test_a_stream_opened_while_on_and_read_while_off(
    provider: Any, instrumentor: OpenAIInstrumentor, operation: Operation
) -> None:
    """A stream that is still open at `uninstrument()` is read to its end as before."""
    telemetry = make_telemetry()
    instrumentor.instrument(**outputs(telemetry))
    with openai.OpenAI(base_url=provider.base_url) as client:
        stream = operation.of(client).create(**operation.request, stream=True)
        first = next(iter(stream))
        instrumentor.uninstrument()
        chunks = [first, *stream]
        provider.reset()
        bare = list(operation.of(client).create(**operation.request, stream=True))
    assert [chunk.to_json() for chunk in chunks] == [chunk.to_json() for chunk in bare]
    assert len(telemetry.records) <= 1


@pytest.mark.parametrize("how", ["read", "closed", "dropped"])
def test_a_stream_that_ends_after_uninstrument_is_in_the_metrics(
    provider: Any, instrumentor: OpenAIInstrumentor, how: str
) -> None:
    """A call that began while metering was on is counted however late it ends: once in records and in metrics."""
    telemetry = make_telemetry()
    instrumentor.instrument(**outputs(telemetry))
    with openai.OpenAI(base_url=provider.base_url) as client:
        stream: Any = client.chat.completions.create(**CHAT.request, stream=True)
        next(iter(stream))
        instrumentor.uninstrument()
        if how == "read":
            list(stream)
        elif how == "closed":
            stream.close()
        del stream
        gc.collect()
    wait_for(lambda: telemetry.records, "the record")
    record = telemetry.record()
    assert telemetry.total("openai_metering.calls") == 1
    if how == "read":
        tokens = telemetry.total("gen_ai.client.inference.usage.input_tokens")
        assert tokens == record["gen_ai.usage.input_tokens"] == provider.served[0].usage["prompt_tokens"]


# -- Before the SDK is there -----------------------------------------------------------------------------------------

SET_UP = """
import sys
import opentelemetry.trace as trace
from openai_metering import OpenAIInstrumentor
OpenAIInstrumentor().instrument()
assert not [name for name in sys.modules if name == "openai" or name.startswith("openai.")], "imported"
"""


def test_the_references_example_verbatim(provider: Any, tmp_path: Path) -> None:
    """`instrument()` before `import openai` imports nothing, and meters the module-level client from then on."""
    script = f"""{SET_UP}
import openai
openai.chat.completions.create(
    model="gpt-4",
    messages=[{{"role": "user", "content": "Hello"}}],
    max_tokens=500,
    usage_metadata={{
        "organization_id": "AcmeSoft",
        "subscriber_identity": "joe@acme.com",
        "subscriber_credential": "key1-hubspot",
    }},
)
"""
    run_python(script, provider, OPENAI_METERING_LEDGER_DIR=str(tmp_path))
    (record,) = ledger_records(tmp_path)
    assert record["attribution.organization.id"] == "AcmeSoft"
    assert record["attribution.subscriber.id"] == "joe@acme.com"
    assert record["attribution.credential.id"] == "key1-hubspot"
    assert record["gen_ai.usage.input_tokens"] == str(provider.served[0].usage["prompt_tokens"])
    assert record["gen_ai.request.max_tokens"] == "500"


def test_azure_in_a_fresh_process(provider: Any, tmp_path: Path) -> None:
    """An Azure client, given by its endpoint, is metered with the deployment asked for and the model served."""
    script = f"""{SET_UP}
import openai
client = openai.AzureOpenAI(azure_endpoint={provider.azure_endpoint!r}, api_version="2024-10-21", api_key="test")
client.chat.completions.create(
    model="our-deployment", messages=[{{"role": "user", "content": "x"}}], usage_metadata={WHO!r}
)
"""
    run_python(script, OPENAI_METERING_LEDGER_DIR=str(tmp_path))
    (record,) = ledger_records(tmp_path)
    assert record["gen_ai.request.model"] == "our-deployment"
    assert record["gen_ai.response.model"] == provider.served[0].model
    assert record["gen_ai.provider.name"] == "azure.ai.openai"
    assert record["attribution.organization.id"] == "AcmeSoft"


def test_imported_by_a_thread(provider: Any, tmp_path: Path) -> None:
    """The SDK is patched, once, when threads import it at the same time."""
    script = f"""{SET_UP}
import threading
failed = []
def work():
    try:
        import openai
        openai.OpenAI().embeddings.create(model="text-embedding-3-small", input="x", usage_metadata={WHO!r})
    except BaseException as error:
        failed.append(error)
threads = [threading.Thread(target=work) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
assert not failed, failed
"""
    run_python(script, provider, OPENAI_METERING_LEDGER_DIR=str(tmp_path))
    records = ledger_records(tmp_path)
    assert len(records) == 8
    assert len({record["openai_metering.record.id"] for record in records}) == 8
    assert {record["attribution.organization.id"] for record in records} == {"AcmeSoft"}


def test_uninstrumented_before_the_import(provider: Any, tmp_path: Path) -> None:
    """An import after `uninstrument()` finds the SDK left alone."""
    script = f"""{SET_UP}
OpenAIInstrumentor().uninstrument()
import openai
from openai._base_client import SyncAPIClient
assert SyncAPIClient.request.__code__.co_filename == SyncAPIClient.post.__code__.co_filename
openai.embeddings.create(model="text-embedding-3-small", input="x")
"""
    run_python(script, provider, OPENAI_METERING_LEDGER_DIR=str(tmp_path))
    assert ledger_records(tmp_path) == []


def test_providers_that_are_set_later(provider: Any) -> None:
    """Global providers that are set after `instrument()`, after the client and after a first call, are found."""
    script = f"""{SET_UP}
import openai
client = openai.OpenAI()
client.embeddings.create(model="text-embedding-3-small", input="x", usage_metadata={WHO!r})
from opentelemetry import metrics, _logs
sys.path.insert(0, {TESTS!r})
from in_memory import make_telemetry
made = make_telemetry()
trace.set_tracer_provider(made.tracer_provider)
metrics.set_meter_provider(made.meter_provider)
_logs.set_logger_provider(made.logger_provider)
client.embeddings.create(model="text-embedding-3-small", input="x", usage_metadata={WHO!r})
assert len(made.spans) == len(made.records) == 1, (made.spans, made.records)
assert made.total("openai_metering.calls") == 1
assert made.spans[0].attributes["attribution.organization.id"] == "AcmeSoft"
"""
    run_python(script, provider)


def test_without_openai() -> None:
    """Where `openai` is not installed, `instrument()` and `uninstrument()` raise nothing and say nothing alarming."""
    script = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "openai":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
from openai_metering import OpenAIInstrumentor, attribution
OpenAIInstrumentor().instrument()
with attribution(organization_id="AcmeSoft"):
    pass
OpenAIInstrumentor().uninstrument()
try:
    import openai
except ModuleNotFoundError as error:
    assert str(error) == "No module named 'openai'", error
else:
    raise AssertionError
"""
    assert "Traceback" not in run_python(script).stderr


# -- `instrument()` never raises -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"spans": "sometimes"}, "spans"),
        ({"records": 7}, "records"),
        ({"stream_usage": ...}, "stream_usage"),
        ({"enabled": "perhaps"}, "enabled"),
        ({"metric_attributes": 5}, "metric_attributes"),
        ({"metric_attributes": "subscriber,shoe_size"}, "metric_attributes"),
        ({"organization_id": 7}, "organization_id"),
        ({"ledger_dir": 7}, "ledger_dir"),
        ({"no_such_option": 1}, "no_such_option"),
        ({"skip_dep_check": True}, None),
    ],
    ids=repr,
)
def test_broken_options(
    provider: Any, instrumentor: OpenAIInstrumentor, caplog: pytest.LogCaptureFixture, options: Any, says: str | None
) -> None:
    """An option that is not understood costs one warning that names it, and metering goes on with the default."""
    telemetry = make_telemetry()
    with caplog.at_level(logging.WARNING, "openai_metering"):
        instrumentor.instrument(**outputs(telemetry), **options)
    warnings = [entry.getMessage() for entry in caplog.records if entry.name.startswith("openai_metering")]
    assert len(warnings) == (says is not None)
    assert says is None or says in warnings[0]
    with openai.OpenAI(base_url=provider.base_url) as client:
        client.chat.completions.create(**CHAT.request, usage_metadata=dict(WHO))
    assert telemetry.record()["openai_metering.usage.status"] == "reported"


class Raising:
    """A provider of the application that is broken in every way."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("the application's own provider")


@pytest.mark.parametrize("which", ["tracer_provider", "meter_provider", "logger_provider"])
def test_a_broken_provider(provider: Any, instrumentor: OpenAIInstrumentor, which: str) -> None:
    """A provider that raises reaches neither `instrument()` nor any call: the keyword is taken out all the same."""
    instrumentor.instrument(**{**outputs(make_telemetry()), which: Raising()})
    with openai.OpenAI(base_url=provider.base_url) as client:
        assert client.chat.completions.create(**CHAT.request, usage_metadata=dict(WHO)).choices
        assert list(client.chat.completions.create(**CHAT.request, stream=True, usage_metadata=dict(WHO)))
    assert errors.counts
    instrumentor.uninstrument()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (base, "SyncAPIClient"),
        (base, "AsyncAPIClient"),
        (resource_module, "SyncAPIResource"),
        (resource_module, "AsyncAPIResource"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_an_sdk_that_lacks_something(
    provider: Any, instrumentor: OpenAIInstrumentor, monkeypatch: pytest.MonkeyPatch, module: Any, name: str
) -> None:
    """What an SDK version lacks costs only what depends on it; `instrument()` and calls go on."""
    monkeypatch.delattr(module, name)
    instrumentor.instrument(**outputs(make_telemetry()))
    with openai.OpenAI(base_url=provider.base_url) as client:
        assert client.chat.completions.create(**CHAT.request).choices
        with client.chat.completions.with_streaming_response.create(**CHAT.request) as response:
            assert response.read()
    assert errors.counts
    instrumentor.uninstrument()


@pytest.mark.parametrize("owner", ["SyncAPIClient", "AsyncAPIClient"])
@pytest.mark.parametrize("name", ["request", "_process_response"])
def test_an_sdk_whose_client_lacks_a_method(
    provider: Any, instrumentor: OpenAIInstrumentor, monkeypatch: pytest.MonkeyPatch, owner: str, name: str
) -> None:
    """A client that has moved a method elsewhere keeps working, streams included; what is patched is taken out again."""
    kept = getattr(base, owner)
    before = {attribute: vars(kept).get(attribute) for attribute in ("request", "_process_response")}
    monkeypatch.delattr(kept, name)
    client_class = getattr(openai, "OpenAI" if owner == "SyncAPIClient" else "AsyncOpenAI")
    monkeypatch.setattr(client_class, name, before[name], raising=False)
    instrumentor.instrument(**outputs(make_telemetry()))
    with openai.OpenAI(base_url=provider.base_url) as client:
        assert client.chat.completions.create(**CHAT.request, usage_metadata=dict(WHO)).choices
        chunks = list(client.chat.completions.create(**CHAT.request, stream=True, usage_metadata=dict(WHO)))
    assert all(chunk.choices for chunk in chunks)
    instrumentor.uninstrument()
    monkeypatch.undo()
    assert {attribute: vars(kept).get(attribute) for attribute in before} == before


def test_settings_are_read_at_each_instrument(
    provider: Any, instrumentor: OpenAIInstrumentor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment is read at `instrument()`: not at import, and anew each time."""
    found = []
    with openai.OpenAI(base_url=provider.base_url) as client:
        for organization in ("First", "Second"):
            telemetry = make_telemetry()
            monkeypatch.setenv("OPENAI_METERING_ORGANIZATION_ID", organization)
            instrumentor.instrument(**outputs(telemetry))
            monkeypatch.setenv("OPENAI_METERING_ORGANIZATION_ID", "Too late")
            client.chat.completions.create(**CHAT.request)
            instrumentor.uninstrument()
            found.append(telemetry.record()["attribution.organization.id"])
    assert found == ["First", "Second"]


def test_nothing_listens(provider: Any, tmp_path: Path) -> None:
    """Without providers and ledger requests stay untouched, and at most one warning says that records go nowhere."""
    script = f"""{SET_UP}
import openai
client = openai.OpenAI()
request = dict(model="gpt-4o", messages=[{{"role": "user", "content": "x"}}])
for _ in range(3):
    client.chat.completions.create(**request, usage_metadata={WHO!r})
    list(client.chat.completions.create(**request, stream=True, usage_metadata={WHO!r}))
"""
    done = run_python(script, provider)
    assert len(done.stderr.splitlines()) <= 1
    assert len(provider.served) == 6
    assert not any("stream_options" in served.json for served in provider.served)


def test_records_that_go_nowhere_are_said_once(
    provider: Any, instrumentor: OpenAIInstrumentor, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """Where spans are taken and records are not, one warning says so, whatever the number of calls."""
    telemetry = make_telemetry()
    with caplog.at_level(logging.DEBUG, "openai_metering"):
        instrumentor.instrument(tracer_provider=telemetry.tracer_provider)
        with openai.OpenAI(base_url=provider.base_url) as client:
            for _ in range(3):
                client.chat.completions.create(**CHAT.request)
    assert len(telemetry.spans) == 3
    assert len([entry for entry in caplog.records if entry.name == "openai_metering"]) == 1


# -- The ledger is first ---------------------------------------------------------------------------------------------


def test_the_line_is_on_disk_before_a_call_returns(
    provider: Any, instrumentor: OpenAIInstrumentor, tmp_path: Path
) -> None:
    """When `create()` returns, or raises, its line is in the file."""
    instrumentor.instrument(ledger_dir=tmp_path)
    with openai.OpenAI(base_url=provider.base_url, max_retries=0) as client:
        for expected, operation in enumerate(MAIN, 1):
            operation.of(client).create(**operation.request)
            assert len(ledger_records(tmp_path)) == expected
        client.chat.completions.with_raw_response.create(**CHAT.request)
        assert len(ledger_records(tmp_path)) == len(MAIN) + 1
        with pytest.raises(openai.NotFoundError):
            client.chat.completions.create(**CHAT.request, extra_headers={"x-standin-scenario": "status_404"})
        assert len(ledger_records(tmp_path)) == len(MAIN) + 2


@each_streamed
def test_the_line_is_on_disk_before_a_stream_ends(
    provider: Any, instrumentor: OpenAIInstrumentor, tmp_path: Path, operation: Operation
) -> None:
    """When the caller learns that a stream is over, by `StopIteration` or the terminal event, its line is in the file."""
    instrumentor.instrument(ledger_dir=tmp_path)
    terminal = False
    with openai.OpenAI(base_url=provider.base_url) as client:
        stream = iter(operation.of(client).create(**operation.request, stream=True))
        while True:
            try:
                chunk = next(stream)
            except StopIteration:
                assert len(ledger_records(tmp_path)) == 1
                break
            terminal = getattr(chunk, "type", "") == "response.completed"
            assert len(ledger_records(tmp_path)) == terminal
    assert terminal or operation is CHAT


@each_streamed
def test_the_line_is_on_disk_before_raw_lines_end(
    provider: Any, instrumentor: OpenAIInstrumentor, tmp_path: Path, operation: Operation
) -> None:
    """A caller who reads lines finds the record in the file when the last line has come."""
    instrumentor.instrument(ledger_dir=tmp_path)
    with openai.OpenAI(base_url=provider.base_url) as client:
        method = operation.of(client).with_streaming_response.create
        with method(**operation.request, stream=True) as response:
            for line in response.iter_lines():
                if "[DONE]" in line or "response.completed" in line:
                    assert len(ledger_records(tmp_path)) == 1
    assert len(ledger_records(tmp_path)) == 1


# -- Forks and ends of processes -------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@each_streamed
def test_a_fork_while_a_stream_is_open(provider: Any, tmp_path: Path, operation: Operation) -> None:
    """A stream that is open when the process forks is the parent's: one record, whatever the child does with it."""
    script = f"""{SET_UP}
import gc, os, openai
client = openai.OpenAI()
stream = client.{operation.resource}.create(**{operation.request!r}, stream=True, usage_metadata={WHO!r})
next(iter(stream))
child = os.fork()
if child == 0:
    del stream
    gc.collect()
    openai.OpenAI().embeddings.create(
        model="text-embedding-3-small", input="x", usage_metadata={{"organization_id": "Child"}}
    )
    raise SystemExit(0)
assert os.waitpid(child, 0)[1] == 0
list(stream)
"""
    run_python(script, provider, OPENAI_METERING_LEDGER_DIR=str(tmp_path))
    records = ledger_records(tmp_path)
    found = sorted((record["attribution.organization.id"], record["openai_metering.outcome"]) for record in records)
    assert found == [("AcmeSoft", "completed"), ("Child", "completed")]
    assert len(list(tmp_path.glob("*.jsonl"))) == 2


@each_streamed
@pytest.mark.parametrize(
    ("read", "outcome"), [("next(iter(stream))", "dropped"), ("pass", "unread")], ids=["half-read", "unread"]
)
def test_a_process_that_ends_with_an_open_stream(
    provider: Any, tmp_path: Path, operation: Operation, read: str, outcome: str
) -> None:
    """The record of a stream that is open when the process ends is in the ledger."""
    script = f"""{SET_UP}
import openai
client = openai.OpenAI()
stream = client.{operation.resource}.create(**{operation.request!r}, stream=True, usage_metadata={WHO!r})
{read}
"""
    run_python(script, provider, ENDS_WITH_OPEN_STREAM, OPENAI_METERING_LEDGER_DIR=str(tmp_path))
    (record,) = ledger_records(tmp_path)
    assert record["openai_metering.outcome"] == outcome
    assert record["openai_metering.usage.status"] == "unknown"
    assert record["attribution.organization.id"] == "AcmeSoft"


def test_a_process_that_dies_of_an_exception_with_an_open_stream(provider: Any, tmp_path: Path) -> None:
    """An exception that ends the process leaves the open stream's record, and its own exit code."""
    script = f"""{SET_UP}
import openai
stream = openai.chat.completions.create(**{CHAT.request!r}, stream=True, usage_metadata={WHO!r})
for chunk in stream:
    raise SystemExit(0)
"""
    run_python(script, provider, ENDS_WITH_OPEN_STREAM, OPENAI_METERING_LEDGER_DIR=str(tmp_path))
    (record,) = ledger_records(tmp_path)
    assert record["openai_metering.outcome"] in ("dropped", "stopped")


def test_uninstrument_with_dropped_streams(provider: Any, instrumentor: OpenAIInstrumentor) -> None:
    """Streams that were dropped before `uninstrument()` leave their records."""
    telemetry = make_telemetry()
    instrumentor.instrument(**outputs(telemetry))
    with openai.OpenAI(base_url=provider.base_url) as client:
        stream: Any = client.chat.completions.create(**CHAT.request, stream=True)
        next(iter(stream))
        del stream
        gc.collect()
        instrumentor.uninstrument()
    wait_for(lambda: telemetry.records, "the record")
    assert telemetry.record()["openai_metering.outcome"] == "dropped"
