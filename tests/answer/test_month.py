"""A whole month: what the report and the reconciliation say is what plain arithmetic says, to the token and the cent."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from decimal import Decimal

import month
import pytest

from openai_metering.cli import main
from openai_metering.cli.reconciling import shown
from openai_metering.local.meters import ADMIN_KEY
from openai_metering.local.provider import ProviderStandIn

FULL = os.environ.get("OPENAI_METERING_TEST_SIZE") == "full"
SIZE = 1_000_000 if FULL else 10_000
PLACES = {"account": 0, "organization": 1, "subscriber": 2, "credential": 3, "model": 4}
KINDS = {"owned", "estimated"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return month.write(tmp_path_factory.mktemp("whole"), SIZE)


@pytest.fixture(scope="module")
def report(whole, tmp_path_factory):
    """The report of the month, by its columns; each is made once."""
    made = {}
    words = ["--month", "2026-07", "--directory", str(whole.directory), "--prices", str(whole.prices)]

    def run(by):
        if by not in made:
            output = tmp_path_factory.mktemp("report") / "report.json"
            given = ["report", str(whole.ledger), *words, "--by", by, "--format", "json", "--output", str(output)]
            assert main(given) == 0
            made[by] = json.loads(output.read_text())
        return made[by]

    return run


def money(value):
    """Amounts are counted in units of 10**-13 dollars there."""
    return None if value is None else int(Decimal(value).scaleb(13))


def numbers(row):
    counts = (row["calls"], row["input_tokens"], row["cached_tokens"], row["output_tokens"], row["reasoning_tokens"])
    return (*counts, money(row["cost"]), money(row["price"]))


def expected(sums):
    return (sums.calls, sums.input, sums.cached, sums.output, sums.reasoning, sums.cost, sums.price)


@pytest.mark.parametrize("by", ["account,organization,subscriber,credential,model", "organization"])
def test_the_report_is_right_to_the_token_and_the_cent(whole, report, by):
    """Moves, shared keys, unknown usage, jobs, batches, tiers and records that are there twice: every group is as computed."""
    columns = by.split(",")
    found = report(by)
    groups = {
        (row["kind"], *(row[name] for name in columns)): numbers(row) for row in found["rows"] if row["kind"] in KINDS
    }
    sums = whole.summed(6, *(PLACES[name] for name in columns))
    assert groups == {key: expected(own) for key, own in sums.items() if key[0] in KINDS}
    assert len(groups) > 300
    rows = {row["kind"]: row for row in found["rows"] if row["kind"] not in KINDS}
    kinds = whole.summed(6)
    assert numbers(rows["unattributed"]) == expected(kinds["unattributed",])
    assert (rows["unknown"]["calls"], rows["unknown"]["input_tokens"]) == (kinds["unknown",].calls, None)
    assert rows["unknown"]["reasons"] == dict(whole.reasons)
    assert rows["not_billed"]["calls"] == kinds["not_billed",].calls
    (total,) = whole.summed().values()
    assert numbers(found["total"]) == expected(total)
    assert found["duplicates"] == whole.duplicates


def test_who_moved_is_billed_to_both(whole, report):
    """A subscriber who changes organization in mid-month is on both bills, and together they are all that was used."""
    found = defaultdict(dict)
    for row in report("account,organization,subscriber,credential,model")["rows"]:
        if row["kind"] in KINDS and row["subscriber"] == "person-0010@example.com":
            own = found[row["organization"]]
            own["tokens"] = own.get("tokens", 0) + row["input_tokens"]
    sums = whole.summed(2, 1, 6)
    wanted = defaultdict(int)
    for (person, organization, kind), own in sums.items():
        if person == "person-0010@example.com" and kind in KINDS:
            wanted[organization] += own.input
    assert {name: own["tokens"] for name, own in found.items()} == dict(wanted)
    assert len(wanted) == 2


def test_the_reconciliation_is_right(whole, monkeypatch, capsys):
    """What the provider has more is what the records of unknown usage do not know, by day and model, and nothing else."""
    with ProviderStandIn() as provider:
        provider.recall(whole.served)
        monkeypatch.setenv("OPENAI_BASE_URL", provider.base_url)
        monkeypatch.setenv("OPENAI_ADMIN_KEY", ADMIN_KEY)
        words = ["--from", "2026-07", "--to", "2026-08", "--no-cost", "--all", "--format", "json"]
        assert main(["reconcile", str(whole.ledger), *words]) == 1
        found = json.loads(capsys.readouterr().out)
    kinds = whole.summed(6)
    requests = sum(own.calls for (kind,), own in kinds.items() if kind != "not_billed")
    assert sum(line["billed"]["num_model_requests"] for line in found["lines"]) == requests
    assert all(line["metered"]["num_model_requests"] == line["billed"]["num_model_requests"] for line in found["lines"])
    assert all("unknown usage" in line["why"] for line in found["lines"] if line["why"])
    billed = [sum(one.billed[name] for one in whole.served) for name in ("prompt_tokens", "completion_tokens")]
    known = [sum(getattr(own, name) for own in kinds.values()) for name in ("input", "output")]
    sides = [
        [sum(line[side][unit] for line in found["lines"]) for unit in ("input_tokens", "output_tokens")]
        for side in ("metered", "billed")
    ]
    assert sides == [known, billed]
    assert found["agreement_percent"] == shown(Decimal(100) * sum(known) / sum(billed)).removesuffix(" %")
    assert len({line["day"] for line in found["lines"]}) == 31
