"""A Celery application on a broker of files, which the test and its worker process both import."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from celery import Celery

from openai_metering import Attribution, current_attribution
from openai_metering.integrations.celery import carry_attribution

FOLDER = Path(os.environ["CELERY_FOLDER"])
carry_attribution(os.environ["CELERY_SECRET"])
for name in ("queue", "results", "control"):
    (FOLDER / name).mkdir(exist_ok=True)
app = Celery("shop", broker="filesystem://", backend=f"file://{FOLDER / 'results'}")
app.conf.update(
    broker_transport_options={
        "data_folder_in": str(FOLDER / "queue"),
        "data_folder_out": str(FOLDER / "queue"),
        "control_folder": str(FOLDER / "control"),
    },
    task_default_retry_delay=0,
)


def told(values: Attribution) -> list[Any]:
    return [values.organization_id, values.subscriber_identity]


@app.task(bind=True)
def who(self: Any, retries: int = 0) -> list[Any]:
    if self.request.retries < retries:
        raise self.retry(countdown=0)
    return told(current_attribution())


@app.task
def after(earlier: list[Any]) -> list[Any]:
    return [*earlier, *told(current_attribution())]
