"""The receiver's files, held against those of a real Collector."""

import json
import urllib.request

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from openai_metering.local.receiver import SIGNALS, OtlpReceiver
from otlp_messages import REQUESTS, requests

direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
FILES = {"/v1/traces": "spans.jsonl", "/v1/metrics": "metrics.jsonl", "/v1/logs": "logs.jsonl"}


@pytest.fixture
def receiver(tmp_path):
    with OtlpReceiver(tmp_path / "receiver") as running:
        yield running


def examples(path, count):
    """Requests of any content; for logs only such as the Collector's routing leaves whole."""
    found = []

    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(requests(REQUESTS[path]))
    def gather(message):
        if path != "/v1/logs" or all(
            one.scope_logs and all(scope.log_records for scope in one.scope_logs) for one in message.resource_logs
        ):
            found.append(message.SerializeToString())

    gather()
    return found


def post(endpoint, path, body):
    request = urllib.request.Request(endpoint + path, body, {"content-type": "application/x-protobuf"})
    with direct.open(request) as answer:
        return answer.status


def written(path):
    return [json.loads(line) for line in path.read_text().split("\n") if line] if path.exists() else []


def test_both_write_the_same(collector, receiver):
    """Whatever the request, the lines of the receiver are those of the Collector's file exporter."""
    for path in REQUESTS:
        for body in examples(path, 1200):
            assert post(collector.http_endpoint, path, body) == post(receiver.endpoint, path, body) == 200
    collector.stop()
    for path, signal in SIGNALS.items():
        ours = written(receiver.directory / signal.file)
        assert len(ours) > 20
        assert ours == written(collector.output_dir / FILES[path])
