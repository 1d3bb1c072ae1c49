"""The schema of the usage record, as docs/record.md states it."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

DOCUMENT = (Path(__file__).parents[1] / "docs" / "record.md").read_text("utf-8")
TAG = "attribution.tag."
TYPES = {"string": str, "int": int, "double": float, "boolean": bool, "string[]": (tuple, list)}


def _written_out(name: str) -> list[str]:
    parts = [part.split(",") for part in re.split(r"[{}]", name)]
    return ["".join(chosen) for chosen in itertools.product(*parts)]


def _rows() -> dict[str, tuple[str, ...]]:
    section = DOCUMENT.split("\n## Attributes\n")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line[1:-1].split("|")] for line in section.splitlines() if line.startswith("| `")]
    return {name: tuple(row[1:]) for row in rows for name in _written_out(row[0].strip("`"))}


ROWS = _rows()
"""Type, unit, when present and source, by attribute."""
ALWAYS = {name for name, row in ROWS.items() if row[2] == "always"}


def strangers(records: Iterable[Mapping[str, Any]]) -> list[str]:
    """What records say that the document does not: names, types, and what is missing though it is always there."""
    found = set()
    for record in records:
        found |= {f"{name} is missing" for name in ALWAYS - record.keys()}
        for name, value in record.items():
            row = ROWS.get(f"{TAG}<key>" if name.startswith(TAG) else name)
            if row is None:
                found.add(f"{name} is not in docs/record.md")
            elif not any(_is(value, kind) for kind in row[0].split(", ")):
                found.add(f"{name} is of type {type(value).__name__}")
    return sorted(found)


def _is(value: Any, kind: str) -> bool:
    return isinstance(value, TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))
