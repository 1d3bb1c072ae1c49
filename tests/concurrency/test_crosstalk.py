"""Fifty threads and two hundred tasks, with streams interleaved: nobody ever gets another's name."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import openai

from openai_metering import attribution

if TYPE_CHECKING:
    import pytest

FULL = os.environ.get("OPENAI_METERING_TEST_SIZE") == "full"
ROUNDS = 100 if FULL else 2
THREADS, TASKS = 50, 200
MESSAGES: list[Any] = [{"role": "user", "content": "x"}]


def scope(number: int) -> Any:
    return attribution(organization_id=f"org-{number}", subscriber_identity=f"person-{number}", number=number)


def request(number: int) -> dict[str, Any]:
    return {"model": f"model-{number}", "messages": MESSAGES}


def crossed(record: dict[str, Any]) -> bool:
    number = record["attribution.tag.number"]
    found = [record.get(f"attribution.{level}.id") for level in ("organization", "subscriber")]
    return found != [f"org-{number}", f"person-{number}"] or record["gen_ai.request.model"] != f"model-{number}"


def test_no_cross_talk(provider: Any, telemetry: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Plain calls, and streams opened at once and read in turns, in threads and tasks at the same time."""
    caplog.set_level(logging.WARNING)
    client = openai.OpenAI(base_url=provider.base_url, max_retries=0, timeout=120)
    counted = 0

    def work(number: int) -> None:
        with scope(number):
            streams = [client.chat.completions.create(**request(number), stream=True) for _ in range(2)]
            client.chat.completions.create(**request(number))
        for _ in zip(*streams, strict=False):
            pass
        for stream in streams:
            list(stream)

    async def tasks() -> None:
        async with openai.AsyncOpenAI(base_url=provider.base_url, max_retries=0, timeout=120) as made:

            async def one(number: int) -> None:
                with scope(number):
                    stream = await made.chat.completions.create(**request(number), stream=True)
                    async for _ in stream:
                        await asyncio.sleep(0)
                    await made.chat.completions.create(**request(number))

            await asyncio.gather(*(one(THREADS + number) for number in range(TASKS)))

    for _ in range(ROUNDS):
        loop = threading.Thread(target=asyncio.run, args=(tasks(),))
        loop.start()
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(work, range(THREADS)))
        loop.join()
        records = telemetry.records
        assert len(records) == 3 * THREADS + 2 * TASKS
        assert [record for record in records if crossed(record)] == []
        assert not any(crossed(dict(span.attributes)) for span in telemetry.spans)
        counted += len(records)
        telemetry.clear()
        provider.reset()
    client.close()
    print(f"{counted} calls in {ROUNDS} rounds, none crossed")
    assert "detach" not in caplog.text
