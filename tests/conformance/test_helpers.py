"""Helpers that make a call and then look at what has become of it: one consumption, one record."""

from __future__ import annotations

import asyncio
from typing import Any

import openai
import pytest
from forms import RECORDED, WHO, Operation, polled

from fuzzing import Reply, ask, encoded, whole
from openai_metering import attribution
from openai_metering.local.events import Event, agents as agents_events
from raw_server import RawServer

POLLED = [(operation, name) for operation, name in polled() if operation.counted]
FAST = {"poll_interval_ms": 1}


def ids(telemetry: Any) -> set[str]:
    return {record["openai_metering.record.id"] for record in telemetry.records}


@pytest.mark.parametrize("way", ["sync", "async"])
@pytest.mark.parametrize(("operation", "name"), POLLED, ids=[name for _, name in POLLED])
def test_a_helper_that_polls_makes_one_call(
    provider: Any, telemetry: Any, operation: Operation, name: str, way: str
) -> None:
    """The looks at the job are no consumption; who is on the record of the call."""
    request = {**operation.request, **FAST, "usage_metadata": WHO}

    async def run() -> Any:
        async with openai.AsyncOpenAI(base_url=provider.base_url, max_retries=0) as client:
            return await getattr(operation.helpers(client, name), name)(**request)

    if way == "async":
        result = asyncio.run(run())
    else:
        with openai.OpenAI(base_url=provider.base_url, max_retries=0) as client:
            result = getattr(operation.helpers(client, name), name)(**request)

    assert result.status == "completed"
    assert [served.n > 0 for served in provider.served][:2] == [True, False]
    assert sum(served.n > 0 for served in provider.served) == 1
    assert len(ids(telemetry)) == 1
    for record in telemetry.records:
        assert record["openai_metering.operation"] == RECORDED[operation.name][0]
        assert record["attribution.organization.id"] == "AcmeSoft"
    assert telemetry.total("openai_metering.calls") == 1


AGENTS = ["stream"] if hasattr(openai.OpenAI().beta, "agents") else []


@pytest.mark.parametrize("name", AGENTS)
def test_a_turn_of_an_agents_session_is_one_call(telemetry: Any, name: str) -> None:
    """Its input is posted once; the look at the session and the stream of its events are no calls of their own."""
    session = {**whole("agents"), "id": "s1", "status": "idle"}
    lines: list[str] = []

    def reply(line: str) -> Reply:
        lines.append(line)
        if line.startswith("POST"):
            return Reply(204, {"x-request-id": "req_1"})
        if line.partition(" HTTP")[0].endswith("/events"):
            events = [Event({**event.data, "session_id": "s1"}) for event in agents_events(ask("agents"))]
            return Reply(200, {"content-type": "text/event-stream"}, b"".join(event.encoded() for event in events))
        return Reply(200, {"content-type": "application/json"}, encoded(session))

    with RawServer(reply) as server, openai.OpenAI(base_url=server.base_url, max_retries=0) as client:
        stream = getattr(client.beta.agents.sessions, name)
        with attribution(WHO), stream("s1", input="Hello") as events:
            types = [event.type for event in events]
    assert "agent.session.turn.completed" in types
    assert [line.split()[0] for line in lines] == ["GET", "GET", "POST"]
    assert len(ids(telemetry)) == 1
    assert {record["openai_metering.operation"] for record in telemetry.records} == {"agents.sessions.events"}
    assert telemetry.total("openai_metering.calls") == 1
