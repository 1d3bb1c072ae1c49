"""What stands on the HTML page, read from its data: it says no more and no less than the report."""

from __future__ import annotations

import datetime as dt
import json
import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "cli"))
from usage_lines import NOBODY, line, record

from openai_metering.cli import main
from openai_metering.cli.period import nanoseconds

JUNE, JULY = (nanoseconds(dt.datetime(2026, month, 15, tzinfo=dt.timezone.utc)) for month in (6, 7))


@pytest.fixture
def page(tmp_path, capsys):
    """The data of the page of some records."""

    def run(records, *words):
        (tmp_path / "a.jsonl").write_text("".join(f"{line(one)}\n" for one in records), encoding="utf-8")
        assert main(["report", str(tmp_path / "a.jsonl"), "--format", "html", *words]) == 0
        text = capsys.readouterr().out
        return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)[1])

    return run


def cards(data):
    return {card["key"]: card["value"] for card in data["cards"]}


def test_organizations_are_counted_once(page):
    """However many groups an organization has, and wherever --top puts them, it is one; nobody is none."""
    records = [
        record(f"{name}{model}", organization=name, model=model, input=size)
        for name, size in (("A", 100), ("B", 90), ("C", 1), (None, 80))
        for model in ("m1", "m2", "m3")
    ]
    by = ("--by", "organization,subscriber,credential,model")
    for words in ((), ("--top", "3"), ("--top", "1"), ("--top", "99")):
        assert cards(page([*records, record("x", **NOBODY)], *by, *words))["groups"] == 3


@pytest.mark.parametrize("words", [(), ("--no-cost",)])
def test_unknown_usage_before_is_no_zero(page, words):
    """What calls of unknown usage came to before is as unknown as what they come to now."""
    lost = {"usage": "unknown", "reason": "cut", "input": None, "output": None}
    records = [record("a", time=JUNE), record("b", time=JULY), record("c", time=JUNE, **lost)]
    data = page([*records, record("d", time=JULY, **lost)], "--month", "2026-07", "--compare", *words)
    (special,) = data["specials"]
    place = [column["key"] for column in data["columns"]].index("before")
    assert special["n"] == "usage unknown"
    assert special["v"][place : place + 2] == [None, None]
    assert data["total"][place] is not None
