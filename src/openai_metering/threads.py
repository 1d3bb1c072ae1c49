"""Carries the scope into another thread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from openai_metering.scope import attribution, current_attribution

if TYPE_CHECKING:
    from collections.abc import Callable

F = TypeVar("F", bound="Callable[..., Any]")


def with_attribution(function: F) -> F:
    """Return the function as one that runs in the scope that is around this line, in whatever thread.

    Threads and thread pools start without the scope of who started them: ``pool.submit(with_attribution(work), item)``,
    ``threading.Thread(target=with_attribution(work))``, ``loop.run_in_executor(None, with_attribution(work))``. Tasks
    and ``asyncio.to_thread`` carry it by themselves.

    Args:
        function: sync, async or a generator function. What the scope says wins, field by field, over a scope that is
            around its call.
    """
    return attribution(current_attribution())(function)
