"""`usage_metadata` is accepted and taken out on every method of every resource of the installed SDK."""

from __future__ import annotations

import asyncio
import copy
import gc
import inspect
import pickle
import warnings
import weakref
from types import FunctionType
from typing import TYPE_CHECKING, Any

import openai
import pytest
from forms import MAIN, WHO
from openai._resource import AsyncAPIResource, SyncAPIResource

from openai_metering import OpenAIInstrumentor

if TYPE_CHECKING:
    from collections.abc import Iterator

WEBSOCKET = "websocket_connection_options"


def resources(owner: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """All resources of a client, nested ones too, each with its path."""
    for name in sorted(set(dir(owner))):
        if name.startswith(("_", "with_")):
            continue
        try:
            value = getattr(owner, name)
        except Exception:
            continue
        if isinstance(value, (SyncAPIResource, AsyncAPIResource)):
            yield f"{path}{name}", value
            yield from resources(value, f"{path}{name}.")


def methods(resource: Any) -> list[str]:
    """The public methods that the resource's class and its bases in the SDK define."""
    found = set()
    for ancestor in type(resource).__mro__:
        if ancestor.__module__.startswith("openai."):
            found |= {name for name, value in vars(ancestor).items() if isinstance(value, FunctionType)}
    return sorted(name for name in found if not name.startswith("_"))


def is_websocket(method: Any) -> bool:
    return WEBSOCKET in inspect.signature(method).parameters


def outcome(method: Any, **kwargs: Any) -> tuple[str, str]:
    """How a call without its arguments ends: what it returns, or what it raises."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = method(**kwargs)
            if inspect.isawaitable(result):
                result = asyncio.run(_awaited(result))
            elif hasattr(result, "__aenter__"):
                result = asyncio.run(_awaited(_entered(result)))
            elif hasattr(result, "__enter__"):
                with result as entered:
                    result = entered
    except openai.OpenAIError as error:
        return type(error).__name__, ""
    except Exception as error:
        return type(error).__name__, str(error)
    return "returned", type(result).__name__


async def _entered(manager: Any) -> Any:
    async with manager as entered:
        return entered


async def _awaited(result: Any) -> Any:
    return await asyncio.wait_for(result, 5)


def views(resource: Any) -> Iterator[tuple[str, Any]]:
    yield "", resource
    for view in ("with_raw_response", "with_streaming_response"):
        if hasattr(resource, view):
            yield f".{view}", getattr(resource, view)


def all_outcomes(client: Any, **kwargs: Any) -> dict[str, tuple[str, str]]:
    found = {}
    for path, resource in resources(client):
        for name in methods(resource):
            for view, owner in views(resource):
                method = getattr(owner, name, None)
                if method is not None and not is_websocket(method) and "poll" not in name and "wait" not in name:
                    found[f"{path}{view}.{name}"] = outcome(method, **kwargs)
    return found


@pytest.mark.parametrize("kind", ["OpenAI", "AsyncOpenAI"])
def test_every_method_accepts_the_keyword_and_raises_the_sdks_own_error(provider_process: Any, kind: str) -> None:
    """With the keyword, every method does word for word what the bare SDK does without it."""
    client_class = getattr(openai, kind)
    provider_process.reset()
    bare = all_outcomes(client_class(base_url=provider_process.base_url, max_retries=0, timeout=5))
    refused = list(provider_process.violations)  # requests without their arguments
    provider_process.reset()
    instrumentor = OpenAIInstrumentor()
    instrumentor.instrument()
    try:
        metered = all_outcomes(
            client_class(base_url=provider_process.base_url, max_retries=0, timeout=5), usage_metadata=dict(WHO)
        )
    finally:
        instrumentor.uninstrument()
    assert len(bare) > 150
    assert metered == bare
    assert provider_process.violations == refused


@pytest.mark.parametrize("kind", ["OpenAI", "AsyncOpenAI"])
def test_every_method_keeps_its_signature_and_kind(kind: str) -> None:
    """Introspection sees what it sees on the bare SDK: signature, name, documentation, coroutine function or not."""
    client = getattr(openai, kind)()

    def described() -> dict[str, Any]:
        return {
            f"{path}.{name}": (
                str(inspect.signature(getattr(resource, name))),
                inspect.iscoroutinefunction(getattr(resource, name)),
                getattr(resource, name).__name__,
                getattr(resource, name).__qualname__,
                getattr(resource, name).__doc__,
                getattr(resource, name).__module__,
            )
            for path, resource in resources(client)
            for name in methods(resource)
        }

    bare = described()
    instrumentor = OpenAIInstrumentor()
    instrumentor.instrument()
    try:
        metered = described()
    finally:
        instrumentor.uninstrument()
    assert metered == bare
    assert bare


def test_switched_off_the_keyword_is_still_taken_out(provider: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """OPENAI_METERING_ENABLED=false takes the keyword out, and does nothing else."""
    monkeypatch.setenv("OPENAI_METERING_ENABLED", "false")
    request = openai._base_client.SyncAPIClient.request
    instrumentor = OpenAIInstrumentor()
    instrumentor.instrument()
    try:
        assert openai._base_client.SyncAPIClient.request is request
        client = openai.OpenAI(base_url=provider.base_url)
        client.embeddings.create(model="text-embedding-3-small", input="x", usage_metadata=dict(WHO))
        with client.embeddings.with_streaming_response.create(
            model="text-embedding-3-small", input="x", usage_metadata=dict(WHO)
        ) as response:
            response.read()
        client.models.list(usage_metadata=dict(WHO))
    finally:
        instrumentor.uninstrument()
    assert len(provider.served) == 3


@pytest.mark.parametrize("value", [None, {}, "text", 123, [], {"organization_id": 7}, {1: 2}, ...])
def test_whatever_the_keyword_holds_the_call_works(provider: Any, telemetry: Any, value: Any) -> None:
    """A keyword of a wrong type or without content never breaks a call, which then counts as unattributed."""
    client = openai.OpenAI(base_url=provider.base_url)
    client.embeddings.create(model="text-embedding-3-small", input="x", usage_metadata=value)
    assert telemetry.record()["attribution.status"] == "unattributed"


def test_the_callers_mapping_is_read_when_the_call_is_made(provider: Any, telemetry: Any) -> None:
    """Who a call is for is what the mapping said at the call; it is never changed, and changing it later is too late."""
    client = openai.OpenAI(base_url=provider.base_url)
    who = dict(WHO)
    manager = client.embeddings.with_streaming_response.create(
        model="text-embedding-3-small", input="x", usage_metadata=who
    )
    assert who == WHO
    who["organization_id"] = "Somebody else"
    with manager as response:
        response.read()
    assert telemetry.record()["attribution.organization.id"] == "AcmeSoft"


def test_websocket_connections_take_the_keyword_out() -> None:
    """On `connect` the keyword is only taken out: no carrier reaches a handshake."""
    client = openai.OpenAI()
    connects = [
        getattr(resource, name)
        for _, resource in resources(client)
        for name in methods(resource)
        if is_websocket(getattr(resource, name))
    ]
    instrumentor = OpenAIInstrumentor()
    instrumentor.instrument()
    try:
        for _, resource in resources(client):
            for name in methods(resource):
                method = getattr(resource, name)
                if is_websocket(method) and "model" in inspect.signature(method).parameters:
                    manager = method(model="gpt-realtime", extra_headers={"x": "y"}, usage_metadata=dict(WHO))
                    assert "AcmeSoft" not in repr(vars(manager))
                    assert [*vars(manager).values()].count({"x": "y"}) == 1
    finally:
        instrumentor.uninstrument()
    assert connects or openai.__version__.startswith("1.40")


@pytest.mark.parametrize("taken", ["of the class", "of an object"])
def test_methods_are_copied_and_pickled_as_on_the_bare_sdk(telemetry: Any, taken: str) -> None:
    """A configuration may hold a method of the SDK."""
    client = openai.OpenAI(api_key="test")
    completions = client.chat.completions
    method = type(completions).create if taken == "of the class" else completions.create
    assert copy.copy(method) == method
    if taken == "of the class":
        assert copy.deepcopy([method]) == [method]
        assert pickle.loads(pickle.dumps(method)) == method


def test_a_weak_reference_to_a_method_makes_it_again(provider: Any, telemetry: Any) -> None:
    """`weakref.WeakMethod`, by which event systems keep listeners, works as on the bare SDK, and the call is metered."""
    client = openai.OpenAI(base_url=provider.base_url, max_retries=0)
    reference = weakref.WeakMethod(client.chat.completions.create)
    method = reference()
    assert method == client.chat.completions.create
    assert method.__self__ is client.chat.completions
    assert inspect.signature(method) == inspect.signature(client.chat.completions.create)
    method(**MAIN[0].request, usage_metadata=dict(WHO))
    assert telemetry.record()["attribution.organization.id"] == WHO["organization_id"]
    assert telemetry.record()["attribution.organization.source"] == "keyword"
    del method, client
    gc.collect()
    assert reference() is None
