"""Bodies as bytes: readers of JSON and of server-sent events, whole or in pieces of any size."""

from __future__ import annotations

import functools
import json
import re
from typing import TYPE_CHECKING, Any, Final

from openai_metering import errors
from openai_metering.seams.failures import names_stream_options
from openai_metering.seams.streams import is_extra
from openai_metering.usage import code

if TYPE_CHECKING:
    from openai_metering.call import Call

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
            if not data and b'"error"' in event and event.lstrip().startswith(b"{"):
                data = event  # an error that is no event: JSON in the place of the stream
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
            if call.hide_usage and names_stream_options(error):
                call.host_refuses()
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


class NotRead:
    """A body that is never looked into, nor kept."""

    def __init__(self, call: Call) -> None:
        self._call = call

    def feed(self, piece: bytes) -> bytes:
        """Take in a piece, which the caller gets."""
        return piece

    def flush(self) -> bytes:
        """Read what was taken in."""
        self._call.read(None)
        return b""


class JsonReader:
    """A JSON body from bytes in pieces; keeps it whole, or of a large one its two ends."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._kept = bytearray()
        self._cut = False

    def feed(self, piece: bytes) -> bytes:
        """Take in a piece, which the caller gets."""
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
        """Read what was taken in."""
        body = bytes(self._kept)
        self._kept.clear()
        if self._cut:
            _read_ends(self._call, body)
        else:
            _read_json(self._call, body)
        return b""
