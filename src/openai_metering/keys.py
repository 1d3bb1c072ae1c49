"""Which credential an API key is: a keyed fingerprint, and the map from fingerprints to who is behind them."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from pathlib import Path
from typing import Any, Final

from openai_metering.resolution import EMPTY, Attribution

FINGERPRINT_LENGTH: Final = 16
_FINGERPRINT: Final = re.compile(r"[0-9a-f]{16}")
_SERVICE_ACCOUNT: Final = re.compile(r"[A-Za-z][\w.@-]{2,127}")
_REMEMBERED: Final = 256
MAX_MAP_BYTES: Final = 16 * 2**20


def fingerprint(key: str, secret: str) -> str:
    """Return what stands for a key in a key map: 16 hexadecimal digits of its HMAC-SHA256.

    Args:
        key: the API key.
        secret: the user's own, ``OPENAI_METERING_FINGERPRINT_SECRET``; whoever has it can tell whether a key that they
            know is in the map, and nobody can get a key out of it.
    """
    return hmac.new(secret.encode(), key.encode(), hashlib.sha256).hexdigest()[:FINGERPRINT_LENGTH]


def pseudonym(identity: str, secret: str) -> str:
    """Return what stands for a person where subscribers are hashed: 32 hexadecimal digits of its HMAC-SHA256."""
    return hmac.new(secret.encode(), identity.encode(), hashlib.sha256).hexdigest()[:32]


class KeyMap:
    """Who is behind which key.

    Args:
        entries: attributions by fingerprint, or by the id of a service account.
        secret: the secret of the fingerprints; never shown.
        name_unmapped: give a key that is in no entry the alias ``key-<fingerprint>``.
    """

    __slots__ = ("_entries", "_known", "_name_unmapped", "_secret")

    def __init__(self, entries: dict[str, Attribution], secret: str, *, name_unmapped: bool = False) -> None:
        self._entries = entries
        self._secret = secret
        self._name_unmapped = name_unmapped
        self._known: dict[str, Attribution | None] = {}

    def of_key(self, key: str) -> Attribution | None:
        """Return who is behind a key; the fingerprint is computed once for each key."""
        try:
            return self._known[key]
        except KeyError:
            pass
        printed = fingerprint(key, self._secret)
        found = self._of(printed, f"key-{printed}")
        if len(self._known) >= _REMEMBERED:  # keys that live for one call only
            self._known.clear()
        self._known[key] = found
        return found

    def of_service_account(self, name: str) -> Attribution | None:
        """Return who is behind a workload identity, by the id of its service account, which is no secret."""
        return self._of(name, name)

    def _of(self, name: str, alias: str) -> Attribution | None:
        found = self._entries.get(name)
        if found is None and self._name_unmapped:
            found = Attribution(subscriber_credential=alias)
        return found


def read_map(given: str) -> tuple[dict[str, Attribution], list[str]]:
    """Read a key map.

    Args:
        given: JSON, ``fingerprint=alias`` pairs separated by commas or line ends, or the path of a file of either. In
            JSON the value of a fingerprint is an alias, or an object as for ``usage_metadata=``.

    Returns:
        Its entries, and what is wrong with it in whole sentences that quote nothing of it.
    """
    text = given.strip()
    if not text.startswith("{") and "=" not in text:
        try:
            with Path(text).expanduser().open(encoding="utf-8") as file:
                text = file.read(MAX_MAP_BYTES).strip()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            return {}, [f"The key map's file cannot be read ({reason}). It holds JSON, or lines of fingerprint=alias."]
    if text.startswith("{"):
        try:
            rows: list[tuple[str, Any]] = list(json.loads(text).items())
        except ValueError as error:
            place = f"line {error.lineno}" if isinstance(error, json.JSONDecodeError) else "its text"
            return {}, [f"The key map is not valid JSON ({place}). It maps fingerprints to aliases or objects."]
    else:
        lines = [line.strip() for line in re.split(r"[,\n]", text)]
        rows = [
            (name.strip(), alias.strip())
            for name, _, alias in (line.partition("=") for line in lines if line and not line.startswith("#"))
        ]
    return _entries(rows)


def _entries(rows: list[tuple[str, Any]]) -> tuple[dict[str, Attribution], list[str]]:
    entries: dict[str, Attribution] = {}
    problems = []
    for number, (name, value) in enumerate(rows, 1):
        who = Attribution(subscriber_credential=value) if isinstance(value, str) else Attribution.from_mapping(value)
        known = name.lower() if _FINGERPRINT.fullmatch(name.lower()) else name
        if name.startswith("sk-") or not (_FINGERPRINT.fullmatch(known) or _SERVICE_ACCOUNT.fullmatch(known)):
            problems.append(
                f"Entry {number} of the key map has no fingerprint of {FINGERPRINT_LENGTH} hexadecimal digits and is left "
                "out: `openai-metering fingerprint` prints the one of a key."
            )
        elif who == EMPTY:
            problems.append(f"Entry {number} of the key map says nobody and is left out.")
        else:
            entries[known] = who
    return entries, problems
