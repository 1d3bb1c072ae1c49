"""How much: what a provider's answer says was consumed, in every shape that is reported."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from openai_metering.masking import mask

if TYPE_CHECKING:
    from collections.abc import Mapping

    Number = int | float
    Rows = tuple[tuple[str, str], ...]

REPORTED: Final = "reported"
ESTIMATED: Final = "estimated"
UNKNOWN: Final = "unknown"
NOT_BILLED: Final = "not_billed"

REASONS: Final = {
    "not_sent": "the answer is complete and carries no usage",
    "invalid": "the answer carries usage that is not made of whole numbers",
    "closed_before_usage": "the caller left the stream before its usage was sent",
    "not_read": "the caller never read the answer's body",
    "not_observed": "the caller read raw bytes that are not in the coding which their header names",
    "cancelled": "the caller's task or thread was cancelled",
    "timeout": "no answer came in time",
    "connection": "the connection failed before an answer came",
    "cut": "the answer broke off",
    "failed": "the provider reported an error within its answer",
    "from_request": "the provider reports no usage for this kind of call: what was asked for is counted",
    "deferred": "the work goes on in the background and its usage comes later",
    "body_too_large": "the body is larger than what is kept for reading, and its two ends say no usage",
    "refused": "the provider refused the call",
    "internal": "the answer could not be observed",
    "under_way": "the call has not ended yet",
    "process_ended": "the process ended before the call did: a `started` record that nothing follows",
}
"""The closed set of reasons why a call has no reported usage."""

MAX_COUNT: Final = 2**63 - 1
MAX_DEPTH: Final = 6


@dataclass(frozen=True, slots=True)
class Usage:
    """What one call consumed, and how sure that is.

    Args:
        status: ``reported``, ``estimated``, ``unknown`` or ``not_billed``.
        reason: one of ``REASONS`` where the status is not ``reported``.
        counts: numbers by attribute name, e.g. ``gen_ai.usage.input_tokens``; whole ones, but for seconds. Totals are
            inclusive: cached tokens are part of the input, reasoning tokens part of the output.
    """

    status: str
    reason: str | None = None
    counts: Mapping[str, Number] = field(default_factory=dict)


@dataclass(slots=True)
class Answer:
    """What an answer has said so far; readers fill it in, from one body or from chunk after chunk."""

    counts: dict[str, Number] | None = None
    invalid: bool = False
    too_large: bool = False
    """Only parts of the answer were looked at."""
    raw: str | None = None
    """What usage objects said under names that no shape knows, as JSON."""
    response_id: str | None = None
    model: str | None = None
    service_tier: str | None = None
    fingerprint: str | None = None
    finish_reasons: tuple[str, ...] = ()
    finished: bool = False
    """The provider said that it is done: a finish reason, or a terminal event."""
    terminal: bool = False
    """After this event of a stream nothing that is billed can come."""
    unfinished: bool = False
    """A streamed answer has begun; where nothing says that it finished either, it was cut."""
    failed: str | None = None
    """The code of an error that the provider reported within its answer."""
    unconfirmed: dict[str, Number] | None = None
    """Running totals that become usage only when the provider confirms them at the end."""
    deferred: bool = False
    """The work goes on after the answer; its usage comes later."""
    job: str | None = None
    """The id of the work that may go on after its call."""
    step: str | None = None
    """The id of the part of that work which has ended, where parts are billed by themselves."""
    cancelled: bool = False
    """The provider stopped the work because somebody asked for it."""
    began: int | None = None
    """Nanoseconds since the epoch, by the provider's clock, when the work was ordered; and when it ended."""
    ended: int | None = None
    facts: dict[str, str] | None = None
    """Further attributes that decide about a price, e.g. the size of images."""


def part(source: Any, name: str) -> Any:
    """Return a field of an SDK model or of a mapping, ``None`` where it has none.

    Reads the instance's own dictionaries: a missing name takes pydantic's exception path otherwise, a third of the
    instructions of a metered call.
    """
    if type(source) is dict:
        return source.get(name)
    fields = getattr(source, "__dict__", None)
    if fields is None:
        return None
    value = fields.get(name)
    if value is None and name not in fields:
        extra = getattr(source, "__pydantic_extra__", None)
        if extra:
            return extra.get(name)
    return value


def text(value: Any) -> str | None:
    """The value where it is a text of sane length that can be sent, else nothing."""
    if type(value) is not str or not 0 < len(value) <= 256:  # noqa: PLR2004
        return None
    return value if value.isascii() else value.encode("utf-8", "replace").decode("utf-8")


_CODE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.:/-]{0,63}")


def code(value: Any) -> str | None:
    """The value where it is the code of an error, else nothing: never a sentence, and nothing shaped like a key."""
    return value if type(value) is str and _CODE.fullmatch(value) and mask(value, credential=True) == value else None


def count(value: Any) -> int | None:
    """The value as a count where it is one: a whole number from 0 to 2^63-1, also written as text or as a float.

    Compatible servers send all three; anything else is no number that a bill may rest on.
    """
    if type(value) is int:
        return value if 0 <= value <= MAX_COUNT else None
    if type(value) is float:
        return int(value) if value.is_integer() and 0 <= value <= MAX_COUNT else None
    if type(value) is str and value.isascii() and value.isdigit() and len(value) < 20:  # noqa: PLR2004
        return count(int(value))
    return None


def amount(value: Any) -> Number | None:
    """The value as an amount where it is one: a finite number from 0, also written as text, e.g. seconds."""
    if type(value) is str and 0 < len(value) <= 32:  # noqa: PLR2004
        try:
            value = float(value)
        except ValueError:
            return None
    if type(value) is float:
        return value if math.isfinite(value) and 0 <= value <= MAX_COUNT else None
    return count(value)


# -- Shapes: where a provider writes a number, and the name it gets --------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Amount:
    """The attribute of a number that need not be whole."""

    attribute: str


@dataclass(frozen=True, slots=True)
class Shape:
    """One shape of a usage object.

    Args:
        counts: its whole numbers, each with its attribute.
        amounts: its numbers that need not be whole, likewise.
        details: the objects inside it, with their shapes.
        also: what is understood and not recorded.
    """

    counts: Rows = ()
    amounts: Rows = ()
    details: tuple[tuple[str, Shape], ...] = ()
    also: tuple[str, ...] = ()
    rows: Mapping[str, str | _Amount | Shape | None] = field(init=False)
    """All of it by name: an attribute for a whole number, ``None`` for what is not recorded."""
    totals: frozenset[str] = field(init=False)
    """The attributes of its own numbers; usage that has none of them says nothing."""

    def __post_init__(self) -> None:
        rows: dict[str, str | _Amount | Shape | None] = dict.fromkeys(self.also)
        rows |= dict(self.counts)
        rows |= {name: _Amount(attribute) for name, attribute in self.amounts}
        rows |= dict(self.details)
        object.__setattr__(self, "rows", rows)
        object.__setattr__(self, "totals", frozenset((*dict(self.counts).values(), *dict(self.amounts).values())))

    @property
    def attributes(self) -> tuple[str, ...]:
        """Every attribute that is read from an object of this shape."""
        own = (attribute for _, attribute in (*self.counts, *self.amounts))
        return (*own, *(attribute for _, inner in self.details for attribute in inner.attributes))


def read_usage(answer: Answer, usage: Any, shape: Shape, *, add: bool = False) -> None:
    """Read a usage object into the answer.

    A total that is there but is no count makes the whole object invalid; a detail that is none is left out.

    Args:
        answer: filled in.
        usage: what stands in the place of usage; nothing happens where it is ``None``.
        shape: how it is read.
        add: the object is about a part of the answer, so that it is added to what was read before; else the last one
            counts.
    """
    if usage is None:
        return
    counts: dict[str, Number] = {}
    valid, unknown = _read(counts, usage, shape)
    if unknown:
        keep_raw(answer, unknown)
    if not valid or shape.totals.isdisjoint(counts):
        if not valid or not _is_empty(usage):
            answer.invalid = True
            answer.counts = None
        return
    if add and answer.counts is not None:
        add_counts(answer, counts)
    else:
        answer.counts = counts
    answer.invalid = False


def read_beside(answer: Answer, usage: Any, shape: Shape) -> None:
    """Read what was used beside the tokens of the model itself; what was not used is left out."""
    if usage is None:
        return
    counts: dict[str, Number] = {}
    _, unknown = _read(counts, usage, shape)
    if unknown:
        keep_raw(answer, unknown)
    used = {name: number for name, number in counts.items() if number}
    if used and not answer.invalid:
        add_counts(answer, used)


def _read(counts: dict[str, Number], source: Any, shape: Shape) -> tuple[bool, dict[str, Any] | None]:
    """Read an object by its shape: each of its fields once, since most shapes have more names than objects fields.

    Returns:
        Whether each number of its own is one; and what has a name that the shape does not know.
    """
    fields = _fields(source)
    valid, unknown, rows = True, None, shape.rows
    for name, value in fields.items() if fields is not None else ():
        if value is None:
            continue
        row = rows.get(name, False)
        if type(row) is str:
            number: Number | None = value if type(value) is int and 0 <= value <= MAX_COUNT else count(value)
            if number is None:
                valid = False
            else:
                counts[row] = number
        elif type(row) is Shape:
            found = _read(counts, value, row)[1]
            if found:
                unknown = {**(unknown or {}), name: found}
        elif type(row) is _Amount:
            number = amount(value)
            if number is None:
                valid = False
            else:
                counts[row.attribute] = number
        elif row is False:
            unknown = {**(unknown or {}), name: value}
    return valid, unknown


def _fields(source: Any) -> Mapping[str, Any] | None:
    """The fields of a mapping or of an SDK model, with those that the model does not know."""
    if type(source) is dict:
        return source
    fields: dict[str, Any] | None = getattr(source, "__dict__", None)
    extra = getattr(source, "__pydantic_extra__", None)
    return {**fields, **extra} if fields is not None and extra else fields


def add_counts(answer: Answer, counts: Mapping[str, Number]) -> None:
    """Add numbers to those of the answer."""
    known = answer.counts if answer.counts is not None else {}
    answer.counts = known | {name: min(known.get(name, 0) + number, MAX_COUNT) for name, number in counts.items()}


def _is_empty(usage: Any) -> bool:
    """Whether a usage object says nothing at all, as ``{}`` does."""
    fields = _fields(usage)
    return fields is not None and all(value is None for value in fields.values())


# -- What no shape knows ---------------------------------------------------------------------------------------------

MAX_RAW: Final = 1024


def keep_raw(answer: Answer, values: Mapping[str, Any]) -> None:
    """Keep values as JSON: name by name, as long as the text fits; of texts only such as are identifiers or numbers."""
    kept: list[str] = []
    room = MAX_RAW - 2
    for name in sorted(values):
        value = _without_prose(values[name])
        if value is None:
            continue
        try:
            pair = json.dumps({name: value}, separators=(",", ":"), allow_nan=False)[1:-1]
        except (TypeError, ValueError, RecursionError):
            continue
        if len(pair) < room:
            kept.append(pair)
            room -= len(pair) + 1
    if kept:
        answer.raw = mask("{" + ",".join(kept) + "}")


_WORD: Final = re.compile(r"[A-Za-z0-9_.:/+-]{1,64}")


def _without_prose(value: Any, depth: int = 0) -> Any:
    """A value without what could be a text of the prompt or the answer; ``None`` where nothing is left."""
    if isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, str):
        return value if _WORD.fullmatch(value) else None
    if depth >= MAX_DEPTH:
        return None
    if isinstance(value, (list, tuple)):
        items = [item for item in (_without_prose(item, depth + 1) for item in value) if item is not None]
        return items or None
    fields = _fields(value)
    if fields is None:
        return None
    kept = {
        str(name): item
        for name, field in fields.items()
        if _WORD.fullmatch(str(name)) and (item := _without_prose(field, depth + 1)) is not None
    }
    return kept or None
