"""Requests that look at a job: they cost nothing, and the first that sees the end of a job tells it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from openai_metering import deferred
from openai_metering.call import Call, open_calls
from openai_metering.deferred import Waiting
from openai_metering.finished import CANCELLED, COMPLETED, FAILED, FinishedCall, Request
from openai_metering.resolution import EMPTY, resolve
from openai_metering.usage import REPORTED, UNKNOWN, Answer, Usage

if TYPE_CHECKING:
    from openai_metering.finished import Server
    from openai_metering.operations import Operation
    from openai_metering.signals import Signals

NOBODY: Final = resolve(EMPTY, EMPTY, EMPTY)


class Sight(Call):
    """A request that looks at a job: no call of its own, without span and record.

    Args:
        signals: where the end of the job is told.
        operation: the request's row.
        server: where the request goes.
        identifier: the job that it asks for, as its path names it.
    """

    __slots__ = ("_identifier",)

    def __init__(self, signals: Signals, operation: Operation, server: Server, identifier: str | None) -> None:
        super().__init__(signals, operation, server, Request(), NOBODY)
        self._identifier = identifier

    def _start_span(self, parent: Any) -> tuple[Any, Any]:
        del parent
        return None, None

    def observe(self, chunk: Any) -> None:
        """Read one event of a stream; an end is told before the caller gets it."""
        if self.operation.observe is not None:
            self.operation.observe(self.answer, chunk)
            self._tell()

    def finish(self, outcome: str, *, reason: str, error_type: str | None = None, ended: int | None = None) -> None:
        """The request is over, the first time only; the job may be, too."""
        del outcome, reason, error_type, ended
        try:
            self._end.pop()
        except IndexError:
            return
        open_calls.discard(self)
        self._tell()

    def _tell(self) -> None:
        """Tell the end of the job, where this answer is the first to show it."""
        answer, job = self.answer, self.operation.job
        if not answer.finished or job is None:
            return
        self.answer = Answer()  # the end of another may follow in the same stream
        identifier = answer.job or self._identifier
        if identifier is None or (job.steps and answer.step is None):
            return
        first, waiting = deferred.end(job, identifier, answer.step, self.server, answer.began)
        if waiting is not None:
            self.signals.settle(_ended(answer, waiting, answer.ended), counted=True)
        elif first and job.known_by_sight and answer.job is not None and (job.says_so or answer.counts is not None):
            # Ordered by another process: who it is for stands in the pending record that was made there.
            ended = answer.ended or answer.began
            key = deferred.key_of(self.server, job, answer.job)
            started = answer.began or ended or time.time_ns()
            operation = self.operation.of or self.operation
            waiting = Waiting(key, key, operation, self.server, self.request, self.who, None, started)
            self.signals.settle(_ended(answer, waiting, ended), counted=False)


def _ended(answer: Answer, waiting: Waiting, ended: int | None) -> FinishedCall:
    """The end of a job for who ordered it, at the time that the provider tells, else now."""
    outcome = FAILED if answer.failed is not None else CANCELLED if answer.cancelled else COMPLETED
    reason = "failed" if answer.failed is not None else "invalid" if answer.invalid else "not_sent"
    now = time.time_ns()
    return FinishedCall(
        waiting.operation,
        waiting.server,
        waiting.request,
        waiting.who,
        span=None,
        span_context=waiting.span_context,
        answer=answer,
        usage=Usage(UNKNOWN, reason) if answer.counts is None else Usage(REPORTED, None, answer.counts),
        outcome=outcome,
        error_type=answer.failed,
        status_code=None,
        request_id=None,
        retries=0,
        started=waiting.started,
        ended=max(waiting.started, min(ended or now, now)),
        first_chunk=None,
        record_id=waiting.record_id,
    )
