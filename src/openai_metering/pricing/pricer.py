"""Prices one usage record: what it costs, and what its customer pays."""

from __future__ import annotations

import datetime as dt
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from openai_metering.pricing import amounts as a
from openai_metering.pricing.amounts import Amount, Rate, unpriced
from openai_metering.pricing.listed import CURRENCY, PriceList
from openai_metering.pricing.pricefile import BATCH, STANDARD, Call, PriceFile
from openai_metering.pricing.reported import reported
from openai_metering.pricing.units import IMAGE_TOOL, MODEL, NAMES, SVG, InvalidSplit, Used, used_in
from openai_metering.signals import conventions as c

if TYPE_CHECKING:
    from collections.abc import Mapping

LIST: Final = "list"
FILE: Final = "file"

FACTS: Final = NAMES | {
    c.ORGANIZATION_ID,
    c.OPERATION,
    c.OPERATION_NAME,
    c.PROVIDER_NAME,
    c.SERVER_ADDRESS,
    c.REQUEST_MODEL,
    c.RESPONSE_MODEL,
    c.OPENAI_REQUEST_SERVICE_TIER,
    c.OPENAI_RESPONSE_SERVICE_TIER,
    c.REQUEST_COMPLETION_WINDOW,
    c.IMAGE_SIZE,
    c.IMAGE_QUALITY,
    c.VIDEO_SIZE,
    c.SVG_MODEL,
    c.USAGE_STATUS,
    c.USAGE_RAW,
    c.RECORD_STATE,
}
"""The attributes of a usage record that decide about its price."""

# Those who tell what a call cost, by the names that a price file gives them where a gateway stands before them.
_HOSTS: Final = {"openrouter": "openrouter.ai", "x-ai": "api.x.ai", "perplexity": "api.perplexity.ai"}
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)
_LAST: Final = 2**63 - 1
_STANDARD_TIERS: Final = frozenset({"default", "auto", "standard"})
_MANY_REQUESTS: Final = frozenset({"batch", "eval", "run"})
_REGIONAL: Final = ".api.openai.com"


class Priced(NamedTuple):
    """The two amounts of a call."""

    cost: Amount
    """What the provider asks of us."""
    price: Amount | None
    """What the customer pays us; ``None`` where no price file has ``[[price]]`` entries."""


class Pricer:
    """Prices usage records by a price file, the provider's own word and list prices.

    Args:
        file: prices of the user's own, which go before list prices.
        listed: list prices; ``None`` for none.
    """

    def __init__(self, file: PriceFile | None = None, listed: PriceList | None = None) -> None:
        self.file = file
        self.listed = listed
        self.currency = CURRENCY if file is None else file.currency
        """The one currency of all amounts."""

    @classmethod
    def load(cls, path: str | None = None) -> Pricer:
        """Read a price file, if one is named, and the list prices, if the extra is installed.

        Raises:
            PriceFileError: the file is not as it should be.
        """
        try:
            listed = PriceList()
        except ModuleNotFoundError:
            listed = None
        return cls(None if path is None else PriceFile.load(path), listed)

    @property
    def has_prices(self) -> bool:
        """Whether there is any table to price by."""
        return self.file is not None or self.listed is not None

    def attributes(self, facts: Mapping[str, Any], time_unix_nano: int | None) -> dict[str, Any]:
        """Return the attributes that a priced record has beside its own; none for what is not billed or not final."""
        priced = self.price(facts, time_unix_nano)
        if priced is None:
            return {}
        found = _attributes(priced.cost, _COST)
        return found if priced.price is None else found | _attributes(priced.price, _PRICE)

    def price(self, facts: Mapping[str, Any], time_unix_nano: int | None) -> Priced | None:
        """Price a call.

        Args:
            facts: attributes of its usage record, of which those in ``FACTS`` are looked at.
            time_unix_nano: when it ended.

        Returns:
            Its amounts; ``None`` where nothing is billed, or the final record is still to come.
        """
        if facts.get(c.USAGE_STATUS) == "not_billed" or facts.get(c.RECORD_STATE, "final") != "final":
            return None
        when = _EPOCH + dt.timedelta(seconds=min(time_unix_nano or time.time_ns(), _LAST) // 10**9)
        pricing = _Pricing(self, facts, when)
        cost = pricing.cost()
        return Priced(cost, pricing.price(cost) if self.file is not None and self.file.price else None)


class _Pricing:
    """One record on its way to its amounts."""

    def __init__(self, pricer: Pricer, facts: Mapping[str, Any], when: dt.datetime) -> None:
        self._pricer = pricer
        self._file = pricer.file
        self._facts = facts
        self._when = when
        self._doubts: list[str] = []
        self.host = _text(facts, c.SERVER_ADDRESS)
        self.provider = _text(facts, c.PROVIDER_NAME)
        if self._file is not None and (stands_for := self._file.hosts.get((self.host or "").lower())):
            self.provider = stands_for
            self.host = None
        self.model = self._model()
        self.tier = self._tier()
        self.window = self._window()

    def cost(self) -> Amount:
        """What the provider asks of us."""
        told = reported(self._facts, self.host or _HOSTS.get(self.provider or ""))
        if told is not None:
            return self._exchanged(told)
        entry = next((e for e in self._file.cost if e.matches(self._call(self.model))), None) if self._file else None
        if entry is None or entry.factor is None:
            return self._priced("cost")
        assert self._file is not None  # noqa: S101 - the entry is one of its own
        return self._priced(None).times(entry.factor, source=FILE, table_version=self._file.version)

    def price(self, cost: Amount) -> Amount:
        """What the customer pays us."""
        assert self._file is not None  # noqa: S101 - only asked where there is one
        entry = next((e for e in self._file.price if e.matches(self._call(self.model))), None)
        if entry is None:
            return unpriced("no_entry")
        if entry.factor is not None:
            return cost.times(entry.factor, source=FILE, table_version=self._file.version)
        return self._priced("price")

    def _priced(self, table: str | None) -> Amount:
        """Price what was used: by a table of the file, and for costs by list prices where the file has no entry."""
        if self._facts.get(c.USAGE_STATUS) not in ("reported", "estimated"):
            return unpriced("usage_unknown")
        try:
            found = used_in(self._facts)
        except InvalidSplit:
            return unpriced("invalid_split")
        if not found:
            return unpriced("no_units")
        self._doubts = ["usage_estimated"] if self._facts.get(c.USAGE_STATUS) == "estimated" else []
        if self.tier not in (STANDARD, BATCH) and _text(self._facts, c.OPENAI_RESPONSE_SERVICE_TIER) is None:
            self._doubts.append("tier_asked")
        parts = [self._part(used, table) for used in found]
        sources = {part.source: part.table_version for part in parts if part.value is not None}
        missing = [part for part in parts if part.units]
        units = tuple(sorted(unit for part in missing for unit in part.units))
        if not sources:
            return unpriced(parts[0].reason or "no_rate", units)
        source = FILE if FILE in sources else LIST
        status = a.PARTIAL if units else a.ESTIMATED if self._doubts else a.PRICED
        return Amount(
            status,
            a.total(part.value for part in parts if part.value is not None),
            self._pricer.currency,
            source,
            sources[source],
            missing[0].reason if units else self._doubts[0] if self._doubts else None,
            units,
        )

    def _part(self, used: Used, table: str | None) -> Amount:
        """What one model was used for; doubts are noted beside."""
        name = self._name_of(used)
        if used.model == IMAGE_TOOL and name is None:
            return unpriced("tool_model", _units(used))
        rates, source, version, reason = self._rates(name, table)
        if rates is None:
            return unpriced(reason or "model_not_listed", _units(used))
        if used.model == MODEL and "requests_kcount" in rates:
            used = Used(MODEL, {**used.quantities, "requests": a.ONE}, used.input_tokens, used.guessed)
        steps = self._facts.get(c.OPERATION_NAME) not in _MANY_REQUESTS
        value, missing = a.price_of(used, rates, steps=steps)
        if len(missing) == len(used.quantities) and missing:
            return unpriced("no_rate", _units(used))
        if not steps and any(rate.at(used.input_tokens) != rate.base for rate in rates.values()):
            self._doubts.append("long_context")
        if used.guessed:
            self._doubts.append("split")
        if "code_interpreter_sessions" in used.quantities and "code_interpreter_sessions" not in missing:
            self._doubts.append("derived")
        if source == LIST:
            exchange = self._exchange(CURRENCY)
            if exchange is None:
                return unpriced("currency", _units(used))
            value = a.times(value, exchange)
        units = tuple(f"{used.model}.{unit}" if used.model != MODEL else unit for unit in missing)
        return Amount(
            a.PARTIAL if missing else a.PRICED,
            value,
            self._pricer.currency,
            source,
            version,
            "no_rate" if missing else None,
            units,
        )

    def _rates(
        self, model: str | None, table: str | None
    ) -> tuple[Mapping[str, Rate] | None, str | None, str | None, str | None]:
        """Rates, their source and version; or the reason why there are none."""
        if self._file is not None and table is not None:
            call = self._call(model)
            entries = self._file.cost if table == "cost" else self._file.price
            entry = next((e for e in entries if e.rates is not None and e.matches(call)), None)
            if entry is not None:
                return entry.rates, FILE, self._file.version, None
            if table == "price":
                return None, None, None, "no_entry"
        if model is None:
            return None, None, None, "no_model"
        if self._pricer.listed is None:
            return None, None, None, "no_prices" if self._file is None else "model_not_listed"
        if self.window is not None:
            return None, None, None, "tier_not_listed"
        tier = None
        if self.tier != STANDARD:
            tier = ("processing", BATCH) if self.tier == BATCH else ("service_tier", self.tier)
        provider = self.provider
        if provider == "openai" and self._facts.get(c.OPERATION) == "decisions":
            provider = "openai-decisions"
        listed = self._pricer.listed.find(provider, self.host, model, tier, self._when)
        if listed.other_provider:
            self._doubts.append("other_provider")
        if self.provider == "openai" and self.host is not None and self.host.endswith(_REGIONAL):
            self._doubts.append("region")
        return listed.rates, LIST, self._pricer.listed.version, listed.reason

    # -- What the record says --------------------------------------------------------------------------------------

    def _model(self) -> str | None:
        asked = _text(self._facts, c.REQUEST_MODEL)
        if self._file is not None and asked is not None and asked.lower() in self._file.deployments:
            return self._file.deployments[asked.lower()]
        return _text(self._facts, c.RESPONSE_MODEL) or asked

    def _name_of(self, used: Used) -> str | None:
        if used.model == SVG:
            return _text(self._facts, c.SVG_MODEL)
        if used.model == IMAGE_TOOL:
            return None if self._file is None else self._file.tools.get("image_generation")
        return self.model

    def _tier(self) -> str:
        if self._facts.get(c.OPERATION_NAME) == "batch":
            return BATCH  # a batch tells the tier `default`
        tier = _text(self._facts, c.OPENAI_RESPONSE_SERVICE_TIER) or _text(self._facts, c.OPENAI_REQUEST_SERVICE_TIER)
        return STANDARD if tier is None or tier.lower() in _STANDARD_TIERS else tier.lower()

    def _window(self) -> str | None:
        return None if self.tier == BATCH else _text(self._facts, c.REQUEST_COMPLETION_WINDOW)

    def _call(self, model: str | None) -> Call:
        return Call(
            organization=_text(self._facts, c.ORGANIZATION_ID),
            model=model,
            provider=self.provider,
            operation=_text(self._facts, c.OPERATION),
            size=_text(self._facts, c.IMAGE_SIZE) or _text(self._facts, c.VIDEO_SIZE),
            quality=_text(self._facts, c.IMAGE_QUALITY),
            tier=self.tier,
            window=self.window,
            day=self._when.date(),
        )

    def _exchange(self, currency: str) -> Any:
        if currency == self._pricer.currency:
            return a.ONE
        return None if self._file is None else self._file.exchange.get(currency)

    def _exchanged(self, amount: Amount) -> Amount:
        exchange = self._exchange(amount.currency or CURRENCY)
        if exchange is None or amount.value is None:
            return unpriced("currency")
        return amount.times(exchange, currency=self._pricer.currency)


def _units(used: Used) -> tuple[str, ...]:
    return tuple(unit if used.model == MODEL else f"{used.model}.{unit}" for unit in used.quantities)


def _text(facts: Mapping[str, Any], name: str) -> str | None:
    value = facts.get(name)
    return value.strip() or None if isinstance(value, str) else None


_COST: Final = (
    c.COST_AMOUNT,
    c.COST_CURRENCY,
    c.COST_SOURCE,
    c.COST_TABLE_VERSION,
    c.COST_STATUS,
    c.COST_REASON,
    c.COST_UNPRICED_UNITS,
)
_PRICE: Final = (
    c.PRICE_AMOUNT,
    c.PRICE_CURRENCY,
    c.PRICE_SOURCE,
    c.PRICE_TABLE_VERSION,
    c.PRICE_STATUS,
    c.PRICE_REASON,
    c.PRICE_UNPRICED_UNITS,
)


def _attributes(amount: Amount, names: tuple[str, ...]) -> dict[str, Any]:
    values = (
        None if amount.value is None else a.decimal_text(amount.value),
        amount.currency,
        amount.source,
        amount.table_version,
        amount.status,
        amount.reason,
        ",".join(amount.units) or None,
    )
    return {name: value for name, value in zip(names, values, strict=True) if value is not None}
