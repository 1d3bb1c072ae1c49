"""Log exporters that price usage records on their way out, in the thread that exports."""

from __future__ import annotations

import copy
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from opentelemetry import metrics
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk._logs import export as sdk

from openai_metering import errors
from openai_metering.pricing import PriceFileError, Pricer
from openai_metering.settings import load, otlp_logs_protocol
from openai_metering.signals import conventions as c
from openai_metering.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Base = sdk.LogRecordExporter
else:
    Base = getattr(sdk, "LogRecordExporter", None) or sdk.LogExporter  # its name before OpenTelemetry 1.39


class PricingExporter(Base):
    """Prices usage records and hands them on to another exporter; other log records pass as they are.

    Use it inside a batch processor, so that the application never waits for it::

        provider.add_log_record_processor(BatchLogRecordProcessor(PricingExporter(OTLPLogExporter())))

    Args:
        exporter: gets the priced records.
        prices: path of a price file; where left out, the one that ``OPENAI_METERING_PRICES`` names, if any.
    """

    def __init__(self, exporter: Any, prices: str | None = None) -> None:
        self._exporter = exporter
        self._prices = prices
        self._pricer: Pricer | None = None
        self._loaded = False
        meter = metrics.get_meter(c.SCOPE_NAME, VERSION, schema_url=c.SCHEMA_URL)
        self._cost = meter.create_counter(c.METRIC_COST, "{currency}", "Cost of calls, for dashboards.")

    def export(self, batch: Sequence[Any]) -> Any:
        """Price the usage records of a batch, and export it."""
        return self._exporter.export([self._priced(item) for item in batch])

    def shutdown(self) -> None:
        """Shut the other exporter down."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Flush the other exporter."""
        flush = getattr(self._exporter, "force_flush", None)
        return True if flush is None else bool(flush(timeout_millis))

    def _priced(self, item: Any) -> Any:
        try:
            return self._with_price(item)
        except Exception as error:  # a record without its price is better than none
            errors.swallow("pricing", error)
            return item

    def _with_price(self, item: Any) -> Any:
        record = item.log_record
        if record.event_name != c.USAGE_EVENT:
            return item
        pricer = self._pricer if self._loaded else self._load()
        if pricer is None:
            return item
        found = pricer.attributes(record.attributes, record.timestamp)
        if not found:
            return item
        try:
            self._count(record.attributes, found)
        except Exception as error:  # the record has its price, whatever becomes of the sum
            errors.swallow("metrics", error)
        # A copy: other processors may be sending the same record.
        priced, its_record = copy.copy(item), copy.copy(record)
        its_record.attributes = BoundedAttributes(attributes={**record.attributes, **found}, immutable=False)
        object.__setattr__(priced, "log_record", its_record)
        return priced

    def _load(self) -> Pricer | None:
        # At the first record and not at the start of the process: the list prices take 60 ms to load.
        self._loaded = True
        try:
            pricer = Pricer.load(self._prices or load({})[0].prices)
        except PriceFileError as error:
            errors.warn_once("prices", "Usage records go out without prices: %s", error)
            return None
        if not pricer.has_prices:
            errors.warn_once(
                "prices",
                "Usage records go out without prices: install openai-metering[cost] (list prices need Python 3.11) "
                "or name a price file in OPENAI_METERING_PRICES.",
            )
            return None
        self._pricer = pricer
        return pricer

    def _count(self, facts: Mapping[str, Any], found: Mapping[str, Any]) -> None:
        if c.COST_AMOUNT not in found:
            return
        names = (c.OPERATION_NAME, c.PROVIDER_NAME, c.REQUEST_MODEL, c.RESPONSE_MODEL, c.ORGANIZATION_ID)
        attributes = {name: facts[name] for name in names if name in facts}
        attributes |= {c.COST_CURRENCY: found[c.COST_CURRENCY], c.COST_STATUS: found[c.COST_STATUS]}
        self._cost.add(float(Decimal(found[c.COST_AMOUNT])), attributes)


class PricingOTLPExporter(PricingExporter):
    """The OTLP exporter, with prices: ``OTEL_LOGS_EXPORTER=otlp_priced`` for OpenTelemetry's launcher."""

    def __init__(self) -> None:
        if otlp_logs_protocol() == "http/protobuf":
            from opentelemetry.exporter.otlp.proto.http._log_exporter import (  # noqa: PLC0415 - one of the two
                OTLPLogExporter,
            )
        else:
            from opentelemetry.exporter.otlp.proto.grpc._log_exporter import (  # type: ignore[assignment]  # noqa: PLC0415
                OTLPLogExporter,
            )
        super().__init__(OTLPLogExporter())
