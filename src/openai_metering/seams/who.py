"""Who a call is for, from everything that a client and a request say besides the keyword and the scope."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from openai_metering import errors
from openai_metering.keys import pseudonym
from openai_metering.resolution import EMPTY, Attribution, Resolved, resolve
from openai_metering.resolver import resolver_is_set, resolver_says
from openai_metering.scope import current_attribution
from openai_metering.seams import baggage, carrier as carriers
from openai_metering.usage import text

if TYPE_CHECKING:
    from openai_metering.call import Call
    from openai_metering.keys import KeyMap
    from openai_metering.seams.carrier import Carrier
    from openai_metering.seams.metering import Metering

# What the SDK keeps in the place of a key where there is none: since 3.0 of a workload identity, always of Azure's tokens.
_NO_KEYS: Final = frozenset({"workload-identity-auth", "<missing API key>"})
_TOKEN: Final = "eyJ"  # noqa: S105 - how every JSON Web Token begins: they change by the hour and name no key
_KEY_HEADERS: Final = ("authorization", "api-key")


class Beneath(NamedTuple):
    """What ranks below the scope, and above the process default; ``None`` where a source says nothing."""

    client: Attribution | None = None
    resolver: Attribution | None = None
    baggage: Attribution | None = None
    key_map: Attribution | None = None
    late: bool = False
    """The key is known only when the request has been sent."""


NOTHING: Final = Beneath()
"""No source but keyword, scope and default says anything."""


class Who(NamedTuple):
    """The sources of one call, for as long as one of them may still be missing."""

    keyword: Attribution
    scope: Attribution
    beneath: Beneath


def who_of(metering: Metering, client: Any, headers: Any) -> tuple[Resolved, Who | None]:
    """Return who a request is for, and its sources where the key in use is known only when it has been sent.

    Args:
        metering: what stands behind the seam.
        client: the SDK's client.
        headers: those of this request alone.
    """
    carrier = carriers.find(headers)
    keyword, scope = (EMPTY, None) if carrier is None else (carrier.keyword, carrier.scope)
    if scope is None:
        scope = current_attribution()
    if metering.plain and not resolver_is_set() and not getattr(client, "_custom_headers", None):
        return resolve(keyword, scope, metering.default), None
    beneath = beneath_of(metering, client, headers, carrier)
    found = resolved(metering, keyword, scope, beneath)
    return found, Who(keyword, scope, beneath) if beneath.late else None


def resolved(metering: Metering, keyword: Attribution, scope: Attribution, beneath: Beneath) -> Resolved:
    """Merge all sources, and put the subscriber's hash in their place where the settings want that."""
    if beneath is NOTHING:
        found = resolve(keyword, scope, metering.default)
    else:
        found = resolve(
            keyword,
            scope,
            metering.default,
            client=beneath.client,
            resolver=beneath.resolver,
            baggage=beneath.baggage,
            key_map=beneath.key_map,
        )
    return found if metering.hash_secret is None else _hashed(found, metering.hash_secret)


@functools.lru_cache(maxsize=4096)
def _hashed(found: Resolved, secret: str) -> Resolved:
    who = found.attribution
    if who.subscriber_identity is None:
        return found
    over = Attribution(subscriber_identity=pseudonym(who.subscriber_identity, secret))
    return Resolved(who.merge(over), found.status, found.sources, hashed=True)


def beneath_of(metering: Metering, client: Any, headers: Any, carrier: Carrier | None = None) -> Beneath:
    """Ask all sources that rank below the scope.

    Args:
        metering: what stands behind the seam.
        client: the SDK's client.
        headers: those of this request alone.
        carrier: what was stamped on the request when its method was called, with the resolver's answer of that time.
    """
    bound = carriers.find(getattr(client, "_custom_headers", None))
    told = resolver_says() if carrier is None or carrier.scope is None else carrier.resolver
    if bound is None and told is None and metering.key_map is None and not metering.baggage:
        return NOTHING
    by_key, late = (None, False) if metering.key_map is None else _by_key(metering.key_map, client, headers)
    return Beneath(
        None if bound is None else bound.keyword,
        told,
        baggage.believed(metering.baggage) if metering.baggage else None,
        by_key,
        late,
    )


# -- The key in use --------------------------------------------------------------------------------------------------


def _by_key(key_map: KeyMap, client: Any, headers: Any) -> tuple[Attribution | None, bool]:
    """Who is behind the key of a request, and whether that is known only when it has been sent."""
    for given in (headers, getattr(client, "_custom_headers", None)):
        key = _key_in(given)
        if key is not None:
            return _of_key(key_map, key), False
    identity = getattr(client, "workload_identity", None)
    if isinstance(identity, Mapping):
        account = text(identity.get("service_account_id"))
        return None if account is None else key_map.of_service_account(account), False
    if getattr(client, "_api_key_provider", None) is not None:
        return None, True
    if (
        getattr(client, "_azure_ad_token", None) is not None
        or getattr(client, "_azure_ad_token_provider", None) is not None
        or getattr(client, "_provider_runtime", None) is not None
    ):
        return None, False
    key = text(getattr(client, "api_key", None))
    return None if key is None else _of_key(key_map, key), False


def _of_key(key_map: KeyMap, key: str) -> Attribution | None:
    return None if key in _NO_KEYS or key.startswith(_TOKEN) else key_map.of_key(key)


def _key_in(headers: Any) -> str | None:
    if not headers or not isinstance(headers, Mapping):
        return None
    for name, value in headers.items():
        if isinstance(name, str) and name.lower() in _KEY_HEADERS and isinstance(value, str):
            return value.removeprefix("Bearer ").strip() or None
    return None


def learnt(key_map: KeyMap, beneath: Beneath, headers: Any) -> Beneath:
    """Complete the sources by the key that a websocket's handshake was sent with.

    Args:
        key_map: who is behind which key.
        beneath: the sources as far as they were known before.
        headers: those of the handshake.
    """
    key = _key_in(headers)
    return beneath._replace(key_map=None if key is None else _of_key(key_map, key), late=False)


def learn_key(metering: Metering, call: Call, request: Any) -> None:
    """Complete who a call is for by the key that its request was sent with.

    Args:
        metering: what stands behind the seam.
        call: a call whose key comes from a function of the application.
        request: the HTTP library's own, ``None`` where none was built.
    """
    try:
        who: Who | None = call.who_so_far
        key = None if request is None or who is None else _key_in(request.headers)
        if who is None or key is None or metering.key_map is None:
            return
        call.who_so_far = None
        found = _of_key(metering.key_map, key)
        if found is not None:
            call.identify(resolved(metering, who.keyword, who.scope, who.beneath._replace(key_map=found)))
    except Exception as error:
        errors.swallow("key", error)
