"""An application in which other instrumentations, and packages that call through `openai`, are active beside ours.

A program of its own, because not all of them can be taken out of a process again. It is told what to do in which order,
and writes as JSON what each call returned and which telemetry came out:

    python application.py results.json openinference theirs,ours,call,-theirs,call
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from in_memory import Telemetry, make_telemetry

if TYPE_CHECKING:
    from collections.abc import Callable

SCOPE = {"organization_id": "Scope", "subscriber_identity": "joe@acme.com", "feature": "search"}
KEYWORD = {"organization_id": "Keyword", "subscriber_credential": "key1-hubspot"}
PROMPT = [{"role": "user", "content": "What is metering?"}]
CHAT: dict[str, Any] = {"model": "gpt-4o", "messages": PROMPT}
RESPONSE: dict[str, Any] = {"model": "gpt-4.1", "input": "What is metering?"}
EMBEDDINGS: dict[str, Any] = {"model": "text-embedding-3-small", "input": "x"}

INSTRUMENTORS = {
    "official": "opentelemetry.instrumentation.genai.openai",
    "official_v2": "opentelemetry.instrumentation.openai_v2",
    "openinference": "openinference.instrumentation.openai",
    "traceloop": "opentelemetry.instrumentation.openai",
}
Who = dict[str, Any]


def seen(value: Any) -> Any:
    return json.loads(value.to_json()) if hasattr(value, "to_json") else value


# -- Calls of the SDK: each returns what the caller sees ---------------------------------------------------------------


def plain(who: Who) -> Any:
    import openai

    return seen(openai.OpenAI().chat.completions.create(**CHAT, **who))


def streamed(who: Who) -> Any:
    import openai

    return [seen(chunk) for chunk in openai.OpenAI().chat.completions.create(**CHAT, stream=True, **who)]


def raw(who: Who) -> Any:
    import openai

    return seen(openai.OpenAI().chat.completions.with_raw_response.create(**CHAT, **who).parse())


def parsed(who: Who) -> Any:
    import openai
    from pydantic import BaseModel

    class Ticket(BaseModel):
        title: str
        urgent: bool

    completion = openai.OpenAI().chat.completions.parse(**CHAT, response_format=Ticket, **who)
    return completion.choices[0].message.parsed.model_dump()


def embeddings(who: Who) -> Any:
    import openai

    return seen(openai.OpenAI().embeddings.create(**EMBEDDINGS, **who))


def response(who: Who) -> Any:
    import openai

    return seen(openai.OpenAI().responses.create(**RESPONSE, **who))


def response_streamed(who: Who) -> Any:
    import openai

    return [seen(event) for event in openai.OpenAI().responses.create(**RESPONSE, stream=True, **who)]


async def async_plain(who: Who) -> Any:
    import openai

    async with openai.AsyncOpenAI() as client:
        return seen(await client.chat.completions.create(**CHAT, **who))


async def async_streamed(who: Who) -> Any:
    import openai

    async with openai.AsyncOpenAI() as client:
        return [seen(chunk) async for chunk in await client.chat.completions.create(**CHAT, stream=True, **who)]


async def async_response_read_late(who: Who) -> Any:
    import openai

    async with (
        openai.AsyncOpenAI() as client,
        client.responses.with_streaming_response.create(**RESPONSE, **who) as answer,
    ):
        return seen(await answer.parse())


SDK = [
    plain,
    streamed,
    raw,
    parsed,
    embeddings,
    response,
    response_streamed,
    async_plain,
    async_streamed,
    async_response_read_late,
]


# -- Calls of packages that call through the SDK ----------------------------------------------------------------------


def langchain_plain(who: Who) -> Any:
    from langchain_openai import ChatOpenAI

    return ChatOpenAI(model="gpt-4o").invoke("What is metering?", **who).content


def langchain_streamed(who: Who) -> Any:
    from langchain_openai import ChatOpenAI

    return [chunk.content for chunk in ChatOpenAI(model="gpt-4o").stream("What is metering?", **who)]


async def langchain_async(who: Who) -> Any:
    from langchain_openai import ChatOpenAI

    return (await ChatOpenAI(model="gpt-4o").ainvoke("What is metering?", **who)).content


async def langchain_async_streamed(who: Who) -> Any:
    from langchain_openai import ChatOpenAI

    return [chunk.content async for chunk in ChatOpenAI(model="gpt-4o").astream("What is metering?", **who)]


def langchain_responses(who: Who) -> Any:
    from langchain_openai import ChatOpenAI

    return ChatOpenAI(model="gpt-4.1", use_responses_api=True).invoke("What is metering?", **who).content


def langchain_embeddings(who: Who) -> Any:
    from langchain_openai import OpenAIEmbeddings

    del who  # takes no keywords for the call
    return OpenAIEmbeddings(model="text-embedding-3-small", check_embedding_ctx_length=False).embed_query("x")


LANGCHAIN = [
    langchain_plain,
    langchain_streamed,
    langchain_async,
    langchain_async_streamed,
    langchain_responses,
    langchain_embeddings,
]


def _agent(model: Any) -> Any:
    import agents

    agents.set_tracing_disabled(disabled=True)
    return agents.Agent(name="Assistant", instructions="Be brief.", model=model)


async def agents_responses(who: Who) -> Any:
    import agents

    del who
    return (await agents.Runner.run(_agent("gpt-4.1"), "What is metering?")).final_output


async def agents_streamed(who: Who) -> Any:
    import agents

    del who
    run = agents.Runner.run_streamed(_agent("gpt-4.1"), "What is metering?")
    return [event.type async for event in run.stream_events()]


async def agents_chat(who: Who) -> Any:
    import agents
    import openai

    del who
    async with openai.AsyncOpenAI() as client:
        model = agents.OpenAIChatCompletionsModel("gpt-4o", openai_client=client)
        return (await agents.Runner.run(_agent(model), "What is metering?")).final_output


AGENTS = [agents_responses, agents_streamed, agents_chat]


def litellm_plain(who: Who) -> Any:
    import litellm

    return litellm.completion(**CHAT, **who).choices[0].message.content


def litellm_streamed(who: Who) -> Any:
    import litellm

    return [chunk.choices[0].delta.content for chunk in litellm.completion(**CHAT, stream=True, **who)]


async def litellm_async(who: Who) -> Any:
    import litellm

    return (await litellm.acompletion(**CHAT, **who)).choices[0].message.content


async def litellm_async_streamed(who: Who) -> Any:
    import litellm

    stream = await litellm.acompletion(**CHAT, stream=True, **who)
    return [chunk.choices[0].delta.content async for chunk in stream]


def litellm_embeddings(who: Who) -> Any:
    import litellm

    return litellm.embedding(**EMBEDDINGS, **who).data[0]["embedding"]


LITELLM = [litellm_plain, litellm_streamed, litellm_async, litellm_async_streamed, litellm_embeddings]

CALLS: dict[str, list[Callable[[Who], Any]]] = {
    **dict.fromkeys(INSTRUMENTORS, SDK),
    "langchain": LANGCHAIN,
    "agents": AGENTS,
    "litellm": LITELLM,
}


# -- What it is told to do ---------------------------------------------------------------------------------------------


def call(
    function: Callable[[Who], Any], telemetry: Telemetry, who: Who, loop: asyncio.AbstractEventLoop
) -> dict[str, Any]:
    """Make one call, and say what came of it."""
    from openai_metering import attribution

    telemetry.clear()
    result: Any
    try:
        with attribution(SCOPE):
            result = function(who)
            if asyncio.iscoroutine(result):
                result = loop.run_until_complete(result)  # one for all: LangChain keeps its connections
    except Exception as error:
        result = f"{type(error).__name__}: {error}"
    gc.collect()
    return {
        "result": result,
        "records": [
            {**data.log_record.attributes, "span_id": data.log_record.span_id}
            for data in telemetry.log_exporter.get_finished_logs()
            if data.log_record.event_name == "openai_metering.usage"
        ],
        "spans": [
            {
                **span.attributes,
                "name": span.name,
                "scope": span.instrumentation_scope.name,
                "span_id": span.context.span_id,
                "parent_id": span.parent and span.parent.span_id,
            }
            for span in telemetry.spans
        ],
    }


def main(results: str, package: str, steps: str, spans: str = "auto", calls: str = "") -> None:
    """Take the steps one after the other; each `call` makes all the calls of the package, or of the one named."""
    from opentelemetry import trace

    from openai_metering import OpenAIInstrumentor
    from openai_metering.integrations.spans import AttributionSpanProcessor

    telemetry = make_telemetry()
    telemetry.tracer_provider.add_span_processor(AttributionSpanProcessor())
    trace.set_tracer_provider(telemetry.tracer_provider)
    ours = OpenAIInstrumentor()
    loop = asyncio.new_event_loop()
    phases = []
    for step in steps.split(","):
        if step == "ours":
            ours.instrument(
                tracer_provider=telemetry.tracer_provider,
                meter_provider=telemetry.meter_provider,
                logger_provider=telemetry.logger_provider,
                spans=spans,
            )
        elif step == "-ours":
            ours.uninstrument()
        elif step == "theirs":
            importlib.import_module(INSTRUMENTORS[package]).OpenAIInstrumentor().instrument()
        elif step == "-theirs":
            importlib.import_module(INSTRUMENTORS[package]).OpenAIInstrumentor().uninstrument()
        else:
            active = ours.is_instrumented_by_opentelemetry
            who = {"usage_metadata": KEYWORD} if active else {}
            phases.append({made.__name__: call(made, telemetry, who, loop) for made in CALLS[calls or package]})
    Path(results).write_text(json.dumps(phases, default=str), "utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
