"""The scope that says who the calls inside it are for."""

from __future__ import annotations

import functools
import inspect
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar, cast

from openai_metering.errors import swallow
from openai_metering.resolution import CREDENTIAL, EMPTY, ORGANIZATION, SUBSCRIBER, Attribution, Clear

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from typing_extensions import Self

F = TypeVar("F", bound="Callable[..., Any]")


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


def said(
    values: object,
    organization_id: object,
    subscriber_identity: object,
    subscriber_credential: object,
    tags: dict[str, object],
) -> Attribution:
    """What is given as a mapping and by name, the names over the mapping; ``tags`` is filled up with them."""
    if organization_id is not None:
        tags[ORGANIZATION] = organization_id
    if subscriber_identity is not None:
        tags[SUBSCRIBER] = subscriber_identity
    if subscriber_credential is not None:
        tags[CREDENTIAL] = subscriber_credential
    named = Attribution.from_mapping(tags)
    return named if values is None else Attribution.from_mapping(values).merge(named)


class attribution:  # noqa: N801 - used like a function: `with attribution(organization_id="AcmeSoft"):`
    """Say who the OpenAI calls inside are for; a context manager, and a decorator of sync and async functions.

    Scopes nest and merge field by field. A stream opened inside belongs to the scope, whoever reads it later.

    Args:
        values: a mapping as for ``usage_metadata=``, or an ``Attribution``.
        organization_id: company or internal unit that pays.
        subscriber_identity: person or service account, usually an e-mail address.
        subscriber_credential: alias of the API key in use.
        tags: further values, emitted as ``attribution.tag.<key>``.

    ``None`` leaves a field to the scopes around; ``CLEAR`` makes it unknown inside, whatever they say.
    """

    __slots__ = ("_values",)

    def __init__(
        self,
        values: Attribution | Mapping[str, object] | None = None,
        /,
        *,
        organization_id: str | Clear | None = None,
        subscriber_identity: str | Clear | None = None,
        subscriber_credential: str | Clear | None = None,
        **tags: object,
    ) -> None:
        self._values = EMPTY
        try:
            self._values = said(values, organization_id, subscriber_identity, subscriber_credential, tags)
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
        """Decorate a function, also an async or a generator one: each call, or step, runs in a scope of its own."""
        values = self._values
        if inspect.isasyncgenfunction(function):

            @functools.wraps(function)
            async def scoped_async_generator(*args: Any, **kwargs: Any) -> Any:
                generator = function(*args, **kwargs)
                step = functools.partial(generator.asend, None)
                while True:
                    try:
                        with attribution(values):
                            item = await step()
                    except StopAsyncIteration:
                        return
                    try:
                        step = functools.partial(generator.asend, (yield item))
                    except GeneratorExit:
                        with attribution(values):
                            await generator.aclose()
                        raise
                    except BaseException as thrown:
                        step = functools.partial(generator.athrow, thrown)

            return cast("F", scoped_async_generator)

        if inspect.isgeneratorfunction(function):

            @functools.wraps(function)
            def scoped_generator(*args: Any, **kwargs: Any) -> Any:
                generator = function(*args, **kwargs)
                step = functools.partial(generator.send, None)
                while True:
                    try:
                        with attribution(values):
                            item = step()
                    except StopIteration as stop:
                        return stop.value
                    try:
                        step = functools.partial(generator.send, (yield item))
                    except GeneratorExit:
                        with attribution(values):
                            generator.close()
                        raise
                    except BaseException as thrown:
                        step = functools.partial(generator.throw, thrown)

            return cast("F", scoped_generator)

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
