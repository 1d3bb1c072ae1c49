"""What the provider says was used and what it costs: its usage and costs API, page by page, over any period."""

from __future__ import annotations

import datetime as dt
import os
from collections import defaultdict
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from openai_metering.cli.failure import Failure
from openai_metering.cli.period import UTC
from openai_metering.cli.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ADMIN_KEY: Final = "OPENAI_ADMIN_KEY"
_RETRIES: Final = 8  # waits as long as the provider asks, which it does under its rate limit
_WIDTHS: Final = {"1m": (60, 1440), "1h": (3600, 168), "1d": (86_400, 31)}  # seconds, and the largest page
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400


class Key(NamedTuple):
    """What usage is told apart by; a part that was not asked for is ``None``."""

    meter: str
    day: str
    """Of UTC: the provider's days."""
    model: str | None
    project: str | None
    api_key: str | None


@dataclass(frozen=True, slots=True)
class Meter:
    """One of the provider's meters."""

    groups: frozenset[str]
    """What it can be grouped by, of what is of use here."""
    units: tuple[str, ...]
    """What it counts, by the provider's names; the first is the number of requests where it has one."""


_ALL: Final = frozenset({"model", "project_id", "api_key_id"})
_REQUESTS: Final = "num_model_requests"
METERS: Final = {
    "completions": Meter(_ALL, (_REQUESTS, "input_tokens", "input_cached_tokens", "output_tokens")),
    "embeddings": Meter(_ALL, (_REQUESTS, "input_tokens")),
    "decisions": Meter(_ALL, (_REQUESTS, "input_tokens", "input_cached_tokens", "output_tokens")),
    "images": Meter(_ALL, (_REQUESTS, "images")),
    "audio_speeches": Meter(_ALL, (_REQUESTS, "characters")),
    "audio_transcriptions": Meter(_ALL, (_REQUESTS, "seconds")),
    "web_search_calls": Meter(_ALL, ("num_requests",)),
    "file_search_calls": Meter(_ALL - {"model"}, ("num_requests",)),
    "code_interpreter_sessions": Meter(frozenset({"project_id"}), ("num_sessions",)),
}
"""Moderations cost nothing, and the bytes of vector stores are a matter of storage: neither is of a call."""
_FIELDS: Final = {"model": "model", "project": "project_id", "api_key": "api_key_id"}


class Provider:
    """The provider's usage and costs API.

    Args:
        by: what usage is told apart by, beside the day: ``model``, ``project``, ``api_key``.

    Raises:
        Failure: there is no admin key, or no SDK that knows the API.
    """

    def __init__(self, by: Sequence[str]) -> None:
        key = os.environ.get(ADMIN_KEY)
        if not key:
            raise Failure(
                f"the provider's usage API takes an admin key: set {ADMIN_KEY} in the environment. An owner of the account "
                "makes one under Organization, Admin keys; it is used for nothing else."
            )
        try:
            import openai  # noqa: PLC0415 - an extra
        except ModuleNotFoundError as error:
            raise Failure("reconcile asks through the SDK: pip install 'openai-metering[instruments]'.") from error
        self._openai: Any = openai
        try:
            client: Any = openai.OpenAI(api_key="none", admin_api_key=key, max_retries=_RETRIES)
            self._usage = client.admin.organization.usage
            self.host = str(client.base_url.host)
            """Of the API that is asked."""
        except (TypeError, AttributeError) as error:
            text = f"openai {openai.__version__} does not know the provider's usage API: pip install -U openai."
            raise Failure(text) from error
        self._by = by

    def used(self, start: dt.datetime, end: dt.datetime) -> dict[Key, dict[str, int]]:
        """Return what each meter counted in a period, by unit.

        Args:
            start: a full minute.
            end: likewise, not part of it.

        Raises:
            Failure: the provider does not answer, or refuses.
        """
        found: dict[Key, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        parts = segments(start, end)
        with Progress(len(METERS) * len(parts), "Asking the provider", "rows", stride=1) as progress:
            for name, meter in METERS.items():
                groups = [field for part, field in _FIELDS.items() if part in self._by and field in meter.groups]
                for part in parts:
                    for day, result in self._pages(name, part, groups):
                        labels = (result.get(field) if field in groups else None for field in _FIELDS.values())
                        own = found[Key(name, day, *labels)]
                        for unit in meter.units:
                            own[unit] += int(result.get(unit) or 0)
                    progress.advance(1, len(found))
        return {key: dict(own) for key, own in found.items() if any(own.values())}

    def costs(self, start: dt.datetime, end: dt.datetime) -> dict[tuple[str, str | None, str], Decimal]:
        """Return what whole days cost, by day, project and currency.

        Args:
            start: where the first day begins.
            end: where the last one ends.

        Raises:
            Failure: the provider does not answer, or refuses.
        """
        groups = ["project_id"] if "project" in self._by else []
        found: dict[tuple[str, str | None, str], Decimal] = defaultdict(Decimal)
        for part in (one for one in segments(start, end) if one[0] == "1d"):
            for day, result in self._pages("costs", part, groups):
                amount = result.get("amount") or {}
                if amount.get("value") is not None:
                    project = result.get("project_id") if groups else None
                    currency = str(amount.get("currency") or "usd").upper()
                    found[day, project, currency] += Decimal(str(amount["value"]))
        return dict(found)

    def _pages(self, name: str, part: tuple[str, int, int], groups: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
        width, start, end = part
        ask = getattr(self._usage, name, None)
        if ask is None:  # an SDK that does not know this meter yet
            return
        query: dict[str, Any] = {
            "start_time": start,
            "end_time": end,
            "bucket_width": width,
            "limit": _WIDTHS[width][1],
        }
        if groups:
            query["group_by"] = groups
        while True:
            page = self._asked(ask, query)
            for bucket in page.data:
                day = dt.datetime.fromtimestamp(bucket.start_time, UTC).date().isoformat()
                for result in bucket.results or ():
                    yield day, result.to_dict()
            if not page.has_more or not page.next_page:
                return
            query["page"] = page.next_page

    def _asked(self, ask: Any, query: dict[str, Any]) -> Any:
        openai = self._openai
        try:
            return ask(**query)
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            raise Failure(
                f"the provider refuses {ADMIN_KEY} (status {error.status_code}): it must be an admin key of the account, "
                "with the right to read usage."
            ) from error
        except openai.RateLimitError as error:
            raise Failure(
                "the provider asks for patience (status 429), also after several tries: run it again later."
            ) from error
        except openai.APIStatusError as error:
            raise Failure(f"the provider's usage API answers with status {error.status_code}.") from error
        except openai.APIConnectionError as error:
            raise Failure(
                "the provider's usage API cannot be reached. Check the network, and OPENAI_BASE_URL."
            ) from error


def segments(start: dt.datetime, end: dt.datetime) -> list[tuple[str, int, int]]:
    """Take a period apart into whole days, and what is before and behind them into whole hours and minutes.

    Args:
        start: a full minute.
        end: likewise.

    Returns:
        Width of the buckets, start and end in seconds since 1970; none overlap, and none is missing.
    """
    first, last = int(start.timestamp()), int(end.timestamp())
    inner: list[tuple[str, int, int]] = []
    outer = (first, last)
    for width, size in (("1d", _DAY), ("1h", _HOUR), ("1m", _MINUTE)):
        parts = [(outer[0], inner[0][1]), (inner[-1][2], outer[1])] if inner else [outer]
        for low, high in parts:
            rounded = (-(-low // size) * size, high // size * size)
            if rounded[0] < rounded[1]:
                inner = sorted([*inner, (width, *rounded)], key=lambda one: one[1])
    return inner
