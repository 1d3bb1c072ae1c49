"""Usage records as OTLP JSON lines on local disk, one file for each process."""

from __future__ import annotations

from openai_metering.ledger.appending import Ledger
from openai_metering.ledger.files import Rules
from openai_metering.ledger.lines import otlp_attributes, otlp_value

__all__ = ["Ledger", "Rules", "otlp_attributes", "otlp_value"]
