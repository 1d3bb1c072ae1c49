"""What one ``instrument()`` puts behind the seams: the options, the defaults of who, and where signals go."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from openai_metering.keys import KeyMap
    from openai_metering.resolution import Attribution
    from openai_metering.seams.clients import Clients
    from openai_metering.settings import Settings
    from openai_metering.signals import Signals


@dataclass(slots=True, eq=False)
class Metering:
    """Shared by all wrappers of one ``instrument()``; wrappers that outlive it find ``active`` false and stand aside.

    Args:
        settings: the options in force; ``None`` only where there are no signals either.
        signals: where finished calls go; ``None`` where metering is switched off and only the keyword is taken out.
        default: who calls are for that say nothing themselves.
        active: until ``uninstrument()``.
        refusing_hosts: hosts that refused ``stream_options``, so that they are not asked again.
        key_map: who is behind which API key; ``None`` where that is switched off.
        baggage: which entries of incoming baggage are believed; none where empty.
        hash_secret: the secret of hashed subscribers; ``None`` where they stay as they are.
        socket_modules: the SDK's modules whose websocket connections have the seam.
        clients: sees to it that clients pass the seam; ``None`` until it is in.
    """

    settings: Settings | None
    signals: Signals | None
    default: Attribution
    active: bool = True
    key_map: KeyMap | None = None
    baggage: frozenset[str] = frozenset()
    hash_secret: str | None = field(default=None, repr=False)
    refusing_hosts: set[tuple[str | None, int | None]] = field(default_factory=set)
    socket_modules: set[str] = field(default_factory=set)
    clients: Clients | None = None
    plain: bool = field(init=False)
    """Neither key map nor baggage is asked, and no subscriber hashed."""

    def __post_init__(self) -> None:
        self.plain = self.key_map is None and not self.baggage and self.hash_secret is None
