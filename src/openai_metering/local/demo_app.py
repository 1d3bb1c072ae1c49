"""The application of the demonstration: three customers, several people and keys, every common form of call.

It knows nothing of telemetry but who its calls are for; ``opentelemetry-instrument`` does the rest.
"""

from __future__ import annotations

import asyncio
import contextlib

import openai

from openai_metering import attribution

MESSAGES = [{"role": "user", "content": "Summarise this week's support tickets."}]


def acme() -> None:
    """AcmeSoft: two people, three keys, synchronous calls."""
    client = openai.OpenAI()
    for credential in ("key1-hubspot", "key1-hubspot", "key2-intranet"):
        client.chat.completions.create(
            model="gpt-4o",
            messages=MESSAGES,
            usage_metadata={  # type: ignore[call-overload]
                "organization_id": "AcmeSoft",
                "subscriber_identity": "joe@acme.com",
                "subscriber_credential": credential,
            },
        )
    stream = client.chat.completions.create(
        model="gpt-4o-mini",
        messages=MESSAGES,
        stream=True,
        usage_metadata={  # type: ignore[call-overload]
            "organization_id": "AcmeSoft",
            "subscriber_identity": "ann@acme.com",
            "subscriber_credential": "key3-reports",
        },
    )
    for _ in stream:
        pass


async def brighthealth() -> None:
    """BrightHealth: asynchronous calls, one scope around them all, a field of its own on some."""
    client = openai.AsyncOpenAI()
    with attribution(
        organization_id="BrightHealth",
        subscriber_identity="svc-triage@brighthealth.org",
        subscriber_credential="triage",
    ):
        await asyncio.gather(
            *(client.responses.create(model="gpt-4.1", input=f"Ticket {number}") for number in range(3)),
            client.embeddings.create(model="text-embedding-3-small", input=["a ticket", "another ticket"]),
        )
        stream = await client.responses.create(
            model="gpt-4.1",
            input="All tickets",
            stream=True,
            usage_metadata={"subscriber_identity": "dr.lee@brighthealth.org"},  # type: ignore[call-overload]
        )
        async for _ in stream:
            pass


def nordbank() -> None:
    """Nordbank: a call that the provider refuses, a stream that is left half-way, and a good one."""
    client = openai.OpenAI(max_retries=0)
    who = {
        "organization_id": "Nordbank",
        "subscriber_identity": "mia@nordbank.example",
        "subscriber_credential": "key7-batch",
    }
    with contextlib.suppress(openai.RateLimitError):
        client.chat.completions.create(
            model="gpt-4o",
            messages=MESSAGES,
            extra_headers={"x-standin-scenario": "status_429"},
            usage_metadata=who,  # type: ignore[call-overload]
        )
    with client.chat.completions.create(
        model="gpt-4o",
        messages=MESSAGES,
        stream=True,
        usage_metadata=who,  # type: ignore[call-overload]
    ) as stream:
        for _ in stream:
            break
    client.responses.create(model="o3-mini", input="Check the figures", usage_metadata=who)  # type: ignore[call-overload]


def nobody() -> None:
    """A call that somebody forgot to put a name on."""
    openai.OpenAI().chat.completions.create(model="gpt-4o-mini", messages=MESSAGES)  # type: ignore[arg-type]


def main() -> None:
    """Make all calls once."""
    acme()
    asyncio.run(brighthealth())
    nordbank()
    nobody()


if __name__ == "__main__":
    main()
