"""The provider stand-in and the receiver, started for each test."""

import openai
import pytest

from openai_metering.local.provider import ProviderStandIn
from openai_metering.local.receiver import OtlpReceiver


@pytest.fixture
def provider():
    with ProviderStandIn() as running:
        yield running


@pytest.fixture
def client(provider):
    with openai.OpenAI(base_url=provider.base_url, api_key="sk-test", max_retries=0, timeout=20) as client:
        yield client


@pytest.fixture
def receiver(tmp_path):
    with OtlpReceiver(tmp_path / "out") as running:
        yield running
