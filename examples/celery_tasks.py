"""Celery: a task is for whom the scope around its sending names, in whatever worker and however late it runs.

Senders and workers share METERING_SECRET, which signs what travels in a message. The broker is a folder here, so that
nothing has to be installed; CELERY_BROKER_URL names yours.
"""

import os
from pathlib import Path

import openai
from celery import Celery

from openai_metering import OpenAIInstrumentor, attribution
from openai_metering.integrations.celery import carry_attribution

OpenAIInstrumentor().instrument()
carry_attribution(os.environ["METERING_SECRET"])

folder = Path("celery").absolute()
for name in ("queue", "results", "control"):
    (folder / name).mkdir(parents=True, exist_ok=True)
app = Celery(
    "celery_tasks", broker=os.environ.get("CELERY_BROKER_URL", "filesystem://"), backend=f"file://{folder}/results"
)
if app.conf.broker_url == "filesystem://":
    places = {
        "data_folder_in": f"{folder}/queue",
        "data_folder_out": f"{folder}/queue",
        "control_folder": f"{folder}/control",
    }
    app.conf.broker_transport_options = places


@app.task
def summarise(ticket: str) -> str:
    """Summarise a ticket. Nothing here says who pays for it."""
    return openai.OpenAI().responses.create(model="gpt-4o-mini", input=f"Summarise: {ticket}").output_text


if __name__ == "__main__":
    jobs = []
    for customer, person in (("AcmeSoft", "joe@acme.com"), ("Nordbank", "mia@nordbank.example")):
        with attribution(organization_id=customer, subscriber_identity=person, queue="summaries"):
            jobs.append(summarise.delay(f"a ticket of {customer}"))
    for job in jobs:
        print(job.get(timeout=60))
