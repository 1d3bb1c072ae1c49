"""The real Collector of the committed manifest."""

from pathlib import Path

import pytest
from running import built_collector

from openai_metering.local.collector import LocalCollector
from openai_metering.local.discovery import config_path


@pytest.fixture(scope="session")
def build_script() -> Path:
    return config_path("distribution/build.py")


@pytest.fixture(scope="session")
def collector_binary() -> Path:
    return built_collector()


@pytest.fixture
def collector(tmp_path, collector_binary):
    with LocalCollector(tmp_path / "output", binary=collector_binary) as running:
        yield running
