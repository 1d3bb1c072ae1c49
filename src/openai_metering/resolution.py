"""Who: the attribution of a call, and the order in which its sources win."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, cast

from openai_metering.errors import swallow, warn_once
from openai_metering.reading import (
    CLEAR,
    MAX_TAG_KEY_LENGTH,
    MAX_TAGS,
    MAX_VALUE_LENGTH,
    Clear,
    Reading,
    TagValue,
    flat,
    limits,
)
from openai_metering.spellings import CANONICAL, CREDENTIAL, ORGANIZATION, SPELLINGS, SUBSCRIBER, TAGS

__all__ = [
    "CLEAR",
    "CREDENTIAL",
    "EMPTY",
    "MAX_TAGS",
    "MAX_TAG_KEY_LENGTH",
    "MAX_VALUE_LENGTH",
    "ORGANIZATION",
    "SOURCES",
    "SUBSCRIBER",
    "Attribution",
    "Clear",
    "Resolved",
    "TagValue",
    "resolve",
    "set_limits",
]

# What was read without anything to mask, cut or complain of, by its pairs of text: callers say the same again and again.
_read_before: dict[tuple[tuple[str, str], ...], Attribution] = {}
_REMEMBERED: Final = 4096


def set_limits(value_length: int, tags: int) -> None:
    """Set how much of what an application says is kept from now on.

    Args:
        value_length: characters of a value.
        tags: tags of a call.
    """
    limits.value_length, limits.tags = value_length, tags
    _read_before.clear()


_NONE: Final[frozenset[str]] = frozenset()


@dataclass(frozen=True, slots=True)
class Attribution:
    """Who a call is for: the three levels and free tags. Immutable and hashable; ``None`` means not known.

    Values are checked when it is made: one of a wrong type is dropped with one warning per kind, an over-long one is
    cut, and one shaped like a key is masked.

    Args:
        organization_id: company or internal unit that pays.
        subscriber_identity: person or service account, usually an e-mail address.
        subscriber_credential: alias of the API key in use, never the key.
        tags: further ``(key, value)`` pairs, or a mapping; kept sorted by key.
    """

    organization_id: str | None = None
    subscriber_identity: str | None = None
    subscriber_credential: str | None = None
    tags: tuple[tuple[str, TagValue], ...] = ()
    _tag_types: tuple[type, ...] = field(default=(), init=False, repr=False)
    """Part of the comparison: ``1``, ``1.0`` and ``True`` are equal, and three different tags."""
    _cleared: frozenset[str] = field(default=_NONE, init=False, repr=False)
    """Fields, and keys of tags, that sources of a lower rank do not fill either."""
    _cut: frozenset[str] = field(default=_NONE, init=False, repr=False)
    """Fields of which a part was left out, keys of such tags, and ``tags`` where there were too many."""
    _hash: int = field(default=0, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        given: Any = self.tags
        reading = Reading()
        for key, value in given.items() if isinstance(given, Mapping) else given:
            reading.tag(key, value)
        for name in SPELLINGS:
            reading.level(name, name, getattr(self, name))
        _filled(self, reading)

    def __hash__(self) -> int:
        return self._hash

    def __reduce__(self) -> Any:  # a hash is true in its own process only
        levels = (self.organization_id, self.subscriber_identity, self.subscriber_credential)
        return _restored, (levels, self.tags, self._cleared, self._cut)

    @property
    def cut(self) -> tuple[str, ...]:
        """The fields and tags of which a part was left out, and ``tags`` where there were too many."""
        return tuple(sorted(self._cut))

    @classmethod
    def from_mapping(cls, values: object) -> Attribution:
        """Read what an application passed as ``usage_metadata`` or to a scope; never raises.

        All historic spellings of the three levels are understood, nested ``subscriber.credential.name`` included;
        any other key is a tag. ``None`` and blank text mean unset, ``CLEAR`` unknown here, whatever is said further
        out.

        Args:
            values: a mapping from names to text, or an ``Attribution``.

        Returns:
            The attribution, empty where nothing usable was given.
        """
        if isinstance(values, Attribution):
            return values
        if values is None:
            return EMPTY
        if not isinstance(values, Mapping):
            warn_once(
                "attribution.type",
                "usage_metadata takes a mapping such as {'organization_id': 'AcmeSoft'}; a value of type %s was ignored.",
                type(values).__name__,
            )
            return EMPTY
        try:
            return _again(values) if type(values) is dict else _read(values)
        except Exception as error:  # a mapping of the application's own may raise
            swallow("attribution", error)
            return EMPTY

    def merge(self, inner: Attribution) -> Attribution:
        """Return this attribution with the fields that ``inner`` knows laid over it, tags key by key."""
        if inner is EMPTY:
            return self
        if self is EMPTY:
            return inner
        cleared, cut = inner._cleared, self._cut | inner._cut
        tags = dict(inner.tags)
        for key, value in self.tags:
            if key not in tags and key not in cleared:
                if len(tags) < limits.tags:
                    tags[key] = value
                else:
                    cut |= {"tags"}
        levels = [
            own if (own := getattr(inner, name)) is not None or name in cleared else getattr(self, name)
            for name in SPELLINGS
        ]
        if self._cleared:
            known = {name for name, level in zip(SPELLINGS, levels, strict=True) if level is not None}
            cleared |= self._cleared.difference(known, tags)
        return _fill(object.__new__(Attribution), levels, tags, cleared, cut)

    def without(self, other: Attribution, *, fields_of: bool = False) -> Attribution:
        """Return this attribution without what the other one says alike, or without every field that it says.

        Args:
            other: what is taken out.
            fields_of: leave out a field that the other knows, whatever its value.
        """
        levels = [
            None if known == level or (fields_of and known is not None) else level
            for level, known in ((getattr(self, name), getattr(other, name)) for name in SPELLINGS)
        ]
        theirs = dict(other.tags)
        tags = {
            key: value
            for key, value in self.tags
            if key not in theirs or not (fields_of or (theirs[key] == value and type(theirs[key]) is type(value)))
        }
        cleared = self._cleared - other._cleared
        if fields_of:
            levels = [None if name in other._cleared else level for name, level in zip(SPELLINGS, levels, strict=True)]
            tags = {key: value for key, value in tags.items() if key not in other._cleared}
        return _fill(object.__new__(Attribution), levels, tags, cleared, self._cut)


def _fill(
    values: Attribution,
    levels: list[str | None],
    tags: dict[str, TagValue],
    cleared: frozenset[str] = _NONE,
    cut: frozenset[str] = _NONE,
) -> Attribution:
    """Set the fields of a frozen value to what has been checked already."""
    set_field = object.__setattr__
    for name, level in zip(SPELLINGS, levels, strict=True):
        set_field(values, name, level)
    ordered = tuple(sorted(tags.items())) if tags else ()
    set_field(values, "tags", ordered)
    set_field(values, "_tag_types", tuple([type(value) for _, value in ordered]) if ordered else ())
    set_field(values, "_cleared", cleared)
    set_field(values, "_cut", cut)
    set_field(values, "_hash", hash((*levels, ordered, cleared)))
    return values


def _restored(
    levels: tuple[str | None, ...],
    tags: tuple[tuple[str, TagValue], ...],
    cleared: frozenset[str],
    cut: frozenset[str],
) -> Attribution:
    return _fill(object.__new__(Attribution), list(levels), dict(tags), cleared, cut)


def _again(values: dict[Any, Any]) -> Attribution:
    """Read a dictionary, or recognise one of nothing but text that was read before, in an eighth of the time."""
    for value in values.values():
        if type(value) is not str:
            return _read(values)
    pairs = tuple(values.items())
    found = _read_before.get(pairs)
    return _read(values, pairs) if found is None else found


def _read(values: Mapping[Any, Any], pairs: tuple[tuple[str, str], ...] | None = None) -> Attribution:
    reading = Reading()
    for key, value in flat(values):
        name = CANONICAL.get(key)
        if name is not None:
            reading.level(name, key, value)
        elif not reading.other(key, value):
            reading.tag(TAGS.get(key, key), value)
    if not (reading.levels or reading.tags or reading.cleared):
        return EMPTY
    found = _filled(object.__new__(Attribution), reading)
    if pairs is not None and not reading.odd:
        if len(_read_before) >= _REMEMBERED:
            _read_before.clear()
        _read_before[pairs] = found
    return found


def _filled(values: Attribution, reading: Reading) -> Attribution:
    """Set the fields of a value to what was read; what is cleared and given is given."""
    levels = reading.levels
    known = [levels[name][1] if name in levels else None for name in SPELLINGS]
    cleared = frozenset(reading.cleared.difference(levels, reading.tags)) if reading.cleared else _NONE
    return _fill(values, known, reading.tags, cleared, frozenset(reading.cut) if reading.cut else _NONE)


EMPTY: Final = Attribution()


@dataclass(frozen=True, slots=True, eq=False)
class Resolved:
    """The attribution that one call got, with the source of each level. Compared by identity, so cheap as a key."""

    attribution: Attribution
    status: str
    """``complete`` (all three levels), ``partial`` or ``unattributed``."""
    sources: tuple[str | None, str | None, str | None]
    """For organization, subscriber and credential one of ``SOURCES``; ``None`` where unknown."""
    hashed: bool = False
    """In the place of the subscriber stands its keyed hash."""


SOURCES: Final = ("keyword", "scope", "client", "resolver", "baggage", "key_map", "default")
"""Where who a call is for is looked for, the highest first."""

_NOBODY: Final = Resolved(EMPTY, "unattributed", (None, None, None))


def resolve(
    keyword: Attribution,
    scope: Attribution,
    default: Attribution,
    *,
    client: Attribution | None = None,
    resolver: Attribution | None = None,
    baggage: Attribution | None = None,
    key_map: Attribution | None = None,
) -> Resolved:
    """Merge the sources of who, field by field; a field that a source leaves out never erases, ``CLEAR`` does.

    | rank | source | what it is |
    | --- | --- | --- |
    | 1 | ``keyword`` | ``usage_metadata=`` on the call |
    | 2 | ``scope`` | ``attribution(...)``, inner over outer; a middleware is one |
    | 3 | ``client`` | ``bind(client, ...)``, a later one over an earlier one |
    | 4 | ``resolver`` | ``set_attribution_resolver(...)`` |
    | 5 | ``baggage`` | incoming baggage, as far as ``OPENAI_METERING_BAGGAGE`` allows |
    | 6 | ``key_map`` | ``OPENAI_METERING_KEY_MAP``, by the API key in use |
    | 7 | ``default`` | ``OPENAI_METERING_ORGANIZATION_ID`` and its siblings |
    """
    resolved = _NOBODY if default is EMPTY else _laid_over(_NOBODY, "default", default)
    if key_map is not None:
        resolved = _laid_over(resolved, "key_map", key_map)
    if baggage is not None:
        resolved = _laid_over(resolved, "baggage", baggage)
    if resolver is not None:
        resolved = _laid_over(resolved, "resolver", resolver)
    if client is not None:
        resolved = _laid_over(resolved, "client", client)
    if scope is not EMPTY:
        resolved = _laid_over(resolved, "scope", scope)
    return resolved if keyword is EMPTY else _laid_over(resolved, "keyword", keyword)


@functools.lru_cache(maxsize=4096)
def _laid_over(below: Resolved, source: str, values: Attribution) -> Resolved:
    """One step of the order: what a source says, over what those below it said."""
    merged = below.attribution.merge(values)
    sources = tuple(
        None if getattr(merged, name) is None else lower if getattr(values, name) is None else source
        for name, lower in zip(SPELLINGS, below.sources, strict=True)
    )
    known = len(sources) - sources.count(None)
    status = "complete" if known == len(sources) else "partial" if known else "unattributed"
    return Resolved(merged, status, cast("tuple[str | None, str | None, str | None]", sources))
