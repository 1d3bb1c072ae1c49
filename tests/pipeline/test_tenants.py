"""tenants.yaml over gateway.yaml: each organization has its own stream, and none waits for another."""

from __future__ import annotations

import contextlib
import csv
import os
import random
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from endpoint import Endpoint, Rules
from running import Collector, documents, free_ports, htpasswd, logs, post, written

from openai_metering.cli import main, tenants
from openai_metering.cli.failure import Failure
from openai_metering.local.discovery import config_path
from waiting import wait_for

if TYPE_CHECKING:
    from pathlib import Path

FULL = os.environ.get("OPENAI_METERING_TEST_SIZE") == "full"
RECORDS = 100_000 if FULL else 10_000
BATCH = 200
ID, ORGANIZATION = "openai_metering.record.id", "attribution.organization.id"
ODD = ["Acme", "acme", "Acme|Globex", 'Quote"d\\', "O'Reilly", "$HOME ${env:PATH}", "Žluťoučký kůň", "a: {b}", "*"]
TOKEN = "tenant-token"


def table(path: Path, *rows: dict[str, str]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, tenants.COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(rows)
    return path


class Gateway(Collector):
    """gateway.yaml with the routing that the command made of a table."""

    def __init__(self, binary: Any, folder: Path, csv_file: Path, token: str = TOKEN, **variables: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        htpasswd(folder / "htpasswd", ["agent"])
        (folder / "principals.csv").write_text("principal,organizations\nagent,*\n")
        (folder / "lookup.csv").write_text("credential,subscriber,organization\n")
        super().__init__(binary, folder, "gateway.yaml", STORE_DIR=str(folder / "store"), **variables)
        assert main(["collector", "gateway", "--tenants", str(csv_file), "--no-validate", "--output", str(folder)]) == 0
        self.configs.append(str(folder / "tenants.yaml"))
        text = (folder / "tenants.yaml").read_text(encoding="utf-8")
        (folder / "tenants.yaml").write_text(text.replace("${env:TOKEN:-}", token), encoding="utf-8")


def record(record_id: str, organization: str | None) -> dict[str, Any]:
    made = {
        ID: record_id,
        "openai_metering.record.state": "final",
        "openai_metering.operation": "chat.completions",
        "openai_metering.usage.status": "reported",
        "gen_ai.response.model": "gpt-4o",
        "gen_ai.usage.input_tokens": 7,
    }
    return made if organization is None else {**made, ORGANIZATION: organization}


def in_file(path: Path) -> list[dict[str, Any]]:
    """One tenant's file; names of other files may begin like its own."""
    if not path.exists():
        return []
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        for content in documents(line):
            for resource in content["resourceLogs"]:
                for scope in resource["scopeLogs"]:
                    found += [
                        {one["key"]: next(iter(one["value"].values())) for one in item["attributes"]}
                        for item in scope["logRecords"]
                    ]
    return found


def test_no_organization_is_in_anothers_stream_and_none_waits_for_another(collector_binary, tmp_path, capsys):
    """One backend is away, one hangs: the others have their own records meanwhile, each once.

    The two get theirs once they are back, or in an overflow file. Random traffic of nineteen organizations, some with odd names.
    """
    customers = [*ODD, *(f"customer-{number}" for number in range(10))]
    with_backend, with_file = customers[:12], customers[12:]
    hanging, away = with_backend[2], with_backend[4]
    (port,) = free_ports(1)
    rules = Rules(headers={"authorization": TOKEN})
    with contextlib.ExitStack() as stack:
        backends = {name: stack.enter_context(Endpoint(rules)) for name in with_backend if name != away}
        backends[hanging].go_on.clear()
        urls = {**{name: backend.url for name, backend in backends.items()}, away: f"http://127.0.0.1:{port}"}
        gateway = stack.enter_context(
            Gateway(
                collector_binary,
                tmp_path / "gateway",
                table(
                    tmp_path / "tenants.csv",
                    *(
                        {"organization": name, "otlp_endpoint": url, "otlp_authorization": "TOKEN"}
                        for name, url in urls.items()
                    ),
                    *({"organization": name, "file": f"file-{name}"} for name in with_file),
                ),
                TENANT_QUEUE_RECORDS=str(RECORDS // 10),
                TENANT_RETRY="1s",
            )
        )
        chosen = random.Random(11)
        sent: dict[str | None, set[str]] = {}
        names = [*customers, None, "Acme ", "nobody", *[hanging, away] * 10]
        for first in range(0, RECORDS, BATCH):
            batch = [(f"r{number}", chosen.choice(names)) for number in range(first, first + BATCH)]
            assert post(gateway.http_endpoint, "logs", logs(*(record(*one) for one in batch)), "agent") == 200
            for record_id, organization in batch:
                sent.setdefault(organization, set()).add(record_id)

        def streams() -> dict[str, list[dict[str, Any]]]:
            found = {name: [item["attributes"] for item in backend.items("logs")] for name, backend in backends.items()}
            return found | {
                name: in_file(gateway.folder / "store/tenants" / f"file-{name}.jsonl") for name in with_file
            }

        def complete(names: set[str]) -> bool:
            found = streams()
            return all({one[ID] for one in found[name]} >= sent[name] for name in names)

        others = set(customers) - {hanging, away}
        wait_for(lambda: complete(others), "the streams of those that are well", timeout=60)
        found = streams()
        for name in others:
            assert Counter(one[ID] for one in found[name]) == Counter(sent[name])
            assert {one[ORGANIZATION] for one in found[name]} == {name}
        bill = Counter(item["attributes"][ID] for item in written(gateway.folder / "store" / "records.jsonl"))
        assert bill == Counter(one for ids in sent.values() for one in ids)

        backends[hanging].go_on.set()
        backends[away] = stack.enter_context(Endpoint(rules, port))

        def overflow(name: str) -> list[dict[str, Any]]:
            component = tenants.Tenant(name).name
            return in_file(gateway.folder / "store/tenants" / f"overflow-otlp_http_{component}.jsonl")

        for name in (hanging, away):
            wait_for(
                lambda name=name: {one[ID] for one in [*streams()[name], *overflow(name)]} == sent[name],
                f"all of {name}",
                timeout=120,
            )
            assert {one[ORGANIZATION] for one in [*streams()[name], *overflow(name)]} == {name}
            assert overflow(name), "the queue was to be too small"
        twice = {name: len(streams()[name]) + len(overflow(name)) - len(sent[name]) for name in (hanging, away)}
        with capsys.disabled():
            print(
                f"\n{RECORDS} records of {len(customers)} organizations: 0 in another's stream, 0 lost, "
                f"twice: 0 of those that were well, {twice[hanging]} of the one that hung, {twice[away]} of the one away"
            )


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "has no row"),
        ([{"organization": "Acme"}], "at least one of"),
        ([{"organization": "", "file": "a"}], "organization is a name"),
        ([{"organization": "Acme", "file": "../a"}], "without a folder"),
        ([{"organization": "Acme", "file": "overflow-a"}], "overflow-"),
        ([{"organization": "Acme", "otlp_endpoint": "acme.example:4318"}], "URL"),
        ([{"organization": "Acme", "otlp_endpoint": "http://a", "otlp_authorization": "Bearer abc"}], "never stands"),
        ([{"organization": "Acme", "file": "a"}, {"organization": "Globex", "file": "A"}], "the same file"),
        ([{"organization": "Acme", "file": "a"}, {"organization": "Acme", "file": "b"}], "the same organization"),
        ([{"organization": "A", "kafka_topic": "t"}, {"organization": "B", "kafka_topic": "t"}], "the same topic"),
        (
            [{"organization": "A", "otlp_endpoint": "http://a"}, {"organization": "B", "otlp_endpoint": "http://a/"}],
            "the same otlp_endpoint",
        ),
    ],
)
def test_a_table_that_cannot_be_meant_is_refused(tmp_path, rows, said):
    """With the row and the rule: above all, no two organizations share a place."""
    with pytest.raises(Failure, match=said):
        tenants.read(table(tmp_path / "tenants.csv", *rows))


def test_the_example_is_what_the_command_makes_of_its_table():
    """tenants.yaml beside tenants.csv."""
    folder = config_path("tenants/tenants.csv").parent
    made = tenants.configuration(tenants.read(folder / "tenants.csv"))
    assert (folder / "tenants.yaml").read_text(encoding="utf-8") == made


def test_the_hundredth_customer_is_a_row(collector_binary, tmp_path):
    """The components of the ninety-nine before keep their names, hence their queues; the Collector takes all hundred."""
    rows = [
        {"organization": f"customer {number}", "otlp_endpoint": f"http://127.0.0.1/{number}"} for number in range(100)
    ]
    before = tenants.configuration(tenants.read(table(tmp_path / "before.csv", *rows[1:])))
    gateway = Gateway(collector_binary, tmp_path / "gateway", table(tmp_path / "tenants.csv", *rows))
    after = (gateway.folder / "tenants.yaml").read_text(encoding="utf-8")
    added = set(after.splitlines()) - set(before.splitlines())
    name = tenants.Tenant("customer 0").name
    assert all(name in line or "/0" in line or '"customer 0"' in line or line.startswith("#") for line in added)
    with gateway:
        assert post(gateway.http_endpoint, "logs", logs(record("r", "customer 99")), "agent") == 200
