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

    def add(self, key: Any) -> bool:
        """Note a consumption. Returns whether it is new."""
        with self._lock:
            if key in self._ids:
                return False
            self._ids[key] = None
            if len(self._ids) > MAX_SEEN:
                self._ids.popitem(last=False)
            return True


_shared: dict[Any, Seen] = {}


def shared(key: Any, own: Seen) -> Seen:
    """Return what the connections to one session have seen; of the last sessions only."""
    seen = _shared.setdefault(key, own)
    while len(_shared) > MAX_SHARED:
        with contextlib.suppress(KeyError, RuntimeError, StopIteration):  # another thread was faster
            del _shared[next(iter(_shared))]
    return seen
