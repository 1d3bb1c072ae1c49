"""Two streams: one is read to its end, one is left early, and both are counted for what they are."""

import openai

from openai_metering import OpenAIInstrumentor

OpenAIInstrumentor().instrument()

client = openai.OpenAI()
who = {
    "organization_id": "AcmeSoft",
    "subscriber_identity": "joe@acme.com",
    "subscriber_credential": "key1-hubspot",
}


def tell() -> openai.Stream:
    """Ask for a story. Nobody asks for its usage: that is done for you, and the chunk that carries it is not shown."""
    return client.chat.completions.create(
        model="gpt-4o-mini",
        messages=[{"role": "user", "content": "Tell a story in ten sentences."}],
        stream=True,
        usage_metadata=who,
    )


# Read to the end: outcome `completed`, usage `reported`, to the token.
for chunk in tell():
    print(chunk.choices[0].delta.content or "", end="", flush=True)
print()

# Left early: outcome `stopped`, usage `unknown` with the reason `closed_before_usage`. The provider reports usage at
# the end only, and a number that nobody saw is not invented; the report shows such calls in a row of their own.
with tell() as story:
    for chunk in story:
        if chunk.choices[0].delta.content:
            print(chunk.choices[0].delta.content, "... that will do.")
            break
