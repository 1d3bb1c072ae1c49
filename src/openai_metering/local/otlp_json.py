"""OTLP messages as the JSON that the Collector's file exporter writes, and back."""

from __future__ import annotations

import base64
import math
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from google.protobuf import json_format  # type: ignore[import-untyped, unused-ignore]

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.descriptor import (  # type: ignore[import-untyped, unused-ignore]
        Descriptor,
        FieldDescriptor,
    )
    from google.protobuf.message import Message  # type: ignore[import-untyped, unused-ignore]

    AnyMessage = TypeVar("AnyMessage", bound=Message)

ID_BYTES: Final = {"traceId": 16, "spanId": 8, "parentSpanId": 8}
"""The fields that are written in hexadecimal, where protobuf's JSON has base64."""
EXACT: Final = 2**53  # up to here a double is the integer it looks like
PLAIN_BELOW: Final = 1e21  # from here on the Collector writes an exponent
# google.protobuf.descriptor.FieldDescriptor.TYPE_*
_DOUBLES: Final = frozenset({1, 2})
_INTEGERS_64: Final = frozenset({3, 4, 6, 16, 18})
_MESSAGE: Final = 11
_BYTES: Final = 12
_REPEATED: Final = 3


class _Field(NamedTuple):
    name: str
    json_name: str
    convert: Callable[[Any], Any]
    repeated: bool
    optional: bool
    """Written if it is set, even to zero."""
    always: bool
    """Written even if it is empty: ``resource``, ``scope``, ``status``, ``body``, ``value``."""
    identifier: bool


def to_json(message: Message) -> dict[str, Any]:
    """Convert an OTLP message.

    Args:
        message: A request of the OTLP services, or any part of one.

    Returns:
        Names in lowerCamelCase, 64-bit integers as decimal text, enumerations as numbers, ids in hexadecimal, other bytes
        in base64. Empty fields are left out, but messages within messages are there even if empty, as the Collector has it.
    """
    written: dict[str, Any] = {}
    for field in _fields(message.DESCRIPTOR):
        if field.optional:
            if message.HasField(field.name):
                written[field.json_name] = field.convert(getattr(message, field.name))
            continue
        value = getattr(message, field.name)
        if field.repeated:
            if value:
                written[field.json_name] = [field.convert(item) for item in value]
        elif field.always or (any(value) if field.identifier else value):
            written[field.json_name] = field.convert(value)
    return written


def from_json(value: Any, message: AnyMessage) -> AnyMessage:
    """Fill a message from OTLP's JSON.

    Args:
        value: The decoded JSON.
        message: An empty message of the right kind.

    Returns:
        The message.

    Raises:
        ValueError: The JSON is no such message; the text says where.
    """
    if not isinstance(value, dict):
        raise ValueError("it is not an object")  # noqa: TRY004 - of the sender's JSON, like all others
    try:
        json_format.ParseDict(_base64_ids(value), message, ignore_unknown_fields=True)
    except json_format.ParseError as error:
        raise ValueError(str(error)) from error
    return message


def check_ids(message: Message) -> None:
    """Refuse ids of a wrong length, as the Collector does.

    Raises:
        ValueError: There is one; the text names it.
    """
    for field in _fields(message.DESCRIPTOR):
        if field.identifier:
            length = len(getattr(message, field.name))
            if length not in {0, ID_BYTES[field.json_name]}:
                raise ValueError(f"{field.json_name} has {length} bytes instead of {ID_BYTES[field.json_name]}")
        elif field.convert is to_json and (field.repeated or message.HasField(field.name)):
            value = getattr(message, field.name)
            for one in value if field.repeated else (value,):
                check_ids(one)


@cache
def _fields(descriptor: Descriptor) -> tuple[_Field, ...]:
    return tuple(map(_field, descriptor.fields))


def _field(field: FieldDescriptor) -> _Field:
    repeated = bool(getattr(field, "is_repeated", None) if hasattr(field, "is_repeated") else field.label == _REPEATED)
    is_message = field.type == _MESSAGE
    in_oneof = field.containing_oneof is not None
    return _Field(
        name=field.name,
        json_name=field.json_name,
        convert=_conversion(field),
        repeated=repeated,
        optional=in_oneof,
        always=is_message and not repeated and not in_oneof,
        identifier=field.type == _BYTES and field.json_name in ID_BYTES,
    )


def _conversion(field: FieldDescriptor) -> Callable[[Any], Any]:
    if field.type == _MESSAGE:
        return to_json
    if field.type in _INTEGERS_64:
        return str
    if field.type in _DOUBLES:
        return _number
    if field.type == _BYTES:
        return bytes.hex if field.json_name in ID_BYTES else _base64
    return _as_it_is


def _number(value: float) -> float | str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    if value.is_integer() and abs(value) < PLAIN_BELOW and (value or math.copysign(1, value) > 0):
        # The Collector writes 5, not 5.0, and the shortest digits of a large number, filled up with zeros.
        return int(value) if abs(value) < EXACT else int(Decimal(repr(value)))
    return value


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")


def _as_it_is(value: Any) -> Any:
    return value


def _base64_ids(value: Any) -> Any:
    """The same JSON with ids as protobuf's JSON has them."""
    if isinstance(value, list):
        return [_base64_ids(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {key: _base64_id(key, item) if key in ID_BYTES else _base64_ids(item) for key, item in value.items()}


def _base64_id(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{name} is not hexadecimal text")  # noqa: TRY004 - of the sender's JSON, like all others
    try:
        return _base64(bytes.fromhex(value))
    except ValueError as error:
        raise ValueError(f"{name} is not hexadecimal: {value[:40]}") from error
