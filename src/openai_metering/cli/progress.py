"""A line on a terminal that says how far long work has come."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

_PATIENCE: Final = 1.0  # seconds of silence before the first line
_INTERVAL: Final = 0.2
_STRIDE: Final = 256


class Progress:
    """Show how much was read, on stderr and only when that is a terminal; the line is gone at the end.

    Args:
        total: bytes to work through.
        doing: what is done with them.
        things: what is counted.
        stride: steps between two looks at the clock.
    """

    def __init__(self, total: int, doing: str = "Reading", things: str = "calls", stride: int = _STRIDE) -> None:
        self._total = total
        self._doing = doing
        self._things = things
        self._stride = stride
        self._done = 0
        self._steps = 0
        self._shown = False
        self._next = time.monotonic() + _PATIENCE
        self._terminal = sys.stderr.isatty()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def advance(self, size: int, count: int) -> None:
        """Say that so many more bytes are done, and how many things there are by now."""
        self._done += size
        self._steps += 1
        if not self._terminal or self._steps % self._stride or time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _INTERVAL
        self._shown = True
        percent = min(100, 100 * self._done // self._total) if self._total else 0
        print(f"\r\x1b[K{self._doing}: {percent} %, {count:,} {self._things}", end="", file=sys.stderr, flush=True)
