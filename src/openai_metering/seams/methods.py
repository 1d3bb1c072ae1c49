"""The methods of a websocket connection, wrapped: what comes in, what goes out, and how it ends."""

from __future__ import annotations

import contextlib
import functools
import inspect
import json
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any, Final

from openai_metering import errors
from openai_metering.resolution import EMPTY, Attribution
from openai_metering.scope import current_attribution
from openai_metering.seams.baggage import unnamed
from openai_metering.seams.carrier import KEYWORD
from openai_metering.seams.sending import sent
from openai_metering.usage import part, text

if TYPE_CHECKING:
    from collections.abc import Callable

    from openai_metering.seams.sending import Opening
    from openai_metering.seams.sessions import Session

    Method = Callable[..., Any]

ATTRIBUTE: Final = "_openai_metering"
"""Where a manager keeps its opening and a connection its session: attributes of the SDK's own objects."""
MAX_RAW: Final = 65536
"""Characters of a message sent as text that are searched for its kind."""

_STARTS: Final = ('"response.create"', '"decision.create"', '"session.start"')
_within_send: ContextVar[bool] = ContextVar("openai_metering_within_send", default=False)
_within_recv: ContextVar[bool] = ContextVar("openai_metering_within_recv", default=False)
_said: ContextVar[Attribution] = ContextVar("openai_metering_said", default=EMPTY)
"""What the keyword of the method says that a message is sent with."""


# -- Receiving -------------------------------------------------------------------------------------------------------


def _recv(original: Method) -> Method:
    """Note that the SDK itself parses what it receives, so that nothing is parsed twice."""
    if inspect.iscoroutinefunction(original):

        @functools.wraps(original)
        async def recv_async(self: Any, *args: Any, **kwargs: Any) -> Any:
            token = _within_recv.set(True)
            try:
                return await original(self, *args, **kwargs)
            finally:
                _leave(token)

        return recv_async

    @functools.wraps(original)
    def recv(self: Any, *args: Any, **kwargs: Any) -> Any:
        token = _within_recv.set(True)
        try:
            return original(self, *args, **kwargs)
        finally:
            _leave(token)

    return recv


def _parse_event(original: Method) -> Method:
    @functools.wraps(original)
    def parse_event(self: Any, *args: Any, **kwargs: Any) -> Any:
        event = original(self, *args, **kwargs)
        try:
            session = self.__dict__.get(ATTRIBUTE)
            if session is not None and (
                _within_recv.get() or not session.received.has_read(args[0] if args else kwargs["data"])
            ):
                session.see(event)
        except Exception as error:
            errors.swallow("event", error)
        return event

    return parse_event


def _recv_bytes(original: Method) -> Method:
    if inspect.iscoroutinefunction(original):

        @functools.wraps(original)
        async def recv_async(self: Any, *args: Any, **kwargs: Any) -> Any:
            try:
                data = await original(self, *args, **kwargs)
            except Exception as error:
                _lost(self, error)
                raise
            _received(self, data)
            return data

        return recv_async

    @functools.wraps(original)
    def recv(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            data = original(self, *args, **kwargs)
        except Exception as error:
            _lost(self, error)
            raise
        _received(self, data)
        return data

    return recv


def _received(connection: Any, data: Any) -> None:
    """See what a caller receives as bytes, who may parse them in any way, or not at all."""
    if _within_recv.get():
        return
    try:
        session = connection.__dict__.get(ATTRIBUTE)
        if session is not None:
            session.see(session.received.read(data))
    except (ValueError, RecursionError):
        pass  # no JSON: the caller's to deal with
    except Exception as error:
        errors.swallow("event", error)


def _lost(connection: Any, error: BaseException) -> None:
    """Reading raised, which the caller gets untouched; it ends the session unless the SDK can connect again."""
    try:
        session = connection.__dict__.get(ATTRIBUTE)
        if session is None or session.closing or not _is_closed(error):
            return
        if getattr(connection, "_on_reconnecting", None) is None:
            session.cut(error)
        else:
            session.broke_off(error)
    except Exception as own:
        errors.swallow("lost", own)


def _is_closed(error: BaseException) -> bool:
    # By name: `websockets` is not ours to import.
    return any(ancestor.__name__ == "ConnectionClosed" for ancestor in type(error).__mro__)


def _reconnect(original: Method) -> Method:
    if inspect.iscoroutinefunction(original):

        @functools.wraps(original)
        async def reconnect_async(self: Any, *args: Any, **kwargs: Any) -> Any:
            around = unnamed(active=ATTRIBUTE in self.__dict__)
            try:
                made = await original(self, *args, **kwargs)
            finally:
                around.leave()
            _reconnected(self, made=bool(made))
            return made

        return reconnect_async

    @functools.wraps(original)
    def reconnect(self: Any, *args: Any, **kwargs: Any) -> Any:
        around = unnamed(active=ATTRIBUTE in self.__dict__)
        try:
            made = original(self, *args, **kwargs)
        finally:
            around.leave()
        _reconnected(self, made=bool(made))
        return made

    return reconnect


def _reconnected(connection: Any, *, made: bool) -> None:
    try:
        session = connection.__dict__.get(ATTRIBUTE)
        if session is None or session.lost is None or session.closing:
            return
        if not made:
            session.cut(session.lost)
        session.lost = None
    except Exception as error:
        errors.swallow("reconnect", error)


def _close(original: Method) -> Method:
    if inspect.iscoroutinefunction(original):

        @functools.wraps(original)
        async def close_async(self: Any, *args: Any, **kwargs: Any) -> Any:
            _closing(self)
            try:
                return await original(self, *args, **kwargs)
            finally:
                _closed(self)

        return close_async

    @functools.wraps(original)
    def close(self: Any, *args: Any, **kwargs: Any) -> Any:
        _closing(self)
        try:
            return original(self, *args, **kwargs)
        finally:
            _closed(self)

    return close


def _closing(connection: Any) -> None:
    session = connection.__dict__.get(ATTRIBUTE)
    if session is not None:
        session.closing = True


def _closed(connection: Any) -> None:
    try:
        session = connection.__dict__.get(ATTRIBUTE)
        if session is not None:
            session.closed()
    except Exception as error:
        errors.swallow("close", error)


# -- Sending ---------------------------------------------------------------------------------------------------------


def wrap_resource(original: Method) -> Method:
    """Wrap a method that sends a message through a connection, ``response.create`` and the like: it takes the keyword."""
    if inspect.iscoroutinefunction(original):

        @functools.wraps(original)
        async def method_async(self: Any, *args: Any, **kwargs: Any) -> Any:
            if KEYWORD not in kwargs:
                return await original(self, *args, **kwargs)
            said = _say(kwargs.pop(KEYWORD))
            try:
                return await original(self, *args, **kwargs)
            finally:
                _leave(said)

        return method_async

    @functools.wraps(original)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        if KEYWORD not in kwargs:
            return original(self, *args, **kwargs)
        said = _say(kwargs.pop(KEYWORD))
        try:
            return original(self, *args, **kwargs)
        finally:
            _leave(said)

    return method


def _say(keyword: object) -> Token[Attribution] | None:
    try:
        return _said.set(Attribution.from_mapping(keyword))
    except Exception as error:
        errors.swallow("keyword", error)
        return None


def wrap_send(original: Method, note: Callable[[Any, Any], Callable[[], None] | None], *, raw: bool = False) -> Method:
    """Wrap a method that sends a message.

    Args:
        original: the SDK's own.
        note: notes the message that an object was given to send, and returns how that is taken back.
        raw: the message is text, which the SDK's other methods hand on to this one.
    """
    if inspect.iscoroutinefunction(original):

        @functools.wraps(original)
        async def send_async(self: Any, *args: Any, **kwargs: Any) -> Any:
            said = _say(kwargs.pop(KEYWORD)) if KEYWORD in kwargs else None
            undo = _try_to_note(note, self, args, kwargs, raw=raw)
            token = _within_send.set(True)
            try:
                return await original(self, *args, **kwargs)
            except BaseException:
                if undo is not None:
                    undo()
                raise
            finally:
                _leave(token)
                _leave(said)

        return send_async

    @functools.wraps(original)
    def send(self: Any, *args: Any, **kwargs: Any) -> Any:
        said = _say(kwargs.pop(KEYWORD)) if KEYWORD in kwargs else None
        undo = _try_to_note(note, self, args, kwargs, raw=raw)
        token = _within_send.set(True)
        try:
            return original(self, *args, **kwargs)
        except BaseException:
            if undo is not None:
                undo()
            raise
        finally:
            _leave(token)
            _leave(said)

    return send


def _leave(token: Token[Any] | None) -> None:
    if token is not None:
        with contextlib.suppress(ValueError):  # a coroutine that is finalised in another context
            token.var.reset(token)


def _try_to_note(
    note: Callable[[Any, Any], Callable[[], None] | None],
    owner: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    raw: bool,
) -> Callable[[], None] | None:
    """Note a message before it goes out: its answer may be there before ``send`` returns."""
    try:
        if raw and _within_send.get():
            return None  # `send` has noted it
        return note(owner, args[0] if args else kwargs["data" if raw else "event"])
    except Exception as error:
        errors.swallow("send", error)
        return None


def _noted(connection: Any, event: Any, stream_id: str | None = None) -> Callable[[], None] | None:
    session: Session | None = connection.__dict__.get(ATTRIBUTE)
    if session is None:
        return None
    message = session.send(event, current_attribution(), stream_id, _said.get())
    return None if message is None else functools.partial(session.unsend, message)


def _noted_raw(connection: Any, data: Any) -> Callable[[], None] | None:
    if not isinstance(data, (str, bytes)):
        return None
    start: Any = data[:128]
    if ('.append"' if isinstance(data, str) else b'.append"') in start:
        return None  # a piece of audio: the most frequent message, and the longest
    head: Any = data[:MAX_RAW]
    if not any((kind if isinstance(data, str) else kind.encode()) in head for kind in _STARTS):
        return None
    try:
        event = json.loads(data)
    except ValueError:
        return None  # the server's to refuse
    return _noted(connection, event)


def noted_by_lane(lane: Any, event: Any) -> Callable[[], None] | None:
    """Note a message that goes out over one lane of a multiplexed connection."""
    return _noted(lane._session.connection, event, text(part(lane._state, "stream_id")))  # noqa: SLF001


def queued(manager: Any, event: Any) -> Callable[[], None] | None:
    """Note a message that waits for the connection."""
    opening: Opening | None = vars(manager).get(ATTRIBUTE)
    message = None if opening is None else sent(event, current_attribution(), keyword=_said.get())
    if opening is None or message is None:
        return None
    opening.sent.append(message)
    return functools.partial(opening.unsend, message)


SENDERS: Final[dict[str, Callable[[Method], Method]]] = {
    "send": functools.partial(wrap_send, note=_noted),
    "send_raw": functools.partial(wrap_send, note=_noted_raw, raw=True),
}
WRAPPERS: Final[dict[str, Callable[[Method], Method]]] = {
    "recv": _recv,
    "parse_event": _parse_event,
    "recv_bytes": _recv_bytes,
    **SENDERS,
    "close": _close,
    "_reconnect": _reconnect,
}
