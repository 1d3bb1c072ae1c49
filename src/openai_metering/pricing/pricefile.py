"""A price file of the user's own: what calls cost us, and what our customers pay for them."""

from __future__ import annotations

import datetime as dt
import difflib
import hashlib
import re
import sys
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from openai_metering.pricing.amounts import PER, Rate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

STANDARD: Final = "standard"
BATCH: Final = "batch"
ANY: Final = "*"

_MATCHED: Final = ("organization", "model", "provider", "operation", "size", "quality")
_TABLES: Final = ("deployments", "hosts", "tools", "exchange")
_ENTRIES: Final = ("cost", "price")
_DIGITS: Final = 12
_TOOLS: Final = ("image_generation",)
_FIELDS: Final = (*_MATCHED, "tier", "window", "from", "until", "factor", *PER)
_TOP: Final = ("version", "currency", *_TABLES, *_ENTRIES)


class PriceFileError(ValueError):
    """A price file is not as it should be; the text names the file, the line, the field and what is allowed."""


@dataclass(frozen=True, slots=True)
class Call:
    """What an entry is matched with."""

    organization: str | None
    model: str | None
    provider: str | None
    operation: str | None
    size: str | None
    quality: str | None
    tier: str
    """``standard``, ``batch``, or another tier by its name."""
    window: str | None
    """The completion window of a background response, which is a discount."""
    day: dt.date


@dataclass(frozen=True, slots=True)
class Entry:
    """One ``[[cost]]`` or ``[[price]]``: which calls it is for, and either rates or a factor."""

    patterns: tuple[tuple[str, str], ...]
    tier: str
    window: str
    first: dt.date | None
    last: dt.date | None
    rates: Mapping[str, Rate] | None
    factor: Decimal | None

    def matches(self, call: Call) -> bool:
        """Whether the entry is for a call."""
        return (
            self.tier in (ANY, call.tier)
            and self.window in (ANY, call.window or "")
            and (self.first is None or call.day >= self.first)
            and (self.last is None or call.day <= self.last)
            and all(fnmatchcase((getattr(call, name) or "").lower(), pattern) for name, pattern in self.patterns)
        )


@dataclass(frozen=True, slots=True)
class PriceFile:
    """A price file that was read and checked."""

    version: str
    currency: str
    deployments: Mapping[str, str]
    hosts: Mapping[str, str]
    tools: Mapping[str, str]
    exchange: Mapping[str, Decimal]
    cost: tuple[Entry, ...]
    price: tuple[Entry, ...]

    @classmethod
    def load(cls, path: str | Path) -> PriceFile:
        """Read a file.

        Raises:
            PriceFileError: it cannot be read, is no TOML, or a field is not as it should be.
        """
        path = Path(path)
        try:
            return cls.parse(path.read_bytes().decode("utf-8"), path.name)
        except OSError as error:
            raise PriceFileError(f"{path}: {error.strerror or type(error).__name__}.") from error
        except UnicodeDecodeError as error:
            raise PriceFileError(f"{path.name}: not UTF-8. Save the file as UTF-8 text.") from error

    @classmethod
    def parse(cls, text: str, name: str) -> PriceFile:
        """Read the text of a file; its name is for messages."""
        return _Reader(text, name).read()


def _toml(text: str, name: str) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib  # noqa: PLC0415 - needed only where there is a price file
    else:
        try:
            import tomli as tomllib  # noqa: PLC0415
        except ModuleNotFoundError as error:
            raise PriceFileError(
                "Python 3.10 reads price files with tomli: pip install 'openai-metering[cost]'."
            ) from error
    try:
        return tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        raise PriceFileError(f"{name}: not TOML: {error}.") from error


_HEADER: Final = re.compile(r"\s*(\[\[?)\s*([A-Za-z_]+)\s*\]\]?\s*(#.*)?$")
_KEY: Final = re.compile(r"""\s*(?:"([^"]*)"|'([^']*)'|([A-Za-z0-9_-]+))\s*=""")


class _Reader:
    """Reads one file; knows in which line each field stands."""

    def __init__(self, text: str, name: str) -> None:
        self._name = name
        self._text = text
        self._lines: dict[tuple[str, int, str], int] = {}
        counts: dict[str, int] = {}
        table, index = "", 0
        for number, line in enumerate(text.splitlines(), 1):
            if header := _HEADER.match(line):
                table = header[2]
                index = counts[table] = counts.get(table, 0) + 1
                self._lines[table, index, ""] = number
            elif key := _KEY.match(line):
                self._lines.setdefault((table, index, next(filter(None, key.groups()), "")), number)

    def read(self) -> PriceFile:
        document = _toml(self._text, self._name)
        for key in document:
            if key not in _TOP:
                self._fail(("", 0, key), "is not known" + _suggestion(key, _TOP))
        digest = hashlib.sha256(self._text.encode()).hexdigest()[:12]
        tables: dict[str, dict[str, str]] = {name: self._table(document, name) for name in _TABLES}
        for tool in tables["tools"]:
            if tool not in _TOOLS:
                self._fail(("tools", 1, tool), "is not known" + _suggestion(tool, _TOOLS))
        currency = self._currency(("", 0, "currency"), document.get("currency", "USD"))
        exchange = {}
        for code, rate in tables["exchange"].items():
            self._currency(("exchange", 1, code), code)
            exchange[code] = self._number(("exchange", 1, code), rate)
        entries = {name: self._entries(document, name) for name in _ENTRIES}
        return PriceFile(
            version=self._word(("", 0, "version"), document.get("version", f"sha256:{digest}")),
            currency=currency,
            deployments={name.lower(): model for name, model in tables["deployments"].items()},
            hosts={host.lower(): provider for host, provider in tables["hosts"].items()},
            tools=tables["tools"],
            exchange=exchange,
            cost=entries["cost"],
            price=entries["price"],
        )

    def _entries(self, document: Mapping[str, Any], table: str) -> tuple[Entry, ...]:
        found = document.get(table, [])
        if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
            self._fail((table, 1, ""), f"must be written as [[{table}]], once for each entry")
        return tuple(self._entry(table, number, fields) for number, fields in enumerate(found, 1))

    def _entry(self, table: str, number: int, fields: Mapping[str, Any]) -> Entry:
        for key in fields:
            if key not in _FIELDS:
                self._fail((table, number, key), "is not known" + _suggestion(key, _FIELDS))

        def read(key: str, reader: Callable[[tuple[str, int, str], Any], Any], default: Any = None) -> Any:
            return reader((table, number, key), fields[key]) if key in fields else default

        rates = {key: read(key, self._rate) for key in PER if key in fields}
        factor = read("factor", self._number)
        if bool(rates) == (factor is not None):
            self._fail(
                (table, number, ""), "needs either rates, e.g. input_mtok = 2.50, or a factor, e.g. factor = 1.2"
            )
        first, last = read("from", self._date), read("until", self._date)
        if first is not None and last is not None and first > last:
            self._fail((table, number, "until"), "is before `from`")
        return Entry(
            patterns=tuple((key, read(key, self._word).lower()) for key in _MATCHED if key in fields),
            # Rates are those of one tier; a discount or a surcharge is on whatever the tier's rates come to.
            tier=read("tier", self._word, STANDARD if rates else ANY),
            window=read("window", self._word, "" if rates else ANY),
            first=first,
            last=last,
            rates=rates or None,
            factor=factor,
        )

    def _table(self, document: Mapping[str, Any], name: str) -> dict[str, str]:
        found = document.get(name, {})
        if not isinstance(found, dict):
            self._fail((name, 1, ""), f"must be a table: [{name}]")
        return {key: value if name == "exchange" else self._word((name, 1, key), value) for key, value in found.items()}

    def _rate(self, place: tuple[str, int, str], value: Any) -> Rate:
        if not isinstance(value, dict):
            return Rate(self._number(place, value))
        above = value.get("above")
        if set(value) != {"base", "above"} or not isinstance(above, dict) or not above:
            self._fail(place, "must be a number, or { base = 2.50, above = { 272000 = 5.00 } }")
        for start in above:
            if not (start.isascii() and start.isdigit()):
                self._fail(place, f"has {start!r} under `above`; write a number of input tokens, e.g. 272000")
        steps = sorted((int(start), self._number(place, price)) for start, price in above.items())
        return Rate(self._number(place, value["base"]), tuple(steps))

    def _number(self, place: tuple[str, int, str], value: Any) -> Decimal:
        number = None
        if isinstance(value, (str, int, Decimal)) and not isinstance(value, bool):
            try:
                number = Decimal(value)
            except InvalidOperation:
                number = None
        if number is None or not number.is_finite() or number < 0 or number.adjusted() > _DIGITS:
            self._fail(place, f"is {str(value)[:40]!r}; write a decimal number from 0, e.g. 2.50")
        return number

    def _word(self, place: tuple[str, int, str], value: Any) -> str:
        if isinstance(value, (dt.date, int)) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str) or not value.strip():
            self._fail(place, f"must be text in quotes, not {type(value).__name__} or blank")
        return value.strip()

    def _currency(self, place: tuple[str, int, str], value: Any) -> str:
        if not isinstance(value, str) or not re.fullmatch("[A-Z]{3}", value):
            self._fail(place, f"is {str(value)[:40]!r}; write the three letters of ISO 4217, e.g. EUR")
        return value

    def _date(self, place: tuple[str, int, str], value: Any) -> dt.date:
        if isinstance(value, str):
            try:
                value = dt.date.fromisoformat(value)
            except ValueError:
                value = None
        if isinstance(value, dt.datetime) or not isinstance(value, dt.date):
            self._fail(place, "must be a day, e.g. 2026-07-01")
        return value

    def _fail(self, place: tuple[str, int, str], problem: str) -> NoReturn:
        table, number, key = place
        line = self._lines.get(place) or self._lines.get((table, number, ""))
        where = "" if line is None else f", line {line}"
        entry = f"[[{table}]] {number}" if table in _ENTRIES else f"[{table}]" if table else ""
        end = "" if problem.endswith("?") else "."
        raise PriceFileError(f"{self._name}{where}: {' '.join(filter(None, (entry, key)))} {problem}{end}")


def _suggestion(name: str, known: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(known)}"
