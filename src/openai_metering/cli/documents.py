"""A report for programs: CSV and JSON."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Final, TextIO

if TYPE_CHECKING:
    from openai_metering.cli.grouping import Report, Sum, Tokens

TOKEN_COLUMNS: Final = ("input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens")


def write_csv(report: Report, stream: TextIO) -> None:
    """Write one line for each row, with the kind first and no totals: the sum of a column is the total."""
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(("kind", *report.columns, "calls", *TOKEN_COLUMNS))
    for row in report.rows:
        writer.writerow((row.kind, *row.cells, row.calls, *_counts(row.tokens).values()))


def write_json(report: Report, stream: TextIO) -> None:
    """Write the whole report as one JSON object; what is not known is null."""
    rows = [
        {
            "kind": row.kind,
            **dict(zip(report.columns, row.cells, strict=True)),
            "calls": row.calls,
            **_counts(row.tokens),
            **({"reasons": row.reasons} if row.reasons else {}),
        }
        for row in report.rows
    ]
    document = {
        "columns": [*report.columns, "calls", *TOKEN_COLUMNS],
        "rows": rows,
        "total": _total(report.total),
        "records": report.records,
        "duplicates": report.duplicates,
        "bad_lines": report.bad_lines,
    }
    json.dump(document, stream, ensure_ascii=False, indent=2)
    stream.write("\n")


def _total(total: Sum) -> dict[str, int | None]:
    return {"calls": total.calls, **_counts(total.tokens)}


def _counts(tokens: Tokens | None) -> dict[str, int | None]:
    if tokens is None:
        return dict.fromkeys(TOKEN_COLUMNS)
    return dict(zip(TOKEN_COLUMNS, (tokens.input, tokens.cached, tokens.output, tokens.reasoning), strict=True))
