"""For Django: views, sync and async, and streamed answers are for whom the application's function names."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from openai_metering import errors
from openai_metering.integrations.asking import ask, ask_async
from openai_metering.scope import attribution

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from openai_metering.integrations.asking import AsyncWho
    from openai_metering.resolution import Attribution


def attribution_middleware(who: AsyncWho) -> Callable[[Callable[[Any], Any]], Callable[[Any], Any]]:
    """Make a middleware that runs each request in an ``attribution`` scope.

    Give it a name in a module of your own and put that name into ``MIDDLEWARE``, below the authentication that the
    function relies on.

    Args:
        who: a function from Django's ``HttpRequest`` to a mapping as for ``usage_metadata=``, an ``Attribution`` or
            ``None``; under ASGI it may be async. Its errors are logged once, and the request goes on unattributed.
    """

    def middleware(get_response: Callable[[Any], Any]) -> Callable[[Any], Any]:
        if inspect.iscoroutinefunction(get_response) or _marked(get_response):

            async def scoped_async(request: Any) -> Any:
                values = await ask_async(who, request)
                with attribution(values):
                    response = await get_response(request)
                return _streamed(response, values)

            return scoped_async

        def scoped(request: Any) -> Any:
            values = ask(who, request)  # type: ignore[arg-type]  # an async one is refused in there
            with attribution(values):
                response = get_response(request)
            return _streamed(response, values)

        return scoped

    middleware.sync_capable = middleware.async_capable = True  # type: ignore[attr-defined]
    return middleware


def _marked(function: Any) -> bool:
    """Whether Django or asgiref has marked a callable as one that returns a coroutine."""
    from asgiref.sync import iscoroutinefunction  # noqa: PLC0415 - Django itself needs it

    return bool(iscoroutinefunction(function))


def _streamed(response: Any, values: Attribution) -> Any:
    """Have the parts of a streamed answer made in the scope, and its end, too; a file is sent as it is."""
    try:
        if getattr(response, "streaming", False) and getattr(response, "file_to_stream", None) is None:
            content = response.streaming_content

            async def parts_async() -> AsyncIterator[bytes]:
                async for part in content:
                    yield part

            def parts() -> Iterator[bytes]:
                yield from content

            scope = attribution(values)
            response.streaming_content = scope(parts_async if hasattr(content, "__aiter__") else parts)()
            response.close = scope(response.close)
    except Exception as error:
        errors.swallow("django", error)
    return response
