"""Streams of chunks: observed in place, so that the caller keeps the SDK's own object and gets each chunk as it comes."""

from __future__ import annotations

import inspect
import sys
from typing import TYPE_CHECKING, Any, Final

from openai_metering import errors
from openai_metering.call import abandon
from openai_metering.finished import DROPPED, STOPPED, UNREAD
from openai_metering.seams.failures import classify, names_stream_options

if TYPE_CHECKING:
    from collections.abc import Collection

    from openai_metering.call import Call


class _Observed:
    """What the synchronous and the asynchronous iterator share: everything but the waiting.

    The SDK's stream holds this iterator, this iterator holds the call, and the call holds neither.
    """

    __slots__ = ("_call", "_inner", "beneath", "stepping")

    def __init__(self, inner: Any, call: Call) -> None:
        self._inner = inner
        self._call = call
        self.stepping = False
        """The SDK is reading the response, for this iterator."""
        self.beneath: Any = None
        """Observes the response where the caller reads that, and not this iterator."""

    def left(self, *, finalised: bool) -> None:
        """The response was closed: by the caller, by the SDK on its way to the end, or in a finaliser."""
        call = self._call
        if self.beneath is not None:
            self.beneath.left(finalised=finalised)
            return
        if self.stepping:
            return  # the SDK closes a response before it delivers what is left in its buffers: the step says how it ends
        if finalised:
            abandon(call, DROPPED if call.first_chunk is not None else UNREAD)
        else:
            call.stop(STOPPED if call.first_chunk is not None else UNREAD)

    def seen(self, chunk: Any) -> bool:
        """Read a chunk. Returns whether the caller gets it."""
        call = self._call
        finished = call.answer.finished
        try:
            call.observe(chunk)
            call.complete_if_terminal()
        except Exception as error:
            errors.swallow("chunk", error)
        try:
            return not (call.hide_usage and _hides(chunk, finished=finished))
        except Exception as error:
            errors.swallow("hide", error)
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
            if self._call.hide_usage and names_stream_options(getattr(error, "body", None)):
                self._call.host_refuses()  # too late to repeat this one: the caller has the stream
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
        if self.stepping:  # a second reader at once gets the SDK's own error, and ends nothing
            return self._inner.__next__()
        while True:
            self.stepping = True
            try:
                chunk = self._inner.__next__()
            except StopIteration:
                self.ended()
                raise
            except BaseException as error:
                self.failed(error)
                raise
            finally:
                self.stepping = False
            if self.seen(chunk):
                return chunk


class ObservedAsyncIterator(_Observed):
    """The iterator of an ``AsyncStream``."""

    __slots__ = ()

    def __aiter__(self) -> ObservedAsyncIterator:
        return self

    async def __anext__(self) -> Any:
        if self.stepping:
            return await self._inner.__anext__()
        while True:
            self.stepping = True
            try:
                chunk = await self._inner.__anext__()
            except StopAsyncIteration:
                self.ended()
                raise
            except BaseException as error:
                self.failed(error)
                raise
            finally:
                self.stepping = False
            if self.seen(chunk):
                return chunk


def tell(observed: Any, *, closer: int | None = None) -> None:
    """Tell an observer that its response was closed.

    Args:
        observed: the observer.
        closer: how many frames above the caller of this function is the one that called ``Response.close``; ``None``
            for an asynchronous close, which no garbage collector makes.
    """
    try:
        observed.left(finalised=closer is not None and by_generator(closer + 1))
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


# What every chunk has; a server that answers the question with nothing sends no more than that.
_BARE: Final = frozenset(
    {"id", "object", "created", "model", "choices", "usage", "system_fingerprint", "service_tier", "obfuscation"}
)


def is_extra(usage: Any, choices: Any, names: Collection[str], *, finished: bool) -> bool:
    """Whether a chunk exists only because we asked for usage.

    It has no choice, and says usage; or, where a server answers the question with nothing, comes after the finish
    reason and says nothing else either. A chunk that carries a choice is never one.

    Args:
        usage: the chunk's usage.
        choices: its choices.
        names: the names of all its fields.
        finished: a finish reason has come before.
    """
    return not choices and (usage is not None or (finished and "usage" in names and _BARE.issuperset(names)))


def _hides(chunk: Any, *, finished: bool) -> bool:
    """Whether a chunk is to be hidden; takes the ``"usage": null`` that we asked for off any other one."""
    if type(chunk) is dict:
        if is_extra(chunk.get("usage"), chunk.get("choices"), chunk.keys(), finished=finished):
            return True
        if chunk.get("usage") is None:
            chunk.pop("usage", None)
        return False
    fields = getattr(chunk, "__dict__", None)
    if fields is None:  # no object at all: a server may send a number, a text or a list as a chunk
        return False
    # The second name is that of pydantic 1.
    given = getattr(chunk, "__pydantic_fields_set__", None) or getattr(chunk, "__fields_set__", None) or set()
    usage = fields.get("usage")
    extra = getattr(chunk, "__pydantic_extra__", None)
    if is_extra(usage, fields.get("choices"), given | extra.keys() if extra else given, finished=finished):
        return True
    if usage is None:
        given.discard("usage")
    return False


class HidingIterator:
    """The iterator of a stream that we asked for usage and do not observe ourselves.

    One parsed from a raw response is observed beneath, at its bytes; one that could not be observed is still to look as
    the caller ordered it.
    """

    __slots__ = ("_finished", "_inner")

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self._finished = False

    def __iter__(self) -> HidingIterator:
        return self

    def __next__(self) -> Any:
        while self._hides(chunk := self._inner.__next__()):
            pass
        return chunk

    def __aiter__(self) -> HidingIterator:
        return self

    async def __anext__(self) -> Any:
        while self._hides(chunk := await self._inner.__anext__()):
            pass
        return chunk

    def _hides(self, chunk: Any) -> bool:
        try:
            finished = self._finished
            choices = getattr(chunk, "choices", None)
            for choice in choices if isinstance(choices, list) else ():  # a server may send anything in its place
                self._finished = self._finished or getattr(choice, "finish_reason", None) is not None
            return _hides(chunk, finished=finished)
        except Exception as error:
            errors.swallow("hide", error)
            return False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def hide_in(stream: Any) -> None:
    """Hide in a stream what is there only because we asked for usage."""
    try:
        inner = stream._iterator  # noqa: SLF001
        if not isinstance(inner, _Observed):
            stream._iterator = HidingIterator(inner)  # noqa: SLF001
    except Exception as error:
        errors.swallow("hide", error)


def hide_in_parsed(options: Any) -> None:
    """The same for the stream that a raw response is parsed into later.

    Args:
        options: the request options of this one response; their ``post_parser`` is handed the stream.
    """
    following = options.post_parser

    def post_parser(parsed: Any) -> Any:
        hide_in(parsed)
        return following(parsed) if callable(following) else parsed

    options.post_parser = post_parser
