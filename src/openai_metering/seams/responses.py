"""The byte stream of a response: observed while the caller reads it, in whatever way, and how that ended."""

from __future__ import annotations

import contextlib
import functools
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import wrapt

from openai_metering import errors
from openai_metering.call import abandon, watch
from openai_metering.finished import COMPLETED, DROPPED, STOPPED, UNREAD
from openai_metering.seams.bodies import EventReader, JsonReader, NotRead
from openai_metering.seams.codings import ObservedDecoder, RawReader, reads_decoded
from openai_metering.seams.failures import classify
from openai_metering.seams.streams import ObservedAsyncIterator, ObservedIterator, tell

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from openai_metering.call import Call

    Proxy = wrapt.ObjectProxy[Any]
else:
    Proxy = wrapt.ObjectProxy  # generic from wrapt 2.0 on


class BodyObserver:
    """Sees every byte of a body once, decoded, while the caller reads it; and how the reading ended.

    Args:
        call: the call that the body is the answer of.
        events: the body is a stream of server-sent events.
    """

    def __init__(self, call: Call, *, events: bool) -> None:
        self._call = call
        self._reader: EventReader | JsonReader | NotRead = (
            EventReader(call) if events else NotRead(call) if call.operation.binary else JsonReader(call)
        )
        self._holds_back = events and call.hide_usage
        self._seen = False
        self.raw = False
        """The caller reads raw bytes, which are decoded beside it."""
        self.raw_ended = False
        """The last byte has come from the network; a decoder may still hold some of it."""

    def feed(self, piece: bytes) -> bytes:
        """Take in a decoded piece. Returns what the caller gets: the piece itself, where nothing is to be hidden."""
        self._seen = True
        try:
            passed = self._reader.feed(piece)
        except Exception as error:
            errors.swallow("body", error)
            return piece
        return passed if self._holds_back else piece

    def end(self, *, observed: bool = True) -> bytes:
        """The body has been read to its end, and was observed up to there. Returns what was held back of it."""
        rest = b""
        try:
            if observed:
                rest = self._reader.flush()
        except Exception as error:
            errors.swallow("body", error)
        try:
            if observed:
                self._call.complete()
            else:
                self._call.finish(COMPLETED, reason="not_observed")
        except Exception as error:
            errors.swallow("complete", error)
        return rest if self._holds_back else b""

    def left(self, *, finalised: bool) -> None:
        """The response was closed: at the end of its raw bytes, before it, or in a finaliser."""
        call = self._call
        if self.raw_ended:
            if not self._seen:
                call.finish(COMPLETED, reason="not_observed")
        elif finalised:
            abandon(call, DROPPED if self._seen else UNREAD)
        else:
            call.stop(STOPPED if self._seen else UNREAD)

    def failed(self, error: BaseException) -> None:
        """Reading the body raised, which the caller gets untouched."""
        try:
            self._call.fail(classify(error, answering=True))
        except Exception as own:
            errors.swallow("fail", own)

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # a finaliser has nobody to tell
            abandon(self._call, DROPPED if self._seen else UNREAD)


class ObservedBody(Proxy):
    """The byte stream of a response, in the shape of the HTTP library's own.

    Args:
        body: the HTTP library's own.
        observer: is told how reading ended.
        reader: sees the bytes: the observer itself, where they are not compressed.
        raw: makes what sees them where they are, and where the caller reads them as they are.
    """

    def __init__(
        self,
        body: Any,
        observer: BodyObserver,
        reader: BodyObserver | RawReader | None,
        raw: Callable[[], RawReader] | None,
    ) -> None:
        super().__init__(body)
        self._self_observer = observer
        self._self_reader = reader
        self._self_raw = raw

    def _reads(self) -> BodyObserver | RawReader | None:
        """What the bytes pass: nothing where the HTTP library decodes them, as its decoder is observed."""
        try:
            if self._self_raw is not None and not reads_decoded(3):
                return self._self_raw()
        except Exception as error:
            errors.swallow("raw", error)
        return self._self_reader

    def __iter__(self) -> Iterator[bytes]:
        observer, reader = self._self_observer, self._reads()
        try:
            for piece in self.__wrapped__:
                passed = piece if reader is None else reader.feed(piece)
                if passed:
                    yield passed
        except GeneratorExit:
            raise
        except BaseException as error:
            observer.failed(error)
            raise
        observer.raw_ended = True
        rest = b"" if reader is None else reader.end()
        if rest:
            yield rest

    async def __aiter__(self) -> AsyncIterator[bytes]:
        observer, reader = self._self_observer, self._reads()
        try:
            async for piece in self.__wrapped__:
                passed = piece if reader is None else reader.feed(piece)
                if passed:
                    yield passed
        except GeneratorExit:
            raise
        except BaseException as error:
            observer.failed(error)
            raise
        observer.raw_ended = True
        rest = b"" if reader is None else reader.end()
        if rest:
            yield rest

    def close(self) -> None:
        """Close the stream, and tell."""
        tell(self._self_observer, closer=2)
        self.__wrapped__.close()

    async def aclose(self) -> None:
        """Close the stream, and tell."""
        tell(self._self_observer)
        await self.__wrapped__.aclose()


def observe_body(response: Any, call: Call, *, events: bool) -> None:
    """Observe a body that the caller has not read yet, in whatever way the caller reads it.

    Args:
        response: the HTTP response.
        call: the call that the body is the answer of.
        events: the body is a stream of server-sent events.
    """
    observer = BodyObserver(call, events=events)
    coding = _coding_of(response)
    reader: BodyObserver | None = observer
    raw: Callable[[], RawReader] | None = None
    if coding:
        decoder = response._get_content_decoder()  # noqa: SLF001
        del response._decoder  # noqa: SLF001 - of two that are alike, each reads the answer from its first byte
        response._decoder = ObservedDecoder(response._get_content_decoder(), observer)  # noqa: SLF001
        reader = None
        raw = functools.partial(RawReader, decoder, coding, observer, hides=events and call.hide_usage)
    # Both are dropped by the response's own pickling.
    response.stream = ObservedBody(response.stream, observer, reader, raw)
    watch(call)


def _coding_of(response: Any) -> str:
    coding: str = response.headers.get("content-encoding", "").strip().lower()
    return "" if coding == "identity" else coding


# -- Streams of which the caller reads the response itself -------------------------------------------------------------


class StreamBody(Proxy):
    """The byte stream beneath the SDK's ``Stream``: the stream's own steps read it as it is; anybody else is observed.

    Args:
        body: the HTTP library's own.
        observed: the iterator of the stream.
        response: whose body it is.
        call: the call that the stream is the answer of.
    """

    def __init__(
        self, body: Any, observed: ObservedIterator | ObservedAsyncIterator, response: Any, call: Call
    ) -> None:
        super().__init__(body)
        self._self_observed = observed
        self._self_response = response
        self._self_call = call

    def _beneath(self) -> Any:
        """What is read by who does not read through the stream."""
        try:
            if self._self_observed.stepping and not self._may_refuse():
                return self.__wrapped__
            observer = BodyObserver(self._self_call, events=True)
            body = self._observed_by(observer)
            self._self_observed.beneath = observer
            return body
        except Exception as error:
            errors.swallow("raw", error)
            return self.__wrapped__

    def _may_refuse(self) -> bool:
        """Whether the answer may be an error about the option that we added: JSON, of which the SDK makes no event."""
        headers = self._self_response.headers
        return self._self_call.hide_usage and headers.get("content-type", "").startswith("application/json")

    def _observed_by(self, observer: BodyObserver) -> ObservedBody:
        response, coding = self._self_response, _coding_of(self._self_response)
        if not coding:
            return ObservedBody(self.__wrapped__, observer, observer, None)
        decoder = response._get_content_decoder()  # noqa: SLF001
        if reads_decoded(4):
            # The HTTP library holds its decoder already: what it calls is observed in place.
            own = ObservedDecoder(SimpleNamespace(decode=decoder.decode, flush=decoder.flush), observer)
            decoder.decode, decoder.flush = own.decode, own.flush
            return ObservedBody(self.__wrapped__, observer, None, None)
        reader = RawReader(decoder, coding, observer, hides=self._self_call.hide_usage)
        return ObservedBody(self.__wrapped__, observer, reader, None)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._beneath())

    def __aiter__(self) -> AsyncIterator[bytes]:
        found: AsyncIterator[bytes] = self._beneath().__aiter__()
        return found

    def close(self) -> None:
        """Close the stream, and tell."""
        tell(self._self_observed, closer=2)
        self.__wrapped__.close()

    async def aclose(self) -> None:
        """Close the stream, and tell."""
        tell(self._self_observed)
        await self.__wrapped__.aclose()


def observe_stream(stream: Any, response: Any, call: Call) -> None:
    """Observe the SDK's ``Stream`` or ``AsyncStream`` in place.

    The response's byte stream tells when it is closed: by the stream, a helper, or the response itself. A hook on the
    response would break its pickling.

    Args:
        stream: the object that the caller gets.
        response: the HTTP response beneath it.
        call: the call that the stream is the answer of.
    """
    inner = stream._iterator  # noqa: SLF001 - read by `Stream.__next__` and `__iter__` in every version
    observed = ObservedAsyncIterator(inner, call) if hasattr(inner, "__anext__") else ObservedIterator(inner, call)
    stream._iterator = observed  # noqa: SLF001
    watch(call)
    response.stream = StreamBody(response.stream, observed, response, call)
