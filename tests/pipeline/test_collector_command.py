"""`openai-metering collector`: what it writes is accepted by the real Collector, runs, and keeps what is the user's."""

from __future__ import annotations

import csv
import os
import signal
import socket
import stat
import subprocess
import sys
import urllib.request

import pytest
from running import free_ports, opener, written

from openai_metering.cli import collector, main
from openai_metering.local.discovery import config_path
from waiting import wait_for


def test_a_gateway_is_ready_to_run(collector_binary, tmp_path):
    """Written, validated and started by one command; a sender of the table is let in with the password that was made."""
    folder = tmp_path / "gateway"
    (tmp_path / "tenants.csv").write_text("organization,file\nAcmeSoft,acme\n", encoding="utf-8")
    http, grpc, health, telemetry = free_ports(4)
    variables = {
        "OTELCOL": str(collector_binary),
        "OPENAI_METERING_OTLP_HTTP_ENDPOINT": f"127.0.0.1:{http}",
        "OPENAI_METERING_OTLP_GRPC_ENDPOINT": f"127.0.0.1:{grpc}",
        "OPENAI_METERING_HEALTH_ENDPOINT": f"127.0.0.1:{health}",
        "OPENAI_METERING_TELEMETRY_PORT": str(telemetry),
    }
    command = ["collector", "gateway", "--run"]
    command += ["--tenants", str(tmp_path / "tenants.csv"), "--output", str(folder)]
    code = "import sys; from openai_metering.cli import main; sys.exit(main(sys.argv[1:]))"
    with (tmp_path / "log").open("wb") as log:
        running = subprocess.Popen(
            [sys.executable, "-c", code, *command], env={**os.environ, **variables}, stdout=log, stderr=log
        )
    try:

        def healthy() -> bool:
            assert running.poll() is None, (tmp_path / "log").read_text()
            try:
                return bool(opener.open(f"http://127.0.0.1:{health}/", timeout=1).status == 200)
            except OSError:
                return False

        wait_for(healthy, "the gateway", timeout=60)
        assert stat.S_IMODE((folder / "passwords.csv").stat().st_mode) == 0o600
        passwords = dict(csv.reader((folder / "passwords.csv").read_text().splitlines()))
        assert set(passwords) == {"acme-agent", "reseller-agent"}
        record = (
            '{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"eventName":"openai_metering.usage","attributes":['
            '{"key":"openai_metering.record.id","value":{"stringValue":"r1"}},'
            '{"key":"openai_metering.record.state","value":{"stringValue":"pending"}},'
            '{"key":"openai_metering.operation","value":{"stringValue":"batches"}}]}]}]}]}'
        )
        manager = urllib.request.HTTPPasswordMgrWithPriorAuth()
        url = f"http://127.0.0.1:{http}/v1/logs"
        manager.add_password(None, url, "acme-agent", passwords["acme-agent"], is_authenticated=True)
        sender = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPBasicAuthHandler(manager)
        )
        request = urllib.request.Request(url, record.encode(), {"content-type": "application/json"})
        assert sender.open(request, timeout=10).status == 200
        store = folder / "openai-metering-gateway"
        wait_for(lambda: written(store / "records.jsonl"), "the record in the bill")
        wait_for(lambda: written(store / "tenants" / "acme.jsonl"), "the record in the tenant's file")
    finally:
        running.send_signal(signal.SIGTERM)
        assert running.wait(30) == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["local"],
        ["agent", "--kafka", "broker:9092"],
        ["gateway", "--kafka", "broker:9092", "--oidc", "--mtls"],
        ["gateway", *(part for name in collector.backends() for part in ("--backend", name))],
    ],
    ids=lambda arguments: " ".join(arguments[:3]),
)
def test_every_need_is_accepted_by_the_collector(collector_binary, tmp_path, monkeypatch, capsys, arguments):
    """Each role, each way through Kafka, all backends and dialects at once: with no variable set."""
    monkeypatch.setenv("OTELCOL", str(collector_binary))
    assert main(["collector", *arguments, "--output", str(tmp_path)]) == 0, capsys.readouterr().err
    assert f"valid for {collector_binary}" in capsys.readouterr().out


def test_what_the_user_has_set_is_kept(tmp_path):
    """Tables, passwords and variables survive a second writing; each variable of the files is listed once."""
    first = ["collector", "gateway", "--no-validate", "--output", str(tmp_path)]
    assert main(first) == 0
    (tmp_path / "lookup.csv").write_text("credential,subscriber,organization\nmine,,Mine\n")
    before = (tmp_path / "htpasswd").read_text()
    lines = (tmp_path / "collector.env").read_text().splitlines()
    names = [line.lstrip("#").split("=")[0] for line in lines if "=" in line]
    assert len(names) == len(set(names)) > 15
    (tmp_path / "collector.env").write_text("OPENAI_METERING_STRICT=true\n")
    assert main([*first, "--kafka", "broker:9092"]) == 0
    assert (tmp_path / "lookup.csv").read_text().endswith("mine,,Mine\n")
    assert (tmp_path / "htpasswd").read_text() == before
    kept = (tmp_path / "collector.env").read_text().splitlines()
    assert {"OPENAI_METERING_STRICT=true", "OPENAI_METERING_KAFKA_BROKERS=broker:9092"} <= set(kept)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "local, agent, gateway"),
        (["gateway", "--backend", "nothing"], "there is no backend nothing"),
        (["agent", "--backend", "revenium"], "for the role gateway"),
        (["local", "--kafka", "broker:9092"], "agent and gateway"),
        (["gateway", "--tenants", "not-there.csv"], "not-there.csv cannot be read"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path, capsys, arguments, said):
    """With what to do instead."""
    assert main(["collector", *arguments, "--output", str(tmp_path)]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("program", ["false", "true"])
def test_a_collector_that_accepts_nothing_is_named(tmp_path, monkeypatch, capsys, program):
    """With its own words, and how to come by one."""
    monkeypatch.setenv("OTELCOL", program)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setenv("OPENAI_METERING_CACHE", str(tmp_path / "cache"))
    assert main(["collector", "local", "--output", str(tmp_path / "output")]) == 2
    said = capsys.readouterr().err
    assert "refuses it" in said
    assert "build.py" in said


def test_the_list_names_every_backend(capsys):
    """With its promise, in one line each."""
    assert main(["collector", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(collector.backends())
    assert all(len(line) > 40 for line in lines)
    assert {path.stem for path in (config_path("gateway.yaml").parent / "dialects").iterdir()} <= set(
        collector.backends()
    )


def test_a_chosen_collector_that_is_not_there(tmp_path, monkeypatch, capsys):
    """Whoever names one means that one: no other is taken in silence."""
    monkeypatch.setenv("OTELCOL", str(tmp_path / "nothing"))
    assert main(["collector", "local", "--output", str(tmp_path / "output")]) == 2
    assert f"OTELCOL: {tmp_path / 'nothing'} cannot be executed" in capsys.readouterr().err


def test_a_port_in_use(collector_binary, tmp_path, monkeypatch, capsys):
    """It is found before the start, with the variable that chooses another one."""
    monkeypatch.setenv("OTELCOL", str(collector_binary))
    http, grpc, health, telemetry = free_ports(4)
    monkeypatch.setenv("OPENAI_METERING_OTLP_HTTP_ENDPOINT", f"127.0.0.1:{http}")
    monkeypatch.setenv("OPENAI_METERING_OTLP_GRPC_ENDPOINT", f"127.0.0.1:{grpc}")
    monkeypatch.setenv("OPENAI_METERING_HEALTH_ENDPOINT", f"127.0.0.1:{health}")
    monkeypatch.setenv("OPENAI_METERING_TELEMETRY_PORT", str(telemetry))
    with socket.create_server(("127.0.0.1", http)), socket.create_server(("127.0.0.1", telemetry)):
        assert main(["collector", "gateway", "--run", "--output", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert f"127.0.0.1:{http} (OPENAI_METERING_OTLP_HTTP_ENDPOINT)" in said
    assert f"127.0.0.1:{telemetry} (OPENAI_METERING_TELEMETRY_PORT)" in said
    assert f"127.0.0.1:{grpc}" not in said
    assert str(tmp_path / "collector.env") in said


def test_samples_are_said_to_be_samples(tmp_path, capsys):
    """In the files, and once where they are written; the remark is nobody who gets a password."""
    command = ["collector", "gateway", "--no-validate", "--output", str(tmp_path)]
    assert main(command) == 0
    said = capsys.readouterr().err
    for name in collector.SAMPLES:
        assert f"{tmp_path / name}: " in said
        assert "# SAMPLES: replace" in (tmp_path / name).read_text().splitlines()[1]
    assert "#" not in (tmp_path / "passwords.csv").read_text().replace("-", "")
    assert main(command) == 0
    assert "sample" not in capsys.readouterr().err
