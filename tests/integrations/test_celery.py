"""Celery with a real worker process: a task is for whom its sender's scope named, and nobody else can say so."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from openai_metering import attribution
from openai_metering.integrations.celery import carry_attribution

HERE = Path(__file__).parent
SEND = """
import json, sys
from celery_application import app, who, after
from openai_metering import attribution
def scope(n): return attribution(organization_id=f"org-{n}", subscriber_identity=f"joe@{n}")
jobs = []
for n in range(5):
    with scope(n):
        jobs += [who.delay(), who.delay(1), (who.s() | after.s()).apply_async()]
jobs.append(who.delay())
jobs.append(who.apply_async(headers={"openai_metering_attribution": ":{\\"organization_id\\":\\"forged\\"}"}))
print(json.dumps([job.get(timeout=60) for job in jobs]))
"""
FORGE = """
import json
from celery import signals
from celery_application import app, who
signals.before_task_publish.disconnect(dispatch_uid="openai_metering_attribution")
print(json.dumps([who.apply_async(headers={"openai_metering_attribution": header}).get(timeout=60) for header in
    (":{\\"organization_id\\":\\"forged\\"}", "0" * 64 + ":{\\"organization_id\\":\\"forged\\"}", "\\u00e9", 7)]))
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return os.environ | {"CELERY_FOLDER": str(tmp_path), "CELERY_SECRET": "of the test", "PYTHONPATH": str(HERE)}


@pytest.fixture
def worker(environment: dict[str, str], tmp_path: Path) -> Any:
    log = tmp_path / "worker.log"
    command = [sys.executable, "-m", "celery", "-A", "celery_application", "worker", "-P", "prefork", "-c", "2"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--without-gossip", "--without-mingle", "-l", "warning"],
            env=environment,
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        yield log
    finally:
        process.terminate()
        process.wait(30)


def run(script: str, environment: dict[str, str]) -> Any:
    import json

    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_task_is_for_whom_its_sender_named(worker: Path, environment: dict[str, str]) -> None:
    """Tasks, their retries and those that follow them carry the name; a task of nobody is nobody's."""
    names = [[f"org-{number}", f"joe@{number}"] for number in range(5)]
    expected = [found for name in names for found in (name, name, name * 2)]
    assert run(SEND, environment) == [*expected, [None, None], [None, None]]
    assert "detach" not in worker.read_text()


def test_nobody_else_can_say_who_a_task_is_for(worker: Path, environment: dict[str, str]) -> None:
    """A header without the secret's signature is not believed, and that is said once for each process."""
    assert run(FORGE, environment) == [[None, None]] * 4
    assert 1 <= worker.read_text().count("is not signed with a secret") <= 2


@pytest.mark.parametrize("given", [{}, {"secret": ""}, {"secret": ["one", ""]}])
def test_nothing_is_trusted_by_default(given: dict[str, Any]) -> None:
    """Without a secret, trust or a function there is nothing to carry, which is an error at set-up."""
    with pytest.raises(ValueError, match="secret"), attribution():
        carry_attribution(**given)
