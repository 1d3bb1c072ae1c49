"""kafka-agent.yaml and kafka-gateway.yaml through a real Apache Kafka."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections import defaultdict
from typing import Any

import pytest
from kafka import Kafka
from load import APPLICATION, ID, ORGANIZATION, ORGANIZATIONS, Load, in_bill, record, twice
from running import Collector, htpasswd, logs, post, written

from openai_metering.cli import main
from openai_metering.local.provider import ProviderStandIn
from waiting import wait_for

FULL = os.environ.get("OPENAI_METERING_TEST_SIZE") == "full"
TOPIC = "openai_metering.usage"


@pytest.fixture
def broker(tmp_path):
    with Kafka(tmp_path / "kafka") as running:
        yield running


@pytest.fixture
def started(collector_binary, tmp_path, broker):
    """Collectors before and behind the broker, by name; killed at the end."""
    made: list[Collector] = []

    def start(role: str, name: str, *configs: str, **variables: str) -> Collector:
        folder = tmp_path / name
        folder.mkdir()
        (tmp_path / "ledger").mkdir(mode=0o700, exist_ok=True)
        htpasswd(folder / "htpasswd", ["agent"])
        (folder / "principals.csv").write_text("principal,organizations\nkafka,*\n")
        (folder / "lookup.csv").write_text("credential,subscriber,organization\n")
        one = Collector(
            collector_binary,
            folder,
            f"{role}.yaml",
            *configs,
            KAFKA_BROKERS=broker.address,
            STORE_DIR=str(folder / "store"),
            QUEUE_DIR=str(folder / "queue"),
            LEDGER_DIR=str(tmp_path / "ledger"),
            **variables,
        )
        made.append(one)
        one.start()
        return one

    yield start
    for one in made:
        one.kill()


def test_nothing_is_lost_to_kills_of_the_broker(broker, started, tmp_path, capsys):
    """Kill -9 of broker, agent and gateway in turn, under load: each record that was taken is in the bill."""
    agent = started("agent", "agent", "kafka-agent.yaml")
    gateway = started("gateway", "gateway", "kafka-gateway.yaml")
    load = Load(agent, tmp_path / "ledger")
    load.start()
    chosen = random.Random(5)
    kills = 9 if FULL else 4
    for number in range(kills):
        time.sleep(chosen.uniform(0.5, 1.5))
        victim: Any = (broker, agent, broker, gateway)[number % 4]
        victim.kill()
        time.sleep(0.3)
        victim.start()
    load.stopped.set()
    load.join()
    wait_for(lambda: load.taken <= set(in_bill(gateway)), "all that was taken", timeout=240)
    found = in_bill(gateway)
    with capsys.disabled():
        print(
            f"\n{kills} kills of broker, agent and gateway: {len(load.taken)} taken, "
            f"{len(load.taken - set(found))} lost, twice: {twice(found)}"
        )
    assert written(gateway.folder / "store" / "quarantine.jsonl") == []


def test_an_application_reaches_the_bill_and_each_organization_keeps_its_partition(broker, started, tmp_path):
    """Each call of the real library once, with its tokens and its resource; in the topic, one organization in one place."""
    agent = started("agent", "agent", "kafka-agent.yaml", KAFKA_ENCODING="otlp_json")
    gateway = started("gateway", "gateway", "kafka-gateway.yaml", KAFKA_ENCODING="otlp_json")
    with ProviderStandIn() as provider:
        for service in ("shop", "search"):
            subprocess.run(
                [sys.executable, "-c", APPLICATION, provider.base_url, *ORGANIZATIONS * 5],
                check=True,
                env={
                    **os.environ,
                    "OPENAI_METERING_LEDGER_DIR": str(tmp_path / "ledger"),
                    "OTEL_SERVICE_NAME": service,
                },
            )
        served = {one.request_id: one.usage["prompt_tokens"] for one in provider.served}
    assert len(served) == 30
    for number in range(30):  # and others that have no resource at all
        batch = [record(f"otlp-{number}-{place}") for place in range(10)]
        assert post(agent.http_endpoint, "logs", logs(*batch)) == 200
    wait_for(lambda: len(in_bill(gateway)) == 330, "330 records", timeout=90)
    records = written(gateway.folder / "store" / "records.jsonl")
    found = {
        one["attributes"]["openai_metering.request.id"]: int(one["attributes"]["gen_ai.usage.input_tokens"])
        for one in records
        if "openai_metering.request.id" in one["attributes"]
    }
    assert found == served
    assert not any("openai_metering.resource" in one["attributes"] for one in records)
    bill = (gateway.folder / "store" / "records.jsonl").read_text()
    assert '"stringValue":"shop"' in bill
    assert '"stringValue":"search"' in bill

    places = defaultdict(set)
    for partition, content in broker.messages(TOPIC):
        for resource in content["resourceLogs"]:
            (only,) = resource["resource"]["attributes"]
            assert only["key"] == ORGANIZATION
            places[only["value"]["stringValue"]].add(partition)
    assert set(places) == set(ORGANIZATIONS)
    assert all(len(found) == 1 for found in places.values())


def test_gateways_of_a_group_share_the_work_and_all_can_be_read_again(broker, started):
    """Two gateways have all records between them; a new group reads everything from the beginning."""
    agent = started("agent", "agent", "kafka-agent.yaml")
    pair = [started("gateway", f"gateway-{number}", "kafka-gateway.yaml") for number in range(2)]

    def sent(first: int) -> set[str]:
        ids = set()
        for number in range(first, first + 40):
            batch = {f"{number}-{place}": f"customer-{place}" for place in range(30)}
            records = [{**record(one), ORGANIZATION: name} for one, name in batch.items()]
            assert post(agent.http_endpoint, "logs", logs(*records)) == 200
            ids |= batch.keys()
        return ids

    ids: set[str] = set()
    for attempt in range(20):  # until the group has settled and both take part
        ids |= sent(attempt * 40)
        if all(in_bill(gateway) for gateway in pair):
            break
        time.sleep(0.5)
    assert all(in_bill(gateway) for gateway in pair)
    wait_for(lambda: ids <= {one for gateway in pair for one in in_bill(gateway)}, "all records", timeout=60)
    again = started("gateway", "again", "kafka-gateway.yaml", KAFKA_GROUP="again")
    wait_for(lambda: ids <= set(in_bill(again)), "everything again", timeout=60)


def test_a_tenant_has_its_own_topic(broker, started, tmp_path, collector_binary):
    """Of a row with kafka_topic; nothing of others is in it."""
    table = tmp_path / "tenants.csv"
    table.write_text("organization,kafka_topic\nAcmeSoft,usage.acme\nGlobex,usage.globex\n")
    assert (
        main(["collector", "gateway", "--tenants", str(table), "--no-validate", "--output", str(tmp_path / "made")])
        == 0
    )
    config = tmp_path / "made" / "tenants.yaml"
    config.write_text(config.read_text().replace("encoding: otlp_proto", "encoding: otlp_json"))
    gateway = started("gateway", "gateway", str(config), "backends/kafka.yaml")
    (gateway.folder / "principals.csv").write_text("principal,organizations\nagent,*\n")
    gateway.kill()
    gateway.start()
    expected = defaultdict(set)
    for number in range(30):
        one = record(f"r{number}")
        expected[one[ORGANIZATION]].add(one[ID])
        assert post(gateway.http_endpoint, "logs", logs(one), "agent") == 200

    def in_topic(name: str) -> set[str]:
        found = set()
        for _, content in broker.messages(name):
            for resource in content["resourceLogs"]:
                for scope in resource["scopeLogs"]:
                    for item in scope["logRecords"]:
                        found |= {a["value"]["stringValue"] for a in item["attributes"] if a["key"] == ID}
        return found

    wait_for(lambda: in_topic("usage.acme") == expected["AcmeSoft"], "Acme's topic", timeout=60)
    wait_for(lambda: in_topic("usage.globex") == expected["Globex"], "Globex's topic", timeout=60)
    everything = set().union(*expected.values())
    wait_for(lambda: in_topic("openai_metering.bill") == everything, "the topic of backends/kafka.yaml", timeout=60)
