"""The values that a call is made of, and the one that its signals take when it has ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from openai_metering.operations import Operation
    from openai_metering.resolution import Resolved
    from openai_metering.usage import Answer, Usage

COMPLETED: Final = "completed"
FAILED: Final = "failed"
CANCELLED: Final = "cancelled"
STOPPED: Final = "stopped"
DROPPED: Final = "dropped"
UNREAD: Final = "unread"

PENDING: Final = "pending"
STARTED: Final = "started"
FINAL: Final = "final"
TOLD: Final = "told"
"""The state of a record that another one, of the same job, has made needless."""


class Server(NamedTuple):
    """Where a call goes: the provider's name by the convention, host and port."""

    provider: str
    address: str | None
    port: int | None


class Request(NamedTuple):
    """What a call asks for, as far as it is recorded."""

    model: str | None = None
    stream: bool = False
    service_tier: str | None = None
    max_tokens: int | None = None
    choices: int | None = None
    """How many answers or images are asked for, where it is not one."""
    organization: str | None = None
    """The provider's id of the organization that the request names; no secret."""
    project: str | None = None
    facts: tuple[tuple[str, str], ...] = ()
    """Further attributes that decide about a price, e.g. the size of images."""


class StartedCall(NamedTuple):
    """A call that is about to be sent; what its span starts with."""

    operation: Operation
    server: Server
    request: Request
    who: Resolved
    started: int
    """Nanoseconds since the epoch."""
    parent: Any = None
    """The span of the session that the call belongs to; ``None``: the span around it, if any."""


class Failure(NamedTuple):
    """What is recorded of an exception: never its text."""

    error_type: str
    """The class name, fully qualified where it is no built-in."""
    reason: str
    """Why usage is unknown; ``refused`` where the provider answered with 4xx or 5xx, so that nothing is billed."""
    cancelled: bool = False
    """The caller's task, thread or process gave up."""


class FinishedCall(NamedTuple):
    """A call that has ended; what each signal is made of."""

    operation: Operation
    server: Server
    request: Request
    who: Resolved
    span: Any
    span_context: Any
    answer: Answer
    usage: Usage
    outcome: str
    error_type: str | None
    status_code: int | None
    request_id: str | None
    retries: int
    started: int
    """Nanoseconds since the epoch."""
    ended: int
    """Nanoseconds since the epoch."""
    first_chunk: int | None
    """Nanoseconds since the epoch; ``None`` where the answer is no stream, or none of it came."""
    state: str = FINAL
    """``pending`` where the usage comes later."""
    record_id: str | None = None
    """Where the same consumption can be seen twice: an id that each sight gives it."""
    started_id: str | None = None
    """Of the ``started`` record that was written while the call was under way."""
