"""The demonstration's application on the real Collector: every call arrives in every file, to the token."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from agreement import assert_agrees, by_request_id, spans, tokens_served, usage_records, who
from openai_metering.local.collector import LocalCollector
from openai_metering.local.provider import ProviderStandIn
from openai_metering.signals import conventions as c

APPLICATION = "openai_metering.local.demo_app"
LAUNCHER = str(Path(sys.executable).parent / "opentelemetry-instrument")
DEADLINE = 60.0  # seconds

# How many calls the application makes for whom.
ACME, TRIAGE, NORDBANK = "AcmeSoft", ("BrightHealth", "svc-triage@brighthealth.org", "triage"), "Nordbank"
EXPECTED = Counter(
    {
        (ACME, "joe@acme.com", "key1-hubspot"): 2,
        (ACME, "joe@acme.com", "key2-intranet"): 1,
        (ACME, "ann@acme.com", "key3-reports"): 1,
        TRIAGE: 4,
        ("BrightHealth", "dr.lee@brighthealth.org", "triage"): 1,
        (NORDBANK, "mia@nordbank.example", "key7-batch"): 3,
        (None, None, None): 1,
    }
)
COUNTERS = {
    c.METRIC_INPUT_TOKENS: c.INPUT_TOKENS,
    c.METRIC_OUTPUT_TOKENS: c.OUTPUT_TOKENS,
    c.METRIC_CACHE_READ: c.CACHE_READ_INPUT_TOKENS,
    c.METRIC_CACHE_WRITE: c.CACHE_WRITE_INPUT_TOKENS,
    c.METRIC_REASONING: c.REASONING_OUTPUT_TOKENS,
}


@dataclass(frozen=True)
class Traffic:
    """What the provider served, where the Collector wrote, and what its Prometheus page said at the end."""

    served: list
    folder: Path
    samples: dict


@pytest.fixture(scope="module", params=["http/protobuf", "grpc"])
def traffic(request, collector_binary, tmp_path_factory):
    """The application's calls, sent by either protocol; the launcher's own default is gRPC."""
    folder = tmp_path_factory.mktemp("pipeline") / "output"
    with ProviderStandIn() as provider, LocalCollector(folder, binary=collector_binary) as collector:
        endpoint = collector.grpc_endpoint if request.param == "grpc" else collector.http_endpoint
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "OPENAI_"))}
        environment |= {
            "NO_PROXY": "*",
            "OPENAI_API_KEY": "test",
            "OPENAI_BASE_URL": provider.base_url,
            "OTEL_SERVICE_NAME": "application",
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
            "OTEL_EXPORTER_OTLP_PROTOCOL": request.param,
        }
        done = subprocess.run(
            [LAUNCHER, sys.executable, "-m", APPLICATION],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        served = provider.wait_served(sum(EXPECTED.values()))
        samples = scraped(collector.prometheus_url, len(served))
        assert provider.violations == []
    return Traffic(served, folder, samples)


def scraped(url, calls):
    """The samples of the Prometheus page, once it has all calls: (name, labels) -> value."""
    page = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + DEADLINE
    while True:
        with contextlib.suppress(OSError), page.open(url, timeout=5) as answer:
            text = answer.read().decode()
            samples = {
                (name, frozenset(re.findall(r'(\w+)="([^"]*)"', labels))): float(value)
                for name, labels, value in re.findall(r"^(\w+)\{(.*)\} (\S+)$", text, flags=re.MULTILINE)
            }
            if sum(value for (name, _), value in samples.items() if name == prometheus(c.METRIC_CALLS)) == calls:
                return samples
        assert time.monotonic() < deadline, "the Prometheus page never had all calls"
        threading.Event().wait(0.02)


def prometheus(metric):
    """The name of a counter on a Prometheus page."""
    return f"{metric.replace('.', '_')}_total"


def by_organization(samples, metric):
    """The totals of a counter by organization, without those that are 0; None is what nobody owns."""
    totals = Counter()
    for (name, labels), value in samples.items():
        if name == prometheus(metric):
            totals[dict(labels).get("attribution_organization_id")] += value
    return +totals


def test_every_call_is_in_the_records(traffic):
    """records.jsonl holds each call once, with the tokens that the provider served under its request id."""
    records = usage_records(traffic.folder / "records.jsonl")
    assert_agrees(records, traffic.served)
    assert Counter(map(who, records)) == EXPECTED
    assert len({record[c.RECORD_ID] for record in records}) == len(records)
    assert (traffic.folder / "logs.jsonl").read_text(encoding="utf-8") == ""


def test_every_call_is_in_the_spans(traffic):
    """spans.jsonl holds each call once, with the same tokens and the same names as its record."""
    found = [span["attributes"] for span in spans(traffic.folder / "spans.jsonl")]
    assert_agrees(found, traffic.served)
    records = by_request_id(usage_records(traffic.folder / "records.jsonl"))
    for request_id, attributes in by_request_id(found).items():
        assert who(attributes) == who(records[request_id])
        assert attributes.get(c.USER_ID) == attributes.get(c.SUBSCRIBER_ID)


def test_each_call_has_the_names_of_who_made_it(traffic):
    """The names belong to the very call: what a request asks for tells whose it is."""
    records = by_request_id(usage_records(traffic.folder / "records.jsonl"))
    for answer in traffic.served:
        organization, subscriber, credential = who(records[answer.request_id])
        asked = str(answer.json)
        if answer.json["model"] == "o3-mini" or answer.status == 429:
            assert organization == NORDBANK
        elif answer.json["model"] == "text-embedding-3-small" or "Ticket " in asked:
            assert (organization, subscriber, credential) == TRIAGE
        elif "All tickets" in asked:
            assert (organization, subscriber, credential) == ("BrightHealth", "dr.lee@brighthealth.org", "triage")
        elif answer.json["model"] == "gpt-4o-mini":
            assert (organization, subscriber) == ((ACME, "ann@acme.com") if answer.stream else (None, None))
        else:
            assert organization in {ACME, NORDBANK}
            assert (organization == NORDBANK) == answer.stream


@pytest.mark.parametrize("metric", COUNTERS)
def test_the_prometheus_page_has_the_sums(traffic, metric):
    """Tokens by organization on the Prometheus page are the sums of what was served to it and seen by it."""
    records = by_request_id(usage_records(traffic.folder / "records.jsonl"))
    expected = Counter()
    for answer in traffic.served:
        record = records[answer.request_id]
        if answer.usage is not None and record[c.OUTCOME] == "completed":
            expected[who(record)[0]] += tokens_served(answer.usage).get(COUNTERS[metric], 0)
    assert by_organization(traffic.samples, metric) == +expected


def test_the_prometheus_page_has_all_calls(traffic):
    """Calls by organization on the Prometheus page are those that were made, whatever became of them."""
    expected = Counter()
    for (organization, _, _), calls in EXPECTED.items():
        expected[organization] += calls
    assert by_organization(traffic.samples, c.METRIC_CALLS) == expected
