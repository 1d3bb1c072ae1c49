"""A JSON value that a simple JSON schema accepts."""

from __future__ import annotations

from typing import Any, Final

SCALARS: Final[dict[str, Any]] = {"string": "text", "integer": 7, "number": 1.5, "boolean": True, "null": None}
MAX_DEPTH: Final = 12  # schemas may refer to themselves


def filled(schema: dict[str, Any]) -> Any:
    """Return a value that a schema accepts.

    Args:
        schema: Objects, arrays, enumerations, alternatives, references into ``$defs``, scalars.
    """
    return _filled(schema, schema, 0)


def _filled(schema: dict[str, Any], root: dict[str, Any], depth: int) -> Any:  # noqa: PLR0911 - one for each form
    if depth > MAX_DEPTH:
        return None
    if "$ref" in schema:
        return _filled(_referred(schema["$ref"], root), root, depth + 1)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    for alternatives in ("anyOf", "oneOf", "allOf"):
        if schema.get(alternatives):
            first = min(schema[alternatives], key=lambda one: depth > 2 and one.get("type") != "null")  # noqa: PLR2004
            return _filled(first, root, depth + 1)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if isinstance(kind, list):
        kind = next((one for one in kind if one != "null"), "null")
    if kind == "object":
        return {name: _filled(inner, root, depth + 1) for name, inner in schema.get("properties", {}).items()}
    if kind == "array":
        return [_filled(schema.get("items") or {}, root, depth + 1) for _ in range(max(1, schema.get("minItems", 1)))]
    if kind in {"integer", "number"} and "minimum" in schema:
        return schema["minimum"]
    return SCALARS.get(kind)


def _referred(reference: str, root: dict[str, Any]) -> dict[str, Any]:
    found: Any = root
    for part in reference.lstrip("#/").split("/"):
        found = found[part] if part else found
    return found if isinstance(found, dict) else {}
