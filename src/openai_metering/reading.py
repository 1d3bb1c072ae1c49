"""Reads what an application says about who a call is for: names, types, lengths, secrets."""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Mapping
from typing import Any, Final

from openai_metering.errors import warn_once
from openai_metering.masking import mask
from openai_metering.spellings import CANONICAL, CREDENTIAL, RANK, meant

TagValue = str | bool | int | float

MAX_VALUE_LENGTH: Final = 256
MAX_TAGS: Final = 32
MAX_TAG_KEY_LENGTH: Final = 64


class _Limits:
    """How much of what an application says is kept; set by ``instrument()`` from the settings."""

    __slots__ = ("tags", "value_length")

    def __init__(self) -> None:
        self.value_length = MAX_VALUE_LENGTH
        self.tags = MAX_TAGS


limits: Final = _Limits()


class Clear(enum.Enum):
    """The type of ``CLEAR``."""

    CLEAR = "clear"

    def __repr__(self) -> str:
        return "CLEAR"


CLEAR: Final = Clear.CLEAR
"""In the place of a value: the field is unknown here, whatever sources of a lower rank say."""

_LAST_WORD: Final = re.compile(r"[\w.~+/=-]+\Z")


def flat(values: Mapping[Any, Any]) -> list[tuple[str, object]]:
    """The pairs of the mapping, a nested ``subscriber`` and its ``credential`` written out with dots."""
    pairs: list[tuple[str, object]] = []
    for key, value in values.items():
        if not isinstance(key, str):
            warn_once(
                "attribution.key", "Names in usage_metadata are text; one of type %s was ignored.", type(key).__name__
            )
        elif key == "subscriber" and isinstance(value, Mapping):
            for part, inner in value.items():
                if part == "credential" and isinstance(inner, Mapping):
                    pairs.extend((f"subscriber.credential.{name}", item) for name, item in inner.items())
                elif part == "credential":
                    pairs.append((CREDENTIAL, inner))
                else:
                    pairs.append((f"subscriber.{part}", inner))
        else:
            pairs.append((key, value))
    return pairs


class Reading:
    """What has been read so far of one attribution."""

    __slots__ = ("cleared", "cut", "levels", "odd", "tags")

    def __init__(self) -> None:
        self.levels: dict[str, tuple[int, str]] = {}
        self.tags: dict[str, TagValue] = {}
        self.cleared: set[str] | None = None
        self.cut: set[str] | None = None
        self.odd = False
        """Something was masked, cut or complained of: no secret is remembered, and no complaint forgotten."""

    def clear(self, name: str) -> None:
        """Note that a field is unknown, whatever is said elsewhere."""
        self.cleared = (self.cleared or set()) | {name}

    def level(self, name: str, key: str, value: object) -> None:
        """Read one spelling of a level."""
        if value is None:
            return
        if isinstance(value, str):
            text = self.clean(value, name, credential=name == CREDENTIAL)
            if text and (name not in self.levels or RANK[key] < self.levels[name][0]):
                self.levels[name] = (RANK[key], text)
        elif value is CLEAR:
            self.clear(name)
        else:
            warn_once(
                f"attribution.{name}",
                "%s takes text; a value of type %s was ignored, so the call counts without it.",
                key,
                type(value).__name__,
            )

    def other(self, key: str, value: object) -> bool:
        """Read a name that is no level's own. Returns whether it was one all the same: a header in capitals."""
        name = meant(key)
        if name is None or value is None:
            return False
        self.odd = True
        if key[:2] == "X-" and key.lower() in CANONICAL:
            self.level(name, key.lower(), value)
            return True
        warn_once(
            f"attribution.near.{name}",
            "%s in usage_metadata is kept as a tag; what it seems to mean is called %s.",
            mask(key[:MAX_TAG_KEY_LENGTH]),
            name,
        )
        return False

    def tag(self, key: object, value: object) -> None:
        """Read a tag."""
        if value is None or not isinstance(key, str):
            return
        key = self.clean(key, "tags", credential=False)[:MAX_TAG_KEY_LENGTH]
        if not key:
            return
        if isinstance(value, str):
            value = self.clean(value, key, credential=False)
            if not value:
                return
        elif isinstance(value, float) and not math.isfinite(value):
            value = str(value)
        elif isinstance(value, int) and not -(2**63) <= value < 2**63:
            value = str(int(value))
        elif value is CLEAR:
            self.clear(key)
            return
        elif not isinstance(value, (bool, int, float)):
            warn_once(
                "attribution.tag",
                "Tag values are text, numbers or booleans; one of type %s was ignored.",
                type(value).__name__,
            )
            return
        if len(self.tags) >= limits.tags and key not in self.tags:
            self.odd = True
            warn_once(
                "attribution.tags", "At most %d tags are kept for a call; further ones were left out.", limits.tags
            )
            self.cut = (self.cut or set()) | {"tags"}
            return
        self.tags[key] = value

    def clean(self, value: str, name: str, *, credential: bool) -> str:
        """Trim, mask and cut a text that belongs to a field."""
        text = value.strip()
        if not text.isascii():  # half of a surrogate pair cannot be sent: OpenTelemetry would drop the attribute
            text = text.encode("utf-8", "replace").decode("utf-8")
        longest = limits.value_length
        if len(text) <= longest:
            masked = mask(text, credential=credential)
            self.odd = self.odd or masked != text
            return masked
        self.odd = True
        # Masked before it is cut, so that no part of a key survives at the edge; nor at the edge of what is looked at.
        looked_at = text[: 4 * longest]
        if len(text) > len(looked_at):
            looked_at = _LAST_WORD.sub("", looked_at) or looked_at
        warn_once("attribution.length", "Attribution values are cut after %d characters.", longest)
        self.cut = (self.cut or set()) | {name}
        return mask(looked_at, credential=credential)[:longest]
