"""One row per call: the records of one id join, whatever their order."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from openai_metering.cli.records import ATTRIBUTION_STATUSES, STATES, USAGE_STATUSES
from openai_metering.signals.conventions import COST_STATUS, COST_TABLE_VERSION, OPERATION, OPERATION_NAME

if TYPE_CHECKING:
    from collections.abc import Iterable

    from openai_metering.cli.records import UsageRow

_STATE_RANK: Final = {state: rank for rank, state in enumerate(STATES)}
_ATTRIBUTION_RANK: Final = {status: rank for rank, status in enumerate(ATTRIBUTION_STATUSES)}
_USAGE_RANK: Final = {status: rank for rank, status in enumerate(USAGE_STATUSES)}

_COST_RANK: Final = {"unpriced": 1, "partial": 2, "estimated": 3, "priced": 4}


class Calls:
    """The distinct calls seen so far; memory grows with them and with nothing else."""

    def __init__(self) -> None:
        self._rows: dict[str, UsageRow] = {}
        self._states: dict[str, set[str]] = {}  # only of the ids that were met in more than one state
        self._owners: dict[str, UsageRow] = {}  # of those ids, the best record that says for whom
        self._replaced: set[str] = set()  # ids of `started` records whose call goes on under another id
        self.duplicates = 0
        """Records that repeat an id in a state in which it was already there."""

    def __len__(self) -> int:
        return len(self._rows)  # a little more while those that are replaced are not known

    def names(self) -> Iterable[str]:
        """Return the ids that were met, also those of records that are replaced."""
        return {*self._rows, *self._replaced}

    def add(self, row: UsageRow) -> None:
        """Take one record in."""
        if row.started_id is not None:
            self._replaced.add(row.started_id)
        held = self._rows.setdefault(row.record_id, row)
        if held is row:
            return
        states = self._states.get(row.record_id, {held.state})
        if row.state in states:
            self.duplicates += 1
        else:
            self._states[row.record_id] = states | {row.state}
        known = [
            one for one in (held, row, self._owners.get(row.record_id)) if one and one.attribution != "unattributed"
        ]
        if known:
            self._owners[row.record_id] = max(known, key=_rank)
        self._rows[row.record_id] = better(held, row)

    def rows(self) -> Iterable[UsageRow]:
        """Return what counts of each call, as one record."""
        return (
            _joined(row, self._owners.get(record_id))
            for record_id, row in self._rows.items()
            if record_id not in self._replaced
        )


def better(one: UsageRow, other: UsageRow) -> UsageRow:
    """Choose which of two records of one id counts.

    ``final`` beats ``pending`` beats ``started``; then the better attributed one counts, then the surer usage, then the
    earlier one, so that a later sight of the same call does not move it into another month; then the one whose cost is
    surer, and that by the newer price table, so that what was priced again counts. The rest of the order only
    makes the choice independent of the order of reading.

    Args:
        one: a record.
        other: another record with the same id.

    Returns:
        One of the two.
    """
    return max(one, other, key=_rank)


def _joined(best: UsageRow, owner: UsageRow | None) -> UsageRow:
    """What the records of one call say together.

    A process that sees the end of a job which another one ordered knows no more than that: for whom it was, and by
    which operation, then comes from the record of who ordered it.
    """
    if owner is None or best.attribution != "unattributed":
        return best
    return replace(
        best,
        attribution=owner.attribution,
        organization=owner.organization,
        subscriber=owner.subscriber,
        credential=owner.credential,
        tags=owner.tags,
        operation=owner.operation,
        model=best.model or owner.model,
        facts=_joined_facts(dict(best.facts), dict(owner.facts)),
    )


def _joined_facts(best: dict[str, str], owner: dict[str, str]) -> tuple[tuple[str, str], ...]:
    """What the order says and the end does not, such as the completion window, decides about the price, too."""
    operation = {name: owner[name] for name in (OPERATION, OPERATION_NAME) if name in owner}
    return tuple(sorted((owner | best | operation).items()))


def _priced(row: UsageRow) -> tuple[int, str]:
    """Of two copies the one that was priced counts, and of two that were, the one by the newer price table."""
    facts = dict(row.facts)
    return _COST_RANK.get(facts.get(COST_STATUS, ""), 0), facts.get(COST_TABLE_VERSION, "")


def _rank(row: UsageRow) -> tuple[Any, ...]:
    optional = (
        row.input_tokens,
        row.output_tokens,
        row.cached_tokens,
        row.reasoning_tokens,
        row.reason,
        row.organization,
        row.subscriber,
        row.credential,
        row.model,
        row.operation,
        row.provider,
    )
    return (
        _STATE_RANK[row.state],
        _ATTRIBUTION_RANK[row.attribution],
        _USAGE_RANK[row.usage],
        (row.time_unix_nano is not None, -(row.time_unix_nano or 0)),
        *(() if value is None else (value,) for value in optional),
        *_priced(row),
        row.tags,
        row.facts,
    )
