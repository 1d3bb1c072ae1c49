"""Streams of chunks: observed in place, so that the caller keeps the SDK's own object and gets each chunk as it comes."""

from __future__ import annotations

import inspect
import sys
from typing import TYPE_CHECKING, Any

from openai_metering import errors
from openai_metering.call import abandon, watch
from openai_metering.finished import DROPPED, STOPPED, UNREAD
from openai_metering.seams.failures import classify

if TYPE_CHECKING:
    from openai_metering.call import Call


class _Observed:
    """What the synchronous and the asynchronous iterator share: everything but the waiting.

    The SDK's stream holds this iterator, this iterator holds the call, and the call holds neither.
    """

    __slots__ = ("_call", "_inner", "_stepping")

    def __init__(self, inner: Any, call: Call) -> None:
        self._inner = inner
        self._call = call
        self._stepping = False

    def left(self, *, finalised: bool) -> None:
        """The response was closed: by the caller, by the SDK on its way to the end, or in a finaliser."""
        call = self._call
        if self._stepping:
            return  # the SDK closes a response before it delivers what is left in its buffers: the step says how it ends
        if finalised:
            abandon(call, DROPPED if call.first_chunk is not None else UNREAD)
        else:
            call.stop(STOPPED if call.first_chunk is not None else UNREAD)

    def seen(self, chunk: Any) -> bool:
        """Read a chunk. Returns whether the caller gets it."""
        call = self._call
        try:
            call.observe(chunk)
            call.complete_if_terminal()
            if call.hide_usage and _hidden(chunk):
                return False
        except Exception as error:
            errors.swallow("chunk", error)
        return True

    def ended(self) -> None:
        """The stream has been read to its end."""
        try:
            self._call.complete()
        except Exception as error:
            errors.swallow("complete", error)

    def failed(self, error: BaseException) -> None:
        """Reading the stream raised, which the caller gets untouched."""
        try:
            self._call.fail(classify(error, answering=True))
        except Exception as own:
            errors.swallow("fail", own)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def __del__(self) -> None:
        try:
            call = self._call
            abandon(call, DROPPED if call.first_chunk is not None else UNREAD)
        except Exception:  # noqa: S110 - a finaliser has nobody to tell, and the modules may be gone already
            pass


class ObservedIterator(_Observed):
    """The iterator of a ``Stream``."""

    __slots__ = ()

    def __iter__(self) -> ObservedIterator:
        return self

    def __next__(self) -> Any:
        while True:
            self._stepping = True
            try:
                chunk = self._inner.__next__()
            except StopIteration:
                self.ended()
                raise
            except BaseException as error:
                self.failed(error)
                raise
            finally:
                self._stepping = False
            if self.seen(chunk):
                return chunk


class ObservedAsyncIterator(_Observed):
    """The iterator of an ``AsyncStream``."""

    __slots__ = ()

    def __aiter__(self) -> ObservedAsyncIterator:
        return self

    async def __anext__(self) -> Any:
        while True:
            self._stepping = True
            try:
                chunk = await self._inner.__anext__()
            except StopAsyncIteration:
                self.ended()
                raise
            except BaseException as error:
                self.failed(error)
                raise
            finally:
                self._stepping = False
            if self.seen(chunk):
                return chunk


def observe_stream(stream: Any, response: Any, call: Call) -> None:
    """Observe the SDK's ``Stream`` or ``AsyncStream`` in place.

    Args:
        stream: the object that the caller gets.
        response: the HTTP response beneath it.
        call: the call that the stream is the answer of.
    """
    inner = stream._iterator  # noqa: SLF001 - read by `Stream.__next__` and `__iter__` in every version
    observed = ObservedAsyncIterator(inner, call) if hasattr(inner, "__anext__") else ObservedIterator(inner, call)
    stream._iterator = observed  # noqa: SLF001
    watch(call)
    on_close(response, observed)


def on_close(response: Any, observed: Any) -> None:
    """Tell an observer when the response is closed: by the stream, a helper, or the response itself.

    The hook sits on the response's byte stream, which is closed exactly once; one on the response itself would break
    its pickling.
    """
    body = response.stream
    if hasattr(body, "aclose"):
        aclose = body.aclose

        async def hooked_async() -> None:
            tell(observed, finalised=False)
            await aclose()

        body.aclose = hooked_async
    if hasattr(body, "close"):
        close = body.close

        def hooked() -> None:
            tell(observed, finalised=by_generator(2))
            close()

        body.close = hooked


def tell(observed: Any, *, finalised: bool) -> None:
    """Tell an observer that its response was closed."""
    try:
        observed.left(finalised=finalised)
    except Exception as error:
        errors.swallow("close", error)


def by_generator(depth: int) -> bool:
    """Whether it was a generator that closed the response, so perhaps one that is being garbage-collected.

    The SDK and its HTTP library close responses in the ``finally`` of their generators. When the collector finalises
    one, we run inside any lock of the process.

    Args:
        depth: how many frames above the caller of this function the one is that called ``Response.close``.
    """
    try:
        return bool(sys._getframe(depth + 1).f_code.co_flags & inspect.CO_GENERATOR)  # noqa: SLF001
    except ValueError:
        return True


def _hidden(chunk: Any) -> bool:
    """Whether a chunk exists only because we asked for usage; takes the ``"usage": null`` off any other one.

    A chunk that carries a choice is never hidden.
    """
    fields = chunk if type(chunk) is dict else chunk.__dict__
    if fields.get("usage") is None:
        if fields is chunk:
            chunk.pop("usage", None)
        else:
            given = getattr(chunk, "__pydantic_fields_set__", None)
            if given is None:
                given = getattr(chunk, "__fields_set__", None)
            if given is not None:
                given.discard("usage")
        return False
    return not fields.get("choices")


class UsageKeyIterator:
    """The iterator of a stream parsed from a raw response: takes the ``"usage": null`` that we asked for off each chunk.

    The call itself is observed beneath, at the response's decoder.
    """

    __slots__ = ("_inner",)

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __iter__(self) -> UsageKeyIterator:
        return self

    def __next__(self) -> Any:
        return _stripped(self._inner.__next__())

    def __aiter__(self) -> UsageKeyIterator:
        return self

    async def __anext__(self) -> Any:
        return _stripped(await self._inner.__anext__())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def _stripped(chunk: Any) -> Any:
    try:
        _hidden(chunk)
    except Exception as error:
        errors.swallow("chunk", error)
    return chunk


def strip_parsed(options: Any) -> None:
    """Have the usage key stripped from the stream that a raw response is parsed into later.

    Args:
        options: the request options of this one response; their ``post_parser`` is handed the stream.
    """
    following = options.post_parser

    def post_parser(parsed: Any) -> Any:
        try:
            inner = parsed._iterator  # noqa: SLF001
            parsed._iterator = UsageKeyIterator(inner)  # noqa: SLF001
        except Exception as error:
            errors.swallow("parse", error)
        return following(parsed) if callable(following) else parsed

    options.post_parser = post_parser
