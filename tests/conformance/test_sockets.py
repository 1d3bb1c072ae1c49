"""Websockets: one record for each consumption, whoever sends, reads, repeats, closes or breaks off."""

from __future__ import annotations

import gc
import importlib
import importlib.util
import inspect
import json
import os
import sys
import tracemalloc
from typing import TYPE_CHECKING, Any

import openai
import pytest
from forms import WHO
from socket_forms import KINDS, Connection, Driver, has_lanes, named, sockets, supports, type_of

from in_memory import metered
from openai_metering import (
    OpenAIInstrumentor,
    attribution,
    attribution_baggage,
    bind,
    errors,
    set_attribution_resolver,
    usage_headers,
)
from openai_metering.call import open_calls
from openai_metering.keys import fingerprint
from openai_metering.realtime import SOCKETS

if TYPE_CHECKING:
    from collections.abc import Iterator

FULL = os.environ.get("OPENAI_METERING_TEST_SIZE") == "full"
REALTIME = named("realtime")
RESPONSES = named("responses")
SPEAKING = [*REALTIME, *RESPONSES]
LIVE = named("live")

ORGANIZATION = "attribution.organization.id"
SUBSCRIBER = "attribution.subscriber.id"
OPERATION = "openai_metering.operation"
STATUS = "openai_metering.usage.status"
REASON = "openai_metering.usage.reason"
OUTCOME = "openai_metering.outcome"
RESPONSE_ID = "gen_ai.response.id"
INPUT = "gen_ai.usage.input_tokens"


@pytest.fixture(scope="module")
def standin_process() -> Iterator[Any]:
    from openai_metering.local.sockets import SocketStandIn

    with SocketStandIn() as standin:
        yield standin


@pytest.fixture
def standin(standin_process: Any) -> Iterator[Any]:
    """The websocket stand-in. What identifies people must never reach it, and nothing of ours may fail."""
    standin_process.reset()
    before = errors.counts.copy()
    yield standin_process
    assert standin_process.violations == []
    assert errors.counts == before


@pytest.fixture(params=KINDS)
def driver(request: Any, standin: Any) -> Iterator[Driver]:
    made = Driver(request.param, standin.url)
    yield made
    made.end()


def by_id(telemetry: Any) -> dict[str, dict[str, Any]]:
    records = telemetry.records
    found = {record.get(RESPONSE_ID): record for record in records}
    assert len(found) == len(records), "two records of one consumption"
    return found


def expected(usage: Any) -> dict[str, Any]:
    """What a record says of a usage object."""
    if usage is None:
        return {}
    found = {INPUT: usage["input_tokens"], "gen_ai.usage.output_tokens": usage["output_tokens"]}
    for name, direction in (("input", "input"), ("output", "output")):
        details = usage.get(f"{name}_token_details") or usage.get(f"{name}_tokens_details") or {}
        for modality in ("text", "image", "audio"):
            if f"{modality}_tokens" in details:
                found[f"gen_ai.usage.{modality}.{direction}_tokens"] = details[f"{modality}_tokens"]
        if "cached_tokens" in details:
            found["gen_ai.usage.cache_read.input_tokens"] = details["cached_tokens"]
        for modality, value in (details.get("cached_tokens_details") or {}).items():
            found[f"gen_ai.usage.{modality.removesuffix('_tokens')}.cache_read.input_tokens"] = value
    return found


def check_served(telemetry: Any, standin: Any) -> dict[str, dict[str, Any]]:
    """Hold the records against what the stand-in billed: each once, to the token."""
    records = by_id(telemetry)
    served = {one.id: one for one in standin.served}
    assert records.keys() == served.keys()
    for identity, record in records.items():
        want = expected(served[identity].usage)
        assert want.items() <= record.items()
        assert record[STATUS] == ("reported" if want else "unknown")
    return records


# -- The installed SDK -----------------------------------------------------------------------------------------------


def test_every_socket_of_the_sdk_has_a_row():
    """A new kind of websocket in a new SDK shows by failing here."""
    assert {path.rpartition(".")[2] for path in sockets()} <= SOCKETS.keys()


@pytest.mark.parametrize("path", sockets())
def test_every_socket_is_seen_and_the_keyword_stays_at_home(telemetry, standin, driver, path):
    """`connect()` of every socket takes the keyword, gives it a session span, and sends nothing of ours."""
    connection = driver.open(path, usage_metadata=dict(WHO))
    assert "parse_event" in {name for owner in type(connection.inner).__mro__ for name in vars(owner)}
    connection.close()
    (session,) = [span for span in telemetry.spans if span.parent is None]
    assert session.attributes[ORGANIZATION] == WHO["organization_id"]
    assert session.attributes["server.port"] == int(standin.url.rpartition(":")[2].partition("/")[0])
    (handshake,) = standin.handshakes
    assert not [name for name in handshake.headers if "metering" in name]
    assert not [value for value in handshake.headers.values() if "AcmeSoft" in value]


@pytest.mark.parametrize("path", sockets())
def test_a_socket_works_bare_when_switched_off(standin, driver, path):
    """Switched off, the keyword is still taken out and nothing is hooked."""
    instrumentor = OpenAIInstrumentor()
    instrumentor.instrument(enabled=False)
    try:
        connection = driver.open(path, usage_metadata=dict(WHO))
        assert "_openai_metering" not in vars(connection.inner)
        if hasattr(connection.inner, "response"):
            send(connection)
        connection.close()
    finally:
        instrumentor.uninstrument()


@pytest.mark.parametrize("path", SPEAKING)
def test_uninstrument_puts_the_classes_back(telemetry, standin, driver, path):
    """After `uninstrument()` the SDK's classes are the SDK's own."""
    connection = driver.open(path)
    wrapped = type(connection.inner).parse_event
    assert hasattr(wrapped, "__wrapped__")
    OpenAIInstrumentor().uninstrument()
    assert not hasattr(type(connection.inner).parse_event, "__wrapped__")
    assert not hasattr(type(connection.inner.response).create, "__wrapped__")
    connection.close()


@pytest.mark.parametrize("path", SPEAKING)
def test_a_connect_that_was_taken_before_instrumenting_is_metered(standin, driver, path):
    """A method taken from a client before `instrument()` opens a metered connection, in the scope around its opening."""
    from functools import reduce

    from in_memory import make_telemetry

    connect = reduce(getattr, path.split("."), driver.client).connect
    telemetry = make_telemetry()
    OpenAIInstrumentor().instrument(
        tracer_provider=telemetry.tracer_provider,
        meter_provider=telemetry.meter_provider,
        logger_provider=telemetry.logger_provider,
    )
    try:
        with attribution(organization_id="scope"):
            manager = connect(model="gpt-realtime") if path in REALTIME else connect()
            connection = Connection(driver, driver.run(manager.enter()))
        connection.create()
        connection.ended()
        connection.close()
    finally:
        OpenAIInstrumentor().uninstrument()
    (record,) = check_served(telemetry, standin).values()
    assert record[ORGANIZATION] == "scope"


# -- One record for each response ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "reading"),
    [
        (path, reading)
        for path in SPEAKING
        for reading in ("recv", "iterate", "parse", "late", "bytes", "dispatch")
        if reading != "dispatch" or supports(path, "dispatch_events")
    ],
)
def test_a_response_is_recorded_once_however_it_is_read(telemetry, standin, driver, path, reading):
    """`recv`, iteration, `recv_bytes` with `parse_event`, later, or alone, and `dispatch_events` are one seam."""
    open_before = set(open_calls)
    connection = driver.open(path, usage_metadata=dict(WHO))
    connection.create()
    if reading == "recv":
        connection.ended()
    elif reading == "iterate":
        connection.iterate(lambda event: type_of(event) in ("response.done", "response.completed"))
    elif reading == "parse":
        kind = ""
        while kind not in ("response.done", "response.completed"):
            data = driver.run(connection.inner.recv_bytes())
            event, again = connection.inner.parse_event(data), connection.inner.parse_event(data)
            kind = type_of(event)
            assert type_of(again) == kind
    elif reading in ("late", "bytes"):
        received: list[bytes] = []
        while not received or json.loads(received[-1])["type"] not in ("response.done", "response.completed"):
            received.append(driver.run(connection.inner.recv_bytes()))
            assert type(received[-1]) is bytes
        assert len(telemetry.records) == 1, "known when the caller has the last event"
        for data in received if reading == "late" else ():
            connection.inner.parse_event(data.decode())
    else:
        seen = []
        connection.inner.on("event", seen.append)
        connection.create(scenario="bye")  # ends the loop
        driver.run(connection.inner.dispatch_events())
        assert {"response.done", "response.completed"} & {type_of(event) for event in seen}
    connection.close()
    records = {key: record for key, record in by_id(telemetry).items() if record[STATUS] == "reported"}
    (served,) = standin.served
    assert expected(served.usage).items() <= records[served.id].items()
    record = records[served.id]
    realtime = path in REALTIME
    assert record["gen_ai.operation.name"] == ("realtime" if realtime else "chat")
    assert record[OPERATION] == ("realtime" if realtime else "responses.socket")
    assert record["gen_ai.request.model"] == ("gpt-realtime" if realtime else "gpt-5")
    assert record["gen_ai.response.model"] == ("gpt-realtime" if realtime else "gpt-5-2025-01-01")
    assert record[ORGANIZATION] == WHO["organization_id"]
    assert record["attribution.organization.source"] == "keyword"
    assert open_calls <= open_before


@pytest.mark.parametrize("path", SPEAKING)
def test_signals_of_a_session(telemetry, standin, driver, path):
    """A session span with a child for each response; metrics as for any call, and none for the session itself."""
    connection = driver.open(path, usage_metadata=dict(WHO))
    for _ in range(3):
        connection.create()
        connection.ended()
    connection.close()
    check_served(telemetry, standin)
    (session,) = [span for span in telemetry.spans if span.parent is None]
    children = [span for span in telemetry.spans if span.parent is not None]
    assert [child.parent.span_id for child in children] == [session.context.span_id] * 3
    assert session.name.startswith("realtime.session" if path in REALTIME else "responses.session")
    assert session.start_time <= children[0].start_time
    assert session.end_time >= children[-1].end_time
    total = sum(one.usage["input_tokens"] for one in standin.served)
    assert telemetry.total("gen_ai.client.inference.usage.input_tokens") == total
    assert telemetry.total("openai_metering.calls") == 3
    if path in REALTIME:
        audio = sum(one.usage["input_token_details"]["audio_tokens"] for one in standin.served)
        assert (
            telemetry.total("gen_ai.client.inference.usage.input_tokens", **{"gen_ai.token.modality": "audio"}) == audio
        )
        cached = sum(
            one.usage["input_token_details"]["cached_tokens_details"]["audio_tokens"] for one in standin.served
        )
        name = "gen_ai.client.inference.usage.cache_read.input_tokens"
        assert telemetry.total(name, **{"gen_ai.token.modality": "audio"}) == cached


@pytest.mark.parametrize("path", SPEAKING)
@pytest.mark.parametrize("scenario", ["failed", "incomplete", "silent", "tools", "cancelled"])
def test_however_a_response_ends_it_is_billed(telemetry, standin, driver, path, scenario):
    """A failed, incomplete or cancelled response reports its usage, too; one without usage is unknown and not zero."""
    connection = driver.open(path)
    connection.create(scenario=scenario)
    connection.ended()
    connection.close()
    (record,) = check_served(telemetry, standin).values()
    assert record[OUTCOME] == ("failed" if scenario == "failed" else "completed")
    if scenario == "failed":
        assert record["error.type"] == "boom"
    if scenario == "silent":
        assert record[REASON] == "not_sent"
        assert INPUT not in record


@pytest.mark.parametrize("path", SPEAKING)
def test_interleaved_responses_keep_apart(telemetry, standin, driver, path):
    """Two responses at once: each has its own usage and its own who, in whatever order they end."""
    connection = driver.open(path)
    with attribution(organization_id="first"):
        connection.create(scenario="hold")
    first = connection.until("response.created").response.id
    with attribution(organization_id="second"):
        connection.create()
    second = connection.until("response.created").response.id
    assert connection.ended().response.id == second
    assert connection.ended().response.id == first
    connection.close()
    records = check_served(telemetry, standin)
    assert (records[first][ORGANIZATION], records[second][ORGANIZATION]) == ("first", "second")


@pytest.mark.parametrize("path", SPEAKING)
def test_repeated_events_add_nothing(telemetry, standin, driver, path):
    """Every event twice, with the same ids: one record."""
    connection = driver.open(path)
    connection.create(scenario="repeat")
    connection.ended()
    connection.ended()
    connection.create()
    connection.ended()
    connection.close()
    assert len(check_served(telemetry, standin)) == 2


@pytest.mark.parametrize("path", SPEAKING)
def test_an_id_that_is_given_again_is_a_response_of_its_own(telemetry, standin, driver, path):
    """A server that gives every response the same id, and says each event twice: what was ordered anew counts anew."""
    connection = driver.open(path)
    for organization in ("first", "second", "third"):
        with attribution(organization_id=organization):
            connection.create(scenario="same")
        connection.ended()
        connection.ended()
    connection.close()
    assert [served.id for served in standin.served] == ["resp_same"] * 3
    assert [record[RESPONSE_ID] for record in telemetry.records] == ["resp_same"] * 3
    assert [record[ORGANIZATION] for record in telemetry.records] == ["first", "second", "third"]
    for record, served in zip(telemetry.records, standin.served, strict=True):
        assert expected(served.usage).items() <= record.items()


@pytest.mark.parametrize("path", REALTIME)
def test_an_id_that_is_given_again_unasked_is_a_response_of_its_own(telemetry, standin, driver, path):
    """Where the server starts responses by itself, the id of the event tells a new one from a repeated one."""
    connection = driver.open(path)
    standin.plan += ["same", "same"]
    for _ in range(2):
        connection.send(type="input_audio_buffer.append", audio="end-of-speech")
        connection.ended()
        connection.ended()
    connection.close()
    assert [record.get(RESPONSE_ID) for record in telemetry.records].count("resp_same") == 2
    assert len(telemetry.records) == len(standin.served) == 4


@pytest.mark.parametrize("path", [path for path in REALTIME if supports(path, "call_id")])
def test_a_second_connection_to_a_session_adds_nothing(telemetry, standin, driver, path):
    """Of two connections that hear the same responses under one id, each consumption is counted by one."""
    call_id = f"rtc_same_{driver.is_async}"
    first, second = driver.open(path, call_id=call_id), driver.open(path, call_id=call_id)
    usage = {"input_tokens": 1, "output_tokens": 1}
    for number in range(3):
        for connection, name in ((first, "a"), (second, "b")):
            for kind in ("response.created", "response.done"):
                response = {"id": "resp_same", "status": "completed", "usage": usage}
                event = {"type": kind, "event_id": f"{kind}{number}{name}", "response": response}
                connection.inner.parse_event(json.dumps(event))
    first.close()
    second.close()
    assert [record[RESPONSE_ID] for record in telemetry.records] == ["resp_same"] * 3


@pytest.mark.parametrize("path", [path for path in SPEAKING if supports(path, "on_reconnecting")])
def test_reconnects_add_nothing(telemetry, standin, driver, path):
    """The connection breaks off, is made again and repeats what was said: one record for each response."""
    manager_arguments: dict[str, Any] = {"on_reconnecting": lambda event: None, "initial_delay": 0.01}
    connection = driver.open(path, **manager_arguments)
    connection.create(scenario="reconnect")
    ends: list[Any] = []

    def stop(event: Any) -> bool:
        if type_of(event) in ("response.done", "response.completed"):
            ends.append(event)
        return len(ends) == 2

    connection.iterate(stop)
    connection.create()
    connection.ended()
    connection.close()
    assert len(standin.handshakes) == 2
    assert ends[0].response.id == ends[1].response.id
    assert len(check_served(telemetry, standin)) == 2


@pytest.mark.parametrize("path", [path for path in SPEAKING if supports(path, "on_reconnecting")])
def test_what_a_broken_connection_was_sent_is_forgotten(telemetry, standin, driver, path):
    """A message that the server never answered does not give its scope to the first response after it."""
    from websockets.exceptions import ConnectionClosed

    manager_arguments: dict[str, Any] = {"on_reconnecting": lambda event: None, "initial_delay": 0.01}
    connection = driver.open(path, **manager_arguments)
    standin.plan.append("vanish")
    with attribution(organization_id="vanished"):
        connection.create()
    with pytest.raises(ConnectionClosed) as caught:
        connection.until("the end")
    assert driver.run(connection.inner._reconnect(caught.value))
    connection.create()
    connection.ended()
    connection.close()
    (record,) = check_served(telemetry, standin).values()
    assert ORGANIZATION not in record


# -- How a session ends ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", SPEAKING)
@pytest.mark.parametrize("scenario", ["cut", "bye"])
def test_a_response_that_is_cut_off_is_unknown(telemetry, standin, driver, path, scenario):
    """The connection ends between the beginning and the end of a response: unknown, and not zero."""
    from websockets.exceptions import ConnectionClosed

    connection = driver.open(path)
    connection.create(scenario=scenario)
    begun = connection.until("response.created").response.id
    with pytest.raises(ConnectionClosed):
        connection.recv()
    (record,) = telemetry.records
    assert (record[RESPONSE_ID], record[STATUS], record[REASON], record[OUTCOME]) == (begun, "unknown", "cut", "failed")
    assert INPUT not in record
    connection.close()
    assert len(telemetry.records) == 1
    assert len(telemetry.spans) == 2


@pytest.mark.parametrize("path", SPEAKING)
def test_a_response_whose_connection_the_caller_closes_is_unknown(telemetry, standin, driver, path):
    """The caller leaves before the end."""
    connection = driver.open(path)
    connection.create(scenario="hold")
    connection.until("response.created")
    connection.close()
    (record,) = telemetry.records
    assert (record[STATUS], record[REASON], record[OUTCOME]) == ("unknown", "closed_before_usage", "stopped")


@pytest.mark.parametrize("path", SPEAKING)
def test_leaving_the_manager_ends_the_session(telemetry, standin, driver, path):
    """`with` and `async with` close, and an exception of the application passes untouched."""
    open_before = set(open_calls)
    manager = driver.connect(path)
    error = ValueError("the application's own")

    async def use() -> None:
        async with manager as connection:
            await connection.response.create()
            raise error

    def use_plainly() -> None:
        with manager as connection:
            connection.response.create()
            raise error

    with pytest.raises(ValueError, match="own") as caught:
        driver.run(use()) if driver.is_async else use_plainly()
    assert caught.value is error
    assert len(telemetry.spans) == 1
    assert open_calls <= open_before


@pytest.mark.parametrize("path", SPEAKING)
def test_a_connection_that_is_forgotten_ends(telemetry, standin, path):
    """Garbage-collected without a close: the response that was open is recorded, not lost."""
    driver = Driver("OpenAI", standin.url)
    connection = driver.open(path)
    connection.create(scenario="hold")
    connection.until("response.created")
    transport = connection.inner._connection
    del connection
    gc.collect()
    record = telemetry.record()
    assert (record[STATUS], record[OUTCOME]) == ("unknown", "dropped")
    transport.close()


# -- Who -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", SPEAKING)
def test_who_a_response_is_for(telemetry, standin, driver, path):
    """The keyword of `connect()` beats its scope; a scope around one response beats both, field by field."""
    with attribution(organization_id="outer", subscriber_identity="outer@acme.com", team="blue"):
        connection = driver.open(path, usage_metadata={"organization_id": "keyword"})
        connection.create()
        first = connection.ended().response.id
        with attribution(organization_id="inner"):
            connection.create()
            second = connection.ended().response.id
    with attribution(subscriber_identity="later@acme.com"):
        connection.create()
        third = connection.ended().response.id
    connection.create()
    fourth = connection.ended().response.id
    connection.close()
    records = check_served(telemetry, standin)
    assert [records[key][ORGANIZATION] for key in (first, second, third, fourth)] == [
        "keyword",
        "inner",
        "keyword",
        "keyword",
    ]
    assert [records[key][SUBSCRIBER] for key in (first, second, third, fourth)] == [
        "outer@acme.com",
        "outer@acme.com",
        "later@acme.com",
        "outer@acme.com",
    ]
    assert [records[key]["attribution.organization.source"] for key in (first, second)] == ["keyword", "scope"]
    assert {record["attribution.tag.team"] for record in records.values()} == {"blue"}


def send(connection: Connection) -> None:
    """Ask for two responses with the keyword on the helper and on `send`, and for one without it."""
    connection.create(who={"organization_id": "created", "subscriber_identity": "new@acme.com"})
    connection.driver.run(
        connection.inner.send({"type": "response.create"}, usage_metadata={"organization_id": "sent"})
    )
    connection.create(who={"organization_id": 7})


@pytest.mark.parametrize("path", SPEAKING)
def test_a_key_in_the_place_of_a_tier_is_masked(telemetry, standin, driver, path):
    """A mix-up of arguments does not put a key into telemetry."""
    connection = driver.open(path)
    body = {"service_tier": "sk-proj-Ab3dEf6hIj9lMn2pQr5tUv8xYz1BcD4fGh7jKl0n"}
    connection.send(type="response.create", **({"response": body} if path in REALTIME else body))
    connection.ended()
    connection.close()
    (record,) = check_served(telemetry, standin).values()
    assert record["openai.request.service_tier"] == "[masked]"


@pytest.mark.parametrize("path", SPEAKING)
def test_the_keyword_of_one_response_beats_all(telemetry, standin, driver, path):
    """Whoever a session is for, and whatever scope is around: what is said with a single message holds for it alone."""
    with attribution(organization_id="created", team="blue"):
        connection = driver.open(path, usage_metadata=dict(WHO))
        send(connection)
        keys = [connection.ended().response.id for _ in range(3)]
    connection.close()
    records = check_served(telemetry, standin)
    assert [records[key][ORGANIZATION] for key in keys] == ["created", "sent", WHO["organization_id"]]
    assert [records[key][SUBSCRIBER] for key in keys] == ["new@acme.com", *[WHO["subscriber_identity"]] * 2]
    assert {records[key]["attribution.organization.source"] for key in keys} == {"keyword"}
    assert not [message for message in standin.received if "acme.com" in message or "usage_metadata" in message]


@pytest.mark.parametrize("path", SPEAKING)
def test_a_bound_client_and_headers_say_who(telemetry, standin, path):
    """`bind` and `usage_headers` hold for the session and its responses, and nothing of them is in the handshake."""
    for kind in KINDS:
        driver = Driver(kind, standin.url)
        driver.client = bind(driver.client, organization_id="bound", subscriber_identity="bound")
        connection = driver.open(path, extra_headers={"x-mine": "1", **usage_headers(subscriber_identity="header")})
        connection.create()
        connection.ended()
        connection.close()
        driver.end()
    for record in check_served(telemetry, standin).values():
        assert (record[ORGANIZATION], record[SUBSCRIBER]) == ("bound", "header")
        assert record["attribution.organization.source"] == "client"
        assert record["attribution.subscriber.source"] == "keyword"
    assert [handshake.headers["x-mine"] for handshake in standin.handshakes] == ["1", "1"]


@pytest.mark.parametrize("path", SPEAKING)
def test_the_resolver_is_asked_for_each_response(telemetry, standin, driver, path):
    """Who was there when a response was asked for; where nobody was, who was there at `connect()`."""
    user = "at connect"
    set_attribution_resolver(lambda: {"subscriber_identity": user} if user else None)
    try:
        connection = driver.open(path)
        seen = []
        for present in ("first", "second", ""):
            user = present
            connection.create()
            seen.append(connection.ended().response.id)
        user = "other"
        with attribution(subscriber_identity="scope"):
            connection.create()
        seen.append(connection.ended().response.id)
        connection.close()
    finally:
        set_attribution_resolver(None)
    records = check_served(telemetry, standin)
    assert [records[one][SUBSCRIBER] for one in seen] == ["first", "second", "at connect", "scope"]
    assert records[seen[0]]["attribution.subscriber.source"] == "resolver"
    (session,) = [span for span in telemetry.spans if span.parent is None]
    assert session.attributes[SUBSCRIBER] == "at connect"


@pytest.mark.parametrize("path", SPEAKING)
@pytest.mark.parametrize("kind", KINDS if hasattr(openai.OpenAI(api_key="test"), "_api_key_provider") else [])
def test_a_key_that_a_function_supplies_is_known_by_the_handshake(standin, path, kind):
    """Who the key stands for is on the session and on each response."""
    key, secret = "sk-proj-0123456789abcdefghijKLMN", "the secret of the fingerprints"
    options = {"key_map": json.dumps({fingerprint(key, secret): "key1"}), "fingerprint_secret": secret}

    async def supply_async() -> str:
        return key

    with metered(**options) as made:
        driver = Driver(kind, standin.url, api_key=supply_async if kind.startswith("Async") else lambda: key)
        connection = driver.open(path)
        connection.create()
        connection.ended()
        connection.close()
        driver.end()
    # Before 3.0 the SDK itself asks the function for realtime alone, and sends no key with other handshakes.
    sent = key in standin.handshakes[0].headers.get("authorization", "")
    assert sent or (path not in REALTIME and openai.__version__ < "3")
    (record,) = made.records
    found = record.get("attribution.credential.id"), record.get("attribution.credential.source")
    assert found == (("key1", "key_map") if sent else (None, None))
    assert {span.attributes.get("attribution.credential.id") for span in made.spans} == {found[0]}


@pytest.mark.parametrize("path", [path for path in SPEAKING if supports(path, "on_reconnecting")])
@pytest.mark.parametrize("kind", KINDS)
def test_the_handshake_hands_nobodys_name_on(telemetry, standin, path, kind):
    """What instruments the websocket library finds the user's own baggage, and no entry of ours; on a reconnect, too."""
    from opentelemetry import baggage, context
    from opentelemetry.propagate import inject

    package = "websockets.asyncio.client" if kind.startswith("Async") else "websockets.sync.client"
    library = importlib.import_module(package)

    class Injecting(library.ClientConnection):
        def handshake(self, additional_headers: Any = None, *args: Any, **kwargs: Any) -> Any:
            inject(carried := dict(additional_headers or {}))
            return super().handshake(carried, *args, **kwargs)

    with attribution(organization_id="AcmeSoft"):
        token = context.attach(baggage.set_baggage("shop.region", "eu", attribution_baggage()))
    driver = Driver(kind, standin.url)
    ends: list[Any] = []

    def stop(event: Any) -> bool:
        if type_of(event) in ("response.done", "response.completed"):
            ends.append(event)
        return len(ends) == 2

    try:
        options = {"create_connection": Injecting}
        connection = driver.open(
            path, websocket_connection_options=options, on_reconnecting=lambda event: None, initial_delay=0.01
        )
        connection.create(scenario="reconnect")
        connection.iterate(stop)
    finally:
        context.detach(token)
    connection.close()
    driver.end()
    assert [handshake.headers["baggage"] for handshake in standin.handshakes] == ["shop.region=eu"] * 2


@pytest.mark.parametrize("path", [path for path in SPEAKING if supports(path, "send_raw")])
def test_every_way_to_send_takes_the_keyword(telemetry, standin, driver, path):
    """The manager's own queue and text messages, too, and messages that start nothing."""
    manager = driver.connect(path)
    if hasattr(manager, "send"):
        manager.send({"type": "response.create"}, usage_metadata={"organization_id": "queued"})
    connection = Connection(driver, driver.run(manager.enter()))
    queued = connection.ended().response.id
    message = json.dumps({"type": "response.create"})
    driver.run(connection.inner.send_raw(message, usage_metadata={"organization_id": "raw"}))
    raw = connection.ended().response.id
    if path in REALTIME:
        driver.run(connection.inner.session.update(session={"type": "realtime"}, usage_metadata=dict(WHO)))
        connection.until("session.updated")
    connection.close()
    records = check_served(telemetry, standin)
    assert (records[queued][ORGANIZATION], records[raw][ORGANIZATION]) == ("queued", "raw")


@pytest.mark.parametrize("path", SPEAKING)
def test_the_scope_around_connect_holds_though_it_is_entered_later(telemetry, standin, driver, path):
    """A manager made in a scope and entered outside of it belongs to the scope."""
    with attribution(organization_id="early"):
        manager = driver.connect(path)
    connection = Connection(driver, driver.run(manager.enter()))
    connection.create()
    connection.ended()
    connection.close()
    (record,) = check_served(telemetry, standin).values()
    assert record[ORGANIZATION] == "early"


@pytest.mark.parametrize("path", [path for path in SPEAKING if supports(path, "send_raw")])
def test_what_is_sent_as_text_or_queued_has_its_scope(telemetry, standin, driver, path):
    """`send_raw` and the manager's own queue are ways to send, too."""
    manager = driver.connect(path)
    connection = None
    if hasattr(manager, "send"):
        with attribution(organization_id="queued"):
            manager.send({"type": "response.create"})
    connection = Connection(driver, driver.run(manager.enter()))
    queued = connection.ended().response.id
    with attribution(organization_id="raw"):
        driver.run(connection.inner.send_raw(json.dumps({"type": "response.create"})))
    raw = connection.ended().response.id
    connection.close()
    records = check_served(telemetry, standin)
    assert (records[queued][ORGANIZATION], records[raw][ORGANIZATION]) == ("queued", "raw")


@pytest.mark.parametrize("path", SPEAKING)
def test_a_refused_response_does_not_shift_the_others(telemetry, standin, driver, path):
    """The scope of a message that the server refused is not that of the next response."""
    connection = driver.open(path)
    standin.plan.append("refused")
    with attribution(organization_id="refused"):
        connection.send(type="response.create", event_id="mine")
    connection.until("error")
    connection.create()
    connection.ended()
    connection.close()
    (record,) = check_served(telemetry, standin).values()
    assert ORGANIZATION not in record


@pytest.mark.parametrize("path", REALTIME)
def test_a_response_that_the_server_starts_is_the_sessions(telemetry, standin, driver, path):
    """Server-side voice detection: who is talking is who the session is for, whatever scope audio was sent in."""
    connection = driver.open(path, usage_metadata={"organization_id": "session"})
    with attribution(organization_id="other"):
        driver.run(connection.inner.input_audio_buffer.append(audio="end-of-speech"))
    connection.ended()
    connection.close()
    records = {record[OPERATION]: record for record in telemetry.records}
    assert len(telemetry.records) == 2
    assert records["realtime"][ORGANIZATION] == "session"
    assert records["realtime.transcription"][ORGANIZATION] == "session"


@pytest.mark.parametrize("path", REALTIME)
def test_metadata_tells_whose_response_it_is(telemetry, standin, driver, path):
    """A response that the server started in between does not take the scope of one that was asked for by name."""
    connection = driver.open(path, usage_metadata={"organization_id": "session"})
    driver.run(connection.inner.input_audio_buffer.append(audio="end-of-speech"))
    with attribution(organization_id="asked"):
        connection.create(purpose="mine")
    first, second = connection.ended().response.id, connection.ended().response.id
    connection.close()
    records = {record.get(RESPONSE_ID): record for record in telemetry.records}
    assert (records[first][ORGANIZATION], records[second][ORGANIZATION]) == ("session", "asked")


@pytest.mark.parametrize("path", RESPONSES)
def test_a_server_that_repeats_no_metadata_answers_in_order(telemetry, standin, driver, path):
    """Where every response was asked for, the oldest message that waits is the one."""
    connection = driver.open(path)
    for organization in ("first", "second"):
        with attribution(organization_id=organization):
            connection.create(scenario="mute")
    for _ in range(2):
        connection.ended()
    connection.close()
    records = check_served(telemetry, standin)
    assert [record[ORGANIZATION] for record in records.values()] == ["first", "second"]


@pytest.mark.parametrize("path", REALTIME)
def test_a_change_of_the_transcription_model_does_not_reprice(telemetry, standin, path):
    """The model is the one of the moment at which the audio was committed."""
    connection = Driver("OpenAI", standin.url).open(path)
    configured = {
        "type": "session.updated",
        "event_id": "e",
        "session": {"input_audio_transcription": {"model": "old"}},
    }
    for event in (
        configured,
        {"type": "input_audio_buffer.committed", "event_id": "e1", "item_id": "item"},
        {**configured, "session": {"input_audio_transcription": {"model": "new"}}},
        {
            "type": "conversation.item.input_audio_transcription.completed",
            "event_id": "e2",
            "item_id": "item",
            "content_index": 0,
            "transcript": "hello",
            "usage": {"type": "tokens", "input_tokens": 1, "output_tokens": 2, "total_tokens": 3},
        },
    ):
        connection.inner.parse_event(json.dumps(event))
    connection.close()
    (record,) = telemetry.records
    assert record["gen_ai.request.model"] == "old"


@pytest.mark.parametrize("path", RESPONSES)
def test_the_servers_continuation_is_for_whom_the_response_was(telemetry, standin, driver, path):
    """A steered response has a successor that nobody asked for by itself."""
    connection = driver.open(path)
    with attribution(organization_id="steered"):
        connection.create(scenario="steered")
    connection.ended()
    connection.ended()
    connection.close()
    records = check_served(telemetry, standin)
    assert [record[ORGANIZATION] for record in records.values()] == ["steered", "steered"]


@pytest.mark.parametrize("path", [path for path in RESPONSES if has_lanes(path)])
def test_lanes_keep_apart(telemetry, standin, driver, path):
    """Responses of two lanes of one connection each belong to the message of their own lane."""
    connection = driver.open(path)
    with attribution(organization_id="a"):
        connection.create(lane="a", scenario="hold")
    with attribution(organization_id="b"):
        connection.create(lane="b")
    connection.ended()
    connection.ended()
    connection.close()
    records = list(check_served(telemetry, standin).values())
    assert sorted(record[ORGANIZATION] for record in records) == ["a", "b"]


LANES = "openai.lib.responses_websocket"


@pytest.mark.parametrize("name", [f"{LANES}._session"] if importlib.util.find_spec(LANES) else [])
def test_what_a_lane_sends_has_its_scope(telemetry, standin, name):
    """The SDK's multiplexed session writes to the transport itself."""
    session_module = importlib.import_module(name)
    driver = Driver("OpenAI", standin.url)
    connection = driver.open("responses")
    limits = session_module.ResponsesWebSocketLimits
    needed = [name for name, field in inspect.signature(limits).parameters.items() if field.default is field.empty]
    with session_module.ResponsesWebSocketSession(
        connection.inner, limits=limits(**dict.fromkeys(needed, 10**6))
    ) as session:
        lane = session.lane("mine")
        with attribution(organization_id="lane"):
            lane.send({"type": "response.create", "model": "gpt-5", "input": "hi"})
        lane.get_final_response(timeout=10)
    (record,) = check_served(telemetry, standin).values()
    assert record[ORGANIZATION] == "lane"


# -- Other consumptions of a session ---------------------------------------------------------------------------------


@pytest.mark.parametrize("path", REALTIME)
@pytest.mark.parametrize("model", ["gpt-4o-transcribe", "whisper-1"])
def test_input_transcription_is_a_consumption_of_its_own(telemetry, standin, driver, path, model):
    """On its own model, in tokens or in seconds; a later change of the model does not reprice it."""
    connection = driver.open(path, usage_metadata=dict(WHO))
    connection.until("session.created")
    recognition = {"model": model}
    connection.send(
        type="session.update",
        session={
            "type": "realtime",
            "audio": {"input": {"transcription": recognition}},
            "input_audio_transcription": recognition,
        },
    )
    connection.until("session.updated")
    driver.run(connection.inner.input_audio_buffer.commit())
    connection.until("conversation.item.input_audio_transcription.completed")
    connection.close()
    (record,) = telemetry.records
    (served,) = standin.served
    assert record[OPERATION] == "realtime.transcription"
    assert record["gen_ai.operation.name"] == "transcription"
    assert record["gen_ai.request.model"] == model
    assert record[STATUS] == "reported"
    assert record[ORGANIZATION] == WHO["organization_id"]
    if model == "whisper-1":
        assert record["openai_metering.usage.seconds"] == served.usage["seconds"]
        assert INPUT not in record
    else:
        assert expected(served.usage).items() <= record.items()
        assert "openai_metering.usage.seconds" not in record


@pytest.mark.parametrize("path", named("translations"))
@pytest.mark.parametrize("closing", [True, False])
def test_a_translation_reports_no_usage(telemetry, standin, driver, path, closing):
    """One record for each session, unknown: no event of it says what it cost."""
    connection = driver.open(path, usage_metadata=dict(WHO))
    if closing:
        connection.send(type="session.close")
        connection.until("session.closed")
    connection.close()
    (record,) = telemetry.records
    assert (record[OPERATION], record[STATUS], record[REASON]) == ("realtime.translations", "unknown", "not_sent")
    assert record["gen_ai.request.model"] == "gpt-realtime"
    assert record[ORGANIZATION] == WHO["organization_id"]


# -- Live sessions ---------------------------------------------------------------------------------------------------


def start(connection: Connection) -> str:
    connection.send(type="session.start", session={"model": "gpt-live-1"})
    return connection.until("session.started").session.id


def speak(connection: Connection, times: int) -> None:
    for _ in range(times):
        connection.send(type="session.input_audio.append", audio="AAAA")
        connection.until("session.usage.updated")


SECONDS = "openai_metering.usage.session_seconds"
UNCONFIRMED = "openai_metering.usage.unconfirmed_session_seconds"


@pytest.mark.parametrize("path", [*LIVE, *named("forks")])
def test_live_seconds_are_never_summed(telemetry, standin, driver, path):
    """Cumulative figures: what the closing event says is the bill."""
    connection = driver.open(path, usage_metadata=dict(WHO))
    identity = start(connection)
    speak(connection, 4)
    connection.send(type="session.close")
    connection.until("session.closed")
    (record,) = telemetry.records
    connection.close()
    assert len(telemetry.records) == 1
    assert record[SECONDS] == 4 * 2.5 + 1
    assert (record[STATUS], record[RESPONSE_ID], record[OUTCOME]) == ("reported", identity, "completed")
    assert record["openai_metering.usage.session_active_seconds"] == 3
    assert record["openai_metering.usage.session_paused_seconds"] == 1
    assert record["gen_ai.request.model"] == "gpt-live-1"
    assert UNCONFIRMED not in record
    assert record[OPERATION] == ("live" if path in LIVE else "live.fork")


@pytest.mark.parametrize("path", LIVE)
@pytest.mark.parametrize("how", ["cut", "closed"])
def test_a_live_session_without_its_closing_event_is_unknown(telemetry, standin, driver, path, how):
    """The last figure is kept, and is no usage."""
    from websockets.exceptions import ConnectionClosed

    connection = driver.open(path)
    start(connection)
    speak(connection, 3)
    if how == "cut":
        connection.send(type="session.input_audio.append", audio="cut")
        with pytest.raises(ConnectionClosed):
            connection.recv()
    connection.close()
    (record,) = telemetry.records
    assert record[STATUS] == "unknown"
    assert record[REASON] == ("cut" if how == "cut" else "closed_before_usage")
    assert SECONDS not in record
    assert record[UNCONFIRMED] == 7.5


@pytest.mark.parametrize("path", LIVE)
def test_a_live_session_that_never_started_is_not_billed(telemetry, standin, driver, path):
    """A connection alone costs nothing."""
    driver.open(path).close()
    assert telemetry.records == []
    assert len(telemetry.spans) == 1


@pytest.mark.parametrize("path", LIVE)
def test_delegated_responses_and_decisions_are_consumptions_of_their_own(telemetry, standin, driver, path):
    """Inside a live session, with the scope of the message that asked for them."""
    connection = driver.open(path, usage_metadata={"organization_id": "session"})
    start(connection)
    with attribution(organization_id="response"):
        connection.send(type="response.create")
    connection.until("response.event")
    connection.until("response.event")
    with attribution(organization_id="decision"):
        connection.send(type="decision.create", event_id="mine")
    connection.until("decision.event")
    connection.send(type="session.close")
    connection.until("session.closed")
    connection.close()
    records = {record[OPERATION]: record for record in telemetry.records}
    served = {one.kind: one for one in standin.served}
    assert records.keys() == {"live", "live.response", "live.decision"}
    assert expected(served["delegated"].usage).items() <= records["live.response"].items()
    assert expected(served["decision"].usage).items() <= records["live.decision"].items()
    assert records["live.decision"]["gen_ai.response.model"] == "gpt-decision"
    assert {name: record[ORGANIZATION] for name, record in records.items()} == {
        "live": "session",
        "live.response": "response",
        "live.decision": "decision",
    }


@pytest.mark.parametrize("path", named("sideband"))
def test_a_sideband_counts_only_what_nobody_else_here_does(telemetry, standin, driver, path):
    """Two connections to one session: its time is one consumption; a sideband alone reports it."""
    primary = driver.open("live")
    identity = start(primary)
    sideband = driver.open(path, session_id=identity)
    of_a_browser = f"{identity}_of_a_browser"
    driver.open(path, session_id=of_a_browser).close()
    alone = driver.open(path, session_id=of_a_browser)
    for connection in (primary, sideband, alone):
        speak(connection, 2)
        connection.send(type="session.close")
        connection.until("session.closed")
        connection.close()
    assert {record[RESPONSE_ID]: record[OPERATION] for record in telemetry.records} == {
        identity: "live",
        of_a_browser: "live.sideband",
    }
    assert len(telemetry.records) == 2


@pytest.mark.parametrize("path", named("sideband"))
def test_a_sideband_hears_the_end_that_another_missed(telemetry, standin, driver, path):
    """The primary connection breaks off: unknown; a sideband that hears the closing event reports the session."""
    from websockets.exceptions import ConnectionClosed

    primary = driver.open("live")
    identity = start(primary)
    speak(primary, 1)
    primary.send(type="session.input_audio.append", audio="cut")
    with pytest.raises(ConnectionClosed):
        primary.recv()
    sideband = driver.open(path, session_id=identity)
    speak(sideband, 3)
    sideband.send(type="session.close")
    sideband.until("session.closed")
    primary.close()
    sideband.close()
    driver.open(path, session_id=identity).close()
    assert [(record[OPERATION], record[STATUS]) for record in telemetry.records] == [
        ("live", "unknown"),
        ("live.sideband", "reported"),
    ]
    assert telemetry.records[1][SECONDS] == 8.5


# -- Never in the way ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", SPEAKING)
@pytest.mark.parametrize("data", ["null", "[]", "1", '{"type": ["x"]}', '{"type": "response.done"}', "{", "\x00"])
def test_odd_messages_do_what_they_do_bare(telemetry, standin, path, data):
    """What `parse_event` returns or raises is the SDK's own."""
    driver = Driver("OpenAI", standin.url)
    connection = driver.open(path)
    bare = type(connection.inner).parse_event.__wrapped__
    outcomes = []
    for parse in (bare, type(connection.inner).parse_event):
        try:
            outcomes.append(repr(parse(connection.inner, data)))
        except Exception as error:
            outcomes.append(repr(error))
    assert outcomes[0] == outcomes[1]
    connection.close()


@pytest.mark.parametrize("path", SPEAKING)
def test_odd_usage_is_never_a_number(telemetry, standin, path):
    """Strings, negative numbers and nonsense in the place of usage: unknown, and no error of ours."""
    connection = Driver("OpenAI", standin.url).open(path)
    kind = "response.done" if path in REALTIME else "response.completed"
    odd = [None, "x", [], {}, {"input_tokens": -1}, {"input_tokens": "many"}, {"input_tokens": None}]
    for number, usage in enumerate(odd):
        response = {"id": f"odd_{number}", "status": "completed", "status_details": None, "usage": usage}
        connection.inner.parse_event(json.dumps({"type": kind, "event_id": f"e{number}", "response": response}))
    connection.close()
    assert len(telemetry.records) == len(odd)
    assert {record[STATUS] for record in telemetry.records} == {"unknown"}


@pytest.mark.parametrize("path", SPEAKING)
def test_memory_is_bounded_over_a_long_session(telemetry, standin, path):
    """10^5 events, thousands of responses among them: what is kept does not grow with them."""
    connection = Driver("OpenAI", standin.url).open(path)
    realtime = path in REALTIME
    end = "response.done" if realtime else "response.completed"
    usage = {"input_tokens": 1, "output_tokens": 1}

    def events(start: int, count: int) -> None:
        session = vars(connection.inner)["_openai_metering"]
        for number in range(start, start + count):
            if number % 50 == 0:
                response = {"id": f"r{number}", "status": "in_progress"}
                session.see({"type": "response.created", "response": response})
                session.see({"type": end, "response": {**response, "status": "completed", "usage": usage}})
                session.see({"type": "input_audio_buffer.committed", "item_id": f"i{number}"})
                session.see({"type": "response.created", "response": {"id": f"open{number}"}})
            else:
                silent = {"type": "response.output_audio.delta", "event_id": f"e{number}", "delta": "AAAA"}
                if FULL or number % 100 == 1:
                    connection.inner.parse_event(json.dumps(silent))  # the SDK takes its time
                else:
                    session.see(silent)
        telemetry.clear()

    tracemalloc.start()
    events(0, 50_000)  # fills what is bounded
    gc.collect()
    before = tracemalloc.get_traced_memory()[0]
    events(50_000, 50_000)
    gc.collect()
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 50_000
    assert len(open_calls) <= 300
    connection.close()


def test_nothing_of_websockets_is_imported_by_us():
    """The library is the SDK's to import."""
    import subprocess

    code = "import sys, openai_metering; print('websockets' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"
