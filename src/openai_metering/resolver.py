"""The application's own function that knows who a call is for."""

from __future__ import annotations

import inspect
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

from openai_metering.errors import swallow, warn_once
from openai_metering.resolution import EMPTY, Attribution

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Resolver = Callable[[], Attribution | Mapping[str, object] | None]

SLOW: Final = 0.010
"""Seconds that a resolver may take before it is reported."""

_resolver: Resolver | None = None
_asking: ContextVar[bool] = ContextVar("openai_metering_asking", default=False)


def set_attribution_resolver(resolver: Resolver | None) -> None:
    """Have a function of the application asked who a call is for, at the time of each call.

    For applications that know the user elsewhere: in a request object of their framework, in a context variable. It
    ranks below the keyword, scopes and what is bound to the client, and above baggage, key map and defaults. It runs
    on the caller's path, in the caller's thread or task: it only looks something up. An exception counts as an error of
    openai-metering, is logged once, and leaves the call to the other sources; one that takes longer than 10 ms is
    reported once. OpenAI calls that it makes itself do not ask it again.

    Args:
        resolver: takes nothing and returns a mapping as for ``usage_metadata=``, an ``Attribution`` or ``None``; no
            coroutine function. ``None`` removes the one that is set.
    """
    global _resolver  # noqa: PLW0603 - one for the process
    if resolver is not None and not callable(resolver):
        warn_once(
            "resolver.type",
            "set_attribution_resolver() takes a function without arguments; a value of type %s was ignored.",
            type(resolver).__name__,
        )
        return
    _resolver = resolver


def resolver_is_set() -> bool:
    """Whether there is one to be asked."""
    return _resolver is not None


def resolver_says() -> Attribution | None:
    """Ask the resolver. Returns ``None`` where there is none, or it does not know."""
    if _resolver is None or _asking.get():
        return None
    token = _asking.set(True)
    try:
        return _ask(_resolver)
    except Exception as error:
        swallow("resolver", error)
        return None
    finally:
        _asking.reset(token)


def _ask(resolver: Resolver) -> Attribution | None:
    started = time.perf_counter()
    values: object = resolver()
    took = time.perf_counter() - started
    if took > SLOW:
        warn_once(
            "resolver.slow",
            "The attribution resolver took %.0f ms, on the path of a call; it should only look something up.",
            took * 1000,
        )
    if inspect.iscoroutine(values):
        values.close()  # never to be awaited: no warning about that in the application's log
        warn_once("resolver.async", "The attribution resolver is a coroutine function; only plain functions are asked.")
        return None
    found = Attribution.from_mapping(values)
    return None if found is EMPTY else found
