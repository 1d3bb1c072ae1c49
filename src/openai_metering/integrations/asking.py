"""Asks the application's own function who a request is for."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

from openai_metering import errors
from openai_metering.resolution import EMPTY, Attribution

Answer: TypeAlias = Attribution | Mapping[str, object] | None
Who: TypeAlias = Callable[[Any], Answer]
AsyncWho: TypeAlias = Callable[[Any], Answer | Awaitable[Answer]]


def ask(who: Who, request: object) -> Attribution:
    """Call the function; never raises, and an error of its own leaves the request unattributed.

    Args:
        who: the application's function, from a request to a mapping as for ``usage_metadata=``, an ``Attribution`` or
            ``None``.
        request: what the framework calls a request.

    Returns:
        Who the request is for, empty where the function does not say.
    """
    try:
        answer: object = who(request)
        if inspect.isawaitable(answer):
            _leave(answer)
            errors.warn_once(
                "who.async",
                "The function that says who a request is for is async, and this kind of application cannot await it: "
                "give a plain function. Its requests go on unattributed.",
            )
            return EMPTY
        return Attribution.from_mapping(answer)
    except Exception as error:
        _failed(error)
        return EMPTY


async def ask_async(who: AsyncWho, request: object) -> Attribution:
    """Call the function, and await what it returns where that can be awaited; else as ``ask``."""
    try:
        answer: object = who(request)
        if inspect.isawaitable(answer):
            answer = await answer
        return Attribution.from_mapping(answer)
    except Exception as error:
        _failed(error)
        return EMPTY


def _leave(answer: object) -> None:
    """Close a coroutine that nobody will await, so that Python does not complain of it later."""
    close = getattr(answer, "close", None)
    if close is not None:
        close()


def _failed(error: Exception) -> None:
    """Count an error of the application's function and say it once: its type and place, never its text."""
    try:
        frames = traceback.extract_tb(error.__traceback__)
        place = f"{frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno}" if frames else "unknown"
        errors.warn_once(
            "who",
            "The function that says who a request is for raised %s at %s: such requests go on unattributed "
            "(further errors of it are only counted).",
            type(error).__name__,
            place,
        )
        errors.count("who")
    except Exception as own:
        errors.swallow("who", own)
