"""Moments given on the command line."""

from __future__ import annotations

from openai_metering.cli.failure import Failure
from openai_metering.directory.periods import moment, now
from openai_metering.directory.schema import shown


def time_of(text: str | None) -> int:
    """Read a moment: a date (midnight in UTC), a time of ISO 8601, or this one when none was given.

    Args:
        text: what was given.

    Returns:
        Nanoseconds since 1970.

    Raises:
        Failure: when it is no moment.
    """
    if text is None:
        return now()
    try:
        return moment(text.strip())
    except (ValueError, OverflowError):
        raise Failure(f"{shown(text)} is not a date such as 2026-07-31, or a time such as 2026-07-31T14:00Z.") from None
