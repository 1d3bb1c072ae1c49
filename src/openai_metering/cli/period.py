"""Which time a report is about: its bounds on the clock of a time zone, and the period before."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo, available_timezones

from openai_metering.cli.failure import Failure
from openai_metering.directory.schema import shown

if TYPE_CHECKING:
    from collections.abc import Callable

UTC: Final = dt.timezone.utc

_MINUTE: Final = 60 * 10**9
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = dt.timedelta(microseconds=1)
_DAY: Final = dt.timedelta(days=1)
_MOMENT: Final = re.compile(r"(\d{4})-(\d\d)(?:-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d))?(Z|[+-]\d\d:\d\d)?)?)?", re.ASCII)
_WANTED: Final = "a month such as 2026-07, a date such as 2026-07-31, or a time such as 2026-07-31T14:00"


@dataclass(frozen=True, slots=True)
class Period:
    """A time from a moment on, up to but without another one.

    Args:
        start: its first moment; ``None``: without a beginning.
        end: the first moment behind it; ``None``: without an end.
    """

    start: dt.datetime | None = None
    end: dt.datetime | None = None

    @property
    def bounded(self) -> bool:
        """Whether it has a bound at all."""
        return self.start is not None or self.end is not None

    def test(self) -> Callable[[int], bool]:
        """Return what tells whether a moment, in nanoseconds since 1970, is in it."""
        start = -(2**63) if self.start is None else nanoseconds(self.start)
        end = 2**64 if self.end is None else nanoseconds(self.end)
        return lambda time: start <= time < end

    def before(self) -> Period:
        """Return the period before: as many months where it is whole months, else of the same length.

        Raises:
            Failure: when it lacks a bound.
        """
        if self.start is None or self.end is None:
            raise Failure("the period before is that of a period: give --month, or --from and --to.")
        count = months(self)
        if count is None:
            days = self.end.replace(tzinfo=None) - self.start.replace(
                tzinfo=None
            )  # on the clock: summer time has an hour less
            return Period(self.start - days, self.start)
        year, month = divmod(self.start.year * 12 + self.start.month - 1 - len(count), 12)
        return Period(self.start.replace(year=year, month=month + 1), self.start)

    def __str__(self) -> str:
        start, end = self.start, self.end
        if start is None and end is None:
            return "all time"
        count = months(self) if start is not None and end is not None else None
        if count is not None:
            return count[0] if len(count) == 1 else f"{count[0]} to {count[-1]}"
        if end is not None and end.time() == dt.time() and (start is None or start.time() == dt.time()):
            last = (end - _DAY).date().isoformat()
            if start is not None and start.date().isoformat() == last:
                return last
            return f"up to {last}" if start is None else f"{start.date()} to {last}"
        if start is None and end is not None:
            return f"up to {end.isoformat(' ', 'minutes')}"
        written = [None if one is None else one.isoformat(" ", "minutes") for one in (start, end)]
        return " ".join(
            word for word in (written[0] and f"from {written[0]}", written[1] and f"to {written[1]}") if word
        )


def within(period: str) -> str:
    """Return a period as it stands in a sentence: ``in 2026-07``, ``on 2026-07-31``, ``from ... to ...``.

    Args:
        period: in words.
    """
    if period.startswith(("from ", "up to ")):
        return period
    if " to " in period:
        return f"from {period}"
    return f"on {period}" if period.count("-") == 2 else f"in {period}"  # noqa: PLR2004 - of a date


def months(period: Period) -> list[str] | None:
    """Return the calendar months of a period that is nothing but whole ones, as ``2026-07``; else ``None``."""
    start, end = period.start, period.end
    if start is None or end is None:
        return None
    if any(one.day != 1 or one.time() != dt.time() for one in (start, end)):
        return None
    numbers = range(start.year * 12 + start.month - 1, end.year * 12 + end.month - 1)
    return [f"{number // 12:04d}-{number % 12 + 1:02d}" for number in numbers] or None


def nanoseconds(moment: dt.datetime) -> int:
    """Return a moment as nanoseconds since 1970."""
    return (moment - _EPOCH) // _MICROSECOND * 1000


def zone_of(name: str | None) -> dt.tzinfo:
    """Return a time zone by its IANA name, UTC where none is given.

    Raises:
        Failure: when there is none of that name.
    """
    if name is None or name.upper() in ("UTC", "Z"):
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        known = available_timezones()
    if not known:
        raise Failure("this system knows no time zones: pip install tzdata, or leave --timezone out for UTC.")
    import difflib  # noqa: PLC0415 - only of use here

    folded = {zone.casefold(): zone for zone in known} | {zone.casefold().rpartition("/")[2]: zone for zone in known}
    near = difflib.get_close_matches(name.casefold(), folded, 1)
    hint = f" Did you mean {folded[near[0]]!r}?" if near else ""
    raise Failure(f"--timezone does not know {shown(name)}.{hint} It takes names such as Europe/Berlin.")


def period_of(since: str | None, until: str | None, month: str | None, zone: dt.tzinfo) -> Period:
    """Read what ``--from``, ``--to`` and ``--month`` say.

    Args:
        since: the first moment; a date is its midnight, a month its first.
        until: the first moment behind the period.
        month: a calendar month, in the place of both.
        zone: on whose clock they are, where they name none.

    Raises:
        Failure: when one is no moment, or the period has nothing in it.
    """
    if month is not None:
        if since is not None or until is not None:
            raise Failure("--month is a period of its own: leave --from and --to out.")
        if not re.fullmatch(r"\d{4}-\d\d", month.strip(), re.ASCII):
            raise Failure(f"--month {shown(month)} is not a month such as 2026-07.")
        start = _moment(month, "--month", zone)
        return Period(start, (start.replace(day=28) + dt.timedelta(days=4)).replace(day=1))
    first = None if since is None else _moment(since, "--from", zone)
    end = None if until is None else _moment(until, "--to", zone)
    if first is not None and end is not None and first >= end:
        raise Failure(f"--to {end:%Y-%m-%d} is not later than --from {first:%Y-%m-%d}: nothing is between them.")
    return Period(first, end)


def _moment(text: str, option: str, zone: dt.tzinfo) -> dt.datetime:
    found = _MOMENT.fullmatch(text.strip())
    if found is None:
        raise Failure(f"{option} {shown(text)} is not {_WANTED}.")
    year, month, day, hour, minute, second = (int(part or 0) for part in found.groups()[:6])
    offset = found[7]
    own = zone
    if offset is not None:
        own = UTC if offset == "Z" else dt.datetime.fromisoformat(f"2000-01-01T00:00:00{offset}").tzinfo or UTC
    try:
        return dt.datetime(year, month, day or 1, hour, minute, second, tzinfo=own)
    except ValueError:
        raise Failure(f"{option} {shown(text)} is not {_WANTED}.") from None


def dates(zone: dt.tzinfo) -> Callable[[int], dt.date]:
    """Return what gives the date of a moment, in nanoseconds since 1970, in a time zone."""

    @lru_cache(maxsize=65536)
    def date(minutes: int) -> dt.date:
        return (_EPOCH + dt.timedelta(minutes=minutes)).astimezone(zone).date()

    return lambda time: date(time // _MINUTE)
