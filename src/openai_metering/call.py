"""One billable call: started once, observed, finished exactly once."""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from openai_metering import deferred, errors
from openai_metering.finished import (
    CANCELLED,
    COMPLETED,
    DROPPED,
    FAILED,
    FINAL,
    PENDING,
    TOLD,
    UNREAD,
    FinishedCall,
    StartedCall,
)
from openai_metering.usage import ESTIMATED, NOT_BILLED, REPORTED, UNKNOWN, Answer, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from openai_metering.finished import Failure, Request, Server
    from openai_metering.operations import Operation
    from openai_metering.resolution import Resolved
    from openai_metering.signals import Signals
    from openai_metering.usage import Number


class Call:
    """One billable call between its start and its single end."""

    host_refuses: Callable[[], None]
    """Notes that the host refuses to be asked for usage; there is none where it was not asked."""

    __slots__ = (
        "__weakref__",
        "_clock",
        "_end",
        "abandoned",
        "answer",
        "answering",
        "estimate",
        "first_chunk",
        "hide_usage",
        "host_refuses",
        "operation",
        "record_id",
        "request",
        "request_id",
        "retries",
        "server",
        "signals",
        "span",
        "span_context",
        "started",
        "started_id",
        "status_code",
        "watched",
        "who",
        "who_so_far",
    )

    def __init__(
        self,
        signals: Signals,
        operation: Operation,
        server: Server,
        request: Request,
        who: Resolved,
        *,
        parent: Any = None,
        started: int | None = None,
    ) -> None:
        self.signals = signals
        self.operation = operation
        self.server = server
        self.request = request
        self.who = who
        self.who_so_far: Any = None
        """The sources of who, while the key in use is still to be learnt."""
        self.answer = Answer()
        self.estimate: Mapping[str, Number] | None = None
        """What was asked for, where answers of this kind never say what was used."""
        self.hide_usage = False
        """The usage chunk was asked for by us, so the caller must not see it."""
        self.answering = False
        """The provider has begun to answer."""
        self.watched = False
        """Somebody observes the answer and will end the call."""
        self.status_code: int | None = None
        self.request_id: str | None = None
        self.retries = 0
        self.first_chunk: int | None = None
        self.record_id: str | None = None
        """Of the usage record, where the answer is a job."""
        self.started_id: str | None = None
        """Of the ``started`` record, where the call was under way for long."""
        self._end = [True]
        self.abandoned: tuple[str, int] | None = None
        """Outcome and time, in nanoseconds since the epoch, where a finaliser found that nobody will read on."""
        now = time.time_ns()
        self.started = now if started is None else min(started, now)
        self._clock = time.perf_counter_ns() - (now - self.started)
        self.span, self.span_context = self._start_span(parent)
        if operation.billed and operation.of is None and signals.tells_started():
            calls_under_way.add(self)
            if _drainer is None:
                _start_drainer()

    def _start_span(self, parent: Any) -> tuple[Any, Any]:
        return self.signals.start(
            StartedCall(self.operation, self.server, self.request, self.who, self.started, parent)
        )

    @property
    def open(self) -> bool:
        """Whether the call has not been finished yet."""
        return bool(self._end)

    def tell_started(self) -> None:
        """Leave a record of the call before its end, once it is under way for long."""
        if (
            self.started_id is not None
            or (self.now() - self.started) / 1e9 < self.signals.settings.ledger_started_after
        ):
            return
        # In this order: who ends the call takes its end away first and looks for the id then.
        self.started_id = os.urandom(16).hex()
        if self.open:
            started = StartedCall(self.operation, self.server, self.request, self.who, self.started)
            self.signals.under_way(started, self.span_context, self.started_id)

    def disown(self) -> None:
        """End the call without a record: another process makes it."""
        self._end.clear()
        calls_under_way.discard(self)

    def now(self) -> int:
        """Nanoseconds since the epoch by the clock that this call started with, which never goes backwards."""
        return self.started + time.perf_counter_ns() - self._clock

    def responded(self, status_code: int | None, request_id: str | None, retries: int) -> None:
        """Note what the HTTP response says about itself."""
        self.status_code = status_code
        self.request_id = request_id
        self.retries = retries

    def identify(self, who: Resolved) -> None:
        """Note who the call is for, where that was not known whole when it started."""
        self.who = who
        self.signals.identify(self.span, who)

    def observe(self, chunk: Any) -> None:
        """Read one chunk of a streamed answer."""
        if self.first_chunk is None:
            self.first_chunk = self.now()
        observe = self.operation.observe
        if observe is not None:
            observe(self.answer, chunk)
            if self.answer.job is not None and self.record_id is None:
                self._order(self.answer.job)

    def read(self, body: Any) -> None:
        """Read a whole answer."""
        self.operation.read(self.answer, body)

    def complete(self) -> None:
        """The answer has been read to its end."""
        answer = self.answer
        if answer.failed is not None:
            self.finish(FAILED, error_type=answer.failed, reason="failed")
        elif answer.deferred:
            self.finish(COMPLETED, reason="deferred")
        elif answer.unfinished and not answer.finished and answer.counts is None and not answer.too_large:
            self.finish(FAILED, error_type="stream_cut", reason="cut")
        else:
            self.finish(COMPLETED, reason="not_sent")

    def complete_if_terminal(self) -> None:
        """End the call at an event after which nothing that is billed can come, before the caller gets it."""
        if self.answer.terminal:
            self.complete()

    def stop(self, outcome: str) -> None:
        """The caller left the answer before its end: ``stopped``, ``dropped`` or ``unread``."""
        answer = self.answer
        ended = None
        if self.abandoned is not None:
            outcome, ended = self.abandoned
        if answer.failed is not None:
            self.finish(FAILED, error_type=answer.failed, reason="failed", ended=ended)
        elif answer.finished and answer.counts is not None:
            self.finish(COMPLETED, reason="not_sent", ended=ended)
        else:
            self.finish(outcome, reason="not_read" if outcome == UNREAD else "closed_before_usage", ended=ended)

    def fail(self, failure: Failure) -> None:
        """The call ended with an exception, which the caller gets untouched."""
        self.finish(CANCELLED if failure.cancelled else FAILED, error_type=failure.error_type, reason=failure.reason)

    def finish(self, outcome: str, *, reason: str, error_type: str | None = None, ended: int | None = None) -> None:
        """End the call, the first time only, and hand it to the signals.

        Args:
            outcome: how it ended.
            reason: why usage is not reported, where none has been seen.
            error_type: ``error.type`` of a failed or cancelled call.
            ended: nanoseconds since the epoch, now where left out.
        """
        try:
            self._end.pop()  # atomic: of two threads that end a call, one gets it
        except IndexError:
            return
        open_calls.discard(self)
        calls_under_way.discard(self)
        state = FINAL
        if self.answer.job is not None and reason != "refused":
            state = self._state_of_job(self.answer.job)
            if state == PENDING:
                reason = "deferred"
        self.signals.finish(
            FinishedCall(
                self.operation,
                self.server,
                self.request,
                self.who,
                self.span,
                self.span_context,
                self.answer,
                Usage(UNKNOWN, reason) if state == PENDING else self._usage(outcome, reason),
                outcome,
                error_type,
                self.status_code,
                self.request_id,
                self.retries,
                self.started,
                ended or self.now(),
                self.first_chunk,
                state,
                self.record_id,
                self.started_id,
            )
        )

    def _order(self, identifier: str) -> None:
        """Wait for the end of the job that the answer is: whoever sees it first tells it, for who ordered it."""
        job = self.operation.job
        try:
            if job is not None:
                self.record_id = deferred.order(
                    job,
                    identifier,
                    self.operation,
                    self.server,
                    self.request,
                    self.who,
                    self.span_context,
                    self.started,
                )
        except Exception as error:
            errors.swallow("job", error)

    def _state_of_job(self, identifier: str) -> str:
        """The state of the record of a job: whether its end is still to come, is told by this call, or has been."""
        if self.record_id is None:
            self._order(identifier)
        job, answer = self.operation.job, self.answer
        if job is None or self.record_id is None:
            return FINAL
        if not answer.finished:
            return PENDING
        try:
            first = deferred.finish(job, identifier, answer.step, self.server, self.record_id)
        except Exception as error:
            errors.swallow("job", error)
            return FINAL
        return FINAL if first else TOLD

    def _usage(self, outcome: str, reason: str) -> Usage:
        answer = self.answer
        if not self.operation.billed:
            return Usage(NOT_BILLED)
        if answer.counts is not None:
            if outcome == COMPLETED or answer.finished:
                return Usage(REPORTED, None, answer.counts)
            # Running totals of a stream that was left: what was said so far is a lower bound, not the bill.
            return Usage(ESTIMATED, reason, answer.counts)
        if reason == "refused":
            return Usage(NOT_BILLED, reason)
        if self.estimate and self.answering:
            return Usage(ESTIMATED, "from_request", self.estimate)
        if reason == "not_sent":
            reason = "invalid" if answer.invalid else "body_too_large" if answer.too_large else reason
        return Usage(UNKNOWN, reason, answer.unconfirmed or {})


# -- Calls that nobody ends ------------------------------------------------------------------------------------------
# A stream that is garbage-collected ends its call in a finaliser, which may run inside any lock of the process: it only
# appends here. The next call, or a thread that runs while streams are open, does the rest.

open_calls: set[Call] = set()
"""Calls whose answer is still being read."""

calls_under_way: set[Call] = set()
"""Billable calls that have not ended, where a ledger is told of those that take long."""

_abandoned: deque[Call] = deque()
_drainer_lock = threading.Lock()
_drainer: threading.Thread | None = None
_DRAIN_EVERY: Final = 0.5
_LINGER_ROUNDS: Final = 20


def abandon(call: Call, outcome: str) -> None:
    """End a call from a finaliser: safe in any thread and under any lock."""
    if call.open and call.abandoned is None:
        call.abandoned = (outcome, call.now())
        _abandoned.append(call)


def drain() -> None:
    """End the calls that finalisers left behind."""
    while _abandoned:
        try:
            call = _abandoned.popleft()
        except IndexError:
            return
        try:
            call.stop(DROPPED)
        except Exception as error:
            errors.swallow("drain", error)


def watch(call: Call) -> None:
    """Keep an eye on a call whose answer is handed to the caller unread."""
    open_calls.add(call)
    if _drainer is None:
        _start_drainer()


def _start_drainer() -> None:
    global _drainer  # noqa: PLW0603 - one thread for the process, made under its lock
    with _drainer_lock:
        if _drainer is not None:
            return
        thread = threading.Thread(target=_drain_while_open, name="openai-metering-drain", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the interpreter is shutting down: finish_open_calls() does the rest
            return
        _drainer = thread
        # Registered again, to run before the exit handlers of telemetry that was set up after us.
        atexit.unregister(finish_open_calls)
        atexit.register(finish_open_calls)


def _drain_while_open() -> None:
    global _drainer  # noqa: PLW0603
    idle = 0
    pause = threading.Event()  # never set: a wait that gevent's patching turns into its own
    while idle < _LINGER_ROUNDS:
        pause.wait(_DRAIN_EVERY)
        try:
            drain()
            for call in tuple(calls_under_way):
                call.tell_started()
        except Exception as error:
            errors.swallow("drain", error)
        idle = 0 if open_calls or _abandoned or calls_under_way else idle + 1
    _drainer = None
    if open_calls or calls_under_way:  # a call that was opened while this thread took its leave
        _start_drainer()


def finish_open_calls() -> None:
    """End what is still open when the process ends: the caller will not read on."""
    drain()
    for call in tuple(open_calls):
        try:
            call.stop(DROPPED if call.first_chunk is not None else UNREAD)
        except Exception as error:
            errors.swallow("exit", error)


def _forget_in_child() -> None:
    """A forked child owns none of its parent's calls: its copies of them end without a record."""
    global _drainer, _drainer_lock  # noqa: PLW0603
    for call in tuple(open_calls):
        call.disown()
    open_calls.clear()
    calls_under_way.clear()
    _abandoned.clear()
    _drainer = None
    _drainer_lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)
