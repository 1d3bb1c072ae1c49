"""Each test starts without what an earlier one has made the process remember."""

from __future__ import annotations

import pytest
from emitting import Telemetry

from openai_metering import errors


@pytest.fixture(autouse=True)
def _fresh():
    errors.reset()
    before = list(errors.listeners)
    yield
    errors.listeners[:] = before
    errors.reset()


@pytest.fixture
def emitted():
    """Providers that keep what they get; nothing is instrumented."""
    return Telemetry()
