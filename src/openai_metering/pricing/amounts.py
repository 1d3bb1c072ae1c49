"""Rates, quantities and what they come to, in exact decimal numbers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from openai_metering.pricing.units import Used

PRICED: Final = "priced"
ESTIMATED: Final = "estimated"
PARTIAL: Final = "partial"
UNPRICED: Final = "unpriced"
STATUSES: Final = (PRICED, ESTIMATED, PARTIAL, UNPRICED)

REASONS: Final = {
    "usage_unknown": "what was used is not known",
    "no_units": "the record names nothing that is billed",
    "invalid_split": "parts of the usage are more than their total",
    "no_model": "neither the answer nor the request names a model",
    "no_prices": "no price table is there: neither genai-prices nor a price file",
    "provider_not_listed": "the host is not one whose prices are known; a price file can name it under [hosts]",
    "model_not_listed": "the price table does not have the model",
    "tier_not_listed": "the price table has no rates for the tier, the batch or the completion window at that time",
    "no_rate": "the model has no rate for the units that are named",
    "tool_model": "the model that the image generation tool used is not said; a price file can name it under [tools]",
    "currency": "no exchange rate into the currency of the price file",
    "no_entry": "no [[price]] entry of the price file matches",
    "usage_estimated": "what was used is estimated itself",
    "derived": "sessions are derived from what the answer shows",
    "tier_asked": "the answer does not say which tier served it: the one that was asked for is taken",
    "other_provider": "list prices of the model's maker stand in for those of the provider",
    "region": "the host is one of a region, whose surcharge the table does not have",
    "split": "which modality was cached is not said",
    "long_context": "of many requests in one record it is not known which passed the step for long contexts",
}
"""The closed set of reasons why an amount is missing, partial or estimated."""

# Each rate that a table can have, and the number of units that it is for.
PER: Final[Mapping[str, int]] = {
    **dict.fromkeys(
        (
            "input_mtok",
            "input_text_mtok",
            "input_image_mtok",
            "input_audio_mtok",
            "cache_read_mtok",
            "cache_text_read_mtok",
            "cache_image_read_mtok",
            "cache_audio_read_mtok",
            "cache_write_mtok",
            "cache_write_30m_mtok",
            "cache_write_12h_mtok",
            "output_mtok",
            "output_text_mtok",
            "output_image_mtok",
            "output_audio_mtok",
            "output_reasoning_mtok",
            "training_mtok",
            "grader_mtok",
            "input_mchars",
        ),
        1_000_000,
    ),
    **dict.fromkeys(("web_searches_kcount", "searches_kcount", "requests_kcount"), 1000),
    **dict.fromkeys(("audio_hours", "input_audio_hours", "session_hours"), 3600),
    **dict.fromkeys(("image", "video_second", "code_interpreter_session", "container"), 1),
}

# The rates that a unit is priced by, the first that the table has. Where a model's table has no discount for cached
# input, cached input costs what input costs. Audio costs ten to twenty times what text does, and what is written to a
# cache for half a day more than what is written for half an hour: neither falls back to a rate that is not its own.
_RATES: Final[Mapping[str, tuple[str, ...]]] = {
    "input": ("input_mtok",),
    "text_input": ("input_text_mtok", "input_mtok"),
    "image_input": ("input_image_mtok", "input_mtok"),
    "audio_input": ("input_audio_mtok",),
    "cached": ("cache_read_mtok", "input_mtok"),
    "cached_text": ("cache_text_read_mtok", "cache_read_mtok", "input_text_mtok", "input_mtok"),
    "cached_image": ("cache_image_read_mtok", "input_image_mtok", "cache_read_mtok", "input_mtok"),
    "cached_audio": ("cache_audio_read_mtok", "input_audio_mtok"),
    "cache_written": ("cache_write_mtok", "cache_write_30m_mtok"),
    "cache_written_30m": ("cache_write_30m_mtok", "cache_write_mtok"),
    "cache_written_12h": ("cache_write_12h_mtok",),
    "output": ("output_mtok",),
    "text_output": ("output_text_mtok", "output_mtok"),
    "image_output": ("output_image_mtok", "output_mtok"),
    "audio_output": ("output_audio_mtok",),
    "reasoning": ("output_reasoning_mtok", "output_text_mtok", "output_mtok"),
    "trained_tokens": ("training_mtok",),
    "grader_tokens": ("grader_mtok",),
    "characters": ("input_mchars",),
    "audio_seconds": ("input_audio_hours", "audio_hours"),
    "session_seconds": ("session_hours", "audio_hours"),
    "video_seconds": ("video_second",),
    "images": ("image",),
    "web_searches": ("web_searches_kcount",),
    "searches": ("searches_kcount",),
    "code_interpreter_sessions": ("code_interpreter_session",),
    "containers": ("container",),
    "requests": ("requests_kcount",),
}

ONE: Final = Decimal(1)

_EXACT: Final = Context(prec=60)
_PLACES: Final = Decimal(1).scaleb(-18)


@dataclass(frozen=True, slots=True)
class Rate:
    """A price, and the steps above which another one holds for the whole request."""

    base: Decimal
    steps: tuple[tuple[int, Decimal], ...] = ()
    """Tokens of input, and the price of a request that has more; ascending."""

    def at(self, input_tokens: int) -> Decimal:
        """Return the price for a request of so many tokens."""
        return next((price for start, price in reversed(self.steps) if input_tokens > start), self.base)


@dataclass(frozen=True, slots=True)
class Amount:
    """What something costs, and how sure that is.

    Args:
        status: ``priced``; ``estimated``; ``partial``, without the units that are named; ``unpriced``, without a value.
        value: exact; rounded to 18 places where the decimal number does not end.
        currency: ISO 4217.
        source: ``provider``, ``list`` or ``file``.
        table_version: which state of the table.
        reason: one of ``REASONS``, where the status is not ``priced``.
        units: what could not be priced.
    """

    status: str
    value: Decimal | None = None
    currency: str | None = None
    source: str | None = None
    table_version: str | None = None
    reason: str | None = None
    units: tuple[str, ...] = ()

    def times(self, factor: Decimal, **changes: Any) -> Amount:
        """Return a multiple of the amount, with other changes."""
        return self if self.value is None else replace(self, value=times(self.value, factor), **changes)


def unpriced(reason: str, units: Iterable[str] = ()) -> Amount:
    """Return what stands in the place of an amount that is not known; never zero."""
    return Amount(UNPRICED, reason=reason, units=tuple(sorted(units)))


def rounded(value: Decimal) -> Decimal:
    """Return a value with 18 places at most."""
    exponent = value.as_tuple().exponent
    if isinstance(exponent, int) and exponent < -18:  # noqa: PLR2004 - the places of `_PLACES`
        return value.quantize(_PLACES, ROUND_HALF_EVEN, _EXACT)
    return value


def times(value: Decimal, factor: Decimal) -> Decimal:
    """Multiply, with 18 places at most."""
    return rounded(_EXACT.multiply(value, factor))


def total(values: Iterable[Decimal]) -> Decimal:
    """Add values up, exactly."""
    result = Decimal(0)
    for value in values:
        result = _EXACT.add(result, value)
    return result


def decimal_text(value: Decimal) -> str:
    """Write a value without exponent and without zeros that say nothing: ``0.00125``."""
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") or "0" if "." in text else text


def at_places(value: Decimal, places: int) -> str:
    """Write a value for people, with so many places; what is not zero does not look like it."""
    smallest = Decimal(1).scaleb(-places)
    if value and value < smallest:
        return f"<{smallest:f}"
    return f"{value.quantize(smallest, ROUND_HALF_EVEN, _EXACT):,f}"


def price_of(used: Used, rates: Mapping[str, Rate], *, steps: bool = True) -> tuple[Decimal, tuple[str, ...]]:
    """Multiply quantities by rates.

    Args:
        used: what one model was used for.
        rates: by name, as in ``PER``.
        steps: whether steps for long contexts apply.

    Returns:
        The sum of what has a rate, and the units that have none.
    """
    amounts: list[Decimal] = []
    missing: list[str] = []
    for unit, number in used.quantities.items():
        name = next((name for name in _RATES[unit] if name in rates), None)
        if name is None:
            missing.append(unit)
            continue
        price = rates[name].at(used.input_tokens if steps else 0)
        amounts.append(_EXACT.divide(_EXACT.multiply(number, price), Decimal(PER[name])))
    return rounded(total(amounts)), tuple(missing)
