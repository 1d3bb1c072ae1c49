"""Our records beside the provider's own meters: what each says was used, and why they differ where they do."""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from openai_metering.cli.billed import METERS, Key
from openai_metering.cli.grouping import kind_of
from openai_metering.cli.period import UTC, dates
from openai_metering.signals import conventions as c

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from openai_metering.cli.records import UsageRow
    from openai_metering.directory.checks import Tables

PROVIDER: Final = "openai"
FACTS: Final = frozenset(
    {
        c.SERVER_ADDRESS,
        c.REQUEST_PROJECT,
        c.IMAGES,
        c.CHARACTERS,
        c.SECONDS,
        c.WEB_SEARCHES,
        c.SEARCHES,
        c.CONTAINERS,
        c.CODE_INTERPRETER_SESSIONS,
    }
)
"""The attributes that are needed beside those of every report."""

CLASSES: Final = {
    "unmetered process": "the provider counts more requests than there are records: a process without metering used the key",
    "unknown usage": "there is a record of each request, but some do not know what they used",
    "estimated": "some records estimate what was used",
    "other units": "our records have no number in the unit of this meter, or the provider has no meter of it",
    "late data": "the provider counts less, on a day that is not over for a while: its meters may still follow",
    "not billed": "our records have more than the provider counts, on a day that is long over",
    "day boundary": "what one day has too much the next one has too little: calls over midnight",
    "other count": "the same requests, counted otherwise",
}
"""Why numbers differ, and what that means."""

_METERS: Final = {
    "chat.completions": "completions",
    "completions": "completions",
    "responses": "completions",
    "responses.compact": "completions",
    "batches": "completions",
    "threads.runs": "completions",
    "threads.create_and_run": "completions",
    "agents.sessions": "completions",
    "agents.sessions.events": "completions",
    "agents.automations.invocations": "completions",
    "embeddings": "embeddings",
    "decisions": "decisions",
    "images.generate": "images",
    "images.edit": "images",
    "images.create_variation": "images",
    "audio.speech": "audio_speeches",
    "audio.transcriptions": "audio_transcriptions",
    "audio.translations": "audio_transcriptions",
}
"""By our name of the operation, the meter that counts its requests."""
_MAIN_UNIT: Final = {"images": (c.IMAGES, "images"), "audio_speeches": (c.CHARACTERS, "characters")}
_MAIN_UNIT["audio_transcriptions"] = (c.SECONDS, "seconds")
_BESIDE: Final = (
    (c.WEB_SEARCHES, "web_search_calls", "num_requests"),
    (c.SEARCHES, "file_search_calls", "num_requests"),
    (c.CONTAINERS, "code_interpreter_sessions", "num_sessions"),
    (c.CODE_INTERPRETER_SESSIONS, "code_interpreter_sessions", "num_sessions"),
)
"""Units that have a meter of their own, whatever call they belong to."""
_REQUESTS: Final = "num_model_requests"
_SNAPSHOT: Final = r"-\d{4}-\d{2}-\d{2}"


@dataclass(slots=True)
class Metered:
    """What our records say of one key."""

    units: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    unknown: int = 0
    """Calls whose usage is unknown; they are among the requests."""
    estimated: int = 0
    other_units: int = 0
    """Calls without a number in the unit of the meter."""


@dataclass(frozen=True, slots=True)
class Line:
    """One key, as both sides have it."""

    key: Key
    metered: Mapping[str, int]
    billed: Mapping[str, int]
    why: tuple[str, ...]
    """Names of ``CLASSES``; empty where the two agree."""
    notes: tuple[str, ...] = ()
    """How many calls each class is about, where that is known."""


@dataclass(frozen=True, slots=True)
class CostLine:
    """What one day cost."""

    day: str
    project: str | None
    metered: Decimal
    billed: Decimal
    unpriced: int
    late: bool = False
    """The provider has less, and may still be counting."""

    @property
    def agrees(self) -> bool:
        """Whether the two are the same to the cent."""
        return abs(self.metered - self.billed) < Decimal("0.005")


def is_of(row: UsageRow, host: str) -> bool:
    """Say whether a call is one of the provider's that is asked: by its name, or by where the call went."""
    return row.provider == PROVIDER or dict(row.facts).get(c.SERVER_ADDRESS) == host


def project_and_key(row: UsageRow, tables: Tables | None) -> tuple[str | None, str | None]:
    """Return the provider's ids of a call's project and API key, as far as the record or the directory knows them."""
    project = dict(row.facts).get(c.REQUEST_PROJECT)
    key = None
    if tables is not None and row.credential is not None:
        entry = tables["credential"].at(row.credential, row.time_unix_nano)
        if entry is not None:
            project = project or entry.get("project") or None
            key = entry.get("api_key_id") or None
    return project, key


def metered(
    rows: Iterable[UsageRow], by: Sequence[str], tables: Tables | None, projects: Mapping[str, str], host: str
) -> tuple[dict[Key, Metered], int, int]:
    """Add our records up by the provider's meters.

    Args:
        rows: one for each call.
        by: what usage is told apart by, beside the day.
        tables: those of a directory, which know key and project of a credential.
        projects: by API key, as the provider says it.
        host: of the API that is asked.

    Returns:
        By key; the calls of other providers; and those of operations that the provider has no meter for.
    """
    found: dict[Key, Metered] = defaultdict(Metered)
    others = without = 0
    date_of = dates(UTC)
    for row in rows:
        if row.time_unix_nano is None or row.usage == "not_billed":
            continue
        if not is_of(row, host):
            others += 1
            continue
        project, key = project_and_key(row, tables)
        project = project or projects.get(key or "")
        labels = {"model": row.model, "project": project, "api_key": key}
        asked = {name: value if name in by else None for name, value in labels.items()}
        day = date_of(row.time_unix_nano).isoformat()
        facts = dict(row.facts)
        units = _beside(found, facts, day, asked)
        meter = _METERS.get(row.operation or "")
        if meter is None:
            without += not units
        else:
            _add(found[Key(meter, day, *asked.values())], row, meter, facts)
    return dict(found), others, without


def _beside(found: dict[Key, Metered], facts: Mapping[str, str], day: str, asked: Mapping[str, str | None]) -> bool:
    """Count the units that have a meter of their own; say whether there were any."""
    counted = False
    for name, meter, unit in _BESIDE:
        number = facts.get(name)
        if number is not None and number.isdecimal():
            groups = METERS[meter].groups
            fields = {"model": "model", "project": "project_id", "api_key": "api_key_id"}
            labels = (value if fields[part] in groups else None for part, value in asked.items())
            found[Key(meter, day, *labels)].units[unit] += int(number)
            counted = True
    return counted


def _add(own: Metered, row: UsageRow, meter: str, facts: Mapping[str, str]) -> None:
    own.units[_REQUESTS] += 1
    if kind_of(row) == "unknown":
        own.unknown += 1
        return
    own.estimated += row.usage == "estimated"
    if meter in _MAIN_UNIT:
        name, unit = _MAIN_UNIT[meter]
        try:
            own.units[unit] += int(Decimal(facts[name]))
        except (KeyError, ArithmeticError):
            own.other_units += 1
        return
    own.units["input_tokens"] += row.input_tokens or 0
    if "output_tokens" in METERS[meter].units:
        own.units["input_cached_tokens"] += row.cached_tokens or 0
        own.units["output_tokens"] += row.output_tokens or 0


def compared(ours: Mapping[Key, Metered], theirs: Mapping[Key, Mapping[str, int]], fresh: str) -> list[Line]:
    """Set both sides beside each other, and name why they differ.

    Args:
        ours: by key.
        theirs: likewise.
        fresh: the first day, as ``2026-07-31``, that the provider may still be counting.
    """
    lines = []
    ours = _with_snapshots(ours, theirs)
    for key in sorted({*ours, *theirs}, key=lambda one: tuple(part or "" for part in one)):
        own, other = ours.get(key, Metered()), theirs.get(key, {})
        units = METERS[key.meter].units
        known = {unit: own.units.get(unit, 0) for unit in units}
        billed = {unit: other.get(unit, 0) for unit in units}
        found = {} if known == billed else _why(key, own, known, billed, fresh=key.day >= fresh)
        notes = tuple(f"{name}: {count:,}" for name, count in found.items() if count)
        lines.append(Line(key, known, billed, tuple(found), notes))
    return _over_midnight(lines)


def _with_snapshots(ours: Mapping[Key, Metered], theirs: Mapping[Key, Mapping[str, int]]) -> dict[Key, Metered]:
    """Where an answer names no model, ours is the one that was asked for: take the provider's snapshot of it, if it is one alone."""
    found: dict[Key, Metered] = {}
    for key, own in ours.items():
        if key not in theirs and key.model is not None:
            wanted = re.compile(re.escape(key.model) + _SNAPSHOT)
            near = [one for one in theirs if one._replace(model=key.model) == key and wanted.fullmatch(one.model or "")]
            key = near[0] if len(near) == 1 else key  # noqa: PLW2901 - it is the same key, by its other name
        other = found.setdefault(key, Metered())
        for unit, number in own.units.items():
            other.units[unit] += number
        other.unknown += own.unknown
        other.estimated += own.estimated
        other.other_units += own.other_units
    return found


def _why(key: Key, own: Metered, known: Mapping[str, int], billed: Mapping[str, int], *, fresh: bool) -> dict[str, int]:
    """Name why numbers differ, each with the number of calls that it is about, 0 where that is not known."""
    units = METERS[key.meter].units
    requests = billed[units[0]] - known[units[0]]
    found: dict[str, int] = {}
    if requests > 0:
        found["unmetered process"] = requests
    more = any(billed[unit] > known[unit] for unit in units[1:])
    if own.unknown and more:
        found["unknown usage"] = own.unknown
    if own.other_units:
        found["other units"] = own.other_units
    if own.estimated and any(billed[unit] != known[unit] for unit in units[1:]):
        found["estimated"] = own.estimated
    if requests < 0 or (not found and not more):
        found["late data" if fresh else "not billed"] = max(0, -requests)
    return found or {"other count": 0}


def _over_midnight(lines: list[Line]) -> list[Line]:
    """Where two days that follow each other differ by the same in both directions, it is the same calls."""
    by_key = {line.key: line for line in lines}
    days = sorted({line.key.day for line in lines})
    following = dict(itertools.pairwise(days))
    for line in lines:
        after = by_key.get(line.key._replace(day=following.get(line.key.day, "")))
        if after is None or not line.why or not after.why:
            continue
        if all(line.billed[u] - line.metered[u] == after.metered[u] - after.billed[u] for u in line.metered):
            for one in (line, after):
                by_key[one.key] = Line(one.key, one.metered, one.billed, ("day boundary",))
    return list(by_key.values())


def agreement(lines: Iterable[Line]) -> Decimal | None:
    """Return the share of tokens on which both sides agree, in percent; ``None`` where neither has any.

    What one side has too much in one place does not make up for what it lacks in another.
    """
    less = more = 0
    for line in lines:
        for unit in ("input_tokens", "output_tokens"):
            pair = (line.metered.get(unit, 0), line.billed.get(unit, 0))
            less, more = less + min(pair), more + max(pair)
    return Decimal(100) * less / more if more else None


def shown(share: Decimal | None) -> str:
    """Write a share with two places, rounded down: only what is whole is written as 100.00 %."""
    if share is None:
        return "nothing to compare"
    return f"{share.quantize(Decimal('0.01'), 'ROUND_DOWN')} %"


def as_document(line: Line) -> dict[str, Any]:
    """Return a line for a program."""
    return {
        **line.key._asdict(),
        "metered": dict(line.metered),
        "billed": dict(line.billed),
        "why": list(line.why),
        "notes": list(line.notes),
    }
