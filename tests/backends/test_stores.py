"""Real stores, fed by their fragments with real calls, asked for the totals through their own interfaces."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import time
from types import SimpleNamespace
from typing import Any

import fetched
import pytest
import traffic
from running import Collector, documents, free_ports, htpasswd, logs, post
from stores import ask, get, process

from openai_metering.local.discovery import config_path
from waiting import wait_for

INPUT, OUTPUT = "gen_ai_client_inference_usage_input_tokens_total", "gen_ai_client_inference_usage_output_tokens_total"
SCRAPE = """\
scrape_configs:
  - job_name: openai-metering-collector
    scrape_interval: 1s
    static_configs: [{targets: ["TARGET"]}]
"""


@pytest.fixture(scope="module")
def stores(collector_binary, tmp_path_factory):
    """VictoriaMetrics, Phoenix and MLflow behind one gateway, and what the provider served."""
    folder = tmp_path_factory.mktemp("stores")
    htpasswd(folder / "htpasswd", ["agent"])
    (folder / "principals.csv").write_text("principal,organizations\nagent,*\n")
    (folder / "lookup.csv").write_text("credential,subscriber,organization\n")
    metrics, phoenix, grpc, mlflow = free_ports(4)
    urls = SimpleNamespace(
        metrics=f"http://127.0.0.1:{metrics}",
        phoenix=f"http://127.0.0.1:{phoenix}",
        mlflow=f"http://127.0.0.1:{mlflow}",
    )
    gateway = Collector(
        collector_binary,
        folder / "gateway",
        "gateway.yaml",
        "backends/victoriametrics.yaml",
        "backends/prometheus-remote-write.yaml",
        "backends/phoenix.yaml",
        "backends/mlflow.yaml",
        VICTORIAMETRICS_ENDPOINT=f"{urls.metrics}/api/v1/write",
        REMOTE_WRITE_ENDPOINT=f"{urls.metrics}/api/v1/write?extra_label=by=remote_write",
        PHOENIX_ENDPOINT=urls.phoenix,
        MLFLOW_ENDPOINT=urls.mlflow,
        HTPASSWD=str(folder / "htpasswd"),
        PRINCIPALS=str(folder / "principals.csv"),
        LOOKUP=str(folder / "lookup.csv"),
        STORE_DIR=str(folder / "store"),
    )
    (folder / "scrape.yaml").write_text(SCRAPE.replace("TARGET", gateway.telemetry_url.split("/")[2]))
    with contextlib.ExitStack() as stack:
        stack.enter_context(
            process(
                folder / "metrics",
                [
                    fetched.go_tool("victoria-metrics"),
                    f"-httpListenAddr=127.0.0.1:{metrics}",
                    f"-storageDataPath={folder}/metrics/data",
                    f"-promscrape.config={folder}/scrape.yaml",
                    "-search.latencyOffset=0s",
                ],
                f"{urls.metrics}/health",
            )
        )
        stack.enter_context(
            process(
                folder / "phoenix",
                [fetched.python_tool("phoenix") / "phoenix", "serve"],
                f"{urls.phoenix}/healthz",
                PHOENIX_HOST="127.0.0.1",
                PHOENIX_PORT=str(phoenix),
                PHOENIX_GRPC_PORT=str(grpc),
                PHOENIX_WORKING_DIR=str(folder / "phoenix"),
            )
        )
        bin_folder = fetched.python_tool("mlflow")
        stack.enter_context(
            process(
                folder / "mlflow",
                [
                    *(bin_folder / "mlflow", "server", "--host", "127.0.0.1", "--port", str(mlflow), "--workers", "1"),
                    *("--backend-store-uri", f"sqlite:///{folder}/mlflow/mlflow.db"),
                ],
                f"{urls.mlflow}/health",
                PATH=f"{bin_folder}:/usr/local/bin:/usr/bin:/bin",
                MLFLOW_DISABLE_TELEMETRY="true",
            )
        )
        stack.enter_context(gateway)
        served = traffic.run(gateway, calls=6, pause=1)
        broken = {"openai_metering.record.state": "final"}
        assert post(gateway.http_endpoint, "logs", logs(broken), "agent") == 200
        yield SimpleNamespace(urls=urls, served=served, gateway=gateway, folder=folder)


def value(stores: Any, query: str) -> list[dict[str, Any]]:
    return get(f"{stores.urls.metrics}/api/v1/query", query=query)["data"]["result"]


@pytest.mark.parametrize("label", ['by=""', 'by="remote_write"'])
def test_victoriametrics_and_remote_write_have_the_totals(stores, label):
    """Input and output tokens, to the token, and by organization."""
    expected = stores.served.tokens()

    def found() -> bool:
        result = value(stores, f"sum({INPUT}{{{label}}})")
        return bool(result) and float(result[0]["value"][1]) == expected

    wait_for(found, f"{expected} tokens", timeout=60)
    (out,) = value(stores, f"sum({OUTPUT}{{{label}}})")
    assert float(out["value"][1]) == stores.served.tokens("completion_tokens")
    by_organization = value(stores, f"sum by (attribution_organization_id) ({INPUT}{{{label}}})")
    assert {one["metric"].get("attribution_organization_id") for one in by_organization} == {
        *(who[0] for who in traffic.WHO if who[0]),
        None,
    }


def expressions(board: str) -> list[tuple[str, str]]:
    content = json.loads(config_path(f"dashboards/{board}.json").read_text(encoding="utf-8"))
    return [(panel["title"], target["expr"]) for panel in content["panels"] for target in panel["targets"]]


EMPTY_WITHOUT = {"Cost": "prices", "Budget used": "recording rules", "Exports given up per second": "a failure"}


@pytest.mark.parametrize("board", ["usage", "pipeline"])
def test_every_query_of_a_board_is_answered(stores, board):
    """With values, by the real store; without an error where there is nothing to show."""
    wait_for(lambda: value(stores, f"sum({INPUT})"), "metrics", timeout=60)
    wait_for(lambda: value(stores, 'up{job="openai-metering-collector"}'), "the Collector's own metrics", timeout=60)
    time.sleep(2)  # rates need a second sample of what is scraped each second
    assert len(expressions(board)) >= 9
    for title, expression in expressions(board):
        query = expression.replace("$__rate_interval", "5m").replace("$__range", "1h").replace("$organization", ".*")
        assert "$" not in query
        if title not in EMPTY_WITHOUT:
            wait_for(lambda q=query: value(stores, q), f"{title}: {query}", timeout=30)
        else:
            value(stores, query)


def test_the_board_counts_the_first_values_of_a_short_process(stores):
    """Which increase() does not: the totals are those that the provider served."""
    (expression,) = [one for title, one in expressions("usage") if title == "Tokens by organization" and INPUT in one]
    query = expression.replace("$__range", "1h").replace("$organization", '.*",by="')

    def found() -> bool:
        return sum(float(one["value"][1]) for one in value(stores, query)) == stores.served.tokens()

    wait_for(found, "the totals of the board", timeout=60)


def test_live_alerts_are_those_of_the_traffic(stores, tmp_path):
    """On the real store: a fifth of the calls are nobody's, one record broke the contract; nothing else is wrong."""
    (port,) = free_ports(1)
    rules = config_path("alerts/usage.yaml").parent
    for path in rules.glob("*.yaml"):  # evaluated each second, since a test has no minutes
        text = re.sub(r"interval: 1m", "interval: 1s", path.read_text(encoding="utf-8"))
        (tmp_path / path.name).write_text(re.sub(r"vector\(50000000\)", "vector(1000)", text))
    url = f"http://127.0.0.1:{port}"
    command = [
        fetched.go_tool("vmalert"),
        f"-rule={tmp_path}/*.yaml",
        f"-datasource.url={stores.urls.metrics}",
        f"-remoteWrite.url={stores.urls.metrics}",
        "-notifier.blackhole",
        f"-httpListenAddr=127.0.0.1:{port}",
    ]
    expected = {"OrganizationBudgetNearlyUsed", "OrganizationBudgetUsed"}
    with process(tmp_path / "vmalert", command, f"{url}/health"):

        def firing() -> set[str]:
            return {one["name"] for one in get(f"{url}/api/v1/alerts")["data"]["alerts"]}

        wait_for(lambda: firing() >= expected, "the alerts", timeout=60)
        second = traffic.run(stores.gateway, calls=8, service="second", pause=0.5)
        stores.served.calls.extend(second.calls)
        for _ in range(3):
            assert post(stores.gateway.http_endpoint, "logs", logs({"openai_metering.operation": "x"}), "agent") == 200
            time.sleep(1.5)  # between two scrapes
        wait_for(lambda: "RecordsInQuarantine" in firing(), "the alert of quarantine", timeout=60)
        assert firing() - {"UnattributedShare"} == {*expected, "RecordsInQuarantine"}
        owners = {
            one["labels"]["attribution_organization_id"]
            for one in get(f"{url}/api/v1/alerts")["data"]["alerts"]
            if one["name"] in expected
        }
        assert owners == {"AcmeSoft"}


def test_phoenix_has_the_traces(stores):
    """Each call once, with its tokens, under the project; its total is that of chats, which is Phoenix's own way."""
    query = "{projects{edges{node{name tokenCountPrompt tokenCountCompletion recordCount}}}}"

    def project() -> dict[str, Any]:
        edges = ask(f"{stores.urls.phoenix}/graphql", {"query": query})["data"]["projects"]["edges"]
        return next((edge["node"] for edge in edges if edge["node"]["name"] == "openai-metering"), {})

    wait_for(lambda: project().get("recordCount") == len(stores.served.calls), "the spans", timeout=60)
    chats = traffic.Served([one for one in stores.served.calls if "chat" in one.path])
    found = project()
    assert found["tokenCountPrompt"] == chats.tokens()
    assert found["tokenCountCompletion"] == chats.tokens("completion_tokens")
    spans = get(f"{stores.urls.phoenix}/v1/projects/openai-metering/spans", limit="1000")["data"]
    assert sum(span["attributes"].get("llm.token_count.prompt", 0) for span in spans) == stores.served.tokens()
    users = {span["attributes"].get("user.id") for span in spans}
    assert {"joe@acme.com", "ann@acme.com", "svc-triage", None} == users


def test_mlflow_has_the_traces(stores):
    """In the experiment, with the tokens of the whole trace."""
    body = {
        "locations": [{"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": "0"}}],
        "max_results": 100,
    }

    def traces() -> list[dict[str, Any]]:
        return ask(f"{stores.urls.mlflow}/api/3.0/mlflow/traces/search", body).get("traces", [])

    wait_for(traces, "a trace", timeout=90)

    def tokens() -> int:
        usages = [one.get("trace_metadata", {}).get("mlflow.trace.tokenUsage", "{}") for one in traces()]
        return sum(json.loads(usage).get("input_tokens", 0) for usage in usages)

    wait_for(lambda: tokens() == stores.served.tokens(), f"{stores.served.tokens()} tokens", timeout=60)


IN_CHDB = """
import json, sys
from chdb import session

database = session.Session(sys.argv[1])
for path in sys.argv[2:4]:
    for statement in open(path, encoding="utf-8").read().split(";\\n"):
        if statement.strip():
            database.query(statement)
for query in sys.argv[4:]:
    print(json.dumps([json.loads(line) for line in str(database.query(query, "JSONEachRow")).splitlines()]))
"""


def in_chdb(folder: Any, rows: list[dict[str, Any]], *queries: str) -> list[list[dict[str, Any]]]:
    """Run clickhouse.sql, insert as the exporter does, and ask."""
    inserted = "INSERT INTO openai_metering.otel_logs FORMAT JSONEachRow\n" + "\n".join(map(json.dumps, rows)) + ";\n"
    (folder / "rows.sql").write_text(inserted, encoding="utf-8")
    python = fetched.python_tool("chdb") / "python"
    schema = config_path("backends/clickhouse.sql")
    done = subprocess.run(
        [python, "-c", IN_CHDB, str(folder / "db"), str(schema), str(folder / "rows.sql"), *queries],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def as_row(resource: dict[str, Any], record: dict[str, Any]) -> dict[str, Any]:
    """A record as the exporter inserts it: attributes as text."""

    def text(found: list[dict[str, Any]]) -> dict[str, str]:
        return {one["key"]: str(next(iter(one["value"].values()))) for one in found}

    of_resource = text(resource.get("attributes", []))
    return {
        "Timestamp": int(record["timeUnixNano"]) / 1e9,
        "ServiceName": of_resource.get("service.name", ""),
        "ResourceAttributes": of_resource,
        "LogAttributes": text(record["attributes"]),
        "EventName": record["eventName"],
    }


def test_the_views_of_clickhouse_count_each_record_once(stores, tmp_path):
    """Every record inserted twice, with pending ones and another log between: the totals are the provider's."""
    rows = []
    for line in (stores.folder / "store" / "records.jsonl").read_text(encoding="utf-8").splitlines():
        for content in documents(line):
            for resource in content["resourceLogs"]:
                for scope in resource["scopeLogs"]:
                    rows += [as_row(resource["resource"], record) for record in scope["logRecords"]]
    assert len(rows) == len(stores.served.calls)
    job = {"openai_metering.record.id": "job", "openai_metering.operation": "batches"}
    pending = {**job, "openai_metering.record.state": "pending", "attribution.organization.id": "AcmeSoft"}
    final = {**pending, "openai_metering.record.state": "final", "gen_ai.usage.input_tokens": "5"}
    nobody = {**final, "gen_ai.usage.input_tokens": "6"}
    del nobody["attribution.organization.id"]
    late = [
        {"Timestamp": 1790000000 + number, "EventName": "openai_metering.usage", "LogAttributes": one}
        for number, one in enumerate((pending, final, nobody))
    ]
    other = {**rows[0], "EventName": "something.else"}
    (total, once, organizations, unknown) = in_chdb(
        tmp_path,
        [*rows, *late, *rows, other, *late],
        "SELECT toUInt32(count()) AS n, toUInt32(sum(input_tokens)) AS i, toUInt32(sum(output_tokens)) AS o FROM openai_metering.usage WHERE record_id != 'job'",
        "SELECT toUInt32(input_tokens) AS i, organization FROM openai_metering.usage WHERE record_id = 'job'",
        "SELECT organization, toUInt32(sum(calls)) AS n FROM openai_metering.usage_by_month GROUP BY organization",
        "SELECT toUInt32(count()) AS n FROM openai_metering.usage WHERE input_tokens IS NULL AND usage_status = 'not_billed'",
    )
    served = stores.served
    assert total == [{"n": len(served.calls), "i": served.tokens(), "o": served.tokens("completion_tokens")}]
    assert once == [{"i": 5, "organization": "AcmeSoft"}]
    counted = {one["organization"]: one["n"] for one in organizations}
    assert set(counted) == {"AcmeSoft", "Globex", "Initech", ""}
    assert sum(counted.values()) == len(served.calls) + 1
    assert unknown[0]["n"] == len([one for one in served.calls if one.status == 429])
