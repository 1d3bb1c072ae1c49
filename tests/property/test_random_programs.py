"""Random programs of scopes, tasks, threads, generators and streams: who each call is for is what a simple model says."""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import threading
from typing import TYPE_CHECKING, Any

import openai
import openai._base_client as base
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from in_memory import metered
from openai_metering.call import drain
from openai_metering.scope import attribution, current_attribution
from openai_metering.threads import with_attribution

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

http: Any = getattr(base, "httpx2", None) or base.httpx
FULL = os.environ.get("OPENAI_METERING_TEST_SIZE") == "full"
LEVELS = ("organization_id", "subscriber_identity", "subscriber_credential")

scopes = st.dictionaries(st.sampled_from(LEVELS), st.sampled_from(["a", "b", "", None]), max_size=3)
programs = st.recursive(
    st.just(("call",)) | st.just(("pause",)),
    lambda inner: (
        st.tuples(st.just("scope"), scopes, st.lists(inner, max_size=4))
        | st.tuples(st.sampled_from(["task", "thread", "carried", "generator", "left"]), st.lists(inner, max_size=4))
    ),
    max_leaves=25,
)


def laid(outer: dict[str, str], inner: dict[str, Any]) -> dict[str, str]:
    return outer | {name: value for name, value in inner.items() if value}


def now() -> dict[str, str]:
    found = current_attribution()
    return {name: getattr(found, name) for name in LEVELS if getattr(found, name) is not None}


class Run:
    """Runs a program, and notes each call that found another name than the model's."""

    def __init__(self) -> None:
        self.wrong: list[Any] = []
        self.left: list[Any] = []

    async def steps(self, program: Any, model: dict[str, str]) -> None:
        started = []
        for step in program:
            kind = step[0]
            if kind == "call":
                if now() != model:
                    self.wrong.append((now(), model))
            elif kind == "pause":
                await asyncio.sleep(0)
            elif kind == "scope":
                with attribution(step[1]):
                    await self.steps(step[2], laid(model, step[1]))
            elif kind == "task":
                started.append(asyncio.create_task(self.steps(step[1], model)))
            elif kind in {"thread", "carried"}:
                await self.thread(step[1], model if kind == "carried" else {}, carried=kind == "carried")
            else:
                generator = self.generator(step[1], model)
                async for _ in generator:
                    if kind == "left":  # finalised by another task, after this one has ended
                        self.left.append(generator)
                        break
        if now() != model and not self.left:
            self.wrong.append(("after", now(), model))
        await asyncio.gather(*started)

    async def generator(self, program: Any, model: dict[str, str]) -> Any:
        decorated = attribution(organization_id="generator")(self.inner)
        async for item in decorated(program, laid(model, {"organization_id": "generator"})):
            yield item

    async def inner(self, program: Any, model: dict[str, str]) -> Any:
        for step in program:
            await self.steps([step], model)
            yield step

    async def thread(self, program: Any, model: dict[str, str], *, carried: bool) -> None:
        def work() -> None:
            asyncio.run(self.steps(program, model))

        thread = threading.Thread(target=with_attribution(work) if carried else work)
        thread.start()
        await asyncio.to_thread(thread.join)


async def whole(run: Run, program: Any) -> None:
    await asyncio.gather(*(asyncio.create_task(run.steps(program, {})) for _ in range(2)))
    for generator in run.left:
        await asyncio.create_task(generator.aclose())


@settings(
    max_examples=10_000 if FULL else 200,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=not FULL,
)
@given(program=st.lists(programs, max_size=6))
def test_any_program_of_scopes(program: Any) -> None:
    """Whatever is nested in whatever, each call is for whom the scopes around it name, and nothing stays behind."""
    run = Run()
    asyncio.run(whole(run, program))
    assert run.wrong == []
    assert now() == {}


# -- With real calls -----------------------------------------------------------------------------------------------------

CHUNKS = (
    '{"id":"c1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":"a"}}]}',
    '{"id":"c1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}',
    '{"id":"c1","object":"chat.completion.chunk","created":1,"model":"m","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}',
)
PLAIN = (
    '{"id":"c1","object":"chat.completion","model":"m","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}'
)

calls = st.tuples(st.just("plain"), scopes) | st.tuples(
    st.sampled_from(
        ["stream", "stream in a task", "stream in a thread", "stream later", "stream left", "stream closed"]
    ),
    scopes,
)
real_programs = st.recursive(
    calls | st.just(("pause",)),
    lambda inner: (
        st.tuples(st.just("scope"), scopes, st.lists(inner, max_size=3))
        | st.tuples(st.sampled_from(["task", "thread", "carried"]), st.lists(inner, max_size=3))
    ),
    max_leaves=10,
)


class Pieces(http.SyncByteStream, http.AsyncByteStream):  # type: ignore[misc, name-defined]
    """A streamed answer whose chunks come one by one."""

    def __iter__(self) -> Iterator[bytes]:
        yield from (f"data: {chunk}\n\n".encode() for chunk in (*CHUNKS, "[DONE]"))

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in iter(self):
            await asyncio.sleep(0)
            yield piece


def answer(request: Any) -> Any:
    if b'"stream":true' in request.content.replace(b" ", b""):
        return http.Response(200, headers={"content-type": "text/event-stream"}, stream=Pieces())
    return http.Response(200, headers={"content-type": "application/json"}, content=PLAIN.encode())


class Calling(Run):
    """Runs a program of calls: sync in threads, async in tasks, and streams that are read elsewhere than opened."""

    def __init__(self) -> None:
        super().__init__()
        transport = http.MockTransport(answer)
        self.client = openai.OpenAI(api_key="test", http_client=http.Client(transport=transport))
        self.numbers = itertools.count()
        self.expected: dict[int, dict[str, str]] = {}
        self.later: list[Any] = []

    async def steps(self, program: Any, model: dict[str, str]) -> None:
        started = []
        async with openai.AsyncOpenAI(
            api_key="test", http_client=http.AsyncClient(transport=http.MockTransport(answer))
        ) as made:
            for step in program:
                if step[0] == "plain" or step[0].startswith("stream"):
                    started += await self.call(made, step[0], laid(model, step[1]), step[1])
                else:
                    await super().steps([step], model)
            await asyncio.gather(*started)

    async def call(self, made: Any, kind: str, model: dict[str, str], keyword: dict[str, Any]) -> list[Any]:
        number = next(self.numbers)
        self.expected[number] = model
        request: dict[str, Any] = {"model": "m", "messages": [], "usage_metadata": {**keyword, "number": number}}
        if kind == "plain":
            self.client.chat.completions.create(**request)
        elif kind == "stream later":
            self.later.append(self.client.chat.completions.create(**request, stream=True))
        elif kind == "stream in a thread":
            stream = self.client.chat.completions.create(**request, stream=True)
            thread = threading.Thread(target=list, args=(stream,))
            thread.start()
            await asyncio.to_thread(thread.join)
        elif kind in ("stream left", "stream closed"):
            left = self.client.chat.completions.create(**request, stream=True)
            next(iter(left))
            if kind == "stream closed":
                left.close()
        else:
            reading = read(await made.chat.completions.create(**request, stream=True))
            if kind == "stream in a task":
                return [asyncio.create_task(reading)]
            await reading
        return []


async def read(stream: Any) -> None:
    async for _ in stream:
        pass


@pytest.fixture(scope="module")
def telemetry_of_all() -> Iterator[Any]:
    """A metered process, for all programs."""
    with metered() as made:
        yield made


@settings(
    max_examples=10_000 if FULL else 40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=not FULL,
)
@given(program=st.lists(real_programs, max_size=4))
def test_any_program_of_calls(telemetry_of_all: Any, program: Any) -> None:
    """Each call leaves one record, for whom keyword and scopes named when it was made, wherever its stream is read."""
    telemetry_of_all.clear()
    run = Calling()

    async def all_of_it() -> None:
        await asyncio.gather(*(asyncio.create_task(run.steps(program, {})) for _ in range(2)))
        with attribution(organization_id="the reader"):
            for stream in run.later:
                list(stream)

    asyncio.run(all_of_it())
    assert run.wrong == []
    if any("left" in kind for kind in str(program).split("'")):
        gc.collect()
        drain()
    records = {int(record["attribution.tag.number"]): record for record in telemetry_of_all.records}
    assert len(records) == len(telemetry_of_all.records) == len(run.expected)
    levels = {
        "organization_id": "organization",
        "subscriber_identity": "subscriber",
        "subscriber_credential": "credential",
    }
    for number, model in run.expected.items():
        found = {name: records[number].get(f"attribution.{level}.id") for name, level in levels.items()}
        assert {name: value for name, value in found.items() if value is not None} == model
