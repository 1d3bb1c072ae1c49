"""Why something is not in an invoice, in the words of who gets it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from openai_metering.pricing.amounts import REASONS as PRICING
from openai_metering.usage import REASONS as USAGE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Where the words for who runs the metering say nothing to a customer.
_UNPRICED: Final[Mapping[str, str]] = {
    "no_units": "nothing that is billed was reported",
    "no_prices": "there is no price for it yet",
    "no_entry": "no price is agreed for it",
    "no_rate": "some of what was used has no price",
    "provider_not_listed": "there is no price for this provider",
    "model_not_listed": "there is no price for this model",
    "tier_not_listed": "there is no price for this kind of service",
    "tool_model": "the model that made an image is not known",
    "currency": "its price is in another currency",
}
_UNKNOWN: Final[Mapping[str, str]] = {
    "body_too_large": "the answer was too large to be read",
    "not_observed": "the answer could not be read",
    "process_ended": "the program ended before the call did",
    "pending": "the work goes on in the background and its usage comes later",
}
_UNITS: Final[Mapping[str, str]] = {
    "input": "input tokens",
    "output": "output tokens",
    "cached": "cached input tokens",
    "cache_written": "tokens written to the cache",
    "cache_written_30m": "tokens written to the cache",
    "cache_written_12h": "tokens written to the cache for half a day",
    "reasoning": "reasoning tokens",
}


def unpriced(reason: str, units: Sequence[str]) -> str:
    """Say why there is no price, or not for all.

    Args:
        reason: one of those of pricing.
        units: what has no rate.
    """
    if reason == "no_rate" and units:
        return f"there is no price for {' and '.join(_UNITS.get(unit, unit.replace('_', ' ')) for unit in units)}"
    return _UNPRICED.get(reason) or PRICING.get(reason, "there is no price for it")


def unknown(reason: str) -> str:
    """Say why usage is not known.

    Args:
        reason: one of those of usage.
    """
    return _UNKNOWN.get(reason) or USAGE.get(reason, "the reason is not known")
