"""List prices agree with the library that they come from."""

from __future__ import annotations

from datetime import date, datetime, timezone
from decimal import Decimal

import genai_prices
import pytest
from facts import at, facts
from genai_prices.data import providers

from openai_metering.pricing import Pricer
from openai_metering.pricing.listed import PriceList
from openai_metering.signals import conventions as c

OPENAI = next(provider for provider in providers if provider.id == "openai")
DAY = date(2026, 11, 2)
CONTEXTS = (None, ("service_tier", "flex"), ("service_tier", "priority"), ("processing", "batch"))
# What the library takes, and what a record has.
SAME = {
    "input_tokens": "input",
    "cache_read_tokens": "cached",
    "cache_write_tokens": "written",
    "output_tokens": "output",
    "output_reasoning_tokens": "reasoning",
    "input_text_tokens": "text_in",
    "input_audio_tokens": "audio_in",
    "input_image_tokens": "image_in",
    "cache_text_read_tokens": "text_cached",
    "cache_audio_read_tokens": "audio_cached",
    "cache_image_read_tokens": "image_cached",
    "output_text_tokens": "text_out",
    "output_audio_tokens": "audio_out",
    "output_image_tokens": "image_out",
    "web_searches": "web_searches",
    "audio_seconds": "seconds",
    "input_characters": "characters",
}


@pytest.fixture(scope="module")
def pricer():
    return Pricer(listed=PriceList())


def theirs(model, usage, context=None, provider="openai"):
    """What the library says itself."""
    return genai_prices.calc_price(
        genai_prices.Usage(**usage),
        model,
        provider_id=provider,
        genai_request_timestamp=datetime(DAY.year, DAY.month, DAY.day, 12, tzinfo=timezone.utc),
        price_context=None if context is None else dict([context]),
    ).total_price


def ours(pricer, model, usage, context=None, **given):
    """What is priced here, as an amount."""
    if context is not None:
        given |= {"tier": context[1]} if context[0] == "service_tier" else {"kind": "batch"}
    found = pricer.price(facts(model=model, **{SAME[name]: n for name, n in usage.items()}, **given), at(DAY))
    return found.cost


# The library's documentation, with the totals it states.
EXAMPLES = [
    ("o3", {"input_tokens": 1_000_000, "output_tokens": 1_000_000}, ("service_tier", "flex"), {}, "5"),
    ("o3", {"input_tokens": 1_000_000, "output_tokens": 1_000_000}, ("processing", "batch"), {}, "5"),
    ("gpt-4o", {"input_tokens": 1000, "output_tokens": 100}, None, {}, "0.0035"),
    ("gpt-5", {"input_tokens": 100, "output_tokens": 200}, None, {}, "0.002125"),
    ("gpt-5", {"input_tokens": 123, "output_tokens": 456}, None, {}, "0.00471375"),
    (
        "claude-sonnet-4-20250514",
        {"input_tokens": 4740, "cache_read_tokens": 0, "cache_write_tokens": 4735, "output_tokens": 255},
        None,
        {"provider": "anthropic", "host": "api.anthropic.com"},
        "0.02159625",
    ),
]


@pytest.mark.parametrize(("model", "usage", "context", "given", "total"), EXAMPLES)
def test_the_examples_of_the_library(pricer, model, usage, context, given, total):
    """Each example of its documentation comes to what the library makes of it."""
    found = ours(pricer, model, usage, context, **given)
    assert found.value == theirs(model, usage, context, given.get("provider", "openai")) == Decimal(total)
    assert found.status == "priced"


USAGES = (
    {"input_tokens": 1234, "output_tokens": 567},
    {"input_tokens": 1234, "cache_read_tokens": 1000, "output_tokens": 567, "output_reasoning_tokens": 500},
    {"input_tokens": 300_001, "cache_read_tokens": 200_000, "output_tokens": 5000},
    {"input_tokens": 1234, "cache_write_tokens": 1000, "output_tokens": 567},
    {"input_tokens": 1234, "output_tokens": 567, "web_searches": 3},
    {"input_tokens": 900, "input_text_tokens": 300, "input_audio_tokens": 600, "output_tokens": 90,
     "output_text_tokens": 40, "output_audio_tokens": 50},
    {"input_tokens": 900, "input_text_tokens": 300, "input_image_tokens": 600, "output_tokens": 90,
     "output_image_tokens": 90},
    {"audio_seconds": 61.5},
    {"input_characters": 4321},
)  # fmt: skip


def test_every_model_of_openai_in_every_tier(pricer):
    """Whatever is priced whole comes to what the library says; and the library never says zero where we say unpriced."""
    compared = unpriced = 0
    for model in (model for model in OPENAI.models if model.is_match(model.id)):  # "ft:gpt-4o" is no model's name
        for context in CONTEXTS:
            for usage in USAGES:
                if context == ("processing", "batch") and usage.get("input_tokens", 0) > 272_000:
                    continue  # of many requests it is not known which were long
                found = ours(pricer, model.id, usage, context)
                if found.status == "priced":
                    assert found.value == theirs(model.id, usage, context), (model.id, context, usage)
                    compared += 1
                else:
                    assert found.status in ("unpriced", "partial"), (model.id, context, usage)
                    assert found.reason in ("no_rate", "tier_not_listed"), (model.id, context, usage)
                    assert found.units
                    unpriced += 1
    print(f"{compared} amounts agree, {unpriced} are unpriced or partial")
    assert compared > 500


def test_prices_that_change_with_the_hour(pricer):
    """DeepSeek is cheaper at night: the hour of the call decides."""
    record = facts(model="deepseek-chat", provider="deepseek", host="api.deepseek.com", input=1_000_000, output=0)
    amounts = [pricer.price(record, at(DAY, hour)).cost.value for hour in (3, 20)]
    assert amounts == [Decimal("0.27"), Decimal("0.135")]


def test_nothing_is_fetched(pricer):
    """The table is that of the installed version, and says so."""
    found = pricer.attributes(facts(model="gpt-4o", input=1, output=1), at(DAY))
    assert found[c.COST_TABLE_VERSION] == f"genai-prices {genai_prices.__version__}"
