"""The doctor command: it finds what is wrong, says what to do, and its test record is billed to nobody."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from openai_metering.cli import main
from openai_metering.cli.diagnosis import all_findings
from openai_metering.cli.doctor import TEST_EVENT
from openai_metering.cli.records import read
from openai_metering.local.receiver import OtlpReceiver

PROGRAMS = Path(sys.executable).parent


@pytest.fixture(autouse=True)
def untouched(monkeypatch):
    """No variable of the machine decides about a finding."""
    for name in list(os.environ):
        if name.startswith(("OPENAI_", "OTEL_")):
            monkeypatch.delenv(name)


@pytest.fixture
def closed_port():
    """A port on which nobody listens."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        yield one.getsockname()[1]


def finding(name):
    return next(one for one in all_findings() if one.name == name)


def test_everything_is_right(tmp_path, monkeypatch, capsys):
    """With a ledger and an endpoint that takes records all is well, the calls of the SDK are tried, and a test record arrives."""
    monkeypatch.setenv("OPENAI_METERING_LEDGER_DIR", str(tmp_path / "ledger"))
    with OtlpReceiver(tmp_path / "received") as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
        status = main(["doctor", "--send", "--arrives", str(tmp_path / "received"), "--format", "json"])
    found = json.loads(capsys.readouterr().out)["findings"]
    assert status == 0, found
    tried = next(one for one in found if one["name"] == "openai")
    assert tried["state"] == "ok"
    assert {"chat stream", "responses", "embeddings"} <= set(tried["text"].partition("(")[2].strip(")").split(", "))
    assert [one["state"] for one in found if one["name"] == "test record"] == ["ok", "ok"]
    assert not (tmp_path / "ledger").exists()
    files = sorted((tmp_path / "received").glob("*.jsonl"))
    assert any(TEST_EVENT in file.read_text() for file in files)
    assert [row for line in read(files) for row in line.rows] == []


def test_nobody_listens(closed_port, monkeypatch, capsys):
    """An endpoint that does not answer is wrong, by its status, too, and what to do stands at the end."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://someone:pass-word@127.0.0.1:{closed_port}")
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert f"endpoint: 127.0.0.1:{closed_port} (grpc) does not answer: Connection refused" in out
    assert "1 to put right:\n  1. endpoint: Start the Collector" in out
    assert "pass-word" not in out


def test_beside_a_ledger_a_dead_endpoint_is_a_warning(closed_port, monkeypatch, tmp_path):
    """What is in the ledger is not lost."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{closed_port}")
    monkeypatch.setenv("OPENAI_METERING_LEDGER_DIR", str(tmp_path))
    assert finding("endpoint").state == "warning"


@pytest.mark.parametrize(
    ("variables", "name", "said"),
    [
        ({"OPENAI_METERING_ENABLED": "false"}, "options", "nothing is metered"),
        ({"OPENAI_METERING_SPANS": "sometimes"}, "options", "allowed: auto, always, never"),
        ({"OPENAI_METERING_ENABLD": "1"}, "options", "no such option. Did you mean OPENAI_METERING_ENABLED?"),
        ({"OPENAI_METERING_LEDGER_DIR": "/dev/null/ledger"}, "ledger", "cannot be written"),
        ({"OPENAI_METERING_LEDGER_DIR": "/dev/null/ledger"}, "records", "go nowhere: the ledger cannot be written"),
        (
            {"OPENAI_METERING_LEDGER_DIR": "/dev/null/ledger", "OPENAI_METERING_RECORDS": "both"},
            "records",
            "go to OTLP alone: the ledger cannot be written",
        ),
        ({"OPENAI_METERING_RECORDS": "ledger"}, "ledger", "OPENAI_METERING_LEDGER_DIR is not set"),
        ({"OPENAI_METERING_RECORDS": "none"}, "records", "no record is kept"),
        ({"OPENAI_METERING_KEY_MAP": "0123456789abcdef=prod"}, "key map", "it has no secret"),
        ({"OPENAI_METERING_KEY_MAP": "nowhere.json"}, "key map", "cannot be read"),
        ({"OTEL_LOGS_EXPORTER": "console"}, "exporters", "no record leaves by OTLP"),
        ({"OTEL_SDK_DISABLED": "true"}, "exporters", "nothing leaves by OTLP"),
    ],
)
def test_what_is_wrong_with_the_environment(monkeypatch, variables, name, said):
    """Each mistake is found, and comes with what to do."""
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    found = finding(name)
    assert found.state == "wrong"
    assert said in found.text
    assert found.advice


def test_seams_that_do_not_hold(monkeypatch, tmp_path, capsys):
    """Where calls of the installed SDK are not metered, each form says so."""
    code = "import openai_metering.seams.http as http\nhttp.patch_clients = lambda *_: None\n"
    code += "import openai_metering.instrumentor as one\none._METERING_PATCHES['openai._base_client'] = http.patch_clients\n"
    (tmp_path / "sitecustomize.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("OPENAI_METERING_LEDGER_DIR", str(tmp_path))
    assert main(["doctor"]) == 1
    assert ": chat: no usage record" in capsys.readouterr().out


def test_under_the_launcher(tmp_path):
    """Started like the application, it says what the launcher made of it."""
    variables = {
        "OPENAI_METERING_LEDGER_DIR": str(tmp_path),
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_TRACES_EXPORTER": "none",
    }
    ran = subprocess.run(
        [PROGRAMS / "opentelemetry-instrument", PROGRAMS / "openai-metering", "doctor", "--format", "json"],
        env=os.environ
        | variables
        | {"OTEL_LOGS_EXPORTER": "none", "PATH": f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    found = {one["name"]: one for one in json.loads(ran.stdout)["findings"]}
    assert found["launcher"]["state"] == "ok", ran.stderr
    assert found["openai"]["state"] == "ok"
    assert ran.returncode == 0


def test_switched_off_for_the_launcher(tmp_path):
    """Where the launcher was told to leave us out, that is found."""
    variables = {
        "OPENAI_METERING_LEDGER_DIR": str(tmp_path),
        "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "openai_metering",
    }
    code = "from openai_metering.cli.diagnosis import _launcher as look; print(next(look()).state)"
    exporters = {f"OTEL_{name}_EXPORTER": "none" for name in ("LOGS", "METRICS", "TRACES")}
    ran = subprocess.run(
        [PROGRAMS / "opentelemetry-instrument", sys.executable, "-c", code],
        env=os.environ | variables | exporters,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.stdout.strip() == "wrong", ran.stderr
