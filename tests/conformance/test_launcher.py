"""A real process under `opentelemetry-instrument`, with no line of code for it: what a real receiver got."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from forms import MAIN, WHO

from openai_metering.local.receiver import OtlpReceiver
from waiting import ENDS_WITH_OPEN_STREAM

if TYPE_CHECKING:
    from collections.abc import Iterator

CHAT = MAIN[0]
LAUNCHER = Path(sys.executable).parent / "opentelemetry-instrument"

# A plain call, a stream, and one that is refused: the application knows nothing of telemetry but the keyword.
APPLICATION = f"""
import openai
client = openai.OpenAI(max_retries=0)
who = {WHO!r}
client.chat.completions.create(**{CHAT.request!r}, usage_metadata=who)
list(client.chat.completions.create(**{CHAT.request!r}, stream=True, usage_metadata=who))
try:
    client.embeddings.create(
        model="text-embedding-3-small", input="x", usage_metadata=who,
        extra_headers={{"x-standin-scenario": "status_404"}},
    )
except openai.NotFoundError:
    pass
"""


class Received:
    """What the receiver wrote."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def lines(self, name: str) -> Iterator[dict[str, Any]]:
        file = self.folder / name
        if file.exists():
            yield from map(json.loads, file.read_text("utf-8").splitlines())

    @property
    def spans(self) -> list[dict[str, Any]]:
        """Our spans."""
        return [
            {**span, "attributes": attributes(span)}
            for line in self.lines("spans.jsonl")
            for resource in line["resourceSpans"]
            for scope in resource["scopeSpans"]
            if scope["scope"]["name"] == "openai_metering"
            for span in scope["spans"]
        ]

    @property
    def records(self) -> list[dict[str, Any]]:
        """The attributes of the usage records."""
        return records(self.lines("records.jsonl"))

    @property
    def services(self) -> set[str]:
        """The services that records came from."""
        return {
            attributes(resource["resource"])["service.name"]
            for line in self.lines("records.jsonl")
            for resource in line["resourceLogs"]
        }

    def total(self, metric: str) -> int:
        """The sum over all points of a counter, of the last time that it was sent."""
        last: dict[str, int] = {}
        for line in self.lines("metrics.jsonl"):
            for resource in line["resourceMetrics"]:
                for scope in resource["scopeMetrics"]:
                    for found in scope["metrics"]:
                        if found["name"] == metric:
                            for point in found["sum"]["dataPoints"]:
                                last[json.dumps(point["attributes"])] = int(point["asInt"])
        return sum(last.values())


def attributes(owner: dict[str, Any]) -> dict[str, Any]:
    return {item["key"]: plain(item["value"]) for item in owner["attributes"]}


def plain(value: dict[str, Any]) -> Any:
    ((kind, content),) = value.items()
    return int(content) if kind == "intValue" else content


def records(lines: Any) -> list[dict[str, Any]]:
    return [
        attributes(record)
        for line in lines
        for resource in line["resourceLogs"]
        for scope in resource["scopeLogs"]
        for record in scope["logRecords"]
        if record.get("eventName") == "openai_metering.usage"
    ]


def launch(
    folder: Path, provider: Any, script: str = APPLICATION, ends: tuple[int, ...] = (0,), **environment: str
) -> Received:
    """Run a script under the launcher, with a receiver that is there until it has ended."""
    with OtlpReceiver(folder) as receiver:
        done = subprocess.run(
            [LAUNCHER, sys.executable, "-c", textwrap.dedent(script)],
            env={
                **os.environ,
                "OPENAI_BASE_URL": provider.base_url,
                "OPENAI_API_KEY": "test",
                "OTEL_SERVICE_NAME": "launched",
                "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
                "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
                **environment,
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode in ends, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return Received(folder)


def check_records(found: list[dict[str, Any]], provider: Any) -> None:
    """Every call has its record, with the three names and the provider's own numbers."""
    assert len(found) == len(provider.served) == 3
    by_request = {record["openai_metering.request.id"]: record for record in found}
    for served in provider.served:
        record = by_request[served.request_id]
        assert record["attribution.organization.id"] == "AcmeSoft"
        assert record["attribution.subscriber.id"] == "joe@acme.com"
        assert record["attribution.credential.id"] == "key1-hubspot"
        if served.status == 404:
            assert record["openai_metering.usage.status"] == "not_billed"
        else:
            assert record["gen_ai.usage.input_tokens"] == served.usage["prompt_tokens"]
            assert record["gen_ai.usage.output_tokens"] == served.usage["completion_tokens"]
    assert len({record["openai_metering.record.id"] for record in found}) == 3


def check_metrics(received: Received, provider: Any) -> None:
    """The counters agree with what was served."""
    served = [served.usage for served in provider.served if served.usage]
    inputs, outputs = (sum(usage[name] for usage in served) for name in ("prompt_tokens", "completion_tokens"))
    assert received.total("gen_ai.client.inference.usage.input_tokens") == inputs
    assert received.total("gen_ai.client.inference.usage.output_tokens") == outputs
    assert received.total("openai_metering.calls") == 3


def test_all_three_signals_arrive(provider: Any, tmp_path: Path) -> None:
    """Spans, metrics and records of a launched application arrive, with names and tokens."""
    received = launch(tmp_path, provider)
    check_records(received.records, provider)
    check_metrics(received, provider)
    assert received.services == {"launched"}
    spans = received.spans
    assert sorted(span["name"] for span in spans) == ["chat gpt-4o", "chat gpt-4o", "embeddings text-embedding-3-small"]
    assert {span["kind"] for span in spans} == {3}
    for span in spans:
        assert span["attributes"]["attribution.organization.id"] == "AcmeSoft"
        assert span["attributes"]["user.id"] == "joe@acme.com"
    tokens = sorted(span["attributes"].get("gen_ai.usage.input_tokens", 0) for span in spans)
    assert tokens == sorted(record.get("gen_ai.usage.input_tokens", 0) for record in received.records)


@pytest.mark.parametrize(
    "environment",
    [{"OTEL_TRACES_EXPORTER": "none"}, {"OTEL_TRACES_SAMPLER": "always_off"}],
    ids=lambda environment: next(iter(environment)),
)
def test_records_and_metrics_do_not_depend_on_traces(provider: Any, tmp_path: Path, environment: Any) -> None:
    """Without traces, or with none sampled, records and metrics are complete."""
    received = launch(tmp_path, provider, **environment)
    assert received.spans == []
    check_records(received.records, provider)
    check_metrics(received, provider)


def test_a_ledger_in_place_of_logs(provider: Any, tmp_path: Path) -> None:
    """With a ledger's folder records are on disk, and not sent as logs a second time."""
    ledger = tmp_path / "ledger"
    received = launch(tmp_path / "otlp", provider, OPENAI_METERING_LEDGER_DIR=str(ledger))
    assert received.records == []
    lines = [json.loads(line) for file in ledger.glob("*.jsonl") for line in file.read_text("utf-8").splitlines()]
    check_records(records(lines), provider)
    (resource,) = {json.dumps(line["resourceLogs"][0]["resource"]) for line in lines}
    assert attributes(json.loads(resource))["service.name"] == "launched"
    check_metrics(received, provider)


def test_switched_off_by_the_launcher(provider: Any, tmp_path: Path) -> None:
    """OTEL_PYTHON_DISABLED_INSTRUMENTATIONS=openai_metering switches all of it off."""
    script = f"""
    import openai
    client = openai.OpenAI()
    list(client.chat.completions.create(**{CHAT.request!r}, stream=True))
    try:
        client.chat.completions.create(**{CHAT.request!r}, usage_metadata={WHO!r})
    except TypeError:
        pass
    """
    received = launch(tmp_path, provider, script, OTEL_PYTHON_DISABLED_INSTRUMENTATIONS="openai_metering")
    assert received.records == received.spans == []
    assert received.total("openai_metering.calls") == 0
    assert len(provider.served) == 1
    assert "stream_options" not in provider.served[0].json


def test_switched_off_by_our_own_option(provider: Any, tmp_path: Path) -> None:
    """OPENAI_METERING_ENABLED=false emits nothing and leaves requests alone; calls with the keyword go on."""
    received = launch(tmp_path, provider, OPENAI_METERING_ENABLED="false")
    assert received.records == received.spans == []
    assert received.total("openai_metering.calls") == 0
    assert len(provider.served) == 3
    assert not any("stream_options" in served.json for served in provider.served)


def test_child_processes(provider: Any, tmp_path: Path) -> None:
    """A child process of the application is metered as well, and its records are its own."""
    script = f"""
    import subprocess, sys, openai
    openai.OpenAI().embeddings.create(
        model="text-embedding-3-small", input="x", usage_metadata={{"organization_id": "Parent"}}
    )
    subprocess.run([sys.executable, "-c", {APPLICATION!r}], check=True)
    """
    received = launch(tmp_path, provider, script)
    found = [record["attribution.organization.id"] for record in received.records]
    assert sorted(found) == ["AcmeSoft", "AcmeSoft", "AcmeSoft", "Parent"]


def test_multiprocessing(provider: Any, tmp_path: Path) -> None:
    """Workers that `multiprocessing` spawns are metered as well: their records are in the ledger when they end."""
    worker = tmp_path / "application.py"
    worker.write_text(
        textwrap.dedent("""
        import multiprocessing
        import openai

        def work(number):
            openai.OpenAI().embeddings.create(
                model="text-embedding-3-small", input="x", usage_metadata={"organization_id": f"Worker {number}"}
            )

        if __name__ == "__main__":
            processes = [
                multiprocessing.get_context("spawn").Process(target=work, args=(number,)) for number in range(2)
            ]
            [process.start() for process in processes]
            [process.join() for process in processes]
            assert [process.exitcode for process in processes] == [0, 0]
        """),
        "utf-8",
    )
    ledger = tmp_path / "ledger"
    launch(
        tmp_path / "otlp",
        provider,
        f"import runpy; runpy.run_path({str(worker)!r}, run_name='__main__')",
        OPENAI_METERING_LEDGER_DIR=str(ledger),
        PYTHONPATH=os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]),
    )
    lines = [json.loads(line) for file in ledger.glob("*.jsonl") for line in file.read_text("utf-8").splitlines()]
    assert sorted(record["attribution.organization.id"] for record in records(lines)) == ["Worker 0", "Worker 1"]


def test_openai_is_not_imported_for_the_application(provider: Any, tmp_path: Path) -> None:
    """A process that has no use for the SDK does not pay for its import, nor for any of its dependencies."""
    script = """
    import sys
    import openai_metering
    found = [name for name in sys.modules if name.partition(".")[0] in ("openai", "httpx", "httpx2", "pydantic")]
    assert not found, found
    """
    others = [
        entry.name for entry in entry_points(group="opentelemetry_instrumentor") if entry.name != "openai_metering"
    ]
    received = launch(tmp_path, provider, script, OTEL_PYTHON_DISABLED_INSTRUMENTATIONS=",".join(others))
    assert received.records == []


def test_an_open_stream_at_the_end_of_the_process(provider: Any, tmp_path: Path) -> None:
    """The record of a stream that is open when the process ends is sent, before telemetry shuts down."""
    script = f"""
    import openai
    client = openai.OpenAI()
    stream = client.chat.completions.create(**{CHAT.request!r}, stream=True, usage_metadata={WHO!r})
    next(iter(stream))
    """
    received = launch(tmp_path, provider, script, ENDS_WITH_OPEN_STREAM)
    (record,) = received.records
    assert record["openai_metering.outcome"] == "dropped"
    assert len(received.spans) == 1


def test_nobody_receives(provider: Any, tmp_path: Path) -> None:
    """Where the receiver refuses everything, the application goes on, and each call is made once."""
    with OtlpReceiver(tmp_path / "gone") as receiver:
        gone = receiver.endpoint
    received = launch(
        tmp_path / "here",
        provider,
        OTEL_EXPORTER_OTLP_ENDPOINT=gone,
        OTEL_EXPORTER_OTLP_TIMEOUT="1",
        OTEL_LOG_LEVEL="fatal",
    )
    assert received.records == []
    assert len(provider.served) == 3
