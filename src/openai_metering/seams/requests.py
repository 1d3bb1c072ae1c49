"""What a request asks for, as far as it is recorded."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from openai_metering.finished import Request
from openai_metering.masking import mask
from openai_metering.resolution import Attribution
from openai_metering.seams import carrier as carriers
from openai_metering.seams.carrier import KEYWORD
from openai_metering.spellings import CANONICAL
from openai_metering.usage import count, part, text

if TYPE_CHECKING:
    from openai_metering.operations import Operation


def body_of(options: Any) -> Mapping[str, Any]:
    """The body that will be sent, beside files too; ``extra_body`` is laid over it, as the SDK does later."""
    body = options.json_data
    if not isinstance(body, Mapping):
        body = {}
    extra = options.extra_json
    return {**body, **extra} if isinstance(extra, Mapping) and extra else body


def said_in_body(options: Any) -> Any:
    """Take who a call is for out of its body, where ``client.post`` or a framework has put the keyword there.

    Only an object that names one of the three levels: what else a server may call by this name is its own.

    Args:
        options: those of the request, whose body has something by the keyword's name.

    Returns:
        Options by which the call is for whom the body said, unless its method or headers say otherwise; the same
        options where nothing was said.
    """
    given = {"json_data": options.json_data, "extra_json": options.extra_json}
    parts = {name: one for name, one in given.items() if isinstance(one, Mapping) and KEYWORD in one}
    said = [one[KEYWORD] for one in parts.values()]
    if not all(isinstance(one, Mapping) and not CANONICAL.keys().isdisjoint((*one, *_nested(one))) for one in said):
        return options
    ours = copy.copy(options)
    for name, one in parts.items():
        setattr(ours, name, {key: value for key, value in one.items() if key != KEYWORD})
    carrier = carriers.find(options.headers) or carriers.Carrier()
    keyword = Attribution.from_mapping(said[-1]).merge(carrier.keyword)
    moved = carriers.carrier_class()(keyword, carrier.scope, carrier.resolver)
    ours.headers = carriers.put(options.headers, moved)
    return ours


def _nested(said: Mapping[str, Any]) -> list[str]:
    """The names of a nested ``subscriber``, written out with dots."""
    subscriber = said.get("subscriber")
    return [f"subscriber.{name}" for name in subscriber] if isinstance(subscriber, Mapping) else []


def read_request(operation: Operation, body: Mapping[str, Any], client: Any, headers: Any) -> Request:
    """Read what a request asks for.

    Args:
        operation: the request's row.
        body: what will be sent.
        client: the SDK's client.
        headers: those of this request alone.
    """
    limit = body.get("max_completion_tokens") or body.get("max_tokens") or body.get("max_output_tokens")
    choices = body.get("n")
    return Request(
        _masked(body.get("model")),
        body.get("stream") is True,
        _masked(body.get("service_tier")),
        count(limit),
        None if choices is None or choices == 1 else count(choices),
        _account(client, headers, "organization"),
        _account(client, headers, "project"),
        _facts(body, operation.facts) if operation.facts else (),
    )


def _masked(value: Any) -> str | None:
    given = text(value)
    return None if given is None else mask(given)


def _facts(body: Mapping[str, Any], rows: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    found = []
    for path, attribute in rows:
        value: Any = body
        for name in path.split("."):
            value = part(value, name)
        if (given := text(value)) is not None:
            found.append((attribute, mask(given)))
    return tuple(found)


def _account(client: Any, headers: Any, name: str) -> str | None:
    """The provider's organization or project: of the request, of the client's own headers, of the client."""
    for given in (headers, getattr(client, "_custom_headers", None)):
        if given and isinstance(given, Mapping):
            wanted = f"openai-{name}"
            for header, value in given.items():
                if isinstance(header, str) and header.lower() == wanted:
                    named = text(value)  # the SDK's own sentinel where the caller leaves it out
                    return None if named is None else mask(named)
    named = text(getattr(client, name, None))
    return None if named is None else mask(named)


def asking_for_usage(options: Any) -> Any:
    """Return a copy of the options that asks for usage, ``None`` where the caller did or it cannot be asked for."""
    extra = options.extra_json
    name = "extra_json" if extra and "stream_options" in extra else "json_data"
    body = getattr(options, name)
    if not isinstance(body, Mapping):
        return None
    given = body.get("stream_options")
    if given is not None and not isinstance(given, Mapping):
        return None
    if given is not None and given.get("include_usage"):
        return None
    changed = copy.copy(options)
    setattr(changed, name, {**body, "stream_options": {**(given or {}), "include_usage": True}})
    return changed
