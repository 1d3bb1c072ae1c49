"""Usage records for tests, as they lie in files."""

from __future__ import annotations

import json

JULY = 1_785_000_000 * 10**9  # 2026-07-25T17:20:00Z


def value(content):
    if isinstance(content, bool):
        return {"boolValue": content}
    return {"intValue": str(content)} if isinstance(content, int) else {"stringValue": content}


def record(record_id="one", *, event="openai_metering.usage", time=JULY, **changes):
    attributes = {
        "openai_metering.record.id": record_id,
        "openai_metering.record.state": "final",
        "attribution.status": "complete",
        "attribution.organization.id": "AcmeSoft",
        "attribution.subscriber.id": "alice",
        "attribution.credential.id": "prod",
        "gen_ai.request.model": "gpt-5",
        "gen_ai.response.model": "gpt-5-2025-08-07",
        "openai_metering.operation": "responses",
        "gen_ai.provider.name": "openai",
        "openai_metering.usage.status": "reported",
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.cache_read.input_tokens": 40,
        "gen_ai.usage.output_tokens": 10,
        "gen_ai.usage.reasoning.output_tokens": 4,
    }
    attributes |= {SHORT.get(name, name): content for name, content in changes.items()}
    return {
        "timeUnixNano": str(time),
        "eventName": event,
        "attributes": [{"key": key, "value": value(item)} for key, item in attributes.items() if item is not None],
    }


SHORT = {
    "state": "openai_metering.record.state",
    "status": "attribution.status",
    "organization": "attribution.organization.id",
    "subscriber": "attribution.subscriber.id",
    "credential": "attribution.credential.id",
    "model": "gen_ai.response.model",
    "usage": "openai_metering.usage.status",
    "reason": "openai_metering.usage.reason",
    "input": "gen_ai.usage.input_tokens",
    "output": "gen_ai.usage.output_tokens",
    "project": "attribution.tag.project",
}
NOBODY = {"status": "unattributed", "organization": None, "subscriber": None, "credential": None}


def line(*records):
    return json.dumps({"resourceLogs": [{"resource": {}, "scopeLogs": [{"scope": {}, "logRecords": list(records)}]}]})
