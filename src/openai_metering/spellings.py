"""Every name under which an application may say who a call is for."""

from __future__ import annotations

import difflib
import functools
import re
from typing import Final

ORGANIZATION: Final = "organization_id"
SUBSCRIBER: Final = "subscriber_identity"
CREDENTIAL: Final = "subscriber_credential"

# The history of the reference product, best first; a nested `subscriber` object is read as if its parts were written
# out with dots. camelCase and the headers of its gateway (`x-revenium-credential-alias`) are understood beside these.
_HISTORY: Final[dict[str, tuple[str, ...]]] = {
    ORGANIZATION: ("organization_id", "organization_name", "revenium.organization.name"),
    SUBSCRIBER: (
        "subscriber_identity",
        "subscriber.email",
        "subscriber_email",
        "revenium.subscriber.email",
        "subscriber.id",
        "subscriber_id",
        "revenium.subscriber.id",
    ),
    CREDENTIAL: (
        "subscriber_credential",
        "subscriber.credential.name",
        "subscriber_credential_name",
        "revenium.subscriber.credential.name",
        "credential_alias",
        "ai_provider_key_name",
        "subscriber.credential.value",
        "revenium.subscriber.credential.value",
    ),
}
_HEADERS: Final = {
    ORGANIZATION: ("x-revenium-organization-name", "x-revenium-organization-id"),
    SUBSCRIBER: ("x-revenium-subscriber-email", "x-revenium-subscriber-id"),
    CREDENTIAL: ("x-revenium-credential-alias",),
}

# Its generic fields, which become tags: `taskType` and `task_type` are one.
_GENERIC: Final = [
    "product_name",
    "product_id",
    "subscription_id",
    "agent",
    "task_type",
    "task_id",
    "trace_id",
    "response_quality_score",
    "environment",
    "region",
    "trace_type",
    "trace_name",
    "transaction_name",
    "parent_transaction_id",
    "retry_number",
    "ticket_id",
    "agent_version",
    "agentic_job_id",
    "agentic_job_name",
    "agentic_job_type",
    "agentic_job_version",
    "skill_name",
    "skill_kind",
    "skill_source",
    "skill_plugin_name",
    "skill_marketplace_name",
    "skill_invocation_trigger",
    "effort",
    "speed",
    "query_source",
    "subagent_type",
    "client_surface",
    "entrypoint",
    "prompt_id",
    "prompt_length",
    "coding_assistant_account_uuid",
    "actual_service_tier",
    "requested_service_tier",
    "subscription_tier",
    "pricing_tier",
    "cost_multiplier",
    "source_transaction_id",
    "squad_id",
    "squad_name",
    "squad_role",
    "subscriber_email_source",
    "model_host",
    "billing_skipped",
    "skip_reason",
    "system_fingerprint",
    "temperature",
]


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.title() for word in others)


SPELLINGS: Final[dict[str, tuple[str, ...]]] = {
    name: (*dict.fromkeys(written for spelling in history for written in (spelling, _camel(spelling))), *_HEADERS[name])
    for name, history in _HISTORY.items()
}
"""For each of the three levels what stands for it, best first."""

CANONICAL: Final = {spelling: name for name, spellings in SPELLINGS.items() for spelling in spellings}
RANK: Final = {spelling: rank for spellings in SPELLINGS.values() for rank, spelling in enumerate(spellings)}
TAGS: Final = {_camel(name): name for name in _GENERIC}
"""The tags that are also written in camelCase."""

# What is not misspelt and yet not understood: these words alone may as well be tags of the application's own.
_SHORT: Final = {
    "org": ORGANIZATION,
    "orgid": ORGANIZATION,
    "orgname": ORGANIZATION,
    "organization": ORGANIZATION,
    "subscriber": SUBSCRIBER,
    "subscribername": SUBSCRIBER,
    "credential": CREDENTIAL,
    "credentialid": CREDENTIAL,
    "credentialname": CREDENTIAL,
}
_NEAR: Final = 0.88
"""Share of two names that must agree; `subscription_id` and `subscriber_id` agree in 0.77."""


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower()).replace("organisation", "organization")


_PLAIN: Final = {_plain(spelling): name for spelling, name in CANONICAL.items()}
_NO_MISTAKES: Final = frozenset(_plain(name) for name in _GENERIC)


@functools.lru_cache(maxsize=1024)
def meant(key: str) -> str | None:
    """Return the level that an unknown name nearly names, ``None`` where it is a tag like any other.

    Args:
        key: a name that is in no table.
    """
    plain = _plain(key[:64])
    if plain in _NO_MISTAKES:
        return None
    found = _PLAIN.get(plain) or _SHORT.get(plain)
    if found is None and plain[:1] in "oscax":
        near = difflib.get_close_matches(plain, _PLAIN, 1, _NEAR)
        found = _PLAIN[near[0]] if near else None
    return found
