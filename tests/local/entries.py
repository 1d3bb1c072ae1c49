"""Entry forms of the SDK, each as one function from a client and a scenario to what came back."""

import asyncio
import json

import openai

MESSAGES = [{"role": "user", "content": "Hello"}]
HAS_RESPONSES = hasattr(openai.OpenAI, "responses") or "responses" in getattr(openai.OpenAI, "__annotations__", {})
REQUESTS = {
    "chat": lambda client: (client.chat.completions, {"model": "gpt-4o", "messages": MESSAGES}),
    "responses": lambda client: (client.responses, {"model": "gpt-4o", "input": "Hello"}),
    "embeddings": lambda client: (client.embeddings, {"model": "text-embedding-3-small", "input": ["a", "b"]}),
}
KINDS = [kind for kind in REQUESTS if kind != "responses" or HAS_RESPONSES]
STREAMS = [kind for kind in KINDS if kind != "embeddings"]


def body(client, kind, scenario="", **more):
    """The plain answer as the SDK received it: its JSON."""
    resource, arguments = REQUESTS[kind](client)
    raw = resource.with_raw_response.create(**arguments, extra_headers={"x-standin-scenario": scenario}, **more)
    return json.loads(raw.http_response.text)


def stream(client, kind, scenario="", headers=None, **more):
    """The open stream."""
    resource, arguments = REQUESTS[kind](client)
    if kind == "chat":
        more.setdefault("stream_options", {"include_usage": True})
    headers = {"x-standin-scenario": scenario, **(headers or {})}
    return resource.create(**arguments, stream=True, extra_headers=headers, **more)


def events(client, kind, scenario="", **more):
    """The stream's events as dictionaries, and the error that ended it, if one did."""
    seen = []
    try:
        seen.extend(event.to_dict(warnings=False) for event in stream(client, kind, scenario, **more))
    except Exception as error:  # whatever the SDK makes of it
        return seen, error
    return seen, None


def async_events(provider, kind, scenario=""):
    """The same with the asynchronous client."""

    async def consume():
        seen = []
        async with openai.AsyncOpenAI(base_url=provider.base_url, api_key="sk-test", max_retries=0) as client:
            try:
                async for event in await stream(client, kind, scenario):
                    seen.append(event.to_dict(warnings=False))  # noqa: PERF401 - what came before an error counts
            except Exception as error:
                return seen, error
        return seen, None

    return asyncio.run(consume())


def text_of(kind, seen):
    """The text that a stream's events add up to."""
    if kind == "responses":
        return "".join(event["delta"] for event in seen if event["type"] == "response.output_text.delta")
    choices = [choice for event in seen for choice in event.get("choices") or () if choice]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


def last_usage(kind, seen):
    """The usage in a stream's last event."""
    return seen[-1]["response"]["usage"] if kind == "responses" else seen[-1].get("usage")
