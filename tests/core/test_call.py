"""One call: it ends exactly once, whoever ends it, and says how."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
import time

import pytest
from emitting import BODY, answered, start

from openai_metering import call as calls
from openai_metering.finished import Failure
from openai_metering.operations import CHAT_COMPLETIONS, EMBEDDINGS, RESPONSES
from openai_metering.usage import REASONS

OUTCOME = "openai_metering.outcome"
STATUS = "openai_metering.usage.status"
REASON = "openai_metering.usage.reason"

TEXT = {"id": "c1", "model": "gpt-4o", "choices": [{"index": 0, "delta": {"content": "Pa"}, "finish_reason": None}]}
LAST = {"id": "c1", "model": "gpt-4o", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
USAGE = {"id": "c1", "model": "gpt-4o", "choices": [], "usage": {"prompt_tokens": 11, "completion_tokens": 7}}
RUNNING = {**TEXT, "usage": {"prompt_tokens": 11, "completion_tokens": 1}}
INVALID = {**USAGE, "usage": {"prompt_tokens": -1}}
CREATED = {"type": "response.created", "response": {"id": "r1", "status": "in_progress"}}
DONE = {
    "type": "response.completed",
    "response": {"id": "r1", "status": "completed", "usage": {"input_tokens": 3, "output_tokens": 4}},
}
BROKEN = {
    "type": "response.failed",
    "response": {"status": "failed", "error": {"code": "server_error"}, "usage": {"input_tokens": 3}},
}
ERROR = {"type": "error", "code": "rate_limit_exceeded"}


def complete(call):
    call.complete()


def leave(call):
    call.stop("stopped")


def drop(call):
    call.stop("dropped")


def no_read(call):
    call.stop("unread")


def cut(call):
    call.fail(Failure("httpx.ReadError", "cut"))


def cancel(call):
    call.fail(Failure("asyncio.CancelledError", "cancelled", cancelled=True))


def refuse(call):
    call.fail(Failure("openai.RateLimitError", "refused"))


def time_out(call):
    call.fail(Failure("openai.APITimeoutError", "timeout"))


# what was seen, how the call ended -> outcome, usage status, reason, error.type
ENDINGS = [
    (CHAT_COMPLETIONS, [TEXT, LAST, USAGE], complete, "completed", "reported", None, None),
    (CHAT_COMPLETIONS, [TEXT, LAST], complete, "completed", "unknown", "not_sent", None),
    (CHAT_COMPLETIONS, [TEXT, LAST, INVALID], complete, "completed", "unknown", "invalid", None),
    (CHAT_COMPLETIONS, [TEXT], complete, "failed", "unknown", "cut", "stream_cut"),
    (CHAT_COMPLETIONS, [TEXT, RUNNING], complete, "completed", "reported", None, None),
    (CHAT_COMPLETIONS, [], complete, "completed", "unknown", "not_sent", None),
    (CHAT_COMPLETIONS, [TEXT], leave, "stopped", "unknown", "closed_before_usage", None),
    (CHAT_COMPLETIONS, [RUNNING], leave, "stopped", "estimated", "closed_before_usage", None),
    (CHAT_COMPLETIONS, [TEXT, LAST], leave, "stopped", "unknown", "closed_before_usage", None),
    (CHAT_COMPLETIONS, [TEXT, LAST, USAGE], leave, "completed", "reported", None, None),
    (CHAT_COMPLETIONS, [TEXT], drop, "dropped", "unknown", "closed_before_usage", None),
    (CHAT_COMPLETIONS, [], no_read, "unread", "unknown", "not_read", None),
    (CHAT_COMPLETIONS, [TEXT], cut, "failed", "unknown", "cut", "httpx.ReadError"),
    (CHAT_COMPLETIONS, [RUNNING], cut, "failed", "estimated", "cut", "httpx.ReadError"),
    (CHAT_COMPLETIONS, [TEXT, LAST, USAGE], cut, "failed", "reported", None, "httpx.ReadError"),
    (CHAT_COMPLETIONS, [], cancel, "cancelled", "unknown", "cancelled", "asyncio.CancelledError"),
    (CHAT_COMPLETIONS, [RUNNING], cancel, "cancelled", "estimated", "cancelled", "asyncio.CancelledError"),
    (CHAT_COMPLETIONS, [], refuse, "failed", "not_billed", "refused", "openai.RateLimitError"),
    (CHAT_COMPLETIONS, [], time_out, "failed", "unknown", "timeout", "openai.APITimeoutError"),
    (RESPONSES, [CREATED, DONE], complete, "completed", "reported", None, None),
    (RESPONSES, [CREATED], complete, "failed", "unknown", "cut", "stream_cut"),
    (RESPONSES, [CREATED, BROKEN], complete, "failed", "reported", None, "server_error"),
    (RESPONSES, [CREATED, ERROR], complete, "failed", "unknown", "failed", "rate_limit_exceeded"),
    (RESPONSES, [CREATED], leave, "stopped", "unknown", "closed_before_usage", None),
    (RESPONSES, [CREATED, DONE], drop, "completed", "reported", None, None),
]


@pytest.mark.parametrize(
    ("operation", "seen", "end", "outcome", "status", "reason", "error_type"),
    ENDINGS,
    ids=[f"{row[0].name}-{len(row[1])}-{row[2].__name__}-{row[3]}-{row[4]}" for row in ENDINGS],
)
def test_how_a_stream_ends_decides_what_is_known(emitted, operation, seen, end, outcome, status, reason, error_type):
    """Missing is not zero: each end has an outcome, a usage status and the reason why usage is missing."""
    call = start(emitted.signals(), operation)
    for chunk in seen:
        call.observe(chunk)
    end(call)
    (record,) = emitted.records
    assert (record[OUTCOME], record[STATUS], record.get(REASON)) == (outcome, status, reason)
    assert record.get("error.type") == error_type
    assert reason is None or reason in REASONS
    assert any(name.endswith("put_tokens") for name in record) == (status in ("reported", "estimated"))


@pytest.mark.parametrize(
    ("operation", "body", "outcome", "status", "reason", "error_type"),
    [
        (CHAT_COMPLETIONS, BODY, "completed", "reported", None, None),
        (CHAT_COMPLETIONS, {"choices": []}, "completed", "unknown", "not_sent", None),
        (CHAT_COMPLETIONS, {"usage": 7}, "completed", "unknown", "invalid", None),
        (EMBEDDINGS, {"usage": {"prompt_tokens": 8}}, "completed", "reported", None, None),
        (RESPONSES, {"status": "queued"}, "completed", "unknown", "deferred", None),
        (RESPONSES, DONE["response"], "completed", "reported", None, None),
        (RESPONSES, {"status": "failed"}, "failed", "unknown", "failed", "failed"),
        (RESPONSES, BROKEN["response"], "failed", "reported", None, "server_error"),
    ],
    ids=str,
)
def test_what_a_whole_answer_says_decides_what_is_known(emitted, operation, body, outcome, status, reason, error_type):
    """A failure reported within an answer is a failure, and its usage is billed all the same."""
    answered(emitted.signals(), body, operation=operation)
    (record,) = emitted.records
    assert (record[OUTCOME], record[STATUS], record.get(REASON)) == (outcome, status, reason)
    assert record.get("error.type") == error_type


def test_a_terminal_event_ends_the_call_before_the_caller_gets_it(emitted):
    """Helpers that stop reading at `response.completed` are counted as completed, at that moment."""
    call = start(emitted.signals(), RESPONSES)
    call.observe(CREATED)
    call.complete_if_terminal()
    assert call.open
    call.observe(DONE)
    call.complete_if_terminal()
    assert not call.open


def test_a_finish_reason_does_not_end_a_chat_stream(emitted):
    """The usage of a chat stream comes after its finish reason."""
    call = start(emitted.signals())
    call.observe(LAST)
    call.complete_if_terminal()
    assert call.open
    call.complete()


def test_a_call_is_finished_exactly_once_by_many_threads(emitted):
    """Fifty threads that end one call together make one record, one point and one span."""
    signals = emitted.signals()
    ends = [complete, leave, drop, cut, cancel]
    for round_number in range(1, 21):
        call = start(signals)
        go = threading.Barrier(50)

        def end(number: int, call=call, go=go) -> None:
            go.wait(30)
            ends[number % len(ends)](call)

        threads = [threading.Thread(target=end, args=(number,)) for number in range(50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert len(emitted.records) == len(emitted.spans) == round_number
    assert sum(point.value for point in emitted.points()["openai_metering.calls"]) == 20


def test_the_first_end_is_the_one_that_counts(emitted):
    """What happens to an answer after its end changes nothing."""
    call = answered(emitted.signals())
    cancel(call)
    call.stop("dropped")
    call.complete()
    assert [record[OUTCOME] for record in emitted.records] == ["completed"]


def test_an_abandoned_call_is_ended_by_the_next_drain(emitted):
    """A stream that is garbage-collected ends its call outside of the finaliser, at the moment it was dropped."""
    call = start(emitted.signals())
    call.observe(TEXT)
    calls.abandon(call, "dropped")
    assert emitted.records == []
    assert call.open
    latest = call.now()
    calls.drain()
    (record,) = emitted.records
    assert (record[OUTCOME], record[REASON]) == ("dropped", "closed_before_usage")
    assert emitted.kept.records[0].timestamp <= latest


def test_an_abandoned_call_is_ended_without_another_call(emitted):
    """The last stream of a process that makes no further call is not forgotten."""
    call = start(emitted.signals())
    calls.watch(call)
    calls.abandon(call, "unread")
    until(lambda: emitted.records)
    assert [record[OUTCOME] for record in emitted.records] == ["unread"]
    assert call not in calls.open_calls


def until(condition) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)


def test_a_finished_call_is_not_abandoned_again(emitted):
    """Every stream is garbage-collected some day; most have been read to their end before."""
    call = answered(emitted.signals())
    calls.abandon(call, "dropped")
    assert not calls._abandoned
    calls.drain()
    assert len(emitted.records) == 1


def test_calls_still_open_when_the_process_ends_are_recorded(emitted):
    """A process that exits while it reads an answer leaves a record of it."""
    read, unread = start(emitted.signals()), start(emitted.signals())
    read.observe(TEXT)
    for call in (read, unread):
        calls.watch(call)
    calls.finish_open_calls()
    assert sorted(record[OUTCOME] for record in emitted.records) == ["dropped", "unread"]
    assert not {read, unread} & calls.open_calls


def test_times_never_run_backwards(emitted):
    """A clock that is set back during a call gives no negative duration."""
    call = start(emitted.signals())
    moments = [call.started, *(call.now() for _ in range(100))]
    assert moments == sorted(moments)
    call.complete()


def test_the_first_chunk_is_timed_once(emitted):
    """Time to first chunk is that of the first one."""
    call = start(emitted.signals())
    call.observe(TEXT)
    first = call.first_chunk
    call.observe(LAST)
    assert first is not None
    assert call.first_chunk == first
    call.complete()


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
def test_a_forked_child_makes_no_record_of_its_parents_calls(tmp_path):
    """Calls that are open or abandoned when a server forks are recorded once, by the process that made them."""
    code = """
        import os, sys
        sys.path.insert(0, sys.argv[2])
        from emitting import start
        from openai_metering import call as calls
        from openai_metering.settings import Settings
        from openai_metering.signals import Signals

        signals = Signals(Settings(ledger_dir=sys.argv[1]))
        opened, abandoned = start(signals), start(signals)
        calls.watch(opened)
        calls.watch(abandoned)
        calls.abandon(abandoned, "dropped")
        if (pid := os.fork()) == 0:
            calls.drain()
            calls.finish_open_calls()
            opened.complete()
            abandoned.complete()
            own = start(signals)
            calls.watch(own)
            own.complete()
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        calls.finish_open_calls()
        print(os.getpid(), pid)
    """
    here = __file__.rpartition("/")[0]
    ran = subprocess.run(  # noqa: PLW1510
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path), here], capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, ran.stderr
    parent, child = ran.stdout.split()
    lines = {path.name.split("-")[2].lstrip("0"): path.read_bytes().count(b"\n") for path in tmp_path.iterdir()}
    assert lines == {parent: 2, child: 1}
