"""Middleware for any WSGI application: all that a request does is for whom the application's function names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from openai_metering import errors
from openai_metering.integrations.asking import ask
from openai_metering.scope import attribution

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from typing_extensions import Self

    from openai_metering.integrations.asking import Who
    from openai_metering.resolution import Attribution

    Environ = dict[str, Any]
    Application = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]


class AttributionMiddleware:
    """Run each request in an ``attribution`` scope, and each step of a streamed body, too.

    Args:
        app: the WSGI application.
        who: a function from the WSGI environment to a mapping as for ``usage_metadata=``, an ``Attribution`` or
            ``None``. Its errors are logged once, and the request goes on unattributed.
    """

    def __init__(self, app: Application, who: Who) -> None:
        self.app = app
        self.who = who

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Serve one request."""
        values = ask(self.who, environ)
        with attribution(values):
            body = self.app(environ, start_response)
        return scoped_body(body, values, environ)


def scoped_body(body: Iterable[bytes], values: Attribution, environ: Environ) -> Iterable[bytes]:
    """Return the body as one whose steps run in a scope.

    Bodies that hold no code to run are returned as they are: servers look at their class, to send a file at once or to
    state the length of the answer.

    Args:
        body: what the application returned.
        values: who the request is for.
        environ: the WSGI environment.
    """
    try:
        wrapper = environ.get("wsgi.file_wrapper")
        if isinstance(body, (list, tuple, bytes)) or (isinstance(wrapper, type) and isinstance(body, wrapper)):
            return body
        return _SizedBody(body, values) if hasattr(type(body), "__len__") else _Body(body, values)
    except Exception as error:
        errors.swallow("wsgi", error)
        return body


class _Body:
    """A body whose iteration and end run in a scope; between two steps the thread is left as it was."""

    def __init__(self, body: Iterable[bytes], values: Attribution) -> None:
        self._body = body
        self._values = values
        self._iterator: Iterator[bytes] | None = None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        with attribution(self._values):
            if self._iterator is None:
                self._iterator = iter(self._body)
            return next(self._iterator)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._body, name)
        return attribution(self._values)(found) if name == "close" else found


class _SizedBody(_Body):
    """A body whose number of parts is known, which some servers ask for."""

    def __len__(self) -> int:
        return len(self._body)  # type: ignore[arg-type]
