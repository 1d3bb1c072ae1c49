"""Middleware for any ASGI application: all that a request does is for whom the application's function names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from openai_metering.integrations.asking import ask_async
from openai_metering.scope import attribution

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from openai_metering.integrations.asking import AsyncWho

    Scope = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
    Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
    Application = Callable[[Scope, Receive, Send], Awaitable[None]]


class AttributionMiddleware:
    """Run each HTTP request and websocket session in an ``attribution`` scope.

    The scope lives in the request's task until its last byte is sent: streamed bodies, background tasks and tasks that
    the handler starts are in it, too.

    Args:
        app: the ASGI application.
        who: a function, sync or async, from the ASGI connection scope to a mapping as for ``usage_metadata=``, an
            ``Attribution`` or ``None``. Its errors are logged once, and the request goes on unattributed.
    """

    def __init__(self, app: Application, who: AsyncWho) -> None:
        self.app = app
        self.who = who

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope.get("type") not in {"http", "websocket"}:
            await self.app(scope, receive, send)
            return
        with attribution(await ask_async(self.who, scope)):
            await self.app(scope, receive, send)
