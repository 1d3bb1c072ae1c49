"""A report for programs: CSV and JSON."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any, Final, TextIO

from openai_metering.pricing.amounts import decimal_text

if TYPE_CHECKING:
    from openai_metering.cli.grouping import Money, Report, Sum, Tokens

TOKEN_COLUMNS: Final = ("input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens")
MONEY_COLUMNS: Final = ("cost", "price", "currency", "unpriced")


def write_csv(report: Report, stream: TextIO) -> None:
    """Write one line for each row, with the kind first and no totals: the sum of a column is the total."""
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(("kind", *report.columns, "calls", *TOKEN_COLUMNS, *_money_columns(report)))
    for row in report.rows:
        writer.writerow(
            (row.kind, *row.cells, row.calls, *_counts(row.tokens).values(), *_money(report, row.money).values())
        )


def write_json(report: Report, stream: TextIO) -> None:
    """Write the whole report as one JSON object; what is not known is null."""
    rows = [
        {
            "kind": row.kind,
            **dict(zip(report.columns, row.cells, strict=True)),
            "calls": row.calls,
            **_counts(row.tokens),
            **_money(report, row.money),
            **({"reasons": row.reasons} if row.reasons else {}),
        }
        for row in report.rows
    ]
    document = {
        "columns": [*report.columns, "calls", *TOKEN_COLUMNS, *_money_columns(report)],
        "rows": rows,
        "total": _total(report, report.total),
        "records": report.records,
        "duplicates": report.duplicates,
        "bad_lines": report.bad_lines,
        **({"unpriced": report.unpriced} if report.unpriced else {}),
    }
    json.dump(document, stream, ensure_ascii=False, indent=2)
    stream.write("\n")


def _total(report: Report, total: Sum) -> dict[str, Any]:
    return {"calls": total.calls, **_counts(total.tokens), **_money(report, total.money)}


def _money_columns(report: Report) -> tuple[str, ...]:
    return () if report.currency is None else MONEY_COLUMNS


def _money(report: Report, money: Money) -> dict[str, Any]:
    """Amounts as decimal text, exact; nothing where no cost was asked for."""
    if report.currency is None:
        return {}
    amounts = (None if value is None else decimal_text(value) for value in (money.cost, money.price))
    return dict(zip(MONEY_COLUMNS, (*amounts, report.currency, money.unpriced), strict=True))


def _counts(tokens: Tokens | None) -> dict[str, int | None]:
    if tokens is None:
        return dict.fromkeys(TOKEN_COLUMNS)
    return dict(zip(TOKEN_COLUMNS, (tokens.input, tokens.cached, tokens.output, tokens.reasoning), strict=True))
