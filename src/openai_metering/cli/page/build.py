"""The page itself: a template with its style, its script, a bundled library for charts, and the numbers."""

from __future__ import annotations

import datetime as dt
import html
import json
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any, Final

from openai_metering.cli.columns import WHO, column_of
from openai_metering.cli.page import numbers
from openai_metering.cli.period import within
from openai_metering.cli.shaping import in_money

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from decimal import Decimal
    from typing import TextIO

    from openai_metering.cli.grouping import Report
    from openai_metering.cli.records import UsageRow
    from openai_metering.pricing import Priced

FOLDER: Final = Path(__file__).parent
LIBRARY: Final = "vendor/chart.umd.min.js"


@dataclass(frozen=True, slots=True)
class Content:
    """What a page is made of."""

    report: Report
    """By the levels of the table, with names."""
    rows: Sequence[UsageRow]
    zone: dt.tzinfo
    price: Callable[[UsageRow], Priced | None] | None
    budgets: Mapping[str | None, Decimal]
    """Of the first level, by the cell."""
    name_of: Callable[[str, str], str]
    """How a cell of a column is called."""
    notes: Sequence[str]


def write_page(content: Content, stream: TextIO) -> None:
    """Write the page; nothing in it asks for anything outside of it."""
    report = content.report
    title = f"AI usage, {report.period}" if report.period is not None else "AI usage"
    stream.write(
        Template(_asset("page.html")).substitute(
            title=html.escape(title),
            style=_asset("page.css"),
            data=embedded(_data(content)),
            library=_asset(LIBRARY).partition("\n//# sourceMappingURL=")[0],
            script=_asset("page.js"),
        )
    )


def embedded(value: Any) -> str:
    """Write a value as JSON that no browser mistakes for the end of its element."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")


def _asset(name: str) -> str:
    return (FOLDER / name).read_text("utf-8")


def _data(content: Content) -> dict[str, Any]:
    report = content.report
    columns = numbers.measures(report)
    keys = [column.key for column in columns]
    if content.budgets and "budget" not in keys:
        columns += numbers.budget_measures()
        keys += ["budget", "used"]
    time = numbers.unit_of_time((row.time_unix_nano for row in content.rows), content.zone)
    first = report.columns[0] if report.columns[0] in WHO else WHO[1]
    by = dict.fromkeys((first, "model"))
    money = in_money(report)
    own = "price" if report.total.money.price is not None else "cost"
    sorted_by = next(keys.index(name) for name in (own, "input") if name in keys)
    generated = dt.datetime.now(content.zone).isoformat(" ", "minutes")
    return {
        "about": f"{report.period or 'All time'}, time zone {content.zone}. Made {generated}.",
        "cards": list(_cards(content)),
        "levels": list(report.columns),
        "columns": [{"key": column.key, "label": column.label} for column in columns],
        "sorted": sorted_by,
        "tree": numbers.tree(report, columns, content.budgets),
        "specials": numbers.specials(report, columns),
        "total": [column.read(report.total) for column in columns],
        "measures": [
            *([{"key": "money", "label": f"{own} {report.currency}"}] if money else []),
            {"key": "tokens", "label": "tokens"},
            {"key": "calls", "label": "calls"},
        ],
        "charts": [
            numbers.chart(content.rows, column_of(name, content.zone), time, content.price, _namer(content, name))
            for name in by
        ],
        "notes": list(content.notes),
    }


def _namer(content: Content, column: str) -> Callable[[str], str]:
    return lambda cell: content.name_of(column, cell)


def _cards(content: Content) -> Any:
    report = content.report
    total, money = report.total, report.total.money
    kinds = {kind: sum(row.calls for row in report.rows if row.kind == kind) for kind in numbers.LABELS}
    names = {row.cells[0] for row in report.rows if row.calls and row.cells[0] is not None}
    if in_money(report):
        before = report.before.money.cost if report.before is not None else None
        more = f"{numbers.amount(before)[1]} {within(report.before_period or '')}" if before is not None else ""  # type: ignore[index]
        yield {"key": "cost", "label": f"Cost, {report.currency}", "value": numbers.amount(money.cost), "more": more}
        if money.price is not None:
            yield {"key": "price", "label": f"Price, {report.currency}", "value": numbers.amount(money.price)}
    yield {"key": "calls", "label": "Calls", "value": numbers.integer(total.calls)}
    cached = f"{total.tokens.cached:,} of them cached"
    yield {"key": "input", "label": "Input tokens", "value": numbers.integer(total.tokens.input), "more": cached}
    reasoning = f"{total.tokens.reasoning:,} of them reasoning"
    yield {"key": "output", "label": "Output tokens", "value": numbers.integer(total.tokens.output), "more": reasoning}
    yield {"key": "groups", "label": f"{report.columns[0].capitalize()}s", "value": len(names) + report.hidden_names}
    for kind, words in (("unattributed", "of nobody"), ("unknown", "of unknown usage, in no total")):
        if kinds[kind]:
            yield {"key": kind, "label": "Calls", "value": kinds[kind], "more": words, "warn": True}
    if in_money(report):
        partly = sum(report.partly.values())
        for key, count, words in (
            ("unpriced", money.unpriced - partly, "unpriced, in no amount"),
            ("partly", partly, "priced in part"),
        ):
            if count:
                yield {"key": key, "label": "Calls", "value": count, "more": words, "warn": True}
