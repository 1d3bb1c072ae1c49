"""What an exception means for the bill."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from openai_metering.finished import Failure
from openai_metering.usage import count

if TYPE_CHECKING:
    from collections.abc import Iterator

# By class name over the whole ancestry: the SDK's classes of any version, those of its HTTP library and the built-in ones.
_TIMEOUTS = frozenset({"APITimeoutError", "TimeoutException", "TimeoutError"})
_CONNECTIONS = frozenset({"APIConnectionError", "TransportError", "StreamError", "ConnectionError"})
_BROKEN_BODIES = frozenset({"RemoteProtocolError", "ReadError"})
_ECHOES = frozenset({"input", "ctx", "url", "body", "request"})
_DEPTH = 8


def classify(error: BaseException, *, answering: bool) -> Failure:
    """Say what is recorded of an exception.

    Args:
        error: the exception that the caller gets.
        answering: the provider had begun to answer.
    """
    error_type = qualified_name(type(error))
    if not isinstance(error, Exception):
        return Failure(error_type, "cancelled", cancelled=True)
    status_code = getattr(error, "status_code", None)
    if isinstance(status_code, int) and not answering and status_code >= 400:  # noqa: PLR2004
        return Failure(error_type, "refused")
    names = {ancestor.__name__ for ancestor in type(error).__mro__}
    if names & _TIMEOUTS:
        return Failure(error_type, "timeout")
    if names & _CONNECTIONS:
        return Failure(error_type, "cut" if answering or _broke_off(error) else "connection")
    return Failure(error_type, "failed")


def _broke_off(error: BaseException) -> bool:
    """Whether the connection failed while the body of an answer was being read."""
    cause = error.__cause__
    return cause is not None and type(cause).__name__ in _BROKEN_BODIES and "body" in str(cause)


def qualified_name(kind: type) -> str:
    """The name of an exception class as ``error.type`` has it: with its module, unless it is a built-in."""
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def refuses_stream_options(error: BaseException) -> bool:
    """Whether a provider refused a call because of the option that we added: its answer names it."""
    return isinstance(getattr(error, "status_code", None), int) and names_stream_options(getattr(error, "body", None))


def names_stream_options(body: Any) -> bool:
    """Whether a provider's error names the option that we added."""
    return any("stream_options" in said or "include_usage" in said for said in _said(body))


def _said(body: Any, depth: int = 0) -> Iterator[str]:
    """The provider's own words in the body of a refusal; not what it echoes of the request."""
    if isinstance(body, str):
        yield body
    elif isinstance(body, Mapping) and depth < _DEPTH:
        for name, value in body.items():
            if name not in _ECHOES:
                yield from _said(value, depth + 1)
    elif isinstance(body, (list, tuple)) and depth < _DEPTH:
        for value in body:
            yield from _said(value, depth + 1)


def request_of(error: BaseException) -> Any:
    """The request that an exception of the SDK is about, ``None`` where none was built."""
    try:
        return getattr(getattr(error, "response", None), "request", None) or getattr(error, "request", None)
    except RuntimeError:  # the HTTP library's property, where it was never set
        return None


def retries_of(error: BaseException) -> int:
    """How often the SDK had tried before, by the header that it sets on each attempt (since 1.66)."""
    return count(getattr(request_of(error), "headers", {}).get("x-stainless-retry-count", "0")) or 0
