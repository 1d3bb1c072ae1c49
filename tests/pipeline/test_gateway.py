"""gateway.yaml on the real Collector: who is let in, what is checked, where each record ends."""

from __future__ import annotations

import re

import pytest
from running import Collector, attributes, htpasswd, logs, post, written

from openai_metering.local.discovery import config_path
from waiting import wait_for

REASON = "openai_metering.quarantine.reason"
ORGANIZATION, SUBSCRIBER, CREDENTIAL = (
    f"attribution.{level}.id" for level in ("organization", "subscriber", "credential")
)
KEY = "sk-proj-0123456789abcdefghijklmnop"
GOOD = {
    "openai_metering.record.id": "r1",
    "openai_metering.record.state": "final",
    "openai_metering.operation": "chat.completions",
    "openai_metering.usage.status": "reported",
    "gen_ai.response.model": "gpt-4o",
    "gen_ai.usage.input_tokens": 7,
    "attribution.status": "unattributed",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("gateway")
    htpasswd(made / "htpasswd", ["acme", "reseller", "stranger", "broker"])
    (made / "principals.csv").write_text("principal,organizations\nacme,AcmeSoft\nreseller,Globex|Initech\nbroker,*\n")
    (made / "lookup.csv").write_text(
        "credential,subscriber,organization\nkey1-hubspot,joe@acme.com,AcmeSoft\nkey2,ann@globex.com,Globex\n"
    )
    return made


@pytest.fixture(scope="module")
def gateway(collector_binary, folder):
    with Collector(
        collector_binary,
        folder,
        "gateway.yaml",
        STORE_DIR=str(folder / "store"),
        DECISION_WAIT="1s",
        SAMPLE_PERCENT="0",
    ) as running:
        yield running


@pytest.fixture(scope="module")
def strict(collector_binary, folder):
    with Collector(
        collector_binary, folder, "gateway.yaml", STORE_DIR=str(folder / "strict"), STRICT="true"
    ) as running:
        yield running


def sent(gateway, user, name="store", **changes):
    """Send one record. Returns the file it ended in, and its attributes there."""
    sent.count += 1
    record_id = changes.pop("record_id", f"record-{sent.count}")
    record = {
        key: value
        for key, value in {**GOOD, "openai_metering.record.id": record_id, "test": sent.count, **changes}.items()
        if value is not None
    }
    assert post(gateway.http_endpoint, "logs", logs(record), user) == 200

    def found():
        return [
            (file, item["attributes"])
            for file in ("records", "quarantine")
            for item in written(gateway.folder / name / f"{file}.jsonl")
            if item["attributes"].get("test") == str(sent.count)
        ]

    (one,) = wait_for(found, "the record")
    return one


sent.count = 0


def test_who_is_not_known_is_not_heard(gateway):
    """No password, or a wrong one: nothing is taken."""
    assert post(gateway.http_endpoint, "logs", logs(GOOD)) == 401
    assert post(gateway.http_endpoint, "logs", logs(GOOD), "nobody") == 401


def test_a_good_record_is_in_the_bill(gateway):
    """Every value as it was sent, and nothing of the gateway's own but who sent it."""
    file, record = sent(
        gateway, "acme", **{ORGANIZATION: "AcmeSoft", SUBSCRIBER: "joe@acme.com", CREDENTIAL: "key1-hubspot"}
    )
    assert file == "records"
    assert record["gen_ai.usage.input_tokens"] == "7"
    assert record["attribution.status"] == "complete"
    assert {key for key in record if ".gateway." in key or ".lookup." in key} == {"openai_metering.gateway.principal"}
    assert record["openai_metering.gateway.principal"] == "acme"
    assert "attribution.conflict" not in record


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"record_id": None}, "no_record_id"),
        ({"openai_metering.operation": None}, "no_operation"),
        ({"openai_metering.record.state": None}, "no_state"),
        ({"openai_metering.record.state": "finished"}, "no_state"),
        ({"openai_metering.usage.status": None}, "no_usage_status"),
        ({"openai_metering.usage.status": "zero"}, "no_usage_status"),
        ({"gen_ai.response.model": None}, "no_model"),
        ({"gen_ai.usage.input_tokens": -1}, "negative_number"),
        ({"openai_metering.usage.seconds": -0.5}, "negative_number"),
    ],
)
def test_what_breaks_the_contract_is_in_quarantine(gateway, changes, reason):
    """With the reason, never in the bill and never away."""
    file, record = sent(gateway, "acme", **changes)
    assert (file, record[REASON]) == ("quarantine", reason)


@pytest.mark.parametrize(
    "changes",
    [
        {
            "openai_metering.record.state": "pending",
            "openai_metering.usage.status": None,
            "gen_ai.response.model": None,
        },
        {"openai_metering.operation": "containers", "gen_ai.response.model": None},
        {"gen_ai.response.model": None, "gen_ai.request.model": "gpt-4o"},
        {"openai_metering.usage.status": "not_billed", "gen_ai.response.model": None},
    ],
)
def test_what_the_contract_does_not_ask_for_may_be_missing(gateway, changes):
    """A model where the operation has none, usage before the end."""
    file, record = sent(gateway, "acme", **changes)
    assert (file, record.get(REASON)) == ("records", None)


def test_the_table_fills_in_what_the_sender_left_out(gateway):
    """Credential -> subscriber -> organization, and where it came from."""
    file, record = sent(gateway, "reseller", **{CREDENTIAL: "key2"})
    assert file == "records"
    assert (record[ORGANIZATION], record[SUBSCRIBER]) == ("Globex", "ann@globex.com")
    assert record["attribution.organization.source"] == record["attribution.subscriber.source"] == "lookup"
    assert record["attribution.status"] == "complete"


def test_what_sender_and_table_say_differently_is_marked(gateway):
    """And left as it was sent."""
    file, record = sent(
        gateway, "reseller", **{ORGANIZATION: "Initech", SUBSCRIBER: "ann@globex.com", CREDENTIAL: "key2"}
    )
    assert (file, record[ORGANIZATION], record["attribution.conflict"]) == ("records", "Initech", "organization")


def test_a_sender_of_one_organization_is_that_organization(gateway):
    """Whatever it says: the authenticated one wins, which is marked."""
    _, silent = sent(gateway, "acme")
    assert (silent[ORGANIZATION], silent["attribution.organization.source"]) == ("AcmeSoft", "principal")
    assert silent["attribution.status"] == "partial"
    file, forged = sent(gateway, "acme", **{ORGANIZATION: "Globex"})
    assert (file, forged[ORGANIZATION], forged["attribution.conflict"]) == ("records", "AcmeSoft", "principal")


@pytest.mark.parametrize(
    ("user", "organization", "reason"),
    [
        ("reseller", "Initech", None),
        ("reseller", "AcmeSoft", "organization_not_of_principal"),
        ("reseller", "Glob", "organization_not_of_principal"),
        ("reseller", "Globex|Initech", "organization_not_of_principal"),
        ("stranger", "AcmeSoft", "principal_unknown"),
    ],
)
def test_a_sender_of_several_organizations_stays_within_its_list(gateway, user, organization, reason):
    """Anything else is in quarantine."""
    file, record = sent(gateway, user, **{ORGANIZATION: organization})
    assert (file, record.get(REASON)) == ("records" if reason is None else "quarantine", reason)


def test_strict_knows_only_the_organizations_of_the_table(strict):
    """OPENAI_METERING_STRICT=true."""
    file, record = sent(strict, "reseller", "strict", **{ORGANIZATION: "Globex", CREDENTIAL: "unknown"})
    assert (file, record[REASON]) == ("quarantine", "organization_unknown")
    assert sent(strict, "reseller", "strict", **{CREDENTIAL: "key2"})[0] == "records"


def test_the_tables_are_read_again(gateway, folder):
    """A row that is added while the gateway runs is used."""
    with (folder / "lookup.csv").open("a") as table:
        table.write("key3,eve@initech.com,Initech\n")
    wait_for(
        lambda: sent(gateway, "reseller", **{CREDENTIAL: "key3"})[1].get(ORGANIZATION) == "Initech",
        "the row",
        timeout=30,
    )


def test_secrets_go_nowhere(gateway, folder):
    """Planted wherever a value can be, of each signal: nothing of it is in any file."""
    planted = {
        "attribution.tag.note": f"my key is {KEY}",
        "api_key": "plain-secret-1",
        "authorization": "plain-secret-2",
    }
    body = logs({**GOOD, **planted, "openai_metering.record.id": "secret"})
    body["resourceLogs"][0]["resource"] = {"attributes": attributes(planted)}
    body["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0]["body"] = {"stringValue": f"plain-secret-3 {KEY}"}
    assert post(gateway.http_endpoint, "logs", body, "acme") == 200
    span = {
        "traceId": "0" * 31 + "1",
        "spanId": "0" * 15 + "1",
        "name": f"chat {KEY}",
        "kind": 3,
        "startTimeUnixNano": "1790000000000000000",
        "endTimeUnixNano": "1790000001000000000",
        "attributes": attributes({**planted, "gen_ai.prompt": "plain-secret-4", ORGANIZATION: "AcmeSoft"}),
        "events": [
            {"name": "exception", "attributes": attributes({"exception.message": "plain-secret-5", **planted})},
        ],
        "status": {"code": 2, "message": "plain-secret-6"},
    }
    linked = {
        **span,
        "traceId": "0" * 31 + "3",
        "links": [{"traceId": "0" * 31 + "2", "spanId": "0" * 15 + "2", "attributes": attributes(planted)}],
    }
    traces = {
        "resourceSpans": [
            {
                "resource": {"attributes": attributes(planted)},
                "scopeSpans": [{"scope": {"attributes": attributes(planted)}, "spans": [span, linked]}],
            }
        ]
    }
    assert post(gateway.http_endpoint, "traces", traces, "acme") == 200
    point = {"asInt": "1", "timeUnixNano": "1790000000000000000", "attributes": attributes(planted)}
    point["exemplars"] = [
        {"asInt": "1", "timeUnixNano": "1790000000000000000", "filteredAttributes": attributes(planted)}
    ]
    metric = {"name": "m", "sum": {"aggregationTemporality": 2, "isMonotonic": True, "dataPoints": [point]}}
    metrics = {
        "resourceMetrics": [
            {"resource": {"attributes": attributes(planted)}, "scopeMetrics": [{"scope": {}, "metrics": [metric]}]}
        ]
    }
    assert post(gateway.http_endpoint, "metrics", metrics, "acme") == 200
    store = folder / "store"
    wait_for(
        lambda: written(store / "spans.jsonl", "resourceSpans", "scopeSpans", "spans"),
        "the span, kept for its error",
        timeout=20,
    )
    wait_for(lambda: b'"secret"' in (store / "records.jsonl").read_bytes(), "the record")
    wait_for(lambda: (store / "metrics.jsonl").stat().st_size, "the metric")
    everything = b"".join(path.read_bytes() for path in store.rglob("*") if path.is_file()) + gateway.log.encode()
    assert KEY.encode() not in everything
    assert b"plain-secret" not in everything


def test_no_name_that_is_passed_over_is_one_of_a_secret():
    """The list of names that need no look is there for speed alone: without it, nothing else would be kept or blanked."""
    text = config_path("gateway.yaml").read_text(encoding="utf-8")
    section = text.split("redaction/keys:\n")[1].split("redaction/secrets:\n")[0]
    names = re.findall(r"[\w.]+", section.split("[\n")[1].split("]")[0])
    patterns = [re.compile(one.replace("$$", "$")) for one in re.findall(r"- '(.*)'", section)]
    assert len(names) > 50
    assert len(patterns) == 6
    assert not [name for name in names for pattern in patterns if pattern.search(name)]


def test_a_sender_that_speaks_for_all_keeps_what_was_said(gateway):
    """Such as a broker: its records and spans keep their organization, and no statement fails on them."""
    file, record = sent(gateway, "broker", **{ORGANIZATION: "Umbrella"})
    assert (file, record[ORGANIZATION], record.get(REASON)) == ("records", "Umbrella", None)
    span = {
        "traceId": "0" * 31 + "7",
        "spanId": "0" * 15 + "7",
        "name": "chat",
        "kind": 3,
        "startTimeUnixNano": "1790000000000000000",
        "endTimeUnixNano": "1790000001000000000",
        "status": {"code": 2},
        "attributes": attributes({ORGANIZATION: "Umbrella"}),
    }
    body = {"resourceSpans": [{"resource": {}, "scopeSpans": [{"scope": {}, "spans": [span]}]}]}
    assert post(gateway.http_endpoint, "traces", body, "broker") == 200

    def organizations() -> list[str]:
        found = written(gateway.folder / "store" / "spans.jsonl", "resourceSpans", "scopeSpans", "spans")
        return [one["attributes"].get(ORGANIZATION) for one in found if one["spanId"] == span["spanId"]]

    assert wait_for(organizations, "the span", timeout=20) == ["Umbrella"]
    assert "failed to execute statement" not in gateway.log
