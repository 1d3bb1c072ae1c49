"""What no client of the provider may send: our own names, object representations, incomplete bodies."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# Identity never travels to the model provider, neither as the keyword's fields nor as baggage of the attribution.
_OURS: Final = re.compile(r"usage_metadata|organization_id|subscriber_|attribution\.\w")
_OURS_BYTES: Final = re.compile(_OURS.pattern.encode())
_OUR_KEY: Final = re.compile(r"(?:usage_metadata|organization_id|subscriber_\w*|attribution\..+)$")
# What Python writes for a value that was never meant as text: the SDK's sentinels, objects, dictionaries.
_REPR: Final = re.compile(r"<[^<>]* at 0x[0-9a-fA-F]+>|<class '|<openai|NOT_GIVEN|NotGiven|Omit\(|\{'|Attribution\(")
# A JSON schema of the application's own may call its fields as it likes.
_SCHEMAS: Final = frozenset({"tools", "functions", "response_format", "text"})

REQUIRED: Final[Mapping[str, tuple[tuple[str, ...], ...]]] = {
    "/chat/completions": (("model",), ("messages",)),
    "/responses": (("model", "prompt"), ("input", "prompt", "previous_response_id", "conversation")),
    "/embeddings": (("model",), ("input",)),
}
"""For each path the fields of its body: of each group one must be there."""


def violations(
    route: str, query: Mapping[str, str], headers: Mapping[str, str], body: bytes, payload: Any
) -> Iterator[str]:
    """Say what is wrong with a request.

    Args:
        route: The path below the API's root.
        query: The query of the URL.
        headers: Names in lower case.
        body: The body as it came.
        payload: The body decoded, None where it is not JSON.
    """
    for name, value in headers.items():
        if _REPR.search(value):
            yield f"the header {name} holds a Python object: {value[:80]}"
        if _OURS.search(name) or _OURS.search(value) or _OURS.search(name.replace("-", "_")):
            yield f"the header {name} carries attribution"
    for name in query:
        if _OUR_KEY.match(name):
            yield f"the query carries attribution: {name}"
    if _OURS_BYTES.search(body):  # the walk only where there can be something to find
        found = _our_keys(payload) if payload is not None else [str(_OURS_BYTES.findall(body)[0], "ascii")]
        for key in found:
            yield f"the body carries attribution: {key}"
    required = REQUIRED.get(route)
    if required is None:
        return
    if not headers.get("content-type", "").startswith("application/json") or not isinstance(payload, dict):
        yield "the body is not a JSON object"
        return
    for group in required:
        if not any(payload.get(field) for field in group):
            yield f"missing: {group[0]}"


def _our_keys(value: Any) -> Iterator[str]:
    """Our own names among the keys of a JSON value, at any depth, but not within schemas."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if _OUR_KEY.match(key):
                yield key
            elif key not in _SCHEMAS:
                yield from _our_keys(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _our_keys(inner)
