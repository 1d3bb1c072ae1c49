"""What the provider stand-in served and what was recorded of it, in the same words."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from openai_metering.signals import conventions as c

if TYPE_CHECKING:
    from pathlib import Path

INPUT_PARTS = {
    "cached_tokens": c.CACHE_READ_INPUT_TOKENS,
    "cache_write_tokens": c.CACHE_WRITE_INPUT_TOKENS,
    "audio_tokens": c.AUDIO_INPUT_TOKENS,
}
OUTPUT_PARTS = {
    "reasoning_tokens": c.REASONING_OUTPUT_TOKENS,
    "audio_tokens": c.AUDIO_OUTPUT_TOKENS,
    "accepted_prediction_tokens": c.ACCEPTED_PREDICTION_TOKENS,
    "rejected_prediction_tokens": c.REJECTED_PREDICTION_TOKENS,
}
SIDES = (
    (("prompt", "input"), c.INPUT_TOKENS, INPUT_PARTS),
    (("completion", "output"), c.OUTPUT_TOKENS, OUTPUT_PARTS),
)


def tokens_served(usage: dict[str, Any]) -> dict[str, int]:
    """A usage object of the provider, under the names it must be recorded by."""
    found = {}
    for spellings, total, parts in SIDES:
        for name in spellings:
            if f"{name}_tokens" in usage:
                found[total] = usage[f"{name}_tokens"]
                details = usage.get(f"{name}_tokens_details", {})
                found |= {attribute: details[part] for part, attribute in parts.items() if part in details}
    return found


def tokens_recorded(attributes: dict[str, Any]) -> dict[str, int]:
    """Every count of tokens on a span or record."""
    return {name: value for name, value in attributes.items() if ".usage." in name and name.endswith("_tokens")}


def who(attributes: dict[str, Any]) -> tuple[str | None, str | None, str | None]:
    """Organization, subscriber and credential."""
    return attributes.get(c.ORGANIZATION_ID), attributes.get(c.SUBSCRIBER_ID), attributes.get(c.CREDENTIAL_ID)


def usage_records(place: Path) -> list[dict[str, Any]]:
    """The attributes of every usage record in a file of OTLP JSON lines, or in a folder of them."""
    return [found["attributes"] for found in _objects(place, "eventName") if found["eventName"] == c.USAGE_EVENT]


def all_spans(place: Path) -> list[dict[str, Any]]:
    """Every span in a file of OTLP JSON lines, or in a folder of them."""
    return list(_objects(place, "kind"))


def spans(place: Path) -> list[dict[str, Any]]:
    """Every span of ours: other packages may be instrumented, too."""
    return [span for span in all_spans(place) if c.OPERATION in span.get("attributes", ())]


def metrics(place: Path) -> list[dict[str, Any]]:
    """Every metric in a file of OTLP JSON lines, or in a folder of them."""
    return [found for found in _objects(place, "name") if {"sum", "histogram"} & found.keys()]


def by_request_id(attributes: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Attributes by the provider's own name for the call; one that is there twice is an error."""
    found = {one[c.REQUEST_ID]: one for one in attributes}
    assert len(found) == len(attributes)
    return found


def assert_agrees(attributes: list[dict[str, Any]], served: list[Any]) -> None:
    """Hold records or spans against what was served: the same calls, and each to the token."""
    found = by_request_id(attributes)
    assert found.keys() == {answer.request_id for answer in served}
    for answer in served:
        one = found[answer.request_id]
        if answer.status >= 400:
            expected = ("not_billed", {})
        elif answer.usage is None or one[c.OUTCOME] != "completed":
            expected = ("unknown", {})
        else:
            expected = ("reported", tokens_served(answer.usage))
        assert (one[c.USAGE_STATUS], tokens_recorded(one)) == expected


def _objects(place: Path, key: str) -> list[dict[str, Any]]:
    """Every object that has a key, its attributes as a plain mapping."""
    found: list[dict[str, Any]] = []

    def visit(one: dict[str, Any]) -> Any:
        if len(one) == 1:
            ((kind, content),) = one.items()
            if kind == "intValue":
                return int(content)
            if kind == "arrayValue":
                return content["values"]
            if kind in {"stringValue", "boolValue", "doubleValue"}:
                return content
        if isinstance(attributes := one.get("attributes"), list):
            one["attributes"] = {item["key"]: item["value"] for item in attributes}
        if key in one:
            found.append(one)
        return one

    for file in [place] if place.suffix == ".jsonl" else sorted(place.rglob("*.jsonl")):
        for line in file.read_text(encoding="utf-8").splitlines():
            json.loads(line, object_hook=visit)
    return found
