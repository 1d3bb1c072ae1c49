"""A dependency for FastAPI: the handler and the streamed answer are for whom the application's function names.

For Starlette, and for a whole FastAPI application, there is the ASGI middleware.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from openai_metering.integrations.asking import ask_async
from openai_metering.scope import attribution

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from openai_metering.integrations.asking import AsyncWho


def attributed(who: AsyncWho) -> Callable[..., AsyncIterator[None]]:
    """Make a dependency that runs what it is declared on in an ``attribution`` scope.

    ``FastAPI(dependencies=[Depends(attributed(who))])``, or on a router, or on one route. It is left once the answer is
    sent (FastAPI 0.118 and newer; in older ones before, so that only calls begun by then are in it).

    Args:
        who: a function, sync or async, from Starlette's ``HTTPConnection`` (a request or a websocket) to a mapping as
            for ``usage_metadata=``, an ``Attribution`` or ``None``. Its errors are logged once, and the request goes
            on unattributed.
    """
    from starlette.requests import HTTPConnection  # noqa: PLC0415 - only who calls this has it

    async def scoped(connection: Any) -> AsyncIterator[None]:
        with attribution(await ask_async(who, connection)):
            yield

    scoped.__annotations__["connection"] = HTTPConnection
    return scoped
