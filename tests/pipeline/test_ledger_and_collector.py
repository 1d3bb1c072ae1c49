"""A ledger and a real Collector: its file receiver takes the lines, replay sends them, and they come out equal."""

from __future__ import annotations

import json
import subprocess
import time

import pytest

from openai_metering import OpenAIInstrumentor
from openai_metering.cli import main
from openai_metering.local.provider import ProviderStandIn
from waiting import wait_for

CONFIG = """\
receivers:
  otlp_json_file:
    include: ["{ledger}/*.jsonl"]
    start_at: beginning
    include_file_name: false
    poll_interval: 50ms
exporters:
  file:
    path: {output}
    flush_interval: 50ms
service:
  telemetry:
    metrics:
      level: none
  pipelines:
    logs:
      receivers: [otlp_json_file]
      exporters: [file]
"""


@pytest.fixture
def ledger(tmp_path):
    """A ledger of real calls: plain, streamed, refused, stopped, with names in any script, over several files."""
    import openai

    folder = tmp_path / "ledger"
    with ProviderStandIn(keep=0) as provider:
        OpenAIInstrumentor().instrument(ledger_dir=str(folder), ledger_rotate_bytes=20_000)
        client = openai.OpenAI(base_url=provider.base_url, api_key="test", max_retries=0)
        messages = [{"role": "user", "content": "Hello"}]
        for number in range(30):
            who = {"organization_id": "Bücher & Söhne", "subscriber_identity": "日本語 🚀", "number": number}
            client.chat.completions.create(model="gpt-4o", messages=messages, usage_metadata=who)
            list(client.chat.completions.create(model="gpt-4o", messages=messages, stream=True, usage_metadata=who))
            with pytest.raises(openai.RateLimitError):
                client.responses.create(
                    model="gpt-4o", input="Hello", extra_headers={"x-standin-scenario": "status_429"}
                )
            with client.chat.completions.create(model="gpt-4o", messages=messages, stream=True) as stream:
                next(iter(stream))
        OpenAIInstrumentor().uninstrument()
    assert len(list(folder.iterdir())) > 3
    return folder


def records_in(*files):
    """Resource, scope and record of each line, by the record's id."""
    found = {}
    for file in files:
        for line in file.read_text("utf-8").splitlines():
            for resource in json.loads(line)["resourceLogs"]:
                for scope in resource["scopeLogs"]:
                    for record in scope["logRecords"]:
                        attributes = {pair["key"]: pair["value"] for pair in record["attributes"]}
                        identity = attributes["openai_metering.record.id"]["stringValue"]
                        rest = {key: value for key, value in record.items() if key not in ("attributes", "body")}
                        found[identity] = (
                            resource["resource"],
                            scope["scope"],
                            scope["schemaUrl"],
                            attributes,
                            rest,
                            record.get("body") or {},
                        )
    return found


def test_the_file_receiver_takes_the_lines(ledger, tmp_path, collector_binary):
    """What the Collector reads from the ledger and writes to a file is what was in the ledger, record for record."""
    output, config = tmp_path / "output.jsonl", tmp_path / "config.yaml"
    config.write_text(CONFIG.format(ledger=ledger, output=output))
    expected = records_in(*ledger.glob("*.jsonl"))
    assert len(expected) == 120
    with (tmp_path / "log").open("wb") as log:
        collector = subprocess.Popen([collector_binary, "--config", config], stdout=log, stderr=subprocess.STDOUT)
        try:

            def written():
                assert collector.poll() is None, (tmp_path / "log").read_text()[-3000:]
                return output.exists() and output.read_text("utf-8").count('"openai_metering.record.id"') >= len(
                    expected
                )

            wait_for(written, "the Collector's file", 30)
        finally:
            collector.terminate()
            collector.wait(30)
    assert records_in(output) == expected


def test_replay_sends_the_lines(ledger, collector, capsys):
    """What replay sends arrives equal; sent twice, it is still as many records to who counts the ids."""
    expected = records_in(*ledger.glob("*.jsonl"))
    started = time.monotonic()
    for _ in range(2):
        assert main(["replay", str(ledger), "--endpoint", collector.http_endpoint, "--restart"]) == 0
    print(f"{2 * len(expected)} records replayed in {time.monotonic() - started:.2f} s")
    collector.stop()
    assert records_in(collector.output_dir / "records.jsonl") == expected
    capsys.readouterr()
    assert main(["report", str(collector.output_dir / "records.jsonl"), "--format", "json"]) == 0
    arrived = json.loads(capsys.readouterr().out)
    assert main(["report", str(ledger), "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["total"] == arrived["total"]
    assert arrived["duplicates"] == len(expected)
