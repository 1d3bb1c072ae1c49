"""A usage record as one line of OTLP JSON."""

from __future__ import annotations

import functools
import json
import math
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MAX_INT: Final = 2**63 - 1

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


# As protobuf's JSON writes what JSON has no number for.
_NOT_FINITE: Final = {math.inf: "Infinity", -math.inf: "-Infinity"}


def otlp_value(value: Any) -> dict[str, Any]:
    """Return a value as OTLP's JSON writes it: 64-bit integers are decimal text."""
    if isinstance(value, str):
        return {"stringValue": value}
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(int(value))} if -(2**63) <= value < 2**63 else {"stringValue": str(int(value))}
    if isinstance(value, float):
        return {"doubleValue": value if math.isfinite(value) else _NOT_FINITE.get(value, "NaN")}
    return {"arrayValue": {"values": [otlp_value(item) for item in value]}}


_text = json.encoder.encode_basestring  # the C function behind `ensure_ascii=False`


@functools.lru_cache(maxsize=1024)
def _opening(key: str) -> str:
    return f'{{"key":{_text(key)},"value":'


@functools.lru_cache(maxsize=1024)
def _opening_text(key: str) -> str:
    return f'{_opening(key)}{{"stringValue":'


@functools.lru_cache(maxsize=1024)
def _opening_number(key: str) -> str:
    return f'{_opening(key)}{{"intValue":"'


def encoded_attributes(attributes: Mapping[str, Any]) -> str:
    """Encode attributes as `otlp_attributes` and JSON would, without the dictionaries in between: 8 us instead of 27."""
    parts = []
    for key, value in attributes.items():
        kind = type(value)
        if kind is str:
            parts.append(f"{_opening_text(key)}{_text(value)}}}}}")
        elif kind is int and 0 <= value <= MAX_INT:
            parts.append(f'{_opening_number(key)}{value}"}}}}')
        else:
            parts.append(f"{_opening(key)}{_encode(otlp_value(value))}}}")
    return f"[{','.join(parts)}]"


def otlp_attributes(attributes: Iterable[tuple[str, Any]]) -> list[dict[str, Any]]:
    """Return attributes as OTLP's JSON writes them."""
    return [{"key": key, "value": otlp_value(value)} for key, value in attributes]


class Lines:
    """Makes lines; what is the same in all of them is encoded once.

    Args:
        resource: attributes of the resource that the records are of.
        scope: name and version of the instrumentation.
        schema_url: of the names in use.
    """

    def __init__(self, resource: Mapping[str, Any], scope: tuple[str, str], schema_url: str) -> None:
        head = {"resource": {"attributes": otlp_attributes(resource.items())}}
        name = {"name": scope[0], "version": scope[1]}
        self._before = f'{{"resourceLogs":[{_encode(head)[:-1]},"scopeLogs":[{{"scope":{_encode(name)},"logRecords":['
        self._after = f'],"schemaUrl":{_encode(schema_url)}}}]}}]}}\n'

    def line(self, record: Mapping[str, Any], attributes: Mapping[str, Any] | None = None) -> bytes:
        """Return the line of one record.

        Args:
            record: a log record in OTLP's JSON form.
            attributes: its attributes by name, where the record does not hold them in that form itself.
        """
        encoded = _encode(record)
        if attributes is not None:
            encoded = f'{encoded[:-1]},"attributes":{encoded_attributes(attributes)}}}'
        return f"{self._before}{encoded}{self._after}".encode("utf-8", "backslashreplace")
