"""How many series a metric has at most, as the OpenTelemetry specification wants it."""

from __future__ import annotations

from typing import Any, Final

from openai_metering import errors
from openai_metering.signals import conventions as c


class Attributes(dict[str, Any]):
    """A set of attributes that is cached, so compared by identity."""

    __slots__ = ()
    __hash__ = object.__hash__  # type: ignore[assignment]
    __eq__ = object.__eq__
    __ne__ = object.__ne__


OVERFLOW: Final = Attributes({c.METRIC_OVERFLOW: True})
"""The attributes of the one series that takes what is beyond the limit; sums over all series stay whole."""


class Series:
    """Counts the sets of attributes of each instrument.

    Args:
        limit: series of an instrument, that of the overflow included.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._known: dict[int, set[frozenset[tuple[str, Any]]]] = {}
        self._within: dict[tuple[int, Attributes], Attributes] = {}

    def within(self, instrument: object, attributes: Attributes) -> Attributes:
        """Return the attributes, or those of the overflow where the instrument has series enough."""
        key = (id(instrument), attributes)
        found = self._within.get(key)
        if found is None:
            if len(self._within) >= 2 * self._limit:  # the same sets come again as other objects
                self._within.clear()
            found = self._within[key] = self._first(id(instrument), attributes)
        return found

    def _first(self, instrument: int, attributes: Attributes) -> Attributes:
        known = self._known.setdefault(instrument, set())
        content = frozenset(attributes.items())
        if content in known:
            return attributes
        if len(known) >= self._limit - 1:
            errors.warn_once(
                "metrics.series",
                "A metric has more than %d series; what is beyond is summed up in one with otel.metric.overflow. "
                "OPENAI_METERING_METRIC_SERIES sets the limit; usage records are not affected.",
                self._limit,
            )
            return OVERFLOW
        known.add(content)
        return attributes
