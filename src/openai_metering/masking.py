"""Which texts look like secrets, and what stands in their place."""

from __future__ import annotations

import re
from typing import Final

MASK: Final = "[masked]"

# Shapes of keys and tokens of the large vendors. A bare `sk-` word counts only with a digit and enough length, so that
# aliases such as `sk-team-finance` survive.
_SECRET: Final = re.compile(
    r"""
      sk-(?:proj|svcacct|admin|ant|or|None)-[A-Za-z0-9_-]{8,}     # OpenAI project, service, admin; Anthropic; OpenRouter
    | \bsk[-_](?=[A-Za-z0-9_-]*[0-9])[A-Za-z0-9_-]{16,}           # OpenAI classic, Stripe
    | \bsess-[A-Za-z0-9]{16,}                                     # OpenAI session
    | \b(?:rev_mk|hak|rk_live|rk_test|gsk|xai|pplx|nvapi|hf|glpat|npm|r8)[-_][A-Za-z0-9_-]{16,}
    | \bgh[pousr]_[A-Za-z0-9]{20,} | \bgithub_pat_[A-Za-z0-9_]{20,}
    | \bxox[abeoprs]-[A-Za-z0-9-]{10,} | \bxapp-[A-Za-z0-9-]{10,} # Slack
    | \b(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{12,}                      # AWS
    | \bAIza[A-Za-z0-9_-]{30,} | \bya29\.[A-Za-z0-9_-]{16,}       # Google
    | \beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}                   # JWT
    | \b(?:Bearer|Basic)\s+[A-Za-z0-9._~+/=-]{8,}                 # an Authorization header
    | -----BEGIN[ A-Z]*PRIVATE\ KEY-----
    """,
    re.VERBOSE,
)

# Azure and many others hand out bare hexadecimal or base64 keys; in the place of a credential such a text is taken for
# the key itself, elsewhere it may well be an id.
_BARE_KEY: Final = re.compile(
    r"(?:[0-9a-fA-F]{32,}|(?=[^0-9]*[0-9])(?=[^a-z]*[a-z])(?=[^A-Z]*[A-Z])[A-Za-z0-9+/=_]{40,})\Z"
)


# Values repeat from call to call. What was found harmless is remembered, never what was masked: no secret is kept here.
_harmless: dict[str, None] = {}
_harmless_credentials: dict[str, None] = {}
_REMEMBERED: Final = 8192


def mask(value: str, *, credential: bool = False) -> str:
    """Return the text with everything that looks like a secret replaced by ``[masked]``.

    Args:
        value: any text; bound its length first, the cost is linear in it.
        credential: the text stands where a key's alias belongs, so a bare hexadecimal or base64 key is masked too.

    Returns:
        The text itself where nothing in it looks like a secret.
    """
    seen = _harmless_credentials if credential else _harmless
    if value in seen:
        return value
    if credential and _BARE_KEY.match(value):
        return MASK
    masked = _SECRET.sub(MASK, value)
    if masked == value:
        if len(seen) >= _REMEMBERED:
            seen.clear()
        seen[value] = None
    return masked
