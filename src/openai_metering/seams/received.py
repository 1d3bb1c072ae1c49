"""Events of a websocket that a caller receives as bytes, and parses by itself, by the SDK, or not at all."""

from __future__ import annotations

import functools
import json
import re
from typing import TYPE_CHECKING, Any

from openai_metering.seams.seen import Seen

if TYPE_CHECKING:
    from collections.abc import Iterable


class Received:
    """What one connection has read when it was received, so that it is not read again where it is parsed.

    Args:
        kinds: the types of the events that say something for the bill; no other one is parsed.
    """

    def __init__(self, kinds: Iterable[str]) -> None:
        self._speaking = _naming(frozenset(kinds))
        self._read = Seen()

    def read(self, data: bytes) -> Any:
        """Return the event that was received; ``None`` where it says nothing.

        Raises:
            ValueError: it is no JSON.
            RecursionError: it is nested too deeply.
        """
        if self._speaking.search(data) is None:
            return None
        self._read.add(hash(data))
        return json.loads(data)

    def has_read(self, data: str | bytes) -> bool:
        """Whether these are the bytes of an event that was read."""
        return bool(self._read) and hash(data.encode() if isinstance(data, str) else data) in self._read


@functools.cache
def _naming(kinds: frozenset[str]) -> re.Pattern[bytes]:
    names = "|".join(re.escape(kind) for kind in sorted(kinds))
    return re.compile(rf'"type"\s*:\s*"(?:{names})"'.encode())
