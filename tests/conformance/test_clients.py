"""Applications that change the client, its HTTP library or the classes around it: all of that keeps working."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import openai
import openai._base_client as base
import pytest
from forms import MAIN, WHO
from seen import anything

from fuzzing import Reply, encoded, events, whole
from in_memory import make_telemetry
from openai_metering import OpenAIInstrumentor, attribution
from raw_server import RawServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HTTP = getattr(base, "httpx2", None) or base.httpx
CHAT = MAIN[0]
BODY = encoded(whole("chat"))
EVENTS = b"".join(event.encoded() for event in events("chat"))
JSON = {"content-type": "application/json", "x-request-id": "req_1"}
SSE = {"content-type": "text/event-stream", "x-request-id": "req_1"}


@pytest.fixture
def both() -> Iterator[Callable[[Callable[[], Any]], Any]]:
    """Runs something bare and metered: it sees the same, and there is one record for each call. Returns what it sees."""

    def run(function: Callable[[], Any], calls: int = 1) -> Any:
        bare = function()
        telemetry = make_telemetry()
        instrumentor.instrument(
            tracer_provider=telemetry.tracer_provider,
            meter_provider=telemetry.meter_provider,
            logger_provider=telemetry.logger_provider,
        )
        try:
            with attribution(WHO):
                metered = function()
        finally:
            instrumentor.uninstrument()
        assert metered == bare
        assert [record["openai_metering.usage.status"] for record in telemetry.records] == ["reported"] * calls
        assert all(record["attribution.organization.id"] == "AcmeSoft" for record in telemetry.records)
        return metered

    instrumentor = OpenAIInstrumentor()
    yield run
    if instrumentor.is_instrumented_by_opentelemetry:
        instrumentor.uninstrument()


def streamed(request: Any) -> bool:
    return bool(json.loads(request.content or b"{}").get("stream"))


def answer(request: Any) -> Any:
    """An answer in memory, as tests of applications give it."""
    if streamed(request):
        return HTTP.Response(200, headers=SSE, content=EVENTS, request=request)
    return HTTP.Response(200, headers=JSON, content=BODY, request=request)


def plain(client: Any) -> Any:
    return anything(client.chat.completions.create(**CHAT.request))


def stream(client: Any) -> Any:
    asked = {"stream_options": {"include_usage": True}}  # an answer in memory does not depend on what is asked for
    return anything(list(client.chat.completions.create(**CHAT.request, stream=True, **asked)))


each_call = pytest.mark.parametrize("call", [plain, stream])


@each_call
def test_a_transport_in_memory(both: Any, call: Any) -> None:
    """The HTTP library's own mock."""

    def run() -> Any:
        with openai.OpenAI(http_client=HTTP.Client(transport=HTTP.MockTransport(answer))) as client:
            return call(client)

    both(run)


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_an_asynchronous_transport_in_memory(both: Any, stream: bool) -> None:
    """The same, asynchronous, in a coroutine."""

    async def respond(request: Any) -> Any:
        await asyncio.sleep(0)
        return answer(request)

    async def main() -> Any:
        http_client = HTTP.AsyncClient(transport=HTTP.MockTransport(respond))
        async with openai.AsyncOpenAI(http_client=http_client) as client:
            if not stream:
                return anything(await client.chat.completions.create(**CHAT.request))
            made = await client.chat.completions.create(
                **CHAT.request, stream=True, stream_options={"include_usage": True}
            )
            return anything([chunk async for chunk in made])

    both(lambda: asyncio.run(main()))


@each_call
def test_a_transport_of_ones_own(both: Any, call: Any, provider: Any) -> None:
    """A transport that wraps another one, and counts: every request passes it once, with nothing of ours."""
    seen: list[Any] = []

    class Counting(HTTP.BaseTransport):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            self.inner = HTTP.HTTPTransport()

        def handle_request(self, request: Any) -> Any:
            seen.append(sorted(request.headers.keys()))
            return self.inner.handle_request(request)

        def close(self) -> None:
            self.inner.close()

    def run() -> Any:
        provider.reset()
        seen.clear()
        with openai.OpenAI(base_url=provider.base_url, http_client=HTTP.Client(transport=Counting())) as client:
            return call(client), list(seen)

    assert len(both(run)[1]) == 1


@each_call
def test_a_client_of_ones_own(both: Any, call: Any, provider: Any) -> None:
    """An HTTP client with its own limits, headers, cookies and timeout; it stays the application's."""

    def run() -> Any:
        provider.reset()
        with HTTP.Client(
            limits=HTTP.Limits(max_connections=2), headers={"x-own": "1"}, cookies={"c": "1"}, timeout=9
        ) as http_client:
            client = openai.OpenAI(base_url=provider.base_url, http_client=http_client)
            found = call(client)
            assert client._client is http_client
            (served,) = provider.served
            return found, served.headers["x-own"], served.headers["cookie"], sorted(vars(http_client))

    both(run)


@each_call
@pytest.mark.parametrize("reads", [False, True], ids=["looks", "reads"])
def test_event_hooks(both: Any, call: Any, reads: bool, provider: Any) -> None:
    """Hooks see each request and response once, as on the bare SDK, and may read the response."""

    def run() -> Any:
        provider.reset()
        seen: list[Any] = []

        def on_request(request: Any) -> None:
            seen.append((request.method, str(request.url), sorted(request.headers.keys())))

        def on_response(response: Any) -> None:
            seen.append((response.status_code, response.is_closed, response.is_stream_consumed))
            if reads:
                seen.append(len(response.read()))

        hooks = {"request": [on_request], "response": [on_response]}
        with openai.OpenAI(base_url=provider.base_url, http_client=HTTP.Client(event_hooks=hooks)) as client:
            return call(client), seen

    both(run)


@each_call
def test_a_proxy(both: Any, call: Any) -> None:
    """A request through a proxy names the provider's host, and so does its record."""
    lines: list[str] = []

    def reply(line: str) -> Reply:
        lines.append(line)
        return Reply(200, JSON, BODY) if call is plain else Reply(200, SSE, EVENTS)

    def run() -> Any:
        lines.clear()
        address = proxy.base_url.removesuffix("/v1")
        http_client = HTTP.Client(mounts={"http://": HTTP.HTTPTransport(proxy=HTTP.Proxy(address))})
        with openai.OpenAI(base_url="http://provider.example/v1", http_client=http_client) as client:
            return call(client), list(lines)

    with RawServer(reply) as proxy:
        assert both(run)[1] == ["POST http://provider.example/v1/chat/completions HTTP/1.1"]


@each_call
def test_a_subclass(both: Any, call: Any, provider: Any) -> None:
    """A subclass that overrides what the SDK lets one override is called as often, with the same."""

    def run() -> Any:
        provider.reset()
        seen: list[Any] = []

        class Own(openai.OpenAI):
            def request(self, *args: Any, **kwargs: Any) -> Any:
                seen.append("request")
                return super().request(*args, **kwargs)

            def post(self, path: str, **kwargs: Any) -> Any:
                seen.append(path)
                return super().post(path, **kwargs)

            def _prepare_options(self, options: Any) -> Any:
                seen.append(sorted(options.json_data))
                return super()._prepare_options(options)

            def _prepare_request(self, request: Any) -> None:
                request.headers["x-own"] = "1"
                seen.append(request.method)

            @property
            def default_headers(self) -> Any:
                return {**super().default_headers, "x-default": "2"}

        with Own(base_url=provider.base_url, max_retries=0) as client:
            found = call(client)
        (served,) = provider.served
        assert (served.headers["x-own"], served.headers["x-default"]) == ("1", "2")
        return found, [one for one in seen if one not in ("request", "/chat/completions")], seen.count("request")

    both(run)


def replaces(options: Any) -> None:
    options.headers = {"x-own": "1"}


def sets_where_there_is_none(options: Any) -> None:
    options.headers = options.headers if isinstance(options.headers, dict) else {"x-own": "1"}


def writes_down(options: Any) -> None:
    json.dumps(options.headers if isinstance(options.headers, dict) else {})


@each_call
@pytest.mark.parametrize("hook", [replaces, sets_where_there_is_none, writes_down])
def test_a_subclass_that_looks_at_its_requests(both: Any, call: Any, hook: Any, provider: Any) -> None:
    """The SDK's hook for subclasses sees the headers that the caller gave, and may change them."""

    def run() -> Any:
        provider.reset()

        class Own(openai.OpenAI):
            def _prepare_options(self, options: Any) -> Any:
                hook(options)
                return super()._prepare_options(options)

        with Own(base_url=provider.base_url, max_retries=0) as client:
            found = call(client)
        (served,) = provider.served
        return found, served.headers.get("x-own")

    assert both(run)[1] == (None if hook is writes_down else "1")


@each_call
def test_a_subclass_that_is_compared_by_value(both: Any, call: Any, provider: Any) -> None:
    """A client that cannot be hashed is metered all the same."""

    def run() -> Any:
        provider.reset()

        class Own(openai.OpenAI):
            def __eq__(self, other: object) -> bool:
                return isinstance(other, Own)

            __hash__ = None  # type: ignore[assignment]

        with Own(base_url=provider.base_url, max_retries=0) as client:
            return call(client)

    both(run)


@each_call
@pytest.mark.parametrize("place", ["method", "resource class", "client class"])
def test_a_client_that_is_patched_by_somebody_else(
    both: Any, call: Any, place: str, provider: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What others put around the SDK's methods is called once, before instrumenting and after."""

    def wrapped(function: Any, seen: list[str]) -> Any:
        def around(*args: Any, **kwargs: Any) -> Any:
            seen.append(place)
            return function(*args, **kwargs)

        return around

    def run() -> Any:
        provider.reset()
        seen: list[str] = []
        with openai.OpenAI(base_url=provider.base_url) as client, monkeypatch.context() as patched:
            completions = client.chat.completions
            if place == "method":
                patched.setattr(completions, "create", wrapped(completions.create, seen))
            elif place == "resource class":
                patched.setattr(type(completions), "create", wrapped(type(completions).create, seen))
            else:
                patched.setattr(openai.OpenAI, "post", wrapped(openai.OpenAI.post, seen))
                return call(openai.OpenAI(base_url=provider.base_url)), seen
            return call(client), seen

    assert both(run)[1] == [place]


def test_a_client_that_is_a_mock_altogether(both: Any) -> None:
    """Where an application's test replaces the SDK's method, nothing is sent, and nothing recorded."""
    from unittest import mock

    def run() -> Any:
        with mock.patch.object(openai.OpenAI().chat.completions.__class__, "create", return_value="mocked") as create:
            found = openai.OpenAI().chat.completions.create(**CHAT.request)
            return found, create.call_count

    assert both(run, calls=0) == ("mocked", 1)


@each_call
def test_a_transport_that_is_patched(both: Any, call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mocks that patch the HTTP library's transport, as the common ones do, answer in its place."""

    def run() -> Any:
        with monkeypatch.context() as patched, openai.OpenAI() as client:
            patched.setattr(HTTP.HTTPTransport, "handle_request", lambda self, request: answer(_read(request)))
            return call(client)

    both(run)


def _read(request: Any) -> Any:
    request.read()
    return request


LATE = """
import sys
sys.path[:0] = {paths!r}
from in_memory import make_telemetry
from openai_metering import OpenAIInstrumentor, attribution

telemetry = make_telemetry()
assert "openai" not in sys.modules
OpenAIInstrumentor().instrument(
    tracer_provider=telemetry.tracer_provider,
    meter_provider=telemetry.meter_provider,
    logger_provider=telemetry.logger_provider,
)
assert "openai" not in sys.modules
import openai

with openai.OpenAI(base_url={base_url!r}, api_key="test") as client:
    client.chat.completions.create(model="m", messages=[{{"role": "user", "content": "x"}}], usage_metadata={who!r})
    for _ in client.chat.completions.create(model="m", messages=[{{"role": "user", "content": "x"}}], stream=True):
        pass
print([record["openai_metering.usage.status"] for record in telemetry.records])
"""


def test_an_sdk_that_is_imported_late(provider: Any) -> None:
    """`instrument()` does not import the SDK, and is there when it is imported."""
    code = LATE.format(paths=sys.path, base_url=provider.base_url, who=WHO)
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (ran.stdout.strip(), ran.stderr) == ("['reported', 'reported']", "")


def respx_routes(respx: Any) -> Any:
    router = respx.mock(assert_all_called=True)
    router.post("https://api.openai.com/v1/chat/completions").mock(side_effect=answer)
    return router


@each_call
@pytest.mark.parametrize("tool", ["respx"] if HTTP.__name__ == "httpx" else [])
def test_respx(both: Any, call: Any, tool: str) -> None:
    """The mock that applications on httpx use; it does not know httpx2, which newer SDKs are made on."""
    import importlib

    respx = importlib.import_module(tool)

    def run() -> Any:
        with respx_routes(respx) as router, openai.OpenAI() as client:
            return call(client), router.calls.call_count

    assert both(run)[1] == 1
