"""Heavy backends, fetched from package registries: the session `backends` (make test-backends) runs these tests."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "pipeline"))

collect_ignore_glob = [] if os.environ.get("OPENAI_METERING_TEST_BACKENDS") else ["test_*.py"]


@pytest.fixture(scope="session")
def collector_binary() -> Path:
    from running import built_collector

    return built_collector()
