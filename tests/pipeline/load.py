"""An application that sends and writes usage records under load, and remembers what was taken."""

from __future__ import annotations

import threading
import zlib
from collections import Counter
from typing import Any

from running import Collector, logs, post, written

from openai_metering.ledger import Ledger, otlp_attributes

ID, ORGANIZATION = "openai_metering.record.id", "attribution.organization.id"
ORGANIZATIONS = ("AcmeSoft", "Globex", "Initech")


def record(record_id: str) -> dict[str, Any]:
    return {
        ID: record_id,
        "openai_metering.record.state": "final",
        "openai_metering.operation": "chat.completions",
        "openai_metering.usage.status": "reported",
        "gen_ai.response.model": "gpt-4o",
        "gen_ai.usage.input_tokens": 7,
        ORGANIZATION: ORGANIZATIONS[zlib.crc32(record_id.encode()) % 3],
    }


class Load(threading.Thread):
    """An application that sends records over OTLP, and another that writes a ledger; both remember what was taken."""

    def __init__(self, agent: Collector, folder: Any) -> None:
        super().__init__(daemon=True)
        self.agent, self.stopped, self.taken = agent, threading.Event(), set()
        self.ledger = Ledger(str(folder), {}, ("test", "1"), "")

    def run(self) -> None:
        number = 0
        while not self.stopped.wait(0.002):
            number += 1
            batch = [f"otlp-{number}-{place}" for place in range(5)]
            if post(self.agent.http_endpoint, "logs", logs(*map(record, batch))) == 200:
                self.taken.update(batch)
            self.keep(f"ledger-{number}")

    def keep(self, record_id: str) -> None:
        self.ledger.append(
            {
                "timeUnixNano": "1790000000000000000",
                "eventName": "openai_metering.usage",
                "attributes": otlp_attributes(record(record_id).items()),
            }
        )
        self.taken.add(record_id)


def in_bill(gateway: Collector) -> list[str]:
    return [item["attributes"][ID] for item in written(gateway.folder / "store" / "records.jsonl")]


def twice(found: list[str]) -> dict[str, int]:
    """How many records arrived again, by organization."""
    again = Counter(found) - Counter(set(found))
    return {
        name: sum(count for one, count in again.items() if record(one)[ORGANIZATION] == name) for name in ORGANIZATIONS
    }


APPLICATION = """
import sys
import openai
from openai_metering import OpenAIInstrumentor, attribution

OpenAIInstrumentor().instrument()
client = openai.OpenAI(base_url=sys.argv[1], api_key="test")
for organization in sys.argv[2:]:
    with attribution(organization_id=organization):
        client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "Hello"}])
"""
