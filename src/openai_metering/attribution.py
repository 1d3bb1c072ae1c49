"""Who: the attribution of a call, and the order in which its sources win."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, cast

from openai_metering.errors import swallow, warn_once
from openai_metering.masking import mask

TagValue = str | bool | int | float

MAX_VALUE_LENGTH: Final = 256
MAX_TAGS: Final = 32
MAX_TAG_KEY_LENGTH: Final = 64

ORGANIZATION: Final = "organization_id"
SUBSCRIBER: Final = "subscriber_identity"
CREDENTIAL: Final = "subscriber_credential"

# Every spelling in the history of the reference product, best first; a nested `subscriber` object is read as if its
# parts were written out with dots.
_SPELLINGS: Final[dict[str, tuple[str, ...]]] = {
    ORGANIZATION: ("organization_id", "organizationId", "organization_name", "organizationName"),
    SUBSCRIBER: (
        "subscriber_identity",
        "subscriberIdentity",
        "subscriber.email",
        "subscriber_email",
        "subscriberEmail",
        "subscriber.id",
        "subscriber_id",
        "subscriberId",
    ),
    CREDENTIAL: (
        "subscriber_credential",
        "subscriberCredential",
        "subscriber.credential.name",
        "subscriber_credential_name",
        "subscriberCredentialName",
        "credential_alias",
        "credentialAlias",
        "ai_provider_key_name",
        "subscriber.credential.value",
    ),
}
_CANONICAL: Final = {spelling: name for name, spellings in _SPELLINGS.items() for spelling in spellings}
_RANK: Final = {spelling: rank for spellings in _SPELLINGS.values() for rank, spelling in enumerate(spellings)}


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

    def __post_init__(self) -> None:
        given: Any = self.tags
        tags: dict[str, TagValue] = {}
        for key, value in given.items() if isinstance(given, Mapping) else given:
            _add_tag(tags, key, value)
        _fill(self, [_level(name, name, getattr(self, name)) for name in _SPELLINGS], tags)

    @classmethod
    def from_mapping(cls, values: object) -> Attribution:
        """Read what an application passed as ``usage_metadata`` or to a scope; never raises.

        All historic spellings of the three levels are understood, nested ``subscriber.credential.name`` included;
        any other key is a tag. ``None`` means unset.

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
        levels: dict[str, tuple[int, str]] = {}
        tags: dict[str, TagValue] = {}
        for key, value in _flat(values):
            name = _CANONICAL.get(key)
            if name is None:
                _add_tag(tags, key, value)
                continue
            text = _level(name, key, value)
            if text is not None and (name not in levels or _RANK[key] < levels[name][0]):
                levels[name] = (_RANK[key], text)
        if not levels and not tags:
            return EMPTY
        known = [levels[name][1] if name in levels else None for name in _SPELLINGS]
        return _fill(object.__new__(cls), known, tags)

    def merge(self, inner: Attribution) -> Attribution:
        """Return this attribution with the fields that ``inner`` knows laid over it, tags key by key."""
        if inner is EMPTY:
            return self
        if self is EMPTY:
            return inner
        tags = dict(inner.tags)
        for key, value in self.tags:
            if len(tags) < MAX_TAGS:
                tags.setdefault(key, value)
        levels = [
            inner.organization_id if inner.organization_id is not None else self.organization_id,
            inner.subscriber_identity if inner.subscriber_identity is not None else self.subscriber_identity,
            inner.subscriber_credential if inner.subscriber_credential is not None else self.subscriber_credential,
        ]
        return _fill(object.__new__(Attribution), levels, tags)


def _fill(values: Attribution, levels: list[str | None], tags: dict[str, TagValue]) -> Attribution:
    """Set the fields of a frozen value to what has been checked already."""
    set_field = object.__setattr__
    for name, level in zip(_SPELLINGS, levels, strict=True):
        set_field(values, name, level)
    ordered = tuple(sorted(tags.items())) if tags else ()
    set_field(values, "tags", ordered)
    set_field(values, "_tag_types", tuple([type(value) for _, value in ordered]) if ordered else ())
    return values


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


def _level(name: str, key: str, value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        warn_once(
            f"attribution.{name}",
            "%s takes text; a value of type %s was ignored, so the call counts without it.",
            key,
            type(value).__name__,
        )
        return None
    return _clean(value, credential=name == CREDENTIAL) or None


def _add_tag(tags: dict[str, TagValue], key: str, value: object) -> None:
    if value is None or not isinstance(key, str):
        return
    key = _clean(key, credential=False)[:MAX_TAG_KEY_LENGTH]
    if not key:
        return
    if isinstance(value, str):
        value = _clean(value, credential=False)
        if not value:
            return
    elif isinstance(value, float) and not math.isfinite(value):
        value = str(value)
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        value = str(int(value))
    elif not isinstance(value, (bool, int, float)):
        warn_once(
            "attribution.tag",
            "Tag values are text, numbers or booleans; one of type %s was ignored.",
            type(value).__name__,
        )
        return
    if len(tags) >= MAX_TAGS:
        warn_once("attribution.tags", "At most %d tags are kept for a call; further ones were left out.", MAX_TAGS)
        return
    tags[key] = value


def _clean(value: str, *, credential: bool) -> str:
    text = value.strip()
    if not text.isascii():  # half of a surrogate pair cannot be sent: OpenTelemetry would drop the attribute
        text = text.encode("utf-8", "replace").decode("utf-8")
    if len(text) > MAX_VALUE_LENGTH:
        # Masked before it is cut, so that no part of a key survives at the edge; nor at the edge of what is looked at.
        looked_at = text[: 4 * MAX_VALUE_LENGTH]
        if len(text) > len(looked_at):
            looked_at = _LAST_WORD.sub("", looked_at) or looked_at
        warn_once("attribution.length", "Attribution values are cut after %d characters.", MAX_VALUE_LENGTH)
        return mask(looked_at, credential=credential)[:MAX_VALUE_LENGTH]
    return mask(text, credential=credential)


EMPTY: Final = Attribution()


@dataclass(frozen=True, slots=True, eq=False)
class Resolved:
    """The attribution that one call got, with the source of each level. Compared by identity, so cheap as a key."""

    attribution: Attribution
    status: str
    """``complete`` (all three levels), ``partial`` or ``unattributed``."""
    sources: tuple[str | None, str | None, str | None]
    """For organization, subscriber and credential: ``keyword``, ``scope`` or ``default``; ``None`` where unknown."""


@functools.lru_cache(maxsize=4096)
def resolve(keyword: Attribution, scope: Attribution, default: Attribution) -> Resolved:
    """Merge the sources of who, highest first, field by field; a field that a source leaves out never erases.

    | rank | source | how |
    | --- | --- | --- |
    | 1 | ``keyword`` | ``usage_metadata=`` on the call |
    | 2 | ``scope`` | ``attribution(...)``, inner over outer |
    | 3 | ``default`` | ``OPENAI_METERING_ORGANIZATION_ID`` and its siblings |
    """
    ranked = (("keyword", keyword), ("scope", scope), ("default", default))
    merged = default.merge(scope).merge(keyword)
    sources = tuple(
        next((source for source, values in ranked if getattr(values, name) is not None), None) for name in _SPELLINGS
    )
    known = sum(source is not None for source in sources)
    status = "complete" if known == len(_SPELLINGS) else "partial" if known else "unattributed"
    return Resolved(merged, status, cast("tuple[str | None, str | None, str | None]", sources))
