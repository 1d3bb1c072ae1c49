"""Client classes on which another package has put a ``request`` of its own: the seam goes beneath it."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Final

from openai_metering import errors
from openai_metering.seams.patches import inside

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from openai_metering.seams.patches import Patches

REQUEST: Final = "request"
RESPONSE: Final = "_process_response"

_made: weakref.WeakSet[Any] = weakref.WeakSet()
"""Every seam of this process, also those of an earlier ``instrument()`` that others have kept."""


class Clients:
    """Sees to it that a client's ``request`` passes the seam.

    openinference wraps ``OpenAI.request``, an attribute of a subclass. What it wraps is the method of the base class as
    it is at that moment, and it puts the same back when it is switched off: in both cases the seam in the base class
    would be passed by.

    Args:
        patches: remembers what was replaced.
        seams: the SDK's own methods, and the seam that stands in for each.
        bases: the classes that these are methods of; those that derive from them are looked at at once.
    """

    def __init__(self, patches: Patches, seams: Mapping[Any, Any], bases: Iterable[type]) -> None:
        self._patches = patches
        self._by_original = dict(seams)
        self._seams = frozenset(seams.values())
        _made.update(self._seams)
        for base in bases:
            self._keep_all(base)

    def keep(self, client: type) -> None:
        """Put the seam in where a client's class would pass it by."""
        try:
            # A wrapper is equal to what it wraps, so that this holds beneath another package's, too.
            if client.request not in self._seams:  # type: ignore[attr-defined]
                self._join(client)
        except Exception as error:
            errors.swallow("clients", error)

    def _keep_all(self, base: type) -> None:
        client: type
        for client in base.__subclasses__():
            self.keep(client)
            self._keep_all(client)

    def _join(self, client: type) -> None:
        owner = next(owner for owner in client.__mro__ if REQUEST in vars(owner))
        found = inside(owner, REQUEST)
        while (seam := self._by_original.get(found)) is None and found in _made:
            found = found.__wrapped__
        if seam is not None:  # else an application's own method, which hands on to the seam by itself, or does not
            self._patches.replace(owner, REQUEST, seam)
