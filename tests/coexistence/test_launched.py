"""Both started by `opentelemetry-instrument`, which loads instrumentations in an order of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from application import CHAT, KEYWORD

from openai_metering.local.receiver import OtlpReceiver

LAUNCHER = Path(sys.executable).parent / "opentelemetry-instrument"

APPLICATION = f"""
import openai
client = openai.OpenAI(max_retries=0)
client.chat.completions.create(**{CHAT!r}, usage_metadata={KEYWORD!r})
list(client.chat.completions.create(**{CHAT!r}, stream=True, usage_metadata={KEYWORD!r}))
"""


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()] if file.exists() else []


def attributes(found: dict[str, Any]) -> dict[str, Any]:
    return {item["key"]: next(iter(item["value"].values())) for item in found["attributes"]}


@pytest.mark.parametrize("mode", ["auto", "never"])
def test_under_the_launcher(provider: Any, tmp_path: Path, mode: str) -> None:
    """Each call has one record, and no span of ours beside theirs, whose spans say who it was for."""
    with OtlpReceiver(tmp_path) as receiver:
        done = subprocess.run(
            [LAUNCHER, sys.executable, "-c", APPLICATION],
            env={
                **os.environ,
                "OPENAI_BASE_URL": provider.base_url,
                "OPENAI_API_KEY": "test",
                "OPENAI_METERING_SPANS": mode,
                "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
                "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            },
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    records = [
        attributes(record)
        for line in lines(tmp_path / "records.jsonl")
        for resource in line["resourceLogs"]
        for scope in resource["scopeLogs"]
        for record in scope["logRecords"]
        if record.get("eventName") == "openai_metering.usage"
    ]
    assert [record["attribution.organization.id"] for record in records] == ["Keyword", "Keyword"]
    served = {answer.request_id: answer.usage["prompt_tokens"] for answer in provider.served}
    assert {
        record["openai_metering.request.id"]: int(record["gen_ai.usage.input_tokens"]) for record in records
    } == served
    spans = [
        (scope["scope"]["name"], attributes(span))
        for line in lines(tmp_path / "spans.jsonl")
        for resource in line["resourceSpans"]
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    ]
    assert spans
    assert not [name for name, _ in spans if name == "openai_metering"]
    # Where several of the others are installed each has a span, and who is on the innermost, at the least.
    assert sum(found.get("attribution.organization.id") == "Keyword" for _, found in spans) >= len(served)
