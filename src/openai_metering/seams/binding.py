"""Who a client is for, and who a call is for in words that type checkers know."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from openai_metering import errors
from openai_metering.resolution import EMPTY, Attribution
from openai_metering.scope import said
from openai_metering.seams import carrier as carriers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from openai_metering.resolution import Clear

Client = TypeVar("Client")


def bind(
    client: Client,
    values: Attribution | Mapping[str, object] | None = None,
    /,
    *,
    organization_id: str | Clear | None = None,
    subscriber_identity: str | Clear | None = None,
    subscriber_credential: str | Clear | None = None,
    **tags: object,
) -> Client:
    """Return a client that says who its calls are for; the given one stays as it is.

    What it says ranks below the keyword and all scopes. It stays with ``with_options()``, ``copy()``, raw and
    streaming views and websockets, and binding again merges field by field. The two share one connection pool.

    Args:
        client: an ``OpenAI``, ``AsyncOpenAI``, ``AzureOpenAI`` or any other client of the SDK.
        values: a mapping as for ``usage_metadata=``, or an ``Attribution``.
        organization_id: company or internal unit that pays.
        subscriber_identity: person or service account, usually an e-mail address.
        subscriber_credential: alias of the API key in use.
        tags: further values, emitted as ``attribution.tag.<key>``.

    Returns:
        A client of the same type, made by the SDK's own ``with_options``.

    Raises:
        TypeError: the client is none of the SDK's; for calls at module level, use ``attribution(...)``.
    """
    with_options: Any = getattr(client, "with_options", None)
    if with_options is None or not hasattr(client, "_custom_headers"):
        raise TypeError(
            f"bind() takes a client such as openai.OpenAI(), not {type(client).__name__}; for calls at module level "
            "there are attribution(...) and usage_metadata=."
        )
    carrier = carriers.carrier_class()()
    try:
        before = carriers.find(getattr(client, "_custom_headers", None))
        now = said(values, organization_id, subscriber_identity, subscriber_credential, tags)
        carrier.keyword = now if before is None else before.keyword.merge(now)
    except Exception as error:
        errors.swallow("bind", error)
    bound: Client = with_options(default_headers={carriers.KEY: carrier})
    return bound


def usage_headers(
    values: Attribution | Mapping[str, object] | None = None,
    /,
    *,
    organization_id: str | Clear | None = None,
    subscriber_identity: str | Clear | None = None,
    subscriber_credential: str | Clear | None = None,
    **tags: object,
) -> dict[str, str]:
    """Say who a single call is for in a way that type checkers know: ``create(..., extra_headers=usage_headers(...))``.

    It does what ``usage_metadata=`` does, which the SDK's overloads do not have. Nothing of it is sent: the SDK leaves
    it out, where calls are not metered, too. Beside headers of your own: ``{"X-Mine": "1", **usage_headers(...)}``.

    Args:
        values: a mapping as for ``usage_metadata=``, or an ``Attribution``.
        organization_id: company or internal unit that pays.
        subscriber_identity: person or service account, usually an e-mail address.
        subscriber_credential: alias of the API key in use.
        tags: further values, emitted as ``attribution.tag.<key>``.
    """
    headers: dict[str, Any] = {}
    try:
        who = said(values, organization_id, subscriber_identity, subscriber_credential, tags)
        if who is not EMPTY:
            headers[carriers.KEY] = carriers.carrier_class()(who, None)
    except Exception as error:
        errors.swallow("keyword", error)
    return headers
