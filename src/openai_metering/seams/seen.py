"""What has been counted of a session already, so that a repeated event adds nothing."""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from typing import Any, Final

MAX_SEEN: Final = 1024
"""Consumptions of one session that are known again when an event is repeated."""
MAX_SHARED: Final = 64
"""Sessions whose consumptions are known to further connections that join them."""


class Seen:
    """The consumptions of one session that have been counted; shared by all connections that observe it."""

    __slots__ = ("_ids", "_lock", "owner")

    def __init__(self) -> None:
        self._ids: OrderedDict[Any, None] = OrderedDict()
        self._lock = threading.Lock()
        self.owner: object = None
        """Whose record has the session's own time."""

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, key: object) -> bool:
        return key in self._ids

    def add(self, key: Any) -> bool:
        """Note a consumption. Returns whether it is new."""
        with self._lock:
            if key in self._ids:
                return False
            self._ids[key] = None
            if len(self._ids) > MAX_SEEN:
                self._ids.popitem(last=False)
            return True


class Turns:
    """How often one connection has heard each id begin: a server may give the same id to all its responses.

    A turn begins where the former one has ended and either the event is another one, by its own id, or, where events
    have none, the client has asked for something that is still to begin; across a connection made again, which may
    repeat events under new ids, both. Anything else is a repeated event. Connections to one session count alike, so
    that the turn tells a consumption in `Seen`.
    """

    __slots__ = ("_begun", "_ended", "_events", "_former")

    def __init__(self) -> None:
        self._begun: OrderedDict[str, int] = OrderedDict()
        self._ended: set[str] = set()
        self._former: frozenset[str] = frozenset()
        self._events = Seen()

    def begin(self, identity: str, event_id: str | None, *, asked: bool) -> int | None:
        """Note that something begins. Returns which turn of its id it is; ``None`` for a repeated event."""
        repeated = event_id is not None and not self._events.add(event_id)
        turn = self._begun.get(identity, 0)
        if turn:
            unasked = not asked and (event_id is None or identity in self._former)
            if repeated or unasked or identity not in self._ended:
                return None
            self._ended.discard(identity)
            self._former -= {identity}
        self._note(identity, turn + 1)
        return turn + 1

    def end(self, identity: str) -> int:
        """Note that something ends. Returns which turn of its id it is."""
        turn = self._begun.get(identity, 1)
        self._ended.add(identity)
        self._note(identity, turn)
        return turn

    def broke_off(self) -> None:
        """The connection broke off, and may be made again."""
        self._former = frozenset(self._begun)

    def _note(self, identity: str, turn: int) -> None:
        self._begun[identity] = turn
        if len(self._begun) > MAX_SEEN:
            forgotten, _ = self._begun.popitem(last=False)
            self._ended.discard(forgotten)


_shared: dict[Any, Seen] = {}


def shared(key: Any, own: Seen) -> Seen:
    """Return what the connections to one session have seen; of the last sessions only."""
    seen = _shared.setdefault(key, own)
    while len(_shared) > MAX_SHARED:
        with contextlib.suppress(KeyError, RuntimeError, StopIteration):  # another thread was faster
            del _shared[next(iter(_shared))]
    return seen
