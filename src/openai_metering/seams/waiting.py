"""The messages of a websocket session that wait for their answer: which of them started what."""

from __future__ import annotations

import contextlib
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from openai_metering.seams.sending import DECISION, MAX_SENT, RESPONSE
from openai_metering.usage import part, text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from openai_metering.seams.sending import Sent


# What errors name that are about another message than one that starts a response.
_OTHERS: Final = ("session", "item", "input_audio", "output_audio", "conversation.item", "audio")


def _is_of_another(error: Any) -> bool:
    """Whether an error that names no message is about one that starts nothing: it names what was wrong, or its code."""
    named = text(part(error, "param")) or text(part(error, "code")) or ""
    return named.startswith(_OTHERS)


class Waiting:
    """What a client sent and the server has not answered, the oldest first; the oldest of too many is forgotten.

    Args:
        messages: what was queued before the connection was there.
        unasked: the server may start responses by itself.
    """

    def __init__(self, messages: Iterable[Sent], *, unasked: bool) -> None:
        self._messages: deque[Sent] = deque(messages, MAX_SENT)
        self._unasked = unasked

    def add(self, message: Sent) -> None:
        """The message goes out."""
        self._messages.append(message)

    def remove(self, message: Sent) -> None:
        """The message waits no longer."""
        with contextlib.suppress(ValueError):
            self._messages.remove(message)

    def clear(self) -> None:
        """Nothing of this will be answered."""
        self._messages.clear()

    def starter(self, event: Any, response: Any) -> Sent | None:
        """Take the message that had a response started, ``None`` where the server started it by itself."""
        found = self.asking(event, response)
        if found is not None:
            self.remove(found)
        return found

    def asking(self, event: Any, response: Any) -> Sent | None:
        """Return the message that has a response started.

        The oldest one of its lane; where the server may start responses by itself, only one with the same metadata.
        """
        lane = text(part(event, "stream_id"))
        metadata = part(response, "metadata") or None
        waiting = [m for m in tuple(self._messages) if m.kind == RESPONSE]
        asked = [m for m in waiting if m.stream_id == lane] or (waiting if lane is None else [])
        found = next((m for m in asked if m.metadata == metadata), None)
        if found is None and asked and not self._unasked:
            found = asked[0]
        return found

    def decided(self) -> Sent | None:
        """Take the message that asked for a decision."""
        message = next((m for m in tuple(self._messages) if m.kind == DECISION), None)
        if message is not None:
            self.remove(message)
        return message

    def refused(self, event: Any) -> None:
        """The server refused a message: nothing that it asked for will start."""
        error = part(event, "error")
        named = text(part(error, "event_id")) or text(part(error, "client_event_id"))
        waiting = tuple(self._messages)
        refused = next((m for m in waiting if named is not None and m.event_id == named), None)
        if refused is None and named is None:
            lane = text(part(event, "stream_id"))
            if not self._unasked or not _is_of_another(error):
                refused = next((m for m in waiting if lane is None or m.stream_id == lane), None)
        if refused is not None:
            self.remove(refused)
