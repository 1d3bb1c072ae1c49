"""The report's columns of money: exact, in one currency, and never zero for what is not known."""

from __future__ import annotations

import csv
import html
import io
import json
import re
import sys
from decimal import Decimal
from pathlib import Path

import pytest
from facts import SHORT
from rich.console import Console

from openai_metering import usage
from openai_metering.cli import main, table
from openai_metering.cli.columns import columns_of
from openai_metering.cli.costs import KEPT, Costs
from openai_metering.cli.grouping import group
from openai_metering.cli.page import words as words_of
from openai_metering.cli.records import parse
from openai_metering.pricing import amounts
from openai_metering.signals import conventions as c

sys.path.append(str(Path(__file__).parents[1] / "cli"))
from usage_lines import NOBODY, line, record

PRICES = """\
[[cost]]
model = "gpt-5*"
input_mtok = 1.25
cache_read_mtok = 0.125
output_mtok = 10.00
[[price]]
organization = "AcmeSoft"
factor = 1.2
[[price]]
organization = "Globex"
model = "gpt-5*"
input_mtok = 2.00
output_mtok = 20.00
"""
# Each record: 60 * 1.25 + 40 * 0.125 + 10 * 10 = 180 millionths.


@pytest.fixture
def prices(tmp_path):
    file = tmp_path / "prices.toml"
    file.write_text(PRICES, encoding="utf-8")
    return file


@pytest.fixture
def ledger(tmp_path):
    def write(*records):
        file = tmp_path / "a.jsonl"
        file.write_text("".join(f"{line(one)}\n" for one in records), encoding="utf-8")
        return file

    return write


@pytest.fixture
def report(capsys):
    def run(*args, form="json"):
        assert main(["report", *map(str, args), "--format", form]) == 0, capsys.readouterr().err
        out = capsys.readouterr().out
        return json.loads(out) if form == "json" else out

    return run


def money(row):
    return row["cost"], row["price"], row["currency"], row["unpriced"]


def test_cost_and_price(ledger, prices, report):
    """Cost to us and price to the customer are two columns; the total is their exact sum."""
    found = report(
        ledger(record("a"), record("b"), record("c", organization="Globex"), record("d", organization="Other")),
        "--by", "organization", "--prices", prices,
    )  # fmt: skip
    assert found["columns"][-4:] == ["cost", "price", "currency", "unpriced"]
    assert [money(row) for row in found["rows"]] == [
        ("0.00036", "0.000432", "USD", 0),  # 2 * 180, and 1.2 times that
        ("0.00018", "0.0004", "USD", 0),  # 100 * 2 + 10 * 20
        ("0.00018", None, "USD", 1),
    ]
    assert money(found["total"]) == ("0.00072", "0.000832", "USD", 1)
    assert found["unpriced"] == {"no_entry": 1}


def test_what_is_not_known_is_not_zero(ledger, prices, report):
    """Unpriced calls are counted with their reasons; their amount is null, and no sum has a zero for them."""
    found = report(
        ledger(
            record("a", model="gpt-99"),
            record("b", usage="unknown", reason="cut", input=None, output=None),
            record("c", state="pending", usage="unknown", reason="deferred"),
            record("d", usage="not_billed", reason="refused"),
            record("e", organization="Globex", tier=None, **{c.CACHE_WRITE_INPUT_TOKENS: 10}),
        ),
        "--by", "organization,model", "--prices", prices,
    )  # fmt: skip
    rows = {(row["kind"], row["model"]): row for row in found["rows"]}
    assert money(rows["owned", "gpt-99"]) == (None, None, "USD", 1)
    assert money(rows["unknown", None]) == (None, None, "USD", 2)
    assert money(rows["not_billed", None]) == (None, None, "USD", 0)
    # 50 * 1.25 + 40 * 0.125 + 10 * 10, and ten tokens without a rate
    assert money(rows["owned", "gpt-5-2025-08-07"])[::3] == ("0.0001675", 1)
    assert found["unpriced"] == {"usage_unknown": 2, "model_not_listed": 1, "no_rate (cache_written)": 1}


def test_sums_are_exact(ledger, prices, report):
    """Ten thousand calls of 0.00018 are 1.8, to the last digit."""
    found = report(ledger(*(record(str(number)) for number in range(10_000))), "--prices", prices)
    assert money(found["total"])[:2] == ("1.8", "2.16")


def test_csv(ledger, prices, report):
    """The sum of the column is the total, as decimal numbers."""
    out = report(ledger(record("a"), record("b", **NOBODY)), "--prices", prices, form="csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert sum(Decimal(row["cost"]) for row in rows) == Decimal("0.00036")
    assert {row["currency"] for row in rows} == {"USD"}


def test_table(ledger, prices, report):
    """People see six places, and below the table why calls are unpriced."""
    out = report(ledger(record("a"), record("b", model="gpt-99")), "--by", "model", "--prices", prices, form="table")
    words = [" ".join(text.split()) for text in out.splitlines()]
    assert "gpt-5-2025-08-07 1 100 40 10 4 0.000180 0.000216 0" in words
    assert "gpt-99 1 100 40 10 4 ? ? 1" in words
    assert "Unpriced: model_not_listed 1. The amounts are without these calls." in words


def test_no_cost(ledger, report):
    """`--no-cost` leaves the report as it is without prices."""
    found = report(ledger(record()), "--no-cost")
    assert "cost" not in found["total"]
    assert "unpriced" not in found


def test_amounts_that_came_along_stay(ledger, prices, report):
    """What a record says it cost holds, unless a price file is named: then it is priced again."""
    mine = {c.COST_STATUS: "priced", c.COST_AMOUNT: "7.5", c.COST_CURRENCY: "USD", c.COST_SOURCE: "file"}
    file = ledger(record("a", **mine))
    assert report(file)["total"]["cost"] == "7.5"
    assert report(file, "--prices", prices)["total"]["cost"] == "0.00018"


def test_amounts_of_another_currency(ledger, report):
    """An amount in another currency is not added up with the others."""
    euros = {c.COST_STATUS: "priced", c.COST_AMOUNT: "7.5", c.COST_CURRENCY: "EUR"}
    dollars = {c.COST_STATUS: "priced", c.COST_AMOUNT: "1", c.COST_CURRENCY: "USD"}
    found = report(ledger(record("a", **euros), record("b", **dollars)))
    assert money(found["total"]) == ("1", None, "USD", 1)
    assert found["unpriced"] == {"currency": 1}
    assert money(report(ledger(record("a", **euros)))["total"]) == ("7.5", None, "EUR", 0)


def test_a_job_whose_end_another_process_saw(ledger, tmp_path, report):
    """For whom it was, and in which window it was to be done, is in the record of the order; both decide the price."""
    file = tmp_path / "prices.toml"
    file.write_text("[[price]]\norganization = 'AcmeSoft'\nwindow = '8h'\ninput_mtok = 1\noutput_mtok = 1\n")
    window = {SHORT["window"]: "8h"}
    found = report(
        ledger(
            record("a", state="pending", usage="unknown", reason="deferred", input=None, output=None, **window),
            record("a", **NOBODY),
        ),
        "--by", "organization", "--prices", file,
    )  # fmt: skip
    (row,) = found["rows"]
    assert (row["organization"], row["price"]) == ("AcmeSoft", "0.00011")


def test_a_record_that_is_sent_again(prices):
    """Its cost is put onto it, once, however often that is done; what it says otherwise stays."""
    sent = record("a")
    before = list(sent["attributes"])
    costs = Costs(str(prices))
    for _ in range(2):
        costs.add_to(sent)
    assert sent["attributes"][: len(before)] == before
    found = {one["key"]: one["value"]["stringValue"] for one in sent["attributes"][len(before) :]}
    assert (found[c.COST_AMOUNT], found[c.PRICE_AMOUNT]) == ("0.00018", "0.000216")
    keys = [one["key"] for one in sent["attributes"]]
    assert len(keys) == len(set(keys))
    with pytest.raises(ValueError, match="not those of OTLP"):
        costs.add_to({"attributes": [7]})


def test_mistakes_in_a_price_file(ledger, tmp_path, capsys):
    """The command ends with the reader's own words, and without a report."""
    file = tmp_path / "prices.toml"
    file.write_text("[[cost]]\nmodel = 'a'\ninput_mtok = 'ten'\n")
    assert main(["report", str(ledger(record())), "--prices", str(file)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == (
        "openai-metering: prices.toml, line 3: [[cost]] 1 input_mtok is 'ten'; "
        "write a decimal number from 0, e.g. 2.50.\n"
    )
    assert main(["report", str(ledger(record())), "--prices", str(file), "--no-cost"]) == 2


def test_what_the_amounts_have_in_part(ledger, prices, report):
    """Calls that are in no amount, and calls of which a part is, are told apart; no sentence says both of both."""
    partly = {"tier": None, c.CACHE_WRITE_INPUT_TOKENS: 10}
    file = ledger(record("a"), record("b", model="gpt-99"), record("c", **partly), record("d", **partly))
    out = report(file, "--by", "model", "--prices", prices, form="table")
    assert "Unpriced: model_not_listed 1. The amounts are without these calls." in out
    assert "Priced in part: no_rate (cache_written) 2. The amounts have what is known of these calls." in out
    page = report(file, "--by", "model", "--prices", prices, form="html")
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])
    cards = {card["key"]: (card["value"], card.get("more")) for card in data["cards"]}
    assert cards["unpriced"] == (1, "unpriced, in no amount")
    assert cards["partly"] == (2, "priced in part")


def lines_of(page, pattern):
    found = (re.sub(r"<[^>]*>", " ", one) for one in re.findall(pattern, page, re.DOTALL))
    return [html.unescape(" ".join(text.split())) for text in found]


def test_an_invoice_lists_what_it_lacks(ledger, prices, report):
    """What has no price, or not all of it, is listed with its calls and tokens, in words that a customer knows."""
    file = ledger(
        record("a"),
        record("b", model="gpt-99", input=105),
        record("c", model="gpt-99", input=106),
        record("d", **{c.CACHE_WRITE_INPUT_TOKENS: 10}),
        record("e", usage="unknown", reason="closed_before_usage", input=None, output=None),
    )
    words = ("--invoice", "AcmeSoft", "--month", "2026-07")
    page = report(file, *words, "--prices", prices, form="html")
    lacking = lines_of(page.partition('<ul id="lacking">')[2].partition("</ul>")[0], r"<li>(.*?)</li>")
    whole = "211 input and 20 output tokens, not priced (there is no price for this model)"
    part = "100 input and 10 output tokens, priced in part; the total has the part that is known"
    assert lacking == [
        "1 call: usage unknown (the caller left the stream before its usage was sent: 1)",
        f"2 calls: {whole}",
        f"1 call: {part} (there is no price for tokens written to the cache)",
    ]
    assert "gpt-99 (not priced) 2 211 20 ?" in lines_of(page, r'<tr class="line">(.*?)</tr>')[1]
    assert "gpt-5-2025-08-07 (not all of it priced)" in page
    assert "Not all that was used has a price: see below." in page
    for code in ("no_rate", "cache_written", "closed_before_usage", "model_not_listed", "The amounts"):
        assert code not in page


def test_an_invoice_at_cost_is_about_costs(ledger, prices, report):
    """Where no price is agreed the invoice is of costs, and lacks nothing that has a cost."""
    words = ("--invoice", "Other", "--month", "2026-07")
    page = report(ledger(record(organization="Other")), *words, "--prices", prices, form="html")
    assert "without surcharge.<" in page
    assert lines_of(page, r'<ul id="lacking">(.*?)</ul>') == ["Nothing."]
    assert "priced)" not in page


def test_every_reason_has_words():
    """A customer reads no code, whatever the reason is."""
    for reason in (*amounts.REASONS, "another"):
        assert not re.search(r"_|\[|genai|price file", words_of.unpriced(reason, ("cache_written_30m", "web_searches")))
    for reason in (*usage.REASONS, "another"):
        assert not re.search(r"_|`", words_of.unknown(reason))
    assert words_of.unpriced("no_rate", ("web_searches",)) == "there is no price for web searches"


def test_where_amounts_would_come_from(ledger, report, monkeypatch):
    """Without any price people are told how to get some, once; who wants none, and a customer, are not."""
    monkeypatch.setitem(sys.modules, "genai_prices", None)  # as where it is not installed
    file = ledger(record())
    hint = "No amounts: pip install 'openai-metering[cost]' for list prices, or give --prices FILE."
    assert report(file, form="table").count(hint) == 1
    assert hint in html.unescape(report(file, form="html"))
    assert hint not in report(file, "--no-cost", form="table")
    assert "pip" not in report(file, "--invoice", "AcmeSoft", "--month", "2026-07", form="html")


def test_the_table_fits_a_terminal(ledger, prices):
    """With cost and price all lines fit 80 columns, and a name that is longer keeps its indent."""
    person = "someone.with.a.long.name@company.example.com"
    rows = [
        parse(line(record(str(number), subscriber=person, input=10_000_000 * number)).encode(), KEPT)[0][0]
        for number in range(1, 9)
    ]
    costs = Costs(str(prices))
    columns = columns_of("organization,subscriber,credential,model")
    console = Console(file=io.StringIO(), width=80)
    table._print(group(rows, columns, price=costs.of, currency=costs.currency), console)
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert any("360,000,000" in text and "450.000440" in text and "540.000528" in text for text in lines)
    assert "Cached and reasoning tokens have no room here" in console.file.getvalue()
    first = next(place for place, text in enumerate(lines) if text.strip().startswith("someone"))
    parts = lines[first : next(place for place, text in enumerate(lines) if text.strip() == "prod")]
    assert len(parts) > 1
    assert all(text.startswith("  ") and text[2] != " " for text in parts)
    assert "".join(text.strip() for text in parts) == person
