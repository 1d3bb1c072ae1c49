"""What a provider itself says that a call cost."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from openai_metering.pricing.amounts import PRICED, Amount, times
from openai_metering.signals import conventions as c

if TYPE_CHECKING:
    from collections.abc import Mapping

PROVIDER: Final = "provider"

_DIGITS: Final = 19
"""An amount that has more is none; a text of seven characters can stand for a million digits."""

# End of the host, where its usage object has the cost, and what one is in US dollars (a credit of OpenRouter is one).
_ROWS: Final = (
    ("openrouter.ai", ("cost",), Decimal(1)),
    ("deepinfra.com", ("estimated_cost",), Decimal(1)),
    ("perplexity.ai", ("cost", "total_cost"), Decimal(1)),
    ("x.ai", ("cost_in_usd_ticks",), Decimal("1e-10")),
)


def reported(facts: Mapping[str, Any], host: str | None) -> Amount | None:
    """Return what the answer says that the call cost, ``None`` where it says nothing.

    Args:
        facts: attributes of a usage record.
        host: the provider's host, or the one that a gateway stands in for.
    """
    raw = facts.get(c.USAGE_RAW)
    if not isinstance(raw, str) or host is None:
        return None
    row = next((row for row in _ROWS if host == row[0] or host.endswith("." + row[0])), None)
    if row is None:
        return None
    try:
        usage = json.loads(raw, parse_float=Decimal, parse_int=Decimal)
    except (ValueError, RecursionError):
        return None
    value = _at(usage, row[1])
    if value is None:
        return None
    if usage.get("is_byok") is True:  # the model's maker bills the caller's own key beside it
        upstream = _at(usage, ("cost_details", "upstream_inference_cost"))
        if upstream is None:
            return None
        value += upstream
    return Amount(PRICED, times(value, row[2]), "USD", PROVIDER)


def _at(usage: Any, path: tuple[str, ...]) -> Decimal | None:
    for name in path:
        usage = usage.get(name) if isinstance(usage, dict) else None
    known = isinstance(usage, Decimal) and usage.is_finite() and usage >= 0 and usage.adjusted() < _DIGITS
    return usage if known else None
