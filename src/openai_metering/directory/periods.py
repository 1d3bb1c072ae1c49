"""When something is valid: from a moment on, up to but without another one."""

from __future__ import annotations

import datetime as dt
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

ALWAYS: Final = -(2**63)
"""The start of what has no start, in nanoseconds since 1970."""
FOREVER: Final = 2**63
"""The end of what has no end."""

_MOMENT: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d)(?::(\d\d)(?:\.(\d{1,6}))?)?(Z|[+-]\d\d:\d\d)?)?", re.ASCII
)
_SECOND: Final = 10**9
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)
_MICROSECOND: Final = dt.timedelta(microseconds=1)


@lru_cache(maxsize=4096)
def moment(text: str) -> int:
    """Read a moment.

    Args:
        text: a date (its midnight in UTC) or a date and time of ISO 8601; without an offset it is UTC.

    Returns:
        Nanoseconds since 1970.

    Raises:
        ValueError: when it is neither.
    """
    found = _MOMENT.fullmatch(text)
    if found is None:
        raise ValueError(text)
    date, time, second, fraction, offset = found.groups()
    # Written out, because Python 3.10 reads no other form.
    whole = f"{date}T{time or '00:00'}:{second or '00'}.{(fraction or '').ljust(6, '0')}"
    at = dt.datetime.fromisoformat(f"{whole}{'+00:00' if offset in (None, 'Z') else offset}")
    return (at - _EPOCH) // _MICROSECOND * 1000


def spelt(nanoseconds: int) -> str:
    """Write a moment as the files have it: a date where it is midnight, blank where there is no bound."""
    if nanoseconds in (ALWAYS, FOREVER):
        return ""
    seconds, rest = divmod(nanoseconds, _SECOND)
    at = _EPOCH + dt.timedelta(seconds=seconds, microseconds=rest // 1000)
    if at.time() == dt.time():
        return at.date().isoformat()
    return at.isoformat().replace("+00:00", "Z")


def now() -> int:
    """Return this moment, at whole seconds."""
    return int(dt.datetime.now(dt.timezone.utc).timestamp()) * _SECOND


def gap(start: int, end: int, periods: Iterable[tuple[int, int]]) -> tuple[int, int] | None:
    """Find the first part of a period that no other period covers.

    Args:
        start: where the period begins.
        end: where it ends, itself not in it.
        periods: what may cover it, in any order.

    Returns:
        Start and end of the uncovered part; ``None`` when all is covered.
    """
    for other_start, other_end in sorted(periods):
        if start < other_start:
            return start, min(end, other_start)
        start = max(start, other_end)
        if start >= end:
            return None
    return (start, end) if start < end else None
