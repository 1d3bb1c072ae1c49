"""What an exception means for the bill."""

from __future__ import annotations

from openai_metering.finished import Failure

# By class name over the whole ancestry: the SDK's classes of any version, those of its HTTP library and the built-in ones.
_TIMEOUTS = frozenset({"APITimeoutError", "TimeoutException", "TimeoutError"})
_CONNECTIONS = frozenset({"APIConnectionError", "TransportError", "StreamError", "ConnectionError"})
_API_ERRORS = frozenset({"APIError"})


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
        return Failure(error_type, "cut" if answering else "connection")
    return Failure(error_type, "failed")


def qualified_name(kind: type) -> str:
    """The name of an exception class as ``error.type`` has it: with its module, unless it is a built-in."""
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def refuses_stream_options(error: BaseException) -> bool:
    """Whether a provider refused a call because of the option that we added: its answer names it."""
    if not isinstance(getattr(error, "status_code", None), int):
        return False
    said = f"{getattr(error, 'message', '')} {getattr(error, 'body', '')}"
    return "stream_options" in said or "include_usage" in said
