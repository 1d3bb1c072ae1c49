"""For Flask: views and streamed answers are for whom the application's function names, who may use the session."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from openai_metering import errors
from openai_metering.integrations.asking import ask
from openai_metering.integrations.wsgi import scoped_body
from openai_metering.resolution import EMPTY
from openai_metering.scope import attribution

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from openai_metering.integrations.asking import Who
    from openai_metering.integrations.wsgi import Application, Environ
    from openai_metering.resolution import Attribution

_ENTERED: Final = "openai_metering.entered"


def attribute_requests(app: Any, who: Who) -> None:
    """Have each request of a Flask application run in an ``attribution`` scope.

    The function is asked before the view and after those ``before_request`` functions that were registered earlier, so
    that the session and whoever logged in are there.

    Args:
        app: the Flask application.
        who: a function from Flask's ``request`` to a mapping as for ``usage_metadata=``, an ``Attribution`` or
            ``None``. Its errors are logged once, and the request goes on unattributed.
    """

    def enter() -> None:
        from flask import request  # noqa: PLC0415 - only who calls this has it

        _enter(ask(who, request), request.environ)

    app.before_request(enter)
    app.wsgi_app = _Leaving(app.wsgi_app)


def _enter(values: Attribution, environ: Environ) -> None:
    try:
        entered = environ.get(_ENTERED)
        if entered is not None:  # else nothing would leave the scope: a request made by hand, in a shell or a test
            scope = attribution(values)
            scope.__enter__()
            entered.append((scope, values))
    except Exception as error:
        errors.swallow("flask", error)


class _Leaving:
    """The application, after which the scope that was entered within it is left: always by the thread that entered."""

    def __init__(self, app: Application) -> None:
        self.app = app

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        entered: list[tuple[attribution, Attribution]] = []
        environ[_ENTERED] = entered
        try:
            body = self.app(environ, start_response)
        finally:
            for scope, _ in reversed(entered):
                scope.__exit__(None, None, None)
        return scoped_body(body, entered[-1][1] if entered else EMPTY, environ)
