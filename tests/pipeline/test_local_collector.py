"""LocalCollector: nothing acknowledged is lost at a stop, and every way of not starting says what to do."""

import dataclasses
import json
import os
import signal
import socket

import pytest
from opentelemetry._logs import LogRecord
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor

from openai_metering.local import collector as module
from openai_metering.local.collector import LocalCollector, Ports
from openai_metering.local.discovery import CollectorError
from openai_metering.signals import conventions as names


def send(collector, ids):
    """Send usage records one by one; each is acknowledged before the next."""
    provider = LoggerProvider(shutdown_on_exit=False)
    exporter = OTLPLogExporter(endpoint=f"{collector.http_endpoint}/v1/logs")
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    logger = provider.get_logger(names.SCOPE_NAME)
    for record_id in ids:
        logger.emit(LogRecord(event_name=names.USAGE_EVENT, attributes={names.RECORD_ID: record_id}))
    provider.shutdown()


def record_ids(folder):
    """The ids in records.jsonl; a line that a crash cut is passed over."""
    found = []
    for line in (folder / "records.jsonl").read_text(encoding="utf-8").splitlines():
        try:
            content = json.loads(line)
        except ValueError:
            continue
        record = content["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0]
        found.append(record["attributes"][0]["value"]["stringValue"])
    return found


def test_stop_writes_everything(collector_binary, tmp_path):
    """Stopped right after the last acknowledgement, the Collector has written every record."""
    expected = [f"record-{number}" for number in range(300)]
    with LocalCollector(tmp_path, binary=collector_binary) as collector:
        send(collector, expected)
        pid = collector.pid
    assert record_ids(tmp_path) == expected
    assert collector.pid is None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_starts_again_after_kill(collector_binary, tmp_path):
    """After a kill in the middle of a line, a new Collector appends and not even its first record is damaged."""
    with LocalCollector(tmp_path, binary=collector_binary) as collector:
        send(collector, ["before"])
    collector.start()
    collector.kill()
    with (tmp_path / "records.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"resourceLogs":[{"cut')
    with collector:
        send(collector, ["after"])
    assert record_ids(tmp_path) == ["before", "after"]


@pytest.mark.parametrize("folder", ["with space", "colon: and #hash", "zoë", "1234"])
def test_any_folder_name_will_do(collector_binary, tmp_path, folder):
    """A folder's name may hold what YAML would take for syntax."""
    with LocalCollector(tmp_path / folder, binary=collector_binary) as collector:
        send(collector, ["one"])
    assert record_ids(tmp_path / folder) == ["one"]


@pytest.mark.parametrize("taken", ["grpc", "http", "prometheus", "health", "telemetry"])
def test_taken_port_is_replaced(collector_binary, tmp_path, monkeypatch, taken):
    """When another process takes a port between the choice and the start, new ports are chosen."""
    choose = Ports.free
    chosen = []

    def unlucky_at_first():
        ports = choose()
        if not chosen:
            ports = dataclasses.replace(ports, **{taken: occupied.getsockname()[1]})
        chosen.append(ports)
        return ports

    with socket.socket() as occupied:
        occupied.bind(("127.0.0.1", 0))
        occupied.listen()
        monkeypatch.setattr(module.Ports, "free", unlucky_at_first)
        with LocalCollector(tmp_path, binary=collector_binary) as collector:
            send(collector, ["one"])
    assert len(chosen) == 2
    assert record_ids(tmp_path) == ["one"]


def test_port_that_stays_taken(collector_binary, tmp_path, monkeypatch):
    """Taken again and again, the error says so and no process is left."""
    with socket.socket() as occupied:
        occupied.bind(("127.0.0.1", 0))
        occupied.listen()
        port = occupied.getsockname()[1]
        choose = Ports.free
        monkeypatch.setattr(module.Ports, "free", lambda: dataclasses.replace(choose(), grpc=port))
        collector = LocalCollector(tmp_path, binary=collector_binary)
        with pytest.raises(CollectorError, match="ports were taken by other processes"):
            collector.start()
    assert collector.pid is None


def test_folder_that_cannot_be_written(collector_binary, tmp_path):
    """A folder that is none is named, before any process is started."""
    (tmp_path / "file").write_text("")
    collector = LocalCollector(tmp_path / "file", binary=collector_binary)
    with pytest.raises(CollectorError, match=r"cannot write to .*Choose a folder"):
        collector.start()
    assert collector.pid is None


def test_refused_configuration(collector_binary, tmp_path):
    """A configuration the binary does not know is reported with the binary's own words and with what to do."""
    config = tmp_path / "unknown.yaml"
    config.write_text("receivers: {nonexistent: {}}\n")
    with pytest.raises(CollectorError, match=r"(?s)nonexistent.*refuses unknown\.yaml.*build\.py"):
        LocalCollector(tmp_path / "output", binary=collector_binary, config=config).start()


def test_binary_that_is_none(tmp_path):
    """A file that is no program is named."""
    (tmp_path / "collector").write_text("no program")
    with pytest.raises(CollectorError, match=r"does not run.*OTELCOL"):
        LocalCollector(tmp_path / "output", binary=tmp_path / "collector").start()


def test_collector_that_never_gets_ready(tmp_path):
    """A binary that starts and does nothing is given up at the deadline, with what it said, and is not left running."""
    idle = tmp_path / "idle"
    idle.write_text('#!/bin/sh\necho "thinking, pid $$"\nexec cat /dev/zero >/dev/null\n')
    idle.chmod(0o755)
    collector = LocalCollector(tmp_path / "output", binary=idle, start_timeout=0.5)
    with pytest.raises(CollectorError, match=r"not ready within 0 s|not ready within 1 s") as caught:
        collector.start()
    pid = int(str(caught.value).rpartition("pid ")[2])
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_collector_that_dies_is_reported(collector_binary, tmp_path):
    """When the process dies meanwhile, leaving the block says that records may be missing."""

    def dies_inside():
        with LocalCollector(tmp_path, binary=collector_binary) as collector:
            os.kill(collector.pid, signal.SIGKILL)

    with pytest.raises(CollectorError, match="may be missing"):
        dies_inside()


def test_error_inside_is_not_hidden(collector_binary, tmp_path):
    """An error of the block itself is what the caller sees, even when the Collector died too."""

    def fails_inside():
        with LocalCollector(tmp_path, binary=collector_binary) as collector:
            os.kill(collector.pid, signal.SIGKILL)
            raise LookupError("the caller's own")

    with pytest.raises(LookupError, match="the caller's own"):
        fails_inside()


def test_no_address_before_start(tmp_path):
    """Asking for an address too early is an error that says so."""
    with pytest.raises(CollectorError, match="before it is started"):
        _ = LocalCollector(tmp_path).http_endpoint
