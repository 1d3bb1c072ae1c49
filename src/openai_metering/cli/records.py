"""Usage records as they lie in files: OTLP JSON lines in, one typed row per record out."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, get_args

from openai_metering.cli.failure import Failure
from openai_metering.ledger.files import living_processes, process_of
from openai_metering.signals import conventions as names

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

State: TypeAlias = Literal["started", "pending", "final"]
AttributionStatus: TypeAlias = Literal["unattributed", "partial", "complete"]
UsageStatus: TypeAlias = Literal["unknown", "not_billed", "estimated", "reported"]

STATES: Final[tuple[State, ...]] = get_args(State)
ATTRIBUTION_STATUSES: Final[tuple[AttributionStatus, ...]] = get_args(AttributionStatus)
USAGE_STATUSES: Final[tuple[UsageStatus, ...]] = get_args(UsageStatus)

# A line longer than this is not a line: a file without line ends must not be held in memory whole.
MAX_LINE_BYTES: Final = 64 * 1024 * 1024

QUARANTINE_REASON: Final = "openai_metering.quarantine.reason"
"""What the gateway writes on a record that breaks the contract: such a record is never in the bill."""

_MAX_INT64: Final = 2**63 - 1
_MAX_UINT64: Final = 2**64 - 1
_MAX_DIGITS: Final = len(str(_MAX_UINT64))
_RECORDS_START: Final = b'{"resourceLogs"'
# Spans, metrics and profiles of the same folder are recognised by their first bytes and never decoded.
_OTHER_SIGNALS: Final = (b'{"resourceSpans"', b'{"resourceMetrics"', b'{"resourceProfiles"')

_OTHER_ROOTS: Final = frozenset({"resourceSpans", "resourceMetrics", "resourceProfiles"})

TORN: Final = "torn, or not JSON"


class Quarantined(str):
    """Stands where a problem does: the record can be read and must not be billed; the text is the gateway's reason."""

    __slots__ = ()


_WRONG_SHAPE: Final = (AttributeError, KeyError, TypeError)  # a list where a map should be, or the reverse


@dataclass(frozen=True, slots=True)
class UsageRow:
    """One usage record, with what a report can show of it."""

    record_id: str
    state: State
    time_unix_nano: int | None
    attribution: AttributionStatus
    organization: str | None
    subscriber: str | None
    credential: str | None
    tags: tuple[tuple[str, str], ...]
    operation: str | None
    provider: str | None
    model: str | None
    """The model that answered; the one asked for when no answer named one."""
    usage: UsageStatus
    reason: str | None
    input_tokens: int | None
    cached_tokens: int | None
    """Part of the input tokens."""
    output_tokens: int | None
    reasoning_tokens: int | None
    """Part of the output tokens."""
    started_id: str | None = None
    """The `started` record that this one replaces, where it has another id."""
    facts: tuple[tuple[str, str], ...] = ()
    """What decides about its price, where that is asked for: attributes as text, sorted."""
    account: str | None = None
    """The organization at the top of the hierarchy, where a directory says so; no record does."""
    weight: int = 1
    """How many calls it stands for: calls that are alike can be one row, with the sums of their tokens."""


@dataclass(frozen=True, slots=True)
class Line:
    """What one line of a file held."""

    file: Path
    number: int
    size: int
    rows: tuple[UsageRow, ...]
    problem: str | None
    """What could not be read, in words that quote nothing of the line."""
    quarantined: tuple[str, ...] = ()
    """The reason of each record that is in quarantine; none of them is among the rows."""
    foreign: bool = False
    """It is JSON, and no signal of OTLP."""


def read(files: Iterable[Path], facts: frozenset[str] = frozenset()) -> Iterator[Line]:
    """Read files line by line; no more than one line is in memory.

    Args:
        files: the files, read in this order.
        facts: names of further attributes that are kept.

    Yields:
        Every line, also those that hold no usage record.

    Raises:
        Failure: when a file cannot be opened or read.
    """
    living: dict[Path, set[str]] = {}
    for file in files:
        if file.parent not in living:
            living[file.parent] = living_processes(file.parent)
        lives = process_of(file) in living[file.parent]
        try:
            with file.open("rb") as stream:
                number = 0
                while line := stream.readline(MAX_LINE_BYTES):
                    number += 1
                    size = len(line)
                    if size == MAX_LINE_BYTES and not line.endswith(b"\n"):
                        while (rest := stream.readline(MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
                            size += len(rest)
                        yield Line(file, number, size + len(rest), (), "longer than any line of usage records")
                        continue
                    rows, problem, quarantined, foreign = _parsed(line, facts)
                    if not lives:
                        rows = tuple(_ended(row) for row in rows)
                    yield Line(file, number, size, rows, problem, quarantined, foreign)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise Failure(
                f"cannot read {file}: {reason}. Nothing was reported; put that right and run again."
            ) from error


def _ended(row: UsageRow) -> UsageRow:
    """A call that was under way when its process ended: nobody will ever say what it used."""
    return replace(row, reason="process_ended") if row.state == "started" and row.reason == "under_way" else row


def parse(line: bytes, facts: frozenset[str] = frozenset()) -> tuple[tuple[UsageRow, ...], str | None]:
    """Read the usage records of one line.

    A line that was torn by the end of a process, with a whole one written behind it, still gives the whole one.

    Args:
        line: the line's bytes, with or without the line end.
        facts: names of further attributes that are kept.

    Returns:
        The usage records that could be read and are not in quarantine, and what could not be read, if anything.
    """
    return _parsed(line, facts)[:2]


def _parsed(line: bytes, facts: frozenset[str]) -> tuple[tuple[UsageRow, ...], str | None, tuple[str, ...], bool]:
    """Return records, problem, reasons of those in quarantine, and whether it is JSON of another kind."""
    if line.startswith(_OTHER_SIGNALS) or line.isspace() or not line:
        return (), None, (), False
    try:
        document = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError):
        start = line.rfind(_RECORDS_START)
        rows, _, held, _ = _parsed(line[start:], facts) if start > 0 else ((), None, (), False)
        return rows, TORN, held, False
    if not isinstance(document, dict):
        return (), "not a JSON object", (), False
    if "resourceLogs" not in document:
        return (), None, (), not _OTHER_ROOTS & document.keys()
    rows_read: list[UsageRow] = []
    quarantined: list[str] = []
    problem = None
    try:
        for record in _log_records(document):
            if record.get("eventName") != names.USAGE_EVENT:
                continue
            row, wrong = _row(record, facts)
            if isinstance(wrong, Quarantined):
                quarantined.append(wrong)
                continue
            problem = problem or wrong
            if row is not None:
                rows_read.append(row)
    except _WRONG_SHAPE:
        problem = "not the shape of OTLP logs"
    return tuple(rows_read), problem, tuple(quarantined), False


def _log_records(document: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    # An empty list may be absent or null in OTLP JSON.
    for resource_logs in document["resourceLogs"] or ():
        for scope_logs in resource_logs.get("scopeLogs") or ():
            yield from scope_logs.get("logRecords") or ()


class _WrongType(Exception):  # noqa: N818 - never leaves this module
    """A value is not of the type that its name promises."""


class _Fields:
    """The attributes of one record; a field of a wrong type is absent, and named in ``wrong``."""

    __slots__ = ("_record", "values", "wrong")

    def __init__(self, record: Mapping[str, Any]) -> None:
        self._record = record
        self.values: dict[str, Any] = {
            key: item.get("value") for item in record.get("attributes") or () if isinstance(key := item["key"], str)
        }
        self.wrong: list[str] = []

    def text(self, name: str) -> str | None:
        try:
            return _text(self.values.get(name))
        except _WrongType:
            self.wrong.append(name)
            return None

    def tokens(self, name: str) -> int | None:
        value = self.values.get(name)
        if value is None or value == {}:
            return None
        try:
            return _integer(value.get("intValue", value.get("doubleValue")), _MAX_INT64)
        except (AttributeError, _WrongType):
            self.wrong.append(name)
            return None

    def time(self, key: str) -> int | None:
        try:
            return _integer(self._record.get(key) or 0, _MAX_UINT64) or None  # in OTLP 0 is "not set"
        except _WrongType:
            self.wrong.append(key)
            return None


def _row(record: Mapping[str, Any], facts: frozenset[str]) -> tuple[UsageRow | None, str | None]:
    """Read one usage record; with a field of a wrong type the call is kept, as long as it can be counted once."""
    try:
        fields = _Fields(record)
    except _WRONG_SHAPE:
        return None, "a usage record whose attributes are not those of OTLP"
    if fields.values.get(QUARANTINE_REASON):
        return None, Quarantined(fields.text(QUARANTINE_REASON) or "no_reason")
    record_id = fields.text(names.RECORD_ID)
    state = fields.text(names.RECORD_STATE) or "final"
    if record_id is None:
        return None, f"a usage record without {names.RECORD_ID}"
    if state not in STATES or fields.wrong:
        return None, f"a usage record whose {names.RECORD_STATE} is not understood"
    counts = (
        fields.tokens(names.INPUT_TOKENS),
        fields.tokens(names.CACHE_READ_INPUT_TOKENS),
        fields.tokens(names.OUTPUT_TOKENS),
        fields.tokens(names.REASONING_OUTPUT_TOKENS),
    )
    # Missing is not zero: with one count unreadable, how much was used is not known.
    usage, reason = ("unknown", "unreadable") if fields.wrong else _usage(fields)
    organization = fields.text(names.ORGANIZATION_ID)
    subscriber = fields.text(names.SUBSCRIBER_ID)
    credential = fields.text(names.CREDENTIAL_ID)
    attribution = fields.text(names.ATTRIBUTION_STATUS)
    row = UsageRow(
        record_id=record_id,
        state=state,
        time_unix_nano=fields.time("timeUnixNano") or fields.time("observedTimeUnixNano"),
        attribution=(
            attribution
            if attribution in ATTRIBUTION_STATUSES
            else attribution_status(organization, subscriber, credential)
        ),
        organization=organization,
        subscriber=subscriber,
        credential=credential,
        tags=_tags(fields.values),
        operation=fields.text(names.OPERATION),
        provider=fields.text(names.PROVIDER_NAME),
        model=fields.text(names.RESPONSE_MODEL) or fields.text(names.REQUEST_MODEL),
        usage=usage,
        reason=reason,
        input_tokens=counts[0],
        cached_tokens=counts[1],
        output_tokens=counts[2],
        reasoning_tokens=counts[3],
        started_id=fields.text(names.RECORD_STARTED_ID),
        facts=_facts(fields.values, facts) if facts else (),
    )
    return row, f"{fields.wrong[0]} has a wrong type" if fields.wrong else None


def _usage(fields: _Fields) -> tuple[UsageStatus, str | None]:
    status = fields.text(names.USAGE_STATUS)
    if status in USAGE_STATUSES:
        return status, fields.text(names.USAGE_REASON)
    return "unknown", "no_status" if status is None else "status_not_understood"


def row_of(record: Mapping[str, Any], facts: frozenset[str] = frozenset()) -> tuple[UsageRow | None, str | None]:
    """Read one usage record that is an OTLP JSON log record.

    Args:
        record: as it stands in a line.
        facts: names of further attributes that are kept.

    Returns:
        The record as far as it can be counted, and what could not be read; ``Quarantined`` where it must not be.
    """
    return _row(record, facts)


def _tags(values: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    tags = []
    for name, value in values.items():
        if name.startswith(names.TAG_PREFIX):
            try:
                tag = _text(value)
            except _WrongType:  # a list or a map cannot be grouped by
                continue
            if tag is not None:
                tags.append((sys.intern(name[len(names.TAG_PREFIX) :]), tag))
    return tuple(sorted(tags))


def facts_of(record: Mapping[str, Any], wanted: frozenset[str]) -> dict[str, str]:
    """Return attributes of an OTLP JSON log record as text; those that are no scalars, or not wanted, are left out.

    Raises:
        ValueError: the attributes are not those of OTLP.
    """
    try:
        return dict(_facts(_Fields(record).values, wanted))
    except _WRONG_SHAPE as error:
        raise ValueError("attributes that are not those of OTLP") from error


def _facts(values: Mapping[str, Any], wanted: frozenset[str]) -> tuple[tuple[str, str], ...]:
    found = []
    for name in values.keys() & wanted:
        try:
            text = _text(values[name])
        except _WrongType:
            continue
        if text is not None:
            found.append((sys.intern(name), text))
    return tuple(sorted(found))


def attribution_status(*levels: str | None) -> AttributionStatus:
    """Say how much is known of who: all three levels, some, or none."""
    known = sum(level is not None for level in levels)
    if known == len(levels):
        return "complete"
    return "partial" if known else "unattributed"


def _text(value: Any) -> str | None:
    """Return an OTLP scalar as text, absent when blank.

    Raises:
        _WrongType: when it is no scalar.
    """
    if value is None or value == {}:
        return None
    if not isinstance(value, dict):
        raise _WrongType("not an OTLP value")
    text = value.get("stringValue")
    if text is None:
        text = _scalar(value)
    if not isinstance(text, str):
        raise _WrongType("not text")
    if not text.isascii():
        text = text.encode("utf-8", "replace").decode("utf-8")  # half a surrogate pair cannot be printed
    text = text.strip()
    return sys.intern(text) if text else None


def _scalar(value: Mapping[str, Any]) -> str:
    if "intValue" in value:
        return str(_integer(value["intValue"], _MAX_INT64))
    flag = value.get("boolValue")
    if isinstance(flag, bool):
        return "true" if flag else "false"
    number = value.get("doubleValue")
    if isinstance(number, (int, float)) and not isinstance(number, bool):
        return repr(number)
    raise _WrongType("not a scalar")


def _integer(value: Any, largest: int) -> int:
    """Return an integer of OTLP JSON: decimal digits in a string, or a number.

    Raises:
        _WrongType: when it is anything else, negative or larger than its type holds.
    """
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= _MAX_DIGITS:
        number = int(value)
    elif isinstance(value, int) and not isinstance(value, bool):
        number = value
    elif isinstance(value, float) and value.is_integer() and abs(value) < 2**53:  # beyond it a double is not exact
        number = int(value)
    else:
        raise _WrongType("not an integer")
    if not 0 <= number <= largest:
        raise _WrongType("out of range")
    return number
