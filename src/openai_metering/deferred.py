"""Work whose usage comes later: who ordered it, until its end is seen, once."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from openai_metering import errors

if TYPE_CHECKING:
    from openai_metering.finished import Request, Server
    from openai_metering.jobs import Job
    from openai_metering.operations import Operation
    from openai_metering.resolution import Resolved

MAX_JOBS: Final = 10_000
"""Jobs that are waited for; and as many of which it is remembered that their end has been seen."""
NEAR: Final = 1_500_000_000
"""Nanoseconds between an order and the second in which the provider says that it began."""
MAX_AGE: Final = 30 * 24 * 3600
"""Seconds that a job is waited for: as long as a provider keeps a background response."""


class Waiting(NamedTuple):
    """A job that was ordered in this process and whose end has not been seen."""

    key: str
    record_id: str
    operation: Operation
    server: Server
    request: Request
    who: Resolved
    span_context: Any
    started: int
    """Nanoseconds since the epoch."""
    since: float = 0.0
    """By the monotonic clock, in seconds."""


def key_of(server: Server, job: Job, identifier: str) -> str:
    """The key of a job, the same in every process that sees it, and the id of its usage record: 32 hex digits.

    Made of host, port, the kind of job and the provider's id for it.
    """
    named = f"{server.address}:{server.port}\n{job.name}\n{identifier}"
    return hashlib.sha256(named.encode("utf-8", "replace")).hexdigest()[:32]


class _Jobs:
    """The jobs of this process, bounded in number and age; the oldest goes first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: OrderedDict[str, Waiting] = OrderedDict()
        """By the id of their record, the oldest first."""
        self._steps: dict[str, deque[str]] = {}
        """Where a key stands for several jobs: the ids of their records, the oldest first."""
        self._ended: OrderedDict[str, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._waiting)

    def wait(self, waiting: Waiting) -> None:
        """Wait for the end of a job."""
        with self._lock:
            self._waiting[waiting.record_id] = waiting
            if waiting.record_id != waiting.key:
                self._steps.setdefault(waiting.key, deque()).append(waiting.record_id)
            forgotten = self._forget(waiting.since)
        if forgotten:
            errors.count("job_forgotten")
            errors.warn_once(
                "job_forgotten",
                "A job is waited for no longer than %d days, and behind no more than %d others; when one that was "
                "forgotten ends, its record says no attribution, which stands in its pending record.",
                MAX_AGE // 86400,
                MAX_JOBS,
            )

    def is_known(self, key: str, *, steps: bool) -> bool:
        """Whether a job with this key was ordered before; where it has ended, an end of that key may be seen again.

        Without ``steps`` the key now stands for the new job: the one before is not waited for any more.
        """
        with self._lock:
            known = key in self._waiting or key in self._steps or key in self._ended
            for before in [] if steps else [key, *self._steps.get(key, ())]:
                self._taken(key, before)
            self._ended.pop(key, None)
            for ended in [ended for ended in self._ended if ended.startswith(key)] if steps else ():
                del self._ended[ended]
            return known

    def finish(self, key: str, record_id: str, end_key: str) -> bool:
        """Note that the call which ordered a job saw its end itself. Returns whether it is the first to see it."""
        with self._lock:
            first = record_id not in self._ended
            self._taken(key, record_id)
            self._end(end_key)
            return first

    def end(self, key: str, end_key: str, began: int | None = None) -> tuple[bool, Waiting | None]:
        """Note that a request which looks at a job shows its end.

        Args:
            key: of the job.
            end_key: of what has ended, where a key stands for several jobs.
            began: nanoseconds since the epoch, by the provider's clock, where it tells when what has ended was ordered.

        Returns:
            Whether this is the first time; and the job, where this process ordered it.
        """
        with self._lock:
            if end_key in self._ended:
                return False, None
            self._end(end_key)
            waiting = self._taken(key, self._meant(key, began))
            if waiting is not None:
                self._end(waiting.record_id)
            return True, waiting

    def _meant(self, key: str, began: int | None) -> str:
        """The record of the job that has ended: of several the one that was ordered then, else the oldest."""
        record_ids = self._steps.get(key)
        if key in self._waiting or not record_ids:
            return key
        near = (one for one in record_ids if abs(self._waiting[one].started - (began or 0)) <= NEAR)
        return next(near, record_ids[0])

    def _end(self, key: str) -> None:
        self._ended[key] = None
        if len(self._ended) > MAX_JOBS:
            self._ended.popitem(last=False)

    def _taken(self, key: str, record_id: str) -> Waiting | None:
        waiting = self._waiting.pop(record_id, None)
        record_ids = self._steps.get(key)
        if record_ids is not None and record_id in record_ids:
            record_ids.remove(record_id)
            if not record_ids:
                del self._steps[key]
        return waiting

    def _forget(self, now: float) -> bool:
        """Drop what is too much or too old. Returns whether there was any."""
        forgotten = False
        while len(self._waiting) > MAX_JOBS or now - next(iter(self._waiting.values())).since > MAX_AGE:
            record_id, waiting = next(iter(self._waiting.items()))
            self._taken(waiting.key, record_id)
            forgotten = True
        return forgotten

    def forget_all(self) -> None:
        """A forked child ordered nothing; it waits for no lock that a thread of its parent held."""
        self._lock = threading.Lock()
        self._waiting.clear()
        self._steps.clear()


waiting_jobs: Final = _Jobs()


def order(
    job: Job,
    identifier: str,
    operation: Operation,
    server: Server,
    request: Request,
    who: Resolved,
    span_context: Any,
    started: int,
) -> str:
    """Wait for the end of a job that this process ordered. Returns the id of its usage record."""
    key = key_of(server, job, identifier)
    # A server that gives an id twice began another job.
    known = not operation.names_job and waiting_jobs.is_known(key, steps=job.steps)
    record_id = os.urandom(16).hex() if known or job.steps else key
    waiting_jobs.wait(Waiting(key, record_id, operation, server, request, who, span_context, started, time.monotonic()))
    return record_id


def finish(job: Job, identifier: str, step: str | None, server: Server, record_id: str) -> bool:
    """Note that the call which ordered a job saw its end itself. Returns whether it is the first to see it."""
    return waiting_jobs.finish(key_of(server, job, identifier), record_id, _end_key(server, job, identifier, step))


def end(job: Job, identifier: str, step: str | None, server: Server, began: int | None) -> tuple[bool, Waiting | None]:
    """Note that a request which looks at a job shows its end.

    Returns:
        Whether this is the first time; and the job, where this process ordered it.
    """
    return waiting_jobs.end(key_of(server, job, identifier), _end_key(server, job, identifier, step), began)


def _end_key(server: Server, job: Job, identifier: str, step: str | None) -> str:
    key = key_of(server, job, identifier)
    return key if step is None else f"{key} {step}"


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=waiting_jobs.forget_all)
