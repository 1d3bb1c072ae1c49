"""What stands in the three files: one row of a table for each column."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Final

from openai_metering.masking import mask

ORGANIZATION: Final = "organization"
SUBSCRIBER: Final = "subscriber"
CREDENTIAL: Final = "credential"

VALID_FROM: Final = "valid_from"
VALID_TO: Final = "valid_to"
FREE: Final = ("external.", "meta.")
"""How the names of further columns begin: ids in other systems, and whatever else is to be kept."""
SEPARATOR: Final = ";"
"""Between the subscribers who share a credential."""

_SHOWN: Final = 80


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a file, and what its cells may hold."""

    name: str
    doc: str
    refers: str | None = None
    """The kind whose id it names."""
    many: bool = False
    allowed: tuple[str, ...] = ()
    pattern: re.Pattern[str] | None = None
    wanted: str = ""
    """The pattern in words."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One file; its first column is the id."""

    name: str
    file: str
    columns: tuple[Column, ...]

    @property
    def key(self) -> str:
        """The column that holds the id."""
        return self.columns[0].name

    @property
    def header(self) -> tuple[str, ...]:
        """The columns that every such file has, in order."""
        return tuple(column.name for column in self.columns)


_PERIOD: Final = (
    Column(VALID_FROM, "date or time from which on the row holds; blank: always"),
    Column(VALID_TO, "date or time from which on it no longer holds; blank: until further notice"),
)
_NAME: Final = Column("name", "what people read; blank: the id")

KINDS: Final = {
    kind.name: kind
    for kind in (
        Kind(
            ORGANIZATION,
            "organizations.csv",
            (
                Column("id", "as it stands in `attribution.organization.id`"),
                _NAME,
                Column("kind", "blank: customer", allowed=("customer", "internal")),
                Column("parent", "id of the organization above it", refers=ORGANIZATION),
                *_PERIOD,
            ),
        ),
        Kind(
            SUBSCRIBER,
            "subscribers.csv",
            (
                Column("id", "as it stands in `attribution.subscriber.id`, usually an e-mail address"),
                _NAME,
                Column("organization", "id of the organization", refers=ORGANIZATION),
                Column("status", "blank: active", allowed=("active", "suspended", "closed")),
                *_PERIOD,
            ),
        ),
        Kind(
            CREDENTIAL,
            "credentials.csv",
            (
                Column("alias", "as it stands in `attribution.credential.id`; never the key"),
                Column("subscriber", "id of the subscriber; several who share it with `;` between", SUBSCRIBER, True),
                Column("organization", "id of the organization; blank: that of the subscriber", refers=ORGANIZATION),
                Column(
                    "fingerprint",
                    "what `openai-metering fingerprint` says of the key",
                    pattern=re.compile(r"[0-9a-f]{16}\Z"),
                    wanted="16 hexadecimal digits in lower case",
                ),
                Column("api_key_id", "the provider's id of the key"),
                Column("project", "the provider's id of the project"),
                *_PERIOD,
            ),
        ),
    )
}


def fold(text: str) -> str:
    """Return what two spellings of one id have in common: case, blanks and forms of one character do not count."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return " ".join(text.casefold().split())


def secret(kind: Kind, text: str) -> bool:
    """Say whether a cell is shaped like a key; among credentials bare hexadecimal or base64 text is, too."""
    return mask(text, credential=kind.name == CREDENTIAL) != text


def shown(text: str) -> str:
    """Quote a value for a message, with what could be a key masked and what would move the cursor written out."""
    return repr(mask(text[: 4 * _SHOWN], credential=True)[:_SHOWN])


def parts(column: Column, text: str) -> tuple[str, ...]:
    """Return the values in a cell: several where the column holds several."""
    if not column.many:
        return (text,) if text else ()
    return tuple(part for piece in text.split(SEPARATOR) if (part := piece.strip()))
