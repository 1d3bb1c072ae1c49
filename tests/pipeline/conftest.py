"""The real Collector of the committed manifest: built once, kept in the cache, never skipped."""

import subprocess
import sys
from pathlib import Path

import pytest

from openai_metering.local.collector import LocalCollector
from openai_metering.local.discovery import config_path


@pytest.fixture(scope="session")
def build_script() -> Path:
    return config_path("distribution/build.py")


@pytest.fixture(scope="session")
def collector_binary(build_script) -> Path:
    built = subprocess.run([sys.executable, str(build_script)], stdout=subprocess.PIPE, text=True, check=False)
    if built.returncode != 0:
        pytest.fail("The Collector cannot be built; what build.py said above tells what to do.", pytrace=False)
    return Path(built.stdout.splitlines()[-1])


@pytest.fixture
def collector(tmp_path, collector_binary):
    with LocalCollector(tmp_path / "output", binary=collector_binary) as running:
        yield running
