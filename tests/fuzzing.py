"""The provider's own answers, changed at random: what servers that are nearly right may send."""

from __future__ import annotations

import copy
import itertools
import json
import os
import random
import zlib
from dataclasses import dataclass, field
from typing import Any

from openai_metering.local import answers, wire
from openai_metering.local.events import DONE, STREAMED, Event

FULL = os.environ.get("OPENAI_METERING_TEST_SIZE") == "full"
KINDS = dict(answers.ROUTES)
ODD = [
    None,
    True,
    False,
    0,
    -1,
    1,
    7,
    0.5,
    -0.0,
    1e308,
    float("nan"),
    float("inf"),
    2**53 + 1,
    2**63 - 1,
    2**63,
    2**70,
    -(2**70),
    "",
    "0",
    "12",
    "-1",
    "1e3",
    "9" * 30,
    "\ud800",
    "\x00",
    "null",
    "stop",
    "failed",
    "completed",
    "queued",
    "incomplete",
    "error",
    "x" * 300,
    [],
    {},
    [None],
    [[]],
    [{}],
    {"": None},
    {"usage": {"prompt_tokens": 1}},
    {"code": 7, "message": None},
]
BARE = {"id", "object", "created", "model", "choices", "system_fingerprint", "service_tier", "obfuscation"}
"""What every chunk has; one that has no more answers the question for usage with nothing."""
MORE_NAMES = ["usage", "x_groq", "error", "type", "status", "choices", "model", "id", "response", "data", "tool_usage"]


def ask(kind: str, number: int = 1, **payload: Any) -> wire.Ask:
    """A request of a kind, with the usage that its answer tells."""
    route = next(path for path, found in answers.ROUTES if found == kind)
    made = wire.Ask(number, kind, payload, "gpt-4o-2024-08-06", route=route)
    made.usage = wire.usage_of(kind, number) if kind in wire.USAGE else answers.usage_of(made)
    return made


def whole(kind: str) -> dict[str, Any]:
    """A whole answer of a kind, which no one else holds."""
    return copy.deepcopy(answers.PLAIN[kind](ask(kind))) if kind in answers.PLAIN else {"sound": "none"}


def events(kind: str) -> list[Event]:
    """The streamed answer of a kind, which no one else holds."""
    return copy.deepcopy(STREAMED[kind](ask(kind, stream_options={"include_usage": True})))


def encoded(value: Any) -> bytes:
    """A JSON value as a careless server writes it: constants that are no JSON among it, and half a character."""
    return json.dumps(value).encode("utf-8", "surrogatepass")


class Mutator:
    """Changes answers at random, and always the same for a seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def value(self, value: Any, times: int = 3) -> Any:
        """A JSON value in which up to so many places are changed; it is changed in place where it can be."""
        for _ in range(self.random.randint(0, times)):
            value = self._once(value)
        return value

    def _once(self, value: Any) -> Any:
        places = [(None, None), *_places(value)]
        holder, key = self.random.choice(places)
        change = self.random.randrange(7)
        if holder is None:
            return self.random.choice([value, value, value, [value], copy.deepcopy(self.random.choice(ODD))])
        if change == 0:
            del holder[key]
        elif change == 1:
            holder[key] = [holder[key]]
        elif change == 2 and isinstance(holder, dict):
            holder[self.random.choice(MORE_NAMES)] = copy.deepcopy(holder[key])
        elif change == 3 and isinstance(holder, list):
            holder.append(copy.deepcopy(holder[key]))
        elif change == 4:
            other, place = self.random.choice(places[1:])
            if (moved := copy.deepcopy(other[place])) is not None:
                holder[key] = moved
        else:
            holder[key] = copy.deepcopy(self.random.choice(ODD))
        return value

    def bytes(self, body: bytes) -> bytes:
        """Bytes that are cut, doubled, or changed in a few places."""
        made = bytearray(body)
        for _ in range(self.random.randint(0, 2)):
            at = self.random.randint(0, len(made))
            change = self.random.randrange(4)
            if change == 0:
                del made[at:]
            elif change == 1:
                made[at:at] = self.random.choice(
                    [b"\x00", b"\xff", b"\n\n", b"\r", b'"', b"}", b"data: ", b"\xef\xbb\xbf"]
                )
            elif change == 2 and at < len(made):
                made[at] = self.random.randrange(256)
            else:
                del made[at : at + self.random.randint(1, 40)]
        return bytes(made)

    def stream(self, found: list[Event]) -> list[Event]:
        """Events that are changed, left out, doubled and out of order."""
        made = [
            event if event == DONE else Event(self.value(event.data, 2), event.name)
            for event in found
            if self.random.random() > 0.05
        ]
        if made and self.random.random() < 0.2:
            made.insert(self.random.randint(0, len(made)), self.random.choice(made))
        if self.random.random() < 0.1:
            self.random.shuffle(made)
        return made

    def on_the_wire(self, found: list[Event], *, noise: float = 0.05) -> bytes:
        """Events as a server writes them, with any of the ends of lines, and lines between that say nothing."""
        end = self.random.choice([b"\n", b"\n", b"\n", b"\r\n", b"\r"])
        parts = []
        for event in found:
            data = DONE.data.encode() if event == DONE else encoded(event.data)
            name = b"event: " + event.name.encode() + end if event.name else b""
            parts.append(name + b"data: " + data + end + end)
            if self.random.random() < noise:
                parts.append(
                    self.random.choice([b": ping", b"id: 1", b"retry: x", b"data", b"data:", b"event: x"]) + end + end
                )
        return b"".join(parts)

    def pieces(self, body: bytes) -> list[bytes]:
        """The same bytes, in pieces of any size."""
        if not body:
            return []
        cuts = sorted({self.random.randint(0, len(body)) for _ in range(self.random.randint(0, 5))} | {0, len(body)})
        return [body[start:stop] for start, stop in itertools.pairwise(cuts)]


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every place within a JSON value that can hold something else."""
    found: list[tuple[Any, Any]] = []
    todo = [value]
    while todo:
        one = todo.pop()
        keys: Any = list(one) if isinstance(one, dict) else range(len(one)) if isinstance(one, list) else ()
        for key in keys:
            found.append((one, key))
            todo.append(one[key])
    return found


@dataclass
class Reply:
    """What a server sends, byte for byte."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    asked: bytes | None = None
    """The body where the request asks for usage on a stream."""
    cut: int | None = None
    """How many bytes of the body are sent before the connection is closed."""


STATUSES = [200] * 30 + [
    201,
    202,
    204,
    206,
    299,
    300,
    304,
    400,
    401,
    403,
    404,
    408,
    409,
    418,
    422,
    429,
    500,
    502,
    503,
    529,
    599,
]
TYPES = [
    "application/json; charset=latin-1",
    "application/json;",
    "APPLICATION/JSON",
    "application/vnd.api+json",
    "text/plain",
    "text/event-stream",
    "text/html; charset=nonsense",
    "",
    ";;;",
]


def reply(mutator: Mutator, kind: str, *, streamed: bool, asks: bool) -> Reply:
    """An answer of a kind, changed at random in body, headers, status and in how it ends.

    Args:
        mutator: what changes it.
        kind: the kind of answer.
        streamed: the answer is a stream of events.
        asks: the caller asks for usage on the stream; where it does not, the two bodies differ by what asking gives.
    """
    choose = mutator.random
    asked = None
    if kind == "speech" and not streamed:
        body, content_type = mutator.bytes(answers.SOUND), "audio/mpeg"
    elif streamed:
        content_type = "text/event-stream; charset=utf-8"
        state = choose.getstate()
        found = mutator.stream(events(kind))
        if kind in ("chat", "completions") and not asks:
            found = [_without_null(event) for event in found if not _asked_for(event)]
            with_usage = [_with_null(event) for event in found]
            if with_usage and any(isinstance(event.data, dict) and event.data.get("choices") for event in with_usage):
                last = len(with_usage) - (with_usage[-1] == DONE)
                with_usage.insert(last, next(event for event in reversed(events(kind)) if _asked_for(event)))
            state = choose.getstate()
            asked = mutator.on_the_wire(with_usage, noise=0)
            choose.setstate(state)
        body = mutator.on_the_wire(found, noise=0 if asked is not None else 0.05)
        if asked is None and choose.random() < 0.3:
            body = mutator.bytes(body)
    else:
        content_type = "application/json"
        body = encoded(mutator.value(whole(kind), 4))
        if choose.random() < 0.2:
            body = mutator.bytes(body)
        if choose.random() < 0.03:
            body = choose.choice(
                [b"", b"null", b"[]", b"0", b"<html>", b"{", b'"x"', b"[" * 2000, b"\xff\xfe{\x00}\x00"]
            )
    headers = {"content-type": content_type, "x-request-id": f"req_{choose.randrange(10**6)}"}
    if choose.random() < 0.12:
        headers["content-type"] = choose.choice(TYPES)
    if choose.random() < 0.1:
        headers["x-request-id"] = choose.choice(["", "\xe9", "x" * 400, "sk-proj-" + "a1B2" * 12])
    if choose.random() < 0.05:
        headers["openai-processing-ms"] = "soon"
    made = Reply(choose.choice(STATUSES), headers, body, asked)
    if made.status >= 300:  # an error is the same for both
        made.asked = asked = None
    if choose.random() < 0.1:
        headers["content-encoding"] = choose.choice(["gzip", "deflate", "br", "identity", "nonsense"])
        if headers["content-encoding"] == "gzip" and choose.random() < 0.8:
            made.body = zlib.compress(body, wbits=31)
            made.asked = None if asked is None else zlib.compress(asked, wbits=31)
    if asked is None and made.body and made.status not in (204, 304) and choose.random() < 0.05:
        made.cut = choose.randrange(len(made.body))
    return made


def _asked_for(event: Event) -> bool:
    """Whether an event looks as one does that is there only because usage was asked for."""
    data = event.data
    return isinstance(data, dict) and not data.get("choices") and ("usage" in data or data.keys() <= BARE)


def _without_null(event: Event) -> Event:
    """What a server sends that was not asked for usage; one that sends it unasked is not told from one that was."""
    if isinstance(event.data, dict) and event.data.get("usage", 0) is None:
        return Event({name: value for name, value in event.data.items() if name != "usage"}, event.name)
    return event


def _with_null(event: Event) -> Event:
    if isinstance(event.data, dict) and "choices" in event.data and "usage" not in event.data:
        return Event({**event.data, "usage": None}, event.name)
    return event
