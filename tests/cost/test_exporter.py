"""Usage records are priced where they are exported, and nowhere else."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from decimal import Decimal
from pathlib import Path

import openai
import pytest
from facts import at, facts
from opentelemetry import metrics
from opentelemetry._logs import LogRecord
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from openai_metering import OpenAIInstrumentor, errors
from openai_metering.cli.costs import KEPT
from openai_metering.cli.records import read
from openai_metering.exporter import PricingExporter
from openai_metering.local.receiver import OtlpReceiver
from openai_metering.pricing import Pricer
from openai_metering.signals import conventions as c
from waiting import wait_for

PRICES = """\
version = "test"
[[cost]]
input_mtok = 1
cache_write_mtok = 1
output_mtok = 2
[[cost]]
tier = "*"
input_mtok = 1
cache_write_mtok = 1
output_mtok = 2
[[price]]
factor = 2
"""


class Kept:
    """Keeps what it gets, and which threads brought it."""

    def __init__(self):
        self.items = []
        self.threads = set()

    def export(self, batch):
        self.threads.add(threading.get_ident())
        self.items += batch

    def shutdown(self):
        pass

    def force_flush(self, timeout_millis=30_000):
        return True

    @property
    def attributes(self):
        return [dict(item.log_record.attributes) for item in self.items]


@pytest.fixture
def prices(tmp_path):
    file = tmp_path / "prices.toml"
    file.write_text(PRICES, encoding="utf-8")
    return str(file)


@pytest.fixture(autouse=True)
def _fresh_warnings():
    errors.reset()
    yield
    errors.reset()


def emit(exporter, attributes, event=c.USAGE_EVENT):
    """Send one log record through the SDK."""
    logs = LoggerProvider()
    logs.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    logs.get_logger("test").emit(LogRecord(timestamp=at(), event_name=event, attributes=attributes))


def test_real_calls_are_priced_in_the_exporting_thread(provider, prices):
    """A metered call arrives with its cost and its price; the thread that called never priced it."""
    kept = Kept()
    logs = LoggerProvider()
    logs.add_log_record_processor(BatchLogRecordProcessor(PricingExporter(kept, prices), schedule_delay_millis=50))
    instrumentor = OpenAIInstrumentor()
    instrumentor.instrument(logger_provider=logs)
    try:
        client = openai.OpenAI(base_url=provider.base_url)
        answer = client.responses.create(model="gpt-4o", input="Hello", usage_metadata={"organization_id": "A"})
        wait_for(lambda: kept.attributes, "the record")
    finally:
        instrumentor.uninstrument()
    usage = answer.usage
    (record,) = kept.attributes
    cost = usage.input_tokens + 2 * usage.output_tokens
    assert round(float(record[c.COST_AMOUNT]) * 1e6) == cost
    assert round(float(record[c.PRICE_AMOUNT]) * 1e6) == 2 * cost
    assert (record[c.COST_STATUS], record[c.COST_SOURCE], record[c.COST_TABLE_VERSION]) == ("priced", "file", "test")
    assert threading.get_ident() not in kept.threads
    logs.shutdown()


def test_other_processors_see_the_record_as_it_was(prices):
    """Pricing makes a copy: an exporter beside it gets the record without a cost."""
    priced, plain = Kept(), Kept()
    logs = LoggerProvider()
    for exporter in (PricingExporter(priced, prices), plain):
        logs.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    logs.get_logger("test").emit(
        LogRecord(timestamp=at(), event_name=c.USAGE_EVENT, attributes=facts(model="m", input=1, output=1))
    )
    assert priced.attributes[0][c.COST_AMOUNT] == "0.000003"
    assert plain.attributes == [facts(model="m", input=1, output=1)]
    logs.shutdown()


def test_other_log_records_pass(prices):
    """What is no usage record goes through untouched, whatever it says."""
    kept = Kept()
    emit(PricingExporter(kept, prices), facts(model="m", input=1, output=1), event="somebody.else")
    assert kept.attributes == [facts(model="m", input=1, output=1)]


@pytest.mark.parametrize("text", ["nonsense", None])
def test_a_price_file_that_cannot_be_read_stops_no_record(tmp_path, caplog, text):
    """Records go out without prices, and one warning says what is wrong."""
    file = tmp_path / "prices.toml"
    if text is not None:
        file.write_text(text, encoding="utf-8")
    kept = Kept()
    exporter = PricingExporter(kept, str(file))
    for _ in range(2):
        emit(exporter, facts(model="m", input=1, output=1))
    assert kept.attributes == [facts(model="m", input=1, output=1)] * 2
    (warning,) = (record for record in caplog.records if record.name == "openai_metering")
    assert "prices.toml" in warning.getMessage()


def test_records_of_nonsense_are_sent(prices):
    """Attributes of wrong types and values give no error and lose no record."""
    kept = Kept()
    odd = facts(model="m", input="many", output=-1) | {c.USAGE_RAW: "{", c.SERVER_ADDRESS: "openrouter.ai"}
    emit(PricingExporter(kept, prices), odd)
    (record,) = kept.attributes
    assert {name: record[name] for name in odd} == odd
    assert errors.counts["pricing"] == 0


def test_the_metric(prices):
    """The sum of the costs, for dashboards: by organization, provider, models and currency."""
    reader = InMemoryMetricReader()
    before = metrics._internal._METER_PROVIDER
    metrics._internal._METER_PROVIDER = MeterProvider([reader])
    try:
        emit(PricingExporter(Kept(), prices), facts(model="m", organization="A", input=1_000_000, output=0))
        (metric,) = reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics
    finally:
        metrics._internal._METER_PROVIDER = before
    (point,) = metric.data.data_points
    assert (metric.name, metric.unit, point.value) == (c.METRIC_COST, "{currency}", 1)
    assert dict(point.attributes) == {
        c.OPERATION_NAME: "chat",
        c.PROVIDER_NAME: "openai",
        c.RESPONSE_MODEL: "m",
        c.ORGANIZATION_ID: "A",
        c.COST_CURRENCY: "USD",
        c.COST_STATUS: "priced",
    }


def test_under_the_launcher(provider, prices, tmp_path):
    """`OTEL_LOGS_EXPORTER=otlp_priced` is all that an application under OpenTelemetry's launcher needs."""
    app = tmp_path / "app.py"
    app.write_text("import openai\nclient = openai.OpenAI()\nclient.responses.create(model='gpt-4o', input='Hello')\n")
    with OtlpReceiver(tmp_path / "received") as receiver:
        environ = {
            **os.environ,
            "OPENAI_BASE_URL": provider.base_url,
            "OPENAI_METERING_PRICES": prices,
            "OTEL_LOGS_EXPORTER": "otlp_priced",
            "OTEL_TRACES_EXPORTER": "none",
            "OTEL_METRICS_EXPORTER": "none",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
        }
        launcher = Path(sys.executable).with_name("opentelemetry-instrument")
        subprocess.run([launcher, sys.executable, app], env=environ, check=True, timeout=120)
    (line,) = read([tmp_path / "received" / "records.jsonl"], KEPT)
    (row,) = line.rows
    found = dict(row.facts)
    assert (found[c.COST_STATUS], found[c.COST_SOURCE], found[c.COST_TABLE_VERSION]) == ("priced", "file", "test")
    assert Decimal(found[c.PRICE_AMOUNT]) == 2 * Decimal(found[c.COST_AMOUNT]) > 0


@pytest.mark.parametrize("name", ["price", "attributes"])
def test_a_fault_in_pricing_costs_the_price_alone(prices, monkeypatch, name):
    """Wherever pricing breaks, the record goes out without a price, and the fault is counted."""

    def broken(*_, **__):
        raise RecursionError

    monkeypatch.setattr(Pricer, name, broken)
    kept = Kept()
    emit(PricingExporter(kept, prices), facts(model="m", input=1, output=1))
    assert kept.attributes == [facts(model="m", input=1, output=1)]
    assert errors.counts["pricing"] == 1


def test_an_item_that_is_no_record_is_sent(prices):
    """What cannot even be read is sent as it is, and counted."""

    class Broken:
        log_record = None

    kept = Kept()
    PricingExporter(kept, prices).export([broken := Broken()])
    assert kept.items == [broken]
    assert errors.counts["pricing"] == 1
