"""What: the table of billable operations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from openai_metering import usage

if TYPE_CHECKING:
    from collections.abc import Callable

    from openai_metering.usage import Answer

    Reader = Callable[[Answer, Any], None]


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """One kind of billable call. Compared by identity: a row is its own key.

    Args:
        name: the row's own name, ``openai_metering.operation``.
        method: HTTP method, upper case.
        path: resource path, as the SDK's methods spell it.
        kind: ``gen_ai.operation.name``.
        read: reads a whole answer.
        observe: reads one event of a streamed answer; ``None`` where there is no such form.
        api_type: ``openai.api.type`` where the convention has a value.
        asks_for_usage: whether a stream carries usage only with ``stream_options.include_usage``.
        billed: ``False`` for what only groups billed calls, such as a session: a span, and neither record nor metrics.
    """

    name: str
    method: str
    path: str
    kind: str
    read: Reader
    observe: Reader | None = None
    api_type: str | None = None
    asks_for_usage: bool = False
    billed: bool = True


CHAT_COMPLETIONS: Final = Operation(
    "chat.completions",
    "POST",
    "/chat/completions",
    kind="chat",
    read=usage.read_chat,
    observe=usage.observe_chat,
    api_type="chat_completions",
    asks_for_usage=True,
)
RESPONSES: Final = Operation(
    "responses",
    "POST",
    "/responses",
    kind="chat",
    read=usage.read_response,
    observe=usage.observe_response,
    api_type="responses",
)
EMBEDDINGS: Final = Operation("embeddings", "POST", "/embeddings", kind="embeddings", read=usage.read_embeddings)

OPERATIONS: Final = (CHAT_COMPLETIONS, RESPONSES, EMBEDDINGS)

_by_path: Final = {(row.method, row.path): row for row in OPERATIONS}


def find(method: str, url: str) -> Operation | None:
    """Return the row that a request belongs to, ``None`` for a free one.

    Args:
        method: HTTP method in any case.
        url: what the SDK was asked for: a resource path, or a whole URL as ``client.post`` accepts it.
    """
    row = _by_path.get((method.upper(), url))
    if row is not None or (url.startswith("/") and "?" not in url and url.count("/") <= 1):
        return row
    return _by_path.get((method.upper(), _resource_path(url)))


def _resource_path(url: str) -> str:
    """The path below the API's root: without host, version prefix, deployment and query."""
    try:
        path = urlsplit(url).path
    except ValueError:  # not a URL at all: the SDK says so to the caller
        return ""
    segments = [segment for segment in path.split("/") if segment]
    if "deployments" in segments[:-2]:
        segments = segments[segments.index("deployments") + 2 :]
    else:
        roots = [place for place, segment in enumerate(segments) if segment in ("v1", "openai")]
        segments = segments[roots[-1] + 1 :] if roots else segments
    return "/" + "/".join(segments)
