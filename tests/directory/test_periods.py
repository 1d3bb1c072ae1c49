"""Moments and periods."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from openai_metering.directory.periods import ALWAYS, FOREVER, gap, moment, spelt


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-02", 86_400 * 10**9),
        ("1970-01-01T00:00:01Z", 10**9),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1970-01-01T00:00:01.5", 1_500_000_000),
        ("1970-01-01 00:01Z", 60 * 10**9),
    ],
)
def test_moments(text, expected):
    """Dates are midnight in UTC, times without an offset are UTC."""
    assert moment(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "2026", "20260731", "2026-W31-5", "2026-07-32", "2026-07-31T", "2026-07-31T25:00", "31.07.2026", "٢026-07-31"],
)
def test_what_is_no_moment(text):
    """One form for all versions of Python, and no guess at another one."""
    with pytest.raises(ValueError):
        moment(text)


@given(st.datetimes().map(lambda at: moment(at.isoformat())))
def test_what_is_written_is_what_was_meant(time):
    """A moment is the same after it was written and read."""
    assert moment(spelt(time)) == time


points = st.integers(0, 20)
periods = st.tuples(points, points).filter(lambda period: period[0] < period[1])


@given(periods, st.lists(periods, max_size=6))
def test_a_gap_is_the_first_uncovered_part(period, others):
    """Against an independent look at every moment."""
    uncovered = [at for at in range(*period) if not any(start <= at < end for start, end in others)]
    found = gap(*period, others)
    assert (found is None) == (not uncovered)
    if found is not None:
        assert found[0] == uncovered[0]
        assert set(range(*found)) <= set(uncovered)


def test_what_has_no_bounds_covers_everything():
    """Always and forever are bounds like others."""
    assert gap(ALWAYS, FOREVER, [(ALWAYS, FOREVER)]) is None
    assert gap(ALWAYS, FOREVER, [(ALWAYS, 5)]) == (5, FOREVER)
