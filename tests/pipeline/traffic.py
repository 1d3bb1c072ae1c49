"""Real calls of the real library, sent by the launcher to a gateway."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from running import basic

from openai_metering.local.provider import ProviderStandIn

if TYPE_CHECKING:
    from running import Collector

LAUNCHER = str(Path(sys.executable).parent / "opentelemetry-instrument")
WHO = (
    ("AcmeSoft", "joe@acme.com", "key1-hubspot"),
    ("AcmeSoft", "ann@acme.com", "key3-reports"),
    ("Globex", "svc-triage", "key2"),
    ("Initech", "", ""),
    ("", "", ""),
)
APPLICATION = """
import sys
import time
import openai
from opentelemetry import trace
from openai_metering import attribution

client = openai.OpenAI(base_url=sys.argv[1], api_key="test", max_retries=0)
messages = [{"role": "user", "content": "Hello"}]
calls, pause = int(sys.argv[2]), float(sys.argv[3])
with trace.get_tracer("application").start_as_current_span("GET /chat"):
    for who in sys.argv[4:]:
        organization, subscriber, credential = (part or None for part in who.split("|"))
        given = {"organization_id": organization, "subscriber_identity": subscriber, "subscriber_credential": credential}
        with attribution(**{name: value for name, value in given.items() if value}):
            for number in range(calls):
                client.chat.completions.create(model="gpt-4o", messages=messages)
                if number % 3 == 2:
                    for _ in client.chat.completions.create(model="gpt-4o", messages=messages, stream=True):
                        pass
            time.sleep(pause)
            client.embeddings.create(model="text-embedding-3-small", input="Hello")
            try:
                client.chat.completions.create(model="gpt-4o", messages=messages, extra_headers={"x-standin-scenario": "status_429"})
            except openai.RateLimitError:
                pass
"""


@dataclass(frozen=True)
class Served:
    """What the provider says it served."""

    calls: list[Any]

    def tokens(self, name: str = "prompt_tokens") -> int:
        return sum((one.usage or {}).get(name) or 0 for one in self.calls)


def run(gateway: Collector, user: str = "agent", calls: int = 3, service: str = "shop", pause: float = 0) -> Served:
    """Make calls for everybody, and wait until the application has flushed and ended."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "OPENAI_"))}
    environment |= {
        "NO_PROXY": "*",
        "OTEL_SERVICE_NAME": service,
        "OTEL_RESOURCE_ATTRIBUTES": f"service.instance.id={service}-1",
        "OTEL_METRIC_EXPORT_INTERVAL": "500" if pause else "60000",
        "OTEL_EXPORTER_OTLP_ENDPOINT": gateway.http_endpoint,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_EXPORTER_OTLP_HEADERS": f"authorization={quote(basic(user))}",
    }
    with ProviderStandIn() as provider:
        done = subprocess.run(
            [
                LAUNCHER,
                sys.executable,
                "-c",
                APPLICATION,
                provider.base_url,
                str(calls),
                str(pause),
                *map("|".join, WHO),
            ],
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return Served(list(provider.served))
