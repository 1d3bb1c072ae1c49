"""find_collector takes the first Collector that accepts local.yaml and remembers why others were not taken."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from openai_metering.local import discovery as module
from openai_metering.local.collector import LocalCollector
from openai_metering.local.discovery import CollectorError, config_path, find_collector


@pytest.fixture
def folder(tmp_path):
    """An otherwise empty PATH."""
    path = tmp_path / "bin"
    path.mkdir()
    return path


@pytest.fixture
def environ(folder, collector_binary):
    """The test's environment with nothing but that folder on PATH."""
    return {**{name: value for name, value in os.environ.items() if name != "OTELCOL"}, "PATH": str(folder)}


def refusing(path, text):
    """A Collector too old for the configuration."""
    path.write_text(f"#!/bin/sh\necho '{text}' >&2\nexit 1\n")
    path.chmod(0o755)
    return path


def test_order(folder, environ, collector_binary):
    """OTELCOL beats otelcol-metering beats otelcol-contrib on PATH beats the cache."""
    (folder / "chosen").symlink_to(collector_binary)
    (folder / "otelcol-metering").symlink_to(collector_binary)
    (folder / "otelcol-contrib").symlink_to(collector_binary)
    environ["OTELCOL"] = "chosen"
    assert find_collector(environ).binary == folder / "chosen"
    environ["OTELCOL"] = str(folder / "chosen")
    assert find_collector(environ).source == "OTELCOL"
    del environ["OTELCOL"]
    assert find_collector(environ).binary == folder / "otelcol-metering"
    (folder / "otelcol-metering").unlink()
    assert find_collector(environ).source == "otelcol-contrib on PATH"
    (folder / "otelcol-contrib").unlink()
    choice = find_collector(environ)
    assert (choice.binary, choice.source) == (collector_binary, "the cache of build.py")


def test_refused_ones_are_passed_over(folder, environ, collector_binary):
    """A Collector that does not accept the configuration is not taken, and its own words are kept."""
    refusing(folder / "otelcol-metering", "unknown type: delta_to_cumulative")
    refusing(folder / "otelcol-contrib", "unknown connector: routing")
    environ["OTELCOL"] = "/nonexistent/otelcol"
    choice = find_collector(environ)
    assert choice.binary == collector_binary
    reasons = "\n".join(map(str, choice.refused))
    assert [one.candidate.split(" (")[0] for one in choice.refused] == [
        "OTELCOL",
        "otelcol-metering on PATH",
        "otelcol-contrib on PATH",
    ]
    for text in ("/nonexistent/otelcol cannot be executed", "unknown type: delta_to_cumulative", "unknown connector"):
        assert text in reasons


def test_none_at_all(folder, environ, tmp_path):
    """Without any usable Collector the error lists every reason and the command that builds one."""
    refusing(folder / "otelcol-contrib", "too old")
    environ["OPENAI_METERING_CACHE"] = str(tmp_path / "empty")
    with pytest.raises(CollectorError) as caught:
        find_collector(environ)
    message = str(caught.value)
    for text in (
        "otelcol-metering on PATH: not there",
        "too old",
        "not built yet",
        "distribution/build.py",
        "set OTELCOL",
    ):
        assert text in message


def test_found_one_is_started(folder, environ, collector_binary, monkeypatch, tmp_path):
    """Without an explicit binary, LocalCollector runs the one that is found."""
    (folder / "otelcol-metering").symlink_to(collector_binary)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("OTELCOL", raising=False)
    with LocalCollector(tmp_path / "output") as collector:
        assert collector.pid is not None
        command = Path(f"/proc/{collector.pid}/cmdline")
        if command.exists():
            assert command.read_bytes().split(b"\0")[0] == os.fsencode(folder / "otelcol-metering")


def test_config_path_in_a_checkout():
    """In a checkout the folder is beside src."""
    assert config_path("local.yaml") == Path(__file__).parents[2] / "collector-config" / "local.yaml"


def test_config_path_in_an_installed_package(tmp_path):
    """In an installed wheel the folder is inside the package."""
    package = tmp_path / "openai_metering"
    (package / "local").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "local" / "__init__.py").touch()
    shutil.copy(module.__file__, package / "local")
    (package / "collector-config").mkdir()
    (package / "collector-config" / "local.yaml").touch()
    code = "from openai_metering.local.discovery import config_path; print(config_path('local.yaml'))"
    environ = {**os.environ, "PYTHONPATH": str(tmp_path)}
    answer = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
    assert Path(answer.stdout.strip()) == package / "collector-config" / "local.yaml"


def test_config_path_of_nothing():
    """A file that is not there is named, with the places looked at."""
    with pytest.raises(CollectorError, match=r"No nothing\.yaml in .*collector-config"):
        config_path("nothing.yaml")
