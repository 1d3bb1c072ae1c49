"""Who: the attribution of a call, and the order in which its sources win."""

from __future__ import annotations

import enum
import functools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, cast

from openai_metering.errors import swallow, warn_once
from openai_metering.masking import mask
from openai_metering.spellings import CANONICAL, CREDENTIAL, ORGANIZATION, RANK, SPELLINGS, SUBSCRIBER, TAGS, meant

__all__ = ["CLEAR", "CREDENTIAL", "EMPTY", "ORGANIZATION", "SUBSCRIBER", "Attribution", "Clear", "Resolved", "resolve"]

TagValue = str | bool | int | float

MAX_VALUE_LENGTH: Final = 256
MAX_TAGS: Final = 32
MAX_TAG_KEY_LENGTH: Final = 64


class _Limits:
    """How much of what an application says is kept; set by ``instrument()`` from the settings."""

    __slots__ = ("tags", "value_length")

    def __init__(self) -> None:
        self.value_length = MAX_VALUE_LENGTH
        self.tags = MAX_TAGS


limits: Final = _Limits()


class Clear(enum.Enum):
    """The type of ``CLEAR``."""

    CLEAR = "clear"

    def __repr__(self) -> str:
        return "CLEAR"


CLEAR: Final = Clear.CLEAR
"""In the place of a value: the field is unknown here, whatever sources of a lower rank say."""

_NONE: Final[frozenset[str]] = frozenset()
_LAST_WORD: Final = re.compile(r"[\w.~+/=-]+\Z")


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
        reading = _Reading()
        for key, value in given.items() if isinstance(given, Mapping) else given:
            reading.tag(key, value)
        for name in SPELLINGS:
            reading.level(name, name, getattr(self, name))
        reading.fill(self)

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
            return cls._read(values)
        except Exception as error:  # a mapping of the application's own may raise
            swallow("attribution", error)
            return EMPTY

    @classmethod
    def _read(cls, values: Mapping[Any, Any]) -> Attribution:
        reading = _Reading()
        for key, value in _flat(values):
            name = CANONICAL.get(key)
            if name is not None:
                reading.level(name, key, value)
            elif not reading.other(key, value):
                reading.tag(TAGS.get(key, key), value)
        if not (reading.levels or reading.tags or reading.cleared):
            return EMPTY
        return reading.fill(object.__new__(cls))

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


def _flat(values: Mapping[Any, Any]) -> list[tuple[str, object]]:
    """The pairs of the mapping, a nested ``subscriber`` and its ``credential`` written out with dots."""
    pairs: list[tuple[str, object]] = []
    for key, value in values.items():
        if not isinstance(key, str):
            warn_once(
                "attribution.key", "Names in usage_metadata are text; one of type %s was ignored.", type(key).__name__
            )
        elif key == "subscriber" and isinstance(value, Mapping):
            for part, inner in value.items():
                if part == "credential" and isinstance(inner, Mapping):
                    pairs.extend((f"subscriber.credential.{name}", item) for name, item in inner.items())
                elif part == "credential":
                    pairs.append((CREDENTIAL, inner))
                else:
                    pairs.append((f"subscriber.{part}", inner))
        else:
            pairs.append((key, value))
    return pairs


class _Reading:
    """What has been read so far of one attribution."""

    __slots__ = ("cleared", "cut", "levels", "tags")

    def __init__(self) -> None:
        self.levels: dict[str, tuple[int, str]] = {}
        self.tags: dict[str, TagValue] = {}
        self.cleared: set[str] | None = None
        self.cut: set[str] | None = None

    def fill(self, values: Attribution) -> Attribution:
        """Set the fields of a value to what was read; what is cleared and given is given."""
        levels = self.levels
        known = [levels[name][1] if name in levels else None for name in SPELLINGS]
        cleared = frozenset(self.cleared.difference(levels, self.tags)) if self.cleared else _NONE
        return _fill(values, known, self.tags, cleared, frozenset(self.cut) if self.cut else _NONE)

    def clear(self, name: str) -> None:
        """Note that a field is unknown, whatever is said elsewhere."""
        self.cleared = (self.cleared or set()) | {name}

    def level(self, name: str, key: str, value: object) -> None:
        """Read one spelling of a level."""
        if value is None:
            return
        if isinstance(value, str):
            text = self.clean(value, name, credential=name == CREDENTIAL)
            if text and (name not in self.levels or RANK[key] < self.levels[name][0]):
                self.levels[name] = (RANK[key], text)
        elif value is CLEAR:
            self.clear(name)
        else:
            warn_once(
                f"attribution.{name}",
                "%s takes text; a value of type %s was ignored, so the call counts without it.",
                key,
                type(value).__name__,
            )

    def other(self, key: str, value: object) -> bool:
        """Read a name that is no level's own. Returns whether it was one all the same: a header in capitals."""
        name = meant(key)
        if name is None or value is None:
            return False
        if key[:2] == "X-" and key.lower() in CANONICAL:
            self.level(name, key.lower(), value)
            return True
        warn_once(
            f"attribution.near.{name}",
            "%s in usage_metadata is kept as a tag; what it seems to mean is called %s.",
            mask(key[:MAX_TAG_KEY_LENGTH]),
            name,
        )
        return False

    def tag(self, key: object, value: object) -> None:
        """Read a tag."""
        if value is None or not isinstance(key, str):
            return
        key = self.clean(key, "tags", credential=False)[:MAX_TAG_KEY_LENGTH]
        if not key:
            return
        if isinstance(value, str):
            value = self.clean(value, key, credential=False)
            if not value:
                return
        elif isinstance(value, float) and not math.isfinite(value):
            value = str(value)
        elif isinstance(value, int) and not -(2**63) <= value < 2**63:
            value = str(int(value))
        elif value is CLEAR:
            self.clear(key)
            return
        elif not isinstance(value, (bool, int, float)):
            warn_once(
                "attribution.tag",
                "Tag values are text, numbers or booleans; one of type %s was ignored.",
                type(value).__name__,
            )
            return
        if len(self.tags) >= limits.tags and key not in self.tags:
            warn_once(
                "attribution.tags", "At most %d tags are kept for a call; further ones were left out.", limits.tags
            )
            self.cut = (self.cut or set()) | {"tags"}
            return
        self.tags[key] = value

    def clean(self, value: str, name: str, *, credential: bool) -> str:
        """Trim, mask and cut a text that belongs to a field."""
        text = value.strip()
        if not text.isascii():  # half of a surrogate pair cannot be sent: OpenTelemetry would drop the attribute
            text = text.encode("utf-8", "replace").decode("utf-8")
        longest = limits.value_length
        if len(text) <= longest:
            return mask(text, credential=credential)
        # Masked before it is cut, so that no part of a key survives at the edge; nor at the edge of what is looked at.
        looked_at = text[: 4 * longest]
        if len(text) > len(looked_at):
            looked_at = _LAST_WORD.sub("", looked_at) or looked_at
        warn_once("attribution.length", "Attribution values are cut after %d characters.", longest)
        self.cut = (self.cut or set()) | {name}
        return mask(looked_at, credential=credential)[:longest]


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
