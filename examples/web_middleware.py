"""A web service whose middleware says who each request is for; the handlers know nothing of it.

The name comes from the service's own check of a token, never from a header that anybody may set.
"""

from typing import Annotated, Any

import openai
from fastapi import FastAPI, HTTPException, Query
from starlette.datastructures import Headers

from openai_metering import OpenAIInstrumentor
from openai_metering.integrations.asgi import AttributionMiddleware

OpenAIInstrumentor().instrument()

TOKENS = {  # stands for your sessions, or for the claims of a token that was verified
    "token-of-joe": {"organization_id": "AcmeSoft", "subscriber_identity": "joe@acme.com"},
    "token-of-mia": {"organization_id": "Nordbank", "subscriber_identity": "mia@nordbank.example"},
}

app = FastAPI()
client = openai.AsyncOpenAI()


async def who(scope: dict[str, Any]) -> dict[str, str] | None:
    """Who a request is for; nobody where its token is unknown."""
    person = TOKENS.get(Headers(scope=scope).get("authorization", "").removeprefix("Bearer "))
    return None if person is None else {**person, "route": scope["path"]}


app.add_middleware(AttributionMiddleware, who=who)


@app.get("/ask")
async def ask(question: Annotated[str, Query()]) -> str:
    """Answer a question, with two calls that are both for who asked."""
    embedded = await client.embeddings.create(model="text-embedding-3-small", input=question)
    if not embedded.data:
        raise HTTPException(502)
    answer = await client.responses.create(model="gpt-4o-mini", input=question)
    return answer.output_text
