"""List prices: the table of the ``genai-prices`` library."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from openai_metering.pricing.amounts import PER, Rate

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

CURRENCY: Final = "USD"

# `gen_ai.provider.name` where the library has another id.
_PROVIDERS: Final = {
    "azure.ai.openai": "azure",
    "azure.ai.inference": "azure",
    "aws.bedrock": "aws",
    "gcp.vertex_ai": "google",
    "gcp.gemini": "google",
    "mistral_ai": "mistral",
    "moonshot_ai": "moonshotai",
    "x_ai": "x-ai",
}


class Listed(NamedTuple):
    """The rates of a model, or why there are none."""

    rates: Mapping[str, Rate] | None
    reason: str | None = None
    other_provider: bool = False
    """They are those of the model's maker, as the provider that was asked has none of its own."""


class PriceList:
    """The prices that come with the installed version of ``genai-prices``; nothing is fetched.

    Raises:
        ModuleNotFoundError: the library is not installed.
    """

    def __init__(self) -> None:
        import genai_prices  # noqa: PLC0415 - an extra, and 60 ms to load
        from genai_prices import data_snapshot  # noqa: PLC0415

        self._snapshot = data_snapshot
        self.version = f"genai-prices {genai_prices.__version__}"
        self._find = functools.lru_cache(maxsize=4096)(self._look_up)
        self._rates = functools.lru_cache(maxsize=4096)(self._read)

    def find(
        self, provider: str | None, host: str | None, model: str, tier: tuple[str, str] | None, when: datetime
    ) -> Listed:
        """Return the rates of a model.

        Args:
            provider: ``gen_ai.provider.name``, or an id of the library.
            host: where the call went to; asked where the library does not have the provider.
            model: its name.
            tier: what the library calls the price context, e.g. ``("service_tier", "flex")``; ``None``: standard.
            when: when the call ended.
        """
        found = self._find(provider, host, model)
        if isinstance(found, str):
            return Listed(None, found)
        changes_daily = not any(hasattr(part.constraint, "start_time") for part in _parts(found[1]))
        # Prices start on a day in UTC; a few providers' also change with the hour.
        return self._rates(
            provider, host, model, tier, when.replace(hour=12, minute=0, second=0) if changes_daily else when
        )

    def _read(
        self, provider: str | None, host: str | None, model: str, tier: tuple[str, str] | None, when: datetime
    ) -> Listed:
        source, info = self._find(provider, host, model)
        own = any(info is one for one in source.models)
        if tier is not None and not (own and _is_active(info, tier, when)):
            return Listed(None, "tier_not_listed")
        prices = info.get_prices(when, None if tier is None else dict([tier]))
        return Listed(_rates(prices), None, not own)

    def _look_up(self, provider: str | None, host: str | None, model: str) -> Any:
        name = None if provider is None else _PROVIDERS.get(provider, provider)
        snapshot = self._snapshot.get_snapshot()
        try:
            source = snapshot.find_provider(None, name, None)
        except LookupError:
            try:
                source = snapshot.find_provider(None, None, f"https://{host}")
            except LookupError:
                return "provider_not_listed"
        try:
            return snapshot.find_provider_model(model, source, None, None)
        except LookupError:
            return "model_not_listed"


def _parts(info: Any) -> list[Any]:
    return [*(info.prices if isinstance(info.prices, list) else ()), *(info.price_variants or ())]


def _is_active(info: Any, tier: tuple[str, str], when: datetime) -> bool:
    return any(
        variant.when == dict([tier]) and (variant.constraint is None or variant.constraint.active(when))
        for variant in info.price_variants or ()
    )


def _rates(prices: Any) -> dict[str, Rate]:
    rates = {}
    for name, price in vars(prices).items():
        if name not in PER or price is None:
            continue
        steps = getattr(price, "tiers", None)
        rates[name] = Rate(price) if steps is None else Rate(price.base, tuple((s.start, s.price) for s in steps))
    return rates
