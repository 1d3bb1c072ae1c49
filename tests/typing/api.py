"""How an application uses the public names; type-checked, never run."""

from __future__ import annotations

import openai
from openai.types.chat import ChatCompletion
from openai.types.responses import Response
from typing_extensions import assert_type

from openai_metering import (
    CLEAR,
    Attribution,
    attribution,
    attribution_baggage,
    bind,
    current_attribution,
    set_attribution_resolver,
    usage_headers,
)

client = openai.OpenAI()
WHO = Attribution("AcmeSoft", "joe@acme.com", "key1", (("team", "blue"),))

# The client keeps its type.
assert_type(bind(client, organization_id="AcmeSoft"), openai.OpenAI)
assert_type(bind(openai.AsyncOpenAI(), WHO, team="blue", attempt=1), openai.AsyncOpenAI)
assert_type(bind(openai.AzureOpenAI(), {"organization_id": "AcmeSoft"}), openai.AzureOpenAI)

# A scope takes a mapping, an attribution or names, and says so.
with (
    attribution(WHO),
    attribution({"organization_id": "A"}),
    attribution(organization_id="A", team="blue", floor=3) as scope,
):
    assert_type(scope, attribution)
with attribution(subscriber_identity=CLEAR):
    assert_type(current_attribution(), Attribution)
attribution(organization_id=7)  # type: ignore[arg-type]


# A decorated function keeps its type, sync or async.
@attribution(organization_id="AcmeSoft")
def summarise(ticket: str) -> int:
    return len(ticket)


@attribution(organization_id="AcmeSoft")
async def summarise_async(ticket: str) -> int:
    return len(ticket)


assert_type(summarise("x"), int)
summarise(7)  # type: ignore[arg-type]


async def use() -> None:
    assert_type(await summarise_async("x"), int)


# For a single call, the overloads of the SDK stay in force.
completion = client.chat.completions.create(
    model="gpt-4o", messages=[{"role": "user", "content": "x"}], extra_headers=usage_headers(WHO)
)
assert_type(completion, ChatCompletion)
response = client.responses.create(
    model="gpt-4o", input="x", extra_headers={"X-Mine": "1", **usage_headers(organization_id="AcmeSoft", team="blue")}
)
assert_type(response, Response)

# A resolver returns any of the forms, or nothing.
set_attribution_resolver(lambda: WHO)
set_attribution_resolver(lambda: {"organization_id": "AcmeSoft"})
set_attribution_resolver(lambda: None)
set_attribution_resolver(None)
set_attribution_resolver(lambda: "AcmeSoft")  # type: ignore[arg-type, return-value]

WHO.organization_id = "other"  # type: ignore[misc]
assert_type(WHO.merge(Attribution.from_mapping({"a": 1})), Attribution)
assert_type({WHO: 1}[WHO], int)
attribution_baggage(WHO)
