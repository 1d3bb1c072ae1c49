"""The reference product's own example, word for word; only the import of its middleware is replaced by our activation.

The three names on the call are taken out before anything is sent, and are on the span, the metrics and the usage record
of this call.
"""

import openai

from openai_metering import OpenAIInstrumentor

OpenAIInstrumentor().instrument()

response = openai.chat.completions.create(
    model="gpt-4",
    messages=[{"role": "user", "content": "What is metering?"}],
    max_tokens=500,
    usage_metadata={
        "organization_id": "AcmeSoft",
        "subscriber_identity": "joe@acme.com",
        "subscriber_credential": "key1-hubspot",
    },
)
print(response.choices[0].message.content)
