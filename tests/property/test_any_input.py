"""Input that is someone else's: whatever it is, nothing raises and every number can be billed."""

from __future__ import annotations

import itertools
import json
import os
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings, strategies as st
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk._logs import LoggerProvider, LogRecordProcessor
from opentelemetry.trace import NoOpTracerProvider

from openai_metering.call import Call
from openai_metering.finished import Request, Server
from openai_metering.ledger import otlp_attributes
from openai_metering.masking import mask
from openai_metering.operations import CHAT_COMPLETIONS, OPERATIONS, RESPONSES, Operation, find
from openai_metering.resolution import EMPTY, MAX_TAG_KEY_LENGTH, MAX_TAGS, MAX_VALUE_LENGTH, Attribution, resolve
from openai_metering.scope import attribution, current_attribution
from openai_metering.seams.bodies import EventReader, read_body
from openai_metering.settings import Settings
from openai_metering.signals import Signals
from openai_metering.usage import ESTIMATED, MAX_COUNT, MAX_RAW, NOT_BILLED, REASONS, REPORTED, UNKNOWN, Answer, count

FULL = os.environ.get("OPENAI_METERING_TEST_SIZE") == "full"
small = settings(
    max_examples=5_000 if FULL else 200, deadline=None, suppress_health_check=list(HealthCheck), derandomize=not FULL
)
bodies = settings(small, max_examples=2_500 if FULL else 100)  # of each row: more than 10^5 over all

# -- JSON that is near enough to an answer to get somewhere ----------------------------------------------------------

NAMES = [
    "id",
    "model",
    "usage",
    "choices",
    "finish_reason",
    "status",
    "type",
    "response",
    "error",
    "code",
    "x_groq",
    "service_tier",
    "incomplete_details",
    "reason",
    "prompt_tokens",
    "completion_tokens",
    "input_tokens",
    "output_tokens",
    "prompt_tokens_details",
    "input_tokens_details",
    "output_tokens_details",
    "cached_tokens",
    "audio_tokens",
]
WORDS = ["", "stop", "queued", "in_progress", "failed", "incomplete", "completed", "error", "12", "-1", "1e3", "9" * 30]
KINDS = [
    *(f"response.{end}" for end in ("created", "queued", "completed", "incomplete", "failed", "cancelled")),
    "response.output_text.delta",
    "error",
    *sorted(frozenset().union(*(row.events for row in OPERATIONS))),
]
READERS = list({row.read: row for row in OPERATIONS}.values())
OBSERVERS = list({row.observe: row for row in OPERATIONS if row.observe}.values())
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-3, 100)
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.sampled_from(WORDS + KINDS)
    | st.text(max_size=20)
)
names = st.sampled_from(NAMES) | st.text(max_size=8)
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=6), max_leaves=20
)


def usages(numbers: Any) -> Any:
    details = st.dictionaries(
        st.sampled_from(["cached_tokens", "audio_tokens", "text_tokens", "reasoning_tokens"]), numbers
    )
    return st.fixed_dictionaries(
        {},
        optional={
            "prompt_tokens": numbers,
            "completion_tokens": numbers,
            "input_tokens": numbers,
            "output_tokens": numbers,
            "prompt_tokens_details": details | anything,
            "completion_tokens_details": details | anything,
            "input_tokens_details": details | anything,
        },
    )


near = st.fixed_dictionaries(
    {},
    optional={
        "id": st.text(max_size=9) | anything,
        "model": st.sampled_from(["", "gpt-4o"]) | anything,
        "usage": usages(st.integers(0, 1000)) | usages(scalars) | anything,
        "choices": st.lists(st.fixed_dictionaries({"finish_reason": st.sampled_from([None, "stop"]) | anything}))
        | anything,
        "status": st.sampled_from(WORDS) | anything,
        "error": anything,
        "type": st.sampled_from(KINDS) | anything,
        "x_groq": anything,
        **dict.fromkeys(("tool_usage", "svg_usage", "output", "data", "metadata", "per_model_usage"), anything),
        **dict.fromkeys(("seconds", "duration", "trained_tokens", "size", "request_counts"), scalars),
    },
)
events = near | st.fixed_dictionaries({"type": st.sampled_from(KINDS), "response": near | anything})
body = near | events | anything


def check(answer: Answer) -> None:
    """What every reader owes to a bill."""
    assert answer.counts is None or answer.counts
    for name, number in (answer.counts or {}).items():
        assert type(number) is int or (name == "openai_metering.usage.seconds" and type(number) is float)
        assert 0 <= number <= MAX_COUNT
        assert name.startswith(("gen_ai.usage.", "openai_metering.usage."))
    for name in (answer.response_id, answer.model, answer.service_tier, answer.fingerprint, answer.failed):
        assert name is None or (type(name) is str and 0 < len(name) <= 256)
    if answer.raw is not None:
        assert len(answer.raw) <= MAX_RAW
        assert isinstance(json.loads(answer.raw), dict)
    assert all(type(value) is str and len(value) <= 256 for value in (answer.facts or {}).values())
    assert all(type(reason) is str for reason in answer.finish_reasons)
    assert len(answer.finish_reasons) <= 128
    assert type(answer.finished) is type(answer.unfinished) is type(answer.deferred) is type(answer.invalid) is bool


@pytest.mark.parametrize("row", READERS, ids=lambda row: row.name)
@bodies
@given(body=body)
def test_any_body_can_be_read(row, body):
    """Whatever JSON a provider sends, reading it raises nothing and counts are whole numbers of 63 bits."""
    answer = Answer()
    row.read(answer, body)
    check(answer)


@pytest.mark.parametrize("row", OBSERVERS, ids=lambda row: row.name)
@bodies
@given(chunks=st.lists(events | anything, max_size=6))
def test_any_stream_can_be_observed(row, chunks):
    """Whatever chunks a provider sends, in whatever order, the same holds after each of them."""
    answer = Answer()
    for chunk in chunks:
        row.observe(answer, chunk)
        check(answer)


@small
@given(value=scalars | st.text(st.sampled_from("0123456789.-e"), max_size=40))
def test_any_value_is_a_count_or_none(value):
    """A count is a whole number from 0 to 2^63-1, and reading it again gives itself."""
    number = count(value)
    assert number is None or (type(number) is int and 0 <= number <= MAX_COUNT and count(number) == number)


# -- Whole calls -----------------------------------------------------------------------------------------------------

NOBODY = resolve(EMPTY, EMPTY, EMPTY)
OUTCOMES = {"completed", "failed", "cancelled", "stopped", "dropped", "unread"}


class KeptLogs(LogRecordProcessor):
    """Keeps what a usage record says; of both spellings of the method, the SDK in use calls one."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []

    def on_emit(self, log_data: Any) -> None:
        self.records.append(dict(getattr(log_data, "log_record", log_data).attributes))

    emit = on_emit

    def shutdown(self) -> None:
        pass

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return True


KEPT = KeptLogs()
LOGS = LoggerProvider(shutdown_on_exit=False)
LOGS.add_log_record_processor(KEPT)
SIGNALS = Signals(Settings(spans="never"), NoOpTracerProvider(), NoOpMeterProvider(), LOGS)


def started(operation: Operation, *, hide: bool = False) -> Call:
    KEPT.records.clear()
    call = Call(SIGNALS, operation, Server("openai", None, None), Request(), NOBODY)
    call.hide_usage = hide
    return call


def how_it_ended() -> dict[str, Any]:
    """What the one usage record says, without what differs from call to call."""
    (record,) = KEPT.records
    changing = ("openai_metering.record.id", "openai_metering.record.start_time")
    return {name: value for name, value in record.items() if name not in changing}


@pytest.mark.parametrize("row", READERS, ids=lambda row: row.name)
@bodies
@given(body=st.binary(max_size=200) | body.map(lambda body: json.dumps(body).encode()), sse=st.booleans())
def test_any_bytes_end_the_call_once(row, body, sse):
    """Whatever bytes an answer is made of, the call ends once, with a status and a reason of the closed sets."""
    if sse and row.observe is None:
        sse = False
    call = started(row)
    read_body(call, b"data: " + body + b"\n\n" if sse else body, "text/event-stream" if sse else "application/json")
    check(call.answer)
    ended = how_it_ended()
    status, reason = ended["openai_metering.usage.status"], ended.get("openai_metering.usage.reason")
    assert status in {REPORTED, ESTIMATED, UNKNOWN, NOT_BILLED}
    assert (status == REPORTED) == (reason is None)
    assert reason is None or reason in REASONS
    assert ended["openai_metering.outcome"] in OUTCOMES


# -- Server-sent events ----------------------------------------------------------------------------------------------

ENDS = [b"\n\n", b"\r\n\r\n", b"\r\r"]
TEXT = {"id": "c1", "model": "gpt-4o", "choices": [{"delta": {"content": "Pa"}, "finish_reason": None}]}
LAST = {"id": "c1", "model": "gpt-4o", "choices": [{"delta": {}, "finish_reason": "stop"}]}
USAGE = {"id": "c1", "model": "gpt-4o", "choices": [], "usage": {"prompt_tokens": 11, "completion_tokens": 7}}


def sse(data: Any, end: bytes = b"\n\n", head: bytes = b"data: ") -> bytes:
    return head + json.dumps(data).encode() + end


end = st.sampled_from(ENDS)
wire = st.one_of(
    st.builds(
        sse, st.sampled_from([TEXT, LAST, USAGE]), end, st.sampled_from([b"data: ", b"data:", b"event: x\ndata: "])
    ),
    st.builds(sse, events | anything, end),
    end.map(lambda end: b"data: [DONE]" + end),
    end.map(lambda end: b": keep-alive" + end),
    st.binary(max_size=30),
    st.text(st.sampled_from("\r\n\r\nab"), max_size=8).map(str.encode),
)


def pieces_of(whole: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(whole), *(cut % (len(whole) + 1) for cut in cuts)})
    return [whole[start:stop] for start, stop in itertools.pairwise(places)]


def fed(operation: Operation, pieces: list[bytes], *, hide: bool) -> tuple[bytes, Answer, dict[str, Any]]:
    call = started(operation, hide=hide)
    reader = EventReader(call)
    passed = b"".join([*(reader.feed(piece) for piece in pieces), reader.flush()])
    call.complete()
    return passed, call.answer, how_it_ended()


@pytest.mark.parametrize("operation", [CHAT_COMPLETIONS, RESPONSES], ids=lambda row: row.name)
@bodies
@given(parts=st.lists(wire, max_size=6), cuts=st.lists(st.integers(0, 10_000), max_size=12), hide=st.booleans())
def test_a_stream_is_read_the_same_wherever_it_is_split(operation, parts, cuts, hide):
    """The network's pieces mean nothing: split anywhere, the answer, the end and the caller's bytes are the same."""
    whole = b"".join(parts)
    hide = hide and operation is CHAT_COMPLETIONS
    in_one = fed(operation, [whole], hide=hide)
    assert fed(operation, pieces_of(whole, cuts), hide=hide) == in_one
    check(in_one[1])
    if not hide:
        assert in_one[0] == whole


def test_a_stream_is_read_the_same_byte_by_byte():
    """The smallest pieces there are."""
    whole = b"".join(sse(data, end) for data in (TEXT, LAST, USAGE) for end in ENDS) + b"data: [DONE]\n\n"
    in_one = fed(CHAT_COMPLETIONS, [whole], hide=True)
    assert fed(CHAT_COMPLETIONS, [whole[at : at + 1] for at in range(len(whole))], hide=True) == in_one
    assert in_one[1].counts == {"gen_ai.usage.input_tokens": 11, "gen_ai.usage.output_tokens": 7}


@bodies
@given(
    texts=st.lists(
        st.sampled_from([TEXT, LAST, {**TEXT, "usage": None}, {**TEXT, "usage": USAGE["usage"]}]), max_size=5
    ),
    separator=end,
    done=st.booleans(),
    cut_off=st.booleans(),
    cuts=st.lists(st.integers(0, 10_000), max_size=12),
)
def test_exactly_the_event_that_we_asked_for_is_hidden(texts, separator, done, cut_off, cuts):
    """The caller gets every byte but the usage-only event: choices are never hidden, with usage or without."""
    before = b"".join(sse(data, separator) for data in texts)
    after = b"data: [DONE]" + separator if done else b""
    hidden = sse(USAGE, b"" if cut_off and not done else separator)
    passed, answer, _ = fed(CHAT_COMPLETIONS, pieces_of(before + hidden + after, cuts), hide=True)
    assert passed == before + after
    assert answer.counts == {"gen_ai.usage.input_tokens": 11, "gen_ai.usage.output_tokens": 7}


# -- Who -------------------------------------------------------------------------------------------------------------

SPELLINGS = [
    "organization_id",
    "organizationName",
    "subscriber_identity",
    "subscriber_email",
    "subscriber",
    "credential",
    "subscriber_credential",
    "credential_alias",
    "email",
    "name",
    "value",
]
texts = (
    st.text(max_size=12)
    | st.integers(250, 300).map("\u00e9".__mul__)
    | st.sampled_from(["sk-proj-" + "a1B2" * 12, " ", "x"])
)
keys = st.sampled_from(SPELLINGS) | texts | st.integers()
metadata = st.recursive(
    texts | st.none() | st.booleans() | st.integers() | st.floats() | st.binary(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(keys, inner, max_size=5),
    max_leaves=12,
)
many_tags = st.integers(0, 60).map(lambda number: {f"tag{at}": at for at in range(number)})
mappings = st.dictionaries(keys, metadata, max_size=6) | many_tags


def well_formed(found: Attribution) -> None:
    """What everything behind an attribution relies on."""
    for value in (found.organization_id, found.subscriber_identity, found.subscriber_credential):
        assert value is None or (type(value) is str and value.strip() and len(value) <= MAX_VALUE_LENGTH)
    assert len(found.tags) <= MAX_TAGS
    assert [key for key, _ in found.tags] == sorted({key for key, _ in found.tags})
    for key, value in found.tags:
        assert type(key) is str
        assert len(key) <= MAX_TAG_KEY_LENGTH
        assert isinstance(value, (str, bool, int, float))
        assert not isinstance(value, str) or 0 < len(value) <= MAX_VALUE_LENGTH
    assert "a1B2a1B2" not in repr(found)
    hash(found)


@small
@given(values=metadata | mappings)
def test_any_metadata_gives_a_well_formed_attribution(values):
    """Whatever an application passes, nothing raises, nothing is unbounded and no key is kept."""
    well_formed(Attribution.from_mapping(values))


@small
@given(outer=mappings, inner=mappings, default=mappings)
def test_any_scopes_can_be_merged(outer, inner, default):
    """Merging keeps what makes an attribution well-formed, and what the inner one knows is what counts."""
    with attribution(outer), attribution(inner):
        found = current_attribution()
    well_formed(found)
    expected = Attribution.from_mapping(inner)
    for name in ("organization_id", "subscriber_identity", "subscriber_credential"):
        assert getattr(expected, name) in (None, getattr(found, name))
    resolved = resolve(Attribution.from_mapping(outer), found, Attribution.from_mapping(default))
    well_formed(resolved.attribution)
    assert current_attribution() == Attribution()


@small
@given(values=mappings)
@example(values={"tag": float("nan")})
@example(values={"tag": 2**63})
def test_any_tags_are_written_as_json(values):
    """What is kept can be written to the ledger, as JSON that any reader accepts."""

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    tags = Attribution.from_mapping(values).tags
    written = json.loads(json.dumps(otlp_attributes(tags)), parse_constant=refuse)
    assert [pair["key"] for pair in written] == [key for key, _ in tags]
    for pair in written:
        assert -(2**63) <= int(pair["value"].get("intValue", 0)) < 2**63


@small
@given(value=texts | st.text(st.sampled_from("sk-_prjABC019eyJ. "), max_size=120), credential=st.booleans())
def test_any_text_can_be_masked(value, credential):
    """Masking raises nothing, never makes a text longer, and what is masked once is masked."""
    masked = mask(value, credential=credential)
    assert len(masked) <= max(len(value), len("[masked]"))
    assert mask(masked, credential=credential) == masked


@small
@given(
    method=st.sampled_from(["post", "POST", "get", ""]) | st.text(max_size=8),
    url=st.text(max_size=60)
    | st.text(st.sampled_from("[]:/?#@v1"), max_size=12).map("//".__add__)
    | st.lists(
        st.sampled_from(
            ["https:", "", "[", "]", "v1", "openai", "deployments", "chat", "completions", "responses", "?", "#"]
        ),
        max_size=8,
    ).map("/".join),
)
def test_any_url_can_be_looked_up(method, url):
    """Whatever a client is asked for, the look-up raises nothing and gives a row of the table or none."""
    row = find(method, url)
    assert row is None or (row in OPERATIONS and method.upper() == row.method)
