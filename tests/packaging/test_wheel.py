"""The wheel, built and installed as a user gets it, without any extra."""

from __future__ import annotations

import email
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from uv import find_uv_bin

from openai_metering import OpenAIInstrumentor

ROOT = Path(__file__).parents[2]
DEADLINE = 600.0  # seconds; a package index may be slow
PRE_RELEASE = "3.99.0rc1"


def run(*command, cwd, status=0, **changes):
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env={
            name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV", "OTEL"))
        }
        | changes,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert done.returncode == status, done.stderr
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    run(find_uv_bin(), "build", "--wheel", "--out-dir", folder, ROOT, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def files(wheel):
    """The content of the wheel, by name."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def metadata(files):
    (content,) = (content for name, content in files.items() if name.endswith(".dist-info/METADATA"))
    return email.message_from_bytes(content)


@pytest.fixture(scope="module")
def required(metadata):
    """What the wheel requires, by extra; the empty name is what is always required."""
    found = {"": []}
    for text in metadata.get_all("Requires-Dist"):
        requirement = Requirement(text)
        extra = str(requirement.marker).split('"')[1] if requirement.marker else ""
        found.setdefault(extra, []).append(requirement)
    return found


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The folder of the programs of a fresh virtual environment that holds the wheel, and no extra."""
    folder = tmp_path_factory.mktemp("fresh")
    run(find_uv_bin(), "venv", "--python", sys.executable, folder / "venv", cwd=folder)
    programs = folder / "venv" / ("Scripts" if os.name == "nt" else "bin")
    run(find_uv_bin(), "pip", "install", "--python", programs / "python", wheel, cwd=folder)
    return programs


def python(installed, cwd, code, **changes):
    """What a program prints in the fresh environment."""
    return run(installed / "python", "-W", "error", "-c", code, cwd=cwd, **changes).stdout.split()


def test_only_three_packages_are_required(required):
    """An application gets OpenTelemetry's API and instrumentation base and wrapt, and nothing else of ours."""
    assert sorted(requirement.name for requirement in required[""]) == [
        "opentelemetry-api",
        "opentelemetry-instrumentation",
        "wrapt",
    ]


def test_what_is_in_the_wheel(files):
    """Types and the whole Collector configuration are inside; tests, examples and caches are not."""
    committed = run("git", "ls-files", "src/openai_metering", "collector-config", cwd=ROOT).stdout.split()
    wanted = {
        name.removeprefix("src/") if name.startswith("src/") else f"openai_metering/{name}"
        for name in committed
        if (ROOT / name).exists()
    }
    assert "openai_metering/py.typed" in wanted
    assert "openai_metering/collector-config/local.yaml" in wanted
    assert wanted - files.keys() == set()
    assert {name.split("/")[0].split("-")[0] for name in files} == {"openai_metering"}
    assert not any("__pycache__" in name or name.endswith((".pyc", ".jsonl")) for name in files)
    assert any(name.endswith("licenses/LICENSE") for name in files)
    assert any(name.endswith("vendor/chart.LICENSE.md") for name in files)


def test_metadata(metadata):
    """The index page says what it is, under which licence and for which Python."""
    assert (metadata["Name"], metadata["License-Expression"]) == ("openai-metering", "Apache-2.0")
    assert metadata["Requires-Python"] == ">=3.10"
    assert metadata.get_payload().startswith("# openai-metering\n")
    extras = {"instruments", "otlp", "report", "tables", "cost", "directory", "demo", "dev"}
    assert set(metadata.get_all("Provides-Extra")) == extras


def test_import_needs_no_extra(installed, tmp_path):
    """Every public name is there without the SDK, and switching on without it is no error."""
    code = (
        "import sys, openai_metering as m; m.OpenAIInstrumentor().instrument();"
        "print(all(hasattr(m, name) for name in m.__all__), m.__version__, 'openai' in sys.modules)"
    )
    assert python(installed, tmp_path, code) == ["True", "0.1.0", "False"]


def test_entry_point(installed, tmp_path):
    """The launcher finds the instrumentor under a name of its own."""
    code = (
        "from importlib.metadata import entry_points;"
        "(found,) = entry_points(group='opentelemetry_instrumentor', name='openai_metering');"
        "print(found.value, found.load().__name__)"
    )
    assert python(installed, tmp_path, code) == ["openai_metering:OpenAIInstrumentor", "OpenAIInstrumentor"]


def test_the_configuration_is_found_where_it_is_installed(installed, tmp_path):
    """The Collector's file is the wheel's own, not that of a checkout."""
    code = "from openai_metering.local.discovery import config_path as p; print(p('local.yaml'), p('distribution/build.py'))"
    for name in python(installed, tmp_path, code):
        assert Path(name).is_relative_to(installed.parent)


def test_the_command_helps(installed, tmp_path):
    """`openai-metering --help` works without an extra and names every command."""
    said = run(installed / "openai-metering", "--help", cwd=tmp_path).stdout
    assert all(command in said for command in ("demo", "report"))
    assert run(installed / "openai-metering", "--version", cwd=tmp_path).stdout == "openai-metering 0.1.0\n"


def test_the_demo_names_its_extra(installed, tmp_path):
    """Without the extra the demo says what to install, and leaves nothing behind."""
    done = run(installed / "openai-metering", "demo", cwd=tmp_path, status=2)
    assert done.stdout == ""
    assert done.stderr.endswith("pip install 'openai-metering[demo]'.\n")
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_the_report_names_its_extra(installed, tmp_path):
    """A table needs an extra and says which; CSV and JSON need none."""
    ledger = tmp_path / "ledger.jsonl"
    ledger.write_text(
        '{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"eventName":"openai_metering.usage","attributes":'
        '[{"key":"openai_metering.record.id","value":{"stringValue":"one"}}]}]}]}]}\n'
    )
    done = run(installed / "openai-metering", "report", ledger, cwd=tmp_path, status=2)
    assert "pip install 'openai-metering[report]'" in done.stderr
    for form in ("csv", "json"):
        assert "unknown" in run(installed / "openai-metering", "report", ledger, "--format", form, cwd=tmp_path).stdout


def test_the_sdk_versions_are_said_once(required):
    """The extra and the instrumentor name the same versions, from 1.40 on, without an end and with pre-releases."""
    (extra,) = required["instruments"]
    (stated,) = map(Requirement, OpenAIInstrumentor().instrumentation_dependencies())
    assert (extra.name, extra.specifier) == (stated.name, stated.specifier)
    assert all(stated.specifier.contains(version) for version in ("1.40.0", "2.0.0", PRE_RELEASE, "9.0.0", "9.0.0a1"))
    assert not stated.specifier.contains("1.39.0")


@pytest.mark.parametrize(("version", "admitted"), [(PRE_RELEASE, "True"), ("1.40.0", "True"), ("1.39.0", "False")])
def test_the_launcher_admits_a_pre_release(installed, tmp_path, version, admitted):
    """OpenTelemetry's own check of what is installed lets the instrumentor load beside a pre-release of the SDK."""
    found = tmp_path / f"openai-{version}.dist-info"
    found.mkdir()
    (found / "METADATA").write_text(f"Metadata-Version: 2.1\nName: openai\nVersion: {version}\n")
    code = (
        "from opentelemetry.instrumentation.dependencies import get_dependency_conflicts as check;"
        "from openai_metering import OpenAIInstrumentor as I;"
        "print(check(I().instrumentation_dependencies()) is None)"
    )
    assert python(installed, tmp_path, code, PYTHONPATH=str(tmp_path)) == [admitted]
