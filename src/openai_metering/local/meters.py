"""The provider's own meters in the stand-in: usage and costs of the traffic that it really served."""

from __future__ import annotations

import hashlib
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

from openai_metering.local import wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from aiohttp import web

    from openai_metering.local.exchange import Exchange
    from openai_metering.local.journal import Journal, Served

ROUTE: Final = "/organization/"
ADMIN_KEY: Final = "sk-admin-standin"  # the one key that may ask
PROJECT: Final = "proj_default"
RATES: Final = {"input": 2, "cached input": 1, "output": 8}
"""What every model costs: dollars for a million tokens, by line item."""
_WIDTHS: Final = {
    "1m": (60, 60, 1440),
    "1h": (3600, 24, 168),
    "1d": (86_400, 7, 31),
}  # seconds, default and largest limit
_ADMIN_GROUPS: Final = frozenset({"project_id", "user_id", "api_key_id", "model", "batch", "service_tier", "line_item"})
_TOO_MANY: Final = 429


def api_key_id(key: str) -> str:
    """Return the id that the stand-in's account has for an API key."""
    return f"key_{hashlib.sha256(key.encode()).hexdigest()[:16]}"


def _tokens(served: Served) -> dict[str, int]:
    used = served.billed or {}
    details = used.get("prompt_tokens_details") or used.get("input_tokens_details") or {}
    return {
        "input_tokens": used.get("prompt_tokens", used.get("input_tokens", 0)),
        "output_tokens": used.get("completion_tokens", used.get("output_tokens", 0)),
        "input_cached_tokens": details.get("cached_tokens", 0),
        "num_model_requests": 1,
    }


def _input(served: Served) -> dict[str, int]:
    tokens = _tokens(served)
    return {"input_tokens": tokens["input_tokens"], "num_model_requests": 1}


_COMPLETIONS: Final = ("chat", "responses", "completions", "compact", "runs", "agents")
METERS: Final[dict[str, tuple[tuple[str, ...], Callable[[Served], dict[str, int]]]]] = {
    "completions": (_COMPLETIONS, _tokens),
    "embeddings": (("embeddings",), _input),
    "moderations": ((), _input),
    "decisions": (("decisions",), _tokens),
    "images": (
        ("images",),
        lambda served: {"images": int((served.json or {}).get("n") or 1), "num_model_requests": 1},
    ),
    "audio_speeches": (
        ("speech",),
        lambda served: {"characters": len((served.json or {}).get("input", "")), "num_model_requests": 1},
    ),
    "audio_transcriptions": (
        ("transcripts", "translations"),
        lambda served: {"seconds": int((served.billed or {}).get("seconds", served.n)), "num_model_requests": 1},
    ),
    "vector_stores": ((), lambda _: {"usage_bytes": 0}),
    "code_interpreter_sessions": (("containers",), lambda _: {"num_sessions": 1}),
    "file_search_calls": (("searches",), lambda _: {"num_requests": 1}),
    "web_search_calls": ((), lambda _: {"num_requests": 1, "num_model_requests": 1}),
}
"""By the name of the endpoint: the kinds of answers that are metered there, and what each counts."""
_OBJECTS: Final = {"file_search_calls": "file_searches", "web_search_calls": "web_searches"}


class Meters:
    """Answers ``admin.organization.usage.*`` and its ``costs``, page by page.

    Args:
        journal: what was served.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.clear()

    def clear(self) -> None:
        """Forget what was asked for and how to answer it."""
        self.busy = 0
        """How many of the next requests are refused because there are too many of them."""
        self.hidden = 0.0
        """Seconds for which what was served does not show yet."""
        self.asked: list[str] = []
        """The paths that were asked for, in order."""

    def answer(self, exchange: Exchange) -> web.Response:
        """Answer a request for usage or costs."""
        route, query = exchange.place.route, exchange.request.query
        if exchange.headers.get("authorization") != f"Bearer {ADMIN_KEY}":
            return exchange.whole(wire.error(401, "not an admin key", "invalid_api_key"), 401)
        if self.busy:
            self.busy -= 1
            return exchange.whole(wire.error(_TOO_MANY, "too many requests"), _TOO_MANY, {"retry-after-ms": "10"})
        self.asked.append(route)
        name = route.rpartition("/")[2]
        width, limit, largest = _WIDTHS[query.get("bucket_width", "1d")]
        limit = int(query.get("limit", limit))
        start = int(query["start_time"])
        end = int(query.get("end_time", int(time.time()) + 1))
        groups = query.getall("group_by[]", query.getall("group_by", []))
        if limit > largest or set(groups) - _ADMIN_GROUPS or (name != "costs" and name not in METERS):
            return exchange.whole(wire.error(400, "a limit, group or meter that there is not", "invalid_request"), 400)
        first = int(query.get("page", start - start % width))
        bounds = list(range(first, end, width))
        make = _costs if name == "costs" else lambda own, by: _used(name, own, by)
        served: dict[int, list[Served]] = defaultdict(list)
        for one in self._journal.served:
            if one.kind and start <= one.time < end and self._shows(one):
                served[int(one.time - first) // width].append(one)
        data = [
            {"object": "bucket", "start_time": at, "end_time": at + width, "results": make(served[place], groups)}
            for place, at in enumerate(bounds[:limit])
        ]
        more = bounds[limit] if len(bounds) > limit else None
        page = {"object": "page", "data": data, "has_more": more is not None, "next_page": more and str(more)}
        return exchange.whole(page)

    def _shows(self, served: Served) -> bool:
        return time.time() - served.time >= self.hidden


def _labels(served: Served, groups: Iterable[str]) -> tuple[tuple[str, Any], ...]:
    key = served.headers.get("authorization", "").removeprefix("Bearer ")
    known = {
        "project_id": served.headers.get("openai-project", PROJECT),
        "api_key_id": api_key_id(key),
        "model": served.model,
        "user_id": "user-standin",
        "batch": served.kind == "batches",
        "service_tier": wire.TIER,
    }
    return tuple((name, known[name]) for name in groups if name in known)


def _used(name: str, served: list[Served], groups: list[str]) -> list[dict[str, Any]]:
    kinds, count = METERS[name]
    sums: dict[Any, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for one in served:
        if one.kind in kinds:
            for unit, number in count(one).items():
                sums[_labels(one, groups)][unit] += number
    kind = f"organization.usage.{_OBJECTS.get(name, name)}.result"
    return [{"object": kind, **dict(labels), **units} for labels, units in sums.items()]


def _costs(served: list[Served], groups: list[str]) -> list[dict[str, Any]]:
    sums: dict[Any, int] = defaultdict(int)
    for one in served:
        tokens = _tokens(one)
        cached = tokens["input_cached_tokens"]
        items = {"input": tokens["input_tokens"] - cached, "cached input": cached, "output": tokens["output_tokens"]}
        for item, number in items.items():
            labels = dict(_labels(one, groups)) | (
                {"line_item": f"{one.model}, {item}"} if "line_item" in groups else {}
            )
            sums[tuple(labels.items())] += number * RATES[item]
    return [
        {"object": "organization.costs.result", **dict(labels), "amount": {"currency": "usd", "value": micro / 10**6}}
        for labels, micro in sums.items()
    ]
