"""A price file: whose prices hold, and what its reader says of mistakes."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest
from facts import at, facts

from openai_metering.pricing import PriceFile, PriceFileError, Pricer
from openai_metering.signals import conventions as c

GOOD = """\
version = "2026-11"

[deployments]
prod-chat = "gpt-4.1"

[hosts]
"llm.internal" = "openai"

[tools]
image_generation = "gpt-image-1.5"

[[cost]]
model = "gpt-4.1*"
organization = "Research"
input_mtok = 1.00
output_mtok = 4

[[cost]]
model = "gpt-4.1*"
input_mtok = { base = "2.00", above = { 1000 = 3.00 } }
cache_read_mtok = 0.50
output_mtok = 8.00

[[cost]]
model = "gpt-4.1*"
tier = "flex"
input_mtok = 1.00
output_mtok = 4.00

[[cost]]
model = "gpt-4.1*"
window = "8h"
input_mtok = 0.50
output_mtok = 2.00

[[cost]]
model = "dall-e-3"
size = "1024x1024"
quality = "hd"
image = 0.08

[[cost]]
model = "dall-e-3"
image = 0.04

[[cost]]
model = "sora-2"
from = 2026-11-01
until = 2026-11-30
video_second = 0.10

[[cost]]
operation = "containers"
container = 0.03

[[cost]]
model = "gpt-image-1.5"
input_mtok = 5
output_image_mtok = 32

[[cost]]
model = "with-sessions"
input_mtok = 1
output_mtok = 1
code_interpreter_session = 0.03

[[price]]
organization = "AcmeSoft"
model = "gpt-4.1*"
input_mtok = 4.00
output_mtok = 16.00

[[price]]
organization = "Gl*"
factor = 1.25
"""


@pytest.fixture
def price():
    """Prices a record by a file alone."""

    def priced(text=GOOD, day=date(2026, 11, 2), **given):
        return Pricer(PriceFile.parse(text, "prices.toml")).attributes(facts(**given), at(day))

    return priced


def cost(found):
    return found.get(c.COST_AMOUNT), found[c.COST_STATUS], found.get(c.COST_REASON)


# -- Whose prices hold -----------------------------------------------------------------------------------------------


def test_a_file_prices_by_itself(price):
    """Without list prices the file's rates hold; source and version are its own."""
    found = price(model="gpt-4.1-2025-04-14", input=1000, cached=100, output=10)
    # 900 * 2 / M + 100 * 0.50 / M + 10 * 8 / M
    assert cost(found) == ("0.00193", "priced", None)
    assert (found[c.COST_SOURCE], found[c.COST_TABLE_VERSION], found[c.COST_CURRENCY]) == ("file", "2026-11", "USD")


def test_the_first_entry_that_matches_counts(price):
    """An organization's own entry stands before the one for everybody."""
    assert cost(price(model="gpt-4.1", organization="Research", input=1000, output=0))[0] == "0.001"
    assert cost(price(model="gpt-4.1", organization="Sales", input=1000, output=0))[0] == "0.002"


def test_steps_for_long_contexts(price):
    """Above a step the whole request costs more; exactly at it, it does not."""
    assert cost(price(model="gpt-4.1", input=1000, output=0))[0] == "0.002"
    assert cost(price(model="gpt-4.1", input=1001, output=0))[0] == "0.003003"


def test_rates_hold_for_their_tier_alone(price):
    """Rates that name no tier are not those of flex or priority."""
    assert cost(price(model="gpt-4.1", tier="flex", input=1000, output=0))[0] == "0.001"
    assert cost(price(model="gpt-4.1", tier="priority", input=1000, output=0)) == (None, "unpriced", "model_not_listed")


def test_a_completion_window_has_its_own_rates(price):
    """A background response with a window is priced by the entry that names it, and by no other."""
    assert cost(price(model="gpt-4.1", window="8h", input=1000, output=0))[0] == "0.0005"
    assert cost(price(model="gpt-4.1", window="2h", input=1000, output=0))[1] == "unpriced"


def test_deployments(price):
    """A deployment of Azure is priced as the model that the file says it is."""
    found = price(
        asked="prod-chat", model=None, provider="azure.ai.openai", host="a.openai.azure.com", input=1000, output=0
    )
    assert cost(found) == ("0.002", "priced", None)


def test_gateways(price):
    """A host that the file names is priced as the provider that stands behind it, whose own word counts, too."""
    gateway = {"model": "x", "input": 1, "output": 1, "provider": "gw", "host": "gw"}
    assert cost(price('[hosts]\ngw = "openrouter"', **gateway, raw='{"cost":0.1}'))[0] == "0.1"
    assert cost(price('[[cost]]\nprovider = "openrouter"\ninput_mtok = 1\noutput_mtok = 1', **gateway))[0] is None
    text = '[hosts]\ngw = "openrouter"\n[[cost]]\nprovider = "openrouter"\ninput_mtok = 1\noutput_mtok = 1'
    assert cost(price(text, **gateway))[0] == "0.000002"


def test_images_by_size_and_quality(price):
    """What is billed by the image is priced by what the request asked for."""
    image = {"operation": "images.generate", "kind": "generate_content", "asked": "dall-e-3", "images": 2}
    assert cost(price(**image, image_size="1024x1024", image_quality="hd"))[0] == "0.16"
    assert cost(price(**image, image_size="1024x1024", image_quality="standard"))[0] == "0.08"


@pytest.mark.parametrize(
    ("day", "amount"),
    [(date(2026, 10, 31), None), (date(2026, 11, 1), "0.8"), (date(2026, 11, 30), "0.8"), (date(2026, 12, 1), None)],
)
def test_days(price, day, amount):
    """An entry holds from its first to its last day."""
    assert cost(price(day=day, operation="videos", kind="video", model="sora-2", seconds=8))[0] == amount


def test_fees_without_a_model(price):
    """What names no model is priced by its operation."""
    found = price(operation="containers", kind="container", usage_status="estimated", containers=1)
    assert cost(found) == ("0.03", "estimated", "usage_estimated")


def test_the_model_of_the_image_tool(price):
    """The image generation tool is priced as the model that the file names."""
    found = price(model="gpt-4.1", input=1000, output=0, tool_in=10, tool_text_in=10, tool_out=1000)
    # 1000 * 2 / M + 10 * 5 / M + 1000 * 32 / M
    assert cost(found) == ("0.03405", "priced", None)


def test_sessions_that_are_derived_are_estimated(price):
    """How many sessions of the code interpreter are billed is derived from the answer."""
    found = price(model="with-sessions", input=1000, output=0, code_interpreter_sessions=2)
    assert cost(found) == ("0.061", "estimated", "derived")


def test_cost_and_price_are_two_columns(price):
    """A customer's own rates, or a factor on what the call costs us; who has no entry has no price."""
    used = {"model": "gpt-4.1", "input": 1000, "output": 100}
    acme, globex, other = (price(**used, organization=name) for name in ("AcmeSoft", "Globex", "Other"))
    assert acme[c.COST_AMOUNT] == globex[c.COST_AMOUNT] == other[c.COST_AMOUNT] == "0.0028"
    assert acme[c.PRICE_AMOUNT] == "0.0056"  # 1000 * 4 / M + 100 * 16 / M
    assert globex[c.PRICE_AMOUNT] == "0.0035"  # 0.0028 * 1.25
    assert c.PRICE_AMOUNT not in other
    assert (other[c.PRICE_STATUS], other[c.PRICE_REASON]) == ("unpriced", "no_entry")


def test_a_factor_on_nothing_is_nothing(price):
    """What has no cost has no price by a factor either."""
    found = price(model="unheard-of", organization="Globex", input=1000, output=100)
    assert (found[c.PRICE_STATUS], found[c.PRICE_REASON]) == ("unpriced", "model_not_listed")
    assert c.PRICE_AMOUNT not in found


def test_what_the_provider_says_wins(price):
    """The provider's own word goes before a file's rates."""
    openrouter = {"provider": "openrouter.ai", "host": "openrouter.ai", "raw": '{"cost":0.1}'}
    found = price(model="gpt-4.1", input=1, output=1, **openrouter)
    assert (found[c.COST_AMOUNT], found[c.COST_SOURCE]) == ("0.1", "provider")
    assert c.COST_TABLE_VERSION not in found


def test_one_currency(price):
    """All amounts are in the file's currency; without a rate of exchange what is in another one is unpriced."""
    openrouter = {
        "model": "gpt-4o",
        "input": 1,
        "output": 1,
        "provider": "openrouter.ai",
        "host": "openrouter.ai",
        "raw": '{"cost":0.1}',
    }
    assert cost(price('currency = "EUR"', **openrouter)) == (None, "unpriced", "currency")
    found = price('currency = "EUR"\n[exchange]\nUSD = "0.92"', **openrouter)
    assert (found[c.COST_AMOUNT], found[c.COST_CURRENCY]) == ("0.092", "EUR")


@pytest.mark.parametrize("given", [{"usage_status": "not_billed"}, {"state": "pending"}, {"state": "started"}])
def test_what_has_no_amount_yet(price, given):
    """Refused calls cost nothing, and pending ones nothing yet: their records say nothing about money."""
    assert price(model="gpt-4.1", input=1, output=1, **given) == {}


def test_the_version_of_a_file_that_states_none():
    """It is the beginning of the SHA-256 of its text."""
    one, other = (PriceFile.parse(text, "p") for text in ("", "# changed"))
    assert one.version.startswith("sha256:")
    assert one.version != other.version


# -- Mistakes --------------------------------------------------------------------------------------------------------

MISTAKES = [
    ("[[cost]]\nmodel = 'a'\ninput_mtok = 'ten'", "p.toml, line 3: [[cost]] 1 input_mtok is 'ten'; write a decimal number from 0, e.g. 2.50."),
    ("[[cost]]\nmodel = 'a'\ninput_mtok = -1", "p.toml, line 3: [[cost]] 1 input_mtok is '-1'; write a decimal number from 0, e.g. 2.50."),
    ("[[cost]]\ninput_mtok = nan", "p.toml, line 2: [[cost]] 1 input_mtok is 'NaN'; write a decimal number from 0, e.g. 2.50."),
    ("[[cost]]\ninput_mtok = true", "p.toml, line 2: [[cost]] 1 input_mtok is 'True'; write a decimal number from 0, e.g. 2.50."),
    ("[[cost]]\nimage = 1\n\n# b\n[[cost]]\nmodel = 'b'\ninput_mtoks = 1", "p.toml, line 7: [[cost]] 2 input_mtoks is not known; did you mean 'input_mtok'?"),
    ("[[price]]\nmodel = 'a'", "p.toml, line 1: [[price]] 1 needs either rates, e.g. input_mtok = 2.50, or a factor, e.g. factor = 1.2."),
    ("[[price]]\nfactor = 2\nimage = 1", "p.toml, line 1: [[price]] 1 needs either rates, e.g. input_mtok = 2.50, or a factor, e.g. factor = 1.2."),
    ("[[cost]]\nmodel = 7.5\nimage = 1", "p.toml, line 2: [[cost]] 1 model must be text in quotes, not Decimal or blank."),
    ("[[cost]]\nmodel = ' '\nimage = 1", "p.toml, line 2: [[cost]] 1 model must be text in quotes, not str or blank."),
    ("[[cost]]\nfrom = 'May'\nimage = 1", "p.toml, line 2: [[cost]] 1 from must be a day, e.g. 2026-07-01."),
    ("[[cost]]\nfrom = 2026-07-02\nuntil = 2026-07-01\nimage = 1", "p.toml, line 3: [[cost]] 1 until is before `from`."),
    ("[[cost]]\ninput_mtok = { base = 1 }", "p.toml, line 2: [[cost]] 1 input_mtok must be a number, or { base = 2.50, above = { 272000 = 5.00 } }."),
    ("[[cost]]\ninput_mtok = { base = 1, above = { many = 2 } }", "p.toml, line 2: [[cost]] 1 input_mtok has 'many' under `above`; write a number of input tokens, e.g. 272000."),
    ("currency = 'euro'", "p.toml, line 1: currency is 'euro'; write the three letters of ISO 4217, e.g. EUR."),
    ("\n[exchange]\nUSD = 'x'", "p.toml, line 3: [exchange] USD is 'x'; write a decimal number from 0, e.g. 2.50."),
    ("[exchange]\nusd = 1", "p.toml, line 2: [exchange] usd is 'usd'; write the three letters of ISO 4217, e.g. EUR."),
    ("[tools]\nimages = 'a'", "p.toml, line 2: [tools] images is not known; known are image_generation."),
    ("[deployments]\na = 1.5", "p.toml, line 2: [deployments] a must be text in quotes, not Decimal or blank."),
    ("cots = 1", "p.toml, line 1: cots is not known; did you mean 'cost'?"),
    ("[cost]\nimage = 1", "p.toml, line 1: [[cost]] 1 must be written as [[cost]], once for each entry."),
    ("hosts = 1", "p.toml: [hosts] must be a table: [hosts]."),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), MISTAKES, ids=[message for _, message in MISTAKES])
def test_mistakes(text, message):
    """Each mistake is named with file, line, entry and field, and what may stand there."""
    with pytest.raises(PriceFileError) as caught:
        PriceFile.parse(text, "p.toml")
    assert str(caught.value) == message


def test_no_toml(tmp_path):
    """What is no TOML at all, no UTF-8 or no file is said so, with the place."""
    file = tmp_path / "prices.toml"
    with pytest.raises(PriceFileError, match=r"prices\.toml: No such file or directory"):
        PriceFile.load(file)
    file.write_bytes(b"[[cost]]\nmodel = \nimage = 1")
    with pytest.raises(PriceFileError, match=r"prices\.toml: not TOML: .*line 2"):
        PriceFile.load(file)
    file.write_bytes(b"version = '\xff'")
    with pytest.raises(PriceFileError, match="not UTF-8"):
        PriceFile.load(file)


def test_numbers_are_decimal():
    """A number without quotes is the decimal number that is written, not the nearest binary one."""
    (entry,) = PriceFile.parse("[[cost]]\ninput_mtok = 0.1", "p").cost
    assert entry.rates["input_mtok"].base == Decimal("0.1")
