"""Who: the attribution of a call, the scope that carries it, and the order in which sources win."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from openai_metering.errors import swallow, warn_once
from openai_metering.masking import mask

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from typing_extensions import Self

TagValue = str | bool | int | float
F = TypeVar("F", bound="Callable[..., Any]")

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


@dataclass(frozen=True, slots=True)
class Attribution:
    """Who a call is for: the three levels and free tags. Immutable and hashable; ``None`` means not known.

    Args:
        organization_id: company or internal unit that pays.
        subscriber_identity: person or service account, usually an e-mail address.
        subscriber_credential: alias of the API key in use, never the key.
        tags: further ``(key, value)`` pairs, sorted by key.
    """

    organization_id: str | None = None
    subscriber_identity: str | None = None
    subscriber_credential: str | None = None
    tags: tuple[tuple[str, TagValue], ...] = ()

    @classmethod
    def from_mapping(cls, values: object) -> Attribution:
        """Read what an application passed as ``usage_metadata`` or to a scope; never raises.

        All historic spellings of the three levels are understood, nested ``subscriber.credential.name`` included;
        any other key is a tag. ``None`` means unset. A value of a wrong type is dropped with one warning per kind, an
        over-long one is cut, and one shaped like a key is masked.

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
        known = {name: text for name, (_, text) in levels.items()}
        return cls(**known, tags=tuple(sorted(tags.items())))

    def merge(self, inner: Attribution) -> Attribution:
        """Return this attribution with the fields that ``inner`` knows laid over it, tags key by key."""
        if inner is EMPTY:
            return self
        if self is EMPTY:
            return inner
        return Attribution(
            inner.organization_id if inner.organization_id is not None else self.organization_id,
            inner.subscriber_identity if inner.subscriber_identity is not None else self.subscriber_identity,
            inner.subscriber_credential if inner.subscriber_credential is not None else self.subscriber_credential,
            tuple(sorted((dict(self.tags) | dict(inner.tags)).items())[:MAX_TAGS])
            if self.tags and inner.tags
            else self.tags or inner.tags,
        )


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


@dataclass(frozen=True, slots=True, eq=False)
class _Frame:
    values: Attribution
    owner: object
    outer: _Frame | None = field(repr=False)


# An own ContextVar and a linked frame instead of tokens: leaving a scope in another context than it was entered in (a
# generator finalised elsewhere) is then simply without effect there, and never an error.
_scope: ContextVar[_Frame | None] = ContextVar("openai_metering_attribution", default=None)


def current_attribution() -> Attribution:
    """Return what the scopes around this point say, inner over outer; an empty attribution outside of any."""
    frame = _scope.get()
    return EMPTY if frame is None else frame.values


class attribution:  # noqa: N801 - used like a function: `with attribution(organization_id="AcmeSoft"):`
    """Say who the OpenAI calls inside are for; a context manager, and a decorator of sync and async functions.

    Scopes nest and merge field by field. A stream opened inside belongs to the scope, whoever reads it later.

    Args:
        values: a mapping as for ``usage_metadata=``, or an ``Attribution``.
        organization_id: company or internal unit that pays.
        subscriber_identity: person or service account, usually an e-mail address.
        subscriber_credential: alias of the API key in use.
        tags: further values, emitted as ``attribution.tag.<key>``.
    """

    __slots__ = ("_values",)

    def __init__(
        self,
        values: Attribution | Mapping[str, object] | None = None,
        /,
        *,
        organization_id: str | None = None,
        subscriber_identity: str | None = None,
        subscriber_credential: str | None = None,
        **tags: object,
    ) -> None:
        self._values = EMPTY
        try:
            named: dict[str, object] = {
                ORGANIZATION: organization_id,
                SUBSCRIBER: subscriber_identity,
                CREDENTIAL: subscriber_credential,
                **tags,
            }
            self._values = Attribution.from_mapping(values).merge(Attribution.from_mapping(named))
        except Exception as error:
            swallow("attribution", error)

    def __enter__(self) -> Self:
        try:
            outer = _scope.get()
            _scope.set(_Frame(self._values if outer is None else outer.values.merge(self._values), self, outer))
        except Exception as error:
            swallow("attribution", error)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, tb: TracebackType | None
    ) -> None:
        try:
            frame = _scope.get()
            if frame is not None:
                _scope.set(_without(frame, self))
        except Exception as error:
            swallow("attribution", error)

    def __call__(self, function: F) -> F:
        """Decorate a function: each call of it runs in a scope of its own."""
        values = self._values
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def scoped_async(*args: Any, **kwargs: Any) -> Any:
                with attribution(values):
                    return await function(*args, **kwargs)

            return cast("F", scoped_async)

        @functools.wraps(function)
        def scoped(*args: Any, **kwargs: Any) -> Any:
            with attribution(values):
                return function(*args, **kwargs)

        return cast("F", scoped)


def _without(frame: _Frame | None, owner: object) -> _Frame | None:
    """Take the owner's innermost frame out of the chain; scopes entered inside it and left later keep their values."""
    above: list[_Frame] = []
    here = frame
    while here is not None and here.owner is not owner:
        above.append(here)
        here = here.outer
    if here is None:
        return frame
    below = here.outer
    for inner in reversed(above):
        below = _Frame(inner.values, inner.owner, below)
    return below


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
    if value is None:
        return
    if isinstance(value, str):
        value = _clean(value, credential=False)
        if not value:
            return
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
    tags[_clean(key, credential=False)[:MAX_TAG_KEY_LENGTH]] = value


def _clean(value: str, *, credential: bool) -> str:
    text = value.strip()
    if len(text) > MAX_VALUE_LENGTH:
        # Masked before it is cut, so that no part of a key survives at the edge; a longer text cannot be an alias.
        text = mask(text[: 4 * MAX_VALUE_LENGTH], credential=credential)[:MAX_VALUE_LENGTH]
        warn_once("attribution.length", "Attribution values are cut after %d characters.", MAX_VALUE_LENGTH)
        return text
    return mask(text, credential=credential)
