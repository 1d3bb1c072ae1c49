"""Bodies as bytes: what a caller reads from a raw response, seen once as it is decoded."""

from __future__ import annotations

import contextlib
import functools
import json
import re
from typing import TYPE_CHECKING, Any, Final

import wrapt

from openai_metering import errors
from openai_metering.call import abandon, watch
from openai_metering.finished import COMPLETED, DROPPED, STOPPED, UNREAD
from openai_metering.seams.codings import ObservedDecoder, RawReader, reads_decoded
from openai_metering.seams.failures import classify
from openai_metering.seams.streams import is_extra, tell
from openai_metering.usage import code

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from openai_metering.call import Call

    Proxy = wrapt.ObjectProxy[Any]
else:
    Proxy = wrapt.ObjectProxy  # generic from wrapt 2.0 on

MAX_BODY: Final = 8 * 1024 * 1024
"""Bytes of a body that are parsed whole; of a larger one only its two ends are looked at."""
TAIL: Final = 64 * 1024
"""Bytes of each end."""
MAX_EVENT: Final = 8 * 1024 * 1024
"""Bytes of one server-sent event that are kept."""

_EVENT_END: Final = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_USAGE: Final = re.compile(rb'"usage"\s*:\s*(?=[^\sn])')
_TOTALS: Final = re.compile(rb'"(usage|tool_usage|svg_usage)"\s*:\s*(?=[^\sn])')
_FINISH: Final = re.compile(rb'"finish_reason"\s*:\s*"')
_MODEL: Final = re.compile(rb'"model"\s*:\s*"([^"\\]{1,256})"')
EVENTS: Final = "text/event-stream"


def read_body(call: Call, body: bytes, content_type: str) -> bytes:
    """Read a whole answer from its bytes and complete the call. Returns what of them the caller may have."""
    if content_type.startswith(EVENTS):
        reader = EventReader(call)
        body = reader.feed(body) + reader.flush()
    elif call.operation.binary:
        call.read(None)
    else:
        _read_json(call, body)
    call.complete()
    return body


def read_spent(call: Call, response: Any) -> None:
    """Read what was spent on an answer that the SDK could not turn into what the caller wanted."""
    try:
        body = response.content
    except Exception:  # not read: a stream
        return
    if not call.operation.binary:
        _read_json(call, body)


def _read_json(call: Call, body: bytes) -> None:
    if not body:
        call.read(None)
        return
    if len(body) > MAX_BODY:
        _read_ends(call, body)
        return
    try:
        call.read(json.loads(body))
    except (ValueError, RecursionError):
        call.answer.invalid = False  # no JSON: an answer without usage


def _read_ends(call: Call, body: bytes) -> None:
    """Read usage and model of a body that is too large to parse, such as thousands of embeddings, or images.

    What would have to be counted in between, the images themselves, stays unknown.
    """
    found: dict[str, Any] = {}
    for edge in (body[:TAIL], body[-TAIL:]):
        model = _MODEL.search(edge)
        if model is not None:
            found["model"] = model[1].decode("utf-8", "replace")
        for usage in _TOTALS.finditer(edge):
            try:
                said, _ = json.JSONDecoder().raw_decode(edge[usage.end() :].decode("utf-8", "replace"))
            except (ValueError, RecursionError):
                continue
            found[usage[1].decode()] = said
    call.answer.too_large = True
    call.read(found)


def _looks_extra(event: bytes) -> bool:
    """By its bytes, where reading it failed: an event without choices that says usage."""
    return b'"choices":[]' in event.replace(b" ", b"") and _USAGE.search(event) is not None


class EventReader:
    """Server-sent events from bytes in pieces of any size; parses only those that say something for the bill."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._rest = bytearray()
        self._scanned = 0  # of what is held back: an event of megabytes comes in thousands of pieces

    def feed(self, piece: bytes) -> bytes:
        """Take in a piece. Returns what of it, and of what was held back before, the caller may have."""
        rest = self._rest
        rest += piece
        passed = bytearray()
        start = 0
        for end in _EVENT_END.finditer(rest, max(0, self._scanned - 3)):
            event = bytes(rest[start : end.end()])
            start = end.end()
            if not self._hides(event):
                passed += event
        del rest[:start]
        if len(rest) > MAX_EVENT:
            passed += rest
            rest.clear()
            self._call.answer.too_large = True
        self._scanned = len(rest)
        return bytes(passed)

    def flush(self) -> bytes:
        """Return what is left when the stream ends within an event."""
        rest = bytes(self._rest)
        self._rest.clear()
        return b"" if rest and self._hides(rest) else rest

    def _hides(self, event: bytes) -> bool:
        """Read one event. Returns whether it exists only because we asked for usage."""
        call = self._call
        if call.first_chunk is None:
            call.first_chunk = call.now()
        try:
            if not self._speaks(event):
                return False
            lines = event.splitlines()
            data = b"\n".join(line[5:].lstrip(b" ") for line in lines if line.startswith(b"data:"))
            if data.startswith(b"[DONE]"):
                call.complete()  # where the SDK stops reading, too: it never gets to the end of the body
                return False
            chunk = json.loads(data) if data else None
            if isinstance(chunk, dict):
                finished = call.answer.finished
                name = next((line[6:].strip() for line in lines if line.startswith(b"event:")), b"")
                self._read({"event": name.decode(), "data": chunk} if name.startswith(b"thread.") else chunk)
                return call.hide_usage and is_extra(
                    chunk.get("usage"), chunk.get("choices"), chunk.keys(), finished=finished
                )
        except (ValueError, RecursionError):
            pass  # no JSON: the caller's to deal with
        except Exception as error:
            errors.swallow("event", error)
            return call.hide_usage and _looks_extra(event)
        return False

    def _read(self, chunk: dict[str, Any]) -> None:
        call = self._call
        error = chunk.get("error")
        if error:
            told = error.get("code") or error.get("type") if isinstance(error, dict) else None
            call.answer.failed = code(told) or "error"
            call.complete()  # the SDK raises, and reads no further
        else:
            call.observe(chunk)
            call.complete_if_terminal()

    def _speaks(self, event: bytes) -> bool:
        """Whether an event says something: the first one, one with usage, an end or an error."""
        if b'"error"' in event or b"[DONE]" in event:
            return True
        operation = self._call.operation
        if operation.events:
            return _naming(operation.events).search(event) is not None
        answer = self._call.answer
        if answer.model is None or answer.finished:
            return True
        return _USAGE.search(event) is not None or _FINISH.search(event) is not None


@functools.cache
def _naming(events: frozenset[str]) -> re.Pattern[bytes]:
    """Finds an event of one of these types, told within its data or, as assistants do, beside it."""
    names = "|".join(re.escape(event) for event in sorted(events))
    return re.compile(rf'(?:"type"\s*:\s*"(?:{names})"|^event:\s*(?:{names})\s*$)'.encode(), re.MULTILINE)


class _Unread:
    """A body that is never looked into, nor kept."""

    def __init__(self, call: Call) -> None:
        self._call = call

    def feed(self, piece: bytes) -> bytes:
        return piece

    def flush(self) -> bytes:
        self._call.read(None)
        return b""


class _JsonReader:
    """A JSON body from bytes in pieces; keeps it whole, or of a large one its two ends."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._kept = bytearray()
        self._cut = False

    def feed(self, piece: bytes) -> bytes:
        if self._call.first_chunk is None:
            self._call.first_chunk = self._call.now()
        kept = self._kept
        kept += piece
        # Cut only now and then, as each time moves what is kept.
        if len(kept) > (4 * TAIL if self._cut else MAX_BODY):
            del kept[TAIL:-TAIL]
            self._cut = True
        return piece

    def flush(self) -> bytes:
        body = bytes(self._kept)
        self._kept.clear()
        if self._cut:
            _read_ends(self._call, body)
        else:
            _read_json(self._call, body)
        return b""


class BodyObserver:
    """Sees every byte of a body once, decoded, while the caller reads it; and how the reading ended.

    Args:
        call: the call that the body is the answer of.
        events: the body is a stream of server-sent events.
    """

    def __init__(self, call: Call, *, events: bool) -> None:
        self._call = call
        self._reader: EventReader | _JsonReader | _Unread = (
            EventReader(call) if events else _Unread(call) if call.operation.binary else _JsonReader(call)
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
        self, body: Any, observer: BodyObserver, reader: BodyObserver | None, raw: Callable[[], RawReader] | None
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
    coding = response.headers.get("content-encoding", "identity").strip().lower()
    reader: BodyObserver | None = observer
    raw: Callable[[], RawReader] | None = None
    if coding not in ("", "identity"):
        decoder = response._get_content_decoder()  # noqa: SLF001
        del response._decoder  # noqa: SLF001 - of two that are alike, each reads the answer from its first byte
        response._decoder = ObservedDecoder(response._get_content_decoder(), observer)  # noqa: SLF001
        reader = None
        raw = functools.partial(RawReader, decoder, coding, observer, hides=events and call.hide_usage)
    # Both are dropped by the response's own pickling.
    response.stream = ObservedBody(response.stream, observer, reader, raw)
    watch(call)
