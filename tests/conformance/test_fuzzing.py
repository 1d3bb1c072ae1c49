"""Whatever a server sends, the caller sees exactly what the bare SDK gives."""

from __future__ import annotations

import asyncio
import gc
import logging
import warnings
from typing import TYPE_CHECKING, Any

import openai
import pytest
from forms import OPERATIONS, WHO, Operation, row_of

from fuzzing import FULL, KINDS, Mutator, Reply, reply
from in_memory import make_telemetry
from openai_metering import OpenAIInstrumentor, attribution, errors
from raw_server import CASE, RawServer

if TYPE_CHECKING:
    from collections.abc import Iterator

SIZE = 20_000 if FULL else 240
"""How many replies there are, each of which is seen bare and metered."""
PARTS = 8
THERE = [operation for operation in OPERATIONS if operation.counted and operation.there(openai.OpenAI())]
KIND_OF = {operation.name: KINDS[row_of(operation).path] for operation in THERE}
PLAIN_WAYS = ("plain", "raw", "raw unparsed", "read", "lines", "bytes", "parsed late")
STREAM_WAYS = ("plain", "left", "raw", "raw unparsed", "lines", "bytes", "parsed late")


def described(value: Any) -> Any:
    """All that a caller can see of a result."""
    if value is None or isinstance(value, (str, bytes, int, float, list, dict)):
        return type(value), repr(value)
    if hasattr(value, "model_dump"):
        fields = sorted(getattr(value, "model_fields_set", ()))
        return type(value), repr(value), repr(value.model_dump(warnings=False)), fields, repr(value.model_extra)
    return type(value), getattr(value, "content", None)


class Case:
    """One reply, and the way in which it is asked for and read."""

    def __init__(self, seed: int, number: int) -> None:
        mutator = Mutator(seed * 1_000_003 + number)
        choose = mutator.random
        self.operation: Operation = choose.choice(THERE)
        self.asynchronous = choose.random() < 0.4
        self.streamed = self.operation.streams(CLIENT) and choose.random() < 0.6
        self.way = choose.choice(STREAM_WAYS if self.streamed else PLAIN_WAYS)
        self.asks = choose.random() < 0.5
        self.reply = reply(mutator, KIND_OF[self.operation.name], streamed=self.streamed, asks=self.asks)
        self.request = {**self.operation.request, "extra_headers": {CASE: str(number)}}
        if self.streamed:
            self.request["stream"] = True
            if self.asks and KIND_OF[self.operation.name] in ("chat", "completions"):
                self.request["stream_options"] = {"include_usage": True}
        if self.reply.asked is not None and self.way in ("lines", "bytes", "raw unparsed"):
            # Whoever reads bytes sees the `"usage": null` of each chunk, which is documented.
            self.way = "plain"

    def __repr__(self) -> str:
        return f"{self.operation.name} {self.way} {'async ' * self.asynchronous}{self.reply}"

    def method(self, client: Any) -> Any:
        view = {"raw": "with_raw_response", "raw unparsed": "with_raw_response"}
        late = dict.fromkeys(("read", "lines", "bytes", "parsed late"), "with_streaming_response")
        return self.operation.on(client, {**view, **late}.get(self.way))

    def headers(self, response: Any) -> dict[str, str]:
        """The headers of an answer, but for its length where asking for usage makes it longer."""
        left_out = "content-length" if self.reply.asked is not None else None
        return {name: value for name, value in response.headers.items() if name != left_out}

    def run(self, client: Any, seen: list[Any]) -> None:
        made = self.method(client)(**self.request)
        if self.way in ("read", "lines", "bytes", "parsed late"):
            with made as response:
                if self.way == "read":
                    seen.append(response.read())
                elif self.way == "lines":
                    seen.extend(response.iter_lines())
                elif self.way == "bytes":
                    seen.append(b"".join(response.iter_bytes()))
                else:
                    self.consume(response.parse(), seen)
            seen.append((response.status_code, self.headers(response)))
        elif self.way.startswith("raw"):
            seen.append((made.status_code, self.headers(made)))
            if self.way == "raw":
                self.consume(made.parse(), seen)
        else:
            self.consume(made, seen)

    def consume(self, result: Any, seen: list[Any]) -> None:
        if not self.streamed:
            seen.append(described(result))
        for place, chunk in enumerate(result if self.streamed else ()):
            seen.append(described(chunk))
            if self.way == "left" and place == 1:
                result.close()
                return

    async def run_async(self, client: Any, seen: list[Any]) -> None:
        made = self.method(client)(**self.request)
        if self.way in ("read", "lines", "bytes", "parsed late"):
            async with made as response:
                if self.way == "read":
                    seen.append(await response.read())
                elif self.way == "lines":
                    seen.extend([line async for line in response.iter_lines()])
                elif self.way == "bytes":
                    seen.append(b"".join([piece async for piece in response.iter_bytes()]))
                else:
                    await self.consume_async(await response.parse(), seen)
            seen.append((response.status_code, self.headers(response)))
            return
        made = await made
        if self.way.startswith("raw"):
            seen.append((made.status_code, self.headers(made)))
            if self.way == "raw":
                await self.consume_async(made.parse(), seen)
        else:
            await self.consume_async(made, seen)

    async def consume_async(self, result: Any, seen: list[Any]) -> None:
        if not self.streamed:
            seen.append(described(result))
            return
        place = 0
        async for chunk in result:
            seen.append(described(chunk))
            if self.way == "left" and place == 1:
                await result.close()
                return
            place += 1


CLIENT = openai.OpenAI()


def failure(error: BaseException) -> Any:
    """An exception as the caller sees it, with what it came from."""
    found = []
    here: BaseException | None = error
    while here is not None:
        found.append((type(here), str(here), repr(getattr(here, "body", None)), getattr(here, "status_code", None)))
        here = here.__cause__ or here.__context__
    return found


@pytest.fixture(scope="module")
def replies() -> dict[str, Reply]:
    return {}


@pytest.fixture(scope="module")
def server(replies: dict[str, Reply]) -> Iterator[RawServer]:
    with RawServer(replies.__getitem__) as server:
        yield server


def outcomes(cases: list[Case], server: RawServer) -> list[Any]:
    """What the caller sees of each case."""
    found = []

    def ended(seen: list[Any], error: BaseException | None, caught: list[Any]) -> None:
        warned = sorted({(one.category.__name__, str(one.message)) for one in caught})
        found.append((seen, None if error is None else failure(error), warned))

    async def asynchronous() -> None:
        async with openai.AsyncOpenAI(base_url=server.base_url, max_retries=0, timeout=20) as client:
            for case in cases:
                if not case.asynchronous:
                    continue
                seen: list[Any] = []
                with warnings.catch_warnings(record=True) as caught:
                    warnings.simplefilter("always")
                    error = None
                    try:
                        await case.run_async(client, seen)
                    except Exception as raised:
                        error = raised
                ended(seen, error, caught)

    with openai.OpenAI(base_url=server.base_url, max_retries=0, timeout=20) as client:
        for case in cases:
            if case.asynchronous:
                continue
            seen: list[Any] = []
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                error = None
                try:
                    case.run(client, seen)
                except Exception as raised:
                    error = raised
            ended(seen, error, caught)
    asyncio.run(asynchronous())
    return found


@pytest.mark.parametrize("seed", range(PARTS))
def test_the_caller_sees_what_the_bare_sdk_gives(
    seed: int, server: RawServer, replies: dict[str, Reply], caplog: pytest.LogCaptureFixture
) -> None:
    """The same objects, exceptions, texts and warnings, for any body, stream, header and status; one record for each."""
    cases = [Case(seed, number) for number in range(SIZE // PARTS)]
    replies.clear()
    replies.update({str(number): case.reply for number, case in enumerate(cases)})
    bare = outcomes(cases, server)

    telemetry = make_telemetry()
    instrumentor = OpenAIInstrumentor()
    instrumentor.instrument(
        tracer_provider=telemetry.tracer_provider,
        meter_provider=telemetry.meter_provider,
        logger_provider=telemetry.logger_provider,
    )
    try:
        caplog.set_level(logging.DEBUG, "openai_metering")
        with attribution(WHO):
            metered = outcomes(cases, server)
        gc.collect()
        assert errors.counts == {}
    finally:
        instrumentor.uninstrument()

    ordered = [case for case in cases if not case.asynchronous] + [case for case in cases if case.asynchronous]
    for case, one, other in zip(ordered, bare, metered, strict=True):
        assert other == one, case
    said = {entry.getMessage() for entry in caplog.records if entry.name.startswith("openai_metering")}
    assert said <= ALLOWED
    raised = sum(error is not None for _, error, _ in bare)
    assert 0.05 * len(cases) < raised < 0.95 * len(cases)
    assert len(telemetry.records) == len(cases)
    for record in telemetry.records:
        assert ("openai_metering.usage.reason" in record) == (record["openai_metering.usage.status"] != "reported")
        assert record["attribution.status"] == "complete"


ALLOWED: set[str] = set()
"""What we may log: nothing, as no host refuses an option here."""
