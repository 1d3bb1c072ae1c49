"""What the numbers of a report leave out, in sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from openai_metering.cli.period import within
from openai_metering.cli.shaping import in_money

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from openai_metering.cli.grouping import Report


def footnotes(report: Report, *, customer: bool = False) -> Iterator[str]:
    """Say below the table what its numbers leave out, one sentence for each thing that happened.

    Args:
        report: what stands in the table.
        customer: without what an invoice lists by itself, or is of no use to who gets it.
    """
    if report.period is not None:
        beside = "" if report.before_period is None else f", beside those {within(report.before_period)}"
        yield f"Calls that ended {within(report.period)}{beside}."
    yield "Cached tokens are part of input, reasoning tokens are part of output."
    estimated = sum(row.calls for row in report.rows if row.kind == "estimated")
    if estimated:
        yield f"Estimated: {_calls(estimated)}; the totals include the estimate."
    if not customer:
        yield from _lacking(report)
    if report.total.money.estimated:
        yield f"Amounts that are estimated: of {_calls(report.total.money.estimated)}."
    for row in report.rows:
        if row.reasons and not customer:
            yield f"Usage unknown: {_reasons(row.reasons)}. The total is without the tokens of {_calls(row.calls)}."
    if report.other_units:
        yield f"Not counted in tokens (seconds, characters, images, ...): {_calls(report.other_units)}."
    if report.hidden:
        yield f"Others: {report.hidden:,} more {'group' if report.hidden == 1 else 'groups'}."
    if report.untimed:
        yield f"In no period, because their records carry no time: {_calls(report.untimed)}."
    if report.quarantined:
        yield f"Quarantined by the gateway, and not counted: {report.quarantined:,} {'record' if report.quarantined == 1 else 'records'}."
    if report.bad_lines:
        yield f"Lines that could not be read whole: {report.bad_lines:,}."


def _lacking(report: Report) -> Iterator[str]:
    if report.priceless:
        yield "No amounts: pip install 'openai-metering[cost]' for list prices, or give --prices FILE."
    wholly = {reason: count - report.partly.get(reason, 0) for reason, count in report.unpriced.items()}
    if any(wholly.values()):
        why = "The amounts are without these calls." if in_money(report) else "No call has a cost."
        yield f"Unpriced: {_reasons(wholly)}. {why}"
    if report.partly:
        yield f"Priced in part: {_reasons(report.partly)}. The amounts have what is known of these calls."


def _reasons(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{visible(reason)} {count:,}" for reason, count in counts.items() if count)


def visible(text: str) -> str:
    """Return a name with every character that would move the cursor or colour the terminal written out."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def _calls(count: int) -> str:
    return f"{count:,} call" if count == 1 else f"{count:,} calls"
