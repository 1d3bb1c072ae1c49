"""What the calls of a report cost: amounts that came with their records, and those that are made when it is read."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from openai_metering.cli.failure import Failure
from openai_metering.cli.records import facts_of
from openai_metering.pricing import FACTS, Amount, Priced, PriceFileError, Pricer
from openai_metering.pricing.amounts import unpriced
from openai_metering.signals import conventions as c

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from openai_metering.cli.records import UsageRow

_COST: Final = (c.COST_STATUS, c.COST_AMOUNT, c.COST_CURRENCY, c.COST_SOURCE, c.COST_TABLE_VERSION, c.COST_REASON)
_PRICE: Final = (
    c.PRICE_STATUS,
    c.PRICE_AMOUNT,
    c.PRICE_CURRENCY,
    c.PRICE_SOURCE,
    c.PRICE_TABLE_VERSION,
    c.PRICE_REASON,
)

WRITTEN: Final = frozenset({*_COST, *_PRICE, c.COST_UNPRICED_UNITS, c.PRICE_UNPRICED_UNITS})
"""The attributes that pricing puts onto a record."""

KEPT: Final = FACTS | WRITTEN
"""The attributes of a record that this needs."""


class Costs:
    """Prices the calls of a report.

    An amount that a record brought along stays, unless a price file is named: then every call is priced again.

    Args:
        prices: path of a price file.

    Raises:
        Failure: the file is not as it should be.
    """

    def __init__(self, prices: str | None) -> None:
        try:
            self._pricer = Pricer.load(prices)
        except PriceFileError as error:
            raise Failure(str(error)) from error
        self._keep = prices is None
        self.currency = self._pricer.currency

    @property
    def has_prices(self) -> bool:
        """Whether there is a table to price by."""
        return self._pricer.has_prices

    def of(self, row: UsageRow) -> Priced | None:
        """Return what a call costs; ``None`` where nothing is billed."""
        facts = dict(row.facts)
        if self._keep and c.COST_STATUS in facts:
            price = self._recorded(facts, _PRICE, c.PRICE_UNPRICED_UNITS) if c.PRICE_STATUS in facts else None
            return Priced(self._recorded(facts, _COST, c.COST_UNPRICED_UNITS), price)
        if row.organization is not None:  # a directory may know it where the record does not
            facts[c.ORGANIZATION_ID] = row.organization
        priced = self._pricer.price(facts, row.time_unix_nano)
        other = priced is not None and priced.cost.value is not None and priced.cost.currency != self.currency
        return Priced(unpriced("currency"), None) if other else priced

    def settle(self, rows: Iterable[UsageRow]) -> None:
        """Take the currency of the amounts that came along, where they have one and no price file says another."""
        if self._keep:
            found = {value for row in rows for name, value in row.facts if name == c.COST_CURRENCY}
            if len(found) == 1:
                (self.currency,) = found

    def add_to(self, record: dict[str, Any]) -> None:
        """Put its cost and price onto one usage record in OTLP's JSON form, as it is sent again.

        A job's record that says nobody stays as it is where only the record of its order tells for whom it was: the two
        are joined by who reads them.

        Raises:
            ValueError: its attributes are not those of OTLP.
        """
        facts = facts_of(record, KEPT)
        if self._keep and c.COST_STATUS in facts:
            return
        time = record.get("timeUnixNano")
        nanoseconds = int(time) if isinstance(time, (int, str)) and str(time).isdecimal() else None
        found = self._pricer.attributes(facts, nanoseconds or None)
        if found:
            others = [one for one in record["attributes"] if one["key"] not in WRITTEN]
            record["attributes"] = [*others, *({"key": key, "value": {"stringValue": found[key]}} for key in found)]

    def _recorded(self, facts: Mapping[str, str], names: tuple[str, ...], units_name: str) -> Amount:
        status, amount, currency, source, version, reason = (facts.get(name) for name in names)
        units = tuple(facts.get(units_name, "").split(",")) if units_name in facts else ()
        try:
            value = None if amount is None else Decimal(amount)
        except ArithmeticError:
            return unpriced("currency")
        if value is not None and currency != self.currency:
            return unpriced("currency")
        return Amount(status or "unpriced", value, currency, source, version, reason, units)
