"""A report for programs and documents: CSV, JSON, Markdown and Parquet."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any, Final, TextIO

from openai_metering.cli.failure import Failure
from openai_metering.pricing.amounts import decimal_text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from openai_metering.cli.grouping import Money, Report, Row, Sum, Tokens

TOKEN_COLUMNS: Final = ("input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens")
MONEY_COLUMNS: Final = ("cost", "price", "currency", "unpriced")
_DECIMALS: Final = ("cost", "price", "before_cost", "before_price", "budget")
_PARQUET_DECIMAL: Final = "DECIMAL(38, 18)"


def write_csv(report: Report, stream: TextIO) -> None:
    """Write one line for each row, with the kind first and no totals: the sum of a column is the total."""
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(("kind", *report.columns, *_names(report)))
    for row in report.rows:
        writer.writerow((row.kind, *row.cells, *_values(report, row).values()))


def write_json(report: Report, stream: TextIO) -> None:
    """Write the whole report as one JSON object; what is not known is null."""
    rows = [
        {
            "kind": row.kind,
            **dict(zip(report.columns, row.cells, strict=True)),
            **_values(report, row),
            **({"reasons": row.reasons} if row.reasons else {}),
        }
        for row in report.rows
    ]
    optional: Mapping[str, Any] = {
        "unpriced": report.unpriced,
        "period": report.period,
        "before_period": report.before_period,
        "untimed": report.untimed,
        "groups_in_others": report.hidden,
    }
    document = {
        "columns": [*report.columns, *_names(report)],
        "rows": rows,
        "total": _total(report),
        "records": report.records,
        "duplicates": report.duplicates,
        "bad_lines": report.bad_lines,
        **{name: content for name, content in optional.items() if content},
    }
    json.dump(document, stream, ensure_ascii=False, indent=2)
    stream.write("\n")


def write_markdown(report: Report, stream: TextIO) -> None:
    """Write a table for a document, with the total as its last row."""
    names = _names(report)
    titles = ("kind", *report.columns, *names)
    stream.write(f"| {' | '.join(map(_cell, titles))} |\n")
    stream.write(f"|{'|'.join([' --- '] * (1 + len(report.columns)) + [' ---: '] * len(names))}|\n")
    for row in report.rows:
        cells = (row.kind, *row.cells, *(_number(value) for value in _values(report, row).values()))
        stream.write(f"| {' | '.join(map(_cell, cells))} |\n")
    total = _total(report)
    cells = ("**total**", *[None] * len(report.columns), *(_number(total.get(name)) for name in names))
    stream.write(f"| {' | '.join(map(_cell, cells))} |\n")


def write_parquet(report: Report, file: Path) -> None:
    """Write the rows as a Parquet file: whole numbers as such, amounts as decimals with 18 places.

    Raises:
        Failure: it cannot be written.
    """
    try:
        import duckdb  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        raise Failure("Parquet needs duckdb: pip install 'openai-metering[tables]'.") from error
    names = _names(report)
    text = ("kind", *report.columns)
    types = [*(f"{_quoted(name)} VARCHAR" for name in text), *(f"{_quoted(name)} {_type(name)}" for name in names)]
    rows = [(row.kind, *row.cells, *_values(report, row).values()) for row in report.rows]
    try:
        with duckdb.connect() as connection:
            connection.execute(f"CREATE TABLE report ({', '.join(types)})")
            places = ", ".join("?" * len(types))
            connection.executemany(f"INSERT INTO report VALUES ({places})", rows)  # noqa: S608 - question marks
            connection.table("report").write_parquet(str(file))
    except duckdb.Error as error:
        raise Failure(f"the Parquet file cannot be written: {str(error).splitlines()[0]}") from error


def _type(name: str) -> str:
    if name in _DECIMALS:
        return _PARQUET_DECIMAL
    return "VARCHAR" if name == "currency" else "BIGINT"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _cell(value: Any) -> str:
    text = "" if value is None else str(value)
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def _number(value: Any) -> Any:
    return f"{value:,}" if isinstance(value, int) else value


def _names(report: Report) -> tuple[str, ...]:
    """The columns behind those of the grouping."""
    money = () if report.currency is None else MONEY_COLUMNS
    before = () if report.before is None else tuple(f"before_{name}" for name in _numbers(report))
    return ("calls", *TOKEN_COLUMNS, *money, *before, *(("budget",) if _has_budget(report) else ()))


def _numbers(report: Report) -> tuple[str, ...]:
    """What is set beside the period before."""
    return ("calls", "input_tokens", "output_tokens", *(() if report.currency is None else ("cost", "price")))


def _has_budget(report: Report) -> bool:
    return any(row.budget is not None for row in report.rows)


def _values(report: Report, row: Row) -> dict[str, Any]:
    values = _counted(report, row)
    if report.before is not None:
        values |= _before(report, row.before)
    if _has_budget(report):
        values["budget"] = None if row.budget is None else decimal_text(row.budget)
    return values


def _total(report: Report) -> dict[str, Any]:
    return _counted(report, report.total) | (_before(report, report.before) if report.before is not None else {})


def _counted(report: Report, row: Row | Sum) -> dict[str, Any]:
    return {"calls": row.calls, **_counts(row.tokens), **_money(report, row.money)}


def _before(report: Report, before: Sum | None) -> dict[str, Any]:
    values = {} if before is None else _counted(report, before)
    return {f"before_{name}": values.get(name) for name in _numbers(report)}


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
