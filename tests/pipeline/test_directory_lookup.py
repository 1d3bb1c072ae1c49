"""A directory in the gateway: what is compiled is read again while the real Collector runs."""

from __future__ import annotations

import itertools

import pytest
from running import Collector, htpasswd, logs, post, written

from openai_metering.cli import main
from waiting import wait_for

ORGANIZATION, SUBSCRIBER, CREDENTIAL = (
    f"attribution.{level}.id" for level in ("organization", "subscriber", "credential")
)
RECORD = {
    "openai_metering.record.state": "final",
    "openai_metering.operation": "chat.completions",
    "openai_metering.usage.status": "reported",
    "gen_ai.response.model": "gpt-4o",
    "gen_ai.usage.input_tokens": 7,
    "attribution.status": "partial",
}
number = itertools.count()


@pytest.fixture
def directory(tmp_path):
    def run(*args):
        assert main(["directory", *args, "--directory", str(tmp_path / "directory")]) == 0

    run("init")
    for cells in (
        ("organization", "acme"),
        ("organization", "nord"),
        ("subscriber", "joe@acme.com", "organization=acme"),
        ("subscriber", "ann@acme.com", "organization=acme"),
        ("credential", "key1", "subscriber=joe@acme.com"),
        ("credential", "shared", "subscriber=joe@acme.com;ann@acme.com"),
    ):
        run("add", *cells)
    run("compile")
    return run


def test_the_gateway_follows_the_directory(collector_binary, tmp_path, directory):
    """It fills what the directory says, adds nothing where that is blank, and takes a move over when it is compiled."""
    htpasswd(tmp_path / "htpasswd", ["reseller"])
    (tmp_path / "principals.csv").write_text("principal,organizations\nreseller,acme|nord\n", encoding="utf-8")
    (tmp_path / "lookup.csv").symlink_to(tmp_path / "directory" / "lookup.csv")
    with Collector(collector_binary, tmp_path, "gateway.yaml", STORE_DIR=str(tmp_path / "store")) as gateway:

        def sent(credential):
            record_id = f"record-{next(number)}"
            record = {**RECORD, "openai_metering.record.id": record_id, CREDENTIAL: credential}
            assert post(gateway.http_endpoint, "logs", logs(record), "reseller") == 200
            (found,) = wait_for(
                lambda: [
                    item["attributes"]
                    for item in written(tmp_path / "store" / "records.jsonl")
                    if item["attributes"]["openai_metering.record.id"] == record_id
                ],
                "the record",
            )
            return tuple(found.get(name) for name in (ORGANIZATION, SUBSCRIBER, "attribution.status"))

        assert sent("key1") == ("acme", "joe@acme.com", "complete")
        assert sent("shared") == ("acme", None, "partial")
        directory("set", "subscriber", "joe@acme.com", "organization=nord")
        directory("compile")
        wait_for(lambda: sent("key1") == ("nord", "joe@acme.com", "complete"), "the move", timeout=30)
        assert sent("shared") == (None, None, "partial")
