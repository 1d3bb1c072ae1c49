"""A web service whose answers are streamed to its customers, each call counted for the customer who asked.

The stream is opened inside the scope, so it belongs to it, although it is read long after the handler has returned.
"""

from collections.abc import AsyncIterator
from typing import Annotated

import openai
from fastapi import FastAPI, Header
from fastapi.responses import StreamingResponse

from openai_metering import OpenAIInstrumentor, attribution

OpenAIInstrumentor().instrument()

app = FastAPI()
client = openai.AsyncOpenAI()


@app.get("/ask")
async def ask(
    question: str,
    customer: Annotated[str, Header()],  # a real service takes both from its own session, not from the request
    user: Annotated[str, Header()],
) -> StreamingResponse:
    """Answer a question, word by word."""
    with attribution(organization_id=customer, subscriber_identity=user, subscriber_credential="web"):
        stream = await client.chat.completions.create(
            model="gpt-4o-mini",
            messages=[{"role": "user", "content": question}],
            stream=True,
        )
    return StreamingResponse(words(stream), media_type="text/plain")


async def words(stream: openai.AsyncStream) -> AsyncIterator[str]:
    """Give the text of a stream; leaving it half-way (the browser is closed) ends the call, too."""
    async with stream:
        async for chunk in stream:
            if chunk.choices:
                yield chunk.choices[0].delta.content or ""
