"""agent.yaml in front of gateway.yaml, both real: whatever is killed, nothing that was taken is lost."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time

import pytest
from load import APPLICATION, ORGANIZATIONS, Load, in_bill, record
from running import Collector, basic, htpasswd, logs, post, written

from openai_metering.local.provider import ProviderStandIn
from waiting import wait_for

FULL = os.environ.get("OPENAI_METERING_TEST_SIZE") == "full"


@pytest.fixture
def gateway(collector_binary, tmp_path):
    folder = tmp_path / "gateway"
    folder.mkdir()
    htpasswd(folder / "htpasswd", ["agent"])
    (folder / "principals.csv").write_text(f"principal,organizations\nagent,{'|'.join(ORGANIZATIONS)}\n")
    (folder / "lookup.csv").write_text("credential,subscriber,organization\n")
    made = Collector(collector_binary, folder, "gateway.yaml", STORE_DIR=str(folder / "store"))
    yield made
    made.kill()


@pytest.fixture
def agent(collector_binary, tmp_path, gateway):
    folder = tmp_path / "agent"
    (tmp_path / "ledger").mkdir(mode=0o700)
    made = Collector(
        collector_binary,
        folder,
        "agent.yaml",
        GATEWAY_ENDPOINT=gateway.http_endpoint,
        GATEWAY_AUTHORIZATION=basic("agent"),
        LEDGER_DIR=str(tmp_path / "ledger"),
        QUEUE_DIR=str(folder / "queue"),
    )
    yield made
    made.kill()


def test_nothing_is_lost_to_kills(gateway, agent, tmp_path, capsys):
    """Kill -9 of the agent, of the gateway and of both, under load: each record that was taken is in the bill."""
    kills = 9 if FULL else 3
    gateway.start()
    agent.start()
    load = Load(agent, tmp_path / "ledger")
    load.start()
    chosen = random.Random(7)
    for number in range(kills):
        time.sleep(chosen.uniform(0.3, 1.0))
        victims = ((agent,), (gateway,), (agent, gateway))[number % 3]
        for victim in victims:
            victim.kill()
        time.sleep(0.2)
        for victim in victims:
            victim.start()
    time.sleep(0.5)
    load.stopped.set()
    load.join()
    wait_for(lambda: load.taken <= set(in_bill(gateway)), "all that was taken", timeout=120)
    found = in_bill(gateway)
    with capsys.disabled():
        print(
            f"\n{kills} kills: {len(load.taken)} taken, {len(load.taken - set(found))} lost, "
            f"{len(found) - len(set(found))} twice"
        )
    assert load.taken - set(found) == set()


def test_an_outage_of_the_gateway_is_waited_for(gateway, agent, tmp_path):
    """Nothing is refused meanwhile, and a stop and a kill of the agent in between lose nothing."""
    agent.start()
    load = Load(agent, tmp_path / "ledger")
    for number in range(20):
        assert (
            post(agent.http_endpoint, "logs", logs(*[record(f"otlp-{number}-{place}") for place in range(50)])) == 200
        )
        load.keep(f"ledger-{number}")
    load.taken |= {f"otlp-{number}-{place}" for number in range(20) for place in range(50)}
    time.sleep(1)
    agent.stop()
    agent.start()
    load.keep("ledger-after-stop")
    time.sleep(1)
    agent.kill()
    gateway.start()
    agent.start()
    wait_for(lambda: load.taken <= set(in_bill(gateway)), "all that was taken", timeout=60)


def test_the_ledger_of_an_application_reaches_the_bill_to_the_token(gateway, agent, tmp_path):
    """The real library writes, the agent tails, the gateway checks: each call once, with its tokens."""
    gateway.start()
    agent.start()
    with ProviderStandIn() as provider:
        subprocess.run(
            [sys.executable, "-c", APPLICATION, provider.base_url, *ORGANIZATIONS * 5],
            check=True,
            env={**os.environ, "OPENAI_METERING_LEDGER_DIR": str(tmp_path / "ledger")},
        )
        served = {one.request_id: one.usage["prompt_tokens"] for one in provider.served}
    wait_for(lambda: len(set(in_bill(gateway))) == 15, "15 records", timeout=30)
    found = {
        item["attributes"]["openai_metering.request.id"]: int(item["attributes"]["gen_ai.usage.input_tokens"])
        for item in written(gateway.folder / "store" / "records.jsonl")
    }
    assert found == served
    assert written(gateway.folder / "store" / "quarantine.jsonl") == []


def test_spans_and_metrics_pass_through(gateway, agent):
    """The rest goes the same way, through a queue of its own."""
    gateway.start()
    agent.start()
    metric = {"name": "m", "gauge": {"dataPoints": [{"asInt": "1", "timeUnixNano": "1790000000000000000"}]}}
    body = {"resourceMetrics": [{"resource": {}, "scopeMetrics": [{"scope": {}, "metrics": [metric]}]}]}
    assert post(agent.http_endpoint, "metrics", body) == 200
    span = {
        "traceId": "0" * 31 + "1",
        "spanId": "0" * 15 + "1",
        "name": "chat",
        "kind": 3,
        "startTimeUnixNano": "1790000000000000000",
        "endTimeUnixNano": "1790000001000000000",
        "status": {"code": 2},
    }
    traces = {"resourceSpans": [{"resource": {}, "scopeSpans": [{"scope": {}, "spans": [span]}]}]}
    assert post(agent.http_endpoint, "traces", traces) == 200
    store = gateway.folder / "store"
    wait_for(lambda: (store / "metrics.jsonl").stat().st_size, "the metric")
    wait_for(lambda: written(store / "spans.jsonl", "resourceSpans", "scopeSpans", "spans"), "the span", timeout=30)


@pytest.mark.parametrize("name", ["agent.yaml", "gateway.yaml"])
def test_the_configuration_validates(collector_binary, gateway, name):
    """With no variable set, beside the files that its head names."""
    answer = subprocess.run(
        [
            collector_binary,
            "validate",
            "--config",
            next(iter(Collector(collector_binary, gateway.folder, name).configs)),
        ],
        cwd=gateway.folder,
        env={},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
