"""Prices against invoices that were computed by hand, and written down with their arithmetic."""

from __future__ import annotations

import ast
import operator
from collections import Counter
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
import tomllib
from facts import DAY, SHORT, at, facts

from openai_metering.pricing import Pricer
from openai_metering.pricing.amounts import REASONS, STATUSES
from openai_metering.signals import conventions as c

INVOICES = tomllib.loads(Path(__file__).with_name("invoices.toml").read_text("utf-8"), parse_float=Decimal)["invoice"]
OPERATORS = {ast.Add: operator.add, ast.Mult: operator.mul, ast.Div: operator.truediv}


def computed(arithmetic):
    """The exact value of sums, products and quotients of decimal numbers; M is a million."""

    def value(node):
        if isinstance(node, ast.BinOp):
            return OPERATORS[type(node.op)](value(node.left), value(node.right))
        if isinstance(node, ast.Name):
            return {"M": Fraction(1_000_000)}[node.id]
        return Fraction(ast.get_source_segment(arithmetic, node))

    return value(ast.parse(arithmetic, mode="eval").body)


@pytest.fixture(scope="module")
def pricer():
    return Pricer.load()


@pytest.mark.parametrize("invoice", INVOICES, ids=lambda invoice: invoice["name"])
def test_invoice(pricer, invoice):
    """Status, amount, reason and units are those that were worked out by hand."""
    record = facts(
        **{name: value for name, value in invoice.items() if name in SHORT},
        **{name: float(value) if isinstance(value, Decimal) else value for name, value in invoice["usage"].items()},
    )
    found = pricer.attributes(record, at(invoice.get("day", DAY)))
    assert found.get(c.COST_STATUS) == invoice.get("status", "priced"), found
    assert found.get(c.COST_REASON) == invoice.get("reason")
    assert found.get(c.COST_UNPRICED_UNITS) == invoice.get("units")
    assert found.get(c.COST_AMOUNT) == invoice.get("amount")
    if "amount" in invoice:
        exact = computed(invoice["arithmetic"])
        assert abs(exact - Fraction(invoice["amount"])) <= Fraction(1, 2 * 10**18)
        assert found[c.COST_CURRENCY] == "USD"
        assert found[c.COST_SOURCE] == invoice.get("source", "list")


def test_there_are_enough_and_none_twice():
    """At least sixty, over models, tiers and units; every status, and every unit that can be named, is there."""
    assert len(INVOICES) >= 60
    assert max(Counter(invoice["name"] for invoice in INVOICES).values()) == 1
    assert {invoice.get("status", "priced") for invoice in INVOICES} == set(STATUSES)
    assert len({invoice.get("model", invoice.get("asked")) for invoice in INVOICES}) >= 40
    assert {invoice["reason"] for invoice in INVOICES if "reason" in invoice} <= set(REASONS)
    print(f"{len(INVOICES)} invoices")
