"""What all tests share: the provider stand-in, and what telemetry came out of a metered process."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

import record_schema
from in_memory import Telemetry, metered

if TYPE_CHECKING:
    from collections.abc import Iterator

os.environ.setdefault("OPENAI_API_KEY", "test")
for name in [name for name in os.environ if name.startswith(("OTEL_", "OPENAI_METERING_")) and "TEST_SIZE" not in name]:
    del os.environ[name]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out tests whose parameters are derived from the SDK, where this SDK has nothing to derive them from."""
    lacking = [
        item
        for item in items
        if any("empty parameter set" in mark.kwargs.get("reason", "") for mark in item.iter_markers("skip"))
    ]
    config.hook.pytest_deselected(items=lacking)
    items[:] = [item for item in items if item not in lacking]


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    """A metered process, with everything that comes out."""
    with metered() as made:
        yield made
    assert record_schema.strangers(made.records) == []  # every record of every test is as docs/record.md says


@pytest.fixture(scope="session")
def provider_process() -> Iterator[Any]:
    """The provider stand-in, started once."""
    from openai_metering.local.provider import ProviderStandIn

    with ProviderStandIn() as provider:
        yield provider


@pytest.fixture
def provider(provider_process: Any) -> Any:
    """The provider stand-in, with nothing served yet. It is strict: what identifies people must never reach it."""
    provider_process.reset()
    yield provider_process
    assert provider_process.violations == []
