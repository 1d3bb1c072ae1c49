"""Which texts look like secrets, and what stands in their place."""

from __future__ import annotations

import re
from typing import Final

MASK: Final = "[masked]"

# Shapes of keys and tokens of the large vendors. Where a shape could also be an ordinary name (`sk-team-finance`,
# `Basic subscription`), it counts only with a digit in it. A key may stand right behind an underscore.
_SECRET: Final = re.compile(
    r"""
      -----BEGIN[ A-Z]*PRIVATE\ KEY-----(?:.*?-----END[ A-Z]*PRIVATE\ KEY-----|.*)
    | (?<![A-Za-z0-9])(?:
        sk-(?:(?:proj|svcacct|admin|ant|or|None)-)?[A-Za-z0-9]{20,}                      # random letters, no word
      | sk-(?:proj|svcacct|admin|ant|or|None)-(?=[A-Za-z0-9_-]{0,256}[0-9])[A-Za-z0-9_-]{8,}  # OpenAI; Anthropic; OpenRouter
      | sk[-_](?=[A-Za-z0-9_-]{0,256}[0-9])[A-Za-z0-9_-]{16,}                 # OpenAI classic, Stripe
      | sess-(?=[A-Za-z0-9]{0,256}[0-9])[A-Za-z0-9]{16,}                      # OpenAI session
      | (?:rev_mk|hak|rk_live|rk_test|gsk|xai|pplx|nvapi|hf|glpat|npm|r8)[-_](?=[A-Za-z0-9_-]{0,256}[0-9])[A-Za-z0-9_-]{16,}
      | (?:ek_|fw_|csk-)(?=[A-Za-z]{0,256}[0-9])[A-Za-z0-9]{20,}                # OpenAI realtime, Fireworks, Cerebras
      | gh[pousr]_[A-Za-z0-9]{20,} | github_pat_[A-Za-z0-9_]{20,}
      | xox[abeoprs][.-][A-Za-z0-9.-]{10,} | xapp-[A-Za-z0-9-]{10,}     # Slack
      | hooks\.slack\.com/services/[A-Za-z0-9/]{20,}
      | (?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{12,}                            # AWS
      | AIza[A-Za-z0-9_-]{30,} | AQ\.(?=[A-Za-z_-]{0,256}[0-9])[A-Za-z0-9_-]{30,} | ya29\.[A-Za-z0-9_-]{16,} | GOCSPX-[A-Za-z0-9_-]{20,}  # Google
      | [A-Za-z0-9_~.-]{3}[0-9]Q~[A-Za-z0-9_~.-]{31,34}                 # Microsoft Entra client secret
      | dapi[0-9a-f]{32}                                                # Databricks
      | (?i:aws_secret_access_key|secretaccesskey|accountkey|sharedaccesskey|api[_-]?key|password)\s{0,8}[=:]\s{0,8}["']?[A-Za-z0-9+/_.~%-]{16,}={0,2}
      | (?i:sig|signature)=[A-Za-z0-9+/%]{32,}={0,2}                    # Azure's shared access signature
      | eyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*){1,4}                   # JWT
      | (?:Bearer|Basic)\s+(?=[A-Za-z0-9._~+/=-]{0,256}[0-9=])[A-Za-z0-9._~+/=-]{8,}  # an Authorization header
    )
    """,
    re.VERBOSE | re.DOTALL,
)

# Where letters or digits stand right before a shape (`mysk-...`, `\\nsk-...` of escaped text, `%3Dsk-...` of a URL), an
# ordinary name may end alike: `task-`, `laughs_`, `flexapp-`. There a shape counts only with what a name does not have:
# capital and small letters and a digit in one long run, or digits between letters twice.
_RUN: Final = r"(?=[A-Z0-9]{0,256}[a-z])(?=[a-z0-9]{0,256}[A-Z])(?=[A-Za-z]{0,256}[0-9])"
_MIXED: Final = (
    r"(?=[A-Z0-9_-]{0,256}[a-z])(?=[a-z0-9_-]{0,256}[A-Z])(?=(?:[A-Za-z0-9_-]{0,256}?[A-Za-z][0-9]{1,8}[A-Za-z]){2})"
)
_GLUED: Final = re.compile(
    rf"""
      sk-(?:proj|svcacct|admin|ant|or|None)-(?:{_RUN}(?=[A-Za-z0-9]{{32}})|{_MIXED})[A-Za-z0-9_-]{{20,}}
    | sk-or-v1-[0-9a-f]{{64}}
    | sk-{_RUN}(?=[A-Za-z0-9]{{40}})[A-Za-z0-9_-]+                            # `task-` and an id of 32 digits is none
    | (?:[sr]k_live|[sr]k_test|rev_mk|nvapi|glpat|pplx|gsk|hak|xai|hf|npm|r8)[-_](?:{_RUN}(?=[A-Za-z0-9]{{32}})|{_MIXED})[A-Za-z0-9_-]{{20,}}
    | gh[pousr]_{_RUN}[A-Za-z0-9]{{30,}} | github_pat_(?=[A-Za-z_]{{0,256}}[0-9])[A-Za-z0-9_]{{20,}}
    | xox[abeoprs][.-](?=[A-Za-z.-]{{0,256}}[0-9])[A-Za-z0-9.-]{{16,}} | xapp-[0-9]-[A-Z0-9]{{8,}}-[0-9]{{8,}}-[A-Za-z0-9-]+
    | hooks\.slack\.com/services/[A-Za-z0-9/]{{20,}}
    | (?:AKIA|ASIA|ABIA|ACCA)(?=[A-Z]{{0,256}}[0-9])[A-Z0-9]{{16,}}
    | AIza(?=[A-Za-z_-]{{0,256}}[0-9])[A-Za-z0-9_-]{{30,}} | ya29\.{_MIXED}[A-Za-z0-9_-]{{30,}} | GOCSPX-[A-Za-z0-9_-]{{20,}}
    | [A-Za-z0-9_~.-]{{3}}[0-9]Q~[A-Za-z0-9_~.-]{{31,34}}
    | dapi[0-9a-f]{{32}}
    | (?i:aws_secret_access_key|secretaccesskey|accountkey|sharedaccesskey|api[_-]?key|password)\s{{0,8}}[=:]\s{{0,8}}["']?(?=[A-Za-z+/_.~%-]{{0,256}}[0-9])[A-Za-z0-9+/_.~%-]{{16,}}={{0,2}}
    | (?i:sig|signature)=(?=[A-Za-z+/%]{{0,256}}[0-9])[A-Za-z0-9+/%]{{32,}}={{0,2}}
    | eyJ(?=[A-Za-z_-]{{0,256}}[0-9])[A-Za-z0-9_-]{{16,}}\.(?=[A-Za-z_-]{{0,256}}[0-9])[A-Za-z0-9_-]{{16,}}(?:\.[A-Za-z0-9_-]*){{0,3}}
    | Bearer\s+(?=[A-Za-z._~+/=-]{{0,256}}[0-9])[A-Za-z0-9._~+/=-]{{20,}}
    """,
    re.VERBOSE,
)

# What one of them has in it. Nearly no name does, and this is found out in a quarter of a microsecond.
_MARK: Final = re.compile(
    r"sk-|k_live|k_test|rev_mk|nvapi|glpat|pplx|gsk|hak|xai|hf[-_]|npm[-_]|r8[-_]|ghp_|gho_|ghu_|ghs_|ghr_|github_pat_|xox|xapp-|hooks"
    r"|AKIA|ASIA|ABIA|ACCA|AIza|ya29|GOCSPX|Q~|dapi|=|:|eyJ|Bearer"
)

# Azure and many others hand out bare hexadecimal or base64 keys; in the place of a credential such a text is taken for
# the key itself, elsewhere it may well be an id.
_BARE_KEY: Final = re.compile(
    r"(?:[0-9a-fA-F]{32,}|(?=[^0-9]*[0-9])(?=[^a-z]*[a-z])(?=[^A-Z]*[A-Z])[A-Za-z0-9+/=_]{32,})\Z"
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
    masked = _GLUED.sub(MASK, value) if _MARK.search(value) is not None else value
    masked = _SECRET.sub(MASK, masked)  # afterwards: it would take the second part of a glued token alone
    if masked == value:
        if len(seen) >= _REMEMBERED:
            seen.clear()
        seen[value] = None
    return masked
