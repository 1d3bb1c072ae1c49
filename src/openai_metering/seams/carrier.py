"""What travels from a method to its request: an object in the headers that the SDK itself leaves out of what is sent."""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from openai_metering.resolution import EMPTY

if TYPE_CHECKING:
    from openai_metering.resolution import Attribution

KEYWORD: Final = "usage_metadata"
"""What methods take of an application, and never hand on."""
KEY: Final = "openai-metering-carrier"
"""All lower case, as the SDK compares header names."""


class Carrier:
    """Who a call is for.

    Args:
        keyword: what ``usage_metadata=`` said.
        scope: the scope at the moment the method was called, which for a lazy manager is long before its request;
            ``None`` until then.
        resolver: what the application's resolver said at that moment.
    """

    keyword: Attribution
    scope: Attribution | None
    resolver: Attribution | None

    def __init__(
        self,
        keyword: Attribution = EMPTY,
        scope: Attribution | None = None,
        resolver: Attribution | None = None,
    ) -> None:
        self.keyword = keyword
        self.scope = scope
        self.resolver = resolver

    def __repr__(self) -> str:
        return "<openai-metering>"

    def __copy__(self) -> Carrier:
        return self

    def __deepcopy__(self, memo: object) -> Carrier:
        return self


@functools.cache
def carrier_class() -> type[Carrier]:
    """The carrier as a subclass of the SDK's own ``Omit``: the SDK drops such a header when it builds the request.

    That holds on openai 1.40, 1.66, 2.0 and 3.57, also where the call never reaches our seam. Imports the SDK's types,
    so it is only called once the SDK is there.
    """
    from openai._types import Omit  # noqa: PLC0415 - the SDK is never imported before the application does

    return type("OmittedCarrier", (Carrier, Omit), {"__module__": __name__})


def find(headers: Any) -> Carrier | None:
    """Return the carrier in a mapping of headers, ``None`` where there is none."""
    if isinstance(headers, Mapping):
        carrier = headers.get(KEY)
        if isinstance(carrier, Carrier):
            return carrier
    return None


def put(headers: Any, carrier: Carrier) -> Any:
    """Return a copy of the headers with the carrier in it; what can be no headers is left to the SDK to refuse."""
    if isinstance(headers, Mapping):
        return {**headers, KEY: carrier}
    absent = headers is None or type(headers).__module__.partition(".")[0] == "openai"
    return {KEY: carrier} if absent else headers


def without(options: Any) -> Any:
    """Return options whose headers are as the caller gave them: what is sent from here on may be looked at by anybody.

    The same options where there is no carrier in them.
    """
    headers = options.headers
    if find(headers) is None:
        return options
    ours = copy.copy(options)
    rest = {name: value for name, value in headers.items() if name != KEY}
    fields: Any = getattr(type(options), "model_fields", None) or getattr(type(options), "__fields__", {})
    ours.headers = rest or getattr(fields.get("headers"), "default", rest)
    return ours
