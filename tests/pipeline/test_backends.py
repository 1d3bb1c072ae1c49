"""backends/ and dialects/ on the real Collector, against endpoints that hold to each vendor's documented format."""

from __future__ import annotations

import contextlib
from collections import Counter

import pytest
import traffic
import zstandard
from endpoint import MESSAGES, Endpoint, Rules
from running import Collector, free_ports, htpasswd, opener, written

from openai_metering.cli import collector as command
from openai_metering.local.discovery import config_path
from waiting import wait_for

KEY = "vendor-key"
# Path, header and signals as each vendor's documentation has them; the variables that lead there.
VENDORS = {
    "otlp": (Rules(headers={"authorization": KEY}), "BACKEND_ENDPOINT", "BACKEND_AUTHORIZATION"),
    "revenium": (
        Rules("/meter/v2/otlp", ("traces", "logs"), {"x-api-key": KEY}, {"/meter/v2/otlp/v1/metrics": 410}),
        "REVENIUM_ENDPOINT",
        "REVENIUM_KEY",
    ),
    "langfuse": (
        Rules("/api/public/otel", ("traces",), {"authorization": KEY, "x-langfuse-ingestion-version": "4"}),
        "LANGFUSE_ENDPOINT",
        "LANGFUSE_AUTHORIZATION",
    ),
    "datadog": (
        Rules("", ("traces",), {"dd-api-key": KEY, "dd-otlp-source": "llmobs"}),
        "DATADOG_ENDPOINT",
        "DATADOG_KEY",
    ),
    "traceloop": (
        Rules("", ("traces",), {"authorization": f"Bearer {KEY}"}),
        "TRACELOOP_ENDPOINT",
        "TRACELOOP_KEY",
    ),
    "openinference": (Rules("", ("traces",)), "OPENINFERENCE_ENDPOINT", "UNUSED"),
    "phoenix": (Rules("", ("traces",), {"authorization": KEY}), "PHOENIX_ENDPOINT", "PHOENIX_AUTHORIZATION"),
    "mlflow": (Rules("", ("traces",), {"x-mlflow-experiment-id": KEY}), "MLFLOW_ENDPOINT", "MLFLOW_EXPERIMENT"),
    "jaeger": (Rules("", ("traces",), {"x-scope-orgid": KEY}), "TRACES_ENDPOINT", "TEMPO_TENANT"),
    "grafana-cloud": (Rules("/otlp", headers={"authorization": KEY}), "GRAFANA_ENDPOINT", "GRAFANA_AUTHORIZATION"),
    "honeycomb": (
        Rules(headers={"x-honeycomb-team": KEY, "x-honeycomb-dataset": "openai-metering"}),
        "HONEYCOMB_ENDPOINT",
        "HONEYCOMB_KEY",
    ),
}
WHOLE = {"otlp", "mlflow", "jaeger", "grafana-cloud", "honeycomb"}  # traces with what is around the calls
INPUT, OUTPUT = "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"


@pytest.fixture(scope="module")
def arrived(collector_binary, tmp_path_factory):
    """One gateway that feeds them all, and what arrived at each of the same real calls."""
    folder = tmp_path_factory.mktemp("backends")
    htpasswd(folder / "htpasswd", ["agent"])
    (folder / "principals.csv").write_text("principal,organizations\nagent,AcmeSoft|Globex|Initech\n")
    (folder / "lookup.csv").write_text("credential,subscriber,organization\n")
    paths = command.backends()
    with contextlib.ExitStack() as stack:
        endpoints = {name: stack.enter_context(Endpoint(rules)) for name, (rules, _, _) in VENDORS.items()}
        variables = {}
        page = f"127.0.0.1:{free_ports(1)[0]}"
        for name, (_, address, key) in VENDORS.items():
            variables |= {address: endpoints[name].url, key: KEY}
        gateway = Collector(
            collector_binary,
            folder,
            "gateway.yaml",
            *(f"{paths[name].parent.name}/{name}.yaml" for name in VENDORS),
            "backends/prometheus.yaml",
            "backends/files.yaml",
            STORE_DIR=str(folder / "store"),
            DECISION_WAIT="1s",
            SAMPLE_PERCENT="100",
            PROMETHEUS_ENDPOINT=page,
            ARCHIVE_DIR=str(folder / "archive"),
            **variables,
        )
        stack.enter_context(gateway)
        served = traffic.run(gateway)
        billed = len(written(folder / "store" / "records.jsonl"))
        assert billed >= len(served.calls)
        for name, endpoint in endpoints.items():
            spans = 31 if name in WHOLE else 30
            wait_for(lambda e=endpoint, n=spans: len(e.items("traces")) >= n, f"spans at {name}", timeout=30)
        for name in ("otlp", "grafana-cloud", "honeycomb"):
            wait_for(lambda e=endpoints[name]: len(e.items("logs")) >= billed, f"records at {name}", timeout=30)
            wait_for(lambda e=endpoints[name]: e.items("metrics"), f"metrics at {name}", timeout=30)
        endpoints["page"], endpoints["archive"] = page, folder / "archive"
        yield endpoints, served


@pytest.mark.parametrize("name", VENDORS)
def test_path_header_and_encoding_are_the_vendors(arrived, name):
    """Nothing was refused by an endpoint that takes only what the documentation says; nothing arrived twice."""
    endpoint = arrived[0][name]
    assert endpoint.refusals == []
    assert max(Counter(span["spanId"] for span in endpoint.items("traces")).values()) == 1


@pytest.mark.parametrize("name", [name for name in VENDORS if name not in WHOLE])
def test_only_calls_of_models_go_to_llm_backends(arrived, name):
    """Spans of web servers and the like would be read as unknown models."""
    endpoints, served = arrived
    spans = endpoints[name].items("traces")
    assert all("gen_ai.operation.name" in span["attributes"] for span in spans)
    assert sum(int(span["attributes"].get(INPUT, 0)) for span in spans) == served.tokens()


# What each dialect calls who and how much, for a chat of joe@acme.com.
NAMES = {
    "revenium": {
        "revenium.organization.name": "AcmeSoft",
        "revenium.subscriber.id": "joe@acme.com",
        "revenium.subscriber.email": "joe@acme.com",
        "revenium.subscriber.credential.name": "key1-hubspot",
    },
    "langfuse": {
        "langfuse.user.id": "joe@acme.com",
        "user.id": "joe@acme.com",
        "langfuse.trace.metadata.organization_id": "AcmeSoft",
        "langfuse.observation.metadata.organization_id": "AcmeSoft",
        "langfuse.trace.metadata.subscriber_credential": "key1-hubspot",
        "langfuse.observation.type": "generation",
    },
    "openinference": {
        "openinference.span.kind": "LLM",
        "user.id": "joe@acme.com",
        "metadata": '{"organization_id":"AcmeSoft"}',
    },
    "traceloop": {
        "traceloop.association.properties.customer_id": "AcmeSoft",
        "traceloop.association.properties.user_id": "joe@acme.com",
        "traceloop.association.properties.credential": "key1-hubspot",
        "traceloop.span.kind": "llm",
        "llm.request.type": "chat",
    },
    "datadog": {
        "user_id": "joe@acme.com",
        "organization_id": "AcmeSoft",
        "subscriber_credential": "key1-hubspot",
        "user.id": "joe@acme.com",
    },
    "phoenix": {"user.id": "joe@acme.com"},
}
# Under which further name each has what the conventions call input and output tokens.
NUMBERS = {
    "openinference": {INPUT: "llm.token_count.prompt", OUTPUT: "llm.token_count.completion"},
    "traceloop": {INPUT: "gen_ai.usage.prompt_tokens", OUTPUT: "gen_ai.usage.completion_tokens"},
}


@pytest.mark.parametrize("name", NAMES)
def test_who_and_how_much_are_under_the_names_of_the_dialect(arrived, name):
    """For each call; and nobody is invented for a call of nobody."""
    spans = [span["attributes"] for span in arrived[0][name].items("traces")]
    ours = [
        one
        for one in spans
        if one.get("attribution.credential.id") == "key1-hubspot" and one["gen_ai.operation.name"] == "chat"
    ]
    assert len(ours) == 5
    for one in ours:
        assert NAMES[name].items() <= one.items()
    for one in spans:
        for convention, dialect in NUMBERS.get(name, {}).items():
            assert one.get(dialect) == one.get(convention)
    nobody = [one for one in spans if one.get("attribution.status") == "unattributed"]
    assert len(nobody) == 6
    who = set(NAMES[name]) - {key for key in NAMES[name] if key.endswith((".type", ".kind"))}
    assert not any(who & one.keys() for one in nobody)


def test_revenium_claims_a_payload_by_its_resource(arrived):
    """The provider stands on the resource, too."""
    key = "gen_ai.provider.name"
    taken = [
        (resource, span["attributes"]) for signal, resource, span in arrived[0]["revenium"].taken if signal == "traces"
    ]
    assert {resource.get(key) for resource, _ in taken} == {span[key] for _, span in taken} != {None}


@pytest.mark.parametrize("name", ["otlp", "grafana-cloud", "honeycomb"])
def test_the_bill_arrives_where_records_are_taken(arrived, name):
    """Each record once, to the token, each with an event name; totals of metrics agree."""
    endpoints, served = arrived
    records = endpoints[name].items("logs")
    ids = [one["attributes"]["openai_metering.record.id"] for one in records]
    assert len(ids) == len(set(ids))
    assert {one["eventName"] for one in records} == {"openai_metering.usage"}
    assert sum(int(one["attributes"].get(INPUT, 0)) for one in records) == served.tokens()
    points = [
        point
        for metric in endpoints[name].items("metrics")
        if metric["name"] == "gen_ai.client.inference.usage.input_tokens"
        for point in metric["sum"]["dataPoints"]
    ]
    latest: dict[tuple, int] = {}
    for point in points:
        key = tuple(sorted((one["key"], str(one["value"])) for one in point["attributes"]))
        latest[key] = max(latest.get(key, 0), int(point["asInt"]))
    assert sum(latest.values()) == served.tokens()


def test_the_page_to_scrape_has_the_totals(arrived):
    """Under the names that alerts and boards ask for."""
    endpoints, served = arrived
    name = "gen_ai_client_inference_usage_input_tokens_total{"

    def total() -> float:
        lines = opener.open(f"http://{endpoints['page']}/metrics", timeout=10).read().decode().splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(name))

    wait_for(lambda: total() == served.tokens(), f"{served.tokens()} tokens on the page")


def test_the_archive_has_the_records(arrived):
    """Each as protobuf behind its length, compressed."""
    endpoints, served = arrived
    content = (endpoints["archive"] / "records.pb.zst").read_bytes()
    found, place = 0, 0
    while place < len(content):
        size = int.from_bytes(content[place : place + 4], "big")
        block = zstandard.ZstdDecompressor().decompressobj().decompress(content[place + 4 : place + 4 + size])
        message = MESSAGES["logs"].FromString(block)
        found += sum(len(scope.log_records) for one in message.resource_logs for scope in one.scope_logs)
        place += 4 + size
    assert found == len(served.calls)


FILES = sorted(
    path
    for path in config_path("gateway.yaml").parent.rglob("*.yaml")
    if not {"distribution", "deploy", "alerts"} & set(path.parts)
)


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_file_begins_with_its_promise(path):
    """Promise, needs, runs on, how to start, what to watch: in this order, before anything else."""
    lines = path.read_text(encoding="utf-8").split("\n\n")[0].splitlines()
    assert all(line.startswith("#") for line in lines)
    heads = [line.split(":")[0] for line in lines if not line.startswith("#  ")]
    assert heads[:5] == ["# Promise", "# Needs", "# Runs on", "# Start with", "# Watch"]
    assert all(len(line) <= 130 for line in lines)
