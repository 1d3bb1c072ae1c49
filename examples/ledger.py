"""Usage records on local disk: each is there before its call returns, so that not even a crash loses one.

OPENAI_METERING_LEDGER_DIR names the folder; no Collector and no other set-up is needed.
"""

import os
import signal

import openai

from openai_metering import OpenAIInstrumentor, attribution

OpenAIInstrumentor().instrument()

client = openai.OpenAI()


@attribution(organization_id="Nordbank", subscriber_identity="mia@nordbank.example", subscriber_credential="key7-batch")
def summarise(document: str) -> str:
    """Summarise a document, for Nordbank whoever calls this; `project` becomes a tag of the call."""
    with attribution(project="annual report"):
        return client.responses.create(model="gpt-4o-mini", input=f"Summarise: {document}").output_text


with attribution(organization_id="AcmeSoft", subscriber_identity="ann@acme.com", subscriber_credential="key3-reports"):
    client.embeddings.create(model="text-embedding-3-small", input=["a ticket", "another ticket"])
    print(summarise("Revenue grew by a tenth."))

print("The process is killed now. Nothing is flushed, and nothing is lost.", flush=True)
os.kill(os.getpid(), signal.SIGKILL)
