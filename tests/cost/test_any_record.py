"""Whatever a record says, pricing it ends, and ends in one of the statuses."""

from __future__ import annotations

from decimal import Decimal

from facts import SHORT
from hypothesis import given, strategies as st

from openai_metering.pricing import PriceFile, Pricer
from openai_metering.pricing.amounts import REASONS, STATUSES, decimal_text
from openai_metering.pricing.units import InvalidSplit, used_in
from openai_metering.signals import conventions as c

PRICER = Pricer(
    PriceFile.parse(
        """
        [tools]
        image_generation = "m"
        [[cost]]
        tier = "*"
        window = "*"
        input_mtok = 1
        input_audio_mtok = 8
        cache_write_mtok = 1.25
        output_mtok = 2
        audio_hours = 0.36
        [[price]]
        factor = 1.5
        """,
        "p",
    )
)
odd = st.sampled_from(
    (
        -5,
        2**63,
        0.5,
        float("nan"),
        float("inf"),
        1e300,
        True,
        None,
        "",
        "ü",
        "-1",
        "0.5",
        "NaN",
        "1e999999",
        "[" * 900,
        '{"cost":1e999999}',
        '{"cost":[]}',
        '{"cost":0.5}',
        "openrouter.ai",
        "batch",
        "video",
        "flex",
        "8h",
        "m",
    )
)
records = st.dictionaries(st.sampled_from(sorted(SHORT.values())), st.integers(0, 50) | odd, max_size=9)


@given(records, st.booleans(), st.none() | st.integers(0, 2**64))
def test_any_record(record, reported, time):
    """No record raises; an amount is there unless it is unpriced, and only then is there none."""
    if reported:
        record = {**record, c.USAGE_STATUS: "reported", c.RECORD_STATE: "final"}
    found = PRICER.attributes(record, time)
    if not found:
        return
    for prefix in ("cost", "price"):
        own = {name.rpartition(".")[2]: value for name, value in found.items() if f".{prefix}." in name}
        assert own["status"] in STATUSES
        assert own.get("reason") in {None, *REASONS}
        assert (own["status"] == "priced") == ("reason" not in own)
        assert ("amount" in own) == (own["status"] != "unpriced")
        if "amount" in own:
            assert decimal_text(Decimal(own["amount"])) == own["amount"]
            assert own["currency"] == "USD"


TOTALS = [SHORT[name] for name in ("input", "output")]


@given(st.fixed_dictionaries(dict.fromkeys(TOTALS, st.integers(0, 10**6))), records)
def test_no_token_is_in_two_quantities(totals, record):
    """The disjoint quantities of the model add up to input and output, however their parts are told."""
    record = {**record, **totals}
    try:
        (used, *_) = used_in(record)
    except InvalidSplit:
        return
    tokens = {
        unit: n
        for unit, n in used.quantities.items()
        if unit.endswith(("input", "output")) or unit.startswith("cache") or unit == "reasoning"
    }
    assert sum(tokens.values()) == sum(totals.values())
