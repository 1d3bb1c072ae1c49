"""Web frameworks on real servers: every call of a request is for whom its function named, whenever it is made."""

from __future__ import annotations

import http.client
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from applications import ASYNC, SYNC, clients

from waiting import wait_for

CUSTOMERS = [f"customer{number}.example" for number in range(8)]
CALLS = {"plain": 1, "opened": 1, "inside": 2}
each_framework = pytest.mark.parametrize("framework", [*SYNC, *ASYNC])


@pytest.fixture
def port(framework: str, provider: Any, telemetry: Any, caplog: pytest.LogCaptureFixture) -> Any:
    caplog.set_level(logging.WARNING)
    with (SYNC | ASYNC)[framework](*clients(provider.base_url)) as at:
        yield at
    assert "detach" not in caplog.text
    assert "openai_metering" not in {entry.name for entry in caplog.records}


def get(port: int, path: str, customer: str) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", path, headers={"customer": customer})
        answer = connection.getresponse()
        assert answer.status == 200
        return answer.read()
    finally:
        connection.close()


def check(record: dict[str, Any]) -> str:
    """A record is for the customer whose model was asked for; returns the customer."""
    customer = record["gen_ai.request.model"].removeprefix("model-")
    levels = ("organization", "subscriber", "credential")
    assert [record.get(f"attribution.{level}.id") for level in levels] == [customer, f"joe@{customer}", "web"]
    return customer


@each_framework
@pytest.mark.parametrize("path", CALLS)
def test_requests_at_once_are_each_their_own(framework: str, path: str, port: int, telemetry: Any) -> None:
    """Requests of many customers at once: handlers, streamed bodies and what follows them keep their own names."""
    expected = CALLS[path] + (framework == "starlette" and path != "plain")  # and its background task
    with ThreadPoolExecutor(len(CUSTOMERS)) as browsers:
        for answer in browsers.map(lambda customer: get(port, f"/{path}", customer), CUSTOMERS * 2):
            assert answer
    wait_for(lambda: len(telemetry.records) >= 2 * expected * len(CUSTOMERS), "all records")
    found = [check(record) for record in telemetry.records]
    assert sorted(found) == sorted(CUSTOMERS * 2 * expected)
    assert all(check(dict(span.attributes)) for span in telemetry.spans)


@pytest.mark.parametrize("framework", SYNC)
def test_a_browser_that_leaves_half_way(framework: str, port: int, telemetry: Any) -> None:
    """What is done when the browser has left is still the customer's, and nothing of it stays behind in the thread."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/endless", headers={"customer": CUSTOMERS[0]})
    answer = connection.getresponse()
    assert answer.read(10_000)
    answer.close()
    connection.close()
    wait_for(lambda: len(telemetry.records) == 2, "the records of a request that was left")
    for customer in CUSTOMERS:
        get(port, "/plain", customer)
    wait_for(lambda: len(telemetry.records) == 2 + len(CUSTOMERS), "all records")
    assert [check(record) for record in telemetry.records] == [*CUSTOMERS[:1] * 2, *CUSTOMERS]


def test_an_async_view_of_flask(provider: Any, telemetry: Any) -> None:
    """Flask runs an async view in a loop of its own, which the scope reaches."""
    from applications import flask_application, waitress_server

    with waitress_server(flask_application(clients(provider.base_url)[0])) as port:
        get(port, "/async/plain", CUSTOMERS[3])
    assert check(telemetry.record()) == CUSTOMERS[3]
