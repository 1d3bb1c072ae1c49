"""What a client sends over a websocket: the messages that start something billed, and who that is for."""

from __future__ import annotations

import contextlib
import functools
from collections import deque
from typing import Any, Final, NamedTuple

from openai_metering.finished import Request
from openai_metering.masking import mask
from openai_metering.resolution import EMPTY, Attribution
from openai_metering.resolver import resolver_says
from openai_metering.seams.who import NOTHING, Beneath
from openai_metering.usage import count, part, text

MAX_SENT: Final = 256
"""Messages that the server has not answered yet; the oldest of more is forgotten."""

RESPONSE: Final = "response.create"
DECISION: Final = "decision.create"


class Sent(NamedTuple):
    """A message of the client that has the server start something that is billed."""

    kind: str
    scope: Attribution
    request: Request
    stream_id: str | None = None
    metadata: Any = None
    event_id: str | None = None
    keyword: Attribution = EMPTY
    resolver: Attribution | None = None
    """What the application's resolver said when it was sent."""


def sent(event: Any, scope: Attribution, stream_id: str | None = None, keyword: Attribution = EMPTY) -> Sent | None:
    """Read a client's message; ``None`` for one that starts nothing.

    Args:
        event: what the SDK's ``send`` was given: a mapping or a model.
        scope: the scope around the sending.
        stream_id: the lane of a multiplexed connection, where the message itself does not name it.
        keyword: ``usage_metadata=`` of the sending.
    """
    kind = part(event, "type")
    if kind not in (RESPONSE, DECISION):
        return None
    body = part(event, "response") or event
    model, tier = text(part(body, "model")), text(part(body, "service_tier"))
    return Sent(
        kind,
        scope,
        Request(
            None if model is None else mask(model),
            service_tier=None if tier is None else mask(tier),
            max_tokens=count(part(body, "max_output_tokens")),
        ),
        text(part(event, "stream_id")) or stream_id,
        part(body, "metadata") or None,
        text(part(event, "event_id")),
        keyword,
        resolver_says(),
    )


@functools.lru_cache(maxsize=1024)
def who_sent(
    keyword: Attribution, opened: Attribution, scope: Attribution, said: Attribution
) -> tuple[Attribution, Attribution]:
    """Who a single response is for: what the scope around its sending says otherwise than the one around ``connect()``.

    Args:
        keyword: ``usage_metadata=`` of ``connect()``, which holds for the session.
        opened: the scope around ``connect()``.
        scope: the scope around the sending, which is more particular than both.
        said: ``usage_metadata=`` of the sending itself, which is the most particular.

    Returns:
        The keyword and the scope of the response.
    """
    own = scope.without(opened)
    return keyword.without(own, fields_of=True).merge(said), opened.merge(own)


class Opening:
    """Who a session is for, from ``connect()`` to the open connection."""

    __slots__ = ("beneath", "keyword", "scope", "sent")

    def __init__(self, keyword: Attribution = EMPTY, scope: Attribution = EMPTY, beneath: Beneath = NOTHING) -> None:
        self.keyword = keyword
        self.scope = scope
        self.beneath = beneath
        self.sent: deque[Sent] = deque(maxlen=MAX_SENT)
        """What is queued before the connection is there."""

    def unsend(self, message: Sent) -> None:
        """The message was not queued after all."""
        with contextlib.suppress(ValueError):
            self.sent.remove(message)
