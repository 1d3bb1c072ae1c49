"""Nothing that the installed SDK can send is forgotten: each request is in a row, or in the list of free ones."""

from __future__ import annotations

import forms
import inventory
import openai
import pytest

from openai_metering.coverage import SINCE, TESTED
from openai_metering.free import FREE
from openai_metering.operations import CALLS, find
from openai_metering.realtime import SOCKETS

METHODS = inventory.methods()
REQUESTS = sorted({request for method in METHODS for request in method.requests})
NEWEST = hasattr(openai.OpenAI, "decisions")

# By the resource that has it. They never pass an HTTP client: their events are metered at the connection.
WEBSOCKETS = {
    "beta.realtime.realtime.Realtime.connect",
    "beta.responses.responses.Responses.connect",
    "live.forks.Forks.connect",
    "live.live.Live.connect",
    "live.sideband.Sideband.connect",
    "realtime.realtime.Realtime.connect",
    "realtime.translations.translations.Translations.connect",
    "responses.responses.Responses.connect",
}


# Rows whose events come by another request, or only as bytes.
STREAMED_ELSEWHERE = {"responses.compact", "images.create_variation", "audio.speech", "agents.sessions.events"}

# What calls other methods of its resource, and is in no form of the table.
HELPERS_APART = {
    "beta.agents.sessions.sessions.Sessions.stream": "posts its input as an event of its session: test_helpers.py",
    "beta.threads.runs.runs.Runs.poll": "looks at a run",
    "videos.Videos.poll": "looks at a video",
}


def in_a_row(method: str, path: str) -> bool:
    return find(method, path.replace("{}", "x")) is not None


def test_every_request_is_found_in_the_source():
    """The inventory sees each place where a resource names a verb, so that none is hidden from it."""
    assert len(METHODS) > 300
    assert sum(method.sends for method in METHODS) == inventory.sends()


@pytest.mark.parametrize(("method", "path"), REQUESTS, ids=[" ".join(request) for request in REQUESTS])
def test_every_request_is_metered_or_free_for_a_reason(method, path):
    """What a new SDK can send shows up here: it gets a row in `operations.py` or a reason in `free.py`."""
    is_free = any(free.matches(method, path) for free in FREE)
    assert in_a_row(method, path) or is_free, f"{method} {path} is new: can it cost money?"


def test_no_entry_hides_what_is_yet_to_come():
    """What creates something is free by its own path; only administration is free as a whole."""
    whole = {free.path for free in FREE if free.path.endswith("**") and "POST" in free.methods}
    assert whole == {
        "/organization/**",
        "/projects/**",
        "/webhook_endpoints/**",
        "/fine_tuning/checkpoints/{}/permissions/**",
    }


def test_the_synchronous_and_the_asynchronous_twin_send_the_same():
    """What is metered does not depend on how it is waited for."""
    sync = {(one.owner, one.name): one.requests for one in METHODS if not one.asynchronous and one.public}
    twin = {(one.owner, one.name): one.requests for one in METHODS if one.asynchronous and one.public}
    assert sync == twin


def version(text):
    return tuple(int(number) for number in text.split("."))


def test_the_page_says_since_when_each_operation_exists():
    """What is named as this SDK's or an older one's is there, and, where this SDK was asked itself, nothing else."""
    rows = {find(method, path.replace("{}", "x")) for method, path in REQUESTS} & set(CALLS)
    sockets = {SOCKETS[one.owner.split(".")[-2]].session.name for one in METHODS if one.websocket}
    there = {row.name for row in rows} | sockets
    here = version(openai.__version__)
    named = {row.name for row in CALLS} | {socket.session.name for socket in SOCKETS.values()}
    expected = {name for name in named if version(SINCE.get(name, TESTED[0])) <= here}
    assert named >= SINCE.keys()
    assert there == expected if openai.__version__ in TESTED else there >= expected


def test_every_websocket_is_known():
    """A method that opens a websocket sends no HTTP request, so that it is listed apart."""
    found = {f"{one.owner}.{one.name}" for one in METHODS if one.websocket}
    assert found == WEBSOCKETS if NEWEST else found <= WEBSOCKETS
    assert not any(one.requests for one in METHODS if one.websocket)


@pytest.mark.parametrize("free", FREE if NEWEST else [], ids=lambda free: f"{free.methods} {free.path}")
def test_every_free_entry_is_about_something(free):
    """The list holds no entry that the SDK does not have, and each says why."""
    assert any(free.matches(*request) and not in_a_row(*request) for request in REQUESTS)
    assert free.reason


@pytest.mark.parametrize("row", CALLS if NEWEST else [], ids=lambda row: row.name)
def test_every_row_is_about_something(row):
    """The table holds no row that the SDK does not have."""
    assert (row.method, row.path) in REQUESTS


# -- Every row has its forms -----------------------------------------------------------------------------------------

ROWS = {(row.method, row.path) for row in CALLS}
CASES = forms.cases()
ROW_OF = {operation.name: forms.row_of(operation) for operation, _ in CASES}
BILLED = [method for method in METHODS if method.public and method.requests & ROWS]
HELPERS = [
    method
    for method in METHODS
    if method.owner in {billed.owner for billed in BILLED}
    and method.public
    and not method.requests
    and not method.websocket
    and not method.view
]


def in_forms(asynchronous: bool) -> set[str]:
    """Every method that the table of forms calls, by its resource."""
    client = (openai.AsyncOpenAI if asynchronous else openai.OpenAI)()
    found = set()
    for operation, form in CASES:
        if form.asynchronous is asynchronous and form.needs != "post":
            name = operation.method if form.needs == "create" else form.needs.format(operation.method)
            found.add(
                f"{forms.owner_of(operation.of(client) if form.needs == 'create' else operation.helpers(client, name))}.{name}"
            )
    for operation, name in forms.polled():
        found.add(f"{forms.owner_of(operation.of(client))}.{name}")
    return found


IN_FORMS = {asynchronous: in_forms(asynchronous) for asynchronous in (False, True)}


@pytest.mark.parametrize("method", BILLED, ids=lambda method: method.label)
def test_every_method_that_costs_money_is_in_the_table_of_forms(method):
    """What this SDK can send for a row is sent by the conformance tests, sync and async."""
    assert f"{method.owner}.{method.name}" in IN_FORMS[method.asynchronous]


@pytest.mark.parametrize("method", HELPERS, ids=lambda method: method.label)
def test_every_helper_beside_them_is_in_the_table_of_forms(method):
    """A helper that makes one of these calls is a form of it."""
    name = f"{method.owner}.{method.name}"
    assert name in IN_FORMS[method.asynchronous] or name in HELPERS_APART


@pytest.mark.parametrize("row", CALLS if NEWEST else [], ids=lambda row: row.name)
def test_every_row_has_forms(row):
    """No row is without a call that shows it at work, and each that streams is streamed."""
    of_row = [form for operation, form in CASES if ROW_OF[operation.name] is row]
    assert {form.asynchronous for form in of_row} == {False, True}
    streams = any(form.streamed for form in of_row)
    assert streams == (row.observe is not None and row.name not in STREAMED_ELSEWHERE)
