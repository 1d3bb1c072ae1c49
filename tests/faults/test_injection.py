"""Breaking our own code on purpose never changes what the caller sees."""

from __future__ import annotations

import ast
import asyncio
import contextvars
import gc
import inspect
import textwrap
import threading
from typing import TYPE_CHECKING, Any

import breaking
import openai
import pytest

from in_memory import make_telemetry, wait_for
from openai_metering import OpenAIInstrumentor, attribution, call, errors
from openai_metering.seams.patches import Patches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

FUNCTIONS = breaking.functions()

# What the application or the SDK calls directly, and what stands between it and the functions behind it. Each of these
# must stay up by itself; those of them that call anything are held to it by `test_every_guard_guards`.
GUARDS = {
    "scope:attribution.__init__": "public: a scope is made, whatever it is given",
    "scope:attribution.__enter__": "public: the application's `with`",
    "scope:attribution.__exit__": "public: the application's `with`",
    "signals:Signals.finish": "the guard around each signal",
    "signals:Signals.settle": "the guard around each signal",
    "signals:Signals.start": "the guard around the span",
    "seams.outgoing:begin": "the guard before the request",
    "seams.http:_responded": "the guard at the response",
    "seams.http:_spent": "the guard after a failed parse",
    "seams.http:_observe": "the guard around observation",
    "seams.outgoing:unmetered": "guards the context of what is free of charge",
    "seams.baggage:Around.enter": "guards the context",
    "seams.baggage:Around.leave": "guards the context",
    "seams.outgoing:Sending.repeats": "guards the second attempt",
    "seams.outgoing:Sending.accepted": "guards what is remembered of a host",
    "seams.outgoing:Sending.failed": "guards the failure's record",
    "seams.outgoing:Sending.returned": "guards the end",
    "seams.keyword:_stamped": "guards the manager's scope",
    "seams.clients:Clients.keep": "guards the look at a client's class",
    "integrations.spans:AttributionSpanProcessor.on_start": "guards the start of any span of the application",
    "seams.streams:_Observed.seen": "the guard around a chunk",
    "seams.streams:_Observed.ended": "the guard at a stream's end",
    "seams.streams:_Observed.failed": "the guard at a stream's failure",
    "seams.streams:_Observed.__del__": "the guard of the finaliser",
    "seams.streams:HidingIterator._hides": "the guard around hiding",
    "seams.streams:hide_in": "the guard around hiding in a stream that is not observed",
    "seams.streams:tell": "the guard around a close",
    "seams.responses:BodyObserver.feed": "the guard around a piece",
    "seams.responses:BodyObserver.end": "the guard at a body's end",
    "seams.responses:ObservedBody._reads": "guards the choice of what sees raw bytes",
    "seams.responses:StreamBody._beneath": "guards the choice of what sees the bytes beneath a stream",
    "seams.codings:RawReader.feed": "the guard around a piece of raw bytes",
    "seams.codings:RawReader.end": "the guard at the end of raw bytes",
    "seams.responses:BodyObserver.failed": "the guard at a body's failure",
    "seams.responses:BodyObserver.__del__": "the guard of the finaliser",
    "integrations.asking:ask": "guards the application's function",
    "integrations.asking:ask_async": "guards the application's function",
    "integrations.asking:_failed": "guards what is said of that function",
    "integrations.wsgi:scoped_body": "the guard around a body",
    "integrations.flask:_enter": "guards the scope of a request",
    "integrations.django:_streamed": "the guard around a streamed answer",
    "integrations.celery:_Carried.send": "the guard before a message is sent",
    "integrations.celery:_Carried.enter": "the guard before a task",
    "integrations.celery:_Carried.leave": "the guard after a task",
}
SEAM = {
    "seams.streams:is_extra": "the seam asks for the extra chunk: what tells it has no substitute",
    "seams.streams:_hides": "the seam asks for the extra chunk: what hides it has no substitute",
    "scope:attribution.__call__": "public: runs once, when a function is decorated, and only makes a closure",
    "scope:current_attribution": "public: reads one context variable",
    "seams.keyword:_carried": "the wrapper of a method",
    "seams.wrappers:BoundMethod.__new__": "the wrapper of a method, made: what wrapt makes, or what Python's own does",
    "seams.keyword:_scoped": "the wrapper of a method",
    "seams.keyword:_awaited": "the wrapper of a method",
    "seams.streams:_Observed.__getattr__": "hands on to the SDK's own iterator",
    "seams.streams:ObservedIterator.__iter__": "the SDK's iterator protocol",
    "seams.streams:ObservedIterator.__next__": "the SDK's iterator protocol",
    "seams.streams:ObservedAsyncIterator.__aiter__": "the SDK's iterator protocol",
    "seams.streams:ObservedAsyncIterator.__anext__": "the SDK's iterator protocol",
    "seams.streams:HidingIterator.__getattr__": "hands on to the SDK's own iterator",
    "seams.streams:HidingIterator.__iter__": "the SDK's iterator protocol",
    "seams.streams:HidingIterator.__next__": "the SDK's iterator protocol",
    "seams.streams:HidingIterator.__aiter__": "the SDK's iterator protocol",
    "seams.streams:HidingIterator.__anext__": "the SDK's iterator protocol",
    "seams.responses:ObservedBody.__iter__": "the HTTP library's stream protocol",
    "seams.responses:ObservedBody.__aiter__": "the HTTP library's stream protocol",
    "seams.responses:ObservedBody.close": "the HTTP library's stream protocol",
    "seams.responses:ObservedBody.aclose": "the HTTP library's stream protocol",
    "seams.responses:StreamBody.__iter__": "the HTTP library's stream protocol",
    "seams.responses:StreamBody.__aiter__": "the HTTP library's stream protocol",
    "seams.responses:StreamBody.close": "the HTTP library's stream protocol",
    "seams.responses:StreamBody.aclose": "the HTTP library's stream protocol",
    "seams.codings:ObservedDecoder.decode": "the HTTP library's decoder protocol",
    "seams.codings:ObservedDecoder.flush": "the HTTP library's decoder protocol",
    "seams.codings:ObservedDecoder._fed": "the HTTP library's decoder protocol",
}
INJECTED = {name: function for name, function in FUNCTIONS.items() if name not in GUARDS | SEAM}

# Called in finalisers, in the drain thread or at exit, where nothing counts.
DRAINING = {"call:drain", "call:_drain_while_open"}
"""What the drain thread runs every half second, so perhaps within a test: it has a test of its own."""

FINALISER = {"call:abandon", "call:Call.open"}

WHO = {"organization_id": "AcmeSoft", "subscriber_identity": "joe@acme.com", "subscriber_credential": "key1-hubspot"}
CHAT: dict[str, Any] = {"model": "gpt-4o", "messages": [{"role": "user", "content": "What is metering?"}]}


# -- Forms: each returns what the caller sees ------------------------------------------------------------------------


def scenario(name: str) -> dict[str, Any]:
    return {"extra_headers": {"x-standin-scenario": name}}


def seen(value: Any) -> Any:
    return value.to_json() if hasattr(value, "to_json") else value


def plain(client: Any, **who: Any) -> Any:
    return seen(client.chat.completions.create(**CHAT, **who))


def embeddings(client: Any, **who: Any) -> Any:
    return seen(client.embeddings.create(model="text-embedding-3-small", input="x", **who))


def stream(client: Any, **who: Any) -> Any:
    opened = client.chat.completions.create(**CHAT, stream=True, **who)
    return [type(opened).__qualname__, *map(seen, opened)]


def responses_stream(client: Any, **who: Any) -> Any:
    if not hasattr(client, "responses"):
        return None
    return [*map(seen, client.responses.create(model="gpt-4.1", input="x", stream=True, **who))]


def background(client: Any, **who: Any) -> Any:
    if not hasattr(client, "responses"):
        return None
    response = client.responses.create(model="gpt-4.1", input="x", extra_body={"background": True}, **who)
    return [seen(response), *(seen(client.responses.retrieve(response.id)) for _ in range(4))]


def background_stream(client: Any, **who: Any) -> Any:
    if not hasattr(client, "responses"):
        return None
    streamed = client.responses.create(model="gpt-4.1", input="x", stream=True, extra_body={"background": True}, **who)
    return [*map(seen, streamed)]


def stream_left(client: Any, **who: Any) -> Any:
    with client.chat.completions.create(**CHAT, stream=True, **who) as opened:
        for chunk in opened:
            return seen(chunk)
    return None


def stream_dropped(client: Any, **who: Any) -> Any:
    opened = client.chat.completions.create(**CHAT, stream=True, **who)
    first = seen(next(iter(opened)))
    del opened
    gc.collect()
    return first


def stream_cut(client: Any, **who: Any) -> Any:
    found: list[Any] = []
    try:
        for chunk in client.chat.completions.create(**CHAT, stream=True, **scenario("cut"), **who):
            found.append(seen(chunk))  # noqa: PERF401 - what came before the cut counts
    except Exception as error:
        found.append(raised(error))
    return found


def stream_refused(client: Any, **who: Any) -> Any:
    opened = client.chat.completions.create(**CHAT, stream=True, **scenario("refuse_stream_options"), **who)
    return [*map(seen, opened)]


def raw(client: Any, **who: Any) -> Any:
    response = client.chat.completions.with_raw_response.create(**CHAT, **who)
    return [response.status_code, seen(response.parse())]


def raw_stream_parsed(client: Any, **who: Any) -> Any:
    return [*map(seen, client.chat.completions.with_raw_response.create(**CHAT, stream=True, **who).parse())]


def lines(client: Any, **who: Any) -> Any:
    with client.chat.completions.with_streaming_response.create(**CHAT, **who) as response:
        return [*response.iter_lines()]


def stream_lines(client: Any, **who: Any) -> Any:
    with client.chat.completions.with_streaming_response.create(**CHAT, stream=True, **who) as response:
        # The one documented difference: the null that asking for usage puts on every other event.
        return [line.replace(',"usage":null', "") for line in response.iter_lines()]


def gzip_iter_raw(client: Any, **who: Any) -> Any:
    asking = {**CHAT, "stream": True, "stream_options": {"include_usage": True}}
    with client.chat.completions.with_streaming_response.create(**asking, **scenario("gzip"), **who) as response:
        return b"".join(response.http_response.iter_raw())


def gzip_read(client: Any, **who: Any) -> Any:
    with client.chat.completions.with_streaming_response.create(**CHAT, **scenario("gzip"), **who) as response:
        return response.read()


def helper(client: Any, **who: Any) -> Any:
    completions = (
        client.chat.completions if hasattr(client.chat.completions, "stream") else client.beta.chat.completions
    )
    with completions.stream(**CHAT, **who) as events:
        return [event.type for event in events] + [seen(events.get_final_completion())]


def refused(client: Any, **who: Any) -> Any:
    try:
        client.chat.completions.create(**CHAT, **scenario("status_429"), **who)
    except openai.RateLimitError as error:
        return raised(error)
    return None


async def async_plain(client: Any, **who: Any) -> Any:
    return seen(await client.chat.completions.create(**CHAT, **who))


async def async_stream(client: Any, **who: Any) -> Any:
    return [seen(chunk) async for chunk in await client.chat.completions.create(**CHAT, stream=True, **who)]


async def async_lines(client: Any, **who: Any) -> Any:
    method = client.chat.completions.with_streaming_response.create
    async with method(**CHAT, stream=True, **who) as response:
        return [line.replace(',"usage":null', "") async for line in response.iter_lines()]


async def async_refused(client: Any, **who: Any) -> Any:
    try:
        await client.chat.completions.create(**CHAT, **scenario("status_429"), **who)
    except openai.RateLimitError as error:
        return raised(error)
    return None


FORMS: list[Callable[..., Any]] = [
    plain,
    embeddings,
    stream,
    responses_stream,
    background,
    background_stream,
    stream_left,
    stream_dropped,
    stream_cut,
    stream_refused,
    raw,
    raw_stream_parsed,
    lines,
    stream_lines,
    gzip_iter_raw,
    gzip_read,
    helper,
    refused,
    async_plain,
    async_stream,
    async_lines,
    async_refused,
]


def raised(error: BaseException) -> tuple[str, str]:
    """An exception as the caller sees it; the provider's request id differs from call to call."""
    return type(error).__name__, str(error)


class Caller:
    """Makes every form of call with clients of its own, and says what came of it."""

    def __init__(self, provider: Any) -> None:
        self.provider = provider
        self.loop = asyncio.new_event_loop()
        self.sync = openai.OpenAI(base_url=provider.base_url, max_retries=0)
        self.asynchronous = openai.AsyncOpenAI(base_url=provider.base_url, max_retries=0)
        self.bare = self.see({})

    def run(self, form: Callable[..., Any], who: dict[str, Any]) -> Any:
        self.provider.reset()
        try:
            if inspect.iscoroutinefunction(form):
                return self.loop.run_until_complete(form(self.asynchronous.copy(), **who))
            return form(self.sync.copy(), **who)  # a copy: raw views made before `instrument()` cannot know the keyword
        except BaseException as error:
            return "raised", raised(error)

    def see(self, who: dict[str, Any]) -> dict[str, Any]:
        """What every form gives."""
        return {form.__name__: self.run(form, who) for form in FORMS}

    def differences(self, who: dict[str, Any]) -> dict[str, Any]:
        """The forms that give anything else than on the bare SDK."""
        found = self.see(who)
        return {name: (value, self.bare[name]) for name, value in found.items() if value != self.bare[name]}

    def close(self) -> None:
        self.sync.close()
        self.loop.run_until_complete(self.asynchronous.close())
        self.loop.close()


@pytest.fixture(scope="module")
def caller(provider_process: Any) -> Iterator[Caller]:
    made = Caller(provider_process)
    yield made
    made.close()


@pytest.fixture
def thread_errors(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What threads of ours die of."""
    found: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", found.append)
    return found


def in_scope(caller: Caller, who: dict[str, Any]) -> dict[str, Any]:
    """In a context of its own, where a scope that a fault keeps open stays."""
    with attribution(organization_id="Outer", team="blue"):
        return caller.differences(who)


@pytest.fixture
def outputs(tmp_path: Path) -> dict[str, Any]:
    """Options that switch every signal on, the ledger too."""
    made = make_telemetry()
    return {
        "tracer_provider": made.tracer_provider,
        "meter_provider": made.meter_provider,
        "logger_provider": made.logger_provider,
        "ledger_dir": str(tmp_path / "ledger"),
        "records": "both",
    }


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    """Take out by hand what a broken `uninstrument()` left in the SDK."""
    made: list[Any] = []
    init = Patches.__init__

    def remembered(self: Any) -> None:
        init(self)
        made.append(self)

    Patches.__init__ = remembered  # type: ignore[method-assign]
    yield
    Patches.__init__ = init  # type: ignore[method-assign]
    for patches in made:
        patches.undo()
    errors.listeners.clear()


def test_nothing_is_excluded_in_vain() -> None:
    """Every exclusion names a function that there is."""
    assert {*GUARDS, *SEAM} <= {*FUNCTIONS}


def test_unbroken_the_caller_sees_what_the_bare_sdk_gives(caller: Caller, outputs: dict[str, Any]) -> None:
    """Without a fault all forms agree, so that a difference below is the fault's."""
    instrumentor = OpenAIInstrumentor()
    instrumentor.instrument(**outputs)
    try:
        assert caller.differences({"usage_metadata": WHO}) == {}
    finally:
        instrumentor.uninstrument()
    assert not errors.counts


@pytest.mark.parametrize("name", INJECTED)
def test_a_fault_while_metered_never_reaches_the_caller(
    name: str, caller: Caller, outputs: dict[str, Any], thread_errors: list[Any]
) -> None:
    """A function that raises from one moment to the next changes nothing for the caller, and is counted."""
    instrumentor = OpenAIInstrumentor()
    instrumentor.instrument(**outputs)
    try:
        with breaking.broken(name, INJECTED[name]):
            different = contextvars.copy_context().run(in_scope, caller, {"usage_metadata": WHO})
            reached = len(breaking.reached)
            counted = sum(errors.counts.values())
    finally:
        instrumentor.uninstrument()
    assert [*different] == [], different
    if name not in DRAINING:
        assert thread_errors == []
    if reached and name not in FINALISER:
        assert counted


@pytest.mark.parametrize("name", INJECTED)
def test_a_fault_before_instrument_never_reaches_the_caller(
    name: str, caller: Caller, outputs: dict[str, Any], thread_errors: list[Any]
) -> None:
    """`instrument()` and `uninstrument()` over a broken function raise nothing, and calls go on as on the bare SDK."""
    instrumentor = OpenAIInstrumentor()
    with breaking.broken(name, INJECTED[name]):
        instrumentor.instrument(**outputs)
        try:
            different = contextvars.copy_context().run(in_scope, caller, {})
        finally:
            instrumentor.uninstrument()
    assert [*different] == [], different
    if name not in DRAINING:
        assert thread_errors == []


def test_the_drain_thread_survives_a_fault(
    caller: Caller, provider: Any, outputs: dict[str, Any], thread_errors: list[Any]
) -> None:
    """An error in the thread that ends dropped streams is swallowed, and the thread goes on with its work."""
    instrumentor = OpenAIInstrumentor()
    instrumentor.instrument(**outputs)
    call._drainer = None  # whatever became of it in another test
    earlier = set(call.open_calls)
    try:
        opened = caller.sync.chat.completions.create(**CHAT, stream=True)
        next(iter(opened))
        with breaking.broken("call:drain", FUNCTIONS["call:drain"]):
            wait_for(lambda: breaking.reached, "the drain thread")
        del opened
        wait_for(lambda: call.open_calls <= earlier, "the end of the dropped stream, with no other call made")
    finally:
        instrumentor.uninstrument()
    assert thread_errors == []


# What takes the keyword out, or puts that into the SDK: broken, nothing is left that could take it out.
KEYWORD_ITSELF = {
    "seams.keyword:patch_resources",
    "seams.keyword:_patch_methods",
    "seams.keyword:_wrapped",
    "seams.keyword:_parameters",
    "seams.keyword:_subclasses",
    "seams.patches:Patches.__init__",
    "seams.patches:Patches.replace",
    "seams.patches:Patches.has",
    "seams.patches:inside",
    "seams.patches:_inside",
    "seams.patches:_own",
    "seams.patches:_is_wrapper",
    "seams.metering:Metering.__init__",
    "seams.metering:Metering.__post_init__",
}


@pytest.mark.parametrize("name", [name for name in INJECTED if name not in KEYWORD_ITSELF])
def test_a_fault_before_instrument_leaves_the_keyword_working(
    name: str, caller: Caller, outputs: dict[str, Any]
) -> None:
    """Calls with the keyword work, even where metering could not start: it is taken out all the same."""
    instrumentor = OpenAIInstrumentor()
    with breaking.broken(name, INJECTED[name]):
        instrumentor.instrument(**outputs)
        try:
            found = caller.run(plain, {"usage_metadata": WHO})
        finally:
            instrumentor.uninstrument()
    assert found == caller.bare["plain"]


@pytest.mark.parametrize("name", GUARDS)
def test_every_guard_guards(name: str) -> None:
    """A guard calls nothing outside its `try`, and its handlers take every exception."""
    (function,) = ast.parse(textwrap.dedent(inspect.getsource(FUNCTIONS[name]))).body
    assert isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef))
    loose: list[str] = []
    guards: list[ast.AST] = []

    def walk(node: ast.AST) -> None:
        if isinstance(node, ast.Try) or (
            isinstance(node, ast.With) and "contextlib.suppress(Exception)" in ast.unparse(node)
        ):
            guards.append(node)
        elif isinstance(node, ast.Call):
            loose.append(ast.unparse(node))
        else:
            for child in ast.iter_child_nodes(node):
                walk(child)

    walk(function)
    # `repeats` hands on to `failed`, which is a guard itself.
    assert [call for call in loose if call != "self.failed(error)"] == []
    assert guards
    for guard in guards:
        if isinstance(guard, ast.Try):
            taken = {ast.unparse(handler.type) if handler.type else "" for handler in guard.handlers}
            assert taken & {"Exception", "BaseException", ""}
